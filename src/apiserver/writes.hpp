#pragma once
// Writes as pure functions: (input, view) -> change or error. They touch neither store nor clock, so a
// change that lost a race is simply computed again on a newer view, and several can share a transaction.
#include <optional>
#include <string>
#include <vector>

#include "api/apply/managed_fields.hpp"
#include "apiserver/call.hpp"
#include "apiserver/core.hpp"
#include "apiserver/view.hpp"
#include "base/json.hpp"
#include "base/tree_memory.hpp"

namespace orchestra::apiserver {

enum class PatchKind : std::uint8_t { json, merge, strategic, apply };

struct DeleteRequest {
  std::optional<std::int64_t> grace_seconds;
  std::string propagation;  ///< "", Background, Foreground, Orphan
  std::string uid, resource_version;
  bool dry_run = false;
};

/// All that one write needs besides the view; made once per request.
struct WriteInput {
  const Call* call = nullptr;
  const ApiCore* core = nullptr;
  api::TypePtr type;
  const api::Subresource* sub = nullptr;
  api::SchemaRef schema;                      ///< of the requested version
  const api::TypeVersion* version = nullptr;  ///< the requested one
  /// Of the trees of this write, `body` among them; none of them may outlive it. Copies of this share it.
  std::shared_ptr<TreeMemory> memory = std::make_shared<TreeMemory>();
  json::value body =
      json::value(json::storage_ptr(memory.get()));  ///< decoded and pruned (create, update), or the patch
  PatchKind patch = PatchKind::json;
  bool force = false;         ///< apply: take fields from others
  std::string field_manager;  ///< who owns what this write changes
  DeleteRequest remove;
  bool dry_run = false;
  std::string validation;  ///< "Strict", "Warn", "Ignore"
  std::vector<std::string> warnings;
  /// Policies and webhooks have judged the document that asks for this write (a Scale, an Eviction).
  bool judged = false;

  WriteInput() = default;
  WriteInput(const WriteInput&) = default;
  WriteInput& operator=(const WriteInput&) = delete;  // the body would stay in a memory that goes

  json::storage_ptr storage() const { return memory.get(); }
  const std::string& ns() const { return call->info.ns; }
  const std::string& name() const { return call->info.name; }
  Now now() const;
  /// Objects are defaulted, admitted and validated in this form: the requested version, or, where that has
  /// another shape than what is stored, the stored one.
  api::SchemaRef work_schema() const {
    return version->conversion != nullptr ? type->stored_schema() : version->schema;
  }
};

/// Reads query and body of a write; errors are 400, 415, 422.
Result<void> read_write(const ApiCore& core, const Call& call, api::TypePtr type, WriteInput& input);

/// Any write verb.
Result<Change> compute_write(const WriteInput& input, const View& view);

Result<Change> compute_create(const WriteInput& input, const View& view);
Result<Change> compute_update(const WriteInput& input, const View& view);
/// A patch of the object or of a subresource.
Result<Change> compute_patch(const WriteInput& input, const View& view);
Result<Change> compute_delete(const WriteInput& input, const View& view);

/// The common tail of update, patch and the subresources that change their object: admission, defaults,
/// validation, no write when nothing changed, removal when the last finalizer went.
/// `managers` are those after a server-side apply; otherwise the changes are tracked here. `same_owners`:
/// they own what they owned before; nullopt: that is not known.
Result<Change> finish_update(const WriteInput& input, const View& view, const Loaded& old,
                             json::value old_tree, json::value next,
                             std::optional<api::FieldManagers> managers = {},
                             std::optional<bool> same_owners = {});
/// The same for a new object.
Result<Change> create_object(const WriteInput& input, const View& view, json::value object,
                             std::optional<api::FieldManagers> managers = {});
/// Name, namespace, uid and resourceVersion of what is to be written: 400, 409, 422.
Result<void> check_identity(const WriteInput& input, const json::value& old, const json::value& next,
                            bool patch);

// Ownership of fields (write_ownership.cpp).
Result<void> read_apply(WriteInput& input);
Result<Change> compute_apply(const WriteInput& input, const View& view);
/// Server-side apply of a Scale: what it says then, and the managers of the object that it belongs to.
struct AppliedScale {
  json::value scale;
  api::FieldManagers managers;
};
Result<AppliedScale> apply_scale(const WriteInput& input, const Loaded& object, const json::value& scale);
/// metadata.managedFields out of an object; null where there are none.
json::value take_managed_fields(json::value& object);
/// Those of a stored object; none where they cannot be read.
api::FieldManagers managers_of(const Loaded& loaded);
api::FieldManagers track_create(const WriteInput& input, const json::value& object);
/// `managers`: those that the object had; `given`: metadata.managedFields of the request, null where it has
/// none.
api::FieldManagers track_change(const WriteInput& input, const Loaded& loaded, const json::value& old,
                                const json::value& next, api::FieldManagers managers,
                                const json::value& given);
/// Deletes or marks `loaded`; also for evictions.
Result<Change> remove_object(const WriteInput& input, const View& view, const Loaded& loaded,
                             const DeleteRequest& request);
/// DeleteOptions of a request: its body or, without one, its parameters.
Result<DeleteRequest> read_delete(const Call& call);
Result<DeleteRequest> read_delete_options(const json::value& options);
/// Strict check of what decode found: 400, or warnings.
Result<void> check_strict(WriteInput& input, const std::vector<std::string>& unknown,
                          const std::vector<std::string>& duplicate);
/// What is stored, in the form in which the pipeline works (see WriteInput::work_schema), without its
/// managedFields.
Result<json::value> work_tree(const WriteInput& input, const Loaded& loaded);
/// What is put into the store for an object in the pipeline's form and its managers, whatever managedFields
/// the object shows.
Result<Value> stored_value(const WriteInput& input, const json::value& object,
                           const api::FieldManagers& managers);
/// Leaves the tree of what is stored to the answer, if that is how it is wanted.
void keep_written(const WriteInput& input, json::value object, Change& change);
/// Loads what the request names; 404 otherwise.
Result<Loaded> load_target(const WriteInput& input, const View& view);
/// Applies a patch document of the input's kind.
Result<void> apply_patch(const WriteInput& input, api::SchemaRef schema, json::value& target);

}  // namespace orchestra::apiserver
