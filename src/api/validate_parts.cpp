// Rules that several kinds share: numbers, paths, percentages, resources.
#include "api/validate_parts.hpp"

#include <algorithm>
#include <array>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kContainerResources[] = {"cpu", "ephemeral-storage", "memory"};
constexpr std::string_view kQuotaResources[] = {"configmaps",
                                                "cpu",
                                                "ephemeral-storage",
                                                "limits.cpu",
                                                "limits.ephemeral-storage",
                                                "limits.memory",
                                                "memory",
                                                "persistentvolumeclaims",
                                                "pods",
                                                "replicationcontrollers",
                                                "requests.cpu",
                                                "requests.ephemeral-storage",
                                                "requests.memory",
                                                "requests.storage",
                                                "resourcequotas",
                                                "secrets",
                                                "services",
                                                "services.loadbalancers",
                                                "services.nodeports"};
constexpr std::string_view kCountedResources[] = {"configmaps",
                                                  "persistentvolumeclaims",
                                                  "pods",
                                                  "replicationcontrollers",
                                                  "resourcequotas",
                                                  "secrets",
                                                  "services",
                                                  "services.loadbalancers",
                                                  "services.nodeports"};

template <class List>
bool contains(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

/// Unprefixed, or of kubernetes.io.
bool is_native(std::string_view name) {
  return name.find('/') == std::string_view::npos || name.find("kubernetes.io/") != std::string_view::npos;
}
bool is_extended(std::string_view name) {
  return !is_native(name) && !name.starts_with("requests.") &&
         check_qualified_name("requests." + std::string(name)).empty();
}
bool may_overcommit(std::string_view name) { return is_native(name) && !is_huge_page(name); }

/// "50%": its number.
std::optional<std::int64_t> percent_of(std::string_view text) {
  if (text.size() < 2 || text.size() > 10 || text.back() != '%') return std::nullopt;
  std::int64_t number = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + (c - '0');
  }
  return number;
}

void check_huge_page(std::string_view name, const Quantity& amount, const FieldPath& path,
                     FieldErrors& errors) {
  const auto page = Quantity::parse(name.substr(std::string_view("hugepages-").size()));
  const bool whole = page && page->sign() > 0 && page->milli_value() % 1000 == 0 && page->value() > 0;
  if (whole && amount.sign() >= 0 && amount.value() % page->value() == 0) return;
  errors.invalid(path, amount.to_string(),
                 amount.to_string() + " is not positive integer multiple of " + std::string(name));
}

void check_pod_resource_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (!check_resource_name(name, path, errors)) return;
  if (name != "cpu" && name != "memory" && !is_huge_page(name))
    errors.not_supported(path, json::string(name), {"cpu", "hugepages-", "memory"});
}

void check_claims(const json::object& resources, const std::set<std::string_view>& known,
                  const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> seen;
  for_each_object(resources, "claims", [&](std::size_t i, const json::object& claim) {
    const std::string name(text_of(claim, "name")), request(text_of(claim, "request"));
    if (name.empty()) return errors.required(path[i]);
    if (seen.count(name) > 0) {
      errors.duplicate(path[i], json::string(name));
    } else {
      const std::string key = request.empty() ? name : name + "/" + request;
      if (!request.empty()) check_text(request, check_dns1123_label(request), path[i] / "request", errors);
      const bool part = request.empty() &&
                        std::any_of(seen.begin(), seen.end(),
                                    [&](const std::string& each) { return each.starts_with(name + "/"); });
      if (part || seen.count(key) > 0) errors.duplicate(path[i], json::string(key));
      seen.insert(key);
    }
    if (known.count(name) > 0) return;
    std::string detail = "must be one of the names in pod.spec.resourceClaims";
    detail += known.empty() ? " which is empty" : ": ";
    bool first = true;
    for (const std::string_view each : known) {
      detail.append(first ? "" : ", ").append(each);
      first = false;
    }
    errors.add({FieldErrorType::not_found, path[i].to_string(), to_json(json::string(name)), detail});
  });
}

}  // namespace

void check_not_negative(const json::object& object, std::string_view field, const FieldPath& path,
                        FieldErrors& errors) {
  const json::value* value = object.if_contains(field);
  if (value != nullptr && value->is_int64() && value->get_int64() < 0)
    errors.invalid(path / field, *value, kNotNegativeText);
}

void check_required(const json::object& object, std::string_view field, const FieldPath& path,
                    FieldErrors& errors) {
  if (text_of(object, field).empty()) errors.required(path / field);
}

void check_status_conditions(const json::object& status, const FieldPath& path, FieldErrors& errors) {
  constexpr std::size_t kReasonMax = 1 << 10, kMessageMax = 32 << 10;
  constexpr const char* kReasonText =
      "a condition reason must start with alphabetic character, optionally followed by a string of "
      "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name', "
      " or "
      "'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is "
      "'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto word = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; };
  std::set<std::string_view> types;
  for_each_object(status, "conditions", [&](std::size_t i, const json::object& condition) {
    const FieldPath at = path[i];
    const std::string_view type = text_of(condition, "type"), state = text_of(condition, "status"),
                           reason = text_of(condition, "reason");
    if (!types.insert(type).second) errors.duplicate(at / "type", json::string(type));
    check_text(type, check_qualified_name(type), at / "type", errors);
    if (state != "True" && state != "False" && state != "Unknown")
      errors.not_supported(at / "status", json::string(state), {"False", "True", "Unknown"});
    if (int_of(condition, "observedGeneration") < 0) {
      errors.invalid(at / "observedGeneration", condition.at("observedGeneration"),
                     "must be greater than or equal to zero");
    }
    if (text_of(condition, "lastTransitionTime").empty())
      errors.required(at / "lastTransitionTime", "must be set");
    const bool spelt =
        !reason.empty() && letter(reason.front()) && word(reason.back()) &&
        std::all_of(reason.begin(), reason.end(), [&](char c) { return word(c) || c == ',' || c == ':'; });
    if (reason.empty()) {
      errors.required(at / "reason", "must be set");
    } else if (!spelt) {
      errors.invalid(at / "reason", reason, kReasonText);
    }
    if (reason.size() > kReasonMax) errors.too_long(at / "reason", kReasonMax);
    if (text_of(condition, "message").size() > kMessageMax) errors.too_long(at / "message", kMessageMax);
  });
}

void check_port(const json::value* port, const FieldPath& path, FieldErrors& errors) {
  if (port == nullptr || port->is_int64()) {
    const std::int64_t number = port == nullptr ? 0 : port->get_int64();
    if (number < 1 || number > 65535) errors.invalid(path, json::value(number), kPortRangeText);
  } else if (port->is_string()) {
    check_text(port->get_string(), check_port_name(port->get_string()), path, errors);
  }
}

void check_no_backsteps(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  for (const std::string_view part : split_words(text, '/')) {
    if (part == "..") return errors.invalid(path, text, "must not contain '..'");
  }
}

void check_descending_path(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  if (text.starts_with("/")) errors.invalid(path, text, "must be a relative path");
  check_no_backsteps(text, path, errors);
}

void check_local_path(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  check_descending_path(text, path, errors);
  // "../x" and ".." were told above; upstream tells ".." twice, and so do we.
  if (text.starts_with("..") && !text.starts_with("../"))
    errors.invalid(path, text, "must not start with '..'");
}

void check_domain_path(std::string_view text, const FieldPath& path, FieldErrors& errors) {
  if (text.empty()) return errors.required(path);
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size()) {
    return errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
  }
  const std::string_view domain = text.substr(0, slash), rest = text.substr(slash + 1);
  check_text(domain, check_dns1123_subdomain(domain), path, errors);
  const bool good = std::all_of(rest.begin(), rest.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/-._~%!$&'()*+,;=:").find(c) != std::string_view::npos;
  });
  if (!good) {
    errors.invalid(path, rest,
                   "Invalid path (regex used for validation is "
                   "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')");
  }
}

bool is_cidr(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view address = text.substr(0, slash), bits = text.substr(slash + 1);
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (bits.empty() || bits.size() > 3 || !std::all_of(bits.begin(), bits.end(), digit)) return false;
  const int count = std::stoi(std::string(bits));
  return (is_ipv4(address) && count <= 32) || (is_ipv6(address) && count <= 128);
}

void check_int_or_percent(const json::object& object, std::string_view field, const FieldPath& path,
                          FieldErrors& errors) {
  const json::value* value = object.if_contains(field);
  if (value == nullptr) return;
  if (value->is_int64()) return check_not_negative(object, field, path, errors);
  if (percent_of(text_of(object, field))) return;
  errors.invalid(path / field, *value,
                 "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
                 "'93%', regex used for validation is '[0-9]+%')");
}

void check_at_most_100_percent(const json::object& object, std::string_view field, const FieldPath& path,
                               FieldErrors& errors) {
  const auto percent = percent_of(text_of(object, field));
  if (percent && *percent > 100)
    errors.invalid(path / field, text_of(object, field), "must not be greater than 100%");
}

std::int64_t int_or_percent_value(const json::object& object, std::string_view field) {
  return percent_of(text_of(object, field)).value_or(int_of(object, field));
}

std::optional<Quantity> quantity_of(const json::value& value) {
  if (!value.is_string()) return std::nullopt;
  auto parsed = Quantity::parse(std::string_view(value.get_string()));
  return parsed ? std::optional<Quantity>(*parsed) : std::nullopt;
}
std::optional<Quantity> quantity_of(const json::object& object, std::string_view name) {
  const json::value* found = object.if_contains(name);
  return found == nullptr ? std::nullopt : quantity_of(*found);
}

bool is_huge_page(std::string_view name) { return name.starts_with("hugepages-"); }

void check_quantity(std::string_view resource, const json::value& value, const FieldPath& path,
                    FieldErrors& errors) {
  const auto amount = quantity_of(value);
  if (!amount) return;
  if (amount->sign() < 0) errors.invalid(path, amount->to_string(), kNotNegativeText);
  const bool counted = contains(kCountedResources, resource) || is_extended(resource);
  if (counted && amount->milli_value() % 1000 != 0)
    errors.invalid(path, amount->to_string(), "must be an integer");
}

bool is_quota_resource(std::string_view name) {
  return contains(kQuotaResources, name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
}

bool check_resource_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (const std::string wrong = check_qualified_name(name); !wrong.empty()) {
    errors.invalid(path, name, wrong);
    return false;
  }
  const bool plain = name.find('/') == std::string_view::npos;
  if (!plain || name == "storage" || is_quota_resource(name)) return true;
  errors.invalid(path, name, "must be a standard resource type or fully qualified");
  return false;
}

void check_container_resource_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  check_resource_name(name, path, errors);
  if (name.find('/') == std::string_view::npos) {
    if (!contains(kContainerResources, name) && !is_huge_page(name))
      errors.invalid(path, name, "must be a standard resource for containers");
  } else if (!is_native(name) && !is_extended(name)) {
    errors.invalid(path, name, "doesn't follow extended resource name standard");
  }
}

void check_resource_requirements(const json::object& resources, const std::set<std::string_view>& claims,
                                 bool pod_level, const FieldPath& path, FieldErrors& errors) {
  const json::object& limits = object_or_empty(resources, "limits");
  const FieldPath of_limits = path / "limits", of_requests = path / "requests";
  bool computes = false, pages = false;
  for (const char* which : {"limits", "requests"}) {
    const FieldPath list = path / which;
    for (const auto& [name, value] : object_or_empty(resources, which)) {
      const FieldPath at = list.key(name);
      pod_level ? check_pod_resource_name(name, at, errors) : check_container_resource_name(name, at, errors);
      check_quantity(name, value, at, errors);
      const auto amount = quantity_of(value);
      computes = computes || name == "cpu" || name == "memory";
      pages = pages || is_huge_page(name);
      if (is_huge_page(name) && amount) check_huge_page(name, *amount, at, errors);
      if (std::string_view(which) == "limits" || !amount) continue;
      const auto limit = quantity_of(limits, name);
      if (!limit) {
        if (!may_overcommit(name))
          errors.required(of_limits, "Limit must be set for non overcommitable resources");
      } else if (*amount != *limit && !may_overcommit(name)) {
        errors.invalid(of_requests, amount->to_string(),
                       "must be equal to " + std::string(name) + " limit of " + limit->to_string());
      } else if (*amount > *limit) {
        errors.invalid(
            of_requests, amount->to_string(),
            "must be less than or equal to " + std::string(name) + " limit of " + limit->to_string());
      }
    }
  }
  if (pages && !computes) errors.forbidden(path, "HugePages require cpu or memory");
  check_claims(resources, claims, path / "claims", errors);
}

}  // namespace orchestra::api
