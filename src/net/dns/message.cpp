#include "net/dns/message.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace orchestra::dns {
namespace {

constexpr int kPointersMax = 32;
constexpr std::uint16_t kFlagResponse = 0x8000, kFlagAuthoritative = 0x0400, kFlagTruncated = 0x0200,
                        kFlagRecursionDesired = 0x0100, kFlagRecursionAvailable = 0x0080,
                        kFlagCheckingDisabled = 0x0010;
constexpr std::uint32_t kOptDnssecOk = 0x8000;
constexpr std::uint16_t kOptionCookie = 10, kOptionPadding = 12, kOptionExtendedError = 15;
constexpr std::size_t kOptionBytes = 4;  // an option without data

/// Reads big-endian numbers and names; every read checks what is left.
class Reader {
 public:
  explicit Reader(std::string_view packet) : packet_(packet) {}

  std::size_t at() const { return at_; }
  std::optional<std::uint16_t> u16() {
    if (packet_.size() - at_ < 2) return std::nullopt;
    const auto value = static_cast<std::uint16_t>(octet(packet_, at_) << 8 | octet(packet_, at_ + 1));
    at_ += 2;
    return value;
  }
  std::optional<std::uint32_t> u32() {
    const auto high = u16(), low = u16();
    if (!high || !low) return std::nullopt;
    return std::uint32_t{*high} << 16 | *low;
  }
  std::optional<std::string_view> bytes(std::size_t size) {
    if (packet_.size() - at_ < size) return std::nullopt;
    const std::string_view out = packet_.substr(at_, size);
    at_ += size;
    return out;
  }
  /// The name here, expanded, in the case it was sent in. `pointers`: compression is allowed.
  std::optional<std::string> name(bool pointers) {
    std::string out;
    std::size_t at = at_;
    std::size_t lowest = at_;  // pointers must go below where the name (or the last pointer) started
    int jumps = 0;
    while (true) {
      if (at >= packet_.size()) return std::nullopt;
      const std::uint8_t length = octet(packet_, at);
      if ((length & 0xc0) == 0xc0) {
        if (!pointers || at + 1 >= packet_.size() || ++jumps > kPointersMax) return std::nullopt;
        const std::size_t target = std::size_t{length & 0x3fu} << 8 | octet(packet_, at + 1);
        if (target >= lowest || target < kHeaderBytes) return std::nullopt;
        if (jumps == 1) at_ = at + 2;
        lowest = at = target;
        continue;
      }
      if (length > kLabelBytesMax || packet_.size() - at - 1 < length) return std::nullopt;
      out += packet_.substr(at, length + 1u);
      if (out.size() > kNameBytesMax) return std::nullopt;
      at += length + 1u;
      if (length == 0) break;
    }
    if (jumps == 0) at_ = at;
    return out;
  }
  void seek(std::size_t at) { at_ = at; }

 private:
  std::string_view packet_;
  std::size_t at_ = 0;
};

void put16(std::string& out, std::uint16_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value & 0xff);
}
void put32(std::string& out, std::uint32_t value) {
  put16(out, static_cast<std::uint16_t>(value >> 16));
  put16(out, static_cast<std::uint16_t>(value & 0xffff));
}

std::size_t name_size(std::string_view data, std::size_t from) {
  std::size_t at = from;
  while (at < data.size() && octet(data, at) != 0) at += octet(data, at) + 1u;
  return at + 1 - from;
}

/// Data of one record with the names in it expanded.
std::optional<std::string> read_data(Reader& reader, Type type, std::size_t size) {
  const std::size_t end = reader.at() + size;
  std::string out;
  std::size_t fixed = 0, names = 0, tail = 0;
  switch (type) {
    case Type::cname:
    case Type::ns:
    case Type::ptr:
    case Type::dname:
      names = 1;
      break;
    case Type::mx:
      fixed = 2, names = 1;
      break;
    case Type::srv:
      fixed = 6, names = 1;
      break;
    case Type::soa:
      names = 2, tail = 20;
      break;
    default:
      tail = size;
      break;
  }
  const auto head = reader.bytes(fixed);
  if (!head) return std::nullopt;
  out += *head;
  for (std::size_t i = 0; i < names; ++i) {
    const auto name = reader.name(true);
    if (!name) return std::nullopt;
    out += to_lower(*name);
  }
  const auto rest = reader.bytes(tail);
  if (!rest || reader.at() != end) return std::nullopt;
  out += *rest;
  return out;
}

struct RawRecord {
  Record record;
  std::optional<Edns> edns;
  std::optional<ExtendedError> extended_error;
  std::uint8_t extended_rcode = 0;
};

/// The options of an OPT record; false when they are cut, or a cookie has a length that none has.
bool read_options(Reader& reader, std::size_t size, RawRecord& out) {
  const std::size_t end = reader.at() + size;
  while (reader.at() < end) {
    const auto code = reader.u16(), length = reader.u16();
    if (!code || !length || reader.at() + *length > end) return false;
    const auto data = reader.bytes(*length);
    if (!data) return false;
    if (*code == kOptionCookie) {
      if (*length != 8 && (*length < 16 || *length > 40)) return false;
      if (out.edns->cookie.empty()) out.edns->cookie = *data;
    } else if (*code == kOptionPadding) {
      out.edns->padded = true;
    } else if (*code == kOptionExtendedError && *length >= 2) {
      out.extended_error = ExtendedError{static_cast<std::uint16_t>(octet(*data, 0) << 8 | octet(*data, 1)),
                                         std::string(data->substr(2))};
    }
  }
  return reader.at() == end;
}

std::optional<RawRecord> read_record(Reader& reader) {
  RawRecord out;
  const auto name = reader.name(true);
  const auto type = reader.u16(), klass = reader.u16();
  const auto ttl = reader.u32();
  const auto size = reader.u16();
  if (!name || !type || !klass || !ttl || !size) return std::nullopt;
  out.record = {to_lower(*name), static_cast<Type>(*type), *ttl, {}, *klass};
  if (out.record.type == Type::opt) {
    if (*name != std::string(1, '\0')) return std::nullopt;
    out.edns = Edns{std::max<std::uint16_t>(*klass, kUdpBytes), static_cast<std::uint8_t>(*ttl >> 16),
                    (*ttl & kOptDnssecOk) != 0};
    out.extended_rcode = static_cast<std::uint8_t>(*ttl >> 24);
    if (!read_options(reader, *size, out)) return std::nullopt;
    return out;
  }
  auto data = read_data(reader, out.record.type, *size);
  if (!data) return std::nullopt;
  out.record.data = std::move(*data);
  if (out.record.ttl > 0x7fffffff) out.record.ttl = 0;  // RFC 2181 section 8
  return out;
}

std::optional<Question> read_question(Reader& reader) {
  Question question;
  auto name = reader.name(false);
  const auto type = reader.u16(), klass = reader.u16();
  if (!name || !type || !klass) return std::nullopt;
  question.sent = std::move(*name);
  question.name = to_lower(question.sent);
  question.type = static_cast<Type>(*type);
  question.klass = *klass;
  return question;
}

/// Builds one message; remembers where names were written to point back at them.
class Writer {
 public:
  explicit Writer(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  std::string& out() { return out_; }

  void question(const Question& question) {
    remember(question.name, out_.size());
    out_ += question.sent;
    put16(out_, static_cast<std::uint16_t>(question.type));
    put16(out_, question.klass);
  }

  /// False, and nothing written, when the record does not fit.
  bool record(const Record& record) {
    const std::size_t size = out_.size();
    const std::size_t known = known_.size();
    name(record.name);
    put16(out_, static_cast<std::uint16_t>(record.type));
    put16(out_, record.klass);
    put32(out_, record.ttl);
    const std::size_t length_at = out_.size();
    put16(out_, 0);
    data(record);
    if (out_.size() > bytes_max_) {
      out_.resize(size);
      known_.resize(known);
      return false;
    }
    const std::size_t length = out_.size() - length_at - 2;
    out_[length_at] = static_cast<char>(length >> 8);
    out_[length_at + 1] = static_cast<char>(length & 0xff);
    return true;
  }

 private:
  struct Known {
    std::string name;
    std::uint16_t offset;
  };

  void remember(std::string_view name, std::size_t offset) {
    while (name.size() > 1 && offset < 0x4000) {
      known_.push_back({std::string(name), static_cast<std::uint16_t>(offset)});
      const std::size_t label = octet(name, 0) + 1u;
      name.remove_prefix(label);
      offset += label;
    }
  }
  void name(std::string_view name) {
    const std::string_view whole = name;
    const std::size_t start = out_.size();
    while (name.size() > 1) {
      const auto known =
          std::find_if(known_.begin(), known_.end(), [&](const Known& k) { return k.name == name; });
      if (known != known_.end()) {
        put16(out_, static_cast<std::uint16_t>(0xc000 | known->offset));
        return remember_prefix(whole, name.size(), start);
      }
      const std::size_t label = octet(name, 0) + 1u;
      out_ += name.substr(0, label);
      name.remove_prefix(label);
    }
    out_ += '\0';
    remember_prefix(whole, 1, start);
  }
  /// The suffixes of `whole` that are longer than `rest` were written at `offset` just now.
  void remember_prefix(std::string_view whole, std::size_t rest, std::size_t offset) {
    while (whole.size() > rest && offset < 0x4000) {
      known_.push_back({std::string(whole), static_cast<std::uint16_t>(offset)});
      const std::size_t label = octet(whole, 0) + 1u;
      whole.remove_prefix(label);
      offset += label;
    }
  }
  void data(const Record& record) {
    const std::string_view data = record.data;
    switch (record.type) {
      case Type::cname:
      case Type::ns:
      case Type::ptr:
        return name(data);
      case Type::soa: {
        const std::size_t primary = name_size(data, 0), mailbox = name_size(data, primary);
        name(data.substr(0, primary));
        name(data.substr(primary, mailbox));
        out_ += data.substr(primary + mailbox);
        return;
      }
      default:
        out_ += data;
    }
  }

  const std::size_t bytes_max_;
  std::string out_;
  std::vector<Known> known_;
};

void put_header(std::string& out, std::uint16_t id, std::uint16_t flags, std::size_t questions) {
  put16(out, id);
  put16(out, flags);
  put16(out, static_cast<std::uint16_t>(questions));
  out.append(6, '\0');
}

void set16(std::string& out, std::size_t at, std::size_t value) {
  out[at] = static_cast<char>(value >> 8);
  out[at + 1] = static_cast<char>(value & 0xff);
}

void put_opt(std::string& out, std::uint16_t udp_bytes, std::uint8_t extended_rcode, bool dnssec_ok,
             std::string_view options) {
  out += '\0';
  put16(out, static_cast<std::uint16_t>(Type::opt));
  put16(out, udp_bytes);
  put32(out, std::uint32_t{extended_rcode} << 24 | (dnssec_ok ? kOptDnssecOk : 0));
  put16(out, static_cast<std::uint16_t>(options.size()));
  out += options;
}
constexpr std::size_t kExtendedTextMax = 120;

std::string cookie_option(std::string_view cookie) {
  std::string out;
  if (cookie.empty()) return out;
  put16(out, kOptionCookie);
  put16(out, static_cast<std::uint16_t>(cookie.size()));
  return out += cookie;
}
/// Fills a message that has `bytes` without this option up to a multiple of `pad_to`, or to `bytes_max`.
std::string padding_option(std::size_t bytes, std::size_t pad_to, std::size_t bytes_max) {
  std::string out;
  if (pad_to == 0 || bytes + kOptionBytes > bytes_max) return out;
  const std::size_t padded = (bytes + kOptionBytes + pad_to - 1) / pad_to * pad_to;
  const std::size_t zeros = std::min(padded, bytes_max) - bytes - kOptionBytes;
  put16(out, kOptionPadding);
  put16(out, static_cast<std::uint16_t>(zeros));
  out.append(zeros, '\0');
  return out;
}
std::string options_of(const AnswerFlags& flags) {
  std::string out = cookie_option(flags.cookie);
  if (!flags.extended) return out;
  const std::string text = flags.extended->text.substr(0, kExtendedTextMax);
  put16(out, kOptionExtendedError);
  put16(out, static_cast<std::uint16_t>(2 + text.size()));
  put16(out, flags.extended->code);
  return out += text;
}

}  // namespace

std::string to_lower(std::string_view text) {
  // Length octets are below 64, letters begin at 65: lowering whole wire names is safe.
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::optional<Name> make_name(std::string_view text) {
  Name out;
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  while (!text.empty()) {
    const std::size_t dot = std::min(text.find('.'), text.size());
    if (dot == 0 || dot > kLabelBytesMax || dot + 1 == text.size()) return std::nullopt;
    out += static_cast<char>(dot);
    out += text.substr(0, dot);
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  out += '\0';
  if (out.size() > kNameBytesMax) return std::nullopt;
  return to_lower(out);
}

std::vector<std::string_view> labels_of(std::string_view name) {
  std::vector<std::string_view> labels;
  while (!name.empty() && octet(name, 0) != 0) {
    const std::size_t length = octet(name, 0);
    if (name.size() < length + 1) break;
    labels.push_back(name.substr(1, length));
    name.remove_prefix(length + 1);
  }
  return labels;
}

std::string to_text(std::string_view name) {
  std::string out;
  for (const std::string_view label : labels_of(name)) {
    if (!out.empty()) out += '.';
    for (const char c : label) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte > 0x20 && byte < 0x7f && std::string_view(".\\\"();@$").find(c) == std::string_view::npos) {
        out += c;
      } else {
        out += '\\';
        out += static_cast<char>('0' + byte / 100);
        out += static_cast<char>('0' + byte / 10 % 10);
        out += static_cast<char>('0' + byte % 10);
      }
    }
  }
  return out.empty() ? "." : out;
}

bool is_below_or_equal(std::string_view name, std::string_view zone) {
  while (name.size() > zone.size()) name.remove_prefix(octet(name, 0) + 1u);
  return name == zone;
}

std::optional<Query> read_query(std::string_view packet) {
  if (packet.size() < kHeaderBytes) return std::nullopt;
  Reader reader(packet);
  Query query;
  query.id = *reader.u16();
  const std::uint16_t flags = *reader.u16();
  if ((flags & kFlagResponse) != 0) return std::nullopt;
  query.opcode = static_cast<std::uint8_t>(flags >> 11 & 0xf);
  query.recursion_desired = (flags & kFlagRecursionDesired) != 0;
  query.checking_disabled = (flags & kFlagCheckingDisabled) != 0;
  const std::uint16_t questions = *reader.u16(), answers = *reader.u16(), authority = *reader.u16(),
                      additional = *reader.u16();
  if (query.opcode != 0) {
    query.refusal = Rcode::not_implemented;
    return query;
  }
  query.refusal = Rcode::form_error;
  if (questions != 1) return query;
  auto question = read_question(reader);
  if (!question) return query;
  query.question = std::move(*question);
  const std::size_t records = std::size_t{answers} + authority + additional;
  for (std::size_t i = 0; i < records; ++i) {
    const auto raw = read_record(reader);
    if (!raw) return query;
    if (!raw->edns) continue;
    if (query.edns || i < std::size_t{answers} + authority) return query;  // two OPT, or one in a wrong place
    query.edns = raw->edns;
  }
  query.refusal.reset();
  if (query.edns && query.edns->version != 0) {
    query.refusal = Rcode::bad_version;
  } else if (query.question->klass != kClassIn && query.question->klass != kClassAny) {
    query.refusal = Rcode::refused;
  } else if (query.question->type == Type::axfr || query.question->type == Type::ixfr) {
    query.refusal = Rcode::refused;
  }
  return query;
}

std::optional<Message> read_message(std::string_view packet) {
  if (packet.size() < kHeaderBytes) return std::nullopt;
  Reader reader(packet);
  Message message;
  message.id = *reader.u16();
  const std::uint16_t flags = *reader.u16();
  message.response = (flags & kFlagResponse) != 0;
  message.authoritative = (flags & kFlagAuthoritative) != 0;
  message.truncated = (flags & kFlagTruncated) != 0;
  message.recursion_available = (flags & kFlagRecursionAvailable) != 0;
  message.rcode = flags & 0xf;
  const std::uint16_t questions = *reader.u16();
  const std::uint16_t counts[] = {*reader.u16(), *reader.u16(), *reader.u16()};
  if (questions > 1) return std::nullopt;
  if (questions == 1) {
    auto question = read_question(reader);
    if (!question) return std::nullopt;
    message.question = std::move(*question);
  }
  std::vector<Record>* sections[] = {&message.answers, &message.authority, &message.additional};
  for (int section = 0; section < 3; ++section) {
    for (int i = 0; i < counts[section]; ++i) {
      auto raw = read_record(reader);
      if (!raw) return message.truncated ? std::optional(std::move(message)) : std::nullopt;
      if (raw->edns) {
        message.edns = std::move(raw->edns);
        message.extended_error = std::move(raw->extended_error);
        message.rcode = static_cast<std::uint16_t>(message.rcode | raw->extended_rcode << 4);
      } else {
        sections[section]->push_back(std::move(raw->record));
      }
    }
  }
  return message;
}

std::string write_query(std::uint16_t id, const Question& question, bool dnssec_ok, bool checking_disabled,
                        const std::string& cookie, std::size_t pad_to) {
  std::string out;
  put_header(out, id, kFlagRecursionDesired | (checking_disabled ? kFlagCheckingDisabled : 0), 1);
  out += question.sent;
  put16(out, static_cast<std::uint16_t>(question.type));
  put16(out, question.klass);
  set16(out, 10, 1);
  std::string options = cookie_option(cookie);
  options += padding_option(out.size() + kOptBytes + options.size(), pad_to, kTcpBytesMax);
  put_opt(out, kEdnsUdpBytes, 0, dnssec_ok, options);
  return out;
}

std::string write_answer(const Query& query, Rcode rcode, AnswerFlags flags,
                         const std::vector<Record>& answers, const std::vector<Record>& authority,
                         const std::vector<Record>& additional, std::size_t bytes_max) {
  const auto code = static_cast<std::uint8_t>(rcode);
  std::uint16_t bits = kFlagResponse | static_cast<std::uint16_t>(query.opcode << 11) | (code & 0xf);
  if (flags.authoritative) bits |= kFlagAuthoritative;
  if (flags.recursion_available) bits |= kFlagRecursionAvailable;
  if (query.recursion_desired) bits |= kFlagRecursionDesired;
  if (query.checking_disabled) bits |= kFlagCheckingDisabled;
  std::string options = query.edns ? options_of(flags) : std::string();
  Writer writer(bytes_max - (query.edns ? kOptBytes + options.size() : 0));
  put_header(writer.out(), query.id, bits, query.question ? 1 : 0);
  if (query.question) writer.question(*query.question);
  std::size_t counts[3] = {};
  bool truncated = flags.truncated;
  const std::vector<Record>* sections[] = {&answers, &authority, &additional};
  for (int section = 0; section < 3 && !truncated; ++section) {
    for (const Record& record : *sections[section]) {
      if (!writer.record(record)) {
        truncated = section < 2;
        break;
      }
      ++counts[section];
    }
  }
  std::string& out = writer.out();
  if (query.edns) {
    options += padding_option(out.size() + kOptBytes + options.size(), flags.pad_to, bytes_max);
    put_opt(out, kEdnsUdpBytes, code >> 4, query.edns->dnssec_ok, options);
    ++counts[2];
  }
  if (truncated) out[2] = static_cast<char>(octet(out, 2) | (kFlagTruncated >> 8));
  for (int section = 0; section < 3; ++section) set16(out, 6 + 2u * section, counts[section]);
  ORC_ASSERT(out.size() <= bytes_max);
  return std::move(out);
}

std::size_t udp_limit(const Query& query) {
  if (!query.edns) return kUdpBytes;
  return std::clamp<std::size_t>(query.edns->udp_bytes, kUdpBytes, kEdnsUdpBytes);
}

std::string address_data(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

std::string txt_data(std::string_view text) {
  std::string out;
  do {
    const std::string_view piece = text.substr(0, 255);
    out += static_cast<char>(piece.size());
    out += piece;
    text.remove_prefix(piece.size());
  } while (!text.empty());
  return out;
}

std::string srv_data(std::uint16_t priority, std::uint16_t weight, std::uint16_t port,
                     std::string_view target) {
  std::string out;
  put16(out, priority);
  put16(out, weight);
  put16(out, port);
  return out += target;
}

std::string soa_data(std::string_view primary, std::string_view mailbox, std::uint32_t serial,
                     std::uint32_t minimum) {
  constexpr std::uint32_t kRefresh = 7200, kRetry = 1800, kExpire = 86400;
  std::string out(primary);
  out += mailbox;
  for (const std::uint32_t number : {serial, kRefresh, kRetry, kExpire, minimum}) put32(out, number);
  return out;
}

std::optional<std::uint32_t> soa_minimum(std::string_view data) {
  if (data.size() < 22) return std::nullopt;
  Reader reader(data);
  reader.seek(data.size() - 4);
  return reader.u32();
}

}  // namespace orchestra::dns
