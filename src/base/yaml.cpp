// compile: alone (orchestra-oci takes the rest of base, and links without libyaml)
// YAML to JSON as sigs.k8s.io/yaml does it.
//
// libyaml gives events (its grammar is the reference); this file decides what a plain scalar means (the rules
// of go-yaml v2: YAML 1.1 with `0644` octal, yes/no/on/off booleans, `<<` merges, timestamps stay text) and
// builds the JSON tree. Anchors are copied where they are used, so the number of nodes is bounded: a few
// lines of nested aliases would otherwise fill the memory.
#include "base/yaml.hpp"

#include <yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "base/base64.hpp"
#include "base/yaml_marks.hpp"

namespace orchestra {
namespace {

constexpr int kDepthMax = 512;
constexpr std::size_t kNodesMax = 2'000'000;  ///< after expansion of aliases; a 3 MiB body has fewer
constexpr std::size_t kDocumentsMax = 10'000;

Error yaml_error(std::string_view what, std::size_t line, std::size_t column) {
  return Error(Error::invalid, "yaml",
               "line " + std::to_string(line + 1) + " column " + std::to_string(column + 1) + ": " +
                   std::string(what));
}

// --- what a plain scalar means
// -------------------------------------------------------------------------------

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

std::optional<json::value> read_word(std::string_view text) {
  if (one_of(text, {"", "~", "null", "Null", "NULL"})) return json::value(nullptr);
  if (one_of(text, {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}))
    return json::value(true);
  if (one_of(text, {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})) {
    return json::value(false);
  }
  return std::nullopt;
}

/// Go's strconv.ParseInt(text, 0, 64): 0x, 0o, 0b, and a leading 0 is octal. Underscores are gone already.
std::optional<json::value> read_integer(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    negative = text.front() == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.size() > 1 && text.front() == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    text.remove_prefix(mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
  }
  std::uint64_t magnitude = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (text.empty() || failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  constexpr std::uint64_t kInt64Max = static_cast<std::uint64_t>(INT64_MAX);
  if (negative) {
    if (magnitude > kInt64Max + 1) return std::nullopt;
    return json::value(static_cast<std::int64_t>(0 - magnitude));
  }
  if (magnitude > kInt64Max) return json::value(magnitude);
  return json::value(static_cast<std::int64_t>(magnitude));
}

/// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
bool looks_like_float(std::string_view text) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t start = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - start;
  };
  if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
  const std::size_t whole = digits();
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (digits() == 0 && whole == 0) return false;
  } else if (whole == 0) {
    return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

std::optional<json::value> read_float(std::string_view text) {
  if (!looks_like_float(text)) return std::nullopt;
  if (text.front() == '+') text.remove_prefix(1);
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  // Go prints a whole float as an integer, and the next decoder reads an integer.
  if (number == std::floor(number) && std::fabs(number) < 9e15)
    return json::value(static_cast<std::int64_t>(number));
  return json::value(number);
}

std::optional<json::value> read_number(std::string_view plain) {
  std::string text(plain);
  std::erase(text, '_');
  if (auto integer = read_integer(text)) return integer;
  return read_float(text);
}

/// Numbers of YAML that JSON has not got.
bool is_no_json_number(std::string_view text) {
  return one_of(text, {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                       ".NaN", ".NAN"});
}

/// A plain (unquoted) scalar without a tag.
json::value resolve_plain(std::string_view text) {
  if (auto word = read_word(text)) return *word;
  const char first = text.front();
  if ((first >= '0' && first <= '9') || first == '-' || first == '+' || first == '.') {
    if (auto number = read_number(text)) return *number;
  }
  return json::value(text);
}

// --- events to trees
// -------------------------------------------------------------------------------------------

/// Owns one libyaml event.
class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  yaml_event_t* raw() { return &event_; }
  yaml_event_type_t type() const { return event_.type; }
  const yaml_event_t* operator->() const { return &event_; }
  Error error(std::string_view what) const {
    return yaml_error(what, event_.start_mark.line, event_.start_mark.column);
  }

 private:
  yaml_event_t event_{};
};

std::string_view text_of(const yaml_char_t* bytes) {
  return bytes == nullptr ? std::string_view() : std::string_view(reinterpret_cast<const char*>(bytes));
}

class Reader {
 public:
  explicit Reader(std::string_view text) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  ~Reader() { yaml_parser_delete(&parser_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Result<std::vector<json::value>> documents();
  std::vector<std::string>& duplicates() { return duplicates_; }
  /// From now on each path and where it is.
  void mark(std::map<std::string, YamlMark, std::less<>>& marks) { marks_ = &marks; }

 private:
  Result<void> next(Event& event);
  Result<json::value> node(const Event& event, int depth, const std::string& path);
  Result<json::value> scalar(const Event& event);
  Result<json::value> sequence(int depth, const std::string& path);
  Result<json::value> mapping(int depth, const std::string& path);
  Result<std::string> key(const Event& event);
  Result<void> merge(const Event& at, const json::value& from, json::object& into);
  Result<json::value> alias(const Event& event);
  void remember(const yaml_char_t* anchor, const json::value& value, std::size_t nodes_before);

  struct Anchor {
    json::value value;
    std::size_t nodes = 0;
  };
  yaml_parser_t parser_{};
  std::map<std::string, Anchor, std::less<>> anchors_;
  void mark(const Event& event, const std::string& path) {
    const auto& at = event->start_mark;
    if (marks_ != nullptr) marks_->insert_or_assign(path, YamlMark{at.line + 1, at.column + 1});
  }
  std::vector<std::string> duplicates_;
  std::map<std::string, YamlMark, std::less<>>* marks_ = nullptr;
  std::size_t nodes_ = 0;
};

Result<void> Reader::next(Event& event) {
  if (yaml_parser_parse(&parser_, event.raw()) != 0) return {};
  std::string what = parser_.problem != nullptr ? parser_.problem : "malformed YAML";
  if (parser_.context != nullptr) what = std::string(parser_.context) + ": " + what;
  if (parser_.error == YAML_READER_ERROR) {
    return Error(Error::invalid, "yaml", what + " at byte " + std::to_string(parser_.problem_offset));
  }
  return yaml_error(what, parser_.problem_mark.line, parser_.problem_mark.column);
}

Result<json::value> Reader::scalar(const Event& event) {
  const auto& data = event->data.scalar;
  const std::string_view text(reinterpret_cast<const char*>(data.value), data.length);
  const std::string_view tag = text_of(data.tag);
  if (tag == "tag:yaml.org,2002:binary") {
    std::string compact(text);
    std::erase_if(compact, [](char c) { return c == ' ' || c == '\n'; });
    if (auto bytes = decode_base64_text(compact)) return json::value(*bytes);
    return event.error("!!binary value contains invalid base64 data");
  }
  if (tag == "tag:yaml.org,2002:int" || tag == "tag:yaml.org,2002:float") {
    if (auto number = read_number(text)) return *number;
    return event.error("cannot read \"" + std::string(text) + "\" as a number");
  }
  if (tag == "tag:yaml.org,2002:bool" || tag == "tag:yaml.org,2002:null") {
    if (auto word = read_word(text)) return *word;
    return event.error("cannot read \"" + std::string(text) + "\" as " + std::string(tag.substr(18)));
  }
  if (!tag.empty() || data.style != YAML_PLAIN_SCALAR_STYLE) return json::value(text);
  if (is_no_json_number(text)) {
    return event.error("JSON has no number for \"" + std::string(text) + "\"; quote it if it is text");
  }
  return resolve_plain(text);
}

Result<json::value> Reader::alias(const Event& event) {
  const std::string name(text_of(event->data.alias.anchor));
  const auto found = anchors_.find(name);
  if (found == anchors_.end()) return event.error("unknown anchor \"" + name + "\" referenced");
  nodes_ += found->second.nodes;
  if (nodes_ > kNodesMax)
    return event.error("the document has too many values after its aliases are expanded");
  return found->second.value;
}

void Reader::remember(const yaml_char_t* anchor, const json::value& value, std::size_t nodes_before) {
  if (anchor != nullptr) anchors_[std::string(text_of(anchor))] = Anchor{value, nodes_ - nodes_before};
}

Result<json::value> Reader::node(const Event& event, int depth, const std::string& path) {
  const bool holds = event.type() == YAML_SEQUENCE_START_EVENT || event.type() == YAML_MAPPING_START_EVENT;
  if (depth > kDepthMax || (holds && depth == kDepthMax))
    return event.error("the document nests deeper than " + std::to_string(kDepthMax) + " levels");
  const std::size_t before = nodes_;
  if (++nodes_ > kNodesMax)
    return event.error("the document has more than " + std::to_string(kNodesMax) + " values");
  switch (event.type()) {
    case YAML_SCALAR_EVENT: {
      ORC_ASSIGN(json::value value, scalar(event));
      remember(event->data.scalar.anchor, value, before);
      return value;
    }
    case YAML_ALIAS_EVENT:
      return alias(event);
    case YAML_SEQUENCE_START_EVENT: {
      ORC_ASSIGN(json::value value, sequence(depth, path));
      remember(event->data.sequence_start.anchor, value, before);
      return value;
    }
    case YAML_MAPPING_START_EVENT: {
      ORC_ASSIGN(json::value value, mapping(depth, path));
      remember(event->data.mapping_start.anchor, value, before);
      return value;
    }
    default:
      return event.error("a value was expected here");
  }
}

Result<json::value> Reader::sequence(int depth, const std::string& path) {
  json::array items;
  for (;;) {
    Event event;
    ORC_TRY(next(event));
    if (event.type() == YAML_SEQUENCE_END_EVENT) return json::value(std::move(items));
    const std::string below = path + "[" + std::to_string(items.size()) + "]";
    mark(event, below);
    ORC_ASSIGN(json::value item, node(event, depth + 1, below));
    items.push_back(std::move(item));
  }
}

/// JSON keys are strings: numbers and booleans are printed, anything else is refused.
Result<std::string> Reader::key(const Event& event) {
  if (event.type() == YAML_ALIAS_EVENT) {
    ORC_ASSIGN(json::value value, alias(event));
    if (value.is_string()) return std::string(value.get_string());
    return event.error("a mapping key must be a string");
  }
  if (event.type() != YAML_SCALAR_EVENT)
    return event.error("a mapping key must be a string, a number or a boolean");
  ORC_ASSIGN(json::value value, scalar(event));
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_null()) return event.error("a mapping key must not be null; quote it if it is text");
  return to_json(value);
}

/// `<<: *base` or `<<: [*a, *b]`: keys that are not there yet; earlier maps win.
Result<void> Reader::merge(const Event& at, const json::value& from, json::object& into) {
  if (from.is_object()) {
    for (const auto& [name, value] : from.get_object()) {
      if (!into.contains(name)) into.emplace(name, value);
    }
    return {};
  }
  if (!from.is_array()) return at.error("map merge requires map or sequence of maps as the value");
  for (const json::value& each : from.get_array()) {
    if (!each.is_object()) return at.error("map merge requires map or sequence of maps as the value");
    ORC_TRY(merge(at, each, into));
  }
  return {};
}

Result<json::value> Reader::mapping(int depth, const std::string& path) {
  json::object object;
  std::optional<json::value> merged;
  Event merge_event;
  for (;;) {
    Event key_event;
    ORC_TRY(next(key_event));
    if (key_event.type() == YAML_MAPPING_END_EVENT) break;
    ORC_ASSIGN(std::string name, key(key_event));
    const bool is_merge = name == "<<" && key_event.type() == YAML_SCALAR_EVENT &&
                          key_event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const std::string below = path.empty() ? name : path + "." + name;
    mark(key_event, below);
    Event value_event;
    ORC_TRY(next(value_event));
    ORC_ASSIGN(json::value value, node(value_event, depth + 1, below));
    if (is_merge) {
      json::object base;
      ORC_TRY(merge(key_event, value, base));
      merged = std::move(base);
      continue;
    }
    const auto [place, inserted] = object.insert_or_assign(name, std::move(value));
    if (!inserted) duplicates_.push_back(below);
  }
  if (merged) ORC_TRY(merge(merge_event, *merged, object));
  return json::value(std::move(object));
}

Result<std::vector<json::value>> Reader::documents() {
  std::vector<json::value> out;
  for (;;) {
    Event event;
    ORC_TRY(next(event));
    switch (event.type()) {
      case YAML_STREAM_END_EVENT:
        return out;
      case YAML_STREAM_START_EVENT:
      case YAML_DOCUMENT_END_EVENT:
        break;
      case YAML_DOCUMENT_START_EVENT: {
        anchors_.clear();
        Event root;
        ORC_TRY(next(root));
        ORC_ASSIGN(json::value value, node(root, 0, {}));
        if (out.size() == kDocumentsMax) {
          return event.error("more than " + std::to_string(kDocumentsMax) + " documents in one text");
        }
        if (!value.is_null()) out.push_back(std::move(value));
        break;
      }
      default:
        return event.error("a document was expected here");
    }
  }
}

// --- trees to text
// ---------------------------------------------------------------------------------------------

/// Line breaks of YAML that are none of JSON, and the mark of byte order: what a reader would fold or drop.
constexpr std::pair<std::string_view, std::string_view> kEscaped[] = {{"\xC2\x85", "\\u0085"},
                                                                      {"\xE2\x80\xA8", "\\u2028"},
                                                                      {"\xE2\x80\xA9", "\\u2029"},
                                                                      {"\xEF\xBB\xBF", "\\uFEFF"}};

bool printable(std::string_view text) {
  for (const auto& [bytes, escape] : kEscaped) {
    if (text.find(bytes) != std::string_view::npos) return false;
  }
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t';
  });
}

bool needs_quotes(std::string_view text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ' || text.back() == ':') return true;
  if (std::string_view("-?:,[]{}#&*!|>'\"%@`=~<").find(text.front()) != std::string_view::npos) {
    // "-name" and ":80" are plain in YAML, but quoting them is always right.
    return true;
  }
  if (text.find(": ") != std::string_view::npos || text.find(" #") != std::string_view::npos) return true;
  if (text.find('\n') != std::string_view::npos || text.find('\t') != std::string_view::npos ||
      !printable(text)) {
    return true;
  }
  // A date stays text for sigs.k8s.io/yaml, but other readers make it a time.
  if (text.size() >= 8 && text[0] >= '0' && text[0] <= '9' && text.find('-') != std::string_view::npos)
    return true;
  return is_no_json_number(text) || !resolve_plain(text).is_string();
}

std::string quoted(std::string_view text) {
  std::string out = json::serialize(json::string(text));
  for (const auto& [bytes, escape] : kEscaped) {
    for (std::size_t at = out.find(bytes); at != std::string::npos; at = out.find(bytes, at + escape.size()))
      out.replace(at, bytes.size(), escape);
  }
  return out;
}

void print_node(const json::value& value, std::string& out, int indent, bool in_list);

void print_text(std::string_view text, std::string& out, int indent) {
  const bool block = text.find('\n') != std::string_view::npos && printable(text) && text.front() != ' ' &&
                     text.front() != '\n' && text.find_first_not_of('\n') != std::string_view::npos &&
                     text.find(" \n") == std::string_view::npos && text.find('\t') == std::string_view::npos;
  if (!block) {
    out += needs_quotes(text) ? quoted(text) : std::string(text);
    return;
  }
  const std::size_t last = text.find_last_not_of('\n');
  const std::size_t trailing = text.size() - last - 1;
  out += trailing == 0 ? "|-" : trailing == 1 ? "|" : "|+";
  std::string_view rest = text;
  if (trailing > 0) rest.remove_suffix(1);
  std::size_t start = 0;
  while (start <= rest.size()) {
    const std::size_t end = std::min(rest.find('\n', start), rest.size());
    out += '\n';
    if (end > start)
      out.append(static_cast<std::size_t>(indent), ' ').append(rest.substr(start, end - start));
    start = end + 1;
  }
}

/// A child of a mapping or sequence: on the same line if short, else below.
void print_child(const json::value& value, std::string& out, int indent, bool in_list) {
  if (value.is_object() && !value.get_object().empty()) {
    if (!in_list) out.append("\n").append(static_cast<std::size_t>(indent), ' ');
    print_node(value, out, indent, in_list);
  } else if (value.is_array() && !value.get_array().empty()) {
    if (!in_list) out.append("\n").append(static_cast<std::size_t>(indent), ' ');
    print_node(value, out, indent, in_list);
  } else {
    print_node(value, out, indent, in_list);
  }
}

void print_node(const json::value& value, std::string& out, int indent, bool) {
  if (value.is_object() && !value.get_object().empty()) {
    bool first = true;
    for (const auto& [name, child] : value.get_object()) {
      if (!std::exchange(first, false)) out.append("\n").append(static_cast<std::size_t>(indent), ' ');
      out += needs_quotes(name) ? quoted(name) : std::string(name);
      out += ':';
      const bool list = child.is_array() && !child.get_array().empty();
      const bool map = child.is_object() && !child.get_object().empty();
      if (!list && !map) out += ' ';
      print_child(child, out, list ? indent : indent + 2,
                  false);  // lists are not indented, as kubectl prints them
    }
  } else if (value.is_array() && !value.get_array().empty()) {
    bool first = true;
    for (const json::value& item : value.get_array()) {
      if (!std::exchange(first, false)) out.append("\n").append(static_cast<std::size_t>(indent), ' ');
      out += "- ";
      print_child(item, out, indent + 2, true);
    }
  } else if (value.is_string()) {
    print_text(std::string_view(value.get_string()), out, indent == 0 ? 2 : indent);
  } else {
    out += to_json(value);
  }
}

}  // namespace

Result<std::vector<json::value>> parse_yaml_documents(std::string_view text) {
  return Reader(text).documents();
}

Result<json::value> parse_yaml(std::string_view text) {
  ORC_ASSIGN(std::vector<json::value> documents, parse_yaml_documents(text));
  if (documents.empty()) return json::value(nullptr);
  if (documents.size() > 1) {
    return Error(
        Error::invalid, "yaml",
        "expected one document but found " + std::to_string(documents.size()) + " (separated by ---)");
  }
  return std::move(documents.front());
}

std::string MarkedYaml::where(std::string_view path) const {
  while (true) {
    const auto found = marks.find(path);
    if (found != marks.end()) {
      return "line " + std::to_string(found->second.line) + " column " + std::to_string(found->second.column);
    }
    if (path.empty()) return "line 1 column 1";
    const auto cut = path.find_last_of(".[");
    path = cut == std::string_view::npos ? std::string_view() : path.substr(0, cut);
  }
}

Result<MarkedYaml> parse_marked_yaml(std::string_view text) {
  MarkedYaml marked;
  Reader reader(text);
  reader.mark(marked.marks);
  ORC_ASSIGN(std::vector<json::value> documents, reader.documents());
  if (documents.size() > 1) {
    return Error(
        Error::invalid, "yaml",
        "expected one document but found " + std::to_string(documents.size()) + " (separated by ---)");
  }
  if (!documents.empty()) marked.value = std::move(documents.front());
  if (!reader.duplicates().empty()) {
    const std::string& twice = reader.duplicates().front();
    return Error(Error::invalid, "yaml", marked.where(twice) + ": " + twice + " is there twice");
  }
  return marked;
}

std::vector<std::string> find_duplicate_yaml_keys(std::string_view text) {
  Reader reader(text);
  if (!reader.documents()) return {};  // the parse that follows reports it
  return std::move(reader.duplicates());
}

std::string to_yaml(const json::value& value) {
  std::string out;
  print_node(value, out, 0, false);
  out += '\n';
  return out;
}

}  // namespace orchestra
