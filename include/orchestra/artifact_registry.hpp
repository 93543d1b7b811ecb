#pragma once
// ArtifactRegistry: what an OCI registry holds, for whoever needs more than images: charts, signatures, bills of
// material. RegistryClient is one over HTTP; a host or a test may bring its own. Since 0.2.
//
// distribution-spec 1.1. Names are as everywhere: "host/team/app" for a repository, with ":TAG" or
// "@sha256:.." for one document of it. Every call is thread safe and may wait. Codes: not_found,
// unauthenticated, denied, unavailable, too_large, corrupt (the bytes are not what their digest says),
// unsupported (the registry does not offer it).
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

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

class ORC_API ArtifactRegistry {
 public:
  virtual ~ArtifactRegistry() = default;
  /// Of a repository; a tag in the name is ignored.
  virtual Pending<TagList> tags(std::string repository) = 0;
  /// By tag or digest; the digest is checked.
  virtual Pending<RegistryDocument> manifest(std::string reference) = 0;
  /// A blob of at most `bytes_max`, checked against its digest.
  virtual Pending<std::string> blob(std::string repository, std::string digest, std::size_t bytes_max) = 0;
  /// Sends parts, then a manifest under the reference's tag or its own digest; gives NAME@DIGEST.
  virtual Pending<std::string> push_artifact(std::string reference, Artifact artifact) = 0;
  /// The same as a referrer of `subject` ("host/team/app@sha256:..", or a tag that is resolved).
  virtual Pending<std::string> attach(std::string subject, Artifact artifact) = 0;
  /// Of a digest or tag; `artifact_type` empty: all.
  virtual Pending<std::vector<Referrer>> referrers(std::string reference, std::string artifact_type) = 0;
};

}  // namespace orchestra
