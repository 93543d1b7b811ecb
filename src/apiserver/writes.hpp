#pragma once
// Writes as pure functions: (input, view) -> change or error. They touch neither store nor clock, so a
// change that lost a race is simply computed again on a newer view, and several can share a transaction.
#include <optional>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "apiserver/core.hpp"
#include "apiserver/view.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {

enum class PatchKind : std::uint8_t { json, merge, strategic };

struct DeleteRequest {
  std::optional<std::int64_t> grace_seconds;
  std::string propagation;  ///< "", Background, Foreground, Orphan
  std::string uid, resource_version;
};

/// All that one write needs besides the view; made once per request.
struct WriteInput {
  const Call* call = nullptr;
  const ApiCore* core = nullptr;
  api::TypePtr type;
  const api::Subresource* sub = nullptr;
  api::SchemaRef schema;  ///< of the requested version
  json::value body;       ///< decoded and pruned (create, update), or the patch
  PatchKind patch = PatchKind::json;
  DeleteRequest remove;
  bool dry_run = false;
  std::string validation;  ///< "Strict", "Warn", "Ignore"
  std::vector<std::string> warnings;

  const std::string& ns() const { return call->info.ns; }
  const std::string& name() const { return call->info.name; }
  Now now() const;
};

/// Reads query and body of a write; errors are 400, 415, 422.
Result<WriteInput> read_write(const ApiCore& core, const Call& call, api::TypePtr type);

/// Any write verb.
Result<Change> compute_write(const WriteInput& input, const View& view);

Result<Change> compute_create(const WriteInput& input, const View& view);
Result<Change> compute_update(const WriteInput& input, const View& view);
/// A patch of the object or of a subresource.
Result<Change> compute_patch(const WriteInput& input, const View& view);
Result<Change> compute_delete(const WriteInput& input, const View& view);

/// The common tail of update, patch and the subresources that change their object: admission, defaults,
/// validation, no write when nothing changed, removal when the last finalizer went.
Result<Change> finish_update(const WriteInput& input, const View& view, const Loaded& old,
                             json::value old_tree, json::value next);
/// Deletes or marks `loaded`; also for evictions.
Result<Change> remove_object(const WriteInput& input, const View& view, const Loaded& loaded,
                             const DeleteRequest& request);
/// DeleteOptions from body and query.
Result<DeleteRequest> read_delete(const Call& call);
/// Strict check of what decode found: 400, or warnings.
Result<void> check_strict(WriteInput& input, const std::vector<std::string>& unknown,
                          const std::vector<std::string>& duplicate);
/// Loads what the request names; 404 otherwise.
Result<Loaded> load_target(const WriteInput& input, const View& view);
/// Applies a patch document of the input's kind.
Result<void> apply_patch(const WriteInput& input, api::SchemaRef schema, json::value& target);

}  // namespace orchestra::apiserver
