#pragma once
// LayerRun: the layers of one image, unpacked beside each other and beside their download.
//
// Each missing layer is unpacked into layers/tmp-N by whoever is free: helpers on worker threads, or the
// caller in finish(), which waits only for work that has really begun. What needs the layers below is done
// in chain order in finish(); then one syncfs for all of them, then the renames. A layer that another run
// unpacks at the same moment is waited for, not unpacked twice: claims go up the chain, so two runs never
// wait for each other in a circle.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "image/byte_source.hpp"
#include "image/layer_apply.hpp"
#include "image/lease.hpp"
#include "image/manifest.hpp"
#include "image/store.hpp"

namespace orchestra::image {

class LayerRun {
 public:
  using OpenContent = std::function<Result<std::unique_ptr<ByteSource>>()>;

  /// Bottom first. Holds every layer and blob by `lease`, which must outlive this.
  LayerRun(Store& store, const std::vector<Descriptor>& blobs, const std::vector<std::string>& diff_ids,
           Lease& lease);
  ~LayerRun();
  LayerRun(const LayerRun&) = delete;
  LayerRun& operator=(const LayerRun&) = delete;

  /// The bytes of `digest` can be read by `open` (they may still be arriving): helpers begin with the
  /// layers that consist of them.
  void offer(const std::string& digest, const OpenContent& open, bool arriving = false);
  /// Every blob must be in the store by now. Top first out.
  Result<std::vector<LayerRecord>> finish();

 private:
  struct Job;
  struct Shared;
  static void work(const std::shared_ptr<Shared>& shared);
  static void unpack(Store& store, Job& job);
  Result<void> complete(Job& job, const LayerStack& below);
  Result<void> unpack_again(Job& job, const LayerStack& below);
  Result<void> wait_elsewhere(std::size_t index);
  Result<void> make_visible(std::size_t count);
  std::vector<std::string> folders_below(std::size_t count) const;

  Store& store_;
  std::shared_ptr<Shared> shared_;
};

/// The bytes of a blob that is in the store.
LayerRun::OpenContent stored_content(Store& store, const std::string& digest);

}  // namespace orchestra::image
