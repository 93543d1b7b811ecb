// Mark and sweep over blobs and unpacked layers, beside running operations.
//
// Each candidate is asked for in the lease table right before it goes, under its lock. Content younger than
// the minimum age stays too: an operation commits a blob a moment before it holds it. With a byte limit,
// whole images go first, the one unused for longest at the front; never pinned ones, never those with roots.
#include "image/collect.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "image/build/build_cache.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

class Collector {
 public:
  Collector(Store& store, const CollectOptions& options)
      : store_(store), options_(options), cache_(store.directory() + "/build-cache.json") {}

  Result<CollectReport> run() {
    cache_.load();
    ORC_TRY(read_roots());
    if (options_.bytes_max || options_.maximum_age > Duration(0)) ORC_TRY(drop_images());
    const Marks marks = mark();
    ORC_TRY(sweep_blobs(marks));
    ORC_TRY(sweep_layers(marks));
    if (!options_.dry_run)
      store_.pull_records().keep_only(
          [this](const std::string& digest) { return store_.blobs().has(digest); });
    if (options_.bytes_max) ORC_TRY(sweep_build_mounts());
    return std::move(report_);
  }

 private:
  Result<void> read_roots() {
    ORC_ASSIGN(const auto snapshots, store_.snapshots());
    for (const SnapshotRecord& snapshot : snapshots) {
      used_images_.insert(snapshot.image);
      used_layers_.insert(snapshot.layers.begin(), snapshot.layers.end());
    }
    names_ = store_.names();
    return {};
  }

  std::int64_t last_use(const std::string& manifest) const {
    struct stat status {};
    return ::stat(store_.blobs().path_of(manifest).c_str(), &status) == 0 ? status.st_mtim.tv_sec : 0;
  }

  /// Names of whole images, the least recently used first, until what is left fits.
  Result<void> drop_images() {
    ORC_ASSIGN(std::uint64_t total, store_bytes(store_));
    std::vector<std::string> candidates;
    for (const NameRecord& record : names_) {
      const bool pinned = std::any_of(names_.begin(), names_.end(), [&](const NameRecord& other) {
        return other.manifest == record.manifest && other.pinned;
      });
      if (pinned || used_images_.contains(record.manifest)) continue;
      if (std::find(candidates.begin(), candidates.end(), record.manifest) == candidates.end()) {
        candidates.push_back(record.manifest);
      }
    }
    std::sort(candidates.begin(), candidates.end(), [&](const auto& a, const auto& b) {
      return std::pair(last_use(a), a) < std::pair(last_use(b), b);
    });
    for (const std::string& manifest : candidates) {
      const bool too_much = options_.bytes_max && total > *options_.bytes_max;
      if (!too_much && !is_unused_too_long(manifest)) continue;
      // What was used a moment ago is about to be used again.
      if (is_young(store_.blobs().path_of(manifest))) continue;
      auto image = store_.load(manifest);
      for (const NameRecord& record : names_) {
        if (record.manifest == manifest && !record.name.empty()) report_.removed.push_back(record.name);
      }
      std::erase_if(names_, [&](const NameRecord& record) { return record.manifest == manifest; });
      if (!options_.dry_run) ORC_TRY(store_.remove_name(manifest));
      total -= std::min(total, image ? exclusive_bytes(**image) : 0);
    }
    return {};
  }

  bool is_unused_too_long(const std::string& manifest) const {
    if (options_.maximum_age <= Duration(0)) return false;
    const std::int64_t now = store_.engine().clock().now().wall_ns / 1'000'000'000;
    return now - last_use(manifest) >
           std::chrono::duration_cast<std::chrono::seconds>(options_.maximum_age).count();
  }

  /// Caches of RUN --mount=type=cache that no build has open.
  Result<void> sweep_build_mounts() {
    const std::string root = store_.directory() + "/build-mounts";
    const auto folder = open_file(root, O_RDONLY | O_DIRECTORY);
    if (!folder) return {};
    ORC_ASSIGN(const auto names, list_directory(folder->get()));
    for (const std::string& name : names) {
      if (is_young(root + "/" + name)) continue;
      report_.removed.push_back("build mount " + name);
      if (!options_.dry_run) ORC_TRY(remove_tree(root + "/" + name));
    }
    return {};
  }

  /// What goes with this image: content that no other name needs.
  std::uint64_t exclusive_bytes(const LoadedImage& image) const {
    const Marks rest = mark();
    const Marks own = mark_image(image);
    std::uint64_t bytes = 0;
    for (const std::string& digest : own.blobs) {
      if (!rest.blobs.contains(digest)) bytes += store_.blobs().size(digest).value_or(std::uint64_t{0});
    }
    for (const std::string& chain : own.chains) {
      const auto layer = store_.find_layer(chain);
      if (layer && !rest.chains.contains(chain)) bytes += layer->bytes;
    }
    return bytes;
  }

  /// All that an index names, as far as it is here.
  void mark_index(const std::string& digest, Marks& marks, int depth) const {
    constexpr int kDepthMax = 4;
    marks.blobs.insert(digest);
    const auto bytes = store_.blobs().read(digest, kManifestBytesMax);
    const auto document = bytes ? parse_document(*bytes) : Result<Document>(bytes.error());
    if (!document || depth > kDepthMax) return;
    if (const auto* index = std::get_if<Index>(&*document)) {
      for (const Descriptor& child : index->manifests) mark_index(child.digest, marks, depth + 1);
      return;
    }
    const auto& manifest = std::get<Manifest>(*document);
    marks.blobs.insert(manifest.config.digest);
    for (const Descriptor& layer : manifest.layers) marks.blobs.insert(layer.digest);
  }

  Marks mark() const {
    Marks marks;
    for (const NameRecord& record : names_) {
      marks.blobs.insert(record.manifest);
      if (!record.index.empty()) marks.blobs.insert(record.index);
      if (record.whole_index) mark_index(record.index, marks, 0);
      auto image = store_.load(record.manifest);
      if (!image) continue;
      const Marks own = mark_image(**image);
      marks.blobs.insert(own.blobs.begin(), own.blobs.end());
      marks.chains.insert(own.chains.begin(), own.chains.end());
    }
    // Layers of cached build steps; their unpacked form is made again when it is needed.
    if (!options_.bytes_max) {
      for (const std::string& digest : cache_.layers()) marks.blobs.insert(digest);
    }
    return marks;
  }

  bool is_young(const std::string& path) const {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return true;
    const std::int64_t changed = status.st_mtim.tv_sec * std::int64_t{1'000'000'000} + status.st_mtim.tv_nsec;
    return store_.engine().clock().now().wall_ns - changed < options_.minimum_age.count();
  }

  bool has_root(std::uint64_t number) const {
    const auto snapshots = store_.snapshots();
    if (!snapshots) return true;
    return std::any_of(snapshots->begin(), snapshots->end(), [&](const SnapshotRecord& snapshot) {
      return std::find(snapshot.layers.begin(), snapshot.layers.end(), number) != snapshot.layers.end();
    });
  }

  Result<void> sweep_blobs(const Marks& marks) {
    ORC_ASSIGN(const auto digests, store_.blobs().list());
    for (const std::string& digest : digests) {
      if (marks.blobs.contains(digest) || is_young(store_.blobs().path_of(digest))) continue;
      const std::uint64_t bytes = store_.blobs().size(digest).value_or(std::uint64_t{0});
      Result<void> done;
      const bool free = store_.leases().unless_held(digest, [&] {
        if (!options_.dry_run) done = store_.blobs().remove(digest);
      });
      ORC_TRY(done);
      if (!free) continue;
      report_.removed.push_back(digest);
      report_.bytes += bytes;
    }
    return {};
  }

  Result<void> sweep_layers(const Marks& marks) {
    for (const LayerRecord& layer : store_.layers()) {
      if (marks.chains.contains(layer.chain_id) || used_layers_.contains(layer.number)) continue;
      const std::string meta = store_.layer_path(layer.number) + "/../meta.json";
      if (is_young(meta)) continue;
      Result<std::string> dying = std::string();
      const bool free = store_.leases().unless_held(layer_key(layer.chain_id), [&] {
        // A root may have been made since the marks were set.
        if (!options_.dry_run && !has_root(layer.number)) dying = store_.retire_layer(layer);
      });
      if (!dying) return dying.error();
      if (!dying->empty()) ORC_TRY(remove_tree(*dying));
      if (!options_.dry_run && dying->empty()) continue;
      if (!free) continue;
      report_.removed.push_back("layer " + layer.chain_id);
      report_.bytes += layer.bytes;
    }
    return {};
  }

  Store& store_;
  const CollectOptions& options_;
  BuildCache cache_;
  std::vector<NameRecord> names_;
  std::set<std::string> used_images_;
  std::set<std::uint64_t> used_layers_;
  CollectReport report_;
};

}  // namespace

Marks mark_image(const LoadedImage& image) {
  Marks marks;
  marks.blobs.insert(image.digest);
  marks.blobs.insert(image.manifest.config.digest);
  std::string chain;
  for (std::size_t i = 0; i < image.manifest.layers.size(); ++i) {
    marks.blobs.insert(image.manifest.layers[i].digest);
    if (i >= image.config.diff_ids.size()) continue;
    chain = chain_id(chain, image.config.diff_ids[i]);
    marks.chains.insert(chain);
  }
  return marks;
}

Result<std::uint64_t> store_bytes(Store& store) {
  std::uint64_t total = 0;
  for (const LayerRecord& layer : store.layers()) total += layer.bytes;
  ORC_ASSIGN(const auto blobs, store.blobs().list());
  for (const std::string& digest : blobs) total += store.blobs().size(digest).value_or(std::uint64_t{0});
  return total;
}

Result<CollectReport> collect(Store& store, const CollectOptions& options) {
  return Collector(store, options).run();
}

}  // namespace orchestra::image
