// Export, see export.hpp. docker-archive holds plain layers whatever the store has, so that its layer names
// are DiffIDs; an oci-archive holds the stored bytes.
#include "image/export.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>

#include "base/json.hpp"
#include "image/tar.hpp"

namespace orchestra::image {
namespace {

/// Where files of an export go: a tar, or a folder.
class Target {
 public:
  virtual ~Target() = default;
  virtual Result<void> add(const std::string& path, std::string_view bytes) = 0;
  virtual Result<void> add_source(const std::string& path, std::uint64_t size, ByteSource& source) = 0;
  virtual Result<void> finish() = 0;
};

/// Bytes of `source`, exactly `size` of them, in pieces.
Result<void> pump(ByteSource& source, std::uint64_t size, const std::string& path,
                  const std::function<Result<void>(std::string_view)>& write) {
  std::vector<char> buffer(256 << 10);
  std::uint64_t left = size;
  while (left > 0) {
    const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
    ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), step));
    if (got == 0) return Error(Error::corrupt, "image", path + " is shorter than it was");
    ORC_TRY(write({buffer.data(), got}));
    left -= got;
  }
  return {};
}

class TarTarget : public Target {
 public:
  explicit TarTarget(int file) : tar_([file](std::string_view bytes) { return write_all(file, bytes); }) {}
  Result<void> add(const std::string& path, std::string_view bytes) override {
    return tar_.add(file_of(path, bytes.size()), bytes);
  }
  Result<void> add_source(const std::string& path, std::uint64_t size, ByteSource& source) override {
    ORC_TRY(tar_.begin(file_of(path, size)));
    ORC_TRY(pump(source, size, path, [this](std::string_view bytes) { return tar_.write(bytes); }));
    return tar_.end_entry();
  }
  Result<void> finish() override { return tar_.finish(); }

 private:
  static TarEntry file_of(const std::string& path, std::uint64_t size) {
    TarEntry entry;
    entry.path = path;
    entry.size = size;
    return entry;
  }
  TarWriter tar_;
};

class FolderTarget : public Target {
 public:
  explicit FolderTarget(std::string folder) : folder_(std::move(folder)) {}
  Result<void> add(const std::string& path, std::string_view bytes) override {
    const std::string full = folder_ + "/" + path;
    ORC_TRY(make_directories(full.substr(0, full.rfind('/')), 0755));
    return replace_file(full, bytes, 0644, false);
  }
  Result<void> add_source(const std::string& path, std::uint64_t size, ByteSource& source) override {
    const std::string full = folder_ + "/" + path;
    ORC_TRY(make_directories(full.substr(0, full.rfind('/')), 0755));
    ORC_ASSIGN(const Fd file, open_file(full + ".part", O_WRONLY | O_CREAT | O_TRUNC, 0644));
    ORC_TRY(
        pump(source, size, path, [&file](std::string_view bytes) { return write_all(file.get(), bytes); }));
    if (::rename((full + ".part").c_str(), full.c_str()) != 0)
      return system_error("image", "rename", full, errno);
    return {};
  }
  Result<void> finish() override { return {}; }

 private:
  std::string folder_;
};

/// One image and all names it is exported under.
struct Item {
  NameRecord record;
  std::shared_ptr<const LoadedImage> image;
  std::vector<ImageReference> names;
};

class Exporter {
 public:
  Exporter(Store& store, Target& target, std::string folder)
      : store_(store), lease_(store.leases().begin()), target_(target), folder_(std::move(folder)) {}

  Result<void> run(const std::vector<std::string>& names, ImageFormat format) {
    ORC_TRY(find_items(names));
    ORC_TRY(format == ImageFormat::docker ? docker() : oci());
    return target_.finish();
  }

 private:
  Result<void> find_items(const std::vector<std::string>& names) {
    if (names.empty()) return Error(Error::invalid, "image", "export needs the name of an image");
    for (const std::string& name : names) {
      ORC_ASSIGN(const auto record, store_.find_image(name));
      if (!record) return Error(Error::not_found, "image", "no image \"" + name + "\" in the store");
      auto item = std::find_if(items_.begin(), items_.end(),
                               [&](const Item& other) { return other.record.manifest == record->manifest; });
      if (item == items_.end()) {
        lease_.hold(record->manifest);
        ORC_ASSIGN(auto image, store_.load(record->manifest));
        lease_.hold(image->manifest.config.digest);
        for (const Descriptor& layer : image->manifest.layers) lease_.hold(layer.digest);
        items_.push_back({*record, std::move(image), {}});
        item = items_.end() - 1;
      }
      if (record->name.empty()) continue;
      auto reference = ImageReference::parse(record->name);
      if (reference && !reference->tag().empty()) item->names.push_back(*reference);
    }
    return {};
  }

  // --- docker-archive ----------------------------------------------------------------------------------

  Result<void> docker() {
    json::array list;
    for (const Item& item : items_) {
      if (!item.image->manifest.is_image()) {
        return Error(Error::unsupported, "image", item.record.name + " is an artifact; export it as oci");
      }
      json::object entry;
      const std::string config_name = std::string(digest_hex(item.image->manifest.config.digest)) + ".json";
      entry["Config"] = config_name;
      json::array tags;
      for (const ImageReference& name : item.names) tags.push_back(json::value(name.familiar()));
      entry["RepoTags"] = std::move(tags);
      if (written_.insert(config_name).second) {
        ORC_ASSIGN(const std::string config,
                   store_.blobs().read(item.image->manifest.config.digest, kConfigBytesMax));
        ORC_TRY(target_.add(config_name, config));
      }
      json::array layers;
      for (std::size_t i = 0; i < item.image->manifest.layers.size(); ++i) {
        const std::string path = std::string(digest_hex(item.image->config.diff_ids[i])) + "/layer.tar";
        layers.push_back(json::value(path));
        if (!written_.insert(path).second) continue;
        ORC_TRY(plain_layer(path, item.image->manifest.layers[i]));
      }
      entry["Layers"] = std::move(layers);
      list.push_back(std::move(entry));
    }
    const std::string text = to_json(list);
    return target_.add("manifest.json", text);
  }

  /// Two passes over a compressed layer: a tar header needs the size first.
  Result<void> plain_layer(const std::string& path, const Descriptor& blob) {
    const auto open = [&]() -> Result<std::unique_ptr<ByteSource>> {
      ORC_ASSIGN(Fd file, store_.blobs().open_blob(blob.digest));
      return decompress(make_file_source(std::move(file)));
    };
    ORC_ASSIGN(auto first, open());
    HashingSource counted(std::move(first), std::uint64_t{1} << 50);
    ORC_TRY(drain(counted));
    ORC_ASSIGN(const auto second, open());
    return target_.add_source(path, counted.bytes(), *second);
  }

  // --- oci-archive ---------------------------------------------------------------------------------------

  Result<void> oci() {
    json::array manifests;
    ORC_TRY(keep_index(manifests));
    std::set<std::string> digests;
    for (const Item& item : items_) {
      const std::string& top = item.record.whole_index ? item.record.index : item.record.manifest;
      ORC_ASSIGN(const std::uint64_t size, store_.blobs().size(top));
      const auto entry_for = [&](const std::string& name) {
        json::object entry;
        entry["mediaType"] =
            item.record.whole_index ? std::string(kOciIndex) : item.image->manifest.media_type;
        entry["digest"] = top;
        entry["size"] = size;
        if (!name.empty()) entry["annotations"] = json::object{{"org.opencontainers.image.ref.name", name}};
        return entry;
      };
      if (item.names.empty()) manifests.push_back(entry_for(""));
      for (const ImageReference& name : item.names) manifests.push_back(entry_for(name.canonical()));
      ORC_TRY(collect_digests(top, digests, 0));
    }
    ORC_TRY(target_.add("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"));
    json::object index;
    index["schemaVersion"] = 2;
    index["mediaType"] = std::string(kOciIndex);
    index["manifests"] = std::move(manifests);
    // A tar names its content first; a folder must never name what is not there yet.
    if (folder_.empty()) ORC_TRY(target_.add("index.json", to_json(index)));
    for (const std::string& digest : digests) {
      ORC_ASSIGN(const std::uint64_t size, store_.blobs().size(digest));
      ORC_ASSIGN(Fd file, store_.blobs().open_blob(digest));
      const auto source = make_file_source(std::move(file));
      const std::string path =
          "blobs/" + std::string(digest_algorithm(digest)) + "/" + std::string(digest_hex(digest));
      ORC_TRY(target_.add_source(path, size, *source));
    }
    if (!folder_.empty()) ORC_TRY(target_.add("index.json", to_json(index)));
    return {};
  }

  /// What a layout that exists already names, but for the names that are written anew.
  Result<void> keep_index(json::array& manifests) {
    if (folder_.empty()) return {};
    const auto text = read_file(folder_ + "/index.json", kManifestBytesMax);
    if (!text && text.error().is(Error::not_found)) return {};
    if (!text) return text.error();
    ORC_ASSIGN(const json::value root, parse_json(*text));
    const json::array* entries = array_at(root, "/manifests");
    if (entries == nullptr) return Error(Error::corrupt, "image", folder_ + "/index.json has no manifests");
    std::set<std::string> ours;
    for (const Item& item : items_) {
      for (const ImageReference& name : item.names) ours.insert(name.canonical());
    }
    for (const json::value& entry : *entries) {
      const json::object* notes = object_at(entry, "/annotations");
      const json::value* name =
          notes == nullptr ? nullptr : notes->if_contains("org.opencontainers.image.ref.name");
      const bool replaced =
          name != nullptr && name->is_string() && ours.contains(std::string(name->as_string()));
      if (!replaced) manifests.push_back(entry);
    }
    return {};
  }

  Result<void> collect_digests(const std::string& digest, std::set<std::string>& into, int depth) {
    constexpr int kDepthMax = 4;
    if (depth > kDepthMax) return Error(Error::corrupt, "image", "indexes nested deeper than 4");
    lease_.hold(digest);
    into.insert(digest);
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(digest, kManifestBytesMax));
    ORC_ASSIGN(const Document document, parse_document(bytes));
    if (const auto* index = std::get_if<Index>(&document)) {
      for (const Descriptor& child : index->manifests)
        ORC_TRY(collect_digests(child.digest, into, depth + 1));
      return {};
    }
    const auto& manifest = std::get<Manifest>(document);
    into.insert(manifest.config.digest);
    for (const Descriptor& layer : manifest.layers) into.insert(layer.digest);
    return {};
  }

  Store& store_;
  Lease lease_;
  Target& target_;
  std::string folder_;  ///< of a layout; empty: archives
  std::vector<Item> items_;
  std::set<std::string> written_;
};

}  // namespace

Result<void> export_archive(Store& store, const std::string& path, const std::vector<std::string>& names,
                            ImageFormat format) {
  if (format == ImageFormat::layout) {
    FolderTarget folder(path);
    auto done = Exporter(store, folder, path).run(names, format);
    if (!done) return done.error().with_context("export " + path);
    return {};
  }
  struct stat status {};
  const bool in_place = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  const std::string target = in_place ? path : path + ".part";
  ORC_ASSIGN(const Fd file, open_file(target, O_WRONLY | O_CREAT | (in_place ? 0 : O_TRUNC), 0644));
  TarTarget tar(file.get());
  auto done = Exporter(store, tar, "").run(names, format);
  if (done && !in_place && ::rename(target.c_str(), path.c_str()) != 0) {
    done = system_error("image", "rename", path, errno);
  }
  if (!done && !in_place) ::unlink(target.c_str());
  if (!done) return done.error().with_context("export " + path);
  return {};
}

}  // namespace orchestra::image
