// ObjectMeta: k8s.io/apimachinery/pkg/api/validation/objectmeta.go on JSON trees.
#include "api/meta.hpp"

#include <algorithm>
#include <set>

#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kAnnotationBytesMax = 256 << 10;

void validate_owners(const json::value* owners, const FieldPath& path, FieldErrors& errors) {
  if (owners == nullptr || !owners->is_array()) return;
  std::string controller;
  for (const json::value& entry : owners->get_array()) {
    if (!entry.is_object()) continue;
    const json::object& owner = entry.get_object();
    const auto must = [&](const char* field, const char* detail) {
      if (text_of(owner, field).empty()) errors.invalid(path / field, text_of(owner, field), detail);
    };
    must("apiVersion", "version must not be empty");
    must("kind", "must not be empty");
    must("name", "must not be empty");
    must("uid", "must not be empty");
    if (!bool_at(entry, "/controller")) continue;
    const std::string name(text_of(owner, "kind"));
    if (!controller.empty()) {
      errors.invalid(path, *owners,
                     "Only one reference can have Controller set to true. Found \"true\" in references for " +
                         controller + " and " + name);
    }
    controller = name;
  }
}

void validate_finalizers(const json::value* finalizers, const FieldPath& path, FieldErrors& errors) {
  if (finalizers == nullptr || !finalizers->is_array()) return;
  bool orphan = false, foreground = false;
  std::size_t index = 0;
  for (const json::value& entry : finalizers->get_array()) {
    const FieldPath at = path[index++];
    if (!entry.is_string()) continue;
    const std::string_view name = entry.get_string();
    orphan = orphan || name == "orphan";
    foreground = foreground || name == "foregroundDeletion";
    if (const std::string wrong = check_qualified_name(name); !wrong.empty()) {
      errors.invalid(at, name, wrong);
    } else if (name.find('/') == std::string_view::npos && name != "orphan" && name != "foregroundDeletion" &&
               name != "kubernetes") {
      errors.invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
  }
  if (orphan && foreground)
    errors.invalid(path, *finalizers, "finalizer orphan and foregroundDeletion cannot be both set");
}

void validate_identity(const TypeRecord& record, const json::object& meta, const FieldPath& path,
                       FieldErrors& errors) {
  const std::string_view name = text_of(meta, "name"), generate = text_of(meta, "generateName"),
                         ns = text_of(meta, "namespace");
  if (!generate.empty()) {
    // As upstream: the base is judged as if random letters followed.
    const std::string wrong = check_name(record.name_rule, std::string(generate) + "x");
    if (!wrong.empty()) errors.invalid(path / "generateName", generate, wrong);
  }
  if (name.empty()) {
    errors.required(path / "name", "name or generateName is required");
  } else if (const std::string wrong = check_name(record.name_rule, name); !wrong.empty()) {
    errors.invalid(path / "name", name, wrong);
  }
  if (record.namespaced) {
    if (ns.empty()) {
      errors.required(path / "namespace");
    } else if (const std::string wrong = check_dns1123_label(ns); !wrong.empty()) {
      errors.invalid(path / "namespace", ns, wrong);
    }
  } else if (!ns.empty()) {
    errors.forbidden(path / "namespace", "not allowed on this type");
  }
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower;
}

void validate_common(const json::object& meta, const FieldPath& path, FieldErrors& errors) {
  if (const json::value* generation = meta.if_contains("generation");
      generation && generation->is_int64() && generation->get_int64() < 0) {
    errors.invalid(path / "generation", *generation, "must be greater than or equal to 0");
  }
  validate_labels(meta.if_contains("labels"), path / "labels", errors);
  validate_annotations(meta.if_contains("annotations"), path / "annotations", errors);
  validate_owners(meta.if_contains("ownerReferences"), path / "ownerReferences", errors);
  validate_finalizers(meta.if_contains("finalizers"), path / "finalizers", errors);
}

}  // namespace

void validate_annotations(const json::value* annotations, const FieldPath& path, FieldErrors& errors) {
  if (annotations == nullptr || !annotations->is_object()) return;
  std::size_t total = 0;
  for (const auto& [key, value] : annotations->get_object()) {
    if (const std::string wrong = check_qualified_name(lower_case(key)); !wrong.empty())
      errors.invalid(path, std::string_view(key), wrong);
    total += key.size() + (value.is_string() ? value.get_string().size() : 0);
  }
  if (total > kAnnotationBytesMax) errors.too_long(path, kAnnotationBytesMax);
}

void validate_labels(const json::value* labels, const FieldPath& path, FieldErrors& errors) {
  if (labels == nullptr || !labels->is_object()) return;
  for (const auto& [key, value] : labels->get_object()) {
    if (const std::string wrong = check_qualified_name(key); !wrong.empty())
      errors.invalid(path, std::string_view(key), wrong);
    if (!value.is_string()) continue;
    const std::string_view text = value.get_string();
    if (const std::string wrong = check_label_value(text); !wrong.empty()) errors.invalid(path, text, wrong);
  }
}

void validate_metadata(const TypeRecord& record, const json::object& object, FieldErrors& errors) {
  static const json::object kEmpty;
  const json::value* found = object.if_contains("metadata");
  const json::object& meta = found != nullptr && found->is_object() ? found->get_object() : kEmpty;
  const FieldPath path("metadata");
  validate_identity(record, meta, path, errors);
  validate_common(meta, path, errors);
}

// Upstream's schema/objectmeta/validation.go: apiVersion and kind must be there, metadata need not.
void validate_embedded_resource(const json::object& object, const FieldPath& path, FieldErrors& errors) {
  const std::string_view version = text_of(object, "apiVersion"), kind = text_of(object, "kind");
  if (version.empty()) {
    errors.required(path / "apiVersion");
  } else if (std::count(version.begin(), version.end(), '/') > 1) {
    errors.invalid(path / "apiVersion", version, "unexpected GroupVersion string: " + std::string(version));
  }
  if (kind.empty()) {
    errors.required(path / "kind");
  } else if (const std::string wrong = check_dns1035_label(lower_case(kind)); !wrong.empty()) {
    errors.invalid(path / "kind", kind, "may have mixed case, but should otherwise match: " + wrong);
  }
  const json::value* found = object.if_contains("metadata");
  if (found == nullptr || !found->is_object()) return;
  const json::object& meta = found->get_object();
  const FieldPath inner = path / "metadata";
  const std::string_view name = text_of(meta, "name"), generate = text_of(meta, "generateName"),
                         ns = text_of(meta, "namespace");
  if (const std::string wrong = check_path_segment(generate); !generate.empty() && !wrong.empty())
    errors.invalid(inner / "generateName", generate, wrong);
  if (const std::string wrong = check_path_segment(name); !name.empty() && !wrong.empty())
    errors.invalid(inner / "name", name, wrong);
  if (const std::string wrong = check_dns1123_label(ns); !ns.empty() && !wrong.empty())
    errors.invalid(inner / "namespace", ns, wrong);
  validate_common(meta, inner, errors);
}

void validate_metadata_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::value* meta_value = object.if_contains("metadata");
  const json::value* old_value = old.if_contains("metadata");
  if (meta_value == nullptr || old_value == nullptr || !meta_value->is_object() || !old_value->is_object())
    return;
  const json::object& meta = meta_value->get_object();
  const json::object& old_meta = old_value->get_object();
  const FieldPath path("metadata");
  for (const char* field : {"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"}) {
    const json::value* now = meta.if_contains(field);
    const json::value* before = old_meta.if_contains(field);
    if (before == nullptr && std::string_view(field) == "deletionTimestamp") continue;
    if (now == nullptr && before == nullptr) continue;
    if (now == nullptr || before == nullptr || *now != *before) {
      errors.invalid(path / field, now == nullptr ? json::value(nullptr) : *now, "field is immutable");
    }
  }
  if (int_at(*meta_value, "/generation") < int_at(*old_value, "/generation")) {
    errors.invalid(path / "generation", json::value(int_at(*meta_value, "/generation")),
                   "must not be decremented");
  }
  if (!old_meta.contains("deletionTimestamp")) return;
  std::set<std::string_view> before;
  if (const json::array* list = array_at(*old_value, "/finalizers")) {
    for (const json::value& each : *list) {
      if (each.is_string()) before.insert(each.get_string());
    }
  }
  std::string added;
  if (const json::array* list = array_at(*meta_value, "/finalizers")) {
    for (const json::value& each : *list) {
      if (each.is_string() && before.count(each.get_string()) == 0)
        added += (added.empty() ? "" : ", ") + json::serialize(each);
    }
  }
  if (!added.empty()) {
    errors.forbidden(
        path / "finalizers",
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{" +
            added + "}");
  }
}

json::object& metadata(json::value& object) {
  if (!object.is_object()) object.emplace_object();
  json::value& meta = object.get_object()["metadata"];
  if (!meta.is_object()) meta.emplace_object();
  return meta.get_object();
}

const json::object* metadata(const json::value& object) {
  const json::value* meta = object.is_object() ? object.get_object().if_contains("metadata") : nullptr;
  return meta != nullptr ? meta->if_object() : nullptr;
}

std::string_view meta_string(const json::value& object, std::string_view field) {
  const json::object* meta = metadata(object);
  return meta != nullptr ? text_of(*meta, field) : std::string_view();
}

void prepare_namespace(json::object& object) {
  json::value& meta = object["metadata"];
  if (!meta.is_object()) meta.emplace_object();
  json::value& labels = meta.get_object()["labels"];
  if (!labels.is_object()) labels.emplace_object();
  if (const json::value* name = meta.get_object().if_contains("name"))
    labels.get_object()["kubernetes.io/metadata.name"] = *name;
  json::value& spec = object["spec"];
  if (!spec.is_object()) spec.emplace_object();
  json::value& finalizers = spec.get_object()["finalizers"];
  if (!finalizers.is_array()) finalizers.emplace_array();
  const auto is_ours = [](const json::value& each) {
    return each.is_string() && each.get_string() == "kubernetes";
  };
  json::array& list = finalizers.get_array();
  if (std::none_of(list.begin(), list.end(), is_ours)) list.emplace_back("kubernetes");
}

}  // namespace orchestra::api
