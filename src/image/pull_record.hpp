#pragma once
// Who may use an image that is here without asking its registry: an image that was pulled with a login is for
// those who have that login. One that nobody pulled for a pod (imported, preloaded, built, pulled by hand) is
// for all.
//
// Facts: kubernetes KEP-2535 (KubeletEnsureSecretPulledImages), policy NeverVerifyPreloadedImages. Logins are
// kept as HMAC-SHA256 with a key of this store, in DIR/pulled/HEX.json (mode 0600), one file for each
// manifest.
#include <functional>
#include <string>
#include <vector>

#include "orchestra/image.hpp"
#include "orchestra/image_reference.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

/// Thread safe where the caller serialises note() for one manifest (Store::key_mutex).
class PullRecords {
 public:
  explicit PullRecords(std::string directory) : directory_(std::move(directory)) {}

  /// A pod has pulled it.
  bool has(const std::string& manifest) const;
  /// A pod may have the image by one of these logins, or because everybody may.
  Result<bool> allows(const std::string& manifest, const ImageReference& name,
                      const std::vector<RegistryCredentials>& logins) const;
  /// The registry handed the image out: to this login, or to anybody.
  Result<void> note(const std::string& manifest, const ImageReference& name,
                    const RegistryCredentials* login);
  /// Before a pull for a pod, and after it, whatever came of it. A program that ends in between must not
  /// leave an image that looks as if no pod had pulled it.
  Result<void> begin(const ImageReference& name) const;
  void end(const ImageReference& name) const;
  /// When a store opens: what a pull brought that was begun and not ended is for nobody until its registry is
  /// asked. `manifest_of`: of the image with this canonical name; empty: it did not come so far.
  Result<void> close_begun(const std::function<std::string(const std::string& name)>& manifest_of) const;
  /// The image came by another way: for all.
  void forget(const std::string& manifest) const;
  /// Removes records of manifests for which `has` says no.
  void keep_only(const std::function<bool(const std::string& manifest)>& has) const;

 private:
  std::string path_of(const std::string& manifest) const;
  std::string begun_path(const ImageReference& name) const;
  Result<std::string> key() const;

  const std::string directory_;
};

}  // namespace orchestra::image
