// Parameters of lists and watches: see list_query.hpp.
#include "apiserver/list_query.hpp"

#include <algorithm>

#include "api/select.hpp"
#include "api/status.hpp"
#include "base/whole_number.hpp"

namespace orchestra::apiserver {
namespace {

bool holds(const Selector::Requirement& requirement, const StoredView& view) {
  const auto value = view.label(requirement.key);
  const auto listed = [&] {
    return value && std::find(requirement.values.begin(), requirement.values.end(), *value) !=
                        requirement.values.end();
  };
  switch (requirement.op) {
    case Selector::Operator::in:
      return listed();
    case Selector::Operator::not_in:
      return !listed();
    case Selector::Operator::exists:
      return value.has_value();
    case Selector::Operator::absent:
      return !value.has_value();
    case Selector::Operator::greater:
    case Selector::Operator::less: {
      if (!value || requirement.values.empty()) return false;
      const auto own = whole_number(*value);
      const auto bound = whole_number(requirement.values.front());
      if (!own || !bound) return false;
      return requirement.op == Selector::Operator::greater ? *own > *bound : *own < *bound;
    }
  }
  return false;
}
}  // namespace

Result<Revision> parse_resource_version(const std::string& text) {
  const auto number = whole_number(text);
  if (!number || *number < 0) {
    return api::bad_request("resourceVersion: Invalid value: \"" + text +
                            "\": strconv.ParseUint: parsing \"" + text + "\": invalid syntax");
  }
  return *number;
}

Result<ListQuery> parse_list_query(const api::TypeRecord& type, const Query& query) {
  ListQuery out;
  if (const std::string text = query_value(query, "labelSelector"); !text.empty()) {
    ORC_ASSIGN(out.labels, api::parse_label_selector(text));
  }
  if (const std::string text = query_value(query, "fieldSelector"); !text.empty()) {
    ORC_ASSIGN(out.fields, api::parse_field_selector(type, text));
  }
  const auto& terms = out.fields.terms();
  out.fields_late = type.converter != nullptr &&
                    std::any_of(terms.begin(), terms.end(),
                                [](const auto& term) { return !term.field.starts_with("metadata."); });
  if (const std::string text = query_value(query, "limit"); !text.empty()) {
    const auto number = whole_number(text);
    if (!number || *number < 0)
      return api::bad_request("limit must be a number of at least 0, not \"" + text + "\"");
    out.limit = static_cast<std::size_t>(*number);
  }
  out.continue_token = query_value(query, "continue");
  out.resource_version = query_value(query, "resourceVersion");
  out.version_match = query_value(query, "resourceVersionMatch");
  if (!out.version_match.empty() && out.version_match != "Exact" && out.version_match != "NotOlderThan") {
    api::FieldErrors errors;
    errors.not_supported(api::FieldPath("resourceVersionMatch"), json::value(out.version_match),
                         {"Exact", "NotOlderThan", ""});
    return api::invalid("meta.k8s.io", "ListOptions", "", errors);
  }
  if (!out.continue_token.empty() && !out.resource_version.empty() && out.resource_version != "0") {
    return api::bad_request("specifying resource version is not allowed when using continue");
  }
  return out;
}

Result<void> check_version_match(const ListQuery& query) {
  if (query.version_match.empty()) return {};
  const api::FieldPath path("resourceVersionMatch");
  api::FieldErrors errors;
  if (query.resource_version.empty())
    errors.forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (!query.continue_token.empty())
    errors.forbidden(path, "resourceVersionMatch is forbidden when continue is provided");
  if (query.version_match == "Exact" && query.resource_version == "0")
    errors.forbidden(path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
  return errors.empty() ? Result<void>() : api::invalid("meta.k8s.io", "ListOptions", "", errors);
}

bool matches(const ListQuery& query, const StoredView& view, std::string_view tail) {
  for (const Selector::Requirement& requirement : query.labels.requirements()) {
    if (!holds(requirement, view)) return false;
  }
  if (query.fields.empty() || query.fields_late) return true;
  const std::size_t slash = tail.find('/');
  const std::string_view ns = tail.substr(0, slash);
  const std::string_view name = slash == std::string_view::npos ? tail : tail.substr(slash + 1);
  return query.fields.matches([&](std::string_view field) -> std::string {
    if (field == "metadata.name") return std::string(name);
    if (field == "metadata.namespace") return ns == "-" ? std::string() : std::string(ns);
    return std::string(view.field(field).value_or(std::string_view()));
  });
}

bool matches_converted(const ListQuery& query, const api::TypeRecord& type, const json::value& object) {
  return !query.fields_late || api::matches(type, query.fields, object);
}

KeyRange range_of(const api::TypeRecord& type, const std::string& ns, const ListQuery& query) {
  const TypePlace place = place_of(type);
  const std::string scope = type.namespaced ? ns : std::string("-");
  const auto name = query.fields.required_value("metadata.name");
  if (name && !scope.empty() && name->find('/') == std::string::npos)
    return Key(object_key(place, scope, *name));
  return objects_range(place, scope);
}

}  // namespace orchestra::apiserver
