#pragma once
// Images made in memory for tests: layers from a few lines, docker archives and OCI layouts around them.
#include <string>
#include <utility>
#include <vector>

#include "base/fd.hpp"
#include "image/digest.hpp"
#include "image/manifest.hpp"
#include "image/tar.hpp"

namespace orchestra::image::test {

inline std::string content(const std::string& path) { return read_file(path, 1 << 20).value_or("(missing)"); }
/// What went wrong, for the messages of checks.
template <typename T>
std::string why(const Result<T>& result) {
  return result ? "" : result.error().to_string();
}

inline TarEntry file_entry(std::string path, std::uint32_t mode = 0644) {
  TarEntry entry;
  entry.path = std::move(path);
  entry.mode = mode;
  entry.mtime_s = 1'600'000'000;
  return entry;
}
inline TarEntry directory_entry(std::string path, std::uint32_t mode = 0755) {
  TarEntry entry = file_entry(std::move(path), mode);
  entry.type = TarType::directory;
  return entry;
}
inline TarEntry link_entry(TarType type, std::string path, std::string target) {
  TarEntry entry = file_entry(std::move(path), 0777);
  entry.type = type;
  entry.link = std::move(target);
  return entry;
}

/// A tar in memory.
class TarText {
 public:
  TarText()
      : writer_([this](std::string_view bytes) {
          out_ += bytes;
          return Result<void>();
        }) {}
  TarText& file(const std::string& path, const std::string& content, std::uint32_t mode = 0644) {
    return add(file_entry(path, mode), content);
  }
  TarText& directory(const std::string& path, std::uint32_t mode = 0755) {
    return add(directory_entry(path, mode));
  }
  TarText& symlink(const std::string& path, const std::string& target) {
    return add(link_entry(TarType::symlink, path, target));
  }
  TarText& hard_link(const std::string& path, const std::string& target) {
    return add(link_entry(TarType::hard_link, path, target));
  }
  TarText& add(const TarEntry& entry, const std::string& content = {}) {
    writer_.add(entry, content).value();
    return *this;
  }
  std::string finish() {
    writer_.finish().value();
    return std::move(out_);
  }

 private:
  std::string out_;
  TarWriter writer_;
};

inline std::string config_json(const std::vector<std::string>& layers, const std::string& architecture = "",
                               const std::string& config = "{\"Cmd\":[\"/bin/sh\"]}") {
  std::string out =
      "{\"architecture\":\"" + (architecture.empty() ? host_platform().architecture : architecture) +
      "\",\"os\":\"linux\",\"config\":" + config + ",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[";
  for (std::size_t i = 0; i < layers.size(); ++i)
    out += (i > 0 ? ",\"" : "\"") + sha256_digest(layers[i]) + "\"";
  return out + "]}}";
}

/// docker save's form: one image of uncompressed layers.
inline std::string docker_archive(const std::string& name, const std::vector<std::string>& layers,
                                  std::string config = {}) {
  if (config.empty()) config = config_json(layers);
  TarText tar;
  const std::string config_name = std::string(digest_hex(sha256_digest(config))) + ".json";
  tar.file(config_name, config);
  std::string list;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string path = std::to_string(i) + "/layer.tar";
    tar.file(path, layers[i]);
    list += (i > 0 ? ",\"" : "\"") + path + "\"";
  }
  const std::string tags = name.empty() ? "null" : "[\"" + name + "\"]";
  tar.file("manifest.json",
           "[{\"Config\":\"" + config_name + "\",\"RepoTags\":" + tags + ",\"Layers\":[" + list + "]}]");
  return tar.finish();
}

/// Files of an OCI layout: path -> content.
inline std::vector<std::pair<std::string, std::string>> oci_layout(const std::string& name,
                                                                   const std::vector<std::string>& layers,
                                                                   const std::string& architecture = "") {
  std::vector<std::pair<std::string, std::string>> files;
  const auto blob = [&](const std::string& bytes) {
    const std::string digest = sha256_digest(bytes);
    files.emplace_back("blobs/sha256/" + std::string(digest_hex(digest)), bytes);
    return digest;
  };
  const std::string config = config_json(layers, architecture);
  Descriptor config_blob;
  config_blob.media_type = kOciConfig;
  config_blob.digest = blob(config);
  config_blob.size = config.size();
  std::vector<Descriptor> descriptors;
  for (const std::string& layer : layers) {
    Descriptor one;
    one.media_type = kOciLayerTar;
    one.digest = blob(layer);
    one.size = layer.size();
    descriptors.push_back(one);
  }
  const std::string manifest = make_manifest(config_blob, descriptors);
  const std::string digest = blob(manifest);
  files.emplace_back("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
  files.emplace_back("index.json",
                     "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" + std::string(kOciManifest) +
                         "\",\"digest\":\"" + digest + "\",\"size\":" + std::to_string(manifest.size()) +
                         ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" + name + "\"}}]}");
  return files;
}

}  // namespace orchestra::image::test
