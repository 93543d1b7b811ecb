// The build cache as a JSON file; a damaged one is an empty one.
#include "image/build/build_cache.hpp"

#include <fcntl.h>

#include <algorithm>

#include "base/json.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kFileBytesMax = 16 << 20;
constexpr const char* kExportName = "/orchestra-cache.json";

std::string blob_path(const std::string& folder, const std::string& digest) {
  return folder + "/blobs/" + std::string(digest_algorithm(digest)) + "/" + std::string(digest_hex(digest));
}

json::object describe(const BuiltLayer& layer, std::uint64_t used) {
  return json::object{{"layer", layer.blob.digest}, {"size", layer.blob.size}, {"used", used}};
}

}  // namespace

void BuildCache::load() {
  auto text = read_file(path_, kFileBytesMax);
  if (text) read_entries(*text, "");
}

void BuildCache::read_entries(const std::string& text, const std::string& folder) {
  std::lock_guard lock(mutex_);
  const auto root = parse_json(text);
  if (!root) return;
  if (folder.empty()) round_ = static_cast<std::uint64_t>(int_at(*root, "/round")) + 1;
  if (const json::object* steps = object_at(*root, "/steps"); steps != nullptr) {
    for (const auto& [key, value] : *steps) {
      if (!folder.empty() && entries_.contains(std::string(key))) continue;
      Entry entry;
      entry.layer.blob.media_type = kOciLayerTar;
      entry.layer.blob.digest = string_at(value, "/layer");
      entry.layer.blob.size = static_cast<std::uint64_t>(int_at(value, "/size"));
      entry.layer.diff_id = entry.layer.blob.digest;
      entry.used = static_cast<std::uint64_t>(int_at(value, "/used"));
      entry.folder = folder;
      if (!entry.layer.blob.digest.empty() && !is_digest(entry.layer.blob.digest)) continue;
      entries_[std::string(key)] = std::move(entry);
    }
  }
  const json::object* slots = object_at(*root, "/slots");
  if (slots == nullptr) return;
  for (const auto& [slot, parts] : *slots) {
    if (!parts.is_object() || slots_.size() >= kSlotsMax) continue;
    for (const auto& [label, value] : parts.as_object()) {
      if (value.is_string()) slots_[std::string(slot)][std::string(label)] = std::string(value.as_string());
    }
  }
}

Result<void> BuildCache::add_source(const std::string& folder) {
  auto text = read_file(folder + kExportName, kFileBytesMax);
  if (!text) return text.error().with_context("cache " + folder);
  read_entries(*text, folder);
  return {};
}

std::optional<BuiltLayer> BuildCache::find(const std::string& key, BlobStore& blobs) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  Entry& entry = found->second;
  const std::string& digest = entry.layer.blob.digest;
  if (!digest.empty() && !blobs.has(digest)) {
    // An imported cache: the layer comes from its folder, checked like any content from outside.
    auto file = entry.folder.empty() ? Result<Fd>(Error(Error::not_found, "image", ""))
                                     : open_file(blob_path(entry.folder, digest), O_RDONLY | O_NOFOLLOW);
    bool taken = false;
    if (file) {
      const auto source = make_file_source(std::move(*file));
      taken = blobs.put(*source, entry.layer.blob.size, entry.layer.blob.size, digest).has_value();
    }
    if (!taken) {
      entries_.erase(found);
      changed_ = true;
      return std::nullopt;
    }
  }
  if (!digest.empty()) blobs.touch(digest);
  entry.folder.clear();
  changed_ = changed_ || entry.used != round_;
  entry.used = round_;
  return entry.layer;
}

void BuildCache::put(const std::string& key, const BuiltLayer& layer) {
  std::lock_guard lock(mutex_);
  entries_[key] = {layer, round_, {}};
  changed_ = true;
}

std::string BuildCache::explain(const std::string& slot, const Parts& parts) {
  std::map<std::string, std::string> now;
  for (const auto& [label, value] : parts) now[label] = sha256_digest(value).substr(7, 16);
  std::lock_guard lock(mutex_);
  const auto known = slots_.find(slot);
  std::string why;
  if (known == slots_.end()) {
    why = "this step was not built before";
  } else {
    // In the order of the key: the first difference is the cause, the step before it above all.
    for (const auto& [label, value] : parts) {
      const auto old = known->second.find(label);
      if (old != known->second.end() && old->second == now[label]) continue;
      why += (why.empty() ? "" : ", ") + label + (old == known->second.end() ? " is new" : " changed");
    }
    for (const auto& [label, value] : known->second) {
      if (!now.contains(label)) why += (why.empty() ? "" : ", ") + label + " is gone";
    }
    if (why.empty()) why = "its layer is no longer in the store";
  }
  if (slots_.size() >= kSlotsMax && known == slots_.end()) slots_.clear();
  changed_ = changed_ || slots_[slot] != now;
  slots_[slot] = std::move(now);
  return why;
}

Result<void> BuildCache::save(std::uint64_t bytes_max) {
  std::lock_guard lock(mutex_);
  if (!changed_) return {};
  std::erase_if(entries_, [](const auto& item) { return !item.second.folder.empty(); });
  std::vector<std::pair<std::uint64_t, std::string>> by_use;
  std::uint64_t bytes = 0;
  for (const auto& [key, entry] : entries_) {
    by_use.emplace_back(entry.used, key);
    bytes += entry.layer.blob.size;
  }
  std::sort(by_use.begin(), by_use.end());
  for (const auto& [used, key] : by_use) {
    if (entries_.size() <= kEntriesMax && bytes <= bytes_max) break;
    bytes -= entries_[key].layer.blob.size;
    entries_.erase(key);
  }
  json::object steps, slots;
  for (const auto& [key, entry] : entries_) steps[key] = describe(entry.layer, entry.used);
  for (const auto& [slot, parts] : slots_) {
    json::object one;
    for (const auto& [label, value] : parts) one[label] = value;
    slots[slot] = std::move(one);
  }
  json::object root;
  root["round"] = round_;
  root["steps"] = std::move(steps);
  root["slots"] = std::move(slots);
  changed_ = false;
  return replace_file(path_, to_json(root), 0600, false);
}

Result<void> BuildCache::export_to(const std::string& folder, const BlobStore& blobs) {
  std::lock_guard lock(mutex_);
  ORC_TRY(make_directories(folder + "/blobs/sha256", 0755));
  ORC_TRY(replace_file(folder + "/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", 0644, false));
  json::object steps;
  json::array manifests;
  for (const auto& [key, entry] : entries_) {
    if (entry.used != round_) continue;
    steps[key] = describe(entry.layer, 0);
    const std::string& digest = entry.layer.blob.digest;
    if (digest.empty()) continue;
    ORC_ASSIGN(const Fd from, blobs.open_blob(digest));
    ORC_ASSIGN(const Fd to, open_file(blob_path(folder, digest), O_WRONLY | O_CREAT | O_TRUNC, 0644));
    const auto source = make_range_source(from.get(), 0, entry.layer.blob.size);
    std::string buffer(256 << 10, '\0');
    while (true) {
      ORC_ASSIGN(const std::size_t got, source->read(buffer.data(), buffer.size()));
      if (got == 0) break;
      ORC_TRY(write_all(to.get(), {buffer.data(), got}));
    }
  }
  json::object index{{"schemaVersion", 2}, {"mediaType", std::string(kOciIndex)}};
  index["manifests"] = std::move(manifests);
  ORC_TRY(replace_file(folder + "/index.json", to_json(index), 0644, false));
  json::object root;
  root["steps"] = std::move(steps);
  return replace_file(folder + kExportName, to_json(root), 0644, false);
}

std::vector<std::string> BuildCache::layers() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [key, entry] : entries_) {
    if (!entry.layer.blob.digest.empty()) out.push_back(entry.layer.blob.digest);
  }
  return out;
}

}  // namespace orchestra::image
