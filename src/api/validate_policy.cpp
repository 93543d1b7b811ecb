// Validation of APIServices and of address kinds: pkg/apis/networking/validation and
// kube-aggregator/pkg/apis/apiregistration/validation.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }
std::string_view name_of(const json::object& object) {
  return text_of(object_or_empty(object, "metadata"), "name");
}

}  // namespace

void validate_api_service(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::string_view group = text_of(spec, "group"), version = text_of(spec, "version");
  const std::string expected = std::string(version) + "." + std::string(group);
  if (name_of(object) != expected && check_path_segment(name_of(object)).empty()) {
    errors.invalid(FieldPath("metadata") / "name", name_of(object),
                   "must be `spec.version+\".\"+spec.group`: \"" + expected + "\"");
  }
  if (group.empty() && version != "v1")
    errors.required(path / "group", "only v1 may have an empty group and it better be legacy kube");
  if (!group.empty()) check_text(group, check_dns1123_subdomain(group), path / "group", errors);
  check_text(version, check_dns1035_label(version), path / "version", errors);
  const std::int64_t of_group = int_of(spec, "groupPriorityMinimum"),
                     of_version = int_of(spec, "versionPriority");
  if (of_group <= 0 || of_group > 20000) {
    errors.invalid(path / "groupPriorityMinimum", json::value(of_group),
                   "must be positive and less than 20000");
  }
  if (of_version <= 0 || of_version > 1000)
    errors.invalid(path / "versionPriority", json::value(of_version), "must be positive and less than 1000");
  const std::string_view bundle = text_of(spec, "caBundle");
  const bool unverified = flag_of(spec, "insecureSkipTLSVerify");
  const json::object* service = object_of(spec, "service");
  if (service == nullptr) {
    if (!bundle.empty()) {
      const std::size_t bytes = decode_base64_text(bundle).value_or(std::string()).size();
      const std::string shown = std::to_string(bytes) + " bytes";
      errors.invalid(path / "caBundle", std::string_view(shown), "local APIServices may not have a caBundle");
    }
    if (unverified) {
      errors.invalid(path / "insecureSkipTLSVerify", json::value(true),
                     "local APIServices may not have insecureSkipTLSVerify");
    }
    return;
  }
  const FieldPath target = path / "service";
  for (const char* field : {"namespace", "name"}) {
    if (text_of(*service, field).empty()) errors.required(target / field);
  }
  const std::int64_t port = int_of(*service, "port", 443);
  if (port < 1 || port > 65535)
    errors.invalid(target / "port", json::value(port), std::string("port is not valid: ") + kPortRangeText);
  if (unverified && !bundle.empty()) {
    errors.invalid(path / "insecureSkipTLSVerify", json::value(true),
                   "may not be true if caBundle is present");
  }
}

void validate_api_service_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const FieldPath status("status");
  const FieldPath list = status / "conditions";
  for_each_object(object_or_empty(object, "status"), "conditions",
                  [&](std::size_t index, const json::object& condition) {
                    const std::string_view word = text_of(condition, "status");
                    if (word != "True" && word != "False" && word != "Unknown") {
                      const FieldPath at = list[index];
                      errors.not_supported(at / "status", json::string(word), {"True", "False", "Unknown"});
                    }
                  });
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

}  // namespace orchestra::api
