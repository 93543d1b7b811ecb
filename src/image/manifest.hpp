#pragma once
// Manifests, indexes and configurations: the JSON documents of an image, read and checked. Pure.
//
// OCI image-spec 1.1 and Docker schema 2. Unknown fields are ignored here and kept on disk: documents are
// stored and pushed byte for byte, never printed again (a digest would change).
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "orchestra/image.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

inline constexpr std::size_t kManifestBytesMax = 4 << 20;
inline constexpr std::size_t kConfigBytesMax = 8 << 20;
inline constexpr std::size_t kIndexEntriesMax = 1000;
inline constexpr std::size_t kLayersMax = 2000;

inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayerTar = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What we ask registries for.
inline constexpr const char* kAcceptManifests =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json";

struct Platform {
  std::string os, architecture, variant, os_version;
  /// "linux/arm64/v8"; the machine's own when `text` is empty.
  static Result<Platform> parse(std::string_view text);
  std::string text() const;
  friend bool operator==(const Platform&, const Platform&) = default;
};
/// What this library was built for.
Platform host_platform();

struct Descriptor {
  std::string media_type, digest, artifact_type;
  std::uint64_t size = 0;
  std::optional<Platform> platform;
  std::map<std::string, std::string> annotations;
};

struct Manifest {
  std::string media_type, artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::optional<Descriptor> subject;
  std::map<std::string, std::string> annotations;
  /// False for artifacts (charts, signatures): they have no root file system.
  bool is_image() const;
};
struct Index {
  std::string media_type;
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;
};
using Document = std::variant<Manifest, Index>;

/// Either form. `content_type` is what a registry said, or empty; parameters of it are ignored, a
/// contradiction with the body is `corrupt`. Schema 1 is `unsupported` and named.
Result<Document> parse_document(std::string_view bytes, std::string_view content_type = {});
Result<Manifest> parse_manifest(std::string_view bytes, std::string_view content_type = {});
Result<Index> parse_index(std::string_view bytes, std::string_view content_type = {});

struct ImageConfig {
  Platform platform;
  std::vector<std::string> diff_ids;
  ImageInfo info;  ///< only what the configuration says: names and digests are the store's
};
Result<ImageConfig> parse_config(std::string_view bytes);
/// Layers and diff_ids must be as many.
Result<void> check_layers(const Manifest& manifest, const ImageConfig& config);

/// The entry for `wanted`, with the fall-backs of variants (arm64 v8, arm v7 -> v6 -> v5, amd64 v4 -> v1).
/// Entries unknown/unknown (attestations) are never chosen. `unsupported` lists what exists.
Result<Descriptor> choose_platform(const Index& index, const Platform& wanted);
/// True if an image of platform `have` runs where `wanted` does.
bool platform_fits(const Platform& have, const Platform& wanted);

/// The JSON of a descriptor as it stands in manifests that we make.
std::string descriptor_json(std::string_view media_type, std::string_view digest, std::uint64_t size);
/// A manifest that we make (docker-archive import, builds).
std::string make_manifest(const Descriptor& config, const std::vector<Descriptor>& layers,
                          const std::map<std::string, std::string>& annotations = {});
/// An index of manifests with their platforms, artifact types and annotations.
std::string make_index(const std::vector<Descriptor>& manifests,
                       const std::map<std::string, std::string>& annotations = {});

}  // namespace orchestra::image
