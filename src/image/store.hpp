#pragma once
// image::Store: everything an image store does, as blocking calls on one thread each.
//
//   DIR/oci-layout index.json blobs/   a valid OCI layout at all times; index.json holds the names
//   DIR/layers/N/{fs,meta.json}        unpacked layers, one number per ChainID
//   DIR/snapshots/OWNER/{meta.json,upper,work | root}
//   DIR/ingest/                        being written; open() keeps only parts of downloads
//
// There is no database: what is on disk is the record, each step ends with one rename, and open() reads
// the small files back. One process owns a store (DIR/lock); what running operations need is held by
// Leases in memory, so a crash pins nothing. ImageStore (public) and the ImageService run these calls on
// worker threads.
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "image/blob_store.hpp"
#include "image/build/file_hashes.hpp"
#include "image/layer_apply.hpp"
#include "image/layer_stack.hpp"
#include "image/lease.hpp"
#include "image/manifest.hpp"
#include "image/pull_record.hpp"
#include "image/registry/session.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/image_reference.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// A name in index.json, or an image without one.
struct NameRecord {
  std::string name;          ///< canonical; empty: kept by digest only
  std::string manifest;      ///< digest of the manifest of this machine's platform
  std::string index;         ///< digest of the index it was chosen from, or empty
  bool pinned = false;       ///< preloaded: never collected
  bool whole_index = false;  ///< everything that the index names is here, for all platforms
};

/// A loaded image: its documents, parsed.
struct LoadedImage {
  std::string digest;
  Manifest manifest;
  ImageConfig config;
  std::uint64_t bytes = 0;
};

struct LayerRecord {
  std::string chain_id;
  std::uint64_t number = 0, bytes = 0;
};

struct SnapshotRecord {
  std::string owner, image;           ///< digest of the manifest
  std::vector<std::uint64_t> layers;  ///< top first
  bool overlay = false;
};

class Store {
 public:
  static Result<std::shared_ptr<Store>> open(Engine& engine, ImageStoreOptions options, StepFault fault = {});

  Engine& engine() { return engine_; }
  const ImageStoreOptions& options() const { return options_; }
  PullRecords& pull_records() { return pull_records_; }
  const std::string& directory() const { return options_.dir; }
  BlobStore& blobs() { return blobs_; }
  LeaseTable& leases() { return leases_; }
  TokenCache& tokens() { return tokens_; }
  HostSlots& host_slots() { return host_slots_; }
  FileHashes& file_hashes() { return file_hashes_; }

  /// Something that lives as long as the store.
  void keep(std::shared_ptr<void> what) { kept_ = std::move(what); }

  /// One holder per key: single flight of pulls, layers and roots.
  std::shared_ptr<std::mutex> key_mutex(const std::string& key);

  // --- names (store.cpp)
  Result<void> set_name(NameRecord record);
  /// The record of a canonical name.
  std::optional<NameRecord> find_name(const std::string& canonical) const;
  std::vector<NameRecord> names() const;
  /// A reference, an image id or manifest digest (whole, or at least 4 hex digits): the record, if any.
  Result<std::optional<NameRecord>> find_image(const std::string& text) const;
  /// Removes one name (or, by id, all of that image). Content goes with the next collection.
  Result<void> remove_name(const std::string& text);
  Result<std::shared_ptr<const LoadedImage>> load(const std::string& manifest_digest) const;
  Result<ImageInfo> info(const NameRecord& record) const;
  Result<std::vector<ImageInfo>> list() const;

  // --- layers (store_layers.cpp)
  /// Unpacks what is missing; gives the layers top first.
  Result<std::vector<LayerRecord>> ensure_layers(const LoadedImage& image, Lease& lease);
  /// The same for a stack that is no image yet (builds); bottom first in, top first out.
  Result<std::vector<LayerRecord>> ensure_layers(const std::vector<Descriptor>& blobs,
                                                 const std::vector<std::string>& diff_ids, Lease& lease);
  std::vector<LayerRecord> layers() const;
  std::optional<LayerRecord> find_layer(const std::string& chain) const;
  Result<LayerStack> open_layers(const std::vector<std::uint64_t>& top_first) const;
  std::string layer_path(std::uint64_t number) const;
  // What a LayerRun needs:
  ApplyOptions apply_options() const;
  std::uint64_t next_layer_number();
  /// Only one run unpacks a chain at a time. False: another one does.
  bool claim_chain(const std::string& chain);
  /// Waits until nobody has the claim, and takes it.
  void wait_chain(const std::string& chain);
  void release_chain(const std::string& chain);
  /// A whole, synced folder becomes a layer.
  Result<LayerRecord> adopt_layer(const std::string& folder, const LayerRecord& record);
  /// Takes a layer out of use; gives the folder that is left to remove.
  Result<std::string> retire_layer(const LayerRecord& record);

  // --- snapshots (snapshot.cpp)
  Result<MountPlan> prepare_root(const std::string& image, const std::string& owner, Isolation isolation);
  Result<void> release_root(const std::string& owner);
  /// A root below `path` that no record knows (builds); whoever made it removes it.
  Result<MountPlan> make_root(const std::string& path, const std::vector<LayerRecord>& layers,
                              Isolation isolation);
  Result<std::vector<SnapshotRecord>> snapshots() const;
  Result<SnapshotRecord> find_snapshot(const std::string& owner) const;
  /// The merged view of a snapshot with what was written into it, without mounting.
  Result<LayerStack> open_snapshot(const SnapshotRecord& record) const;
  std::string snapshot_path(const std::string& owner) const;
  /// Empty when overlayfs can be mounted here, else why not. Tried once, really.
  const std::string& overlay_problem() const { return overlay_problem_; }

 private:
  Store(Engine& engine, ImageStoreOptions options, StepFault fault);
  Result<void> read_names();
  Result<void> save_names_locked();
  Result<std::shared_ptr<const LoadedImage>> load_locked(const std::string& manifest_digest) const;
  Result<void> read_layers();
  bool can_overlay(const std::vector<LayerRecord>& layers, Isolation isolation) const;
  Result<void> fill_root(const std::string& path, const std::vector<std::uint64_t>& layers, bool overlay);
  MountPlan plan_of(const std::string& path, const std::vector<std::uint64_t>& layers, bool overlay) const;

  Engine& engine_;
  ImageStoreOptions options_;
  PullRecords pull_records_{options_.dir + "/pulled"};
  std::shared_ptr<void> lock_;
  BlobStore blobs_;
  LeaseTable leases_;
  TokenCache tokens_;
  HostSlots host_slots_;
  FileHashes file_hashes_;
  std::string overlay_problem_;

  mutable std::mutex mutex_;  ///< names_, layers_, loaded_, key_mutexes_; never held across a copy or unpack
  std::vector<NameRecord> names_;
  std::map<std::string, LayerRecord> layers_;  ///< by ChainID
  std::uint64_t next_layer_ = 1;
  std::set<std::string> claimed_chains_;
  std::condition_variable chain_released_;
  mutable std::map<std::string, std::shared_ptr<const LoadedImage>> loaded_;
  std::map<std::string, std::weak_ptr<std::mutex>> key_mutexes_;  ///< single flight per ChainID and owner
  std::shared_ptr<void> kept_;
};

/// `work(Store&)` on a worker thread. The job lets go of the store before its answer is given: whoever has
/// the answer and drops the store can open its folder again at once.
template <class F>
auto run_with_store(std::shared_ptr<Store> store, F work) {
  Engine& engine = store->engine();
  return engine.run_blocking([store = std::move(store), work = std::move(work)]() mutable {
    const std::shared_ptr<Store> held = std::move(store);
    return work(*held);
  });
}

/// Mounts an overlay of fresh folders below `directory` without attaching it anywhere: the host's mount
/// table is not touched. Empty if it worked, else the reason.
std::string probe_overlay(const std::string& directory);

}  // namespace orchestra::image
