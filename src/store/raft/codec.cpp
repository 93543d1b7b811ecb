// Configurations and messages as bytes (codec.hpp).
#include "store/raft/codec.hpp"

#include "store/mvcc/wire.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint8_t kConfigurationVersion = 1;
enum MemberFlag : std::uint8_t { kVoter = 1, kWasVoter = 2, kStarted = 4 };
enum MessageFlag : std::uint8_t { kReject = 1, kTransfer = 2, kHasConfiguration = 4, kPromise = 8 };

Error malformed(const char* what) { return Error(Error::corrupt, "store", std::string("malformed ") + what); }

}  // namespace

std::string encode_configuration(const Configuration& configuration) {
  std::string bytes;
  Writer out(bytes);
  out.u8(kConfigurationVersion);
  out.u8(configuration.joint ? 1 : 0);
  out.varint(configuration.members.size());
  for (const Member& member : configuration.members) {
    out.u64(member.id.value);
    out.u8(static_cast<std::uint8_t>((member.voter ? kVoter : 0) | (member.was_voter ? kWasVoter : 0) |
                                     (member.started ? kStarted : 0)));
    out.bytes(member.name);
    out.bytes(member.address);
  }
  return bytes;
}

Result<Configuration> decode_configuration(std::string_view bytes) {
  Reader in(bytes);
  Configuration configuration;
  const std::uint8_t version = in.u8();
  if (in.ok() && version != kConfigurationVersion) {
    return Error(Error::unsupported, "store",
                 "a configuration has version " + std::to_string(version) +
                     "; this release knows version 1: run a newer release");
  }
  const std::uint8_t joint = in.u8();
  if (joint > 1) return malformed("configuration");
  configuration.joint = joint == 1;
  const std::size_t count = in.count();
  if (count > kMembersMax) return malformed("configuration");
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    Member member;
    member.id = PeerId{in.u64()};
    const std::uint8_t flags = in.u8();
    member.voter = (flags & kVoter) != 0;
    member.was_voter = (flags & kWasVoter) != 0;
    member.started = (flags & kStarted) != 0;
    member.name = in.bytes();
    member.address = in.bytes();
    if (flags > 7 || member.name.size() > kMemberTextMax || member.address.size() > kMemberTextMax)
      return malformed("configuration");
    if (!configuration.members.empty() && configuration.members.back().id >= member.id)
      return malformed("configuration");
    configuration.members.push_back(std::move(member));
  }
  if (!in.done()) return malformed("configuration");
  return configuration;
}

std::string encode_message(const Message& message) {
  std::string bytes;
  std::size_t size = 96;
  for (const Entry& entry : message.entries) size += entry.bytes().size() + 16;
  bytes.reserve(size);
  Writer out(bytes);
  out.u8(static_cast<std::uint8_t>(message.type));
  out.u8(static_cast<std::uint8_t>((message.reject ? kReject : 0) | (message.transfer ? kTransfer : 0) |
                                   (message.configuration ? kHasConfiguration : 0) |
                                   (message.promise ? kPromise : 0)));
  out.u64(message.from.value);
  out.u64(message.to.value);
  out.varint(message.term.value);
  out.varint(message.log_term.value);
  out.varint(message.index.value);
  out.varint(message.commit.value);
  out.varint(message.hint_term.value);
  out.varint(message.context);
  if (message.configuration) out.bytes(encode_configuration(*message.configuration));
  out.varint(message.entries.size());
  for (const Entry& entry : message.entries) {
    out.u8(static_cast<std::uint8_t>(entry.type));
    out.varint(entry.term.value);
    out.bytes(entry.bytes());
  }
  return bytes;
}

Result<Message> decode_message(std::string_view bytes) {
  Reader in(bytes);
  Message message;
  const std::uint8_t type = in.u8();
  const std::uint8_t flags = in.u8();
  if (type < 1 || type > static_cast<std::uint8_t>(kLastMessageType) || flags > 15)
    return malformed("peer message");
  message.type = static_cast<MessageType>(type);
  message.reject = (flags & kReject) != 0;
  message.transfer = (flags & kTransfer) != 0;
  message.promise = (flags & kPromise) != 0;
  message.from = PeerId{in.u64()};
  message.to = PeerId{in.u64()};
  message.term = Term{in.varint()};
  message.log_term = Term{in.varint()};
  message.index = Index{in.varint()};
  message.commit = Index{in.varint()};
  message.hint_term = Term{in.varint()};
  message.context = in.varint();
  if ((flags & kHasConfiguration) != 0) {
    ORC_ASSIGN(message.configuration, decode_configuration(in.bytes()));
  }
  if (message.type == MessageType::snapshot && !message.configuration) return malformed("peer message");
  const std::size_t count = in.count();
  Index at = message.index;
  Term term = message.log_term;
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    Entry entry;
    const std::uint8_t kind = in.u8();
    if (kind > static_cast<std::uint8_t>(EntryType::configuration)) return malformed("peer message");
    entry.type = static_cast<EntryType>(kind);
    entry.term = Term{in.varint()};
    if (entry.term < term || entry.term > message.term) return malformed("peer message");
    term = entry.term;
    entry.index = Index{++at.value};
    const std::string_view data = in.bytes();
    if (entry.type == EntryType::configuration) ORC_TRY(decode_configuration(data));
    if (!data.empty()) entry.data = std::make_shared<const std::string>(data);
    message.entries.push_back(std::move(entry));
  }
  if (!in.done() || message.from.value == 0 || message.to.value == 0) return malformed("peer message");
  return message;
}

}  // namespace orchestra::store
