// Unpacked layers: DIR/layers/N/fs with DIR/layers/N/meta.json beside it, keyed by ChainID.
//
// A layer is unpacked into layers/tmp-N (layer_run), synced once as a whole file system (fsync per file
// would be ten times slower), described by meta.json and renamed. From then on it never changes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/json.hpp"
#include "image/layer_run.hpp"
#include "image/store.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kMetaBytesMax = 64 << 10;

Result<std::vector<std::string>> list_names(const std::string& path) {
  ORC_ASSIGN(const Fd directory, open_file(path, O_RDONLY | O_DIRECTORY));
  return list_directory(directory.get());
}

}  // namespace

Result<void> Store::read_layers() {
  const std::string root = directory() + "/layers";
  ORC_ASSIGN(const auto names, list_names(root));
  for (const std::string& name : names) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool is_number = error == std::errc() && end == name.data() + name.size();
    auto meta = is_number ? read_file(root + "/" + name + "/meta.json", kMetaBytesMax)
                          : Result<std::string>(Error(Error::not_found, "image", "left over"));
    auto parsed = meta ? parse_json(*meta) : Result<json::value>(meta.error());
    const std::string chain = parsed ? string_at(*parsed, "/chainID") : "";
    if (!is_digest(chain)) {
      // A crash while unpacking, or a damaged record: made again from the blob when it is needed.
      ORC_TRY(remove_tree(root + "/" + name));
      continue;
    }
    next_layer_ = std::max(next_layer_, number + 1);
    layers_[chain] = {chain, number, static_cast<std::uint64_t>(int_at(*parsed, "/bytes"))};
  }
  ORC_ASSIGN(const auto snapshots, list_names(directory() + "/snapshots"));
  for (const std::string& name : snapshots) {
    const std::string path = directory() + "/snapshots/" + name;
    const bool whole = !name.starts_with("tmp-") && ::access((path + "/meta.json").c_str(), F_OK) == 0;
    if (!whole) ORC_TRY(remove_tree(path));
  }
  return {};
}

std::string Store::layer_path(std::uint64_t number) const {
  return directory() + "/layers/" + std::to_string(number) + "/fs";
}

std::vector<LayerRecord> Store::layers() const {
  std::lock_guard lock(mutex_);
  std::vector<LayerRecord> out;
  for (const auto& [chain, record] : layers_) out.push_back(record);
  return out;
}

std::optional<LayerRecord> Store::find_layer(const std::string& chain) const {
  std::lock_guard lock(mutex_);
  const auto found = layers_.find(chain);
  return found == layers_.end() ? std::nullopt : std::optional(found->second);
}

Result<LayerStack> Store::open_layers(const std::vector<std::uint64_t>& top_first) const {
  std::vector<std::string> paths;
  for (const std::uint64_t number : top_first) paths.push_back(layer_path(number));
  return LayerStack::open(paths);
}

Result<std::vector<LayerRecord>> Store::ensure_layers(const LoadedImage& image, Lease& lease) {
  if (!image.manifest.is_image()) {
    return Error(
        Error::unsupported, "image",
        image.digest + " is an artifact (" + image.manifest.config.media_type + "), not a container image");
  }
  return ensure_layers(image.manifest.layers, image.config.diff_ids, lease);
}

Result<std::vector<LayerRecord>> Store::ensure_layers(const std::vector<Descriptor>& blobs,
                                                      const std::vector<std::string>& diff_ids,
                                                      Lease& lease) {
  LayerRun run(*this, blobs, diff_ids, lease);
  for (const Descriptor& blob : blobs) run.offer(blob.digest, stored_content(*this, blob.digest));
  return run.finish();
}

ApplyOptions Store::apply_options() const {
  ApplyOptions options;
  options.bytes_max = options_.layer_bytes_max;
  options.tar.entries_max = options_.layer_entries_max;
  return options;
}

std::uint64_t Store::next_layer_number() {
  std::lock_guard lock(mutex_);
  return next_layer_++;
}

bool Store::claim_chain(const std::string& chain) {
  std::lock_guard lock(mutex_);
  return claimed_chains_.insert(chain).second;
}

void Store::wait_chain(const std::string& chain) {
  std::unique_lock lock(mutex_);
  chain_released_.wait(lock, [&] { return !claimed_chains_.contains(chain); });
  claimed_chains_.insert(chain);
}

void Store::release_chain(const std::string& chain) {
  std::lock_guard lock(mutex_);
  claimed_chains_.erase(chain);
  chain_released_.notify_all();
}

Result<LayerRecord> Store::adopt_layer(const std::string& folder, const LayerRecord& record) {
  const std::string final_path = directory() + "/layers/" + std::to_string(record.number);
  if (::rename(folder.c_str(), final_path.c_str()) != 0) {
    return system_error("image", "rename", final_path, errno);
  }
  std::lock_guard lock(mutex_);
  layers_[record.chain_id] = record;
  return record;
}

Result<std::string> Store::retire_layer(const LayerRecord& record) {
  const std::string path = directory() + "/layers/" + std::to_string(record.number);
  // Renamed first: a crash in the middle of the removal must not leave half a layer that looks whole.
  const std::string dying = directory() + "/layers/tmp-" + std::to_string(record.number);
  if (::rename(path.c_str(), dying.c_str()) != 0 && errno != ENOENT) {
    return system_error("image", "rename", path, errno);
  }
  std::lock_guard lock(mutex_);
  layers_.erase(record.chain_id);
  return dying;
}

}  // namespace orchestra::image
