#pragma once
// A registry in this process that answers as the test says: every request is recorded, hooks may answer
// instead of it.
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "image/digest.hpp"
#include "image/manifest.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

namespace orchestra::image::test {

class FakeRegistry {
 public:
  using Hook = std::function<bool(const HttpServerRequest&, HttpResponder&)>;

  explicit FakeRegistry(Engine& engine, HttpServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    auto server = HttpServer::start(
        engine, options, [this](HttpServerRequest request, auto responder) { answer(request, *responder); });
    REQUIRE_MESSAGE(server, (server ? "" : server.error().to_string()));
    server_ = *server;
  }
  ~FakeRegistry() { server_->stop(std::chrono::milliseconds(100)); }

  std::string host() const { return server_->address(); }

  std::string blob(const std::string& bytes) {
    const std::string digest = sha256_digest(bytes);
    blobs_[digest] = bytes;
    return digest;
  }
  /// An image of these layers under NAME:TAG; gives the manifest's digest.
  std::string image(const std::string& name, const std::vector<std::string>& layers,
                    const std::string& architecture = "") {
    const std::string config = config_json(layers, architecture);
    Descriptor config_blob{std::string(kOciConfig), blob(config), "", config.size(), {}, {}};
    std::vector<Descriptor> descriptors;
    for (const std::string& layer : layers) {
      descriptors.push_back({std::string(kOciLayerTar), blob(layer), "", layer.size(), {}, {}});
    }
    return manifest(name, make_manifest(config_blob, descriptors), kOciManifest);
  }
  std::string manifest(const std::string& name, const std::string& bytes, std::string_view type) {
    const std::string digest = sha256_digest(bytes);
    const std::size_t colon = name.rfind(':');
    for (const std::string& key : {name.substr(0, colon) + ":" + digest, name}) {
      manifests_[key] = {bytes, std::string(type)};
    }
    return digest;
  }

  void set_hook(Hook hook) {
    std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }
  std::vector<HttpServerRequest> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t count(const std::string& method, const std::string& part) {
    std::size_t found = 0;
    for (const auto& request : requests()) {
      if (request.method == method && request.target.find(part) != std::string::npos) ++found;
    }
    return found;
  }

  /// The ordinary answer.
  void serve(const HttpServerRequest& request, HttpResponder& responder) {
    const std::string path = request.target.substr(0, request.target.find('?'));
    const std::size_t manifests = path.find("/manifests/"), blobs = path.find("/blobs/");
    if (path == "/v2/") return responder.respond(200, {}, "{}");
    if (manifests != std::string::npos) {
      const auto found = manifests_.find(path.substr(4, manifests - 4) + ":" + path.substr(manifests + 11));
      if (found == manifests_.end()) return missing(responder, "MANIFEST_UNKNOWN");
      const auto& [bytes, type] = found->second;
      return responder.respond(200, {{"Content-Type", type}, {"Docker-Content-Digest", sha256_digest(bytes)}},
                               bytes);
    }
    if (blobs != std::string::npos) {
      const auto found = blobs_.find(path.substr(blobs + 7));
      if (found == blobs_.end()) return missing(responder, "BLOB_UNKNOWN");
      const auto range = request.headers.find("range");
      if (range == request.headers.end()) return responder.respond(200, {}, found->second);
      const std::size_t start = std::stoul(range->second.substr(6));
      const std::string part = found->second.substr(start);
      const std::string total = std::to_string(found->second.size());
      return responder.respond(
          206,
          {{"Content-Range",
            "bytes " + std::to_string(start) + "-" + std::to_string(found->second.size() - 1) + "/" + total}},
          part);
    }
    missing(responder, "UNSUPPORTED");
  }

 private:
  static void missing(HttpResponder& responder, const std::string& code) {
    responder.respond(404, {{"Content-Type", "application/json"}},
                      "{\"errors\":[{\"code\":\"" + code + "\",\"message\":\"not known\"}]}");
  }
  void answer(const HttpServerRequest& request, HttpResponder& responder) {
    Hook hook;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
      hook = hook_;
    }
    if (hook && hook(request, responder)) return;
    serve(request, responder);
  }

  std::shared_ptr<HttpServer> server_;
  std::mutex mutex_;
  Hook hook_;
  std::vector<HttpServerRequest> requests_;
  std::map<std::string, std::string> blobs_;
  std::map<std::string, std::pair<std::string, std::string>> manifests_;
};

}  // namespace orchestra::image::test
