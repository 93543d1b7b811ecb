// Rules of StorageClass, VolumeAttributesClass, CSIDriver, CSINode, CSIStorageCapacity and VolumeAttachment:
// pkg/apis/storage/validation/validation.go.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kParametersMax = 512, kParameterBytesMax = 256 << 10;
constexpr std::size_t kDriverNameMax = 63, kNodeIdMax = 192;
constexpr std::int64_t kTokenSecondsMin = 600, kTokenSecondsMax = std::int64_t{1} << 32;
constexpr std::int64_t kUpdateSecondsMin = 10;
constexpr std::size_t kAttachmentBytesMax = 256 << 10, kVolumeErrorMax = 1024;

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

void check_driver_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (name.empty()) return;  // told by the schema
  if (name.size() > kDriverNameMax) errors.too_long(path, kDriverNameMax);
  check_text(name, check_dns1123_subdomain(lower_case(name)), path, errors);
}

void check_parameters(const json::object& object, FieldErrors& errors) {
  const FieldPath path("parameters");
  const json::object& parameters = object_or_empty(object, "parameters");
  if (parameters.size() > kParametersMax) return errors.too_long(path, kParametersMax);
  std::size_t total = 0;
  for (const auto& [key, value] : parameters) {
    if (key.empty()) errors.invalid(path, "", "field can not be empty.");
    total += key.size() + (value.is_string() ? value.get_string().size() : 0);
  }
  if (total > kParameterBytesMax) errors.too_long(path, kParameterBytesMax);
}

void forbid_changes(const json::object& object, const json::object& old,
                    std::initializer_list<const char*> fields, FieldErrors& errors) {
  for (const char* field : fields) {
    const json::value* now = object.if_contains(field);
    const json::value* before = old.if_contains(field);
    const bool same = now == nullptr || before == nullptr ? now == before : *now == *before;
    if (!same) errors.forbidden(FieldPath(field), std::string("updates to ") + field + " are forbidden.");
  }
}

void check_token_requests(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "tokenRequests";
  std::set<std::string_view> audiences;
  for_each_object(spec, "tokenRequests", [&](std::size_t i, const json::object& request) {
    const FieldPath at = list[i];
    const std::string_view audience = text_of(request, "audience");
    if (!audiences.insert(audience).second) return errors.duplicate(at / "audience", json::string(audience));
    if (!request.contains("expirationSeconds")) return;
    const std::int64_t seconds = int_of(request, "expirationSeconds");
    if (seconds < kTokenSecondsMin) {
      errors.invalid(at / "expirationSeconds", json::value(seconds),
                     "may not specify a duration less than 10 minutes");
    }
    if (seconds > kTokenSecondsMax) {
      errors.invalid(at / "expirationSeconds", json::value(seconds),
                     "may not specify a duration larger than 2^32 seconds");
    }
  });
}

void check_attachment_status(const json::object& status, FieldErrors& errors) {
  const FieldPath path("status");
  std::size_t bytes = 0;
  for (const auto& [key, value] : object_or_empty(status, "attachmentMetadata"))
    bytes += key.size() + (value.is_string() ? value.get_string().size() : 0);
  if (bytes > kAttachmentBytesMax) errors.too_long(path / "attachmentMetadata", kAttachmentBytesMax);
  for (const char* which : {"attachError", "detachError"}) {
    const json::object* error = object_of(status, which);
    if (error == nullptr) continue;
    const FieldPath at = path / which;
    // The bound that upstream tells here is that of the metadata.
    if (text_of(*error, "message").size() > kVolumeErrorMax)
      errors.too_long(at / "message", kAttachmentBytesMax);
    if (int_of(*error, "errorCode") < 0)
      errors.invalid(at / "errorCode", error->at("errorCode"), "must be between 0 and 2147483647, inclusive");
  }
}

}  // namespace

void validate_storage_class(const json::object& object, FieldErrors& errors) {
  const std::string_view provisioner = text_of(object, "provisioner"),
                         policy = text_of(object, "reclaimPolicy");
  if (!provisioner.empty()) {
    const std::string lower = lower_case(provisioner);
    check_text(lower, check_qualified_name(lower), FieldPath("provisioner"), errors);
  }
  check_parameters(object, errors);
  if (!policy.empty() && policy != "Delete" && policy != "Retain")
    errors.not_supported(FieldPath("reclaimPolicy"), json::string(policy), {"Delete", "Retain"});
  const FieldPath list("allowedTopologies");
  const json::array& all = array_or_empty(object, "allowedTopologies");
  for_each_object(object, "allowedTopologies", [&](std::size_t i, const json::object& term) {
    check_topology_term(term, list[i], errors);
    const auto here = all.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(all.begin(), here, all[i]) != here)
      errors.duplicate(list[i] / "matchLabelExpressions", json::string(""));
  });
}

void validate_storage_class_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  forbid_changes(object, old, {"parameters", "provisioner", "reclaimPolicy"}, errors);
  require_same(object.if_contains("volumeBindingMode"), old.if_contains("volumeBindingMode"),
               FieldPath("volumeBindingMode"), errors);
}

void validate_volume_attributes_class(const json::object& object, FieldErrors& errors) {
  const std::string lower = lower_case(text_of(object, "driverName"));
  if (!lower.empty()) check_text(lower, check_qualified_name(lower), FieldPath("driverName"), errors);
  check_parameters(object, errors);
  if (object_or_empty(object, "parameters").empty())
    errors.required(FieldPath("parameters"), "must contain at least one key/value pair");
}

void validate_volume_attributes_class_update(const json::object& object, const json::object& old,
                                             FieldErrors& errors) {
  forbid_changes(object, old, {"driverName", "parameters"}, errors);
}

void validate_volume_attachment(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& source = object_or_empty(spec, "source");
  const FieldPath path("spec");
  const FieldPath at = path / "source";
  constexpr const char* kText = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
  const bool inlined = source.contains("inlineVolumeSpec"), named = source.contains("persistentVolumeName");
  check_driver_name(text_of(spec, "attacher"), path / "attacher", errors);
  if (!inlined && !named) {
    errors.required(at, kText);
  } else if (inlined && named) {
    errors.forbidden(at, kText);
  } else if (named) {
    const std::string_view name = text_of(source, "persistentVolumeName");
    if (name.empty())
      errors.required(at / "persistentVolumeName", "must specify non empty persistentVolumeName");
    check_text(name, check_dns1123_subdomain(name), at / "persistentVolumeName", errors);
  } else {
    check_persistent_volume_spec(object_or_empty(source, "inlineVolumeSpec"), "", true,
                                 at / "inlineVolumeSpec", errors);
  }
  const std::string_view node = text_of(spec, "nodeName");
  if (!node.empty()) check_text(node, check_dns1123_subdomain(node), path / "nodeName", errors);
  check_attachment_status(object_or_empty(object, "status"), errors);
}

void validate_volume_attachment_status(const json::object& object, const json::object&, FieldErrors& errors) {
  check_attachment_status(object_or_empty(object, "status"), errors);
}

void validate_csi_driver(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_token_requests(spec, path, errors);
  const json::value* seconds = spec.if_contains("nodeAllocatableUpdatePeriodSeconds");
  if (seconds != nullptr && seconds->is_int64() && seconds->get_int64() < kUpdateSecondsMin) {
    errors.invalid(path / "nodeAllocatableUpdatePeriodSeconds", *seconds,
                   "must be greater than or equal to 10 seconds");
  }
}

void validate_csi_driver_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
  const FieldPath path("spec");
  for (const auto& [field, told] : {std::pair<const char*, const char*>{"attachRequired", "attachedRequired"},
                                    {"fsGroupPolicy", "fsGroupPolicy"},
                                    {"podInfoOnMount", "podInfoOnMount"},
                                    {"volumeLifecycleModes", "volumeLifecycleModes"}})
    require_same(now.if_contains(field), before.if_contains(field), path / told, errors);
}

void validate_csi_node(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const FieldPath list = path / "drivers";
  std::set<std::string_view> names;
  for_each_object(spec, "drivers", [&](std::size_t i, const json::object& driver) {
    const FieldPath at = list[i];
    const std::string_view name = text_of(driver, "name"), id = text_of(driver, "nodeID");
    check_driver_name(name, at / "name", errors);
    if (id.size() > kNodeIdMax) errors.invalid(at / "nodeID", id, "must be 192 characters or less");
    const json::object& allocatable = object_or_empty(driver, "allocatable");
    check_not_negative(allocatable, "count", at / "allocatable", errors);
    if (!names.insert(name).second) errors.duplicate(at / "name", json::string(name));
    std::set<std::string_view> keys;
    for (const json::value& each : array_or_empty(driver, "topologyKeys")) {
      const std::string_view key =
          each.is_string() ? std::string_view(each.get_string()) : std::string_view();
      if (key.empty()) errors.required(at);
      if (!keys.insert(key).second) errors.duplicate(at, json::string(key));
      check_text(key, check_qualified_name(key), at, errors);
    }
  });
}

void validate_csi_node_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const auto without_count = [](json::object driver) {
    driver.erase("allocatable");  // changes with what the driver reports
    return driver;
  };
  for_each_object(object_or_empty(old, "spec"), "drivers", [&](std::size_t, const json::object& before) {
    for_each_object(object_or_empty(object, "spec"), "drivers", [&](std::size_t, const json::object& now) {
      if (text_of(now, "name") == text_of(before, "name") && without_count(now) != without_count(before))
        errors.invalid(FieldPath("CSINodeDriver"), json::value(now), "field is immutable");
    });
  });
}

void validate_storage_capacity(const json::object& object, FieldErrors& errors) {
  const std::string_view name = text_of(object, "storageClassName");
  if (!name.empty()) check_text(name, check_dns1123_subdomain(name), FieldPath("storageClassName"), errors);
  for (const char* field : {"capacity", "maximumVolumeSize"}) {
    const auto amount = quantity_of(object, field);
    if (amount && amount->sign() < 0) errors.invalid(FieldPath(field), amount->to_string(), kNotNegativeText);
  }
}

void validate_storage_capacity_update(const json::object& object, const json::object& old,
                                      FieldErrors& errors) {
  for (const char* field : {"nodeTopology", "storageClassName"})
    require_same(object.if_contains(field), old.if_contains(field), FieldPath(field), errors);
}

}  // namespace orchestra::api
