#pragma once
// Streams of pods: bytes in one or both directions, and a process in a container. What PodClient gives.
//
// Streams are pulled: one read is outstanding at a time, so a client that stops reading blocks only
// its own process. Any thread; calls on one stream do not overlap except write beside read. Since 0.1.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/pending.hpp"

namespace orchestra {

/// One direction: read until an empty string (end) or an error.
class ORC_API ByteStream {
 public:
  virtual ~ByteStream() = default;
  virtual Pending<std::string> read(std::size_t bytes_max) = 0;
  virtual void close() = 0;
};

/// Both directions, e.g. a forwarded connection.
class ORC_API DuplexStream : public ByteStream {
 public:
  virtual Pending<void> write(std::string bytes) = 0;
  virtual void close_write() = 0;
};

/// A process in a container: output chunks, then exactly one exit.
struct ProcessChunk {
  enum class Channel : std::uint8_t { standard_output, standard_error, exit };
  Channel channel = Channel::standard_output;
  std::string bytes;
  int exit_code = 0;             ///< channel exit
  std::optional<Error> failure;  ///< channel exit: why it could not run, or was lost
};
class ORC_API ProcessStream {
 public:
  virtual ~ProcessStream() = default;
  virtual Pending<ProcessChunk> read() = 0;
  virtual Pending<void> write_stdin(std::string bytes) = 0;
  virtual void close_stdin() = 0;
  virtual void resize(std::uint16_t columns, std::uint16_t rows) = 0;
  /// The client is gone: ends an exec, detaches an attach.
  virtual void close() = 0;
};

struct ExecOptions {
  std::vector<std::string> command = {};  ///< empty: attach to the main process
  bool in = false, out = true, err = true, tty = false;
};
struct LogOptions {
  bool follow = false, previous = false, timestamps = false;
  std::optional<std::int64_t> since_seconds = std::nullopt, tail_lines = std::nullopt,
                              limit_bytes = std::nullopt;
  std::string since_time = {};  ///< RFC 3339
};

}  // namespace orchestra
