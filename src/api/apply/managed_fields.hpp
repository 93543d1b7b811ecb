#pragma once
// managedFields: which manager owns which fields, and what a write or a server-side apply does to that.
//
// apimachinery/pkg/util/managedfields/internal and structured-merge-diff's merge.Updater as two pure
// functions. Both work on trees without managedFields, in the version of the request; sets of managers that
// wrote in another version are compared there (FieldOwners::view).
#include <functional>

#include "api/apply/typed.hpp"
#include "api/types.hpp"

namespace orchestra::api {

struct FieldManager {
  std::string name;         ///< "kubectl", at most 128 characters
  std::string operation;    ///< "Apply" or "Update"
  std::string api_version;  ///< of the set
  std::string subresource;
  std::string time;  ///< RFC 3339
  FieldSet fields;
  bool applies() const { return operation == "Apply"; }
  /// The same writer: appliers have one set whatever the version.
  bool is(const FieldManager& other) const;
};
using FieldManagers = std::vector<FieldManager>;

/// At most so many Update entries; older ones are merged into `ancient-changes`.
inline constexpr std::size_t kUpdateManagersMax = 10;
inline constexpr std::size_t kManagerNameMax = 128;

/// `invalid` if an entry is not what managedFields hold.
Result<FieldManagers> read_managers(const json::value& managed_fields);
/// Canonical order: Apply first, then by time, name, version, subresource.
json::array print_managers(const FieldManagers& managers, const json::storage_ptr& memory = {});
/// The same as a text.
std::string managers_text(const FieldManagers& managers);
/// Of such a text, or of any other JSON; empty: there are none.
Result<FieldManagers> read_managers_text(std::string_view text);
bool same_but_times(const FieldManagers& a, const FieldManagers& b);
/// "kubectl" of "kubectl/v1.32 (linux/amd64)", cut to what a manager's name may be.
std::string manager_of_user_agent(std::string_view user_agent);
/// Empty, or why this is no name of a manager (for `fieldManager`).
std::string check_manager_name(std::string_view name);

/// One object in one version of its type.
struct VersionView {
  SchemaRef schema;
  json::value before, after;
};

/// The surroundings of one write.
struct FieldWrite {
  FieldManager manager;  ///< name, operation, api_version, subresource, time; fields unused
  SchemaRef schema;      ///< of api_version
  /// Fields that this endpoint does not write: "status" at the main resource, "spec" at /status.
  std::vector<std::string> not_written;
  /// Both trees in another version; nullopt where the type has it no more.
  std::function<std::optional<VersionView>(const std::string& api_version, const json::value& before,
                                           const json::value& after)>
      view;
};

/// A create or update: what changed is the writer's now. `given` are the managers that the object had, or
/// that the request put in their place.
FieldManagers track_update(const FieldWrite& write, const json::value& before, const json::value& after,
                           FieldManagers given);

struct Applied {
  json::value object;
  FieldManagers managers;
  bool same_owners = false;  ///< the managers own what they owned before
};
/// Server-side apply of `config` on `live`; 409 with a cause for each conflict unless `force`.
Result<Applied> apply_config(const FieldWrite& write, const json::value& live, const json::value& config,
                             FieldManagers managers, bool force);

}  // namespace orchestra::api
