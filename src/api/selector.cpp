// Label and field selectors: k8s.io/apimachinery/pkg/labels/selector.go and pkg/fields/selector.go.
#include "orchestra/selector.hpp"

#include <algorithm>
#include <charconv>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/status.hpp"
#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra {
namespace {

using Requirement = Selector::Requirement;
using Operator = Selector::Operator;

constexpr std::size_t kTextMax = 64 << 10;
constexpr std::size_t kRequirementsMax = 1000;

Error malformed(std::string_view text, std::string_view why) {
  return Error(Error::invalid, "selector",
               "unable to parse selector \"" + std::string(text) + "\": " + std::string(why));
}

bool is_special(char c) {
  return c == '=' || c == '!' || c == '(' || c == ')' || c == ',' || c == '>' || c == '<';
}
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// Words and symbols of the label selector grammar.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}
  /// "" at the end; `==` and `!=` are one token.
  std::string_view next() {
    const std::string_view token = peek();
    at_ = start_ + token.size();
    return token;
  }
  std::string_view peek() {
    start_ = at_;
    while (start_ < text_.size() && is_space(text_[start_])) ++start_;
    if (start_ == text_.size()) return {};
    std::size_t end = start_ + 1;
    if (is_special(text_[start_])) {
      const bool two =
          (text_[start_] == '=' || text_[start_] == '!') && end < text_.size() && text_[end] == '=';
      return text_.substr(start_, two ? 2 : 1);
    }
    while (end < text_.size() && !is_special(text_[end]) && !is_space(text_[end])) ++end;
    return text_.substr(start_, end - start_);
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0, start_ = 0;
};

bool is_symbol(std::string_view token) { return token.empty() || is_special(token.front()); }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), lexer_(text) {}

  Result<std::vector<Requirement>> read() {
    std::vector<Requirement> out;
    if (lexer_.peek().empty()) return out;
    for (;;) {
      ORC_ASSIGN(Requirement requirement, one());
      if (out.size() == kRequirementsMax) return malformed(text_, "more than 1000 requirements");
      out.push_back(std::move(requirement));
      const std::string_view token = lexer_.next();
      if (token.empty()) return out;
      if (token != ",") return wrong(token, "expected: ',' or 'end of string'");
      if (lexer_.peek().empty()) return out;  // a trailing comma, as upstream allows
    }
  }

 private:
  Error wrong(std::string_view token, std::string_view expected) {
    return malformed(text_, "found '" + std::string(token) + "', " + std::string(expected));
  }
  Result<Requirement> one() {
    Requirement out;
    std::string_view token = lexer_.next();
    const bool negated = token == "!";
    if (negated) token = lexer_.next();
    if (is_symbol(token)) return wrong(token, "expected: !, identifier, or 'end of string'");
    out.key = token;
    if (const std::string bad = api::check_qualified_name(out.key); !bad.empty()) {
      return malformed(text_, "key \"" + out.key + "\": " + bad);
    }
    const std::string_view next = lexer_.peek();
    if (negated || next.empty() || next == ",") {
      out.op = negated ? Operator::absent : Operator::exists;
      return out;
    }
    lexer_.next();
    if (next == "in" || next == "notin") {
      out.op = next == "in" ? Operator::in : Operator::not_in;
      ORC_TRY(value_set(out.values));
    } else if (next == "=" || next == "==" || next == "!=") {
      out.op = next == "!=" ? Operator::not_in : Operator::in;
      out.values.push_back(single());
    } else if (next == ">" || next == "<") {
      out.op = next == ">" ? Operator::greater : Operator::less;
      out.values.push_back(single());
      std::int64_t number = 0;
      const std::string& text = out.values.front();
      const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (failed != std::errc() || end != text.data() + text.size()) {
        return malformed(text_, "for 'Gt', 'Lt' operators, the value must be an integer");
      }
    } else {
      return wrong(next, "expected: in, notin, =, ==, !=, gt, lt");
    }
    for (const std::string& value : out.values) {
      if (const std::string bad = api::check_label_value(value); !bad.empty()) {
        return malformed(text_, "value \"" + value + "\": " + bad);
      }
    }
    return out;
  }
  /// A value, or nothing before a comma or the end.
  std::string single() {
    const std::string_view token = lexer_.peek();
    if (is_symbol(token)) return {};
    return std::string(lexer_.next());
  }
  Result<void> value_set(std::vector<std::string>& values) {
    if (const std::string_view open = lexer_.next(); open != "(") return wrong(open, "expected: '('");
    for (;;) {
      values.push_back(single());
      const std::string_view token = lexer_.next();
      if (token == ")") break;
      if (token != ",") return wrong(token, "expected: ',', ')' or identifier");
    }
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return {};
  }

  std::string_view text_;
  Lexer lexer_;
};

void sort_by_key(std::vector<Requirement>& requirements) {
  std::stable_sort(requirements.begin(), requirements.end(),
                   [](const Requirement& a, const Requirement& b) { return a.key < b.key; });
}

Result<Requirement> expression_of(const json::object& expression) {
  Requirement out;
  out.key = api::text_of(expression, "key");
  const std::string_view op = api::text_of(expression, "operator");
  for (const json::value& value : api::array_or_empty(expression, "values")) {
    if (value.is_string()) out.values.emplace_back(value.get_string());
  }
  std::sort(out.values.begin(), out.values.end());
  if (op == "In")
    out.op = Operator::in;
  else if (op == "NotIn")
    out.op = Operator::not_in;
  else if (op == "Exists")
    out.op = Operator::exists;
  else if (op == "DoesNotExist")
    out.op = Operator::absent;
  else
    return Error(Error::invalid, "selector",
                 "\"" + std::string(op) + "\" is not a valid label selector operator");
  if ((op == "In" || op == "NotIn") && out.values.empty()) {
    return Error(Error::invalid, "selector",
                 "for 'in', 'notin' operators, values set can't be empty (key \"" + out.key + "\")");
  }
  return out;
}

bool compares(const std::string& label, const std::string& bound, bool greater) {
  std::int64_t a = 0, b = 0;
  const auto left = std::from_chars(label.data(), label.data() + label.size(), a);
  const auto right = std::from_chars(bound.data(), bound.data() + bound.size(), b);
  if (left.ec != std::errc() || right.ec != std::errc() || left.ptr != label.data() + label.size())
    return false;
  return greater ? a > b : a < b;
}

/// Undone by FieldSelector::parse.
std::string escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == ',' || c == '=') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

bool Selector::Requirement::matches(const std::map<std::string, std::string>& labels) const {
  const auto found = labels.find(key);
  const bool has = found != labels.end();
  switch (op) {
    case Operator::in:
      return has && std::binary_search(values.begin(), values.end(), found->second);
    case Operator::not_in:
      return !has || !std::binary_search(values.begin(), values.end(), found->second);
    case Operator::exists:
      return has;
    case Operator::absent:
      return !has;
    case Operator::greater:
    case Operator::less:
      return has && compares(found->second, values.front(), op == Operator::greater);
  }
  return false;
}

Result<Selector> Selector::parse(std::string_view text) {
  if (text.size() > kTextMax) return malformed(text.substr(0, 64), "it is longer than 64 KiB");
  ORC_ASSIGN(std::vector<Requirement> requirements, Parser(text).read());
  Selector selector;
  selector.requirements_ = std::move(requirements);
  sort_by_key(selector.requirements_);
  return selector;
}

Result<Selector> Selector::from_label_selector(std::string_view text) {
  if (text.empty()) return nothing();
  ORC_ASSIGN(json::value tree, parse_json(text));
  return api::selector_of(&tree);
}

Selector Selector::from_map(const std::map<std::string, std::string>& labels) {
  Selector selector;
  for (const auto& [key, value] : labels) selector.requirements_.push_back({key, Operator::in, {value}});
  return selector;
}

Selector Selector::from_requirements(std::vector<Requirement> requirements) {
  Selector selector;
  selector.requirements_ = std::move(requirements);
  sort_by_key(selector.requirements_);
  return selector;
}

Selector Selector::nothing() {
  Selector selector;
  selector.nothing_ = true;
  return selector;
}

bool Selector::matches(const std::map<std::string, std::string>& labels) const {
  return !nothing_ &&
         std::all_of(requirements_.begin(), requirements_.end(),
                     [&](const Requirement& requirement) { return requirement.matches(labels); });
}

std::string Selector::to_string() const {
  std::string out;
  for (const Requirement& requirement : requirements_) {
    if (!out.empty()) out += ',';
    std::string values;
    // The empty value sorts first, and its comma counts: "in (,x)".
    for (const std::string& value : requirement.values)
      values += (&value == &requirement.values.front() ? "" : ",") + value;
    const bool one = requirement.values.size() == 1;
    switch (requirement.op) {
      case Operator::in:
        out += one ? requirement.key + "=" + values : requirement.key + " in (" + values + ")";
        break;
      case Operator::not_in:
        out += one ? requirement.key + "!=" + values : requirement.key + " notin (" + values + ")";
        break;
      case Operator::exists:
        out += requirement.key;
        break;
      case Operator::absent:
        out += "!" + requirement.key;
        break;
      case Operator::greater:
        out += requirement.key + ">" + values;
        break;
      case Operator::less:
        out += requirement.key + "<" + values;
        break;
    }
  }
  return out;
}

Result<FieldSelector> FieldSelector::parse(std::string_view text) {
  FieldSelector selector;
  if (text.size() > kTextMax) return malformed(text.substr(0, 64), "it is longer than 64 KiB");
  std::string part;
  const auto finish = [&]() -> Result<void> {
    if (part.empty()) return {};
    // `!=` and `==` before `=`; the first operator counts.
    const std::size_t at = part.find('=');
    if (at == std::string::npos || at == 0) {
      return Error(Error::invalid, "selector",
                   "invalid selector: '" + std::string(text) + "'; can't understand '" + part + "'");
    }
    Term term;
    term.equal = part[at - 1] != '!';
    term.field = part.substr(0, term.equal ? at : at - 1);
    std::string_view value = std::string_view(part).substr(at + 1);
    if (term.equal && value.starts_with('=')) value.remove_prefix(1);
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (value[i] == '\\' && i + 1 < value.size()) ++i;  // \\ \, \=
      term.value += value[i];
    }
    if (selector.terms_.size() == kRequirementsMax)
      return malformed(text.substr(0, 64), "more than 1000 terms");
    selector.terms_.push_back(std::move(term));
    part.clear();
    return {};
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      part += text[i++];
      part += text[i];
    } else if (text[i] == ',') {
      ORC_TRY(finish());
    } else {
      part += text[i];
    }
  }
  ORC_TRY(finish());
  return selector;
}

bool FieldSelector::matches(const std::function<std::string(std::string_view)>& value_of) const {
  return std::all_of(terms_.begin(), terms_.end(),
                     [&](const Term& term) { return (value_of(term.field) == term.value) == term.equal; });
}

std::optional<std::string> FieldSelector::required_value(std::string_view field) const {
  for (const Term& term : terms_) {
    if (term.equal && term.field == field) return term.value;
  }
  return std::nullopt;
}

std::string FieldSelector::to_string() const {
  std::string out;
  for (const Term& term : terms_)
    out += (out.empty() ? "" : ",") + term.field + (term.equal ? "=" : "!=") + escaped(term.value);
  return out;
}

namespace api {

Result<FieldSelector> parse_field_selector(const TypeRecord& record, std::string_view text) {
  Result<FieldSelector> selector = FieldSelector::parse(text);
  if (!selector) return bad_request(selector.error().message());
  bool renamed = false;
  std::string own;  // the selector in the words of what is stored
  for (const FieldSelector::Term& term : selector->terms()) {
    const auto known = [&](const SelectableField& field) {
      return field.offered && field.label == term.field;
    };
    const auto field = std::find_if(record.selectable.begin(), record.selectable.end(), known);
    const bool meta =
        term.field == "metadata.name" || (term.field == "metadata.namespace" && record.namespaced);
    if (!meta && field == record.selectable.end())
      return bad_request("field label not supported: " + term.field);
    const bool other = !meta && !field->stored.empty();
    renamed = renamed || other;
    own += (own.empty() ? "" : ",") + (other ? field->stored : term.field) + (term.equal ? "=" : "!=") +
           term.value;
  }
  return renamed ? FieldSelector::parse(own) : selector;
}

Result<Selector> parse_label_selector(std::string_view text) {
  Result<Selector> selector = Selector::parse(text);
  if (!selector) return bad_request(selector.error().message());
  return selector;
}

std::string field_value(const TypeRecord& record, const json::value& object, std::string_view field) {
  if (field == "metadata.name") return string_at(object, "/metadata/name");
  if (field == "metadata.namespace") return string_at(object, "/metadata/namespace");
  for (const SelectableField& each : record.selectable) {
    if (each.label != field) continue;
    const json::value* value = find(object, each.pointer);
    if (value == nullptr) return each.absent;
    return value->is_string() ? std::string(value->get_string()) : to_json(*value);
  }
  return {};
}

bool matches(const TypeRecord& record, const FieldSelector& selector, const json::value& object) {
  return selector.matches([&](std::string_view field) { return field_value(record, object, field); });
}

std::map<std::string, std::string> labels_of(const json::value& object) {
  std::map<std::string, std::string> labels;
  if (const json::object* found = object_at(object, "/metadata/labels")) {
    for (const auto& [key, value] : *found) {
      if (value.is_string()) labels.emplace(std::string(key), std::string(value.get_string()));
    }
  }
  return labels;
}

Result<Selector> selector_of(const json::value* label_selector) {
  if (label_selector == nullptr || !label_selector->is_object()) return Selector::nothing();
  const json::object& fields = label_selector->get_object();
  std::map<std::string, std::string> labels;
  for (const auto& [key, value] : object_or_empty(fields, "matchLabels")) {
    if (value.is_string()) labels.emplace(std::string(key), std::string(value.get_string()));
  }
  std::vector<Selector::Requirement> requirements = Selector::from_map(labels).requirements();
  for (const json::value& item : array_or_empty(fields, "matchExpressions")) {
    if (!item.is_object()) continue;
    ORC_ASSIGN(Selector::Requirement requirement, expression_of(item.get_object()));
    requirements.push_back(std::move(requirement));
  }
  return Selector::from_requirements(std::move(requirements));
}

}  // namespace api
}  // namespace orchestra
