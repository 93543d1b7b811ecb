#pragma once
// KmsPlugin: where a host keeps the key that protects what the API server stores, if not in a file.
//
// The server makes a data key at each start, asks the plug-in once to wrap it, and stores the wrapped key
// beside each value; to read a value of an earlier start it asks to unwrap. The shape is that of Kubernetes
// KMS v2. An EncryptionConfiguration names a plug-in by `kms: {apiVersion: v2, name: NAME}`. Since 0.2.
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API KmsPlugin {
 public:
  virtual ~KmsPlugin() = default;
  struct Wrapped {
    std::string ciphertext;  ///< at most 1 KiB
    std::string key_id;      ///< of the key that wrapped it; not secret, at most 256 characters
  };
  /// Any thread; may block for some seconds at the start of the server.
  virtual Result<Wrapped> encrypt(std::string_view plaintext) = 0;
  virtual Result<std::string> decrypt(const Wrapped& wrapped) = 0;
};
using KmsPlugins = std::map<std::string, std::shared_ptr<KmsPlugin>>;

}  // namespace orchestra
