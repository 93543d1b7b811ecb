#pragma once
// The part of the D-Bus protocol that talking to systemd needs. Source: D-Bus specification 0.41, "Message
// Protocol" and "Authentication Protocol" (EXTERNAL). Messages are little-endian when we write them; answers
// in either order are read. Pure but for `DbusConnection`.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/result.hpp"

namespace orchestra::runtime {

inline constexpr std::size_t kDbusMessageBytesMax =
    1 << 20;  ///< of the protocol's 128 MiB; systemd needs 1 KiB

/// Values, one after the other, each at its alignment.
class DbusWriter {
 public:
  void byte(std::uint8_t value) { bytes_ += static_cast<char>(value); }
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  void boolean(bool value) { u32(value ? 1 : 0); }
  void text(std::string_view value);       ///< types s and o
  void signature(std::string_view value);  ///< type g, also in front of a variant's value
  void align(std::size_t to);
  /// An array whose elements are aligned to `element`; write them, then call end_array with what this
  /// returned.
  std::size_t begin_array(std::size_t element);
  void end_array(std::size_t mark);
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  std::vector<std::size_t> starts_;  ///< where the elements of open arrays begin
};

/// The other way round. After an error each further call fails.
class DbusReader {
 public:
  DbusReader(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  std::uint8_t byte();
  std::uint32_t u32();
  std::string text();
  std::string signature();
  void align(std::size_t to);
  /// Skips one value of this complete type.
  void skip(std::string_view type);
  bool failed() const { return failed_; }
  bool at_end() const { return failed_ || at_ >= bytes_.size(); }
  std::size_t at() const { return at_; }

 private:
  std::string_view take(std::size_t count);
  void skip_one(std::string_view type, std::size_t& position, int depth);
  std::string_view bytes_;
  std::size_t at_ = 0;
  bool big_endian_ = false, failed_ = false;
};

struct DbusMessage {
  enum class Kind : std::uint8_t { call = 1, answer = 2, error = 3, signal = 4 };
  Kind kind = Kind::call;
  std::uint32_t serial = 0, answer_to = 0;
  std::string path, interface, member, error_name, destination, signature, body;
  bool big_endian = false;

  DbusReader reader() const { return {body, big_endian}; }
};

/// Detail of the error of a call that the peer refused.
struct DbusRefusal {
  std::string name;  ///< "org.freedesktop.systemd1.UnitExists"
};

/// `serial` must not be 0.
std::string encode_dbus(const DbusMessage& message);
/// Takes one message off the front of `buffer`; nothing when it is not there whole. An error: the peer does
/// not speak the protocol, nothing more can be read from it.
Result<std::optional<DbusMessage>> take_dbus(std::string& buffer);

/// A connection to one peer or to a bus. For one thread.
class DbusConnection {
 public:
  /// Connects to a socket of the file system and says who we are. `bus`: the peer hands messages on to
  /// others, so say hello first. `unavailable` when nobody listens there.
  static Result<DbusConnection> open(const std::string& socket, bool bus, Duration deadline);
  /// Sends the call and waits for its answer; signals that come meanwhile are kept. The peer's refusal is an
  /// error with a `DbusRefusal`.
  Result<DbusMessage> call(DbusMessage message);
  /// The next signal that is kept or comes before the deadline of this connection.
  Result<DbusMessage> next_signal();
  bool bus() const { return bus_; }

 private:
  Result<void> log_in();
  Result<void> send(std::string_view bytes);
  Result<void> receive();
  Result<DbusMessage> next();

  Fd socket_;
  std::string peer_, received_;
  std::vector<DbusMessage> signals_;
  std::uint32_t serial_ = 0;
  std::int64_t until_ns_ = 0;
  bool bus_ = false;
};

}  // namespace orchestra::runtime
