#pragma once
// ImageReference: the name of an image, parsed and normalised. Pure values. Since 0.1.
//
// Grammar and normalising are those of the Docker reference documentation (distribution/reference): a
// first component is a host only if it holds `.` or `:`, is `localhost` or has an upper-case letter; else
// the host is docker.io, and a single component gets `library/` in front. No tag and no digest means the
// tag `latest`. With tag and digest, the digest decides and the tag is kept for display.
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API ImageReference {
 public:
  /// Errors are `invalid`, say what is wrong with which part and offer a correction where there is one.
  static Result<ImageReference> parse(std::string_view text);

  const std::string& host() const { return host_; }        ///< docker.io, localhost:5000, [::1]:5000
  const std::string& repository() const { return path_; }  ///< library/busybox
  const std::string& tag() const { return tag_; }          ///< empty when only a digest was given
  const std::string& digest() const { return digest_; }    ///< sha256:..., or empty
  std::string name() const { return host_ + "/" + path_; }

  /// docker.io/library/busybox:1; with a digest docker.io/library/busybox@sha256:...
  std::string canonical() const;
  /// busybox:1: what a person would type.
  std::string familiar() const;
  /// NAME@DIGEST: `imageID` in the status of a pod.
  std::string pinned(std::string_view digest) const;
  /// Where the registry's API answers: registry-1.docker.io for docker.io, else the host.
  std::string api_host() const;
  /// Same name, other tag.
  ImageReference with_digest(std::string digest) const;

  friend bool operator==(const ImageReference&, const ImageReference&) = default;

 private:
  std::string host_, path_, tag_, digest_;
};

}  // namespace orchestra
