// Node selectors and tolerations; see placement.hpp.
#include "api/placement.hpp"

#include <algorithm>

#include "base/whole_number.hpp"

namespace orchestra::api {

bool tolerates(const json::value& toleration, const json::value& taint) {
  const std::string effect = string_at(toleration, "/effect");
  const std::string key = string_at(toleration, "/key");
  const std::string op = string_at(toleration, "/operator", "Equal");
  if (!effect.empty() && effect != string_at(taint, "/effect")) return false;
  if (!key.empty() && key != string_at(taint, "/key")) return false;
  if (op == "Exists") return true;
  return !key.empty() && string_at(toleration, "/value") == string_at(taint, "/value");
}

bool tolerated(const json::array* tolerations, const json::value& taint) {
  return tolerations != nullptr && std::any_of(tolerations->begin(), tolerations->end(),
                                               [&](const json::value& t) { return tolerates(t, taint); });
}

namespace {

bool requirement_holds(const json::value& requirement, const std::string* value) {
  const std::string op = string_at(requirement, "/operator");
  const json::array* values = array_at(requirement, "/values");
  const auto listed = [&] {
    return value != nullptr && values != nullptr &&
           std::any_of(values->begin(), values->end(),
                       [&](const json::value& v) { return v.is_string() && v.get_string() == *value; });
  };
  if (op == "In") return listed();
  if (op == "NotIn") return !listed();
  if (op == "Exists") return value != nullptr;
  if (op == "DoesNotExist") return value == nullptr;
  if (op != "Gt" && op != "Lt") return false;
  if (value == nullptr || values == nullptr || values->size() != 1 || !values->front().is_string())
    return false;
  const auto have = whole_number(*value);
  const auto bound = whole_number(std::string_view(values->front().get_string()));
  return have && bound && (op == "Gt" ? *have > *bound : *have < *bound);
}

}  // namespace

bool matches_node_term(const json::value& term, const Object& node) {
  const json::array* expressions = array_at(term, "/matchExpressions");
  const json::array* fields = array_at(term, "/matchFields");
  const bool none =
      (expressions == nullptr || expressions->empty()) && (fields == nullptr || fields->empty());
  if (none) return false;
  if (expressions != nullptr) {
    for (const json::value& requirement : *expressions) {
      const auto label = node.labels().find(string_at(requirement, "/key"));
      if (!requirement_holds(requirement, label == node.labels().end() ? nullptr : &label->second))
        return false;
    }
  }
  if (fields != nullptr) {
    for (const json::value& requirement : *fields) {
      if (string_at(requirement, "/key") != "metadata.name") return false;
      if (!requirement_holds(requirement, &node.name())) return false;
    }
  }
  return true;
}

bool accepts_node(const json::value& pod_spec, const Object& node) {
  if (const json::object* selector = object_at(pod_spec, "/nodeSelector")) {
    for (const auto& [key, value] : *selector) {
      const auto label = node.labels().find(std::string(key));
      if (label == node.labels().end() || !value.is_string() || value.get_string() != label->second)
        return false;
    }
  }
  const json::array* terms = array_at(
      pod_spec, "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
  return terms == nullptr || std::any_of(terms->begin(), terms->end(), [&](const json::value& term) {
           return matches_node_term(term, node);
         });
}

}  // namespace orchestra::api
