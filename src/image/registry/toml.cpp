// A recursive descent over the text; every loop consumes at least one byte.
#include "image/registry/toml.hpp"

#include <cctype>
#include <charconv>
#include <string>
#include <vector>

namespace orchestra::image {
namespace {

constexpr int kDepthMax = 32;

bool is_bare(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; }

class TomlParser {
 public:
  explicit TomlParser(std::string_view text) : text_(text) {}

  Result<json::object> run() {
    json::object root;
    json::object* table = &root;
    while (true) {
      skip_lines();
      if (end()) return root;
      if (peek() == '[') {
        ORC_ASSIGN(table, header(root));
      } else {
        ORC_TRY(assignment(*table));
      }
      skip_blanks();
      if (peek() == '#') skip_comment();
      if (!end() && peek() != '\n' && peek() != '\r') return bad("something follows the value");
    }
  }

 private:
  bool end() const { return at_ >= text_.size(); }
  char peek() const { return end() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (peek() != c || end()) return false;
    ++at_;
    return true;
  }
  void skip_blanks() {
    while (!end() && (peek() == ' ' || peek() == '\t')) ++at_;
  }
  void skip_comment() {
    while (!end() && peek() != '\n') ++at_;
  }
  /// Blanks, line ends and comments.
  void skip_lines() {
    while (!end()) {
      if (peek() == '#') {
        skip_comment();
      } else if (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }
  Error bad(const std::string& why) const {
    std::size_t line = 1;
    for (std::size_t i = 0; i < at_ && i < text_.size(); ++i) line += text_[i] == '\n' ? 1 : 0;
    return Error(Error::invalid, "image", "line " + std::to_string(line) + ": " + why);
  }

  Result<std::vector<std::string>> key() {
    std::vector<std::string> out;
    do {
      skip_blanks();
      std::string part;
      if (peek() == '"' || peek() == '\'') {
        ORC_ASSIGN(part, string());
      } else {
        while (!end() && is_bare(peek())) part += text_[at_++];
        if (part.empty()) return bad("a key is missing");
      }
      out.push_back(std::move(part));
      if (out.size() > kDepthMax) return bad("a key of more than 32 parts");
      skip_blanks();
    } while (take('.'));
    return out;
  }

  /// Into the table `name` of `parent`, the last one of an array of tables.
  Result<json::object*> enter(json::object& parent, const std::string& name) {
    json::value& value = parent[name];
    if (value.is_null()) value = json::object();
    if (value.is_array() && !value.as_array().empty() && value.as_array().back().is_object())
      return &value.as_array().back().as_object();
    if (!value.is_object()) return bad("\"" + name + "\" is no table");
    return &value.as_object();
  }

  Result<json::object*> header(json::object& root) {
    ++at_;
    const bool is_array = take('[');
    ORC_ASSIGN(const auto parts, key());
    if (!take(']') || (is_array && !take(']'))) return bad("a ] is missing");
    json::object* table = &root;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      ORC_ASSIGN(table, enter(*table, parts[i]));
    }
    if (!is_array) return enter(*table, parts.back());
    json::value& value = (*table)[parts.back()];
    if (value.is_null()) value = json::array();
    if (!value.is_array()) return bad("\"" + parts.back() + "\" is no array of tables");
    value.as_array().push_back(json::object());
    return &value.as_array().back().as_object();
  }

  Result<void> assignment(json::object& table) {
    ORC_ASSIGN(const auto parts, key());
    if (!take('=')) return bad("\"" + parts.back() + "\" has no =");
    json::object* target = &table;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      ORC_ASSIGN(target, enter(*target, parts[i]));
    }
    if (target->contains(parts.back())) return bad("\"" + parts.back() + "\" is given twice");
    ORC_ASSIGN((*target)[parts.back()], value(0));
    return {};
  }

  Result<json::value> value(int depth) {
    if (depth > kDepthMax) return bad("values nested deeper than 32");
    skip_blanks();
    const char c = peek();
    if (c == '"' || c == '\'') {
      ORC_ASSIGN(std::string text, string());
      return json::value(std::move(text));
    }
    if (c == '[') return array(depth);
    if (c == '{') return inline_table(depth);
    std::string word;
    while (!end() && (is_bare(peek()) || peek() == '+' || peek() == '.' || peek() == ':'))
      word += text_[at_++];
    if (word == "true" || word == "false") return json::value(word == "true");
    std::string digits;
    for (const char d : word) {
      if (d != '_' && d != '+') digits += d;
    }
    std::int64_t number = 0;
    const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error == std::errc() && last == digits.data() + digits.size() && !digits.empty())
      return json::value(number);
    return bad("the value \"" + word.substr(0, 40) + "\" is neither text in quotes, number, true nor false");
  }

  Result<json::value> array(int depth) {
    ++at_;
    json::array out;
    while (true) {
      skip_lines();
      if (take(']')) return json::value(std::move(out));
      ORC_ASSIGN(json::value item, value(depth + 1));
      out.push_back(std::move(item));
      skip_lines();
      if (take(',')) continue;
      if (take(']')) return json::value(std::move(out));
      return bad("an array has no ]");
    }
  }

  Result<json::value> inline_table(int depth) {
    ++at_;
    json::object out;
    skip_blanks();
    if (take('}')) return json::value(std::move(out));
    while (true) {
      ORC_ASSIGN(const auto parts, key());
      if (!take('=')) return bad("\"" + parts.back() + "\" has no =");
      json::object* target = &out;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        ORC_ASSIGN(target, enter(*target, parts[i]));
      }
      ORC_ASSIGN((*target)[parts.back()], value(depth + 1));
      skip_blanks();
      if (take(',')) continue;
      if (take('}')) return json::value(std::move(out));
      return bad("an inline table has no }");
    }
  }

  Result<std::string> string() {
    const char quote = text_[at_];
    const bool is_long = text_.substr(at_).starts_with(std::string(3, quote));
    at_ += is_long ? 3 : 1;
    if (is_long && peek() == '\r') ++at_;
    if (is_long && peek() == '\n') ++at_;
    std::string out;
    while (!end()) {
      const char c = text_[at_];
      if (c == quote && (!is_long || text_.substr(at_).starts_with(std::string(3, quote)))) {
        at_ += is_long ? 3 : 1;
        return out;
      }
      if (c == '\n' && !is_long) break;
      if (c == '\\' && quote == '"') {
        ORC_TRY(escape(out));
        continue;
      }
      out += c;
      ++at_;
    }
    return bad("a text has no closing quote");
  }

  Result<void> escape(std::string& out) {
    ++at_;
    const char c = peek();
    ++at_;
    switch (c) {
      case 'n':
        out += '\n';
        return {};
      case 't':
        out += '\t';
        return {};
      case 'r':
        out += '\r';
        return {};
      case '"':
      case '\\':
        out += c;
        return {};
      case '\n':
        while (!end() && std::isspace(static_cast<unsigned char>(peek())) != 0) ++at_;
        return {};
      default:
        return bad(std::string("the escape \\") + c + " is not known");
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<json::object> parse_toml(std::string_view text) {
  if (text.size() > kTomlBytesMax) return Error(Error::too_large, "image", "a file of more than 1 MiB");
  return TomlParser(text).run();
}

}  // namespace orchestra::image
