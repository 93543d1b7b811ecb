// Reading the documents of an image with every bound checked before a value is used.
#include "image/manifest.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "image/digest.hpp"

namespace orchestra::image {
namespace {

Error bad(const std::string& what, const std::string& why) {
  return Error(Error::corrupt, "image", what + ": " + why);
}

Result<json::value> parse_bounded(std::string_view bytes, std::size_t bytes_max, const std::string& what) {
  if (bytes.size() > bytes_max) {
    return Error(
        Error::too_large, "image",
        what + " of " + std::to_string(bytes.size()) + " bytes; the limit is " + std::to_string(bytes_max));
  }
  auto value = parse_json(bytes);
  if (!value) return bad(what, value.error().message());
  if (!value->is_object()) return bad(what, "not a JSON object");
  return value;
}

/// A string at `pointer`; nothing when absent or null; an error when of another type.
Result<std::string> text_at(const json::value& root, std::string_view pointer, const std::string& what) {
  const json::value* found = find(root, pointer);
  if (found == nullptr || found->is_null()) return std::string();
  if (!found->is_string()) return bad(what, std::string(pointer) + " is not a string");
  return std::string(found->as_string());
}

std::map<std::string, std::string> text_map(const json::value& root, std::string_view pointer) {
  std::map<std::string, std::string> out;
  if (const json::object* object = object_at(root, pointer)) {
    for (const auto& [key, value] : *object) {
      if (value.is_string()) out[std::string(key)] = std::string(value.as_string());
    }
  }
  return out;
}

Result<std::vector<std::string>> text_list(const json::value& root, std::string_view pointer,
                                           const std::string& what) {
  std::vector<std::string> out;
  const json::value* found = find(root, pointer);
  if (found == nullptr || found->is_null()) return out;
  // The earliest writers made Entrypoint and Cmd a plain string.
  if (found->is_string()) return std::vector<std::string>{std::string(found->as_string())};
  if (!found->is_array()) return bad(what, std::string(pointer) + " is not a list");
  for (const json::value& item : found->as_array()) {
    if (!item.is_string()) return bad(what, std::string(pointer) + " holds something that is not a string");
    out.emplace_back(item.as_string());
  }
  return out;
}

Result<Descriptor> parse_descriptor(const json::value& value, const std::string& what) {
  if (!value.is_object()) return bad(what, "a descriptor is not an object");
  Descriptor out;
  ORC_ASSIGN(out.media_type, text_at(value, "/mediaType", what));
  ORC_ASSIGN(out.digest, text_at(value, "/digest", what));
  ORC_ASSIGN(out.artifact_type, text_at(value, "/artifactType", what));
  if (out.media_type.empty()) return bad(what, "a descriptor has no mediaType");
  if (out.digest.find(':') == std::string::npos) return bad(what, "a descriptor has no digest");
  const json::value* size = find(value, "/size");
  if (size == nullptr || !(size->is_int64() || size->is_uint64()))
    return bad(what, out.digest + " has no size");
  if (size->is_int64() && size->as_int64() < 0) return bad(what, out.digest + " has a negative size");
  out.size = size->is_int64() ? static_cast<std::uint64_t>(size->as_int64()) : size->as_uint64();
  if (object_at(value, "/platform") != nullptr) {
    Platform platform;
    platform.os = string_at(value, "/platform/os");
    platform.architecture = string_at(value, "/platform/architecture");
    platform.variant = string_at(value, "/platform/variant");
    platform.os_version = string_at(value, "/platform/os.version");
    out.platform = platform;
  }
  out.annotations = text_map(value, "/annotations");
  return out;
}

Result<void> check_version(const json::value& root, const std::string& what) {
  const json::value* version = find(root, "/schemaVersion");
  if (version == nullptr) return bad(what, "no schemaVersion");
  if (!version->is_int64()) return bad(what, "schemaVersion is not a number");
  if (version->as_int64() == 1) {
    return Error(
        Error::unsupported, "image",
        what +
            " is a Docker schema 1 manifest, which ended in 2017; push the image again with a current tool");
  }
  if (version->as_int64() != 2) return bad(what, "schemaVersion " + std::to_string(version->as_int64()));
  return {};
}

std::string bare_type(std::string_view content_type) {
  std::string_view text = content_type.substr(0, content_type.find(';'));
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return std::string(text);
}

bool is_index_type(std::string_view type) { return type == kOciIndex || type == kDockerList; }
bool is_manifest_type(std::string_view type) { return type == kOciManifest || type == kDockerManifest; }

Result<Manifest> read_manifest(const json::value& root, const std::string& type) {
  Manifest out;
  out.media_type = type.empty() ? std::string(kOciManifest) : type;
  ORC_ASSIGN(out.artifact_type, text_at(root, "/artifactType", "manifest"));
  const json::value* config = find(root, "/config");
  if (config == nullptr) return bad("manifest", "no config");
  ORC_ASSIGN(out.config, parse_descriptor(*config, "manifest config"));
  const json::value* layers = find(root, "/layers");
  if (layers != nullptr && !layers->is_null()) {
    if (!layers->is_array()) return bad("manifest", "layers is not a list");
    if (layers->as_array().size() > kLayersMax) {
      return Error(Error::too_large, "image",
                   "manifest with more than " + std::to_string(kLayersMax) + " layers");
    }
    for (const json::value& layer : layers->as_array()) {
      ORC_ASSIGN(Descriptor descriptor, parse_descriptor(layer, "manifest layer"));
      out.layers.push_back(std::move(descriptor));
    }
  }
  if (const json::value* subject = find(root, "/subject"); subject != nullptr && subject->is_object()) {
    ORC_ASSIGN(out.subject, parse_descriptor(*subject, "manifest subject"));
  }
  out.annotations = text_map(root, "/annotations");
  return out;
}

Result<Index> read_index(const json::value& root, const std::string& type) {
  Index out;
  out.media_type = type.empty() ? std::string(kOciIndex) : type;
  const json::value* manifests = find(root, "/manifests");
  if (manifests == nullptr || manifests->is_null()) return out;
  if (!manifests->is_array()) return bad("index", "manifests is not a list");
  if (manifests->as_array().size() > kIndexEntriesMax) {
    return Error(Error::too_large, "image",
                 "index with more than " + std::to_string(kIndexEntriesMax) + " entries");
  }
  for (const json::value& entry : manifests->as_array()) {
    ORC_ASSIGN(Descriptor descriptor, parse_descriptor(entry, "index entry"));
    out.manifests.push_back(std::move(descriptor));
  }
  out.annotations = text_map(root, "/annotations");
  return out;
}

std::string normal_architecture(const std::string& name) {
  if (name == "x86_64" || name == "x86-64") return "amd64";
  if (name == "aarch64") return "arm64";
  if (name == "armhf") return "arm";
  return name;
}

/// How well `have` serves `wanted`: higher is better, negative not at all.
int variant_rank(const Platform& have, const Platform& wanted) {
  const auto level = [](const std::string& variant) {
    return variant.size() == 2 && variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9'
               ? variant[1] - '0'
               : -1;
  };
  const std::string& architecture = wanted.architecture;
  if (architecture != "arm" && architecture != "amd64" && architecture != "arm64") {
    return have.variant == wanted.variant || have.variant.empty() ? 1 : -1;
  }
  const int fallback = architecture == "arm" ? 7 : architecture == "arm64" ? 8 : 1;
  const int have_level = have.variant.empty() ? fallback : level(have.variant);
  const int wanted_level = wanted.variant.empty() ? fallback : level(wanted.variant);
  if (have_level < 0 || wanted_level < 0) return have.variant == wanted.variant ? 1 : -1;
  return have_level <= wanted_level ? have_level : -1;
}

}  // namespace

Result<Platform> Platform::parse(std::string_view text) {
  if (text.empty()) return host_platform();
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t slash = std::min(text.find('/', start), text.size());
    parts.emplace_back(text.substr(start, slash - start));
    start = slash + 1;
  }
  const bool has_empty =
      std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty(); });
  if (has_empty || parts.size() > 3) {
    return Error(Error::invalid, "image",
                 "platform \"" + std::string(text) + "\"; write OS/ARCHITECTURE[/VARIANT]");
  }
  Platform out;
  if (parts.size() == 1) {
    out.os = "linux";
    out.architecture = normal_architecture(parts[0]);
  } else {
    out.os = parts[0];
    out.architecture = normal_architecture(parts[1]);
    if (parts.size() == 3) out.variant = parts[2];
  }
  return out;
}

std::string Platform::text() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Platform host_platform() {
  Platform out;
  out.os = "linux";
#if defined(__x86_64__)
  out.architecture = "amd64";
#elif defined(__aarch64__)
  out.architecture = "arm64";
#elif defined(__arm__)
  out.architecture = "arm";
#elif defined(__riscv)
  out.architecture = "riscv64";
#elif defined(__powerpc64__)
  out.architecture = "ppc64le";
#elif defined(__s390x__)
  out.architecture = "s390x";
#elif defined(__i386__)
  out.architecture = "386";
#endif
  return out;
}

bool Manifest::is_image() const {
  return artifact_type.empty() && (config.media_type == kOciConfig || config.media_type == kDockerConfig);
}

Result<Document> parse_document(std::string_view bytes, std::string_view content_type) {
  ORC_ASSIGN(const json::value root, parse_bounded(bytes, kManifestBytesMax, "manifest"));
  ORC_TRY(check_version(root, "manifest"));
  ORC_ASSIGN(std::string type, text_at(root, "/mediaType", "manifest"));
  const std::string told = bare_type(content_type);
  const bool told_known = is_index_type(told) || is_manifest_type(told);
  if (!type.empty() && told_known && type != told) {
    return bad("manifest", "the registry calls it " + told + ", its own mediaType is " + type);
  }
  if (type.empty() && told_known) type = told;
  const bool has_manifests = find(root, "/manifests") != nullptr;
  const bool has_layers = find(root, "/layers") != nullptr || find(root, "/config") != nullptr;
  if (has_manifests && has_layers) return bad("manifest", "it has both manifests and layers");
  if (is_index_type(type) && has_layers) return bad("manifest", "an index with layers");
  if (is_manifest_type(type) && has_manifests) return bad("manifest", "a manifest with manifests");
  if (is_index_type(type) || (has_manifests && !is_manifest_type(type))) {
    ORC_ASSIGN(Index index, read_index(root, type));
    return Document(std::move(index));
  }
  ORC_ASSIGN(Manifest manifest, read_manifest(root, type));
  return Document(std::move(manifest));
}

Result<Manifest> parse_manifest(std::string_view bytes, std::string_view content_type) {
  ORC_ASSIGN(Document document, parse_document(bytes, content_type));
  if (auto* manifest = std::get_if<Manifest>(&document)) return std::move(*manifest);
  return bad("manifest", "it is an index");
}

Result<Index> parse_index(std::string_view bytes, std::string_view content_type) {
  ORC_ASSIGN(Document document, parse_document(bytes, content_type));
  if (auto* index = std::get_if<Index>(&document)) return std::move(*index);
  return bad("index", "it is a manifest");
}

Result<ImageConfig> parse_config(std::string_view bytes) {
  const std::string what = "image configuration";
  ORC_ASSIGN(const json::value root, parse_bounded(bytes, kConfigBytesMax, what));
  ImageConfig out;
  ORC_ASSIGN(out.platform.os, text_at(root, "/os", what));
  ORC_ASSIGN(out.platform.architecture, text_at(root, "/architecture", what));
  ORC_ASSIGN(out.platform.variant, text_at(root, "/variant", what));
  out.platform.architecture = normal_architecture(out.platform.architecture);
  if (out.platform.os.empty()) out.platform.os = "linux";
  ORC_ASSIGN(const std::string type, text_at(root, "/rootfs/type", what));
  if (type != "layers") return bad(what, "rootfs.type is \"" + type + "\", not \"layers\"");
  ORC_ASSIGN(out.diff_ids, text_list(root, "/rootfs/diff_ids", what));
  if (out.diff_ids.size() > kLayersMax)
    return Error(Error::too_large, "image", "configuration with too many layers");
  for (const std::string& diff_id : out.diff_ids) {
    if (auto checked = check_digest(diff_id); !checked) return bad(what, checked.error().message());
  }
  ImageInfo& info = out.info;
  info.os = out.platform.os;
  info.architecture = out.platform.architecture;
  ORC_ASSIGN(info.entrypoint, text_list(root, "/config/Entrypoint", what));
  ORC_ASSIGN(info.command, text_list(root, "/config/Cmd", what));
  ORC_ASSIGN(info.env, text_list(root, "/config/Env", what));
  ORC_ASSIGN(info.user, text_at(root, "/config/User", what));
  ORC_ASSIGN(info.working_directory, text_at(root, "/config/WorkingDir", what));
  ORC_ASSIGN(info.stop_signal, text_at(root, "/config/StopSignal", what));
  info.labels = text_map(root, "/config/Labels");
  ORC_ASSIGN(info.health_check.test, text_list(root, "/config/Healthcheck/Test", what));
  info.health_check.interval_ns = int_at(root, "/config/Healthcheck/Interval");
  info.health_check.timeout_ns = int_at(root, "/config/Healthcheck/Timeout");
  info.health_check.start_period_ns = int_at(root, "/config/Healthcheck/StartPeriod");
  info.health_check.retries = static_cast<int>(int_at(root, "/config/Healthcheck/Retries"));
  for (const auto& [pointer, list] : {std::pair{"/config/ExposedPorts", &info.exposed_ports},
                                      std::pair{"/config/Volumes", &info.volumes}}) {
    if (const json::object* object = object_at(root, pointer)) {
      for (const auto& item : *object) list->emplace_back(item.key());
    }
  }
  return out;
}

Result<void> check_layers(const Manifest& manifest, const ImageConfig& config) {
  if (manifest.layers.size() == config.diff_ids.size()) return {};
  return bad("image", "the manifest has " + std::to_string(manifest.layers.size()) +
                          " layers, the configuration " + std::to_string(config.diff_ids.size()) +
                          " diff_ids");
}

bool platform_fits(const Platform& have, const Platform& wanted) {
  if (have.os != wanted.os) return false;
  if (!have.architecture.empty() && normal_architecture(have.architecture) != wanted.architecture)
    return false;
  if (!wanted.os_version.empty() && !have.os_version.empty() && have.os_version != wanted.os_version)
    return false;
  return variant_rank(have, wanted) >= 0;
}

Result<Descriptor> choose_platform(const Index& index, const Platform& wanted) {
  const Descriptor* best = nullptr;
  int best_rank = -1;
  std::string exist;
  for (const Descriptor& entry : index.manifests) {
    if (!entry.platform) {
      // An index of one image without a platform (an OCI layout of a single build): take it.
      if (index.manifests.size() == 1) return entry;
      continue;
    }
    if (entry.platform->os == "unknown" || entry.platform->architecture == "unknown") continue;
    if (exist.size() < 1000) exist += (exist.empty() ? "" : ", ") + entry.platform->text();
    if (!platform_fits(*entry.platform, wanted)) continue;
    const int rank = variant_rank(*entry.platform, wanted);
    if (rank > best_rank) {
      best = &entry;
      best_rank = rank;
    }
  }
  if (best != nullptr) return *best;
  return Error(Error::unsupported, "image",
               "no image for " + wanted.text() + "; it exists for: " + (exist.empty() ? "nothing" : exist));
}

std::string descriptor_json(std::string_view media_type, std::string_view digest, std::uint64_t size) {
  return "{\"mediaType\":\"" + std::string(media_type) + "\",\"digest\":\"" + std::string(digest) +
         "\",\"size\":" + std::to_string(size) + "}";
}

namespace {
std::string annotations_json(const std::map<std::string, std::string>& annotations) {
  if (annotations.empty()) return {};
  json::object out;
  for (const auto& [name, value] : annotations) out[name] = value;
  return ",\"annotations\":" + to_json(out);
}
}  // namespace

std::string make_manifest(const Descriptor& config, const std::vector<Descriptor>& layers,
                          const std::map<std::string, std::string>& annotations) {
  std::string out = "{\"schemaVersion\":2,\"mediaType\":\"" + std::string(kOciManifest) +
                    "\",\"config\":" + descriptor_json(config.media_type, config.digest, config.size) +
                    ",\"layers\":[";
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (i > 0) out += ',';
    out += descriptor_json(layers[i].media_type, layers[i].digest, layers[i].size);
  }
  return out + "]" + annotations_json(annotations) + "}";
}

std::string make_index(const std::vector<Descriptor>& manifests,
                       const std::map<std::string, std::string>& annotations) {
  std::string out = "{\"schemaVersion\":2,\"mediaType\":\"" + std::string(kOciIndex) + "\",\"manifests\":[";
  for (std::size_t i = 0; i < manifests.size(); ++i) {
    const Descriptor& one = manifests[i];
    if (i > 0) out += ',';
    std::string entry = descriptor_json(one.media_type, one.digest, one.size);
    entry.pop_back();
    if (!one.artifact_type.empty()) entry += ",\"artifactType\":" + to_json(json::value(one.artifact_type));
    if (one.platform) {
      json::object platform{{"architecture", one.platform->architecture}, {"os", one.platform->os}};
      if (!one.platform->variant.empty()) platform["variant"] = one.platform->variant;
      entry += ",\"platform\":" + to_json(platform);
    }
    out += entry + annotations_json(one.annotations) + "}";
  }
  return out + "]" + annotations_json(annotations) + "}";
}

}  // namespace orchestra::image
