// The stored form of an object: see stored_object.hpp.
#include "apiserver/stored_object.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "base/json_text.hpp"

namespace orchestra::apiserver {
namespace {
constexpr char kMagic = 'O';
constexpr char kVersion = 1;
constexpr std::uint16_t kDeleting = 1;
constexpr std::size_t kFrameBytes = 20;
constexpr std::size_t kUsualBytes = 4 << 10;  // most objects with their fields take less
constexpr std::size_t kPairsMax = 100000;     // of labels or fields; a larger count is corruption

void put_u16(std::string& out, std::uint16_t n) {
  out += static_cast<char>(n & 0xFF);
  out += static_cast<char>(n >> 8);
}
void put_u32(std::string& out, std::uint32_t n) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(n >> shift & 0xFF);
}
void put_text(std::string& out, std::string_view text) {
  put_u32(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}
std::uint32_t get_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t n = 0;
  for (int i = 3; i >= 0; --i)
    n = n << 8 | static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)]);
  return n;
}

struct Reader {
  std::string_view bytes;
  bool ok = true;

  std::uint32_t u32() {
    if (bytes.size() < 4) {
      ok = false;
      return 0;
    }
    const std::uint32_t n = get_u32(bytes, 0);
    bytes.remove_prefix(4);
    return n;
  }
  std::string_view text() {
    const std::uint32_t length = u32();
    if (!ok || length > bytes.size()) {
      ok = false;
      return {};
    }
    const std::string_view out = bytes.substr(0, length);
    bytes.remove_prefix(length);
    return out;
  }
  void pairs(NameValues& out) {
    const std::uint32_t count = u32();
    if (count > kPairsMax) ok = false;
    for (std::uint32_t i = 0; ok && i < count; ++i) {
      const std::string_view name = text();
      out.emplace_back(name, text());
    }
  }
};

Error corrupt_error(const char* what) {
  return Error(Error::corrupt, "apiserver", std::string("a stored object is damaged: ") + what);
}

void append_member(std::string& out, std::string_view key, const json::value& value) {
  print_quoted(out, key);
  out += ':';
  print_json(out, value);
}

/// The canonical order: apiVersion, kind, metadata, then the rest as it came. Where the resourceVersion is
/// spliced in, from where this began.
std::uint32_t append_canonical(std::string& out, const json::object& object) {
  const std::size_t begin = out.size();
  out += '{';
  for (const char* key : {"apiVersion", "kind"}) {
    if (const json::value* value = object.if_contains(key)) {
      append_member(out, key, *value);
      out += ',';
    }
  }
  out += "\"metadata\":{";
  const std::size_t splice = out.size() - begin;
  bool first = true;
  if (const json::value* metadata = object.if_contains("metadata");
      metadata != nullptr && metadata->is_object()) {
    for (const auto& [key, value] : metadata->get_object()) {
      if (key == "resourceVersion" || key == "managedFields") continue;
      if (!first) out += ',';
      first = false;
      append_member(out, key, value);
    }
  }
  out += '}';
  for (const auto& [key, value] : object) {
    if (key == "apiVersion" || key == "kind" || key == "metadata") continue;
    out += ',';
    append_member(out, key, value);
  }
  out += '}';
  return static_cast<std::uint32_t>(splice);
}

Result<StoredView> decode(std::string_view bytes, bool with_pairs) {
  if (bytes.size() < kFrameBytes || bytes[0] != kMagic) return corrupt_error("no header");
  if (bytes[1] != kVersion) return corrupt_error("unknown header version");
  StoredView view;
  view.deleting = (static_cast<unsigned char>(bytes[2]) & kDeleting) != 0;
  view.splice = get_u32(bytes, 4);
  const std::uint64_t header = get_u32(bytes, 8);
  const std::uint64_t text = get_u32(bytes, 12);
  const std::uint64_t managed = get_u32(bytes, 16);
  if (kFrameBytes + header + text + managed != bytes.size()) return corrupt_error("lengths do not add up");
  if (view.splice >= text) return corrupt_error("splice offset out of range");
  view.json = bytes.substr(kFrameBytes + header, text);
  view.managed_fields = bytes.substr(kFrameBytes + header + text);
  Reader reader{bytes.substr(kFrameBytes, header)};
  view.uid = reader.text();
  if (with_pairs) {
    reader.pairs(view.labels);
    reader.pairs(view.fields);
  }
  if (!reader.ok) return corrupt_error("header is cut");
  return view;
}

/// Its numbers are of the type that parsing their text gives.
bool has_plain_numbers(const json::value& value) {
  if (const json::object* object = value.if_object())
    return std::all_of(object->begin(), object->end(),
                       [](const auto& member) { return has_plain_numbers(member.value()); });
  if (const json::array* array = value.if_array())
    return std::all_of(array->begin(), array->end(), has_plain_numbers);
  return !value.is_uint64() && !value.is_double();
}

std::optional<std::string_view> value_of(const NameValues& pairs, std::string_view key) {
  for (const auto& [name, value] : pairs) {
    if (name == key) return value;
  }
  return std::nullopt;
}
}  // namespace

std::optional<std::string_view> StoredView::label(std::string_view key) const {
  return value_of(labels, key);
}
std::optional<std::string_view> StoredView::field(std::string_view key) const {
  return value_of(fields, key);
}

std::string encode_stored(const json::value& tree,
                          const std::vector<std::pair<std::string, std::string>>& selectable_fields,
                          std::optional<std::string_view> managed) {
  ORC_ASSERT(tree.is_object());
  std::string out(kFrameBytes, '\0');
  out.reserve(kUsualBytes);
  put_text(out, string_at(tree, "/metadata/uid"));
  const json::object* labels = object_at(tree, "/metadata/labels");
  put_u32(out, labels == nullptr ? 0 : static_cast<std::uint32_t>(labels->size()));
  if (labels != nullptr) {
    for (const auto& [key, value] : *labels) {
      put_text(out, key);
      put_text(out, value.is_string() ? std::string_view(value.get_string()) : std::string_view());
    }
  }
  put_u32(out, static_cast<std::uint32_t>(selectable_fields.size()));
  for (const auto& [name, value] : selectable_fields) {
    put_text(out, name);
    put_text(out, value);
  }
  const std::size_t text = out.size();
  const std::uint32_t splice = append_canonical(out, tree.get_object());
  const std::size_t end = out.size();
  if (managed) {
    out += *managed;
  } else if (const json::value* fields = find(tree, "/metadata/managedFields");
             fields != nullptr && fields->is_array()) {
    print_json(out, *fields);
  }

  std::string frame;
  frame += kMagic;
  frame += kVersion;
  put_u16(frame, find(tree, "/metadata/deletionTimestamp") != nullptr ? kDeleting : std::uint16_t{0});
  put_u32(frame, splice);
  put_u32(frame, static_cast<std::uint32_t>(text - kFrameBytes));
  put_u32(frame, static_cast<std::uint32_t>(end - text));
  put_u32(frame, static_cast<std::uint32_t>(out.size() - end));
  ORC_ASSERT(frame.size() == kFrameBytes);
  out.replace(0, kFrameBytes, frame);
  return out;
}

std::optional<json::value> canonical_tree(const json::value& tree, Revision revision) {
  if (!has_plain_numbers(tree)) return std::nullopt;
  const json::object& object = tree.get_object();
  json::object out, metadata;
  out.reserve(object.size() + 1);
  for (const char* key : {"apiVersion", "kind"}) {
    if (const json::value* value = object.if_contains(key)) out.emplace(key, *value);
  }
  const json::object* own = object_at(tree, "/metadata");
  metadata.reserve((own != nullptr ? own->size() : 0) + 1);
  metadata.emplace("resourceVersion", std::to_string(revision));
  if (own != nullptr) {
    for (const auto& [key, value] : *own) {
      if (key != "resourceVersion" && key != "managedFields") metadata.emplace(key, value);
    }
  }
  out.emplace("metadata", std::move(metadata));
  for (const auto& [key, value] : object) {
    if (key != "apiVersion" && key != "kind" && key != "metadata") out.emplace(key, value);
  }
  return json::value(std::move(out));
}

Result<StoredView> decode_stored(std::string_view bytes) { return decode(bytes, true); }
Result<StoredView> decode_stored_frame(std::string_view bytes) { return decode(bytes, false); }

void append_json(std::string& out, const StoredView& view, Revision revision, bool managed_fields) {
  out += view.json.substr(0, view.splice);
  const std::size_t before = out.size();
  if (revision != 0) {  // else a dry run: nothing was written
    out += "\"resourceVersion\":\"";
    out += std::to_string(revision);
    out += '"';
  }
  if (managed_fields && !view.managed_fields.empty()) {
    if (out.size() > before) out += ',';
    out += "\"managedFields\":";
    out += view.managed_fields;
  }
  if (out.size() > before && view.json[view.splice] != '}') out += ',';
  out += view.json.substr(view.splice);
}

std::string json_with_revision(const StoredView& view, Revision revision, bool managed_fields) {
  std::string out;
  out.reserve(view.json.size() + 48 + (managed_fields ? view.managed_fields.size() + 20 : 0));
  append_json(out, view, revision, managed_fields);
  return out;
}

}  // namespace orchestra::apiserver
