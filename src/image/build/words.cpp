// Words and variables of Dockerfiles: the small shell grammar that ENV, LABEL, COPY, USER and others use.
#include <algorithm>
#include <cctype>

#include "image/build/dockerfile.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kExpandedBytesMax = 1 << 20;
constexpr int kNestingMax = 32;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v'; }
bool begins_name(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool in_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

Error bad(const std::string& why) { return Error(Error::invalid, "image", why); }

/// One word, from left to right; `depth` bounds ${a:-${b:-...}}.
class Expander {
 public:
  Expander(const Variables& variables, char escape, std::vector<std::string>* used)
      : variables_(variables), escape_(escape), used_(used) {}

  /// No quotes: only variables, and the escape before a dollar or itself.
  Result<std::string> plain(std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const char c = text[at];
      const char next = at + 1 < text.size() ? text[at + 1] : '\0';
      if (c == escape_ && (next == '$' || next == escape_)) {
        out += next;
        at += 2;
      } else if (c == '$') {
        ORC_TRY(variable(text, at, out, 0));
      } else {
        out += c;
        ++at;
      }
      if (out.size() > kExpandedBytesMax) return bad("a text that expands to more than 1 MiB");
    }
    return out;
  }

  /// Up to `stop` (0: the end), which stays unread.
  Result<std::string> run(std::string_view text, std::size_t& at, char stop, int depth) {
    if (depth > kNestingMax) return bad("variables nested deeper than 32");
    std::string out;
    while (at < text.size() && (stop == 0 || text[at] != stop)) {
      const char c = text[at];
      if (c == '\'') {
        const std::size_t close = text.find('\'', at + 1);
        if (close == std::string_view::npos) return bad("a ' without its end");
        out += text.substr(at + 1, close - at - 1);
        at = close + 1;
      } else if (c == '"') {
        ++at;
        ORC_TRY(quoted(text, at, out, depth));
      } else if (c == escape_) {
        // An escape at the very end stays.
        if (at + 1 == text.size()) {
          out += c;
          ++at;
          continue;
        }
        out += text[at + 1];
        at += 2;
      } else if (c == '$') {
        ORC_TRY(variable(text, at, out, depth));
      } else {
        out += c;
        ++at;
      }
      if (out.size() > kExpandedBytesMax) return bad("a word that expands to more than 1 MiB");
    }
    return out;
  }

 private:
  Result<void> quoted(std::string_view text, std::size_t& at, std::string& out, int depth) {
    while (at < text.size() && text[at] != '"') {
      const char c = text[at];
      if (c == escape_ && at + 1 < text.size()) {
        const char next = text[at + 1];
        // In double quotes the escape takes the meaning of these only; before others it stays.
        if (next != '"' && next != '$' && next != escape_) out += c;
        out += next;
        at += 2;
      } else if (c == '$') {
        ORC_TRY(variable(text, at, out, depth));
      } else {
        out += c;
        ++at;
      }
    }
    if (at >= text.size()) return bad("a \" without its end");
    ++at;
    return {};
  }

  const std::string* look_up(const std::string& name) {
    if (used_ != nullptr) used_->push_back(name);
    const auto found = variables_.find(name);
    return found == variables_.end() ? nullptr : &found->second;
  }

  Result<void> variable(std::string_view text, std::size_t& at, std::string& out, int depth) {
    ++at;  // the dollar
    if (at < text.size() && text[at] == '{') {
      ++at;
      std::string name;
      while (at < text.size() && in_name(text[at])) name += text[at++];
      if (name.empty() || at >= text.size()) return bad("a malformed ${...}");
      const std::string* value = look_up(name);
      if (text[at] == '}') {
        ++at;
        if (value != nullptr) out += *value;
        return {};
      }
      ORC_TRY(modified(text, at, out, name, value, depth));
      return {};
    }
    if (at < text.size() && begins_name(text[at])) {
      std::string name;
      while (at < text.size() && in_name(text[at])) name += text[at++];
      if (const std::string* value = look_up(name)) out += *value;
      return {};
    }
    out += '$';
    return {};
  }

  /// What stands between the name and the }: - + ? with or without colon, # ## % %% / //.
  Result<void> modified(std::string_view text, std::size_t& at, std::string& out, const std::string& name,
                        const std::string* value, int depth) {
    const bool colon = text[at] == ':';
    if (colon) ++at;
    const char mark = at < text.size() ? text[at] : '\0';
    const bool known = std::string_view("-+?").find(mark) != std::string_view::npos ||
                       (!colon && std::string_view("#%/").find(mark) != std::string_view::npos);
    if (!known) {
      return Error(Error::unsupported, "image",
                   "${" + name + std::string(text.substr(at, 1)) + "...}: only - + ? # % / are known");
    }
    ++at;
    const bool twice = (mark == '#' || mark == '%' || mark == '/') && at < text.size() && text[at] == mark;
    if (twice) ++at;
    ORC_ASSIGN(const std::string word, run(text, at, mark == '/' ? '/' : '}', depth + 1));
    std::string replacement;
    if (mark == '/' && at < text.size()) {
      ++at;
      ORC_ASSIGN(replacement, run(text, at, '}', depth + 1));
    }
    if (at >= text.size()) return bad("a ${" + name + " without its }");
    ++at;
    const bool is_set = value != nullptr && (!colon || !value->empty());
    const std::string have = value == nullptr ? "" : *value;
    if (mark == '-') out += is_set ? have : word;
    if (mark == '+' && is_set) out += word;
    if (mark == '?') {
      if (!is_set) return bad(name + ": " + (word.empty() ? "is not set" : word));
      out += have;
    }
    if (mark == '#') out += without_prefix(have, word, twice);
    if (mark == '%') out += without_suffix(have, word, twice);
    if (mark == '/') out += replaced(have, word, replacement, twice);
    return {};
  }

  /// The shortest prefix (or longest) that fits the pattern goes.
  static std::string without_prefix(const std::string& text, const std::string& pattern, bool longest) {
    for (std::size_t i = 0; i <= text.size(); ++i) {
      const std::size_t size = longest ? text.size() - i : i;
      if (match_text(pattern, std::string_view(text).substr(0, size))) return text.substr(size);
    }
    return text;
  }
  static std::string without_suffix(const std::string& text, const std::string& pattern, bool longest) {
    for (std::size_t i = 0; i <= text.size(); ++i) {
      const std::size_t size = longest ? text.size() - i : i;
      if (match_text(pattern, std::string_view(text).substr(text.size() - size)))
        return text.substr(0, text.size() - size);
    }
    return text;
  }
  static std::string replaced(const std::string& text, const std::string& pattern, const std::string& with,
                              bool all) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      std::size_t size = text.size() - at;
      while (size > 0 && !match_text(pattern, std::string_view(text).substr(at, size))) --size;
      if (size == 0) {
        out += text[at++];
        continue;
      }
      out += with;
      at += size;
      if (!all) return out + text.substr(at);
    }
    return out;
  }
  /// * and ? of shell patterns; the text may hold anything, also slashes.
  static bool match_text(std::string_view pattern, std::string_view text) {
    std::size_t p = 0, t = 0, star = std::string_view::npos, from = 0;
    while (t < text.size()) {
      if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
        ++p, ++t;
      } else if (p < pattern.size() && pattern[p] == '*') {
        star = p++;
        from = t;
      } else if (star != std::string_view::npos) {
        p = star + 1;
        t = ++from;
      } else {
        return false;
      }
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
  }

  const Variables& variables_;
  char escape_;
  std::vector<std::string>* used_;
};

}  // namespace

std::vector<std::string> split_words(std::string_view text, char escape) {
  std::vector<std::string> out;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0 && is_blank(c)) {
      if (in_word) out.push_back(std::move(word));
      word.clear();
      in_word = false;
      continue;
    }
    in_word = true;
    word += c;
    if (c == escape && quote != '\'' && i + 1 < text.size()) {
      word += text[++i];
    } else if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    }
  }
  if (in_word) out.push_back(std::move(word));
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> split_assignments(const Instruction& instruction,
                                                                           char escape) {
  std::vector<std::pair<std::string, std::string>> out;
  const std::vector<std::string> words = split_words(instruction.rest, escape);
  const auto fail = [&](const std::string& why) {
    return bad("line " + std::to_string(instruction.line) + ": " + instruction.name + " " + why);
  };
  if (words.empty()) return fail("needs NAME=VALUE");
  const bool is_arg = instruction.name == "ARG";
  if (!is_arg && words[0].find('=') == std::string::npos) {
    // The old form: the name, then everything up to the end of the line.
    if (words.size() < 2) return fail("needs NAME=VALUE");
    std::string_view rest = instruction.rest;
    rest.remove_prefix(rest.find(words[0]) + words[0].size());
    while (!rest.empty() && is_blank(rest.front())) rest.remove_prefix(1);
    out.emplace_back(words[0], std::string(rest));
    return out;
  }
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    if (equals == 0) return fail("has a value without a name: " + word);
    if (equals == std::string::npos) {
      if (!is_arg) return fail("\"" + word + "\" is not NAME=VALUE");
      out.emplace_back(word, std::string());
    } else {
      out.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    }
  }
  return out;
}

Result<std::string> expand_word(std::string_view word, const Variables& variables, char escape,
                                std::vector<std::string>* used) {
  std::size_t at = 0;
  return Expander(variables, escape, used).run(word, at, 0, 0);
}

Result<std::string> expand_text(std::string_view text, const Variables& variables, char escape) {
  return Expander(variables, escape, nullptr).plain(text);
}

}  // namespace orchestra::image
