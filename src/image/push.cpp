// Push: HEAD each blob, upload what is missing by POST and one PUT, then PUT the manifest byte for byte.
//
// Every Location is new: relative or absolute, with a query or without. A broken upload begins again from
// its POST; the session repeats requests and logs in again with the wider scope when it is asked to.
#include "image/push.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace orchestra::image {
namespace {

constexpr std::size_t kPieceBytes = 256 << 10;

class Push {
 public:
  Push(Store& store, RegistryTarget target, const ImagePullOptions& options)
      : store_(store),
        options_(options),
        lease_(store.leases().begin()),
        session_(store.engine(), store.options().http, std::move(target),
                 {5, store.options().registry_retry_delay}) {}

  Result<std::string> run(const std::string& name, const ImageReference& destination) {
    ORC_ASSIGN(const auto record, store_.find_image(name));
    if (!record) return Error(Error::not_found, "image", "no image \"" + name + "\" in the store");
    lease_.hold(record->manifest);
    ORC_ASSIGN(const auto image, store_.load(record->manifest));
    for (const Descriptor& layer : image->manifest.layers) ORC_TRY(push_blob(layer));
    ORC_TRY(push_blob(image->manifest.config));
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(record->manifest, kManifestBytesMax));
    RegistryRequest put;
    put.method = "PUT";
    put.push = true;
    put.path = "/manifests/" + (destination.tag().empty() ? record->manifest : destination.tag());
    put.headers.emplace_back("Content-Type", image->manifest.media_type);
    put.body = bytes;
    ORC_ASSIGN(const HttpResponse answer, session_.send(put));
    const auto told = answer.headers.find("docker-content-digest");
    if (told != answer.headers.end() && told->second != record->manifest) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " stored " + told->second + " instead of " +
                       record->manifest);
    }
    return destination.pinned(record->manifest);
  }

 private:
  void say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  Result<void> push_blob(const Descriptor& blob) {
    lease_.hold(blob.digest);
    RegistryRequest head;
    head.method = "HEAD";
    head.push = true;
    head.path = "/blobs/" + blob.digest;
    head.also_good = {404};
    ORC_ASSIGN(const HttpResponse there, session_.send(head));
    if (there.status != 404) {
      say("has " + blob.digest.substr(0, 19));
      return {};
    }
    RegistryRequest post;
    post.method = "POST";
    post.push = true;
    post.path = "/blobs/uploads/";
    post.headers.emplace_back("Content-Length", "0");
    ORC_ASSIGN(const HttpResponse begun, session_.send(post));
    const auto location = begun.headers.find("location");
    if (location == begun.headers.end()) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " began an upload without a Location");
    }
    RegistryRequest put;
    put.method = "PUT";
    put.push = true;
    put.path = session_.absolute_url(location->second, begun.url);
    put.path += (put.path.find('?') == std::string::npos ? "?digest=" : "&digest=") + blob.digest;
    put.headers.emplace_back("Content-Type", "application/octet-stream");
    ORC_ASSIGN(put.body_size, store_.blobs().size(blob.digest));
    put.body_source = [this, digest = blob.digest] { return source_of(digest); };
    ORC_TRY(session_.send(put));
    say("sent " + blob.digest.substr(0, 19) + " " + std::to_string(put.body_size) + " bytes");
    return {};
  }

  Result<std::function<Result<std::string>()>> source_of(const std::string& digest) {
    ORC_ASSIGN(Fd opened, store_.blobs().open_blob(digest));
    auto file = std::make_shared<Fd>(std::move(opened));
    return std::function<Result<std::string>()>([file, digest]() -> Result<std::string> {
      std::string piece(kPieceBytes, '\0');
      while (true) {
        const ssize_t got = ::read(file->get(), piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error("image", "read", digest, errno);
        piece.resize(static_cast<std::size_t>(got));
        return piece;
      }
    });
  }

  Store& store_;
  const ImagePullOptions& options_;
  Lease lease_;
  RegistrySession session_;
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
