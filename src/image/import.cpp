// Two archive forms, one result: all content in the blob store, then the names, at the very end.
//
// docker-archive: manifest.json lists Config, RepoTags and Layers. The configuration (whose digest is the
// image id) and the layers are stored byte for byte; the manifest is ours. oci-archive and layout folders:
// index.json, blobs by digest. An archive with both: content from index.json, names from RepoTags too.
#include "image/import.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/json.hpp"
#include "image/archive.hpp"
#include "image/build/stage.hpp"
#include "image/build/tree_diff.hpp"
#include "image/policy.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kDockerManifestBytesMax = 4 << 20;
constexpr std::size_t kIndexDepthMax = 4;

/// An image whose content is stored, and the names that it shall get.
struct Found {
  std::string manifest, index;
  std::vector<std::string> names;
};

class Importer {
 public:
  Importer(Store& store, Archive& archive, const ImportOptions& options)
      : store_(store), archive_(archive), options_(options), lease_(store.leases().begin()) {}

  Result<ImportReport> run() {
    ORC_ASSIGN(wanted_, Platform::parse(options_.platform));
    const bool is_docker = archive_.has("manifest.json");
    const bool is_oci = archive_.has("index.json");
    if (is_oci) {
      ORC_TRY(read_layout());
      if (is_docker) ORC_TRY(add_docker_names());
    } else if (is_docker) {
      ORC_TRY(read_docker());
    } else {
      return Error(Error::invalid, "image",
                   "neither index.json nor manifest.json inside: not an OCI layout and not a docker archive");
    }
    if (found_.empty()) return Error(Error::invalid, "image", "the archive holds no image");
    ORC_TRY(choose_names());
    return commit();
  }

 private:
  // --- OCI layout ----------------------------------------------------------------------------------

  Result<void> read_layout() {
    ORC_ASSIGN(const std::string text, archive_.read("index.json", kManifestBytesMax));
    ORC_ASSIGN(const Index index, parse_index(text));
    // Entries without a name of their own that differ by platform are one image.
    const bool by_platform =
        index.manifests.size() > 1 &&
        std::all_of(index.manifests.begin(), index.manifests.end(),
                    [](const Descriptor& entry) { return entry.platform && entry.annotations.empty(); });
    if (by_platform) {
      ORC_ASSIGN(const Descriptor chosen, choose_platform(index, wanted_));
      return read_entry(chosen, {});
    }
    for (const Descriptor& entry : index.manifests) {
      std::vector<std::string> names;
      for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"}) {
        const auto note = entry.annotations.find(key);
        if (note != entry.annotations.end() && names.empty()) names.push_back(note->second);
      }
      ORC_TRY(read_entry(entry, names));
    }
    return {};
  }

  Result<void> read_entry(const Descriptor& entry, std::vector<std::string> names) {
    Descriptor at = entry;
    std::string index_digest;
    for (std::size_t depth = 0; depth < kIndexDepthMax; ++depth) {
      ORC_ASSIGN(const std::string bytes, read_blob(at, kManifestBytesMax));
      ORC_ASSIGN(Document document, parse_document(bytes));
      if (const auto* manifest = std::get_if<Manifest>(&document)) {
        ORC_TRY(store_content(*manifest));
        ORC_ASSIGN(const std::string digest, store_.blobs().put(bytes));
        found_.push_back({digest, index_digest, std::move(names)});
        return {};
      }
      ORC_ASSIGN(const std::string digest, store_.blobs().put(bytes));
      lease_.hold(digest);
      if (index_digest.empty()) index_digest = digest;
      ORC_ASSIGN(at, choose_platform(std::get<Index>(document), wanted_));
    }
    return Error(Error::corrupt, "image", "indexes nested deeper than 4");
  }

  Result<std::string> read_blob(const Descriptor& blob, std::size_t bytes_max) {
    ORC_TRY(check_digest(blob.digest));
    lease_.hold(blob.digest);
    if (blob.size > bytes_max)
      return Error(Error::too_large, "image", blob.digest + " is larger than allowed");
    ORC_ASSIGN(std::string bytes, archive_.read(blob_name(blob.digest), bytes_max));
    Hasher hasher(digest_algorithm(blob.digest));
    hasher.update(bytes);
    if (bytes.size() != blob.size || hasher.finish() != blob.digest) {
      return Error(Error::corrupt, "image",
                   blob.digest + " in the archive does not match its digest and size");
    }
    return bytes;
  }

  static std::string blob_name(const std::string& digest) {
    return "blobs/" + std::string(digest_algorithm(digest)) + "/" + std::string(digest_hex(digest));
  }

  Result<void> store_content(const Manifest& manifest) {
    ORC_ASSIGN(const std::string config, read_blob(manifest.config, kConfigBytesMax));
    ORC_ASSIGN(const std::string stored, store_.blobs().put(config));
    for (const Descriptor& layer : manifest.layers) {
      ORC_TRY(check_digest(layer.digest));
      lease_.hold(layer.digest);
      if (store_.blobs().has(layer.digest)) continue;
      ORC_ASSIGN(const auto source, archive_.open(blob_name(layer.digest)));
      ORC_TRY(store_.blobs().put(*source, layer.size, layer.size, layer.digest));
    }
    return {};
  }

  // --- docker-archive --------------------------------------------------------------------------------

  Result<json::value> docker_list() {
    ORC_ASSIGN(const std::string text, archive_.read("manifest.json", kDockerManifestBytesMax));
    ORC_ASSIGN(json::value list, parse_json(text));
    if (!list.is_array()) return Error(Error::corrupt, "image", "manifest.json is not a list");
    return list;
  }

  static std::vector<std::string> strings(const json::value& entry, std::string_view pointer) {
    std::vector<std::string> out;
    if (const json::array* items = array_at(entry, pointer)) {
      for (const json::value& item : *items) {
        if (item.is_string()) out.emplace_back(item.as_string());
      }
    }
    return out;
  }

  Result<void> read_docker() {
    ORC_ASSIGN(const json::value list, docker_list());
    for (const json::value& entry : list.as_array()) {
      const std::string config_name = string_at(entry, "/Config");
      ORC_ASSIGN(const std::string config_bytes, archive_.read(config_name, kConfigBytesMax));
      ORC_ASSIGN(const ImageConfig config, parse_config(config_bytes));
      Descriptor config_blob;
      config_blob.media_type = kOciConfig;
      config_blob.size = config_bytes.size();
      ORC_ASSIGN(config_blob.digest, store_.blobs().put(config_bytes));
      lease_.hold(config_blob.digest);
      const std::vector<std::string> layer_names = strings(entry, "/Layers");
      if (layer_names.size() != config.diff_ids.size()) {
        return Error(Error::corrupt, "image",
                     config_name + " has " + std::to_string(config.diff_ids.size()) +
                         " diff_ids, manifest.json " + std::to_string(layer_names.size()) + " layers");
      }
      std::vector<Descriptor> layers;
      for (const std::string& name : layer_names) {
        ORC_ASSIGN(Descriptor layer, store_docker_layer(name));
        layers.push_back(std::move(layer));
      }
      ORC_ASSIGN(const std::string manifest, store_.blobs().put(make_manifest(config_blob, layers)));
      lease_.hold(manifest);
      found_.push_back({manifest, "", strings(entry, "/RepoTags")});
    }
    return {};
  }

  Result<Descriptor> store_docker_layer(const std::string& name) {
    Descriptor out;
    std::string head(8, '\0');
    {
      ORC_ASSIGN(const auto source, archive_.open(name));
      ORC_ASSIGN(const std::size_t got, source->read(head.data(), head.size()));
      head.resize(got);
    }
    const Compression kind = detect_compression(head);
    out.media_type = kind == Compression::gzip   ? kOciLayerGzip
                     : kind == Compression::zstd ? kOciLayerZstd
                                                 : kOciLayerTar;
    ORC_ASSIGN(const auto source, archive_.open(name));
    ORC_ASSIGN(out.digest, store_.blobs().put(*source, std::uint64_t{1} << 40));
    lease_.hold(out.digest);
    ORC_ASSIGN(out.size, store_.blobs().size(out.digest));
    return out;
  }

  /// docker save of today writes both forms: the names of RepoTags belong to the same configurations.
  Result<void> add_docker_names() {
    ORC_ASSIGN(const json::value list, docker_list());
    for (const json::value& entry : list.as_array()) {
      const std::string config = string_at(entry, "/Config");
      for (Found& image : found_) {
        ORC_ASSIGN(const auto loaded, store_.load(image.manifest));
        const std::string hex(digest_hex(loaded->manifest.config.digest));
        if (config.find(hex) == std::string::npos) continue;
        const auto tags = strings(entry, "/RepoTags");
        if (!tags.empty()) image.names = tags;
      }
    }
    return {};
  }

  // --- names, at the end -------------------------------------------------------------------------------

  Result<void> choose_names() {
    if (!options_.name.empty()) {
      if (found_.size() > 1) {
        return Error(Error::invalid, "image",
                     "a name was given, but the archive holds " + std::to_string(found_.size()) +
                         " images; leave it out");
      }
      found_.front().names = {options_.name};
    }
    for (Found& image : found_) {
      std::vector<std::string> canonical;
      for (const std::string& name : image.names) {
        // A bare tag ("1.36", "latest") in an OCI layout names no image.
        const bool bare_tag = options_.name.empty() && name.find_first_of("/:.") == std::string::npos &&
                              archive_.has("index.json") && !archive_.has("manifest.json");
        auto reference = ImageReference::parse(name);
        const bool dotted_version = !name.empty() && name.find_first_of("/:") == std::string::npos &&
                                    name.find_first_not_of("0123456789.v") == std::string::npos;
        if (bare_tag || dotted_version) continue;
        if (!reference) return reference.error();
        canonical.push_back(reference->canonical());
      }
      image.names = std::move(canonical);
    }
    return {};
  }

  Result<ImportReport> commit() {
    for (const Found& image : found_) {
      ORC_ASSIGN(const auto loaded, store_.load(image.manifest));
      if (!loaded->manifest.is_image()) continue;
      const Platform& have = loaded->config.platform;
      if (!platform_fits(have, wanted_)) {
        return Error(Error::unsupported, "image",
                     "no image for " + wanted_.text() + "; the archive holds " + have.text());
      }
      if (platform_fits(have, host_platform())) ORC_TRY(store_.ensure_layers(*loaded, lease_));
    }
    ImportReport report;
    for (const Found& image : found_) {
      NameRecord record{"", image.manifest, image.index, options_.pinned};
      store_.pull_records().forget(image.manifest);
      std::vector<std::string> names = image.names;
      if (names.empty()) names.push_back("");
      for (const std::string& name : names) {
        record.name = name;
        ORC_TRY(store_.set_name(record));
      }
      record.name = names.front();
      ORC_ASSIGN(ImageInfo info, store_.info(record));
      report.images.push_back(std::move(info));
    }
    report.skipped_entries = archive_.unused();
    return report;
  }

  Store& store_;
  Archive& archive_;
  const ImportOptions& options_;
  Lease lease_;
  Platform wanted_;
  std::vector<Found> found_;
};

/// A tar or folder that is a root file system becomes the one layer of an image without a command.
Result<ImportReport> import_root(Store& store, const std::string& path, const ImportOptions& options) {
  Lease lease = store.leases().begin();
  ORC_ASSIGN(Fd file, open_file(path, O_RDONLY));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_error("image", "fstat", path, errno);
  BuiltLayer layer;
  if (S_ISDIR(status.st_mode)) {
    const LayerStack nothing;
    ORC_ASSIGN(const auto writer, LayerWriter::begin(store.blobs(), nothing));
    ORC_TRY(write_difference(file.get(), nothing, *writer));
    ORC_ASSIGN(layer, writer->finish());
  } else {
    ORC_ASSIGN(const auto plain, decompress(make_file_source(std::move(file))));
    layer.blob.media_type = kOciLayerTar;
    ORC_ASSIGN(layer.blob.digest, store.blobs().put(*plain, store.options().layer_bytes_max));
    ORC_ASSIGN(layer.blob.size, store.blobs().size(layer.blob.digest));
    layer.diff_id = layer.blob.digest;
  }
  lease.hold(layer.blob.digest);
  ORC_ASSIGN(const Platform platform, Platform::parse(options.platform));
  StageState state(platform);
  state.add_layer(layer, "import of a root file system");
  const std::string config = state.config_json();
  Descriptor config_blob{std::string(kOciConfig), "", "", config.size(), {}, {}};
  ORC_ASSIGN(config_blob.digest, store.blobs().put(config));
  lease.hold(config_blob.digest);
  NameRecord record;
  record.pinned = options.pinned;
  ORC_ASSIGN(record.manifest, store.blobs().put(make_manifest(config_blob, state.layers())));
  lease.hold(record.manifest);
  if (platform_fits(platform, host_platform()))
    ORC_TRY(store.ensure_layers(state.layers(), state.diff_ids(), lease));
  if (!options.name.empty()) {
    ORC_ASSIGN(const ImageReference reference, ImageReference::parse(options.name));
    record.name = reference.canonical();
  }
  ORC_TRY(store.set_name(record));
  ImportReport report;
  ORC_ASSIGN(ImageInfo info, store.info(record));
  report.images.push_back(std::move(info));
  return report;
}

}  // namespace

Result<ImportReport> import_archive(Store& store, const std::string& path, const ImportOptions& options) {
  if (options.root_file_system) {
    auto report = import_root(store, path, options);
    if (!report) return report.error().with_context("import " + path);
    return report;
  }
  auto archive = open_archive(path, store.blobs().temporary_path());
  if (!archive) return archive.error().with_context("import " + path);
  auto report = Importer(store, **archive, options).run();
  if (!report && report.error().is(Error::no_space)) collect_after_no_space(store);
  if (!report) return report.error().with_context("import " + path);
  return report;
}

}  // namespace orchestra::image
