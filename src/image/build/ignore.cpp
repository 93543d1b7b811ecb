// Pattern matching by backtracking over the last star only, so the work is bounded by pattern x path per
// `**`; `**` itself recurses once for each directory of the path.
#include "image/build/ignore.hpp"

#include <algorithm>

namespace orchestra::image {
namespace {

/// One character class "[a-z]" or "[^x]" at `at`; moves `at` behind it. False: no match, or malformed.
bool match_class(std::string_view pattern, std::size_t& at, char c) {
  ++at;
  const bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  bool found = false, first = true;
  while (at < pattern.size() && (pattern[at] != ']' || first)) {
    first = false;
    char low = pattern[at];
    if (low == '\\' && at + 1 < pattern.size()) low = pattern[++at];
    char high = low;
    ++at;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      high = pattern[at + 1];
      at += 2;
    }
    if (low <= c && c <= high) found = true;
  }
  if (at >= pattern.size()) return false;
  ++at;
  return found != negated && c != '/';
}

/// One component: `*`, `?`, classes, escapes; never across '/'.
bool match_component(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    bool step = false;
    if (p < pattern.size()) {
      if (pattern[p] == '*') {
        star = p++;
        star_text = t;
        continue;
      }
      if (pattern[p] == '?') {
        ++p;
        step = true;
      } else if (pattern[p] == '[') {
        std::size_t after = p;
        step = match_class(pattern, after, text[t]);
        if (step) p = after;
      } else {
        const bool escaped = pattern[p] == '\\' && p + 1 < pattern.size();
        const char wanted = escaped ? pattern[p + 1] : pattern[p];
        step = wanted == text[t];
        if (step) p += escaped ? 2 : 1;
      }
    }
    if (step) {
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> out;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t slash = std::min(path.find('/', start), path.size());
    if (slash > start) out.push_back(path.substr(start, slash - start));
    start = slash + 1;
  }
  return out;
}

bool match_parts(const std::vector<std::string_view>& pattern, const std::vector<std::string_view>& path) {
  // reach[j]: the pattern so far matches the first j parts of the path.
  std::vector<bool> reach(path.size() + 1, false);
  reach[0] = true;
  for (const std::string_view part : pattern) {
    std::vector<bool> next(path.size() + 1, false);
    if (part == "**") {
      bool any = false;
      for (std::size_t j = 0; j <= path.size(); ++j) {
        any = any || reach[j];
        next[j] = any;
      }
    } else {
      for (std::size_t j = 0; j < path.size(); ++j) {
        if (reach[j] && match_component(part, path[j])) next[j + 1] = true;
      }
    }
    reach = std::move(next);
  }
  return reach[path.size()];
}

std::string clean(std::string_view pattern) {
  std::vector<std::string_view> parts;
  for (const std::string_view part : components(pattern)) {
    if (part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  std::string out;
  for (const std::string_view part : parts) out += (out.empty() ? "" : "/") + std::string(part);
  return out;
}

}  // namespace

bool match_path(std::string_view pattern, std::string_view path) {
  return match_parts(components(pattern), components(path));
}

IgnoreList::IgnoreList(std::string_view text) {
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = text.substr(start, end - start);
    start = end + 1;
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
    while (!line.empty() && blank(line.front())) line.remove_prefix(1);
    while (!line.empty() && blank(line.back())) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    Rule rule;
    if (line.front() == '!') {
      rule.take_back = true;
      line.remove_prefix(1);
    }
    rule.pattern = clean(line);
    if (rule.pattern.empty()) continue;
    has_exceptions_ = has_exceptions_ || rule.take_back;
    rules_.push_back(std::move(rule));
  }
}

bool IgnoreList::ignores(std::string_view path) const {
  bool ignored = false;
  const auto parts = components(path);
  for (const Rule& rule : rules_) {
    if (rule.take_back != ignored) continue;  // it could change nothing
    const auto pattern = components(rule.pattern);
    for (std::size_t length = parts.size(); length > 0; --length) {
      if (match_parts(pattern, {parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(length)})) {
        ignored = !rule.take_back;
        break;
      }
    }
  }
  return ignored;
}

}  // namespace orchestra::image
