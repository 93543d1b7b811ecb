#pragma once
// Stored versions as Objects, decoded once and shared by all readers in this process; and as the texts of
// watch events that are costly to make, once for all watches that want the same form.
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "api/types.hpp"
#include "apiserver/call.hpp"
#include "apiserver/generations.hpp"
#include "base/json.hpp"
#include "orchestra/env.hpp"
#include "orchestra/object.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

/// What was decoded or written lately is held, for readers that come a moment later; then only as long as
/// somebody else holds it (informers hold the versions that are current), so that old versions cost nothing.
class ObjectCache {
 public:
  static constexpr std::size_t kGenerationBytesMax = 4 << 20;      // trees take about four times as much
  static constexpr std::int64_t kGenerationNsMax = 1'000'000'000;  // longer than a reader lags behind
  static constexpr std::size_t kKnownMax = 1 << 17;  // objects that others hold; beyond they are decoded anew
  static constexpr std::size_t kSweepMin = 256;      // of them, some of which nobody holds any more

  explicit ObjectCache(Clock& clock) : clock_(clock) {}

  /// The object of a stored value at its revision.
  Result<Object> get(const Value& stored, Revision revision);
  /// The same where `written` is at hand, the tree that was stored (encode_stored) by a write of this
  /// process.
  Result<Object> get(const Value& stored, Revision revision, const json::value& written);
  /// Only if it is there.
  std::optional<Object> find(const Value& stored, Revision revision);
  /// A write of this process stored it, so it is pruned and has its defaults as this process knows them.
  /// (False where that is not known any more.)
  bool is_own(const Value& stored, Revision revision);
  /// Of objects that others hold, or held lately.
  std::size_t known_count();

 private:
  struct Key {
    const char* address;  // of a value that its entry keeps, or kept
    Revision revision;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    // All objects of one batch share a revision.
    std::size_t operator()(const Key& key) const {
      return std::hash<const char*>()(key.address) ^ std::hash<Revision>()(key.revision);
    }
  };
  struct Entry {
    Value stored;
    Object object;
    bool own = false;
  };
  struct Known {
    std::weak_ptr<const Object::Data> data;
    bool own = false;
  };
  using Entries = std::unordered_map<Key, Entry, Hash>;
  std::optional<Entry> find_entry(const Value& stored, Revision revision);
  void keep(const Value& stored, Revision revision, const Object& object, bool own);
  void age(Entries& dropped);

  Clock& clock_;
  std::mutex mutex_;
  Entries young_, old_;
  std::size_t young_bytes_ = 0;
  std::int64_t young_since_ns_ = 0;
  std::uint32_t hits_ = 0;
  std::unordered_map<Key, Known, Hash> known_;
  std::size_t sweep_at_ = kSweepMin;
};

/// Only of forms that are made from a tree: what is sent as it is stored costs as much to copy as to keep.
/// Rows are not kept, they say how old an object is.
class EventTexts {
 public:
  static constexpr std::size_t kGenerationBytesMax = 4 << 20;
  using Text = std::shared_ptr<const std::string>;
  struct Key {
    const char* address;
    Revision revision;
    const api::TypeRecord* type;
    std::string version;
    std::string meta_version;
    Form form;
    bool protobuf, managed_fields;
    bool operator==(const Key&) const = default;
    std::size_t hash() const { return std::hash<const char*>()(address) ^ std::hash<Revision>()(revision); }
  };
  static bool keeps(const api::TypeRecord& type, std::string_view version, const Representation& want);
  static Key key_of(const api::TypeRecord& type, std::string version, const Representation& want,
                    const Value& stored, Revision revision) {
    return {stored.bytes().data(), revision,  &type,         std::move(version),
            want.meta_version,     want.form, want.protobuf, want.managed_fields};
  }
  Text find(const Key& key) { return texts_.find(key, &Entry::text).value_or(nullptr); }
  void keep(Key key, api::TypePtr type, const Value& stored, Text text) {
    const std::size_t bytes = text->size() + stored.size();
    texts_.keep(std::move(key), {std::move(type), stored, std::move(text)}, bytes);
  }

 private:
  struct Entry {
    api::TypePtr type;  // these two keep the addresses of the key
    Value stored;
    Text text;
  };
  Generations<Key, Entry> texts_{kGenerationBytesMax};
};

}  // namespace orchestra::apiserver
