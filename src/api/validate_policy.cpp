// Validation of admission, registration, flow control and address kinds, and of events.k8s.io: the rules of
// pkg/apis/{admissionregistration,apiregistration,flowcontrol,networking}/validation and of
// pkg/apis/core/validation/events.go that a request can break without any other object.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }
std::string_view name_of(const json::object& object) {
  return text_of(object_or_empty(object, "metadata"), "name");
}

void validate_rules(const json::object& parent, const char* list, const FieldPath& path,
                    FieldErrors& errors) {
  const FieldPath rules = path / list;
  for_each_object(parent, list, [&](std::size_t index, const json::object& rule) {
    const FieldPath at = rules[index];
    for (const char* field : {"operations", "apiGroups", "apiVersions", "resources"}) {
      const json::array& words = array_or_empty(rule, field);
      if (words.empty()) errors.required(at / field);
      const bool any =
          std::any_of(words.begin(), words.end(), [](const json::value& word) { return word == "*"; });
      if (any && words.size() > 1 && std::string_view(field) != "resources") {
        errors.invalid(at / field, json::value(words),
                       "if '*' is present, must not specify other " +
                           std::string(std::string_view(field) == "operations"  ? "operations"
                                       : std::string_view(field) == "apiGroups" ? "API groups"
                                                                                : "API versions"));
      }
    }
  });
}

}  // namespace

void validate_client_config(const json::object& config, const FieldPath& path, FieldErrors& errors) {
  const bool url = config.contains("url"), service = config.contains("service");
  if (url == service) {
    errors.required(path, "exactly one of url or service is required");
    return;
  }
  if (url) {
    const std::string_view text = text_of(config, "url");
    if (!text.starts_with("https://"))
      errors.invalid(path / "url", text,
                     "'https' is the only allowed URL scheme; desired format: https://host[/path]");
    if (text.find('@') != std::string_view::npos)
      errors.invalid(path / "url", text, "user information is not permitted in the URL");
    if (text.find('#') != std::string_view::npos)
      errors.invalid(path / "url", text, "fragments are not permitted in the URL");
    if (text.find('?') != std::string_view::npos)
      errors.invalid(path / "url", text, "query parameters are not permitted in the URL");
    return;
  }
  const json::object& target = object_or_empty(config, "service");
  const FieldPath below = path / "service";
  if (text_of(target, "name").empty()) errors.required(below / "name", "service name is required");
  if (text_of(target, "namespace").empty())
    errors.required(below / "namespace", "service namespace is required");
  const std::int64_t port = int_of(target, "port", 443);
  if (port < 1 || port > 65535)
    errors.invalid(below / "port", json::value(port),
                   "port is not valid: must be between 1 and 65535, inclusive");
}

void validate_webhooks(const json::object& object, FieldErrors& errors) {
  const FieldPath webhooks("webhooks");
  std::set<std::string_view> names;
  for_each_object(object, "webhooks", [&](std::size_t index, const json::object& webhook) {
    const FieldPath path = webhooks[index];
    const std::string_view name = text_of(webhook, "name");
    const std::string wrong = check_dns1123_subdomain(name);
    if (name.empty()) {
      errors.required(path / "name");
    } else if (!wrong.empty()) {
      errors.invalid(path / "name", name, wrong);
    } else if (std::count(name.begin(), name.end(), '.') < 2) {
      errors.invalid(path / "name", name,
                     "should be a domain with at least three segments separated by dots");
    }
    if (!names.insert(name).second) errors.duplicate(path / "name", json::string(name));
    const json::array& versions = array_or_empty(webhook, "admissionReviewVersions");
    if (versions.empty()) {
      errors.required(path / "admissionReviewVersions", "must specify one of v1, v1beta1");
    } else if (std::none_of(versions.begin(), versions.end(), [](const json::value& version) {
                 return version == "v1" || version == "v1beta1";
               })) {
      errors.invalid(path / "admissionReviewVersions", json::value(versions),
                     "must include at least one of v1, v1beta1");
    }
    const std::string_view effects = text_of(webhook, "sideEffects");
    if (effects == "Some" || effects == "Unknown") {
      errors.not_supported(path / "sideEffects", json::string(effects), {"None", "NoneOnDryRun"});
    }
    const std::int64_t timeout = int_of(webhook, "timeoutSeconds", 10);
    if (timeout < 1 || timeout > 30) {
      errors.invalid(path / "timeoutSeconds", json::value(timeout),
                     "the timeout value must be between 1 and 30 seconds");
    }
    validate_client_config(object_or_empty(webhook, "clientConfig"), path / "clientConfig", errors);
    validate_rules(webhook, "rules", path, errors);
  });
}

namespace {
constexpr std::size_t kAuditAnnotationsMax = 20;
constexpr std::size_t kValueExpressionBytesMax = 5 * 1024;

void validate_audit_annotations(const json::object& object, const FieldPath& path, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const json::array& annotations = array_or_empty(spec, "auditAnnotations");
  if (annotations.size() > kAuditAnnotationsMax) {
    errors.invalid(path, json::value(annotations),
                   "must not have more than " + std::to_string(kAuditAnnotationsMax) + " auditAnnotations");
  }
  std::set<std::string_view> keys;
  for_each_object(spec, "auditAnnotations", [&](std::size_t index, const json::object& one) {
    const FieldPath at = path[index];
    const std::string_view key = text_of(one, "key");
    // The policy's name is the prefix of the annotation.
    const std::string full = std::string(name_of(object)) + "/" + std::string(key);
    if (const std::string wrong = check_qualified_name(full); !wrong.empty())
      errors.invalid(at / "key", full, wrong);
    const std::string_view expression = text_of(one, "valueExpression");
    if (expression.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      errors.required(at / "valueExpression", "valueExpression is not specified");
    } else if (expression.size() > kValueExpressionBytesMax) {
      errors.required(at / "valueExpression",
                      "must not exceed " + std::to_string(kValueExpressionBytesMax) + " bytes in length");
    }
    if (!keys.insert(key).second) errors.duplicate(at / "key", json::string(key));
  });
}
}  // namespace

void validate_admission_policy(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  if (array_or_empty(spec, "validations").empty() && array_or_empty(spec, "auditAnnotations").empty()) {
    for (const char* field : {"validations", "auditAnnotations"})
      errors.required(path / field, "validations or auditAnnotations must contain at least one item");
  }
  validate_audit_annotations(object, path / "auditAnnotations", errors);
  const FieldPath list = path / "validations";
  for_each_object(spec, "validations", [&](std::size_t index, const json::object& validation) {
    if (text_of(validation, "expression").empty())
      errors.required(list[index] / "expression", "expression is not specified");
  });
  const FieldPath constraints = path / "matchConstraints";
  if (!spec.contains("matchConstraints")) {
    errors.required(constraints);
  } else if (array_or_empty(object_or_empty(spec, "matchConstraints"), "resourceRules").empty()) {
    errors.required(constraints / "resourceRules");
  } else {
    validate_rules(object_or_empty(spec, "matchConstraints"), "resourceRules", constraints, errors);
  }
  if (const json::object* kind = object_of(spec, "paramKind")) {
    const FieldPath param = path / "paramKind";
    for (const char* field : {"apiVersion", "kind"}) {
      if (text_of(*kind, field).empty()) errors.required(param / field);
    }
  }
}

void validate_admission_policy_binding(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  if (text_of(spec, "policyName").empty()) errors.required(path / "policyName");
  const json::array& actions = array_or_empty(spec, "validationActions");
  if (actions.empty())
    errors.required(path / "validationActions", "at least one validation action is required");
  const auto has = [&](const char* word) {
    return std::find(actions.begin(), actions.end(), json::value(word)) != actions.end();
  };
  if (has("Deny") && has("Warn")) {
    errors.invalid(
        path / "validationActions", json::value(actions),
        "must not contain both Deny and Warn (repeating the same validation failure information in "
        "the API response and headers serves no purpose)");
  }
  if (const json::object* param = object_of(spec, "paramRef")) {
    const FieldPath at = path / "paramRef";
    if (text_of(*param, "name").empty() == !param->contains("selector"))
      errors.required(at, "exactly one of name or selector must be specified");
    if (text_of(*param, "parameterNotFoundAction").empty()) errors.required(at / "parameterNotFoundAction");
  }
}

void validate_api_service(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::string expected =
      std::string(text_of(spec, "version")) + "." + std::string(text_of(spec, "group"));
  if (name_of(object) != expected) {
    errors.invalid(FieldPath("metadata") / "name", name_of(object),
                   "must be `spec.version+\".\"+spec.group`: \"" + expected + "\"");
  }
  if (text_of(spec, "version").empty()) errors.required(path / "version");
  const std::int64_t group = int_of(spec, "groupPriorityMinimum"), version = int_of(spec, "versionPriority");
  if (group <= 0 || group > 20000)
    errors.invalid(path / "groupPriorityMinimum", json::value(group), "must be positive and less than 20000");
  if (version <= 0 || version > 1000)
    errors.invalid(path / "versionPriority", json::value(version), "must be positive and less than 1000");
  if (!spec.contains("service")) {
    if (!text_of(spec, "caBundle").empty())
      errors.invalid(path / "caBundle", "...", "local APIServices may not have a caBundle");
    if (flag_of(spec, "insecureSkipTLSVerify")) {
      errors.invalid(path / "insecureSkipTLSVerify", json::value(true),
                     "local APIServices may not have insecureSkipTLSVerify");
    }
  }
}

void validate_flow_schema(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::int64_t precedence = int_of(spec, "matchingPrecedence");
  if (precedence < 1) {
    errors.invalid(path / "matchingPrecedence", json::value(precedence), "must be a positive value");
  } else if (precedence > 10000) {
    errors.invalid(path / "matchingPrecedence", json::value(precedence), "must not be greater than 10000");
  }
  const FieldPath level = path / "priorityLevelConfiguration";
  if (text_of(object_or_empty(spec, "priorityLevelConfiguration"), "name").empty())
    errors.required(level / "name", "must reference a priority level");
  if (const json::object* method = object_of(spec, "distinguisherMethod")) {
    const std::string_view type = text_of(*method, "type");
    if (type != "ByUser" && type != "ByNamespace") {
      errors.not_supported(path / "distinguisherMethod", json::string(type), {"ByNamespace", "ByUser"});
    }
  }
  const FieldPath rules = path / "rules";
  for_each_object(spec, "rules", [&](std::size_t index, const json::object& rule) {
    if (array_or_empty(rule, "subjects").empty())
      errors.required(rules[index] / "subjects", "subjects must contain at least one value");
    if (array_or_empty(rule, "resourceRules").empty() && array_or_empty(rule, "nonResourceRules").empty()) {
      errors.required(rules[index], "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
  });
}

void validate_priority_level(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::string_view type = text_of(spec, "type");
  if (type == "Limited") {
    if (!spec.contains("limited"))
      errors.required(path / "limited", "must not be empty when type is Limited");
    if (spec.contains("exempt")) errors.forbidden(path / "exempt", "must be nil if the type is Limited");
  } else if (type == "Exempt") {
    if (spec.contains("limited"))
      errors.forbidden(path / "limited", "must be nil if the type is not Limited");
  } else {
    errors.not_supported(path / "type", json::string(type), {"Exempt", "Limited"});
  }
}

void validate_ip_address(const json::object& object, FieldErrors& errors) {
  const std::string_view name = name_of(object);
  if (!is_ipv4(name) && !is_ipv6(name))
    errors.invalid(FieldPath("metadata") / "name", name, "must be a valid IP address");
  const FieldPath parent = FieldPath("spec");
  const json::object& reference = object_or_empty(spec_of(object), "parentRef");
  if (reference.empty()) return errors.required(parent / "parentRef");
  const FieldPath at = parent / "parentRef";
  const std::string_view group = text_of(reference, "group"), ns = text_of(reference, "namespace");
  if (!group.empty()) check_text(group, check_dns1123_subdomain(group), at / "group", errors);
  for (const char* field : {"resource", "name"}) {
    const std::string_view text = text_of(reference, field);
    if (text.empty()) errors.required(at / field);
    if (!text.empty()) check_text(text, check_path_segment(text), at / field, errors);
  }
  if (!ns.empty()) check_text(ns, check_path_segment(ns), at / "namespace", errors);
}

void validate_ip_address_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath spec("spec");
  require_same(spec_of(object).if_contains("parentRef"), spec_of(old).if_contains("parentRef"),
               spec / "parentRef", errors);
}

void validate_service_cidr(const json::object& object, FieldErrors& errors) {
  const FieldPath spec("spec");
  const FieldPath path = spec / "cidrs";
  const json::array& ranges = array_or_empty(spec_of(object), "cidrs");
  if (ranges.empty()) return errors.required(path, "at least one CIDR required");
  if (ranges.size() > 2)
    return errors.invalid(path, json::value(spec_of(object)), "may only hold up to 2 values");
  const auto six = std::count_if(ranges.begin(), ranges.end(), [](const json::value& range) {
    return range.is_string() && range.get_string().find(':') != json::string::npos;
  });
  if (ranges.size() == 2 && six != 1) {
    return errors.invalid(path, json::value(spec_of(object)),
                          "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and "
                          "2001:db8::/64");
  }
  std::size_t index = 0;
  for (const json::value& range : ranges) {
    const FieldPath at = path[index++];
    const std::string_view text =
        range.is_string() ? std::string_view(range.get_string()) : std::string_view();
    if (!is_cidr(text))
      errors.invalid(at, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
  }
}

void validate_service_cidr_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath spec("spec");
  require_same(spec_of(object).if_contains("cidrs"), spec_of(old).if_contains("cidrs"), spec / "cidrs",
               errors);
}

void validate_spec_immutable(const json::object& object, const json::object& old, FieldErrors& errors) {
  require_same(object.if_contains("spec"), old.if_contains("spec"), FieldPath("spec"), errors);
}

void validate_event_v1(const json::object& object, FieldErrors& errors) {
  validate_event(object, errors);
  // A series or a patch of an old one carries the times of core/v1; upstream asks these of a new event only.
  if (!text_of(object, "firstTimestamp").empty()) return;
  if (text_of(object, "eventTime").empty()) errors.required(FieldPath("eventTime"));
  if (text_of(object, "reportingComponent").empty()) errors.required(FieldPath("reportingController"));
  if (text_of(object, "reportingInstance").empty()) errors.required(FieldPath("reportingInstance"));
  if (text_of(object, "action").empty()) errors.required(FieldPath("action"));
  if (text_of(object, "reason").empty()) errors.required(FieldPath("reason"));
  const std::string_view type = text_of(object, "type");
  if (type != "Normal" && type != "Warning")
    errors.invalid(FieldPath("type"), type, "has invalid value: " + std::string(type));
}

}  // namespace orchestra::api
