#include "net/dns/master_file.hpp"

#include "net/dns/generate.hpp"

namespace orchestra::dns {
namespace {

constexpr int kIncludeDepthMax = 8;
constexpr std::size_t kEntryBytesMax = 128
                                       << 10;  // a record of the largest size, each octet escaped, is less
constexpr std::string_view kBlanks = " \t\r";

/// One record or directive, over all its lines.
struct Entry {
  std::size_t line = 0;
  bool starts_blank = false;  // the owner is left out
  std::vector<Token> tokens;
};

/// Cuts the text into entries: comments, parentheses and quotes end here.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}
  std::size_t line() const { return line_; }

  /// The next entry with a word in it; nullopt at the end. An error is a reason without the place.
  Result<std::optional<Entry>> next() {
    Entry entry;
    int depth = 0;
    std::size_t bytes = 0;
    bool at_start = true;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') {
        ++at_, ++line_;
        if (depth > 0) continue;
        if (!entry.tokens.empty()) return std::optional(std::move(entry));
        entry = {};
        at_start = true;
      } else if (kBlanks.find(c) != std::string_view::npos) {
        entry.starts_blank |= at_start;
        at_start = false;
        ++at_;
      } else if (c == ';') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == '(' || c == ')') {
        depth += c == '(' ? 1 : -1;
        if (depth < 0) return error("a closing parenthesis without an opening one");
        at_start = false;
        ++at_;
      } else {
        if (entry.tokens.empty()) entry.line = line_;
        ORC_ASSIGN(Token token, c == '"' ? quoted() : word());
        bytes += token.text.size() + 1;
        if (bytes > kEntryBytesMax) return error("the record is longer than 128 KiB");
        entry.tokens.push_back(std::move(token));
        at_start = false;
      }
    }
    if (depth > 0) return error("the file ends inside of parentheses");
    if (entry.tokens.empty()) return std::optional<Entry>();
    return std::optional(std::move(entry));
  }

 private:
  static Error error(const char* text) { return {Error::invalid, "dns", text}; }

  Result<Token> quoted() {
    Token token{.text = {}, .quoted = true};
    for (++at_; at_ < text_.size() && text_[at_] != '\n'; ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return token;
      }
      if (text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') token.text += text_[at_++];
      token.text += text_[at_];
    }
    return error("a quote is not closed on its line");
  }
  Result<Token> word() {
    Token token;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n' || c == ';' || c == '(' || c == ')' || c == '"' ||
          kBlanks.find(c) != std::string_view::npos)
        break;
      if (c == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') token.text += text_[at_++];
      token.text += text_[at_++];
    }
    return token;
  }

  std::string_view text_;
  std::size_t at_ = 0, line_ = 1;
};

class Parser {
 public:
  explicit Parser(MasterFileOptions options) : options_(std::move(options)) {}
  std::vector<Record> take() { return std::move(records_); }

  Result<void> file(std::string_view text, const std::string& name, int depth) {
    bytes_ += text.size();
    if (bytes_ > kZoneFileBytesMax) {
      return Error(Error::too_large, "dns", name + ": the zone's files are larger than 256 MiB");
    }
    Scanner scanner(text);
    while (true) {
      auto entry = scanner.next();
      if (!entry) return at(name, scanner.line(), entry.error());
      if (!*entry) return {};
      if (auto done = take_entry(**entry, name, depth); !done) {
        return placed_ ? done : at(name, (*entry)->line, done.error());
      }
    }
  }

 private:
  /// "shop.zone:12: reason"
  Error at(const std::string& name, std::size_t line, const Error& reason) {
    placed_ = true;
    return {reason.code(), "dns", name + ":" + std::to_string(line) + ": " + reason.message()};
  }
  static Error invalid(std::string text) { return {Error::invalid, "dns", std::move(text)}; }

  Result<void> take_entry(const Entry& entry, const std::string& name, int depth) {
    const Token& first = entry.tokens[0];
    if (!entry.starts_blank && !first.quoted && first.text.starts_with('$')) {
      return directive(entry, name, depth);
    }
    return record(entry);
  }

  Result<void> directive(const Entry& entry, const std::string& file_name, int depth) {
    const std::string word = to_lower(entry.tokens[0].text);
    const std::size_t count = entry.tokens.size();
    if (word == "$origin") {
      const auto origin = count == 2 ? parse_name(entry.tokens[1].text, options_.origin) : std::nullopt;
      if (!origin) return invalid("$ORIGIN needs a domain name");
      options_.origin = *origin;
      return {};
    }
    if (word == "$ttl") {
      const auto ttl = count == 2 ? parse_ttl(entry.tokens[1].text) : std::nullopt;
      if (!ttl) return invalid("$TTL needs a time in seconds or like 1h30m");
      options_.ttl = *ttl;
      options_.has_ttl = true;
      return {};
    }
    if (word == "$include") return include(entry, file_name, depth);
    if (word == "$generate") return generate(entry);
    return invalid(entry.tokens[0].text + " is not known; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE");
  }

  /// $GENERATE first-last[/step] owner [ttl] [class] type data..: a record for each number, as BIND does it.
  Result<void> generate(const Entry& entry) {
    if (entry.tokens.size() < 5)
      return invalid("$GENERATE needs a range, an owner, a type and data, like 1-9 host$ A 10.0.0.$");
    const auto range = parse_generate_range(entry.tokens[1].text);
    if (!range)
      return invalid("\"" + entry.tokens[1].text +
                     "\" is no range like 1-9 or 0-254/2 of at most 65536 numbers");
    for (std::uint32_t number = range->first;; number += range->step) {
      std::string line;
      for (std::size_t i = 2; i < entry.tokens.size(); ++i) {
        ORC_ASSIGN(const std::string part, generate_text(entry.tokens[i].text, number));
        line += (i > 2 ? " " : "") + part;
      }
      bytes_ += line.size();
      if (bytes_ > kZoneFileBytesMax)
        return Error(Error::too_large, "dns", "what $GENERATE makes is longer than 256 MiB");
      Scanner scanner(line);
      ORC_ASSIGN(const auto made, scanner.next());
      if (!made || made->starts_blank || made->tokens.size() < 3) return invalid("$GENERATE makes no record");
      ORC_TRY(record(*made));
      if (range->last - number < range->step) return {};
    }
  }

  Result<void> include(const Entry& entry, const std::string& file_name, int depth) {
    if (!options_.include) return invalid("$INCLUDE does not work here: the zone comes from no file");
    if (entry.tokens.size() != 2 && entry.tokens.size() != 3)
      return invalid("$INCLUDE needs a file and perhaps an origin");
    if (depth >= kIncludeDepthMax) return invalid("files are included more than 8 deep");
    const Name origin = options_.origin, owner = options_.owner;
    if (entry.tokens.size() == 3) {
      const auto own = parse_name(entry.tokens[2].text, options_.origin);
      if (!own) return invalid("\"" + entry.tokens[2].text + "\" is no domain name");
      options_.origin = *own;
    }
    // A path is relative to the file that names it.
    std::string path = entry.tokens[1].text;
    const auto slash = file_name.rfind('/');
    if (!path.starts_with('/') && slash != std::string::npos) path = file_name.substr(0, slash + 1) + path;
    ORC_ASSIGN(const std::string text, options_.include(path));
    ORC_TRY(file(text, path, depth + 1));
    options_.origin = origin;
    options_.owner = owner;
    return {};
  }

  /// [owner] [ttl] [class] type data.., time and class in either order.
  Result<void> record(const Entry& entry) {
    Record out;
    std::size_t next = 0;
    if (!entry.starts_blank) {
      const auto owner = parse_name(entry.tokens[next++].text, options_.origin);
      if (!owner) return invalid("\"" + entry.tokens[0].text + "\" is no domain name");
      options_.owner = *owner;
    }
    if (options_.owner.empty()) return invalid("the first record has no name");
    out.name = options_.owner;
    std::optional<std::uint32_t> ttl;
    bool klass = false;
    for (; next < entry.tokens.size(); ++next) {
      const std::string& word = entry.tokens[next].text;
      const std::string lower = to_lower(word);
      if (!klass && (lower == "in" || lower == "ch" || lower == "hs" || lower == "cs")) {
        if (lower != "in") return invalid("class " + word + ": only records of class IN are served");
        klass = true;
      } else if (const auto time = ttl ? std::nullopt : parse_ttl(word)) {
        ttl = time;
      } else {
        break;
      }
    }
    if (next >= entry.tokens.size()) return invalid("the record has no type");
    const auto type = parse_type(entry.tokens[next].text);
    if (!type) {
      return invalid("type \"" + entry.tokens[next].text +
                     "\" is not known; any type may be written as TYPE123 \\# LENGTH HEX");
    }
    if (*type == Type::any || *type == Type::axfr || *type == Type::ixfr || *type == Type::opt) {
      return invalid(type_text(*type) + " is a type of questions, not of records");
    }
    out.type = *type;
    const std::vector<Token> fields(entry.tokens.begin() + static_cast<std::ptrdiff_t>(next) + 1,
                                    entry.tokens.end());
    ORC_ASSIGN(out.data, parse_data(*type, fields, options_.origin));
    ORC_ASSIGN(out.ttl, time_of(out, ttl));
    if (records_.size() >= kZoneRecordsMax) return invalid("the zone has more than 4194304 records");
    records_.push_back(std::move(out));
    return {};
  }

  /// The record's own time; else $TTL; else, as of old, that of the record before it; for a SOA its MINIMUM.
  Result<std::uint32_t> time_of(const Record& record, std::optional<std::uint32_t> own) {
    if (own) {
      last_ttl_ = own;
      return *own;
    }
    if (options_.has_ttl) return options_.ttl;
    if (last_ttl_) return *last_ttl_;
    if (record.type == Type::soa) {
      last_ttl_ = soa_minimum(record.data);
      return *last_ttl_;
    }
    return invalid("the record has no time to live; write $TTL 300 at the top of the file");
  }

  MasterFileOptions options_;
  std::vector<Record> records_;
  std::optional<std::uint32_t> last_ttl_;
  std::size_t bytes_ = 0;
  bool placed_ = false;  // the error that is on its way names its place already
};

}  // namespace

Result<std::vector<Record>> parse_master_file(std::string_view text, MasterFileOptions options) {
  const std::string file = options.file;
  Parser parser(std::move(options));
  ORC_TRY(parser.file(text, file, 0));
  return parser.take();
}

}  // namespace orchestra::dns
