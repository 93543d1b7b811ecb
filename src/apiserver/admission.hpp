#pragma once
// Builtin admission: what the rules of single kinds add to the generic engine.
//
// A hook sees the request, the view and the object as it is about to be stored; it may change the object,
// add operations and conditions to the transaction (allocated addresses), or refuse. Hooks are listed
// per type in src/kinds, which knows them by name; nothing here does.
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/writes.hpp"

namespace orchestra::apiserver {

struct Admission {
  const WriteInput& input;
  const View& view;
  Change& change;
  json::value* object = nullptr;     ///< create, update; null on delete
  const json::value* old = nullptr;  ///< update, delete
  /// object and old are of the subresource's own kind: a Scale, a Binding, the options of a connection.
  bool document = false;
  bool connects = false;  ///< the operation CONNECT
  /// Of the object, which does not show them before somebody looks (show_managers); null: they are in it.
  const api::FieldManagers* managers = nullptr;
};
/// An annotation of the audit event of this request, where there is one.
void note(const Admission& admission, const std::string& key, std::string value);
/// Puts metadata.managedFields into the object for who judges it.
void show_managers(Admission& admission);
using AdmissionHook = Result<void> (*)(Admission&);

struct KindHooks {
  std::string_view group, resource;
  AdmissionHook on_create = nullptr;
  AdmissionHook on_update = nullptr;
  AdmissionHook on_delete = nullptr;   ///< before deletion is decided (may refuse)
  AdmissionHook on_removed = nullptr;  ///< the object leaves the store in this transaction
  /// A deletion in two steps: the object is first marked, and goes when this is false.
  bool (*holds_deletion)(const json::value& object) = nullptr;
  /// Marks more than deletionTimestamp when deletion begins.
  void (*mark_deleted)(json::value& object) = nullptr;
  /// Seconds that a graceful deletion takes by default; 0 = at once.
  std::int64_t (*grace_seconds)(const json::value& object) = nullptr;
};
/// Hooks of a type, or nullptr.
const KindHooks* kind_hooks(const api::TypeRecord& type);
/// What src/kinds contributes.
const std::vector<KindHooks>& workload_hooks();
const std::vector<KindHooks>& network_hooks();
const std::vector<KindHooks>& review_hooks();
const std::vector<KindHooks>& rbac_hooks();
const std::vector<KindHooks>& certificate_hooks();

/// Rules for every namespaced kind: the namespace exists and is not ending.
Result<void> admit_namespace(Admission& admission);

/// Writes on subresources with a body of their own (scale, binding, eviction...).
struct SubresourceHook {
  std::string_view group, resource;  ///< empty resource: any type that has the subresource
  std::string_view name;
  Result<Change> (*write)(const WriteInput& input, const View& view) = nullptr;
  /// What GET of the subresource shows; null: the object itself.
  Result<json::value> (*read)(const api::TypeRecord& type, const json::value& object) = nullptr;
};
const SubresourceHook* subresource_hook(const api::TypeRecord& type, std::string_view name);
const std::vector<SubresourceHook>& pod_subresources();
const std::vector<SubresourceHook>& token_subresources();

}  // namespace orchestra::apiserver
