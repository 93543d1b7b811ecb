// See verify.hpp. Entries and bytes of an unpacked layer are counted again and compared with its record.
#include "image/verify.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "base/json.hpp"
#include "image/build/tree_diff.hpp"
#include "image/file_copy.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kMetaBytesMax = 64 << 10;
constexpr int kDepthMax = 1100;

/// Bytes and inodes below a directory; a file of several links counts once.
class Counter {
 public:
  Result<void> walk(int at, int depth = 0) {
    if (depth > kDepthMax) return Error(Error::too_large, "image", "a tree deeper than 1,100");
    ORC_ASSIGN(const auto names, list_directory(at));
    for (const std::string& name : names) {
      struct stat status {};
      if (::fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;  // a running container removes files as it likes
        return system_error("image", "fstatat", name, errno);
      }
      if (seen_.emplace(status.st_dev, status.st_ino).second) {
        ++usage.inodes;
        usage.bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
        if (S_ISREG(status.st_mode)) file_bytes += static_cast<std::uint64_t>(status.st_size);
      }
      if (!S_ISDIR(status.st_mode)) continue;
      auto inner = open_beneath(at, name, O_RDONLY | O_DIRECTORY);
      if (!inner && inner.error().is(Error::not_found)) continue;
      if (!inner) return inner.error();
      ORC_TRY(walk(inner->get(), depth + 1));
    }
    return {};
  }
  ImageUsage usage;
  std::uint64_t file_bytes = 0;

 private:
  std::set<std::pair<dev_t, ino_t>> seen_;
};

class Verifier {
 public:
  explicit Verifier(Store& store) : store_(store), lease_(store.leases().begin()) {}

  Result<VerifyReport> run() {
    ORC_ASSIGN(const auto digests, store_.blobs().list());
    for (const std::string& digest : digests) ORC_TRY(check_blob(digest));
    for (const LayerRecord& layer : store_.layers()) check_layer(layer);
    for (const NameRecord& record : store_.names()) check_name(record);
    ORC_ASSIGN(const auto roots, store_.snapshots());
    for (const SnapshotRecord& root : roots) {
      for (const std::uint64_t number : root.layers) {
        if (!open_file(store_.layer_path(number), O_PATH | O_DIRECTORY))
          problem("root " + root.owner + ": its layer " + std::to_string(number) + " is gone");
      }
    }
    return std::move(report_);
  }

 private:
  void problem(const std::string& what) {
    constexpr std::size_t kProblemsMax = 1000;
    if (report_.problems.size() < kProblemsMax) report_.problems.push_back(what);
  }

  Result<void> check_blob(const std::string& digest) {
    lease_.hold(digest);
    ++report_.blobs;
    auto file = store_.blobs().open_blob(digest);
    if (!file) {
      if (!file.error().is(Error::not_found)) problem("blob " + digest + ": " + file.error().message());
      return {};  // collected a moment ago
    }
    HashingSource source(make_file_source(std::move(*file)), std::uint64_t{1} << 50,
                         digest_algorithm(digest));
    if (auto read = drain(source); !read) {
      problem("blob " + digest + ": " + read.error().message());
    } else if (const std::string actual = source.digest(); actual != digest) {
      problem("blob " + digest + " holds " + actual);
    }
    return {};
  }

  void check_layer(const LayerRecord& layer) {
    ++report_.layers;
    const std::string name = "layer " + std::to_string(layer.number) + " (" + layer.chain_id + ")";
    const std::string folder = store_.layer_path(layer.number);
    const auto meta = read_file(folder + "/../meta.json", kMetaBytesMax);
    const auto parsed = meta ? parse_json(*meta) : Result<json::value>(meta.error());
    if (!parsed || string_at(*parsed, "/chainID") != layer.chain_id)
      return problem(name + ": its record is damaged");
    auto root = open_file(folder, O_RDONLY | O_DIRECTORY);
    if (!root) return problem(name + ": " + root.error().message());
    Counter counter;
    if (auto walked = counter.walk(root->get()); !walked)
      return problem(name + ": " + walked.error().message());
    // Hard links into lower layers add bytes that the archive did not have: never fewer than recorded.
    if (counter.file_bytes < layer.bytes) {
      const std::string have = std::to_string(counter.file_bytes);
      problem(name + " holds " + have + " bytes of files, its record says " + std::to_string(layer.bytes));
    }
  }

  void check_name(const NameRecord& record) {
    ++report_.images;
    const std::string name = record.name.empty() ? record.manifest : record.name;
    auto image = store_.load(record.manifest);
    if (!image) return problem(name + ": " + image.error().message());
    for (const Descriptor& layer : (*image)->manifest.layers) {
      const auto size = store_.blobs().size(layer.digest);
      if (!size) {
        problem(name + ": its layer " + layer.digest + " is missing");
      } else if (*size != layer.size) {
        problem(name + ": its layer " + layer.digest + " has " + std::to_string(*size) + " bytes, not " +
                std::to_string(layer.size));
      }
    }
  }

  Store& store_;
  Lease lease_;
  VerifyReport report_;
};

}  // namespace

Result<VerifyReport> verify_store(Store& store) { return Verifier(store).run(); }

Result<ImageUsage> root_usage(Store& store, const std::string& owner) {
  ORC_ASSIGN(const SnapshotRecord record, store.find_snapshot(owner));
  const std::string path = store.snapshot_path(owner) + (record.overlay ? "/upper" : "/root");
  ORC_ASSIGN(const Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
  Counter counter;
  ORC_TRY(counter.walk(root.get()));
  return counter.usage;
}

Result<std::string> write_root_diff(Store& store, const std::string& owner, const std::string& path) {
  ORC_ASSIGN(const SnapshotRecord record, store.find_snapshot(owner));
  ORC_ASSIGN(const LayerStack below, store.open_layers(record.layers));
  ORC_ASSIGN(const Fd root, open_file(store.snapshot_path(owner) + (record.overlay ? "/upper" : "/root"),
                                      O_RDONLY | O_DIRECTORY));
  Lease lease = store.leases().begin();
  ORC_ASSIGN(const auto layer, LayerWriter::begin(store.blobs(), below));
  ORC_TRY(record.overlay ? write_upper(root.get(), below, *layer)
                         : write_difference(root.get(), below, *layer));
  ORC_ASSIGN(const BuiltLayer built, layer->finish());
  lease.hold(built.blob.digest);
  ORC_ASSIGN(const Fd from, store.blobs().open_blob(built.blob.digest));
  ORC_ASSIGN(const Fd to, open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  ORC_TRY(copy_bytes(from.get(), to.get(), built.blob.size));
  return built.blob.digest;
}

}  // namespace orchestra::image
