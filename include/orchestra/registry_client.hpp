#pragma once
// RegistryClient: what registries offer besides images of a store: tags, documents, artifacts that refer to
// an image, deletion. For charts, signatures, bills of material and tools. Since 0.1.
//
// distribution-spec 1.1. All calls are thread safe and run on the engine's worker threads; codes are those of
// ImageStore::pull. Settings (mirrors, certificates, logins) are those of ImageStoreOptions.
//
//   RegistryClient client(engine, {.http = make_http_client(engine)});
//   auto tags = client.tags("registry.example/team/app").wait(30s).value();
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/image_store.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct RegistryDocument {
  std::string media_type, digest, bytes;
};
/// A manifest that says `subject`: what it is about, and where it is.
struct Referrer {
  std::string digest, media_type, artifact_type;
  std::uint64_t size = 0;
  std::map<std::string, std::string> annotations;
};
struct TagList {
  std::vector<std::string> tags;
  bool truncated = false;  ///< more than 100,000: the rest was not read
};
struct ArtifactPart {
  std::string media_type, bytes;
  std::map<std::string, std::string> annotations = {};
};
struct Artifact {
  std::string artifact_type;  ///< "application/vnd.example+json"
  std::vector<ArtifactPart> parts;
  std::map<std::string, std::string> annotations = {};
  /// A small document of its own type instead of the empty one (charts have that).
  std::optional<ArtifactPart> config = std::nullopt;
};

class ORC_API RegistryClient {
 public:
  /// Only the options about registries count. The engine must outlive the client.
  RegistryClient(Engine& engine, ImageStoreOptions options);
  ~RegistryClient();

  /// Names are repositories: "host/team/app". A tag in them is ignored.
  Pending<TagList> tags(std::string repository, ImagePullOptions options = {});
  /// By tag or digest; the digest is checked.
  Pending<RegistryDocument> manifest(std::string reference, ImagePullOptions options = {});
  /// A blob of at most `bytes_max`, checked against its digest.
  Pending<std::string> blob(std::string repository, std::string digest, std::size_t bytes_max = 64 << 20,
                            ImagePullOptions options = {});
  /// Sends parts, then a manifest under the reference's tag or its own digest; gives NAME@DIGEST.
  Pending<std::string> push_artifact(std::string reference, Artifact artifact, ImagePullOptions options = {});
  /// The same as a referrer of `subject` ("host/team/app@sha256:..", or a tag that is resolved). Where the
  /// registry knows no referrers, the fall-back tag of the spec is kept.
  Pending<std::string> attach(std::string subject, Artifact artifact, ImagePullOptions options = {});
  /// Of a digest or tag; `artifact_type` empty: all.
  Pending<std::vector<Referrer>> referrers(std::string reference, std::string artifact_type = {},
                                           ImagePullOptions options = {});
  /// A tag, or a manifest by digest. `unsupported` where the registry does not allow it.
  Pending<void> remove(std::string reference, ImagePullOptions options = {});
  Pending<void> remove_blob(std::string repository, std::string digest, ImagePullOptions options = {});

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
