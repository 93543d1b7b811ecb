// Unpacked layers: DIR/layers/N/fs with DIR/layers/N/meta.json beside it, keyed by ChainID.
//
// A layer is unpacked into layers/tmp-N, synced once as a whole file system (fsync per file would be ten
// times slower), described by meta.json and renamed. From then on it never changes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/assert.hpp"
#include "base/json.hpp"
#include "image/layer_apply.hpp"
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
  ORC_ASSERT(blobs.size() == diff_ids.size());
  std::vector<LayerRecord> bottom_first;
  std::string chain;
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    chain = chain_id(chain, diff_ids[i]);
    lease.hold(layer_key(chain));
    lease.hold(blobs[i].digest);
    const auto one_at_a_time = key_mutex("layer:" + chain);
    const std::lock_guard flight(*one_at_a_time);
    std::optional<LayerRecord> record = find_layer(chain);
    if (!record) {
      ORC_ASSIGN(record, unpack_layer(blobs[i], diff_ids[i], chain, bottom_first));
    }
    bottom_first.push_back(*record);
  }
  return std::vector<LayerRecord>(bottom_first.rbegin(), bottom_first.rend());
}

Result<LayerRecord> Store::unpack_layer(const Descriptor& blob, const std::string& diff_id,
                                        const std::string& chain, const std::vector<LayerRecord>& below) {
  LayerRecord record;
  record.chain_id = chain;
  {
    std::lock_guard lock(mutex_);
    record.number = next_layer_++;
  }
  const std::string root = directory() + "/layers";
  const std::string temporary = root + "/tmp-" + std::to_string(record.number);
  const auto undo = [&](Error error) {
    (void)remove_tree(temporary);
    return error.with_context("layer " + blob.digest);
  };
  ORC_TRY(make_directories(temporary + "/fs", 0700));
  ORC_ASSIGN(const Fd target, open_file(temporary + "/fs", O_RDONLY | O_DIRECTORY));
  std::vector<std::uint64_t> numbers;
  for (auto layer = below.rbegin(); layer != below.rend(); ++layer) numbers.push_back(layer->number);
  auto lower = open_layers(numbers);
  if (!lower) return undo(lower.error());

  auto file = blobs_.open_blob(blob.digest);
  if (!file) return undo(file.error());
  auto plain = decompress(make_file_source(std::move(*file)));
  if (!plain) return undo(plain.error());
  HashingSource source(std::move(*plain), options_.layer_bytes_max, digest_algorithm(diff_id));
  ApplyOptions options;
  options.bytes_max = options_.layer_bytes_max;
  auto report = apply_layer(source, target.get(), *lower, options);
  if (!report) return undo(report.error());
  if (auto rest = drain(source); !rest) return undo(rest.error());
  if (const std::string actual = source.digest(); actual != diff_id) {
    return undo(
        Error(Error::corrupt, "image", "unpacks to " + actual + ", the configuration says " + diff_id));
  }
  for (const std::string& what : report->skipped) engine_.log(LogLevel::warning, "image", "layer: " + what);

  record.bytes = report->bytes;
  json::object meta;
  meta["chainID"] = chain;
  meta["diffID"] = diff_id;
  meta["bytes"] = report->bytes;
  if (auto done = write_file(temporary + "/meta.json", to_json(meta), 0600); !done) return undo(done.error());
  if (::syncfs(target.get()) != 0) return undo(system_error("image", "syncfs", temporary, errno));
  const std::string final_path = root + "/" + std::to_string(record.number);
  if (::rename(temporary.c_str(), final_path.c_str()) != 0) {
    return undo(system_error("image", "rename", final_path, errno));
  }
  std::lock_guard lock(mutex_);
  layers_[chain] = record;
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
