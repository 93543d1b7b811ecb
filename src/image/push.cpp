// Push: blobs, then manifests, children before their index, and the tag last, byte for byte as stored.
//
// Three blobs at once. Which repository of the registry may have a blob already is known from the names
// in the store that share it (mounts), besides what the caller says.
#include "image/push.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "image/registry/hosts.hpp"
#include "image/registry/upload.hpp"
#include "image/transfers.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kPieceBytes = 256 << 10;
constexpr std::size_t kMountsMax = 3;

bool is_foreign(const Descriptor& layer) {
  // Layers that may not be distributed stay where their urls point.
  return layer.media_type.find("nondistributable") != std::string::npos ||
         layer.media_type.find("foreign") != std::string::npos;
}

class Push {
 public:
  Push(Store& store, RegistryTarget target, const ImagePullOptions& options)
      : store_(store),
        options_(options),
        lease_(store.leases().begin()),
        session_(store.engine(), store.options().http, std::move(target),
                 {5, store.options().registry_retry_delay}, &store.tokens()) {}

  Result<std::string> run(const std::string& name, const ImageReference& destination) {
    ORC_ASSIGN(const auto record, store_.find_image(name));
    if (!record) return Error(Error::not_found, "image", "no image \"" + name + "\" in the store");
    find_mounts(*record, destination);
    std::string top = record->manifest;
    if (record->whole_index) {
      top = record->index;
      ORC_TRY(push_index(record->index, 0));
    } else {
      ORC_TRY(push_content(record->manifest));
    }
    ORC_TRY(put_manifest(top, destination.tag().empty() ? top : destination.tag()));
    return destination.pinned(top);
  }

 private:
  void say(const std::string& line) const {
    std::lock_guard lock(say_);
    if (options_.progress) options_.progress(line);
  }

  /// Repositories on this host that the store knows to hold the image's base or itself.
  void find_mounts(const NameRecord& record, const ImageReference& destination) {
    upload_.chunk_bytes = options_.chunk_bytes;
    upload_.mount_from = options_.mount_from;
    auto image = store_.load(record.manifest);
    if (!image) return;
    std::set<std::string> own;
    for (const Descriptor& layer : (*image)->manifest.layers) own.insert(layer.digest);
    for (const NameRecord& other : store_.names()) {
      if (upload_.mount_from.size() >= kMountsMax + options_.mount_from.size()) return;
      const auto reference = ImageReference::parse(other.name);
      if (!reference || reference->host() != destination.host()) continue;
      if (reference->repository() == destination.repository()) continue;
      auto loaded = store_.load(other.manifest);
      if (!loaded) continue;
      const auto& layers = (*loaded)->manifest.layers;
      const bool shares = std::any_of(layers.begin(), layers.end(),
                                      [&](const Descriptor& layer) { return own.contains(layer.digest); });
      const bool known = std::find(upload_.mount_from.begin(), upload_.mount_from.end(),
                                   reference->repository()) != upload_.mount_from.end();
      if (shares && !known) upload_.mount_from.push_back(reference->repository());
    }
  }

  Result<void> push_index(const std::string& digest, int depth) {
    constexpr int kDepthMax = 4;
    if (depth >= kDepthMax) return Error(Error::corrupt, "image", "indexes nested deeper than 4");
    lease_.hold(digest);
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(digest, kManifestBytesMax));
    ORC_ASSIGN(const Index index, parse_index(bytes));
    for (const Descriptor& child : index.manifests) {
      ORC_ASSIGN(const std::string text, store_.blobs().read(child.digest, kManifestBytesMax));
      ORC_ASSIGN(const Document document, parse_document(text));
      if (std::holds_alternative<Index>(document)) {
        ORC_TRY(push_index(child.digest, depth + 1));
      } else {
        ORC_TRY(push_content(child.digest));
      }
      ORC_TRY(put_manifest(child.digest, child.digest));
    }
    return {};
  }

  Result<void> push_content(const std::string& digest) {
    lease_.hold(digest);
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(digest, kManifestBytesMax));
    ORC_ASSIGN(const Manifest manifest, parse_manifest(bytes));
    std::vector<Transfer> transfers;
    std::set<std::string> seen;
    const auto add = [&](const Descriptor& blob) {
      if (is_foreign(blob) || !seen.insert(blob.digest).second) return;
      transfers.push_back([this, blob] { return push_blob(blob); });
    };
    for (const Descriptor& layer : manifest.layers) add(layer);
    add(manifest.config);
    return run_transfers(store_.engine(), std::move(transfers));
  }

  Result<void> push_blob(const Descriptor& blob) {
    lease_.hold(blob.digest);
    const auto slot = store_.host_slots().take(session_.target().host);
    UploadContent content;
    content.digest = blob.digest;
    ORC_ASSIGN(content.size, store_.blobs().size(blob.digest));
    content.open = [this, digest = blob.digest](std::uint64_t offset, std::uint64_t size) {
      return source_of(digest, offset, size);
    };
    ORC_ASSIGN(const Uploaded done, upload_blob(session_, content, upload_));
    const std::string name = blob.digest.substr(0, 19);
    if (done == Uploaded::existed) say("has " + name);
    if (done == Uploaded::mounted) say("mounted " + name);
    if (done == Uploaded::sent) say("sent " + name + " " + std::to_string(content.size) + " bytes");
    return {};
  }

  Result<void> put_manifest(const std::string& digest, const std::string& name) {
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(digest, kManifestBytesMax));
    ORC_ASSIGN(const Document document, parse_document(bytes));
    RegistryRequest head;
    head.method = "HEAD";
    head.push = true;
    head.path = "/manifests/" + name;
    head.headers.emplace_back("Accept", kAcceptManifests);
    head.also_good = {404};
    ORC_ASSIGN(const HttpResponse there, session_.send(head));
    const auto known = there.headers.find("docker-content-digest");
    if (there.status != 404 && known != there.headers.end() && known->second == digest) return {};
    RegistryRequest put;
    put.method = "PUT";
    put.push = true;
    put.path = "/manifests/" + name;
    const bool is_index = std::holds_alternative<Index>(document);
    put.headers.emplace_back("Content-Type", is_index ? std::get<Index>(document).media_type
                                                      : std::get<Manifest>(document).media_type);
    put.body = bytes;
    ORC_ASSIGN(const HttpResponse answer, session_.send(put));
    const auto told = answer.headers.find("docker-content-digest");
    if (told != answer.headers.end() && told->second != digest) {
      return Error(
          Error::corrupt, "image",
          "registry " + session_.target().host + " stored " + told->second + " instead of " + digest);
    }
    return {};
  }

  Result<std::function<Result<std::string>()>> source_of(const std::string& digest, std::uint64_t offset,
                                                         std::uint64_t size) {
    ORC_ASSIGN(Fd opened, store_.blobs().open_blob(digest));
    auto file = std::make_shared<Fd>(std::move(opened));
    auto source = std::shared_ptr<ByteSource>(make_range_source(file->get(), offset, size));
    return std::function<Result<std::string>()>([file, source]() -> Result<std::string> {
      std::string piece(kPieceBytes, '\0');
      ORC_ASSIGN(const std::size_t got, source->read(piece.data(), piece.size()));
      piece.resize(got);
      return piece;
    });
  }

  Store& store_;
  const ImagePullOptions& options_;
  Lease lease_;
  RegistrySession session_;
  UploadOptions upload_;
  mutable std::mutex say_;
};

}  // namespace

Result<std::string> push_image(Store& store, const std::string& name, const ImageReference& destination,
                               const ImagePullOptions& options) {
  if (!store.options().http) {
    return Error(Error::unsupported, "image",
                 "push of " + name + ": the store was opened without an HTTP client");
  }
  ORC_ASSIGN(const auto targets, registry_targets(store.options(), destination, options));
  // Mirrors are for reading: the last one is the registry itself.
  auto pushed = Push(store, targets.back(), options).run(name, destination);
  if (!pushed) return pushed.error().with_context("push " + destination.canonical());
  return pushed;
}

}  // namespace orchestra::image
