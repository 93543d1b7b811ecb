// Export, see export.hpp. docker-archive holds plain layers whatever the store has, so that its layer names
// are DiffIDs; an oci-archive holds the stored bytes.
#include "image/export.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/json.hpp"
#include "image/tar.hpp"

namespace orchestra::image {
namespace {

/// One image and all names it is exported under.
struct Item {
  NameRecord record;
  std::shared_ptr<const LoadedImage> image;
  std::vector<ImageReference> names;
};

class Exporter {
 public:
  Exporter(Store& store, int file)
      : store_(store),
        lease_(store.leases().begin()),
        tar_([file](std::string_view bytes) { return write_all(file, bytes); }) {}

  Result<void> run(const std::vector<std::string>& names, ImageFormat format) {
    ORC_TRY(find_items(names));
    ORC_TRY(format == ImageFormat::docker ? docker() : oci());
    return tar_.finish();
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

  static TarEntry file_of(const std::string& path, std::uint64_t size) {
    TarEntry entry;
    entry.path = path;
    entry.size = size;
    return entry;
  }

  Result<void> add_source(const std::string& path, std::uint64_t size, ByteSource& source) {
    ORC_TRY(tar_.begin(file_of(path, size)));
    std::vector<char> buffer(256 << 10);
    std::uint64_t left = size;
    while (left > 0) {
      const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
      ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), step));
      if (got == 0) return Error(Error::corrupt, "image", path + " is shorter than it was");
      ORC_TRY(tar_.write({buffer.data(), got}));
      left -= got;
    }
    return tar_.end_entry();
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
        ORC_TRY(tar_.add(file_of(config_name, config.size()), config));
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
    return tar_.add(file_of("manifest.json", text.size()), text);
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
    return add_source(path, counted.bytes(), *second);
  }

  // --- oci-archive ---------------------------------------------------------------------------------------

  Result<void> oci() {
    const std::string layout = "{\"imageLayoutVersion\":\"1.0.0\"}";
    ORC_TRY(tar_.add(file_of("oci-layout", layout.size()), layout));
    json::array manifests;
    for (const Item& item : items_) {
      ORC_ASSIGN(const std::uint64_t size, store_.blobs().size(item.record.manifest));
      const auto entry_for = [&](const std::string& name) {
        json::object entry;
        entry["mediaType"] = item.image->manifest.media_type;
        entry["digest"] = item.record.manifest;
        entry["size"] = size;
        if (!name.empty()) entry["annotations"] = json::object{{"org.opencontainers.image.ref.name", name}};
        return entry;
      };
      if (item.names.empty()) manifests.push_back(entry_for(""));
      for (const ImageReference& name : item.names) manifests.push_back(entry_for(name.canonical()));
    }
    json::object index;
    index["schemaVersion"] = 2;
    index["mediaType"] = std::string(kOciIndex);
    index["manifests"] = std::move(manifests);
    const std::string text = to_json(index);
    ORC_TRY(tar_.add(file_of("index.json", text.size()), text));
    std::set<std::string> digests;
    for (const Item& item : items_) {
      digests.insert(item.record.manifest);
      digests.insert(item.image->manifest.config.digest);
      for (const Descriptor& layer : item.image->manifest.layers) digests.insert(layer.digest);
    }
    for (const std::string& digest : digests) {
      ORC_ASSIGN(const std::uint64_t size, store_.blobs().size(digest));
      ORC_ASSIGN(Fd file, store_.blobs().open_blob(digest));
      const auto source = make_file_source(std::move(file));
      const std::string path =
          "blobs/" + std::string(digest_algorithm(digest)) + "/" + std::string(digest_hex(digest));
      ORC_TRY(add_source(path, size, *source));
    }
    return {};
  }

  Store& store_;
  Lease lease_;
  TarWriter tar_;
  std::vector<Item> items_;
  std::set<std::string> written_;
};

}  // namespace

Result<void> export_archive(Store& store, const std::string& path, const std::vector<std::string>& names,
                            ImageFormat format) {
  struct stat status {};
  const bool in_place = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  const std::string target = in_place ? path : path + ".part";
  ORC_ASSIGN(const Fd file, open_file(target, O_WRONLY | O_CREAT | (in_place ? 0 : O_TRUNC), 0644));
  auto done = Exporter(store, file.get()).run(names, format);
  if (done && !in_place && ::rename(target.c_str(), path.c_str()) != 0) {
    done = system_error("image", "rename", path, errno);
  }
  if (!done && !in_place) ::unlink(target.c_str());
  if (!done) return done.error().with_context("export " + path);
  return {};
}

}  // namespace orchestra::image
