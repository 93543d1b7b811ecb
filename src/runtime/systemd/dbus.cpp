#include "runtime/systemd/dbus.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "orchestra/env.hpp"

namespace orchestra::runtime {
namespace {
constexpr const char* kDbusDomain = "dbus";
constexpr int kDepthMax = 32;  ///< of containers in containers, as the specification bounds them
constexpr std::size_t kSignalsKeptMax = 1024;

std::size_t alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
    case 'v':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'x':
    case 't':
    case 'd':
    case '(':
    case '{':
      return 8;
    default:
      return 4;
  }
}
enum Field : std::uint8_t {
  kPath = 1,
  kInterface,
  kMember,
  kErrorName,
  kAnswerTo,
  kDestination,
  kSender,
  kSignature
};
}  // namespace

void DbusWriter::align(std::size_t to) {
  while (bytes_.size() % to != 0) bytes_ += '\0';
}
void DbusWriter::u32(std::uint32_t value) {
  align(4);
  for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(value >> shift & 0xff);
}
void DbusWriter::u64(std::uint64_t value) {
  align(8);
  for (int shift = 0; shift < 64; shift += 8) bytes_ += static_cast<char>(value >> shift & 0xff);
}
void DbusWriter::text(std::string_view value) {
  u32(static_cast<std::uint32_t>(value.size()));
  bytes_ += value;
  bytes_ += '\0';
}
void DbusWriter::signature(std::string_view value) {
  byte(static_cast<std::uint8_t>(value.size()));
  bytes_ += value;
  bytes_ += '\0';
}
std::size_t DbusWriter::begin_array(std::size_t element) {
  u32(0);
  const std::size_t mark = bytes_.size() - 4;
  align(element);
  starts_.push_back(bytes_.size());
  return mark;
}
void DbusWriter::end_array(std::size_t mark) {
  const auto length = static_cast<std::uint32_t>(bytes_.size() - starts_.back());
  starts_.pop_back();
  for (int i = 0; i < 4; ++i)
    bytes_[mark + static_cast<std::size_t>(i)] = static_cast<char>(length >> 8 * i & 0xff);
}

std::string_view DbusReader::take(std::size_t count) {
  if (failed_ || count > bytes_.size() - at_) {
    failed_ = true;
    return {};
  }
  at_ += count;
  return bytes_.substr(at_ - count, count);
}
void DbusReader::align(std::size_t to) {
  if (const std::size_t over = at_ % to; over != 0) take(to - over);
}
std::uint8_t DbusReader::byte() {
  const auto one = take(1);
  return one.empty() ? 0 : static_cast<std::uint8_t>(one[0]);
}
std::uint32_t DbusReader::u32() {
  align(4);
  const auto four = take(4);
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < four.size(); ++i) {
    const std::size_t shift = 8 * (big_endian_ ? 3 - i : i);
    value |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(four[i])) << shift;
  }
  return value;
}
std::string DbusReader::text() {
  const std::uint32_t length = u32();
  std::string value(take(length));
  if (byte() != 0) failed_ = true;
  return value;
}
std::string DbusReader::signature() {
  const std::uint8_t length = byte();
  std::string value(take(length));
  if (byte() != 0) failed_ = true;
  return value;
}
void DbusReader::skip(std::string_view type) {
  std::size_t position = 0;
  skip_one(type, position, 0);
}
void DbusReader::skip_one(std::string_view type, std::size_t& position, int depth) {
  if (failed_ || position >= type.size() || depth > kDepthMax) {
    failed_ = true;
    return;
  }
  const char kind = type[position++];
  align(alignment_of(kind));
  switch (kind) {
    case 'y':
      take(1);
      return;
    case 'n':
    case 'q':
      take(2);
      return;
    case 'b':
    case 'i':
    case 'u':
    case 'h':
      take(4);
      return;
    case 'x':
    case 't':
    case 'd':
      take(8);
      return;
    case 's':
    case 'o':
      (void)text();
      return;
    case 'g':
      (void)signature();
      return;
    case 'v': {
      const std::string inner = signature();
      std::size_t inner_position = 0;
      skip_one(inner, inner_position, depth + 1);
      return;
    }
    case 'a': {
      const std::uint32_t length = u32();
      if (position >= type.size()) break;
      align(alignment_of(type[position]));
      take(length);
      for (int open = 0; position < type.size();) {  // the elements' type is still to be stepped over
        const char c = type[position++];
        open += c == '(' || c == '{' ? 1 : c == ')' || c == '}' ? -1 : 0;
        if (open == 0 && c != 'a') return;
      }
      break;
    }
    case '(':
    case '{': {
      const char end = kind == '(' ? ')' : '}';
      while (!failed_ && position < type.size() && type[position] != end) skip_one(type, position, depth + 1);
      if (position < type.size()) {
        ++position;
        return;
      }
      break;
    }
    default:
      break;
  }
  failed_ = true;
}

std::string encode_dbus(const DbusMessage& message) {
  DbusWriter out;
  out.byte('l');
  out.byte(static_cast<std::uint8_t>(message.kind));
  out.byte(0);  // flags
  out.byte(1);  // version
  out.u32(static_cast<std::uint32_t>(message.body.size()));
  out.u32(message.serial);
  const std::size_t fields = out.begin_array(8);
  const auto field = [&](Field code, const char* type, const std::string& value) {
    if (value.empty()) return;
    out.align(8);
    out.byte(code);
    out.signature(type);
    if (*type == 'g') {
      out.signature(value);
    } else {
      out.text(value);
    }
  };
  field(kPath, "o", message.path);
  field(kInterface, "s", message.interface);
  field(kMember, "s", message.member);
  field(kErrorName, "s", message.error_name);
  if (message.answer_to != 0) {
    out.align(8);
    out.byte(kAnswerTo);
    out.signature("u");
    out.u32(message.answer_to);
  }
  field(kDestination, "s", message.destination);
  field(kSignature, "g", message.signature);
  out.end_array(fields);
  out.align(8);
  return out.bytes() + message.body;
}

Result<std::optional<DbusMessage>> take_dbus(std::string& buffer) {
  constexpr std::size_t kFixed = 16;
  if (buffer.size() < kFixed) return std::optional<DbusMessage>();
  const auto bad = [](const std::string& why) {
    return Error(Error::corrupt, kDbusDomain, "the peer does not speak D-Bus: " + why);
  };
  if (buffer[0] != 'l' && buffer[0] != 'B')
    return bad("unknown byte order " + std::to_string(static_cast<std::uint8_t>(buffer[0])));
  DbusMessage message;
  message.big_endian = buffer[0] == 'B';
  if (buffer[3] != 1) return bad("protocol version " + std::to_string(static_cast<std::uint8_t>(buffer[3])));
  message.kind = static_cast<DbusMessage::Kind>(buffer[1]);
  DbusReader sizes(std::string_view(buffer).substr(4), message.big_endian);
  const std::size_t body = sizes.u32();
  message.serial = sizes.u32();
  const std::size_t fields = sizes.u32();
  const std::size_t header = (kFixed + fields + 7) / 8 * 8;
  if (fields > kDbusMessageBytesMax || body > kDbusMessageBytesMax)
    return bad("a message of " + std::to_string(header + body) + " bytes, at most " +
               std::to_string(kDbusMessageBytesMax) + " are taken");
  if (buffer.size() < header + body) return std::optional<DbusMessage>();
  DbusReader entry(std::string_view(buffer).substr(0, kFixed + fields), message.big_endian);
  for (int i = 0; i < 4; ++i) (void)entry.u32();
  while (!entry.failed() && entry.at() < kFixed + fields) {
    entry.align(8);
    const std::uint8_t code = entry.byte();
    const std::string type = entry.signature();
    const auto text_into = [&](std::string& out) {
      type == "s" || type == "o" ? void(out = entry.text()) : entry.skip(type);
    };
    switch (code) {
      case kPath:
        text_into(message.path);
        break;
      case kInterface:
        text_into(message.interface);
        break;
      case kMember:
        text_into(message.member);
        break;
      case kErrorName:
        text_into(message.error_name);
        break;
      case kDestination:
        text_into(message.destination);
        break;
      case kAnswerTo:
        type == "u" ? void(message.answer_to = entry.u32()) : entry.skip(type);
        break;
      case kSignature:
        type == "g" ? void(message.signature = entry.signature()) : entry.skip(type);
        break;
      default:
        entry.skip(type);
    }
  }
  if (entry.failed()) return bad("the header of message " + std::to_string(message.serial) + " is damaged");
  message.body = buffer.substr(header, body);
  buffer.erase(0, header + body);
  return std::optional<DbusMessage>(std::move(message));
}

Result<DbusConnection> DbusConnection::open(const std::string& path, bool bus, Duration deadline) {
  DbusConnection made;
  made.peer_ = path;
  made.bus_ = bus;
  made.until_ns_ = real_clock().now().steady_ns + std::chrono::nanoseconds(deadline).count();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Error::invalid, kDbusDomain, path + ": the path of a socket has at most 107 bytes");
  path.copy(address.sun_path, path.size());
  made.socket_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.socket_) return system_error(kDbusDomain, "socket", path, errno);
  if (connect(made.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error(Error::unavailable, kDbusDomain, "connect " + path + ": " + std::strerror(errno));
  ORC_TRY(made.log_in());
  if (bus) {
    DbusMessage hello;
    hello.destination = hello.interface = "org.freedesktop.DBus";
    hello.path = "/org/freedesktop/DBus";
    hello.member = "Hello";
    ORC_TRY(made.call(std::move(hello)));
  }
  return made;
}

Result<void> DbusConnection::log_in() {
  std::string hex;
  for (const char c : std::to_string(geteuid())) {
    constexpr const char* digits = "0123456789abcdef";
    hex += digits[c >> 4];
    hex += digits[c & 15];
  }
  // BEGIN goes along, as sd-bus does it: a first message that reaches systemd together with BEGIN is read
  // with it and then lies there until more comes.
  ORC_TRY(send(std::string(1, '\0') + "AUTH EXTERNAL " + hex + "\r\nBEGIN\r\n"));
  std::size_t end = std::string::npos;
  while ((end = received_.find("\r\n")) == std::string::npos) {
    if (received_.size() > 4096)
      return Error(Error::corrupt, kDbusDomain, peer_ + ": the peer does not speak D-Bus: no line in 4 KiB");
    ORC_TRY(receive());
  }
  const std::string answer = received_.substr(0, end);
  received_.erase(0, end + 2);
  if (!answer.starts_with("OK "))
    return Error(Error::denied, kDbusDomain,
                 peer_ + " does not let uid " + std::to_string(geteuid()) + " in: " + answer);
  return {};
}

Result<void> DbusConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      pollfd wait{socket_.get(), POLLOUT, 0};
      const std::int64_t left = until_ns_ - real_clock().now().steady_ns;
      if (left <= 0 || poll(&wait, 1, static_cast<int>(left / 1'000'000) + 1) == 0)
        return Error(Error::deadline_exceeded, kDbusDomain, peer_ + " takes nothing");
    } else if (errno != EINTR) {
      return system_error(kDbusDomain, "send", peer_, errno);
    }
  }
  return {};
}

Result<void> DbusConnection::receive() {
  char block[4096];
  while (true) {
    const ssize_t got = recv(socket_.get(), block, sizeof block, 0);
    if (got > 0) {
      received_.append(block, static_cast<std::size_t>(got));
      return {};
    }
    if (got == 0) return Error(Error::unavailable, kDbusDomain, peer_ + " closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return system_error(kDbusDomain, "recv", peer_, errno);
    pollfd wait{socket_.get(), POLLIN, 0};
    const std::int64_t left = until_ns_ - real_clock().now().steady_ns;
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left / 1'000'000) + 1) == 0)
      return Error(Error::deadline_exceeded, kDbusDomain, peer_ + " does not answer");
  }
}

Result<DbusMessage> DbusConnection::next() {
  while (true) {
    ORC_ASSIGN(auto message, take_dbus(received_));
    if (message) return std::move(*message);
    ORC_TRY(receive());
  }
}

Result<DbusMessage> DbusConnection::call(DbusMessage message) {
  const std::uint32_t serial = message.serial = ++serial_;
  const std::string what = message.member;
  ORC_TRY(send(encode_dbus(message)));
  while (true) {
    ORC_ASSIGN(DbusMessage answer, next());
    if (answer.kind == DbusMessage::Kind::signal) {
      if (signals_.size() < kSignalsKeptMax) signals_.push_back(std::move(answer));
      continue;
    }
    if (answer.answer_to != serial) continue;
    if (answer.kind == DbusMessage::Kind::answer) return answer;
    DbusReader reader = answer.reader();
    const std::string text = answer.signature.starts_with("s") ? reader.text() : std::string();
    return Error(Error::denied, kDbusDomain, what + ": " + (text.empty() ? answer.error_name : text))
        .with_detail(DbusRefusal{answer.error_name});
  }
}

Result<DbusMessage> DbusConnection::next_signal() {
  if (!signals_.empty()) {
    DbusMessage first = std::move(signals_.front());
    signals_.erase(signals_.begin());
    return first;
  }
  while (true) {
    ORC_ASSIGN(DbusMessage message, next());
    if (message.kind == DbusMessage::Kind::signal) return message;
  }
}

}  // namespace orchestra::runtime
