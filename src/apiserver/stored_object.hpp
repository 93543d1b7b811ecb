#pragma once
// The stored form of an object: a small header, canonical JSON, managedFields.
//
// Lists, watches and selectors run over the header and the bytes, never over a tree: the header holds
// what a selector may ask for (labels and the selectable fields of the type) and the place in the JSON
// where the resourceVersion is spliced in, because that is known only after the write. The JSON begins
// with {"apiVersion":..,"kind":..,"metadata":{ and holds neither resourceVersion nor managedFields.
//
// Layout, integers little endian: magic 'O', version 1, u16 flags, u32 splice offset, u32 header bytes,
// u32 JSON bytes, u32 managedFields bytes; then the header (uid, labels, fields; strings with a u32
// length), the JSON, the managedFields.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "orchestra/result.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

using NameValues = std::vector<std::pair<std::string_view, std::string_view>>;

/// A view into a stored value; valid as long as the bytes live.
struct StoredView {
  std::string_view uid;
  std::string_view json;            ///< without resourceVersion
  std::string_view managed_fields;  ///< JSON array text, or empty
  std::uint32_t splice = 0;         ///< offset in json right behind "metadata":{
  bool deleting = false;
  NameValues labels;
  NameValues fields;  ///< selectable fields

  std::optional<std::string_view> label(std::string_view key) const;
  std::optional<std::string_view> field(std::string_view key) const;
};

/// `tree` must be an object; its resourceVersion and managedFields are left out of the JSON.
/// `managed`: its managedFields as a text; nullopt: those in the tree.
std::string encode_stored(const json::value& tree,
                          const std::vector<std::pair<std::string, std::string>>& selectable_fields,
                          std::optional<std::string_view> managed = {});
/// What parsing json_with_revision of it would give; nullopt: only that can say (numbers of unusual types).
/// A copy, in one piece of the heap: built piece by piece while other things come and go, it would be read
/// slower than it was written.
std::optional<json::value> canonical_tree(const json::value& tree, Revision revision);
/// `corrupt` if the bytes are not what encode_stored made.
Result<StoredView> decode_stored(std::string_view bytes);
/// Only the parts that joining bytes needs (no labels, no fields): no allocation.
Result<StoredView> decode_stored_frame(std::string_view bytes);

/// Appends the object's JSON with its resourceVersion (revision 0 leaves that out) and, if asked, its
/// managedFields.
void append_json(std::string& out, const StoredView& view, Revision revision, bool managed_fields = false);
std::string json_with_revision(const StoredView& view, Revision revision, bool managed_fields = false);

}  // namespace orchestra::apiserver
