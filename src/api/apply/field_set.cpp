// Field sets and their text: see field_set.hpp.
#include "api/apply/field_set.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "base/json_text.hpp"

namespace orchestra::api {
namespace {

constexpr int kDepthMax = 512;

bool is_part_of_number(char c) {
  return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e';
}

/// The number in `text` that the byte at `at` is part of or stands right behind; nullopt: there is none.
std::optional<double> number_around(std::string_view text, std::size_t at) {
  bool quoted = false;
  std::size_t begin = 0;  // of the token
  for (std::size_t i = 0; i < at; ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    }
    if (!quoted && !is_part_of_number(text[i])) begin = i + 1;
  }
  if (quoted || begin >= text.size() || !is_part_of_number(text[begin])) return std::nullopt;
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data() + begin, text.data() + text.size(), number);
  return failed == std::errc() ? std::optional<double>(number) : std::nullopt;
}

/// Two JSON texts: numbers by size, everything else by bytes.
std::weak_ordering compare_words(std::string_view a, std::string_view b) {
  const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (x == a.end() && y == b.end()) return std::weak_ordering::equivalent;
  const auto at = static_cast<std::size_t>(x - a.begin());
  if (const auto left = number_around(a, at)) {
    if (const auto right = number_around(b, at); right && *left != *right)
      return *left < *right ? std::weak_ordering::less : std::weak_ordering::greater;
  }
  return a <=> b;
}

std::string sorted_word(const json::object& keys) {
  std::map<std::string_view, const json::value*> sorted;
  for (const auto& [name, value] : keys) sorted.emplace(name, &value);
  std::string out = "{";
  for (const auto& [name, value] : sorted) {
    if (out.size() > 1) out += ',';
    print_quoted(out, name);
    out += ':';
    print_json(out, *value);
  }
  return out + "}";
}

/// `{"name":"web"}`: what most keys are, and as it should be written.
bool is_plain_key(std::string_view text) {
  const auto take = [&](std::string_view expected) {
    if (!text.starts_with(expected)) return false;
    text.remove_prefix(expected.size());
    return true;
  };
  const auto take_word = [&] {
    std::size_t end = 0;
    while (end < text.size() && text[end] >= ' ' && text[end] < 0x7f && text[end] != '"' && text[end] != '\\')
      ++end;
    text.remove_prefix(end);
  };
  if (!take("{\"")) return false;
  take_word();
  if (!take("\":\"")) return false;
  take_word();
  return text == "\"}";
}

void collect_paths(const FieldSet& set, const std::string& prefix, std::vector<std::string>& out) {
  for (const auto& [element, below] : set.children) {
    const std::string path = prefix + element.path_text();
    if (below.member) out.push_back(path);
    collect_paths(below, path, out);
  }
}

Result<FieldSet> read(const json::value& fields, int depth) {
  if (!fields.is_object() || depth > kDepthMax)
    return Error(Error::invalid, "api", "fieldsV1 must be nested objects of at most 512 levels");
  FieldSet set;
  set.children.reserve(fields.get_object().size());
  for (const auto& [key, below] : fields.get_object()) {
    if (std::string_view(key) == ".") {
      set.member = true;
      continue;
    }
    auto element = PathElement::parse(key);
    if (!element)
      return Error(Error::invalid, "api", "fieldsV1 has a path element that is none: " + std::string(key));
    ORC_ASSIGN(FieldSet child, read(below, depth + 1));
    // {} is a member without longer paths.
    if (child.children.empty()) child.member = true;
    set.children.append(std::move(*element), std::move(child));
  }
  set.children.settle();
  return set;
}

bool before(const FieldNode& node, const PathElement& element) { return (node.element <=> element) < 0; }

/// Names first: a node with another kind of element comes behind every name.
bool before_name(const FieldNode& node, std::string_view name) {
  return node.element.kind == PathElement::Kind::field && std::string_view(node.element.word) < name;
}

bool is_field(const FieldNode& node, std::string_view name) {
  return node.element.kind == PathElement::Kind::field && node.element.word == name;
}

}  // namespace

std::weak_ordering operator<=>(const PathElement& a, const PathElement& b) {
  if (a.kind != b.kind) return a.kind <=> b.kind;
  return a.kind == PathElement::Kind::field ? a.word <=> b.word : compare_words(a.word, b.word);
}

FieldNodes::Row::const_iterator FieldNodes::find(const PathElement& element) const {
  const auto at = std::lower_bound(row_.begin(), row_.end(), element, before);
  return at != row_.end() && at->element == element ? at : row_.end();
}

FieldNodes::Row::const_iterator FieldNodes::find_field(std::string_view name) const {
  const auto at = std::lower_bound(row_.begin(), row_.end(), name, before_name);
  return at != row_.end() && is_field(*at, name) ? at : row_.end();
}

FieldNodes::Row::iterator FieldNodes::find_field(std::string_view name) {
  const auto at = std::lower_bound(row_.begin(), row_.end(), name, before_name);
  return at != row_.end() && is_field(*at, name) ? at : row_.end();
}

FieldSet& FieldNodes::operator[](PathElement element) {
  auto at = std::lower_bound(row_.begin(), row_.end(), element, before);
  if (at == row_.end() || at->element != element)
    at = row_.insert(at, FieldNode{std::move(element), FieldSet()});
  return at->below;
}

void FieldNodes::erase_field(std::string_view name) {
  if (const auto at = find_field(name); at != row_.end()) row_.erase(at);
}

FieldSet& FieldNodes::append(PathElement element, FieldSet below) {
  return row_.emplace_back(FieldNode{std::move(element), std::move(below)}).below;
}

void FieldNodes::settle() {
  const auto by_element = [](const FieldNode& a, const FieldNode& b) {
    return (a.element <=> b.element) < 0;
  };
  const auto not_before = [&](const FieldNode& a, const FieldNode& b) { return !by_element(a, b); };
  if (std::adjacent_find(row_.begin(), row_.end(), not_before) == row_.end()) return;
  // What is united of equal elements is the same in any order.
  std::sort(row_.begin(), row_.end(), by_element);
  std::size_t kept = 0;
  for (std::size_t i = 1; i < row_.size(); ++i) {
    if (row_[kept].element == row_[i].element) {
      row_[kept].below = FieldSet::united(std::move(row_[kept].below), row_[i].below);
    } else if (++kept != i) {
      row_[kept] = std::move(row_[i]);
    }
  }
  if (!row_.empty()) row_.resize(kept + 1);
}

std::optional<PathElement> PathElement::parse(std::string_view text) {
  if (text.size() < 2 || text[1] != ':') return std::nullopt;
  const std::string_view rest = text.substr(2);
  if (text[0] == 'f') return field(rest);
  if (text[0] == 'k' && is_plain_key(rest)) return PathElement{Kind::key, std::string(rest)};
  auto value = parse_json(rest);
  if (!value) return std::nullopt;
  if (text[0] == 'k' && value->is_object()) return PathElement{Kind::key, sorted_word(value->get_object())};
  if (text[0] == 'v') return PathElement{Kind::value, to_json(*value)};
  if (text[0] == 'i' && value->is_int64()) return PathElement{Kind::index, to_json(*value)};
  return std::nullopt;
}

std::string PathElement::text() const {
  static constexpr char kLetters[] = {'f', 'k', 'v', 'i'};
  std::string out = {kLetters[static_cast<std::size_t>(kind)], ':'};
  return out += word;
}

std::string PathElement::path_text() const {
  if (kind == Kind::field) return "." + word;
  if (kind == Kind::value) return "[=" + word + "]";
  if (kind == Kind::index) return "[" + word + "]";
  std::string out = "[";
  const json::value keys = parse_json(word).value();  // ours, so it is JSON
  for (const auto& [key, each] : keys.get_object()) {
    if (out.size() > 1) out += ",";
    out += std::string(key) + "=" + to_json(each);
  }
  return out + "]";
}

std::vector<std::string> FieldSet::paths() const {
  std::vector<std::string> out;
  collect_paths(*this, "", out);
  return out;
}

bool FieldSet::contains(const FieldSet& other) const {
  if (other.member && !member) return false;
  auto own = children.begin();
  for (const auto& [element, below] : other.children) {
    while (own != children.end() && own->element < element) ++own;
    if (own == children.end() || own->element != element || !own->below.contains(below)) return false;
  }
  return true;
}

FieldSet FieldSet::united(FieldSet a, FieldSet&& b) {
  return a.empty() ? std::move(b) : united(std::move(a), static_cast<const FieldSet&>(b));
}

FieldSet FieldSet::united(FieldSet a, const FieldSet& b) {
  if (b.empty()) return a;
  FieldSet out;
  out.member = a.member || b.member;
  auto x = a.children.begin();
  auto y = b.children.begin();
  while (x != a.children.end() || y != b.children.end()) {
    const auto order = x == a.children.end()   ? std::weak_ordering::greater
                       : y == b.children.end() ? std::weak_ordering::less
                                               : x->element <=> y->element;
    if (order > 0) {
      out.children.append(y->element, y->below);
    } else if (order < 0) {
      out.children.append(std::move(x->element), std::move(x->below));
    } else {
      out.children.append(std::move(x->element), united(std::move(x->below), y->below));
    }
    if (order <= 0) ++x;
    if (order >= 0) ++y;
  }
  return out;
}

FieldSet FieldSet::common(const FieldSet& a, const FieldSet& b) {
  FieldSet out;
  out.member = a.member && b.member;
  auto x = a.children.begin();
  auto y = b.children.begin();
  while (x != a.children.end() && y != b.children.end()) {
    const auto order = x->element <=> y->element;
    if (order == 0) {
      if (FieldSet shared = common(x->below, y->below); !shared.empty())
        out.children.append(x->element, std::move(shared));
    }
    if (order <= 0) ++x;
    if (order >= 0) ++y;
  }
  return out;
}

FieldSet FieldSet::without(FieldSet a, const FieldSet& b) {
  if (b.empty()) return a;
  FieldSet out;
  out.member = a.member && !b.member;
  auto y = b.children.begin();
  for (auto& [element, below] : a.children) {
    while (y != b.children.end() && y->element < element) ++y;
    const bool in_both = y != b.children.end() && y->element == element;
    FieldSet left = in_both ? without(std::move(below), y->below) : std::move(below);
    if (!left.empty()) out.children.append(std::move(element), std::move(left));
  }
  return out;
}

bool operator==(const FieldSet& a, const FieldSet& b) {
  return a.member == b.member &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end());
}

Result<FieldSet> FieldSet::from_json(const json::value& fields) { return read(fields, 0); }

void FieldSet::print(std::string& out) const {
  if (children.empty()) {
    out += "{}";
    return;
  }
  char opening = '{';
  if (member) {
    out += "{\".\":{}";
    opening = ',';
  }
  for (const auto& [element, below] : children) {
    out += opening;
    opening = ',';
    if (element.kind == PathElement::Kind::field && prints_plainly(element.word)) {
      out += "\"f:";
      out += element.word;
      out += '"';
    } else {
      print_quoted(out, element.text());
    }
    out += ':';
    below.print(out);
  }
  out += '}';
}

namespace {
/// A JSON string as print() writes it, at the beginning of `text`, which moves on; nullopt: it has escapes
/// other than of quotes and backslashes, or is none. Into `room` where it has some.
std::optional<std::string_view> take_string(std::string_view& text, std::string& room) {
  if (!text.starts_with('"')) return std::nullopt;
  const std::size_t end = text.find('"', 1);
  if (end == std::string_view::npos) return std::nullopt;
  if (const std::string_view out = text.substr(1, end - 1); out.find('\\') == std::string_view::npos) {
    text.remove_prefix(end + 1);
    return out;
  }
  room.clear();
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (text[at] == '"') {
      text.remove_prefix(at + 1);
      return room;
    }
    if (text[at] == '\\' && (++at == text.size() || (text[at] != '"' && text[at] != '\\')))
      return std::nullopt;
    room += text[at];
  }
  return std::nullopt;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

std::optional<FieldSet> take_set(std::string_view& text, std::string& room, int depth) {
  if (depth > kDepthMax || !take(text, "{")) return std::nullopt;
  FieldSet set;
  while (!take(text, "}")) {
    if ((set.member || !set.children.empty()) && !take(text, ",")) return std::nullopt;
    const auto key = take_string(text, room);
    if (!key || !take(text, ":")) return std::nullopt;
    if (*key == ".") {
      if (!take(text, "{}")) return std::nullopt;
      set.member = true;
      continue;
    }
    auto element = PathElement::parse(*key);
    if (!element) return std::nullopt;
    auto below = take_set(text, room, depth + 1);
    if (!below) return std::nullopt;
    if (below->children.empty()) below->member = true;
    set.children.append(std::move(*element), std::move(*below));
  }
  set.children.settle();
  return set;
}
}  // namespace

std::optional<FieldSet> FieldSet::take_printed(std::string_view& text) {
  std::string room;
  return take_set(text, room, 0);
}

json::object FieldSet::to_json(const json::storage_ptr& memory) const {
  json::object out(memory);
  out.reserve(static_cast<std::size_t>(children.end() - children.begin()) + 1);
  if (member && !children.empty()) out.emplace(".", json::object(memory));
  for (const auto& [element, below] : children) out.emplace(element.text(), below.to_json(memory));
  return out;
}

}  // namespace orchestra::api
