// JSON: parse with positions, find duplicate keys, print as Go would.
//
// Boost.JSON does the work. Its parser keeps the last of duplicate keys silently, so our handler keeps a hash
// of each key of the open objects beside the tree that it builds; only where two are equal, a second handler
// over the same grammar compares the keys themselves and says where they stand.
#include "base/json_text.hpp"

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

namespace orchestra {

namespace {
constexpr std::size_t kDepthMax = 512;

json::parse_options options() {
  json::parse_options out;
  out.max_depth = kDepthMax;
  return out;
}

std::string position(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const std::size_t line =
      static_cast<std::size_t>(std::count(text.begin(), text.begin() + static_cast<long>(offset), '\n')) + 1;
  const std::size_t start = text.rfind('\n', offset == 0 ? 0 : offset - 1);
  const std::size_t column = start == std::string_view::npos || offset == 0 ? offset + 1 : offset - start;
  return "line " + std::to_string(line) + " column " + std::to_string(column);
}

/// Handler for basic_parser: what Boost's own does, and a count of the keys.
class TreeHandler {
 public:
  static constexpr std::size_t max_object_size = json::object::max_size();
  static constexpr std::size_t max_array_size = json::array::max_size();
  static constexpr std::size_t max_key_size = json::string::max_size();
  static constexpr std::size_t max_string_size = json::string::max_size();
  using error_code = boost::system::error_code;

  json::value_stack stack;
  std::size_t keys = 0;
  bool has_doubles = false;

  template <class... Args>
  explicit TreeHandler(Args&&... args) : stack(std::forward<Args>(args)...) {}

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return true; }
  bool on_object_end(std::size_t count, error_code&) {
    stack.push_object(count);
    keys += count;
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(std::size_t count, error_code&) {
    stack.push_array(count);
    return true;
  }
  bool on_key_part(std::string_view part, std::size_t, error_code&) {
    stack.push_chars({part.data(), part.size()});
    return true;
  }
  bool on_key(std::string_view part, std::size_t, error_code&) {
    stack.push_key({part.data(), part.size()});
    return true;
  }
  bool on_string_part(std::string_view part, std::size_t, error_code&) {
    stack.push_chars({part.data(), part.size()});
    return true;
  }
  bool on_string(std::string_view part, std::size_t, error_code&) {
    stack.push_string({part.data(), part.size()});
    return true;
  }
  bool on_number_part(std::string_view, error_code&) { return true; }
  bool on_int64(std::int64_t number, std::string_view, error_code&) {
    stack.push_int64(number);
    return true;
  }
  bool on_uint64(std::uint64_t number, std::string_view, error_code&) {
    stack.push_uint64(number);
    return true;
  }
  // The parser multiplies by a power of ten: of a number too large for a double it makes infinity, which no
  // JSON can hold, and of 0e999 not a number, where zero is meant.
  bool on_double(double number, std::string_view, error_code& failed) {
    if (std::isinf(number)) {
      failed = json::error::exponent_overflow;
      return false;
    }
    has_doubles = true;
    stack.push_double(std::isnan(number) ? 0.0 : number);
    return true;
  }
  bool on_bool(bool value, error_code&) {
    stack.push_bool(value);
    return true;
  }
  bool on_null(error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(std::string_view, error_code&) { return true; }
  bool on_comment(std::string_view, error_code&) { return true; }
};

std::size_t count_keys(const json::value& value) {
  std::size_t count = 0;
  if (const json::object* object = value.if_object()) {
    count = object->size();
    for (const auto& member : *object) count += count_keys(member.value());
  } else if (const json::array* array = value.if_array()) {
    for (const json::value& item : *array) count += count_keys(item);
  }
  return count;
}

struct Level {
  bool array = false;
  std::size_t index = 0;
  std::string key;
  std::set<std::string, std::less<>> keys;
};

/// Handler for basic_parser: collects the paths of keys that occur twice in one object.
struct DuplicateHandler {
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);
  using error_code = boost::system::error_code;

  std::vector<Level> stack;
  std::string key;
  std::vector<std::string> found;

  void value() {
    if (!stack.empty() && stack.back().array) ++stack.back().index;
  }
  std::string path(const std::string& last) const {
    std::string out;
    for (std::size_t i = 0; i + 1 < stack.size(); ++i) {
      if (stack[i].array) {
        out += "[" + std::to_string(stack[i].index) + "]";
      } else {
        out += (out.empty() ? "" : ".") + stack[i].key;
      }
    }
    return out.empty() ? last : out + "." + last;
  }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    stack.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t, error_code&) {
    stack.pop_back();
    value();
    return true;
  }
  bool on_array_begin(error_code&) {
    stack.emplace_back();
    stack.back().array = true;
    return true;
  }
  bool on_array_end(std::size_t, error_code&) {
    stack.pop_back();
    value();
    return true;
  }
  bool on_key_part(std::string_view part, std::size_t, error_code&) {
    key.append(part);
    return true;
  }
  bool on_key(std::string_view part, std::size_t, error_code&) {
    key.append(part);
    stack.back().key = key;
    if (!stack.back().keys.insert(key).second) found.push_back(path(key));
    key.clear();
    return true;
  }
  bool on_string_part(std::string_view, std::size_t, error_code&) { return true; }
  bool on_string(std::string_view, std::size_t, error_code&) {
    value();
    return true;
  }
  bool on_number_part(std::string_view, error_code&) { return true; }
  bool on_int64(std::int64_t, std::string_view, error_code&) {
    value();
    return true;
  }
  bool on_uint64(std::uint64_t, std::string_view, error_code&) {
    value();
    return true;
  }
  bool on_double(double, std::string_view, error_code&) {
    value();
    return true;
  }
  bool on_bool(bool, error_code&) {
    value();
    return true;
  }
  bool on_null(error_code&) {
    value();
    return true;
  }
  bool on_comment_part(std::string_view, error_code&) { return true; }
  bool on_comment(std::string_view, error_code&) { return true; }
};

/// Eight bytes of which none is to be escaped; of those above 0x7f it may say no.
bool is_plain(std::uint64_t word) {
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  const auto some_zero = [](std::uint64_t each) { return (each - kOnes) & ~each & kHighs; };
  const std::uint64_t below_space = (word - kOnes * 0x20) & ~word & kHighs;
  return ((word & kHighs) | below_space | some_zero(word ^ kOnes * '"') | some_zero(word ^ kOnes * '\\')) ==
         0;
}

/// The same of a whole text.
bool is_plain(std::string_view text) {
  std::uint64_t word = 0x2020202020202020u;
  if (text.size() < sizeof word) {
    text.copy(reinterpret_cast<char*>(&word), text.size());
    return is_plain(word);
  }
  const char* const last = text.data() + text.size() - sizeof word;
  for (const char* at = text.data(); at < last; at += sizeof word) {
    std::memcpy(&word, at, sizeof word);
    if (!is_plain(word)) return false;
  }
  std::memcpy(&word, last, sizeof word);
  return is_plain(word);
}

/// Prints behind what a text holds. Most of JSON is short words and single characters: they are gathered on
/// the stack, so that the text grows in a few long steps.
class Printer {
 public:
  Printer(std::string& out, int indent) : out_(out), indent_(indent) {}
  ~Printer() { flush(); }
  Printer(const Printer&) = delete;
  Printer& operator=(const Printer&) = delete;

  void print(const json::value& value, int level = 0) {
    switch (value.kind()) {
      case json::kind::null:
        return put("null");
      case json::kind::bool_:
        return put(value.get_bool() ? "true" : "false");
      case json::kind::int64:
        return put_number(value.get_int64());
      case json::kind::uint64:
        return put_number(value.get_uint64());
      case json::kind::double_:
        return put_double(value.get_double());
      case json::kind::string:
        return put_quoted(value.get_string());
      case json::kind::array: {
        put('[');
        bool first = true;
        for (const json::value& item : value.get_array()) {
          if (!std::exchange(first, false)) put(',');
          line(level + 1);
          print(item, level + 1);
        }
        if (!first) line(level);
        return put(']');
      }
      case json::kind::object: {
        put('{');
        bool first = true;
        for (const auto& member : value.get_object()) {
          if (!std::exchange(first, false)) put(',');
          line(level + 1);
          put_quoted(member.key());
          put(':');
          if (indent_ != 0) put(' ');
          print(member.value(), level + 1);
        }
        if (!first) line(level);
        return put('}');
      }
    }
  }

  /// As Boost.JSON escapes: quotes, backslashes and control characters, nothing else.
  void put_quoted(std::string_view text) {
    put('"');
    if (is_plain(text)) {
      put(text);
    } else {
      put_escaped(text);
    }
    put('"');
  }

 private:
  void flush() {
    out_.append(buffer_, used_);
    used_ = 0;
  }
  void put(char c) {
    if (used_ == sizeof buffer_) flush();
    buffer_[used_++] = c;
  }
  void put(std::string_view text) {
    if (text.size() > sizeof buffer_ - used_) {
      flush();
      if (text.size() > sizeof buffer_) {
        out_ += text;
        return;
      }
    }
    used_ += text.copy(buffer_ + used_, text.size());
  }
  void put(const char* text) { put(std::string_view(text)); }
  void put_escaped(std::string_view text) {
    std::size_t done = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      if (c >= 0x20 && c != '"' && c != '\\') [[likely]]
        continue;
      put(text.substr(done, i - done));
      done = i + 1;
      static constexpr std::string_view kShort = "\bb\ff\nn\rr\tt\"\"\\\\";
      const std::size_t at = kShort.find(text[i]);
      put('\\');
      if (at != std::string_view::npos && at % 2 == 0) {
        put(kShort[at + 1]);
      } else {
        put("u00");
        put("0123456789abcdef"[c >> 4]);
        put("0123456789abcdef"[c & 15]);
      }
    }
    put(text.substr(done));
  }
  template <class Number>
  void put_number(Number number) {
    char digits[64];
    const char* const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    put(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }
  void put_double(double number) {
    if (std::isfinite(number) && number == std::floor(number) && std::fabs(number) < 1e15)
      return put_number(static_cast<std::int64_t>(number));
    put_number(number);
  }
  void line(int depth) {
    if (indent_ == 0) return;
    put('\n');
    for (int i = 0; i < indent_ * depth; ++i) put(' ');
  }

  std::string& out_;
  const int indent_;
  std::size_t used_ = 0;
  char buffer_[1024];
};

/// One step of a JSON pointer, unescaped (into `room` where it has to be); advances `pointer`.
std::string_view next_token(std::string_view& pointer, std::string& room) {
  pointer.remove_prefix(1);
  const std::string_view token = pointer.substr(0, pointer.find('/'));
  pointer.remove_prefix(token.size());
  if (token.find('~') == std::string_view::npos) return token;
  room.clear();
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) {
      room += token[++i] == '0' ? '~' : '/';
    } else {
      room += token[i];
    }
  }
  return room;
}

bool array_index(std::string_view token, std::size_t& index) {
  const auto [end, failed] = std::from_chars(token.data(), token.data() + token.size(), index);
  return failed == std::errc() && end == token.data() + token.size();
}
}  // namespace

namespace {
Result<JsonDocument> read(std::string_view text, json::storage_ptr storage, bool duplicates) {
  unsigned char scratch[4096];
  json::basic_parser<TreeHandler> parser(options(), json::storage_ptr(), scratch, sizeof scratch);
  TreeHandler& handler = parser.handler();
  handler.stack.reset(std::move(storage));
  boost::system::error_code failed;
  const std::size_t used = parser.write_some(true, text.data(), text.size(), failed);
  if (!failed && used < text.size()) {
    return Error(Error::invalid, "json",
                 "JSON: more text after the end of the value at " + position(text, used));
  }
  if (!failed) parser.write_some(false, nullptr, 0, failed);
  if (failed) {
    return Error(Error::invalid, "json", "JSON: " + failed.message() + " at " + position(text, used));
  }
  JsonDocument document{handler.stack.release(), {}, handler.has_doubles};
  if (duplicates && count_keys(document.tree) < handler.keys) document.duplicates = find_duplicate_keys(text);
  return document;
}
}  // namespace

Result<JsonDocument> read_json(std::string_view text, json::storage_ptr storage) {
  return read(text, std::move(storage), true);
}

Result<json::value> parse_json(std::string_view text, json::storage_ptr storage) {
  ORC_ASSIGN(JsonDocument document, read(text, std::move(storage), false));
  return std::move(document.tree);
}

std::vector<std::string> find_duplicate_keys(std::string_view text) {
  json::basic_parser<DuplicateHandler> parser(options());
  boost::system::error_code failed;
  parser.write_some(false, text.data(), text.size(), failed);
  return std::move(parser.handler().found);
}

bool same_json(const json::object& a, const json::object& b) {
  if (a.size() != b.size()) return false;
  auto y = b.begin();
  for (auto x = a.begin(); x != a.end(); ++x, ++y) {
    const json::value* other = x->key() == y->key() ? &y->value() : b.if_contains(x->key());
    if (other == nullptr || !same_json(x->value(), *other)) return false;
  }
  return true;
}

bool same_json(const json::value& a, const json::value& b) {
  if (a.is_object() && b.is_object()) return same_json(a.get_object(), b.get_object());
  if (!a.is_array() || !b.is_array()) return a == b;
  const json::array &x = a.get_array(), &y = b.get_array();
  return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                    [](const json::value& one, const json::value& other) { return same_json(one, other); });
}

void print_json(std::string& out, const json::value& value) { Printer(out, 0).print(value); }
bool prints_plainly(std::string_view text) { return is_plain(text); }
void print_quoted(std::string& out, std::string_view text) { Printer(out, 0).put_quoted(text); }

std::string to_json(const json::value& value) {
  std::string out;
  print_json(out, value);
  return out;
}
std::string to_pretty_json(const json::value& value) {
  std::string out;
  Printer(out, 2).print(value);
  out += '\n';
  return out;
}

const json::value* find(const json::value& root, std::string_view pointer) {
  const json::value* at = &root;
  std::string room;
  while (!pointer.empty()) {
    const std::string_view token = next_token(pointer, room);
    if (const json::object* object = at->if_object()) {
      at = object->if_contains(token);
    } else if (const json::array* array = at->if_array()) {
      std::size_t index = 0;
      at = array_index(token, index) ? array->if_contains(index) : nullptr;
    } else {
      return nullptr;
    }
    if (at == nullptr) return nullptr;
  }
  return at;
}

std::string string_at(const json::value& root, std::string_view pointer, std::string_view other) {
  const json::value* value = find(root, pointer);
  if (value == nullptr || !value->is_string()) return std::string(other);
  return std::string(value->get_string());
}
std::int64_t int_at(const json::value& root, std::string_view pointer, std::int64_t other) {
  const json::value* value = find(root, pointer);
  if (value == nullptr) return other;
  if (value->is_int64()) return value->get_int64();
  if (value->is_uint64()) return static_cast<std::int64_t>(value->get_uint64());
  if (value->is_double()) return static_cast<std::int64_t>(value->get_double());
  return other;
}
bool bool_at(const json::value& root, std::string_view pointer, bool other) {
  const json::value* value = find(root, pointer);
  return value != nullptr && value->is_bool() ? value->get_bool() : other;
}
const json::array* array_at(const json::value& root, std::string_view pointer) {
  const json::value* value = find(root, pointer);
  return value != nullptr ? value->if_array() : nullptr;
}
const json::object* object_at(const json::value& root, std::string_view pointer) {
  const json::value* value = find(root, pointer);
  return value != nullptr ? value->if_object() : nullptr;
}

void set_at(json::value& root, std::string_view pointer, json::value value) {
  json::value* at = &root;
  std::string room;
  while (!pointer.empty()) {
    const std::string_view token = next_token(pointer, room);
    std::size_t index = 0;
    if (json::array* array = at->if_array(); array != nullptr && array_index(token, index)) {
      if (index >= array->size()) array->resize(index + 1);
      at = &(*array)[index];
    } else {
      if (!at->is_object()) at->emplace_object();
      at = &at->get_object()[token];
    }
  }
  *at = std::move(value);
}

}  // namespace orchestra
