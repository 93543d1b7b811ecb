#pragma once
// The environment: time, chance, disk and network, as small interfaces.
//
// Nothing in the library reads a clock, draws a number, touches a log file or opens a peer connection
// but through these. Production takes the real ones, the simulator its own. A virtual call costs about
// 1 ns. All functions may be called from any thread. Since 0.1.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/pending.hpp"

namespace orchestra {

/// One instant on both clocks: delays and back-off by `steady_ns`, leases and cron by `wall_ns`.
struct Now {
  std::int64_t wall_ns = 0;    ///< since 1970-01-01 UTC
  std::int64_t steady_ns = 0;  ///< CLOCK_BOOTTIME: goes on during suspend, never steps
};

class ORC_API Clock {
 public:
  virtual ~Clock() = default;
  virtual Now now() = 0;
};

class ORC_API Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;
  /// Fills with bytes fit for keys and tokens (the real one asks the kernel).
  virtual void fill(void* bytes, std::size_t size) = 0;
  /// Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound);
  /// A random (version 4) UUID in lower case.
  std::string uuid();
};

/// A file of the store's log: positioned writes, explicit sync.
class ORC_API DiskFile {
 public:
  virtual ~DiskFile() = default;
  virtual Result<std::size_t> read_at(std::uint64_t offset, void* bytes, std::size_t size) = 0;
  /// Writes all bytes or fails; a failed write may have been partly done.
  virtual Result<void> write_at(std::uint64_t offset, std::string_view bytes) = 0;
  virtual Result<void> sync() = 0;
  virtual Result<std::uint64_t> size() = 0;
  virtual Result<void> truncate(std::uint64_t size) = 0;
  /// Reserves blocks so that writes below `size` do not meet a full disk.
  virtual Result<void> allocate(std::uint64_t size) = 0;
};

class ORC_API Disk {
 public:
  virtual ~Disk() = default;
  enum class Open : std::uint8_t { existing, create_new, create_or_open };
  virtual Result<std::unique_ptr<DiskFile>> open(const std::string& path, Open how) = 0;
  virtual Result<void> make_directories(const std::string& path, unsigned mode) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;  ///< names, sorted
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> remove(const std::string& path) = 0;
  virtual Result<void> sync_directory(const std::string& path) = 0;
  virtual Result<std::uint64_t> free_bytes(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  /// Exclusive lock; held until the returned object goes. `busy` names the holder's pid.
  virtual Result<std::shared_ptr<void>> lock(const std::string& path) = 0;
  // Built on the above:
  Result<std::string> read_file(const std::string& path, std::uint64_t bytes_max);
  /// Temporary file, sync, rename, directory sync: readers see the old or the new content.
  Result<void> write_file_atomic(const std::string& path, std::string_view bytes, unsigned mode);
};

/// A framed connection between peers (Raft): whole messages in order, or closed.
class ORC_API TransportConnection {
 public:
  virtual ~TransportConnection() = default;
  /// Queues one message; `overloaded` when `bytes_in_flight_max` of the transport is passed.
  virtual Result<void> send(std::string message) = 0;
  virtual void close() = 0;
};
struct TransportHandler {
  std::function<void(std::string)> on_message;
  std::function<void(const Error&)> on_closed;
};
class ORC_API TransportListener {
 public:
  virtual ~TransportListener() = default;
  virtual std::string address() const = 0;  ///< host:port, with the real port
};
class ORC_API Transport {
 public:
  virtual ~Transport() = default;
  using Accept = std::function<TransportHandler(std::shared_ptr<TransportConnection>)>;
  virtual Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) = 0;
  virtual Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                               TransportHandler handler) = 0;
};

/// The real ones; they live as long as the process.
ORC_API Clock& real_clock();
ORC_API Random& real_random();
ORC_API Disk& real_disk();

}  // namespace orchestra
