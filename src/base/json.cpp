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
  bool on_double(double number, std::string_view, error_code&) {
    has_doubles = true;
    stack.push_double(number);
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

void print_double(double number, std::string& out) {
  if (std::isfinite(number) && number == std::floor(number) && std::fabs(number) < 1e15) {
    out += std::to_string(static_cast<std::int64_t>(number));
    return;
  }
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
  out.append(buffer, end);
}

template <class Number>
void print_integer(Number number, std::string& out) {
  char buffer[24];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
}

/// Eight bytes of which none is to be escaped; of those above 0x7f it may say no.
bool is_plain(const char* bytes) {
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  const auto some_zero = [](std::uint64_t word) { return (word - kOnes) & ~word & kHighs; };
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  const std::uint64_t below_space = (word - kOnes * 0x20) & ~word & kHighs;
  return ((word & kHighs) | below_space | some_zero(word ^ kOnes * '"') | some_zero(word ^ kOnes * '\\')) ==
         0;
}

/// As Boost.JSON escapes: quotes, backslashes and control characters, nothing else.
void print_string(std::string_view text, std::string& out) {
  out += '"';
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.size() - i >= sizeof(std::uint64_t) && is_plain(text.data() + i)) {
      i += sizeof(std::uint64_t) - 1;
      continue;
    }
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') [[likely]]
      continue;
    out.append(text, done, i - done);
    done = i + 1;
    static constexpr std::string_view kShort = "\bb\ff\nn\rr\tt\"\"\\\\";
    const std::size_t at = kShort.find(text[i]);
    out += '\\';
    if (at != std::string_view::npos && at % 2 == 0) {
      out += kShort[at + 1];
    } else {
      out += "u00";
      out += "0123456789abcdef"[c >> 4];
      out += "0123456789abcdef"[c & 15];
    }
  }
  out.append(text, done);
  out += '"';
}

void print(const json::value& value, std::string& out, int indent, int level) {
  const auto line = [&](int depth) {
    if (indent == 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent * depth), ' ');
  };
  switch (value.kind()) {
    case json::kind::null:
      out += "null";
      break;
    case json::kind::bool_:
      out += value.get_bool() ? "true" : "false";
      break;
    case json::kind::int64:
      print_integer(value.get_int64(), out);
      break;
    case json::kind::uint64:
      print_integer(value.get_uint64(), out);
      break;
    case json::kind::double_:
      print_double(value.get_double(), out);
      break;
    case json::kind::string:
      print_string(value.get_string(), out);
      break;
    case json::kind::array: {
      out += '[';
      bool first = true;
      for (const json::value& item : value.get_array()) {
        if (!std::exchange(first, false)) out += ',';
        line(level + 1);
        print(item, out, indent, level + 1);
      }
      if (!first) line(level);
      out += ']';
      break;
    }
    case json::kind::object: {
      out += '{';
      bool first = true;
      for (const auto& member : value.get_object()) {
        if (!std::exchange(first, false)) out += ',';
        line(level + 1);
        print_string(member.key(), out);
        out += indent == 0 ? ":" : ": ";
        print(member.value(), out, indent, level + 1);
      }
      if (!first) line(level);
      out += '}';
      break;
    }
  }
}

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

void print_json(std::string& out, const json::value& value) { print(value, out, 0, 0); }
void print_quoted(std::string& out, std::string_view text) { print_string(text, out); }

std::string to_json(const json::value& value) {
  std::string out;
  print(value, out, 0, 0);
  return out;
}
std::string to_pretty_json(const json::value& value) {
  std::string out;
  print(value, out, 2, 0);
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
