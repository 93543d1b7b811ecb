// Validation of flow control: pkg/apis/flowcontrol/validation/validation.go.
//
// Two objects of each kind are mandatory: `exempt` and `catch-all` are as they are. What they are is said
// here once more than in src/kinds/bootstrap_flow.cpp, which writes them; a scenario writes them back
// unchanged.
#include <algorithm>
#include <cmath>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::int64_t kPrecedenceMax = 10'000;
constexpr std::int64_t kQueuesMax = 10'000'000;
constexpr int kHashBitsMax = 60;
constexpr std::string_view kVerbs[] = {"create", "delete", "deletecollection", "get",  "list",
                                       "patch",  "proxy",  "update",           "watch"};

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }
std::string_view name_of(const json::object& object) {
  return text_of(object_or_empty(object, "metadata"), "name");
}
std::string_view word_of(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}
bool has_wildcard(const json::array& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const json::value& word) { return word_of(word) == "*"; });
}

/// The fixed spec of a mandatory object; null for others.
const json::value* fixed_spec(std::string_view kind, std::string_view name) {
  static const auto read = [](const char* text) { return parse_json(text).value(); };
  static const json::value kExemptLevel =
      read(R"({"type":"Exempt","exempt":{"nominalConcurrencyShares":0,"lendablePercent":0}})");
  static const json::value kCatchAllLevel =
      read(R"({"type":"Limited","limited":{"nominalConcurrencyShares":5,"lendablePercent":0,)"
           R"("limitResponse":{"type":"Reject"}}})");
  static const json::value kExemptSchema =
      read(R"({"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":1,"rules":[{"subjects":[)"
           R"({"kind":"Group","group":{"name":"system:masters"}}],"resourceRules":[{"verbs":["*"],)"
           R"("apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],)"
           R"("nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]})");
  static const json::value kCatchAllSchema =
      read(R"({"priorityLevelConfiguration":{"name":"catch-all"},"matchingPrecedence":10000,)"
           R"("distinguisherMethod":{"type":"ByUser"},"rules":[{"subjects":[)"
           R"({"kind":"Group","group":{"name":"system:unauthenticated"}},)"
           R"({"kind":"Group","group":{"name":"system:authenticated"}}],"resourceRules":[{"verbs":["*"],)"
           R"("apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],)"
           R"("nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]})");
  const bool level = kind == "PriorityLevelConfiguration";
  if (name == "exempt") return level ? &kExemptLevel : &kExemptSchema;
  if (name == "catch-all") return level ? &kCatchAllLevel : &kCatchAllSchema;
  return nullptr;
}

// --- schemas -----------------------------------------------------------------------------------------------

void check_service_account(const json::object* account, const FieldPath& path, FieldErrors& errors) {
  if (account == nullptr)
    return errors.required(path, "serviceAccount is required when subject kind is 'ServiceAccount'");
  const std::string_view name = text_of(*account, "name"), ns = text_of(*account, "namespace");
  if (name.empty()) {
    errors.required(path / "name");
  } else if (name != "*") {
    check_text(name, check_dns1123_subdomain(name), path / "name", errors);
  }
  if (ns.empty()) return errors.required(path / "namespace", "must specify namespace for service account");
  check_text(ns, check_dns1123_label(ns), path / "namespace", errors);
}

void check_named(const json::object* who, const char* word, const char* kind, const FieldPath& path,
                 FieldErrors& errors) {
  if (who == nullptr) {
    return errors.required(path, std::string(word) + " is required when subject kind is '" + kind + "'");
  }
  if (text_of(*who, "name").empty()) errors.required(path / "name");
}

void check_subject(const json::object& subject, const FieldPath& path, FieldErrors& errors) {
  constexpr std::pair<const char*, const char*> kKinds[] = {
      {"ServiceAccount", "serviceAccount"}, {"User", "user"}, {"Group", "group"}};
  const std::string_view kind = text_of(subject, "kind");
  bool known = false;
  for (const auto& [word, field] : kKinds) known = known || kind == word;
  if (!known) {
    return errors.not_supported(path / "kind", json::string(kind), {"Group", "ServiceAccount", "User"});
  }
  for (const auto& [word, field] : kKinds) {
    const json::object* who = object_of(subject, field);
    const FieldPath at = path / field;
    if (kind != word) {
      if (who != nullptr) {
        errors.forbidden(at, std::string(field) + " is forbidden when subject kind is not '" + word + "'");
      }
    } else if (kind == "ServiceAccount") {
      check_service_account(who, at, errors);
    } else {
      check_named(who, field, word, at, errors);
    }
  }
}

void check_verbs(const json::array& verbs, const FieldPath& path, FieldErrors& errors) {
  if (verbs.empty()) return errors.required(path, "verbs must contain at least one value");
  if (has_wildcard(verbs)) {
    if (verbs.size() > 1)
      errors.invalid(path, json::value(verbs), "if '*' is present, must not specify other verbs");
    return;
  }
  const bool known = std::all_of(verbs.begin(), verbs.end(), [](const json::value& verb) {
    return std::find(std::begin(kVerbs), std::end(kVerbs), word_of(verb)) != std::end(kVerbs);
  });
  if (!known) errors.not_supported(path, json::value(verbs), {std::begin(kVerbs), std::end(kVerbs)});
}

void check_list(const json::object& rule, const char* field, const char* one, const char* many,
                const FieldPath& path, FieldErrors& errors) {
  const json::array& words = array_or_empty(rule, field);
  if (words.empty()) {
    errors.required(path / field, std::string("resource rules must supply at least one ") + one);
  } else if (words.size() > 1 && has_wildcard(words)) {
    errors.invalid(path / field, json::value(words),
                   std::string("if '*' is present, must not specify other ") + many);
  }
}

void check_resource_rule(const json::object& rule, const FieldPath& path, FieldErrors& errors) {
  check_verbs(array_or_empty(rule, "verbs"), path / "verbs", errors);
  check_list(rule, "apiGroups", "api group", "api groups", path, errors);
  check_list(rule, "resources", "resource", "resources", path, errors);
  const json::array& namespaces = array_or_empty(rule, "namespaces");
  const FieldPath list = path / "namespaces";
  if (namespaces.empty() && !flag_of(rule, "clusterScope")) {
    errors.required(list, "resource rules that are not cluster scoped must supply at least one namespace");
  } else if (has_wildcard(namespaces)) {
    if (namespaces.size() > 1) {
      errors.invalid(list, json::value(namespaces), "if '*' is present, must not specify other namespaces");
    }
  } else {
    for (std::size_t i = 0; i < namespaces.size(); ++i) {
      const std::string_view ns = word_of(namespaces[i]);
      if (const std::string wrong = check_dns1123_label(ns); !wrong.empty()) {
        errors.invalid(list[i], ns, "each member of this list must be '*' or a DNS-1123 label; " + wrong);
      }
    }
  }
}

const char* url_fault(std::string_view path) {
  if (path.empty()) return "must not be empty";
  if (path == "/") return nullptr;
  if (!path.starts_with('/')) return "must start with slash";
  if (path.find(' ') != std::string_view::npos) return "must not contain white-space";
  if (path.find("//") != std::string_view::npos) return "must not contain double slash";
  const auto stars = std::count(path.begin(), path.end(), '*');
  if (stars > 1 || (stars == 1 && !path.ends_with("/*"))) return "wildcard can only do suffix matching";
  return nullptr;
}

void check_url_rule(const json::object& rule, const FieldPath& path, FieldErrors& errors) {
  check_verbs(array_or_empty(rule, "verbs"), path / "verbs", errors);
  const json::array& urls = array_or_empty(rule, "nonResourceURLs");
  const FieldPath list = path / "nonResourceURLs";
  if (urls.empty()) return errors.required(list, "nonResourceURLs must contain at least one value");
  if (has_wildcard(urls)) {
    if (urls.size() > 1) {
      errors.invalid(list, json::value(urls), "if '*' is present, must not specify other non-resource URLs");
    }
    return;
  }
  for (std::size_t i = 0; i < urls.size(); ++i) {
    if (const char* fault = url_fault(word_of(urls[i]))) errors.invalid(list[i], word_of(urls[i]), fault);
  }
}

void check_rule(const json::object& rule, const FieldPath& path, FieldErrors& errors) {
  if (array_or_empty(rule, "subjects").empty())
    errors.required(path / "subjects", "subjects must contain at least one value");
  if (array_or_empty(rule, "resourceRules").empty() && array_or_empty(rule, "nonResourceRules").empty())
    errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
  const FieldPath subjects = path / "subjects", resources = path / "resourceRules",
                  urls = path / "nonResourceRules";
  for_each_object(rule, "subjects", [&](std::size_t i, const json::object& subject) {
    check_subject(subject, subjects[i], errors);
  });
  for_each_object(rule, "resourceRules", [&](std::size_t i, const json::object& one) {
    check_resource_rule(one, resources[i], errors);
  });
  for_each_object(rule, "nonResourceRules",
                  [&](std::size_t i, const json::object& one) { check_url_rule(one, urls[i], errors); });
}

// --- levels ------------------------------------------------------------------------------------------------

void check_percent(const json::object& object, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t percent = int_of(object, "lendablePercent");
  if (percent < 0 || percent > 100)
    errors.invalid(path / "lendablePercent", json::value(percent), "must be between 0 and 100, inclusive");
}

void check_shares(const json::object& object, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t shares = int_of(object, "nominalConcurrencyShares");
  if (shares < 0) {
    errors.invalid(path / "nominalConcurrencyShares", json::value(shares), "must be a non-negative integer");
  }
}

void check_queuing(const json::object& queuing, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t length = int_of(queuing, "queueLengthLimit"), queues = int_of(queuing, "queues"),
                     hand = int_of(queuing, "handSize");
  constexpr const char* kPositive = "must be positive";
  if (length <= 0) errors.invalid(path / "queueLengthLimit", json::value(length), kPositive);
  if (queues <= 0) {
    errors.invalid(path / "queues", json::value(queues), kPositive);
  } else if (queues > kQueuesMax) {
    errors.invalid(path / "queues", json::value(queues),
                   "must not be greater than " + std::to_string(kQueuesMax));
  }
  if (hand <= 0) return errors.invalid(path / "handSize", json::value(hand), kPositive);
  if (hand > queues) {
    return errors.invalid(path / "handSize", json::value(hand),
                          "should not be greater than queues (" + std::to_string(queues) + ")");
  }
  const double bits = std::ceil(std::log2(static_cast<double>(queues)) * static_cast<double>(hand));
  if (bits > kHashBitsMax) {
    errors.invalid(path / "handSize", json::value(hand),
                   "required entropy bits of deckSize " + std::to_string(queues) + " and handSize " +
                       std::to_string(hand) + " should not be greater than " + std::to_string(kHashBitsMax));
  }
}

void check_limited(const json::object& limited, const FieldPath& path, FieldErrors& errors) {
  check_shares(limited, path, errors);
  check_percent(limited, path, errors);
  if (int_of(limited, "borrowingLimitPercent") < 0) {
    errors.invalid(path / "borrowingLimitPercent", limited.at("borrowingLimitPercent"),
                   "if specified, must be a non-negative integer");
  }
  const json::object& response = object_or_empty(limited, "limitResponse");
  const FieldPath at = path / "limitResponse";
  const std::string_view type = text_of(response, "type");
  const json::object* queuing = object_of(response, "queuing");
  if (type == "Reject") {
    if (queuing != nullptr)
      errors.forbidden(at / "queuing", "must be nil if limited.limitResponse.type is not Limited");
  } else if (type != "Queue") {
    errors.not_supported(at / "type", json::string(type), {"Queue", "Reject"});
  } else if (queuing == nullptr) {
    errors.required(at / "queuing", "must not be empty if limited.limitResponse.type is Limited");
  } else {
    check_queuing(*queuing, at / "queuing", errors);
  }
}

}  // namespace

void validate_flow_schema(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const std::string_view name = name_of(object);
  const FieldPath path("spec");
  const std::int64_t precedence = int_of(spec, "matchingPrecedence");
  const FieldPath at = path / "matchingPrecedence";
  if (precedence <= 0) errors.invalid(at, json::value(precedence), "must be a positive value");
  if (precedence > kPrecedenceMax) {
    errors.invalid(at, json::value(precedence), "must not be greater than " + std::to_string(kPrecedenceMax));
  }
  if (precedence == 1 && name != "exempt") {
    errors.invalid(at, json::value(precedence),
                   "only the schema named 'exempt' may have matchingPrecedence 1");
  }
  if (const json::object* method = object_of(spec, "distinguisherMethod")) {
    const std::string_view type = text_of(*method, "type");
    if (type != "ByUser" && type != "ByNamespace") {
      errors.not_supported(path / "distinguisherMethod" / "type", json::value(*method),
                           {"ByNamespace", "ByUser"});
    }
  }
  const std::string_view level = text_of(object_or_empty(spec, "priorityLevelConfiguration"), "name");
  const FieldPath reference = path / "priorityLevelConfiguration";
  if (level.empty()) {
    errors.required(reference / "name", "must reference a priority level");
  } else {
    check_text(level, check_dns1123_subdomain(level), reference / "name", errors);
  }
  const FieldPath rules = path / "rules";
  for_each_object(spec, "rules",
                  [&](std::size_t i, const json::object& rule) { check_rule(rule, rules[i], errors); });
  const json::value* fixed = fixed_spec("FlowSchema", name);
  if (fixed != nullptr && *fixed != json::value(spec)) {
    errors.invalid(path, json::value(spec), "spec of '" + std::string(name) + "' must equal the fixed value");
  }
}

void validate_priority_level(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const std::string_view name = name_of(object), type = text_of(spec, "type");
  const FieldPath path("spec");
  const json::object* limited = object_of(spec, "limited");
  const json::object* exempt = object_of(spec, "exempt");
  if ((name == "exempt") != (type == "Exempt"))
    errors.invalid(path / "type", type, "type must be 'Exempt' if and only if name is 'exempt'");
  if (type == "Exempt") {
    if (limited != nullptr) errors.forbidden(path / "limited", "must be nil if the type is not Limited");
    if (exempt != nullptr) {
      check_shares(*exempt, path / "exempt", errors);
      check_percent(*exempt, path / "exempt", errors);
    }
  } else if (type == "Limited") {
    if (exempt != nullptr) errors.forbidden(path / "exempt", "must be nil if the type is Limited");
    if (limited == nullptr) {
      errors.required(path / "limited", "must not be empty when type is Limited");
    } else {
      check_limited(*limited, path / "limited", errors);
    }
  } else {
    errors.not_supported(path / "type", json::string(type), {"Exempt", "Limited"});
  }
  const json::value* fixed = fixed_spec("PriorityLevelConfiguration", name);
  if (fixed == nullptr) return;
  // What the exempt level lends is its administrator's choice.
  json::object have = spec;
  if (name == "exempt") have["exempt"] = fixed->at("exempt");
  if (json::value(have) == *fixed) return;
  const char* but = name == "exempt" ? "except the 'spec.exempt' field " : "";
  errors.invalid(path, json::value(spec),
                 "spec of '" + std::string(name) + "' " + but + "must equal the fixed value");
}

void validate_flow_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const FieldPath status("status");
  const FieldPath list = status / "conditions";
  std::set<std::string_view> types;
  for_each_object(object_or_empty(object, "status"), "conditions",
                  [&](std::size_t index, const json::object& condition) {
                    const FieldPath at = list[index];
                    const std::string_view type = text_of(condition, "type");
                    if (!types.insert(type).second) errors.duplicate(at / "type", json::string(type));
                    if (type.empty()) errors.required(at / "type", "must not be empty");
                  });
}

}  // namespace orchestra::api
