// Opening a store, and the names in it: index.json is both the OCI layout's index and our table of names.
#include "image/store.hpp"

#include <unistd.h>

#include <algorithm>

#include "base/json.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kIndexBytesMax = 64 << 20;
constexpr std::size_t kLoadedMax = 256;
constexpr const char* kNameKey = "org.opencontainers.image.ref.name";
constexpr const char* kIndexKey = "dev.orchestra.index";
constexpr const char* kPinnedKey = "dev.orchestra.pinned";
constexpr const char* kWholeKey = "dev.orchestra.whole-index";

}  // namespace

Store::Store(Engine& engine, ImageStoreOptions options, StepFault fault)
    : engine_(engine),
      options_(std::move(options)),
      blobs_(options_.dir, std::move(fault)),
      file_hashes_(options_.dir + "/build-files") {}

Result<std::shared_ptr<Store>> Store::open(Engine& engine, ImageStoreOptions options, StepFault fault) {
  if (options.dir.empty() || options.dir.front() != '/') {
    return Error(Error::invalid, "image",
                 "the image store needs an absolute folder, got \"" + options.dir + "\"");
  }
  std::shared_ptr<Store> store(new Store(engine, std::move(options), std::move(fault)));
  // Images hold setuid programs and files of all owners: nobody else may walk in.
  ORC_TRY(make_directories(store->directory(), 0700));
  auto lock = engine.disk().lock(store->directory() + "/lock");
  if (!lock) return lock.error().with_context("image store " + store->directory());
  store->lock_ = *lock;
  ORC_TRY(store->blobs_.open(engine.clock().now().wall_ns));
  ORC_TRY(make_directories(store->directory() + "/layers", 0700));
  ORC_TRY(make_directories(store->directory() + "/snapshots", 0700));
  ORC_TRY(store->read_names());
  ORC_TRY(store->read_layers());
  ORC_TRY(store->pull_records().close_begun([&](const std::string& name) {
    const auto found = store->find_name(name);
    return found ? found->manifest : std::string();
  }));
  store->overlay_problem_ =
      store->options_.overlay ? probe_overlay(store->directory() + "/ingest") : "switched off by option";
  return store;
}

Result<void> Store::read_names() {
  const std::string path = directory() + "/index.json";
  if (::access(path.c_str(), F_OK) != 0) {
    std::lock_guard lock(mutex_);
    return save_names_locked();
  }
  ORC_ASSIGN(const std::string text, read_file(path, kIndexBytesMax));
  auto root = parse_json(text);
  if (!root) return root.error().with_context(path);
  const json::array* manifests = array_at(*root, "/manifests");
  if (manifests == nullptr) return Error(Error::corrupt, "image", path + " has no manifests");
  for (const json::value& entry : *manifests) {
    NameRecord record;
    record.manifest = string_at(entry, "/digest");
    const json::object* notes = object_at(entry, "/annotations");
    const auto note = [&](const char* key) {
      const json::value* found = notes == nullptr ? nullptr : notes->if_contains(key);
      return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
    };
    record.name = note(kNameKey);
    record.index = note(kIndexKey);
    record.pinned = note(kPinnedKey) == "true";
    record.whole_index = note(kWholeKey) == "true";
    // A record whose content is gone is left out, so that the image is fetched again.
    if (blobs_.has(record.manifest)) names_.push_back(std::move(record));
  }
  return {};
}

Result<void> Store::save_names_locked() {
  ORC_TRY(blobs_.at_step("names write"));
  json::array manifests;
  for (const NameRecord& record : names_) {
    auto size = blobs_.size(record.manifest);
    if (!size) return size.error();
    json::object entry;
    auto loaded = load_locked(record.manifest);
    entry["mediaType"] = loaded ? (*loaded)->manifest.media_type : std::string(kOciManifest);
    entry["digest"] = record.manifest;
    entry["size"] = *size;
    json::object notes;
    if (!record.name.empty()) notes[kNameKey] = record.name;
    if (!record.index.empty()) notes[kIndexKey] = record.index;
    if (record.pinned) notes[kPinnedKey] = "true";
    if (record.whole_index) notes[kWholeKey] = "true";
    if (!notes.empty()) entry["annotations"] = std::move(notes);
    manifests.push_back(std::move(entry));
  }
  json::object root;
  root["schemaVersion"] = 2;
  root["mediaType"] = std::string(kOciIndex);
  root["manifests"] = std::move(manifests);
  return replace_file(directory() + "/index.json", to_json(root), 0644, true);
}

Result<void> Store::set_name(NameRecord record) {
  std::lock_guard lock(mutex_);
  const std::vector<NameRecord> before = names_;
  const auto same = [&](const NameRecord& other) {
    if (!record.name.empty() || !other.name.empty()) return record.name == other.name;
    return record.manifest == other.manifest;
  };
  const auto found = std::find_if(names_.begin(), names_.end(), same);
  if (found != names_.end()) {
    record.pinned = record.pinned || (found->pinned && found->manifest == record.manifest);
    *found = std::move(record);
  } else {
    names_.push_back(std::move(record));
  }
  auto saved = save_names_locked();
  if (!saved) names_ = before;
  return saved;
}

std::optional<NameRecord> Store::find_name(const std::string& canonical) const {
  std::lock_guard lock(mutex_);
  for (const NameRecord& record : names_) {
    if (record.name == canonical) return record;
  }
  return std::nullopt;
}

std::vector<NameRecord> Store::names() const {
  std::lock_guard lock(mutex_);
  return names_;
}

Result<std::optional<NameRecord>> Store::find_image(const std::string& text) const {
  constexpr std::size_t kPrefixMin = 4;
  const std::vector<NameRecord> records = names();
  auto reference = ImageReference::parse(text);
  if (reference) {
    const std::string canonical = reference->canonical();
    for (const NameRecord& record : records) {
      if (record.name == canonical) return std::optional(record);
    }
    // NAME@DIGEST: any image of this digest will do, whatever name it came under.
    for (const NameRecord& record : records) {
      const std::string& digest = reference->digest();
      if (!digest.empty() && (record.manifest == digest || record.index == digest))
        return std::optional(record);
    }
  }
  std::string hex = text.starts_with("sha256:") ? text.substr(7) : text;
  const bool is_hex = hex.size() >= kPrefixMin && hex.size() <= 64 &&
                      hex.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (is_hex) {
    const std::string prefix = "sha256:" + hex;
    std::optional<NameRecord> match;
    for (const NameRecord& record : records) {
      auto image = load(record.manifest);
      const bool fits = record.manifest.starts_with(prefix) ||
                        (!record.index.empty() && record.index.starts_with(prefix)) ||
                        (image && (*image)->manifest.config.digest.starts_with(prefix));
      if (!fits) continue;
      if (match && match->manifest != record.manifest) {
        return Error(Error::invalid, "image", "\"" + text + "\" fits several images; write more digits");
      }
      if (!match) match = record;
    }
    if (match) return match;
  }
  if (!reference && !is_hex) return reference.error();
  return std::optional<NameRecord>();
}

Result<void> Store::remove_name(const std::string& text) {
  ORC_ASSIGN(const auto found, find_image(text));
  if (!found) return Error(Error::not_found, "image", "no image \"" + text + "\" in the store");
  auto reference = ImageReference::parse(text);
  const bool by_name = reference && found->name == reference->canonical();
  std::lock_guard lock(mutex_);
  const std::vector<NameRecord> before = names_;
  std::erase_if(names_, [&](const NameRecord& record) {
    return by_name ? record.name == found->name : record.manifest == found->manifest;
  });
  auto saved = save_names_locked();
  if (!saved) names_ = before;
  return saved;
}

Result<std::shared_ptr<const LoadedImage>> Store::load(const std::string& manifest_digest) const {
  std::lock_guard lock(mutex_);
  return load_locked(manifest_digest);
}

Result<std::shared_ptr<const LoadedImage>> Store::load_locked(const std::string& manifest_digest) const {
  if (const auto known = loaded_.find(manifest_digest); known != loaded_.end()) return known->second;
  auto image = std::make_shared<LoadedImage>();
  image->digest = manifest_digest;
  ORC_ASSIGN(const std::string bytes, blobs_.read(manifest_digest, kManifestBytesMax));
  ORC_ASSIGN(image->manifest, parse_manifest(bytes));
  image->bytes = bytes.size() + image->manifest.config.size;
  for (const Descriptor& layer : image->manifest.layers) image->bytes += layer.size;
  if (image->manifest.is_image()) {
    ORC_ASSIGN(const std::string config, blobs_.read(image->manifest.config.digest, kConfigBytesMax));
    ORC_ASSIGN(image->config, parse_config(config));
    ORC_TRY(check_layers(image->manifest, image->config));
  }
  if (loaded_.size() >= kLoadedMax) loaded_.clear();
  loaded_[manifest_digest] = image;
  return std::shared_ptr<const LoadedImage>(std::move(image));
}

Result<ImageInfo> Store::info(const NameRecord& record) const {
  ORC_ASSIGN(const auto image, load(record.manifest));
  ImageInfo out = image->config.info;
  out.id = image->manifest.config.digest;
  out.digest = record.manifest;
  out.reference = record.name;
  out.bytes = image->bytes;
  const std::string& pin = record.index.empty() ? record.manifest : record.index;
  out.pinned = pin;
  if (auto reference = ImageReference::parse(record.name)) out.pinned = reference->pinned(pin);
  for (const NameRecord& other : names()) {
    if (other.manifest == record.manifest && !other.name.empty()) out.names.push_back(other.name);
  }
  return out;
}

Result<std::vector<ImageInfo>> Store::list() const {
  std::vector<ImageInfo> out;
  std::set<std::string> seen;
  for (const NameRecord& record : names()) {
    if (!seen.insert(record.manifest).second) continue;
    auto one = info(record);
    // One damaged image must not hide the others; it is reported when it is used.
    if (one) out.push_back(std::move(*one));
  }
  return out;
}

std::shared_ptr<std::mutex> Store::key_mutex(const std::string& key) {
  std::lock_guard lock(mutex_);
  std::erase_if(key_mutexes_, [](const auto& item) { return item.second.expired(); });
  if (auto known = key_mutexes_[key].lock()) return known;
  auto made = std::make_shared<std::mutex>();
  key_mutexes_[key] = made;
  return made;
}

}  // namespace orchestra::image
