#pragma once
// Encryption at rest: which values are sealed, with which key, and how sealed bytes look.
//
// Configuration is an EncryptionConfiguration (apiserver.config.k8s.io/v1): per group of resources a list of
// providers, of which the first key writes and all read. For each start and key a data key is derived by
// HKDF-SHA256 from a random salt, so that the random nonces of one data key never run out; with a KMS
// plug-in the data key is random and wrapped. The store key is associated data: a sealed value copied to
// another key does not open.
//
// Layout of a sealed value: "orc:enc:1:" PROVIDER ":" KEY NAME ":" u16 length of the head, head (salt, or
// KMS key id and wrapped key), then nonce and ciphertext. aesgcm: 12 bytes nonce, ciphertext with a 16 byte
// tag. aescbc: 16 bytes IV, ciphertext, 32 bytes HMAC-SHA256 over store key, IV and ciphertext.
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "orchestra/encryption.hpp"
#include "orchestra/env.hpp"

namespace orchestra::apiserver {

class Sealer {
 public:
  struct Key {
    std::string provider;  ///< aesgcm, aescbc, kms
    std::string name;
    std::string secret;  ///< 32 bytes; empty for kms
    std::shared_ptr<KmsPlugin> plugin;
    std::string head, data_key;  ///< of this start
  };
  /// `invalid` names the file's part at fault.
  static Result<std::shared_ptr<Sealer>> parse(const std::string& yaml, Random& random,
                                               const KmsPlugins& plugins);
  /// A configuration with one new key, for Secrets.
  static std::string make_config(Random& random);
  static bool is_sealed(std::string_view bytes) { return bytes.starts_with("orc:enc:"); }

  /// True if values of this store key are to be sealed.
  bool seals(std::string_view store_key) const { return writer(store_key) != nullptr; }
  Result<std::string> seal(std::string_view store_key, std::string_view plain) const;
  /// An error names key id and object, never bytes.
  Result<std::string> open(std::string_view store_key, std::string_view sealed) const;
  /// Sealed as a write would seal it now?
  bool is_current(std::string_view store_key, std::string_view bytes) const;
  /// Key prefixes that the configuration speaks of: "core/secrets", "*/*".
  std::vector<std::string> places() const;

 private:
  struct Rule {
    std::vector<std::pair<std::string, std::string>> resources;  ///< group ("*": any), resource ("*": any)
    std::shared_ptr<const Key> first;                            ///< null: identity
  };
  explicit Sealer(Random& random) : random_(random) {}
  const Key* writer(std::string_view store_key) const;
  Result<std::string> data_key(const Key& key, const std::string& head) const;

  Random& random_;
  std::vector<Rule> rules_;
  std::vector<std::shared_ptr<const Key>> keys_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, std::string> derived_;  ///< provider, name and head -> data key
};

}  // namespace orchestra::apiserver
