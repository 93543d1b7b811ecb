// Volumes of pods and PersistentVolumes, and what a claim asks for: ValidateVolumes, validate*VolumeSource,
// ValidatePersistentVolumeSpec and -ClaimSpec of pkg/apis/core/validation/validation.go.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kModeText = "must be a number between 0 and 0777 (octal), both inclusive";
constexpr const char* kOneTypeText = "may not specify more than 1 volume type";
constexpr std::int64_t kTokenSecondsMin = 600, kTokenSecondsMax = std::int64_t{1} << 32;
constexpr std::size_t kIscsiNameMax = 64;

void check_mode(const json::object& source, const char* field, const FieldPath& path, FieldErrors& errors) {
  const json::value* mode = source.if_contains(field);
  if (mode != nullptr && mode->is_int64() && (mode->get_int64() < 0 || mode->get_int64() > 0777))
    errors.invalid(path / field, *mode, kModeText);
}

// --- what each source must say -----------------------------------------------------------------------------

struct Needed {
  std::string_view source;
  std::vector<std::string_view> fields;
};
/// Text fields that may not be empty.
const std::vector<Needed>& needed_fields() {
  static const std::vector<Needed> kNeeded = {{"awsElasticBlockStore", {"volumeID"}},
                                              {"azureDisk", {"diskName", "diskURI"}},
                                              {"azureFile", {"secretName", "shareName"}},
                                              {"cinder", {"volumeID"}},
                                              {"flexVolume", {"driver"}},
                                              {"gcePersistentDisk", {"pdName"}},
                                              {"gitRepo", {"repository"}},
                                              {"glusterfs", {"endpoints", "path"}},
                                              {"hostPath", {"path"}},
                                              {"iscsi", {"targetPortal", "iqn"}},
                                              {"local", {"path"}},
                                              {"nfs", {"server", "path"}},
                                              {"persistentVolumeClaim", {"claimName"}},
                                              {"photonPersistentDisk", {"pdID"}},
                                              {"portworxVolume", {"volumeID"}},
                                              {"quobyte", {"volume"}},
                                              {"rbd", {"image"}},
                                              {"scaleIO", {"gateway", "system", "volumeName"}},
                                              {"storageos", {"volumeName"}},
                                              {"vsphereVolume", {"volumePath"}}};
  return kNeeded;
}
constexpr std::string_view kToldBySchema[] = {"hostPath", "persistentVolumeClaim"};

/// The name that upstream gives the source in paths of its own errors.
std::string_view path_name(std::string_view source) {
  return source == "gcePersistentDisk" ? "persistentDisk" : source;
}

bool is_iscsi_name(std::string_view name) {
  const auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto digits = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (name.starts_with("eui.")) return name.size() == 20 && std::all_of(name.begin() + 4, name.end(), alnum);
  if (name.starts_with("naa.")) return name.size() == 36 && std::all_of(name.begin() + 4, name.end(), alnum);
  // iqn.YYYY-MM.domain:unique
  const std::size_t colon = name.find(':');
  return name.size() > 12 && name.starts_with("iqn.") && digits(name.substr(4, 4)) && name[8] == '-' &&
         digits(name.substr(9, 2)) && name[11] == '.' && colon != std::string_view::npos && colon > 12 &&
         colon + 1 < name.size() && name.find_first_of(",;*&$| \t\n", colon) == std::string_view::npos;
}

void check_iscsi_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (!name.starts_with("iqn") && !name.starts_with("eui") && !name.starts_with("naa")) {
    errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
  } else if (!is_iscsi_name(name)) {
    errors.invalid(path, name, "must be valid format");
  }
}

void check_range(const json::object& source, const char* field, std::int64_t told_min, const FieldPath& path,
                 FieldErrors& errors) {
  const std::int64_t number = int_of(source, field);
  if (number >= 0 && number <= 255) return;
  errors.invalid(path / field, json::value(number),
                 "must be between " + std::to_string(told_min) + " and 255, inclusive");
}

void check_iscsi(const json::object& source, std::string_view name, bool in_pod, const FieldPath& path,
                 FieldErrors& errors) {
  if (const std::string_view iqn = text_of(source, "iqn"); !iqn.empty())
    check_iscsi_name(iqn, path / "iqn", errors);
  check_range(source, "lun", 0, path, errors);
  const bool chap = flag_of(source, "chapAuthDiscovery") || flag_of(source, "chapAuthSession");
  if (chap && !source.contains("secretRef")) errors.required(path / "secretRef");
  if (!source.contains("initiatorName")) return;
  check_iscsi_name(text_of(source, "initiatorName"), path / "initiatorname", errors);
  const std::string_view portal = text_of(source, "targetPortal");
  if (name.size() + 1 + portal.size() <= kIscsiNameMax || in_pod) return;
  errors.invalid(path / "targetportal", portal,
                 "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if "
                 "iscsi.initiatorName is specified.");
}

void check_fc(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const json::array& names = array_or_empty(source, "targetWWNs");
  const bool ids = !array_or_empty(source, "wwids").empty();
  if (names.empty() && !ids)
    errors.required(path / "targetWWNs", "must specify either targetWWNs or wwids, but not both");
  if (names.empty()) return;
  if (ids) {
    errors.invalid(path / "targetWWNs", json::value(names),
                   "targetWWNs and wwids can not be specified simultaneously");
  }
  if (!source.contains("lun")) {
    errors.required(path / "lun", "lun is required if targetWWNs is specified");
  } else {
    check_range(source, "lun", 0, path, errors);
  }
}

void check_azure_disk(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const std::string_view caching = text_of(source, "cachingMode"), kind = text_of(source, "kind");
  const std::string_view uri = text_of(source, "diskURI");
  if (caching != "None" && caching != "ReadOnly" && caching != "ReadWrite")
    errors.not_supported(path / "cachingMode", json::string(caching), {"None", "ReadOnly", "ReadWrite"});
  if (kind != "Dedicated" && kind != "Managed" && kind != "Shared")
    errors.not_supported(path / "kind", json::string(kind), {"Dedicated", "Managed", "Shared"});
  if (kind == "Managed" && !uri.starts_with("/subscriptions/")) {
    errors.not_supported(path / "diskURI", json::string(uri),
                         {"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/"
                          "disks/{disk-id}"});
  } else if (kind != "Managed" && !uri.starts_with("https://")) {
    errors.not_supported(path / "diskURI", json::string(uri),
                         {"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"});
  }
}

void check_flex_options(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const FieldPath options = path / "options";
  for (const auto& member : object_or_empty(source, "options")) {
    const std::string_view key = member.key();
    std::string domain = "." + std::string(key.substr(0, key.find('/')));
    std::transform(domain.begin(), domain.end(), domain.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io"))
      errors.invalid(options.key(key), key, "kubernetes.io and k8s.io namespaces are reserved");
  }
}

/// Name, and in a PersistentVolume the namespace, of the Secret of a source.
void check_secret_ref(const json::object& source, bool in_pod, bool names_checked, const char* field,
                      const FieldPath& path, FieldErrors& errors) {
  const json::object* reference = object_of(source, field);
  if (reference == nullptr) return;
  const FieldPath at = path / field;
  const std::string_view name = text_of(*reference, "name"), ns = text_of(*reference, "namespace");
  if (name.empty()) {
    errors.required(at / "name");
  } else if (names_checked) {
    check_text(name, check_dns1123_subdomain(name), in_pod ? path / "name" : at / "name", errors);
  }
  if (in_pod) return;
  if (ns.empty()) {
    errors.required(at / "namespace");
  } else if (names_checked) {
    check_text(ns, check_dns1123_label(ns), at / "namespace", errors);
  }
}

void check_csi_driver(std::string_view driver, const FieldPath& path, FieldErrors& errors) {
  if (driver.empty()) errors.required(path);
  if (driver.size() > 63) errors.too_long(path, 63);
  std::string lower(driver);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  check_text(driver, check_dns1123_subdomain(lower), path, errors);
}

void check_csi(const json::object& source, bool in_pod, const FieldPath& path, FieldErrors& errors) {
  check_csi_driver(text_of(source, "driver"), path / "driver", errors);
  if (!in_pod) check_required(source, "volumeHandle", path, errors);
  if (in_pod) return check_secret_ref(source, true, true, "nodePublishSecretRef", path, errors);
  for (const char* field : {"controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef",
                            "nodeExpandSecretRef"})
    check_secret_ref(source, false, true, field, path, errors);
}

void check_quobyte(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  constexpr const char* kText = "must be a host:port pair or multiple pairs separated by commas";
  const std::string_view registry = text_of(source, "registry");
  if (registry.empty()) {
    errors.required(path / "registry", kText);
  } else if (text_of(source, "tenant").size() >= 65) {
    errors.required(path / "tenant", "must be a UUID and may not exceed a length of 64 characters");
  } else {
    for (const std::string_view pair : split_words(registry, ',')) {
      if (std::count(pair.begin(), pair.end(), ':') != 1) errors.invalid(path / "registry", registry, kText);
    }
  }
}

// --- projected, downward -----------------------------------------------------------------------------------

void check_downward_file(const json::object& file, const FieldPath& path, FieldErrors& errors) {
  const std::string_view where = text_of(file, "path");
  if (where.empty()) errors.required(path / "path");
  check_local_path(where, path / "path", errors);
  const json::object* field = object_of(file, "fieldRef");
  const json::object* resource = object_of(file, "resourceFieldRef");
  if (field != nullptr) {
    check_field_ref(*field, true, path / "fieldRef", errors);
    if (resource != nullptr)
      errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
  } else if (resource != nullptr) {
    check_resource_field_ref(*resource, true, path / "resourceFieldRef", errors);
  } else {
    errors.required(path, "one of fieldRef and resourceFieldRef is required");
  }
  check_mode(file, "mode", path, errors);
}

void check_items(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const FieldPath items = path / "items";
  for_each_object(source, "items", [&](std::size_t i, const json::object& item) {
    check_key_to_path(item, items[i], errors);
  });
}

void check_token(const json::object& token, const FieldPath& source, const FieldPath& path,
                 FieldErrors& errors) {
  const std::int64_t seconds = int_of(token, "expirationSeconds", 3600);
  if (seconds < kTokenSecondsMin) {
    errors.invalid(source / "expirationSeconds", json::value(seconds),
                   "may not specify a duration less than 10 minutes");
  }
  if (seconds > kTokenSecondsMax) {
    errors.invalid(source / "expirationSeconds", json::value(seconds),
                   "may not specify a duration larger than 2^32 seconds");
  }
  const std::string_view where = text_of(token, "path");
  if (where.empty()) return errors.required(path / "path");
  check_local_path(where, path / "path", errors);
}

void check_projected(const json::object& projected, const FieldPath& path, FieldErrors& errors) {
  check_mode(projected, "defaultMode", path, errors);
  std::set<std::string_view> paths;
  const auto once = [&](std::string_view where, std::string_view shown) {
    if (!where.empty() && !paths.insert(where).second)
      errors.invalid(path, shown, "conflicting duplicate paths");
  };
  const FieldPath sources = path / "sources";
  for_each_object(projected, "sources", [&](std::size_t i, const json::object& source) {
    const FieldPath at = sources[i];
    int kinds = 0;
    for (const char* kind : {"secret", "configMap"}) {
      const json::object* from = object_of(source, kind);
      if (from == nullptr) continue;
      ++kinds;
      const FieldPath below = at / kind;
      check_required(*from, "name", below, errors);
      check_items(*from, below, errors);
      for_each_object(*from, "items", [&](std::size_t, const json::object& item) {
        once(text_of(item, "path"), text_of(*from, "name"));
      });
    }
    if (const json::object* from = object_of(source, "downwardAPI")) {
      ++kinds;
      for_each_object(*from, "items", [&](std::size_t, const json::object& file) {
        check_downward_file(file, at / "downwardAPI", errors);
        once(text_of(file, "path"), text_of(file, "path"));
      });
    }
    if (const json::object* token = object_of(source, "serviceAccountToken")) {
      ++kinds;
      check_token(*token, at / "serviceAccountToken", path, errors);
    }
    if (kinds > 1) errors.forbidden(at, "may not specify more than 1 volume type per source");
  });
}

void check_ephemeral(const json::object& source, std::string_view pod_name, std::string_view volume,
                     const FieldPath& path, const FieldPath& volume_path, FieldErrors& errors) {
  const json::object* claim = object_of(source, "volumeClaimTemplate");
  const FieldPath at = path / "volumeClaimTemplate";
  if (claim == nullptr) {
    errors.required(at);
  } else {
    const json::object& meta = object_or_empty(*claim, "metadata");
    const FieldPath of_meta = at / "metadata";
    validate_annotations(meta.if_contains("annotations"), of_meta / "annotations", errors);
    validate_labels(meta.if_contains("labels"), of_meta / "labels", errors);
    for (const auto& member : meta) {
      if (member.key() != "labels" && member.key() != "annotations" && !member.value().is_null())
        errors.forbidden(of_meta / member.key(), "cannot be set");
    }
    check_claim_spec(object_or_empty(*claim, "spec"), at / "spec", errors);
  }
  if (pod_name.empty() || volume.empty()) return;
  const std::string name = std::string(pod_name) + "-" + std::string(volume);
  if (const std::string wrong = check_dns1123_subdomain(name); !wrong.empty())
    errors.invalid(volume_path / "name", volume, "PVC name \"" + name + "\": " + wrong);
}

// --- any source --------------------------------------------------------------------------------------------

void check_simple_source(std::string_view kind, const json::object& source, const FieldPath& path,
                         FieldErrors& errors) {
  const auto found = std::find_if(needed_fields().begin(), needed_fields().end(),
                                  [&](const Needed& each) { return each.source == kind; });
  const bool told =
      std::find(std::begin(kToldBySchema), std::end(kToldBySchema), kind) != std::end(kToldBySchema);
  if (found == needed_fields().end() || told) return;
  for (const std::string_view field : found->fields) check_required(source, field, path, errors);
}

/// The rules of one source; those of ephemeral are the caller's.
void check_source(std::string_view kind, const json::object& source, std::string_view name, bool in_pod,
                  const FieldPath& path, FieldErrors& errors) {
  check_simple_source(kind, source, path, errors);
  if (kind == "emptyDir") {
    const auto size = quantity_of(source, "sizeLimit");
    if (size && size->sign() < 0)
      errors.forbidden(path / "sizeLimit", "SizeLimit field must be a valid resource quantity");
  } else if (kind == "hostPath" || kind == "local") {
    check_no_backsteps(text_of(source, "path"), path / "path", errors);
  } else if (kind == "gitRepo") {
    check_descending_path(text_of(source, "directory"), path / "directory", errors);
  } else if (kind == "gcePersistentDisk" || kind == "awsElasticBlockStore") {
    check_range(source, "partition", 1, path, errors);
  } else if (kind == "secret" || kind == "configMap") {
    if (kind == "configMap") check_required(source, "name", path, errors);
    check_mode(source, "defaultMode", path, errors);
    check_items(source, path, errors);
  } else if (kind == "nfs") {
    if (!text_of(source, "path").starts_with("/"))
      errors.invalid(path / "path", text_of(source, "path"), "must be an absolute path");
  } else if (kind == "iscsi") {
    check_iscsi(source, name, in_pod, path, errors);
  } else if (kind == "flocker") {
    const std::string_view dataset = text_of(source, "datasetName"), uuid = text_of(source, "datasetUUID");
    if (dataset.empty() && uuid.empty())
      errors.required(path, "one of datasetName and datasetUUID is required");
    if (!dataset.empty() && !uuid.empty())
      errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    if (dataset.find('/') != std::string_view::npos)
      errors.invalid(path / "datasetName", dataset, "must not contain '/'");
  } else if (kind == "rbd" || kind == "cephfs") {
    if (array_or_empty(source, "monitors").empty()) errors.required(path / "monitors");
  } else if (kind == "cinder") {
    check_secret_ref(source, in_pod, false, "secretRef", path, errors);
  } else if (kind == "storageos") {
    for (const char* field : {"volumeName", "volumeNamespace"}) {
      const std::string_view text = text_of(source, field);
      if (!text.empty()) check_text(text, check_dns1123_label(text), path / field, errors);
    }
    check_secret_ref(source, in_pod, false, "secretRef", path, errors);
  } else if (kind == "quobyte") {
    check_quobyte(source, path, errors);
  } else if (kind == "downwardAPI") {
    check_mode(source, "defaultMode", path, errors);
    for_each_object(source, "items",
                    [&](std::size_t, const json::object& file) { check_downward_file(file, path, errors); });
  } else if (kind == "fc") {
    check_fc(source, path, errors);
  } else if (kind == "flexVolume") {
    check_flex_options(source, path, errors);
  } else if (kind == "azureFile") {
    const json::value* ns = source.if_contains("secretNamespace");
    if (!in_pod && ns != nullptr && ns->is_string() && ns->get_string().empty())
      errors.required(path / "secretNamespace");
  } else if (kind == "azureDisk") {
    check_azure_disk(source, path, errors);
  } else if (kind == "glusterfs") {
    const json::value* ns = source.if_contains("endpointsNamespace");
    if (in_pod || ns == nullptr || !ns->is_string()) return;
    if (ns->get_string().empty()) {
      errors.invalid(path / "endpointsNamespace", "",
                     "if the endpointnamespace is set, it must be a valid namespace name");
    } else {
      check_text(ns->get_string(), check_dns1123_label(ns->get_string()), path / "endpointsNamespace",
                 errors);
    }
  } else if (kind == "projected") {
    check_projected(source, path, errors);
  } else if (kind == "csi") {
    check_csi(source, in_pod, path, errors);
  }
}

/// In upstream's order, which decides which source is the one too many.
constexpr std::string_view kPodSources[] = {"emptyDir",
                                            "hostPath",
                                            "gitRepo",
                                            "gcePersistentDisk",
                                            "awsElasticBlockStore",
                                            "secret",
                                            "nfs",
                                            "iscsi",
                                            "glusterfs",
                                            "flocker",
                                            "persistentVolumeClaim",
                                            "rbd",
                                            "cinder",
                                            "cephfs",
                                            "quobyte",
                                            "downwardAPI",
                                            "fc",
                                            "flexVolume",
                                            "configMap",
                                            "azureFile",
                                            "vsphereVolume",
                                            "photonPersistentDisk",
                                            "portworxVolume",
                                            "azureDisk",
                                            "storageos",
                                            "projected",
                                            "scaleIO",
                                            "csi",
                                            "ephemeral",
                                            "image"};
constexpr std::string_view kVolumeSources[] = {"hostPath",
                                               "gcePersistentDisk",
                                               "awsElasticBlockStore",
                                               "glusterfs",
                                               "flocker",
                                               "nfs",
                                               "rbd",
                                               "quobyte",
                                               "cephfs",
                                               "iscsi",
                                               "cinder",
                                               "fc",
                                               "flexVolume",
                                               "azureFile",
                                               "vsphereVolume",
                                               "photonPersistentDisk",
                                               "portworxVolume",
                                               "azureDisk",
                                               "scaleIO",
                                               "local",
                                               "storageos",
                                               "csi"};

/// Upstream's own spelling where a second source is refused.
std::string_view refused_name(std::string_view source) {
  if (source == "cephfs") return "cephFS";
  return source == "downwardAPI" ? "downwarAPI" : source;
}

void check_access_modes(const json::object& spec, std::string_view missing, const FieldPath& path,
                        FieldErrors& errors) {
  const json::array& modes = array_or_empty(spec, "accessModes");
  if (modes.empty()) errors.required(path / "accessModes", missing);
  static constexpr std::string_view kModes[] = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce",
                                                "ReadWriteOncePod"};
  bool single = false, other = false;
  for (const json::value& mode : modes) {
    const std::string_view text = mode.is_string() ? std::string_view(mode.get_string()) : std::string_view();
    const bool known = std::find(std::begin(kModes), std::end(kModes), text) != std::end(kModes);
    if (!known) errors.not_supported(path / "accessModes", mode, {std::begin(kModes), std::end(kModes)});
    single = single || text == "ReadWriteOncePod";
    other = other || (known && text != "ReadWriteOncePod");
  }
  if (single && other)
    errors.forbidden(path / "accessModes", "may not use ReadWriteOncePod with other access modes");
}

void check_data_source(const json::object& spec, const char* field, const FieldPath& path,
                       FieldErrors& errors) {
  const json::object* source = object_of(spec, field);
  if (source == nullptr) return;
  const FieldPath at = path / field;
  for (const char* needed : {"name", "kind"}) check_required(*source, needed, at, errors);
  const std::string_view group = text_of(*source, "apiGroup"), kind = text_of(*source, "kind");
  if (group.empty() && kind != "PersistentVolumeClaim") {
    errors.invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
  }
  if (!group.empty()) check_text(group, check_dns1123_subdomain(group), at / "apiGroup", errors);
  const std::string_view ns = text_of(*source, "namespace");
  if (!ns.empty()) check_text(ns, check_dns1123_label(ns), at / "namespace", errors);
}

void check_capacity(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& capacity = object_or_empty(spec, "capacity");
  const FieldPath at = path / "capacity";
  if (capacity.empty()) errors.required(at);
  if (!capacity.contains("storage") || capacity.size() > 1)
    errors.not_supported(at, json::value(capacity), {"storage"});
  for (const auto& [name, value] : capacity) {
    const auto amount = quantity_of(value);
    if (!amount) continue;
    if (amount->value() < 0)
      errors.invalid(at.key(name), json::value(amount->value()), "must be a valid resource quantity");
    if (amount->sign() <= 0) errors.invalid(at.key(name), amount->to_string(), kPositiveText);
  }
}

/// "/" and what is the same: "//", "/./", "/a/..".
bool is_root(std::string_view path) {
  int depth = 0;
  for (const std::string_view part : split_words(path, '/')) {
    if (part.empty() || part == ".") continue;
    depth += part == ".." ? (depth > 0 ? -1 : 0) : 1;
  }
  return path.starts_with("/") && depth == 0;
}

}  // namespace

void check_key_to_path(const json::object& item, const FieldPath& path, FieldErrors& errors) {
  // An empty key or path is told by the schema.
  check_local_path(text_of(item, "path"), path / "path", errors);
  check_mode(item, "mode", path, errors);
}

void check_volumes(const json::object& spec, std::string_view pod_name, bool is_pod, const FieldPath& path,
                   FieldErrors& errors, Volumes& volumes) {
  const FieldPath list = path / "volumes";
  std::set<std::string> made;
  for_each_object(spec, "volumes", [&](std::size_t, const json::object& volume) {
    if (!pod_name.empty() && volume.contains("ephemeral"))
      made.insert(std::string(pod_name) + "-" + std::string(text_of(volume, "name")));
  });
  for_each_object(spec, "volumes", [&](std::size_t index, const json::object& volume) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(volume, "name");
    const std::size_t before = errors.size();
    bool sourced = false;
    for (const std::string_view kind : kPodSources) {
      const json::object* source = object_of(volume, kind);
      if (source == nullptr) continue;
      if (sourced) {
        errors.forbidden(at / refused_name(kind), kOneTypeText);
        continue;
      }
      sourced = true;
      if (kind == "ephemeral") {
        check_ephemeral(*source, pod_name, name, at / kind, at, errors);
      } else if (kind == "image") {
        if (is_pod) check_required(*source, "reference", at / kind, errors);
      } else {
        check_source(kind, *source, name, true, at / path_name(kind), errors);
      }
    }
    const json::object* iscsi = object_of(volume, "iscsi");
    if (iscsi != nullptr && iscsi->contains("initiatorName") &&
        name.size() + 1 + text_of(*iscsi, "targetPortal").size() > kIscsiNameMax) {
      errors.invalid(at / "name", name,
                     "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if "
                     "iscsi.initiatorName is specified.");
    }
    if (!sourced) errors.required(at, "must specify a volume type");
    if (!name.empty()) check_text(name, check_dns1123_label(name), at / "name", errors);
    if (volumes.count(name) > 0) errors.duplicate(at / "name", json::string(name));
    if (errors.size() == before) volumes[name] = &volume;
    const std::string claim(text_of(object_or_empty(volume, "persistentVolumeClaim"), "claimName"));
    if (made.count(claim) > 0) {
      const FieldPath below = at / "persistentVolumeClaim";
      errors.invalid(below / "claimName", claim,
                     "must not reference a PVC that gets created for an ephemeral volume");
    }
  });
}

void check_claim_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  check_access_modes(spec, "at least 1 access mode is required", path, errors);
  const json::value* storage =
      object_or_empty(object_or_empty(spec, "resources"), "requests").if_contains("storage");
  const FieldPath resources = path / "resources";
  const auto amount = storage == nullptr ? std::nullopt : quantity_of(*storage);
  if (storage == nullptr) {
    errors.required(resources.key("storage"));
  } else if (amount && amount->sign() <= 0) {
    errors.invalid(resources.key("storage"), amount->to_string(), kPositiveText);
  }
  for (const char* field : {"storageClassName", "volumeAttributesClassName"}) {
    const std::string_view name = text_of(spec, field);
    if (!name.empty()) check_text(name, check_dns1123_subdomain(name), path / field, errors);
  }
  check_data_source(spec, "dataSource", path, errors);
  check_data_source(spec, "dataSourceRef", path, errors);
  const json::object* source = object_of(spec, "dataSource");
  const json::object* reference = object_of(spec, "dataSourceRef");
  if (source == nullptr || reference == nullptr) return;
  const FieldPath shown = path / "dataSource";
  if (!text_of(*reference, "namespace").empty()) {
    errors.invalid(path, shown.to_string(), "may not be specified when dataSourceRef.namespace is specified");
    return;
  }
  for (const char* field : {"apiGroup", "kind", "name"}) {
    if (text_of(*source, field) != text_of(*reference, field))
      return errors.invalid(path, shown.to_string(), "must match dataSourceRef");
  }
}

void check_persistent_volume_spec(const json::object& spec, std::string_view name, bool inlined,
                                  const FieldPath& path, FieldErrors& errors) {
  constexpr const char* kNotInline = "may not be specified in the context of inline volumes";
  if (inlined) {
    for (const char* field : {"claimRef", "capacity", "nodeAffinity", "storageClassName"}) {
      const json::value* given = spec.if_contains(field);
      const bool empty =
          given == nullptr ||
          (given->is_object() && given->get_object().empty() && std::string_view(field) == "capacity") ||
          (given->is_string() && given->get_string().empty());
      if (!empty) errors.forbidden(path / field, kNotInline);
    }
    if (!spec.contains("csi"))
      errors.required(path / "csi", "has to be specified in the context of inline volumes");
    const std::string_view policy = text_of(spec, "persistentVolumeReclaimPolicy");
    if (!policy.empty() && policy != "Retain") {
      errors.forbidden(path / "persistentVolumeReclaimPolicy",
                       "may only be Retain in the context of inline volumes");
    }
    const std::string_view mode = text_of(spec, "volumeMode");
    if (!mode.empty() && mode != "Filesystem") {
      errors.forbidden(path / "volumeMode",
                       "may not specify volumeMode other than Filesystem in the context of inline volumes");
    }
  }
  check_access_modes(spec, "", path, errors);
  if (!inlined) check_capacity(spec, path, errors);
  const json::object* affinity = object_of(spec, "nodeAffinity");
  if (affinity != nullptr && !inlined) {
    const FieldPath at = path / "nodeAffinity";
    if (const json::object* required = object_of(*affinity, "required")) {
      check_node_selector(*required, at / "required", errors);
    } else {
      errors.required(at / "required", "must specify required node constraints");
    }
  }
  bool sourced = false;
  for (const std::string_view kind : kVolumeSources) {
    const json::object* source = object_of(spec, kind);
    if (source == nullptr) continue;
    if (sourced && kind != "flexVolume") {
      errors.forbidden(path / refused_name(kind), kOneTypeText);
      continue;
    }
    sourced = true;
    check_source(kind, *source, name, false, path / path_name(kind), errors);
    if (kind == "local" && (affinity == nullptr || inlined))
      errors.required(path / "nodeAffinity", "Local volume requires node affinity");
  }
  if (!sourced) errors.required(path, "must specify a volume type");
  const json::object* host = object_of(spec, "hostPath");
  if (host != nullptr && is_root(text_of(*host, "path")) &&
      text_of(spec, "persistentVolumeReclaimPolicy") == "Recycle") {
    errors.forbidden(path / "persistentVolumeReclaimPolicy",
                     "may not be 'recycle' for a hostPath mount of '/'");
  }
  if (const std::string_view storage = text_of(spec, "storageClassName"); !storage.empty() && !inlined)
    check_text(storage, check_dns1123_subdomain(storage), path / "storageClassName", errors);
  if (!spec.contains("volumeAttributesClassName")) return;
  const std::string_view attributes = text_of(spec, "volumeAttributesClassName");
  if (attributes.empty()) {
    errors.required(path / "volumeAttributesClassName", "an empty string is disallowed");
  } else {
    check_text(attributes, check_dns1123_subdomain(attributes), path / "volumeAttributesClassName", errors);
  }
  if (!spec.contains("csi"))
    errors.required(path / "csi", "has to be specified when using volumeAttributesClassName");
}

void validate_persistent_volume(const json::object& object, FieldErrors& errors) {
  check_persistent_volume_spec(object_or_empty(object, "spec"),
                               text_of(object_or_empty(object, "metadata"), "name"), false, FieldPath("spec"),
                               errors);
}

void validate_persistent_volume_update(const json::object& object, const json::object& old_object,
                                       FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& old = object_or_empty(old_object, "spec");
  json::object now, before;
  for (const std::string_view kind : kVolumeSources) {
    if (const json::object* source = object_of(spec, kind)) now[kind] = *source;
    if (const json::object* source = object_of(old, kind)) before[kind] = *source;
  }
  // The secret for an expansion may be told later, once.
  json::object* csi = object_of(now, "csi");
  const json::object* old_csi = object_of(static_cast<const json::object&>(before), "csi");
  if (csi != nullptr && old_csi != nullptr && !old_csi->contains("controllerExpandSecretRef"))
    csi->erase("controllerExpandSecretRef");
  const FieldPath path("spec");
  if (now != before) {
    errors.forbidden(path / "persistentvolumesource",
                     "spec.persistentvolumesource is immutable after creation");
  }
  require_same(spec.if_contains("volumeMode"), old.if_contains("volumeMode"), FieldPath("volumeMode"),
               errors);
  const json::value* affinity = spec.if_contains("nodeAffinity");
  const json::value* was = old.if_contains("nodeAffinity");
  if (was != nullptr && (affinity == nullptr || *affinity != *was)) {
    errors.invalid(FieldPath("nodeAffinity"), affinity == nullptr ? json::value() : *affinity,
                   "field is immutable, except for updating from beta label to GA");
  }
  if (old.contains("volumeAttributesClassName") && !spec.contains("volumeAttributesClassName"))
    errors.forbidden(path / "volumeAttributesClassName", "update from non-nil value to nil is forbidden");
}

void validate_persistent_volume_claim(const json::object& object, FieldErrors& errors) {
  check_claim_spec(object_or_empty(object, "spec"), FieldPath("spec"), errors);
}

void validate_persistent_volume_claim_update(const json::object& object, const json::object& old_object,
                                             FieldErrors& errors) {
  constexpr const char* kClass = "volume.beta.kubernetes.io/storage-class";
  json::object spec = object_or_empty(object, "spec"), old = object_or_empty(old_object, "spec");
  const json::object& notes = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const json::object& old_notes = object_or_empty(object_or_empty(old_object, "metadata"), "annotations");
  const FieldPath path("spec");
  const json::object new_requests = object_or_empty(object_or_empty(spec, "resources"), "requests");
  const json::object old_requests = object_or_empty(object_or_empty(old, "resources"), "requests");
  const json::value* attributes = spec.if_contains("volumeAttributesClassName");
  const bool dropped = attributes == nullptr && old.contains("volumeAttributesClassName");
  const bool emptied = attributes != nullptr && old.contains("volumeAttributesClassName") &&
                       text_of(spec, "volumeAttributesClassName").empty() &&
                       *attributes != old.at("volumeAttributesClassName");
  if (text_of(old, "volumeName").empty()) {
    if (const json::value* name = spec.if_contains("volumeName")) {
      old["volumeName"] = *name;
    } else {
      old.erase("volumeName");
    }
  }
  const std::string_view noted = text_of(notes, kClass), old_noted = text_of(old_notes, kClass);
  const bool upgraded = old_notes.contains(kClass) && !old.contains("storageClassName") &&
                        text_of(spec, "storageClassName") == old_noted && spec.contains("storageClassName") &&
                        (!notes.contains(kClass) || noted == old_noted);
  if (upgraded) {
    spec.erase("storageClassName");
  } else {
    if (noted != old_noted)
      errors.invalid(FieldPath("metadata") / "annotations" / kClass, noted, "field is immutable");
    const bool from_nil = spec.contains("storageClassName") && !old.contains("storageClassName") &&
                          (!old_notes.contains(kClass) || text_of(spec, "storageClassName") == old_noted);
    if (from_nil) spec.erase("storageClassName");
  }
  const bool bound = text_of(object_or_empty(object, "status"), "phase") == "Bound";
  if (bound && !new_requests.empty() && old_requests.contains("storage"))
    spec["resources"].as_object()["requests"].as_object()["storage"] = old_requests.at("storage");
  if (bound && spec.contains("volumeAttributesClassName")) {
    spec.erase("volumeAttributesClassName");
    old.erase("volumeAttributesClassName");
  }
  if (spec != old) {
    errors.forbidden(path,
                     "spec is immutable after creation except resources.requests and "
                     "volumeAttributesClassName for bound claims");
  }
  const auto size = quantity_of(new_requests, "storage"), old_size = quantity_of(old_requests, "storage");
  const auto given =
      quantity_of(object_or_empty(object_or_empty(old_object, "status"), "capacity"), "storage");
  if (size && old_size && *size < *old_size && *size <= given.value_or(Quantity())) {
    const FieldPath resources = path / "resources";
    const FieldPath requests = resources / "requests";
    errors.forbidden(requests / "storage", "field can not be less than status.capacity");
  }
  require_same(spec.if_contains("volumeMode"), old.if_contains("volumeMode"), FieldPath("volumeMode"),
               errors);
  if (dropped)
    errors.forbidden(path / "volumeAttributesClassName", "update from non-nil value to nil is forbidden");
  if (emptied) {
    errors.forbidden(path / "volumeAttributesClassName",
                     "update from non-nil value to an empty string is forbidden");
  }
}

}  // namespace orchestra::api
