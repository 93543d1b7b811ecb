#pragma once
// What one request sees of the state: a snapshot at one revision, and the change that it wants to make.
//
// A write is computed from a View without side effects and committed as one transaction whose compares
// name everything that the decision rested on; if one of them no longer holds, it is computed again.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/types.hpp"
#include "apiserver/store_key.hpp"
#include "apiserver/stored_object.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

/// An object as it lies in the store.
struct Loaded {
  KeyValue kv;
  StoredView view;  ///< into kv.value
  /// With resourceVersion and managedFields, as it is stored.
  Result<json::value> tree(const json::storage_ptr& memory = {}) const;
  /// With resourceVersion only.
  Result<json::value> bare_tree(const json::storage_ptr& memory = {}) const;
  /// metadata.managedFields; null where there are none.
  Result<json::value> managed_fields(const json::storage_ptr& memory = {}) const;
};

class View {
 public:
  explicit View(Snapshot snapshot) : snapshot_(std::move(snapshot)) {}
  Revision revision() const { return snapshot_.revision(); }
  Result<std::optional<KeyValue>> get(const std::string& key) const;
  Result<std::optional<Loaded>> load(const std::string& key) const;
  Result<std::vector<KeyValue>> range(const KeyRange& range, std::size_t limit = 0) const;
  const Snapshot& snapshot() const { return snapshot_; }

 private:
  Snapshot snapshot_;
};

/// Where a type's objects are stored (Events of both groups share one place).
TypePlace place_of(const api::TypeRecord& type);
std::string key_of(const api::TypeRecord& type, std::string_view ns, std::string_view name);
/// With the values of the type's selectable fields in the header. `managed`: as of encode_stored.
std::string encode_object(const api::TypeRecord& type, const json::value& tree,
                          std::optional<std::string_view> managed = {});

/// A computed write.
struct Change {
  std::vector<Compare> compares;
  std::vector<TxnOp> ops;
  Value stored;  ///< what the answer shows; empty: a Status
  /// What was stored, where the answer is wanted as an object. It does not outlive the write's input.
  std::optional<json::value> written;
  Revision revision = 0;  ///< of `stored` where nothing is written, else set by the commit
  int code = 200;
  bool dry_run = false;
  std::string status;              ///< instead of `stored`: a Status object
  std::string answer_subresource;  ///< the answer is this subresource's view of `stored`
  std::vector<std::string> warnings;

  void put(std::string key, Value value);
  void remove(std::string key);
  /// The key is as the view saw it; nullopt: absent.
  void expect(const std::string& key, const std::optional<KeyValue>& seen);
};

}  // namespace orchestra::apiserver
