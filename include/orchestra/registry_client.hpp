#pragma once
// RegistryClient: what registries offer besides images of a store: tags, documents, artifacts that refer to
// an image, deletion. For charts, signatures, bills of material and tools. Since 0.1.
//
// The ArtifactRegistry over HTTP (distribution-spec 1.1). All calls are thread safe and run on the engine's
// worker threads; codes are those of ImageStore::pull. Settings (mirrors, certificates, logins) are those of
// ImageStoreOptions; the overloads with ImagePullOptions have settings for one call.
//
//   RegistryClient client(engine, {.http = make_http_client(engine)});
//   auto tags = client.tags("registry.example/team/app").wait(30s).value();
#include <memory>
#include <string>
#include <vector>

#include "orchestra/artifact_registry.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/image_store.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

class ORC_API RegistryClient : public ArtifactRegistry {
 public:
  static constexpr std::size_t kBlobBytesMax = 64 << 20;

  /// Only the options about registries count. The engine must outlive the client.
  RegistryClient(Engine& engine, ImageStoreOptions options);
  ~RegistryClient() override;

  Pending<TagList> tags(std::string repository) override { return tags(std::move(repository), {}); }
  Pending<TagList> tags(std::string repository, ImagePullOptions options);
  Pending<RegistryDocument> manifest(std::string reference) override {
    return manifest(std::move(reference), {});
  }
  Pending<RegistryDocument> manifest(std::string reference, ImagePullOptions options);
  Pending<std::string> blob(std::string repository, std::string digest,
                            std::size_t bytes_max = kBlobBytesMax) override {
    return blob(std::move(repository), std::move(digest), bytes_max, {});
  }
  Pending<std::string> blob(std::string repository, std::string digest, std::size_t bytes_max,
                            ImagePullOptions options);
  Pending<std::string> push_artifact(std::string reference, Artifact artifact) override {
    return push_artifact(std::move(reference), std::move(artifact), {});
  }
  Pending<std::string> push_artifact(std::string reference, Artifact artifact, ImagePullOptions options);
  /// Where the registry knows no referrers, the fall-back tag of the spec is kept.
  Pending<std::string> attach(std::string subject, Artifact artifact) override {
    return attach(std::move(subject), std::move(artifact), {});
  }
  Pending<std::string> attach(std::string subject, Artifact artifact, ImagePullOptions options);
  Pending<std::vector<Referrer>> referrers(std::string reference, std::string artifact_type = {}) override {
    return referrers(std::move(reference), std::move(artifact_type), {});
  }
  Pending<std::vector<Referrer>> referrers(std::string reference, std::string artifact_type,
                                           ImagePullOptions options);
  /// A tag, or a manifest by digest. `unsupported` where the registry does not allow it.
  Pending<void> remove(std::string reference, ImagePullOptions options = {});
  Pending<void> remove_blob(std::string repository, std::string digest, ImagePullOptions options = {});

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
