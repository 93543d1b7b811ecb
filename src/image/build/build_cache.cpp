// The build cache as a JSON file; a damaged one is an empty one.
#include "image/build/build_cache.hpp"

#include "base/json.hpp"

namespace orchestra::image {
namespace {
constexpr std::size_t kFileBytesMax = 16 << 20;
}

void BuildCache::load() {
  auto text = read_file(path_, kFileBytesMax);
  if (!text) return;
  const auto root = parse_json(*text);
  if (!root) return;
  round_ = static_cast<std::uint64_t>(int_at(*root, "/round")) + 1;
  const json::object* steps = object_at(*root, "/steps");
  if (steps == nullptr) return;
  for (const auto& [key, value] : *steps) {
    Entry entry;
    entry.layer.blob.media_type = kOciLayerTar;
    entry.layer.blob.digest = string_at(value, "/layer");
    entry.layer.blob.size = static_cast<std::uint64_t>(int_at(value, "/size"));
    entry.layer.diff_id = entry.layer.blob.digest;
    entry.used = static_cast<std::uint64_t>(int_at(value, "/used"));
    entries_[std::string(key)] = std::move(entry);
  }
}

std::optional<BuiltLayer> BuildCache::find(const std::string& key, const BlobStore& blobs) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  const std::string& digest = found->second.layer.blob.digest;
  if (!digest.empty() && !blobs.has(digest)) {
    entries_.erase(found);
    changed_ = true;
    return std::nullopt;
  }
  changed_ = changed_ || found->second.used != round_;
  found->second.used = round_;
  return found->second.layer;
}

void BuildCache::put(const std::string& key, const BuiltLayer& layer) {
  entries_[key] = {layer, round_};
  changed_ = true;
}

Result<void> BuildCache::save() {
  if (!changed_) return {};
  while (entries_.size() > kEntriesMax) {
    auto oldest = entries_.begin();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->second.used < oldest->second.used) oldest = entry;
    }
    entries_.erase(oldest);
  }
  json::object steps;
  for (const auto& [key, entry] : entries_) {
    steps[key] = json::object{
        {"layer", entry.layer.blob.digest}, {"size", entry.layer.blob.size}, {"used", entry.used}};
  }
  json::object root;
  root["round"] = round_;
  root["steps"] = std::move(steps);
  return replace_file(path_, to_json(root), 0600, false);
}

std::vector<std::string> BuildCache::layers() const {
  std::vector<std::string> out;
  for (const auto& [key, entry] : entries_) {
    if (!entry.layer.blob.digest.empty()) out.push_back(entry.layer.blob.digest);
  }
  return out;
}

}  // namespace orchestra::image
