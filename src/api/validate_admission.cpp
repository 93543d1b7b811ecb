// Validation of webhook configurations, admission policies and their bindings:
// pkg/apis/admissionregistration/validation/validation.go, and apiserver/pkg/util/webhook/validation.go for
// what a webhook is reached by. Whether expressions compile is asked in src/kinds/admission and
// src/kinds/webhook, which know what they may name.
#include <algorithm>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kMatchConditionsMax = 64;
constexpr std::size_t kAuditAnnotationsMax = 20;
constexpr std::size_t kValueExpressionBytesMax = 5 * 1024;

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }
std::string_view name_of(const json::object& object) {
  return text_of(object_or_empty(object, "metadata"), "name");
}

std::string_view word_of(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool lists(const json::array& words, std::string_view word) {
  return std::any_of(words.begin(), words.end(),
                     [&](const json::value& each) { return word_of(each) == word; });
}

/// "*" stands alone.
void check_alone(const json::array& words, const char* what, const FieldPath& path, FieldErrors& errors) {
  if (words.size() > 1 && lists(words, "*"))
    errors.invalid(path, json::value(words),
                   std::string("if '*' is present, must not specify other ") + what);
}

void check_resources(const json::array& resources, const FieldPath& path, FieldErrors& errors) {
  if (resources.empty()) errors.required(path);
  std::set<std::string_view> all_of_resource, resource_of_all;  // "pods" of pods/*, "status" of */status
  bool plain = false;                                           // of the last one, as upstream
  for (std::size_t i = 0; i < resources.size(); ++i) {
    const std::string_view text = word_of(resources[i]);
    if (text.empty()) {
      errors.required(path[i]);
      continue;
    }
    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos) {
      plain = text != "*";
      continue;
    }
    const std::string_view resource = text.substr(0, slash), sub = text.substr(slash + 1);
    const std::string specify = "' is present, must not specify " + std::string(text);
    if (all_of_resource.contains(resource))
      errors.invalid(path[i], text, "if '" + std::string(resource) + "/*" + specify);
    if (resource_of_all.contains(sub)) errors.invalid(path[i], text, "if '*/" + std::string(sub) + specify);
    if (sub == "*") all_of_resource.insert(resource);
    if (resource == "*") resource_of_all.insert(sub);
  }
  if (resources.size() > 1 && lists(resources, "*/*"))
    errors.invalid(path, json::value(resources), "if '*/*' is present, must not specify other resources");
  if (lists(resources, "*") && plain) {
    errors.invalid(path, json::value(resources),
                   "if '*' is present, must not specify other resources without subresources");
  }
}

void check_rule(const json::object& rule, const FieldPath& path, FieldErrors& errors) {
  const json::array& operations = array_or_empty(rule, "operations");
  const FieldPath at = path / "operations";
  if (operations.empty()) errors.required(at);
  check_alone(operations, "operations", at, errors);
  for (std::size_t i = 0; i < operations.size(); ++i) {
    // Other words are told by the schema.
    if (word_of(operations[i]).empty())
      errors.not_supported(at[i], operations[i], {"*", "CONNECT", "CREATE", "DELETE", "UPDATE"});
  }
  const json::array& groups = array_or_empty(rule, "apiGroups");
  if (groups.empty()) errors.required(path / "apiGroups");
  check_alone(groups, "API groups", path / "apiGroups", errors);
  const json::array& versions = array_or_empty(rule, "apiVersions");
  const FieldPath of_versions = path / "apiVersions";
  if (versions.empty()) errors.required(of_versions);
  check_alone(versions, "API versions", of_versions, errors);
  for (std::size_t i = 0; i < versions.size(); ++i) {
    if (word_of(versions[i]).empty()) errors.required(of_versions[i]);
  }
  check_resources(array_or_empty(rule, "resources"), path / "resources", errors);
}

void check_match_conditions(const json::object& parent, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "matchConditions";
  const std::size_t count = array_or_empty(parent, "matchConditions").size();
  if (count > kMatchConditionsMax) errors.too_many(list, count, kMatchConditionsMax);
  std::set<std::string_view> names;
  for_each_object(parent, "matchConditions", [&](std::size_t index, const json::object& condition) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(condition, "name");
    if (trimmed(text_of(condition, "expression")).empty()) errors.required(at / "expression");
    if (name.empty()) return errors.required(at / "name");
    check_text(name, check_qualified_name(name), at / "name", errors);
    if (!names.insert(name).second) errors.duplicate(at / "name", json::string(name));
  });
}

// --- where a webhook is ------------------------------------------------------------------------------------

/// The parts that net/url.Parse finds; `host` without user information.
struct Url {
  std::string_view scheme, host, user, query, fragment;
  bool has_user = false, readable = true;
};

Url split_url(std::string_view text) {
  Url url;
  for (const char c : text) url.readable = url.readable && static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
  if (const std::size_t hash = text.find('#'); hash != std::string_view::npos) {
    url.fragment = text.substr(hash + 1);
    text = text.substr(0, hash);
  }
  const std::size_t colon = text.find(':');
  const bool letters = colon != std::string_view::npos && colon > 0 &&
                       std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon),
                                   [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; });
  if (letters) {
    url.scheme = text.substr(0, colon);
    text = text.substr(colon + 1);
  }
  if (const std::size_t mark = text.find('?'); mark != std::string_view::npos) {
    url.query = text.substr(mark + 1);
    text = text.substr(0, mark);
  }
  if (!text.starts_with("//")) return url;
  std::string_view authority = text.substr(2, text.find('/', 2) - 2);
  if (const std::size_t sign = authority.rfind('@'); sign != std::string_view::npos) {
    url.has_user = true;
    url.user = authority.substr(0, sign);
    authority = authority.substr(sign + 1);
  }
  url.host = authority;
  return url;
}

void check_url(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  constexpr const char* kForm = "; desired format: https://host[/path]";
  const Url url = split_url(text);
  if (!url.readable) {
    return errors.required(path, "url must be a valid URL: parse " +
                                     to_json(json::value(json::string(text))) +
                                     ": net/url: invalid character in URL" + kForm);
  }
  if (url.scheme != "https")
    errors.invalid(path, url.scheme, std::string("'https' is the only allowed URL scheme") + kForm);
  if (url.host.empty()) errors.invalid(path, url.host, std::string("host must be specified") + kForm);
  if (url.has_user) errors.invalid(path, url.user, "user information is not permitted in the URL");
  if (!url.fragment.empty()) errors.invalid(path, url.fragment, "fragments are not permitted in the URL");
  if (!url.query.empty()) errors.invalid(path, url.query, "query parameters are not permitted in the URL");
}

void check_service_path(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  if (text == "/" || text.empty()) return;
  if (text == "//") return errors.invalid(path, text, "segment[0] may not be empty");
  if (!text.starts_with('/')) errors.invalid(path, text, "must start with a '/'");
  std::string_view steps = text.substr(1);
  if (steps.ends_with('/')) steps.remove_suffix(1);
  std::size_t index = 0;
  for (std::size_t begin = 0; begin <= steps.size(); ++index) {
    const std::size_t end = std::min(steps.find('/', begin), steps.size());
    const std::string_view step = steps.substr(begin, end - begin);
    const std::string segment = "segment[" + std::to_string(index) + "]";
    if (step.empty()) {
      errors.invalid(path, text, segment + " may not be empty");
    } else if (const std::string wrong = check_dns1123_subdomain(step); !wrong.empty()) {
      errors.invalid(path, text, segment + ": " + wrong);
    }
    begin = end + 1;
  }
}

void check_review_versions_list(const json::array& versions, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string_view> seen;
  bool known = false;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    const std::string_view version = word_of(versions[i]);
    if (!seen.insert(version).second) {
      errors.invalid(path[i], version, "duplicate version");
      continue;
    }
    check_text(version, check_dns1035_label(version), path[i], errors);
    known = known || version == "v1" || version == "v1beta1";
  }
  if (!known) errors.invalid(path, json::value(versions), "must include at least one of v1, v1beta1");
}

void check_webhook_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (name.empty()) return errors.required(path);
  if (const std::string wrong = check_dns1123_subdomain(name); !wrong.empty())
    return errors.invalid(path, name, wrong);
  if (std::count(name.begin(), name.end(), '.') < 2)
    errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
}

}  // namespace

void check_review_versions(const json::array& versions, std::string_view when_none, const FieldPath& path,
                           FieldErrors& errors) {
  if (versions.empty()) return errors.required(path, when_none);
  check_review_versions_list(versions, path, errors);
}

void validate_client_config(const json::object& config, const FieldPath& path, FieldErrors& errors) {
  const bool url = config.contains("url"), service = config.contains("service");
  if (url == service) return errors.required(path, "exactly one of url or service is required");
  if (url) return check_url(text_of(config, "url"), path / "url", errors);
  const json::object& target = object_or_empty(config, "service");
  const FieldPath below = path / "service";
  if (text_of(target, "name").empty()) errors.required(below / "name", "service name is required");
  if (text_of(target, "namespace").empty())
    errors.required(below / "namespace", "service namespace is required");
  const std::int64_t port = int_of(target, "port", 443);
  if (port < 1 || port > 65535)
    errors.invalid(below / "port", json::value(port), std::string("port is not valid: ") + kPortRangeText);
  check_service_path(text_of(target, "path"), below / "path", errors);
}

void validate_webhooks(const json::object& object, FieldErrors& errors) {
  const FieldPath webhooks("webhooks");
  std::set<std::string_view> names;
  for_each_object(object, "webhooks", [&](std::size_t index, const json::object& webhook) {
    const FieldPath path = webhooks[index];
    const std::string_view name = text_of(webhook, "name"), effects = text_of(webhook, "sideEffects");
    check_webhook_name(name, path / "name", errors);
    if (!name.empty() && !names.insert(name).second) errors.duplicate(path / "name", json::string(name));
    check_review_versions(array_or_empty(webhook, "admissionReviewVersions"),
                          "must specify one of v1, v1beta1", path / "admissionReviewVersions", errors);
    if (!webhook.contains("sideEffects")) {
      errors.required(path / "sideEffects", "must specify one of None, NoneOnDryRun");
    } else if (effects != "None" && effects != "NoneOnDryRun") {
      errors.not_supported(path / "sideEffects", json::string(effects), {"None", "NoneOnDryRun"});
    }
    const std::int64_t timeout = int_of(webhook, "timeoutSeconds", 10);
    if (timeout < 1 || timeout > 30) {
      errors.invalid(path / "timeoutSeconds", json::value(timeout),
                     "the timeout value must be between 1 and 30 seconds");
    }
    validate_client_config(object_or_empty(webhook, "clientConfig"), path / "clientConfig", errors);
    const FieldPath rules = path / "rules";
    for_each_object(webhook, "rules",
                    [&](std::size_t i, const json::object& rule) { check_rule(rule, rules[i], errors); });
    check_match_conditions(webhook, path, errors);
  });
}

// --- policies ----------------------------------------------------------------------------------------------
namespace {

void check_named_rules(const json::object& parent, const char* field, const FieldPath& path,
                       FieldErrors& errors) {
  const FieldPath list = path / field;
  for_each_object(parent, field, [&](std::size_t index, const json::object& rule) {
    const FieldPath at = list[index];
    const FieldPath of_names = at / "resourceNames";
    std::set<std::string_view> names;
    const json::array& found = array_or_empty(rule, "resourceNames");
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::string_view name = word_of(found[i]);
      check_text(name, check_path_segment(name), of_names[i], errors);
      if (!names.insert(name).second) errors.duplicate(of_names[i], found[i]);
    }
    check_rule(rule, at, errors);
  });
}

void check_match_resources(const json::object& match, const FieldPath& path, FieldErrors& errors) {
  check_named_rules(match, "resourceRules", path, errors);
  check_named_rules(match, "excludeResourceRules", path, errors);
}

void check_param_kind(const json::object& kind, const FieldPath& path, FieldErrors& errors) {
  const std::string_view version = text_of(kind, "apiVersion"), name = text_of(kind, "kind");
  const FieldPath at = path / "apiVersion";
  const std::size_t slash = version.find('/');
  if (version.empty()) {
    errors.required(at);
  } else if (std::count(version.begin(), version.end(), '/') > 1) {
    errors.invalid(at, version, "unexpected GroupVersion string: " + std::string(version));
  } else {
    const std::string_view group = slash == std::string_view::npos ? "" : version.substr(0, slash);
    const std::string_view bare = slash == std::string_view::npos ? version : version.substr(slash + 1);
    if (!group.empty()) check_text(group, check_dns1123_subdomain(group), at, errors);
    if (bare.empty()) {
      errors.invalid(at, version, "version must be specified");
    } else {
      check_text(bare, check_dns1035_label(bare), at, errors);
    }
  }
  if (name.empty()) return errors.required(path / "kind");
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (const std::string wrong = check_dns1035_label(lower); !wrong.empty())
    errors.invalid(path / "kind", name, "may have mixed case, but should otherwise match: " + wrong);
}

/// IDENT of CEL's grammar, without its reserved words.
bool is_cel_identifier(std::string_view name) {
  static const std::set<std::string_view> kReserved = {
      "true",     "false",   "null",      "in",       "as",  "break",  "const",
      "continue", "else",    "for",       "function", "if",  "import", "let",
      "loop",     "package", "namespace", "return",   "var", "void",   "while"};
  const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  return !name.empty() && letter(name.front()) && !kReserved.contains(name) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || std::isdigit(static_cast<unsigned char>(c)) != 0; });
}

void check_variables(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "variables";
  for_each_object(spec, "variables", [&](std::size_t index, const json::object& variable) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(variable, "name");
    if (trimmed(name).empty()) {
      errors.required(at / "name", "name is not specified");
    } else if (!is_cel_identifier(name)) {
      errors.invalid(at / "name", name, "name is not a valid CEL identifier");
    }
    if (trimmed(text_of(variable, "expression")).empty())
      errors.required(at / "expression", "expression is not specified");
  });
}

void check_validations(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "validations";
  for_each_object(spec, "validations", [&](std::size_t index, const json::object& validation) {
    const FieldPath at = list[index];
    const std::string_view message = text_of(validation, "message");
    const std::string_view expression = text_of(validation, "messageExpression");
    if (trimmed(text_of(validation, "expression")).empty())
      errors.required(at / "expression", "expression is not specified");
    if (!expression.empty() && trimmed(expression).empty())
      errors.invalid(at / "messageExpression", expression, "must be non-empty if specified");
    if (!message.empty() && trimmed(message).empty()) {
      errors.invalid(at / "message", message, "message must be non-empty if specified");
    } else if (trimmed(message).find_first_of("\r\n") != std::string_view::npos) {
      errors.invalid(at / "message", message, "message must not contain line breaks");
    }
    if (!validation.contains("reason")) return;
    const std::string_view reason = text_of(validation, "reason");
    if (reason != "Forbidden" && reason != "Invalid" && reason != "RequestEntityTooLarge") {
      errors.not_supported(at / "reason", json::string(reason),
                           {"Forbidden", "Invalid", "RequestEntityTooLarge"});
    }
  });
}

void check_audit_annotations(const json::object& object, const FieldPath& path, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath list = path / "auditAnnotations";
  const json::array& annotations = array_or_empty(spec, "auditAnnotations");
  if (annotations.size() > kAuditAnnotationsMax) {
    errors.invalid(list, json::value(annotations),
                   "must not have more than " + std::to_string(kAuditAnnotationsMax) + " auditAnnotations");
  }
  std::set<std::string_view> keys;
  for_each_object(spec, "auditAnnotations", [&](std::size_t index, const json::object& one) {
    const FieldPath at = list[index];
    const std::string_view key = text_of(one, "key");
    // The policy's name is the prefix of the annotation.
    const std::string full = std::string(name_of(object)) + "/" + std::string(key);
    if (name_of(object).empty()) {
      errors.invalid(at / "key", key, "requires metadata.name be non-empty");
    } else {
      check_text(full, check_qualified_name(full), at / "key", errors);
    }
    const std::string_view expression = trimmed(text_of(one, "valueExpression"));
    if (expression.empty()) {
      errors.required(at / "valueExpression", "valueExpression is not specified");
    } else if (expression.size() > kValueExpressionBytesMax) {
      errors.required(at / "valueExpression",
                      "must not exceed " + std::to_string(kValueExpressionBytesMax) + " bytes in length");
    }
    if (!keys.insert(key).second) errors.duplicate(at / "key", json::string(key));
  });
}

void check_param_ref(const json::object& param, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(param, "name");
  const bool selects = param.contains("selector");
  constexpr const char* kBoth = "name and selector are mutually exclusive";
  if (!name.empty()) check_text(name, check_path_segment(name), path / "name", errors);
  if (!name.empty() && selects) {
    errors.forbidden(path / "name", kBoth);
    errors.forbidden(path / "selector", kBoth);
  }
  if (name.empty() && !selects) errors.required(path, "one of name or selector must be specified");
  if (text_of(param, "parameterNotFoundAction").empty()) errors.required(path / "parameterNotFoundAction");
}

}  // namespace

void validate_admission_policy(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  if (const json::object* kind = object_of(spec, "paramKind"))
    check_param_kind(*kind, path / "paramKind", errors);
  const FieldPath constraints = path / "matchConstraints";
  if (const json::object* match = object_of(spec, "matchConstraints")) {
    check_match_resources(*match, constraints, errors);
    if (array_or_empty(*match, "resourceRules").empty()) errors.required(constraints / "resourceRules");
  } else {
    errors.required(constraints);
  }
  check_match_conditions(spec, path, errors);
  check_variables(spec, path, errors);
  if (array_or_empty(spec, "validations").empty() && array_or_empty(spec, "auditAnnotations").empty()) {
    for (const char* field : {"validations", "auditAnnotations"})
      errors.required(path / field, "validations or auditAnnotations must contain at least one item");
    return;
  }
  check_validations(spec, path, errors);
  check_audit_annotations(object, path, errors);
}

void validate_admission_policy_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const json::object& status = object_or_empty(object, "status");
  const FieldPath root("status");
  const FieldPath checking = root / "typeChecking";
  const FieldPath list = checking / "expressionWarnings";
  for_each_object(object_or_empty(status, "typeChecking"), "expressionWarnings",
                  [&](std::size_t index, const json::object& warning) {
                    const FieldPath at = list[index];
                    if (text_of(warning, "warning").empty()) errors.required(at / "warning");
                    if (trimmed(text_of(warning, "fieldRef")).empty()) errors.required(at / "fieldRef");
                  });
  check_status_conditions(status, root / "conditions", errors);
}

void validate_admission_policy_binding(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::string_view policy = text_of(spec, "policyName");
  if (policy.empty()) {
    errors.required(path / "policyName");
  } else {
    check_text(policy, check_dns1123_subdomain(policy), path / "policyName", errors);
  }
  if (const json::object* param = object_of(spec, "paramRef"))
    check_param_ref(*param, path / "paramRef", errors);
  if (const json::object* match = object_of(spec, "matchResources"))
    check_match_resources(*match, path / "matchResources", errors);
  const FieldPath of_actions = path / "validationActions";
  const json::array& actions = array_or_empty(spec, "validationActions");
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < actions.size(); ++i) {
    if (!seen.insert(word_of(actions[i])).second) errors.duplicate(of_actions[i], actions[i]);
  }
  if (seen.contains("Deny") && seen.contains("Warn")) {
    errors.invalid(
        of_actions, json::value(actions),
        "must not contain both Deny and Warn (repeating the same validation failure information in "
        "the API response and headers serves no purpose)");
  }
  if (actions.empty()) errors.required(of_actions, "at least one validation action is required");
}

}  // namespace orchestra::api
