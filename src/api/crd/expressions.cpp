// See expressions.hpp.
#include "api/crd/expressions.hpp"

#include "api/cel/program.hpp"
#include "api/crd/schema_builder.hpp"
#include "api/tree.hpp"
#include "api/walk.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kWord = "x-kubernetes-validations";

class RulesVisitor {
 public:
  RulesVisitor(const json::value* old, FieldErrors& errors) : old_(old), errors_(errors) {}

  bool enter(SchemaRef schema, const json::value& value, const FieldPath& path) {
    if (stopped_) return false;
    const json::object* rules = schema.rules();
    const json::array* list = rules == nullptr ? nullptr : array_of(*rules, kWord);
    if (list == nullptr || list->empty() || value.is_null()) return !value.is_null();
    const json::value* old = old_.current();
    const bool unchanged = old != nullptr && *old == value;
    if (!cel::validate_rules(*list, {schema, &value, old, unchanged}, path, budget_, errors_))
      stopped_ = true;
    return !stopped_;
  }
  bool unknown(const FieldPath&) { return false; }
  bool absent(SchemaRef, const json::value&) { return false; }
  void member(std::string_view name) { old_.member(name); }
  void item(SchemaRef list, const json::value& item) { old_.item(list, item); }
  void leave() { old_.leave(); }

 private:
  OldValues old_;
  FieldErrors& errors_;
  std::uint64_t budget_ = cel::kTotalBudget;
  bool stopped_ = false;
};

// Each node of the schema that has rules, with how often they may run.
class DefinitionCheck {
 public:
  explicit DefinitionCheck(FieldErrors& errors) : errors_(errors) {}

  void look(SchemaRef schema, const FieldPath& path, const cel::RulePlace& place) {
    const json::object* source = schema.rules();
    if (source == nullptr) return;
    if (const json::array* list = array_of(*source, kWord); list != nullptr && !list->empty()) {
      cel::RulePlace here = place;
      here.schema = schema;
      cel::check_rules(*list, here, path / kWord, total_, errors_);
    }
    if (schema.kind() == SchemaKind::object) {
      const FieldPath properties = path / "properties";
      for (std::size_t i = 0; i < schema.size(); ++i)
        look(schema.at(i), properties.key(schema.at(i).name()), place);
    } else if (schema.kind() == SchemaKind::list || schema.kind() == SchemaKind::map) {
      const bool list = schema.kind() == SchemaKind::list;
      cel::RulePlace below = place;
      below.cardinality *= std::max(1.0, cel::elements_max(schema));
      if (list && schema.list_kind() != ListKind::map && below.uncorrelated.empty())
        below.uncorrelated = path.to_string();
      look(schema.element(), path / (list ? "items" : "additionalProperties"), below);
    }
  }
  double total() const { return total_; }

 private:
  FieldErrors& errors_;
  double total_ = 0;
};
}  // namespace

void OldValues::member(std::string_view name) {
  const json::value* old = current();
  stack_.push_back(old != nullptr && old->is_object() ? old->get_object().if_contains(name) : nullptr);
}

void OldValues::item(SchemaRef list, const json::value& item) {
  const json::value* old = current();
  const json::value* found = nullptr;
  if (old != nullptr && old->is_array() && list.list_kind() == ListKind::map && item.is_object()) {
    const std::vector<std::string_view> keys = split_words(list.keys(), ',');
    const auto same = [&](const json::value& other) {
      if (!other.is_object()) return false;
      for (const std::string_view key : keys) {
        const json::value* a = item.get_object().if_contains(key);
        const json::value* b = other.get_object().if_contains(key);
        if (a == nullptr || b == nullptr ? a != b : *a != *b) return false;
      }
      return true;
    };
    for (const json::value& other : old->get_array()) {
      if (same(other)) found = &other;
    }
  }
  stack_.push_back(found);
}

void validate_expressions(SchemaRef schema, const json::value& value, const json::value* old,
                          FieldErrors& errors) {
  RulesVisitor visitor(old, errors);
  walk(schema, value, FieldPath(), visitor);
}

void check_expressions(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  const auto built = build_schema(json::value(schema), "definition");
  DefinitionCheck check(errors);
  check.look(built->root(), path, {});
  if (check.total() > cel::kEstimateTotalMax) {
    errors.forbidden(
        path,
        "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire "
        "OpenAPIv3 schema");
  }
}

}  // namespace orchestra::api
