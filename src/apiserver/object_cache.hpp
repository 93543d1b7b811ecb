#pragma once
// Stored versions as Objects, decoded once and shared by all readers in this process; and as the texts of
// watch events that are costly to make, once for all watches that want the same form.
#include <memory>
#include <string>

#include "api/types.hpp"
#include "apiserver/call.hpp"
#include "apiserver/generations.hpp"
#include "base/json.hpp"
#include "orchestra/object.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class ObjectCache {
 public:
  static constexpr std::size_t kGenerationBytesMax = 4 << 20;  // trees take about four times as much

  /// The object of a stored value at its revision.
  Result<Object> get(const Value& stored, Revision revision);
  /// The same where `written` is at hand, the tree that was stored (encode_stored).
  Result<Object> get(const Value& stored, Revision revision, const json::value& written);
  /// Only if it is there.
  std::optional<Object> find(const Value& stored, Revision revision) {
    return objects_.find({stored.bytes().data(), revision}, &Entry::object);
  }

 private:
  struct Key {
    const char* address;  // of a value that its entry keeps
    Revision revision;
    bool operator==(const Key&) const = default;
    // All objects of one batch share a revision.
    std::size_t hash() const { return std::hash<const char*>()(address) ^ std::hash<Revision>()(revision); }
  };
  struct Entry {
    Value stored;
    Object object;
  };
  Generations<Key, Entry> objects_{kGenerationBytesMax};
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
