// Configuration and cryptography of sealed values: see sealer.hpp.
#include "apiserver/seal/sealer.hpp"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>

#include "apiserver/text.hpp"
#include "base/json.hpp"
#include "base/openssl.hpp"
#include "base/yaml.hpp"

namespace orchestra::apiserver {
namespace {
using openssl::CipherHandle;
using openssl::KdfContext;
using openssl::KdfHandle;
constexpr std::string_view kMagic = "orc:enc:1:";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kSaltBytes = 16;
constexpr std::size_t kNonceBytes = 12, kTagBytes = 16, kIvBytes = 16, kMacBytes = 32;
constexpr std::size_t kNameMax = 256, kHeadMax = 4096, kDerivedMax = 1024;

Error bad_config(const std::string& why) {
  return Error(Error::invalid, "apiserver", "encryption configuration: " + why);
}
const unsigned char* in(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* out(std::string& text, std::size_t at = 0) {
  return reinterpret_cast<unsigned char*>(text.data()) + at;
}
std::string random_bytes(Random& random, std::size_t size) {
  std::string bytes(size, '\0');
  random.fill(bytes.data(), bytes.size());
  return bytes;
}

// RFC 5869.
std::string hkdf(const std::string& secret, const std::string& salt, std::string info) {
  const KdfHandle kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const KdfContext context(EVP_KDF_CTX_new(kdf.get()));
  std::string digest = "SHA256";
  std::string secret_copy = secret;
  std::string salt_copy = salt;
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), digest.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret_copy.data(), secret_copy.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt_copy.data(), salt_copy.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end()};
  std::string key(kSecretBytes, '\0');
  if (EVP_KDF_derive(context.get(), out(key), key.size(), params) != 1) key.clear();
  OPENSSL_cleanse(secret_copy.data(), secret_copy.size());
  return key;
}

std::optional<std::string> gcm_seal(const std::string& key, const std::string& nonce, std::string_view ad,
                                    std::string_view plain) {
  const CipherHandle context(EVP_CIPHER_CTX_new());
  std::string sealed(plain.size() + kTagBytes, '\0');
  int length = 0;
  const bool done =
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, in(key), in(nonce)) == 1 &&
      EVP_EncryptUpdate(context.get(), nullptr, &length, in(ad), static_cast<int>(ad.size())) == 1 &&
      EVP_EncryptUpdate(context.get(), out(sealed), &length, in(plain), static_cast<int>(plain.size())) ==
          1 &&
      EVP_EncryptFinal_ex(context.get(), out(sealed, static_cast<std::size_t>(length)), &length) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, out(sealed, plain.size())) == 1;
  return done ? std::optional(std::move(sealed)) : std::nullopt;
}
std::optional<std::string> gcm_open(const std::string& key, std::string_view nonce, std::string_view ad,
                                    std::string_view sealed) {
  if (sealed.size() < kTagBytes) return std::nullopt;
  const CipherHandle context(EVP_CIPHER_CTX_new());
  std::string plain(sealed.size() - kTagBytes, '\0');
  std::string tag(sealed.substr(plain.size()));
  std::string spare(kIvBytes, '\0');
  int length = 0;
  const bool done =
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, in(key), in(nonce)) == 1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &length, in(ad), static_cast<int>(ad.size())) == 1 &&
      EVP_DecryptUpdate(context.get(), out(plain), &length, in(sealed), static_cast<int>(plain.size())) ==
          1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context.get(), out(spare), &length) == 1;
  ERR_clear_error();
  return done ? std::optional(std::move(plain)) : std::nullopt;
}

std::string cbc_mac(const std::string& key, std::string_view ad, std::string_view body) {
  const std::string mac_key = hkdf(key, "", "orchestra aescbc mac");
  std::string text = std::to_string(ad.size()) + ":" + std::string(ad) + std::string(body);
  std::string mac(kMacBytes, '\0');
  unsigned size = 0;
  HMAC(EVP_sha256(), mac_key.data(), static_cast<int>(mac_key.size()), in(text), text.size(), out(mac),
       &size);
  return mac;
}
std::optional<std::string> cbc_run(bool encrypt, const std::string& key, std::string_view iv,
                                   std::string_view text) {
  const CipherHandle context(EVP_CIPHER_CTX_new());
  std::string result(text.size() + kIvBytes, '\0');
  int first = 0;
  int last = 0;
  const bool done =
      EVP_CipherInit_ex(context.get(), EVP_aes_256_cbc(), nullptr, in(key), in(iv), encrypt ? 1 : 0) == 1 &&
      EVP_CipherUpdate(context.get(), out(result), &first, in(text), static_cast<int>(text.size())) == 1 &&
      EVP_CipherFinal_ex(context.get(), out(result, static_cast<std::size_t>(first)), &last) == 1;
  ERR_clear_error();
  if (!done) return std::nullopt;
  result.resize(static_cast<std::size_t>(first + last));
  return result;
}

// Group and resource of /orchestra/objects/GROUP/RESOURCE/...; empty for other keys.
std::pair<std::string_view, std::string_view> place_of_key(std::string_view key) {
  constexpr std::string_view kPrefix = "/orchestra/objects/";
  if (!key.starts_with(kPrefix)) return {};
  key.remove_prefix(kPrefix.size());
  const std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return {};
  const std::string_view rest = key.substr(slash + 1);
  return {key.substr(0, slash), rest.substr(0, rest.find('/'))};
}

struct Frame {
  std::string provider, name, head;
  std::string_view body;
};
std::optional<Frame> frame_of(std::string_view bytes) {
  if (!bytes.starts_with(kMagic)) return std::nullopt;
  bytes.remove_prefix(kMagic.size());
  Frame frame;
  for (std::string* part : {&frame.provider, &frame.name}) {
    const std::size_t colon = bytes.find(':');
    if (colon == std::string_view::npos || colon > kNameMax) return std::nullopt;
    *part = bytes.substr(0, colon);
    bytes.remove_prefix(colon + 1);
  }
  if (bytes.size() < 2) return std::nullopt;
  const std::size_t size = static_cast<unsigned char>(bytes[0]) |
                           static_cast<std::size_t>(static_cast<unsigned char>(bytes[1])) << 8;
  if (size > kHeadMax || bytes.size() - 2 < size) return std::nullopt;
  frame.head = bytes.substr(2, size);
  frame.body = bytes.substr(2 + size);
  return frame;
}

std::string kms_head(const KmsPlugin::Wrapped& wrapped) { return wrapped.key_id + '\0' + wrapped.ciphertext; }
}  // namespace

std::string Sealer::make_config(Random& random) {
  const std::string id = random.uuid().substr(0, 8);
  return "# Keys that protect stored Secrets. Whoever restores a backup needs this file too; keep it safe.\n"
         "# Rotation: put a new key first, restart, run `orchestra store reencrypt`, then remove the old "
         "key.\n"
         "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
         "- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n      - name: key-" +
         id + "\n        secret: " + base64_encode(random_bytes(random, kSecretBytes)) +
         "\n  - identity: {}\n";
}

Result<std::shared_ptr<Sealer>> Sealer::parse(const std::string& yaml, Random& random,
                                              const KmsPlugins& plugins) {
  auto tree = parse_yaml(yaml);
  if (!tree) return bad_config(tree.error().message());
  if (string_at(*tree, "/kind") != "EncryptionConfiguration" ||
      string_at(*tree, "/apiVersion") != "apiserver.config.k8s.io/v1") {
    return bad_config("kind must be EncryptionConfiguration and apiVersion apiserver.config.k8s.io/v1");
  }
  std::shared_ptr<Sealer> sealer(new Sealer(random));
  const json::array* entries = array_at(*tree, "/resources");
  if (entries == nullptr || entries->empty()) return bad_config("resources: at least one entry is needed");
  for (std::size_t i = 0; i < entries->size(); ++i) {
    const json::value& entry = (*entries)[i];
    const std::string at = "resources[" + std::to_string(i) + "]";
    Rule rule;
    if (const json::array* names = array_at(entry, "/resources")) {
      for (const json::value& one : *names) {
        const std::string name = one.is_string() ? std::string(one.get_string()) : std::string();
        const std::size_t dot = name.find('.');
        if (name.empty()) return bad_config(at + ".resources: a name is needed");
        rule.resources.emplace_back(dot == std::string::npos ? "core" : name.substr(dot + 1),
                                    name.substr(0, dot));
      }
    }
    if (rule.resources.empty()) return bad_config(at + ".resources: at least one resource is needed");
    const json::array* providers = array_at(entry, "/providers");
    if (providers == nullptr || providers->empty())
      return bad_config(at + ".providers: at least one is needed");
    bool decided = false;
    for (std::size_t p = 0; p < providers->size(); ++p) {
      const json::value& provider = (*providers)[p];
      const std::string where = at + ".providers[" + std::to_string(p) + "]";
      if (!provider.is_object() || provider.get_object().size() != 1) {
        return bad_config(where + ": one provider per entry, such as aesgcm");
      }
      const std::string kind(provider.get_object().begin()->key());
      if (kind == "identity") {
        decided = true;  // whatever stands behind it only reads
        continue;
      }
      if (kind == "secretbox") {
        return bad_config(where + ".secretbox: not supported, OpenSSL has no XSalsa20-Poly1305; use aesgcm");
      }
      std::vector<Key> found;
      if (kind == "kms") {
        const std::string name = string_at(provider, "/kms/name");
        const auto plugin = plugins.find(name);
        if (string_at(provider, "/kms/apiVersion") != "v2")
          return bad_config(where + ".kms.apiVersion: must be v2");
        if (name.find(':') != std::string::npos)
          return bad_config(where + ".kms.name: must not hold a colon");
        if (plugin == plugins.end()) {
          return bad_config(where + ".kms.name: the host gave no plug-in \"" + name +
                            "\" (ApiServerOptions::kms)");
        }
        found.push_back({.provider = kind, .name = name, .plugin = plugin->second});
      } else if (kind == "aesgcm" || kind == "aescbc") {
        const json::array* keys = array_at(provider, "/" + kind + "/keys");
        if (keys == nullptr || keys->empty())
          return bad_config(where + "." + kind + ".keys: at least one is needed");
        for (const json::value& one : *keys) {
          const std::string name = string_at(one, "/name");
          const auto secret = base64_decode(string_at(one, "/secret"));
          if (name.empty() || name.size() > kNameMax || name.find(':') != std::string::npos) {
            return bad_config(where + "." + kind + ".keys: name must have 1 to 256 characters and no colon");
          }
          if (!secret || secret->size() != kSecretBytes) {
            return bad_config(where + "." + kind + ".keys: the secret of \"" + name +
                              "\" must be 32 bytes in base64");
          }
          found.push_back({.provider = kind, .name = name, .secret = *secret});
        }
      } else {
        return bad_config(where + ": unknown provider \"" + kind +
                          "\"; there are aesgcm, aescbc, kms, identity");
      }
      for (Key& key : found) {
        if (!decided) {
          if (key.plugin != nullptr) {
            key.data_key = random_bytes(random, kSecretBytes);
            ORC_ASSIGN(const KmsPlugin::Wrapped wrapped, key.plugin->encrypt(key.data_key));
            if (wrapped.key_id.size() > kNameMax || wrapped.ciphertext.size() > 1024 ||
                wrapped.key_id.find('\0') != std::string::npos) {
              return bad_config(where + ".kms: the plug-in's answer is too long");
            }
            key.head = kms_head(wrapped);
          } else {
            key.head = random_bytes(random, kSaltBytes);
            key.data_key = hkdf(key.secret, key.head, "orchestra " + key.provider + " value");
          }
        }
        auto shared = std::make_shared<const Key>(std::move(key));
        sealer->keys_.push_back(shared);
        if (!decided) rule.first = shared;
        decided = true;
      }
    }
    sealer->rules_.push_back(std::move(rule));
  }
  return sealer;
}

const Sealer::Key* Sealer::writer(std::string_view store_key) const {
  const auto [group, resource] = place_of_key(store_key);
  if (resource.empty()) return nullptr;
  // The first entry that speaks of a resource decides, as upstream.
  for (const Rule& rule : rules_) {
    for (const auto& [own_group, own_resource] : rule.resources) {
      const bool any_group = own_group == "*";
      if ((any_group || own_group == group) && (own_resource == "*" || own_resource == resource))
        return rule.first.get();
    }
  }
  return nullptr;
}

std::vector<std::string> Sealer::places() const {
  std::vector<std::string> out;
  for (const Rule& rule : rules_) {
    for (const auto& [group, resource] : rule.resources) out.push_back(group + "/" + resource);
  }
  return out;
}

Result<std::string> Sealer::seal(std::string_view store_key, std::string_view plain) const {
  const Key* key = writer(store_key);
  if (key == nullptr) return std::string(plain);
  std::string sealed = std::string(kMagic) + key->provider + ":" + key->name + ":";
  sealed += static_cast<char>(key->head.size() & 0xFF);
  sealed += static_cast<char>(key->head.size() >> 8);
  sealed += key->head;
  std::optional<std::string> body;
  if (key->provider == "aescbc") {
    const std::string iv = random_bytes(random_, kIvBytes);
    body = cbc_run(true, key->data_key, iv, plain);
    if (body) body = iv + *body + cbc_mac(key->data_key, store_key, iv + *body);
  } else {
    const std::string nonce = random_bytes(random_, kNonceBytes);
    body = gcm_seal(key->data_key, nonce, store_key, plain);
    if (body) body = nonce + *body;
  }
  if (!body)
    return Error(Error::internal, "apiserver", "a value cannot be sealed with key \"" + key->name + "\"");
  return sealed + *body;
}

Result<std::string> Sealer::data_key(const Key& key, const std::string& head) const {
  if (head == key.head) return key.data_key;
  const std::string cached = key.provider + ":" + key.name + ":" + head;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = derived_.find(cached); found != derived_.end()) return found->second;
  }
  std::string derived;
  if (key.plugin != nullptr) {
    const std::size_t end = head.find('\0');
    if (end == std::string::npos) return Error(Error::corrupt, "apiserver", "the wrapped data key is cut");
    ORC_ASSIGN(derived, key.plugin->decrypt({head.substr(end + 1), head.substr(0, end)}));
    if (derived.size() != kSecretBytes)
      return Error(Error::corrupt, "apiserver", "the plug-in gave no 32 bytes");
  } else {
    derived = hkdf(key.secret, head, "orchestra " + key.provider + " value");
  }
  std::lock_guard lock(mutex_);
  if (derived_.size() >= kDerivedMax) derived_.clear();
  derived_[cached] = derived;
  return derived;
}

Result<std::string> Sealer::open(std::string_view store_key, std::string_view sealed) const {
  const auto frame = frame_of(sealed);
  const std::string object = std::string(store_key);
  if (!frame) return Error(Error::internal, "apiserver", object + ": the sealed value is damaged");
  const auto refuse = [&](const std::string& why) {
    return Error(Error::internal, "apiserver",
                 object + " is sealed with key \"" + frame->name + "\" (" + frame->provider + "): " + why);
  };
  std::optional<Error> problem;
  bool known = false;
  for (const auto& key : keys_) {
    if (key->provider != frame->provider || key->name != frame->name) continue;
    known = true;
    auto data = data_key(*key, frame->head);
    if (!data) {
      problem = data.error();
      continue;
    }
    std::optional<std::string> plain;
    if (key->provider == "aescbc") {
      if (frame->body.size() >= kIvBytes + kMacBytes) {
        const std::string_view covered = frame->body.substr(0, frame->body.size() - kMacBytes);
        const std::string mac = cbc_mac(*data, store_key, covered);
        if (CRYPTO_memcmp(mac.data(), frame->body.data() + covered.size(), kMacBytes) == 0) {
          plain = cbc_run(false, *data, covered.substr(0, kIvBytes), covered.substr(kIvBytes));
        }
      }
    } else if (frame->body.size() >= kNonceBytes) {
      plain = gcm_open(*data, frame->body.substr(0, kNonceBytes), store_key, frame->body.substr(kNonceBytes));
    }
    if (plain) return std::move(*plain);
  }
  if (problem) return refuse(problem->to_string());
  if (!known) return refuse("the encryption configuration has no such key");
  return refuse(
      "it does not open; the key is another one, or the value was changed or copied from elsewhere");
}

bool Sealer::is_current(std::string_view store_key, std::string_view bytes) const {
  const Key* key = writer(store_key);
  if (key == nullptr) return !is_sealed(bytes);
  const auto frame = frame_of(bytes);
  return frame && frame->provider == key->provider && frame->name == key->name;
}

}  // namespace orchestra::apiserver
