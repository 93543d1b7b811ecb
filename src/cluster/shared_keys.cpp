// Sealing and sharing of DIR/pki (shared_keys.hpp).
#include "cluster/shared_keys.hpp"

#include <array>

#include "base/fd.hpp"
#include "base/openssl.hpp"

namespace orchestra::cluster {
namespace {

using namespace std::chrono_literals;

constexpr const char* kKey = "/orchestra/bootstrap/pki";
constexpr char kVersion = 1;
constexpr std::size_t kSaltSize = 16, kNonceSize = 12, kTagSize = 16, kKeySize = 32;
constexpr std::uint64_t kScryptN = 1u << 15, kScryptR = 8, kScryptP = 1, kScryptMemory = 64u << 20;
constexpr std::size_t kFileMax = 1u << 20;
constexpr Duration kStoreWait = 30s;

Error crypto_error() { return Error(Error::internal, "cluster", "OpenSSL could not seal the shared keys"); }
const unsigned char* raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* raw(std::string& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

Result<std::string> derive(const std::string& token, std::string_view salt) {
  std::string key(kKeySize, '\0');
  if (EVP_PBE_scrypt(token.data(), token.size(), raw(salt), salt.size(), kScryptN, kScryptR, kScryptP,
                     kScryptMemory, raw(key), key.size()) != 1) {
    return crypto_error();
  }
  return key;
}

void put_text(std::string& out, std::string_view text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(size >> shift);
  out += text;
}
Result<std::string> take_text(std::string_view& in) {
  const Error malformed(Error::corrupt, "cluster", "the shared keys in the store are malformed");
  if (in.size() < 4) return malformed;
  std::uint32_t size = 0;
  for (int i = 0; i < 4; ++i) size |= std::uint32_t{raw(in)[i]} << (8 * i);
  in.remove_prefix(4);
  if (size > in.size()) return malformed;
  std::string text(in.substr(0, size));
  in.remove_prefix(size);
  return text;
}

}  // namespace

Result<std::string> seal(const SharedFiles& files, const std::string& token, Random& random) {
  std::string plain;
  for (const auto& [name, bytes] : files) {
    put_text(plain, name);
    put_text(plain, bytes);
  }
  std::string sealed(1 + kSaltSize + kNonceSize, '\0');
  sealed[0] = kVersion;
  random.fill(sealed.data() + 1, kSaltSize + kNonceSize);
  ORC_ASSIGN(const std::string key, derive(token, std::string_view(sealed).substr(1, kSaltSize)));
  const openssl::CipherHandle cipher(EVP_CIPHER_CTX_new());
  std::string body(plain.size() + kTagSize, '\0');
  int size = 0, rest = 0;
  const bool fine =
      cipher != nullptr &&
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(key),
                         raw(std::string_view(sealed)) + 1 + kSaltSize) == 1 &&
      EVP_EncryptUpdate(cipher.get(), raw(body), &size, raw(plain), static_cast<int>(plain.size())) == 1 &&
      EVP_EncryptFinal_ex(cipher.get(), raw(body) + size, &rest) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagSize, raw(body) + plain.size()) == 1;
  if (!fine) return crypto_error();
  return sealed + body;
}

Result<SharedFiles> unseal(std::string_view sealed, const std::string& token) {
  if (sealed.size() < 1 + kSaltSize + kNonceSize + kTagSize || sealed[0] != kVersion)
    return Error(Error::unsupported, "cluster",
                 "the shared keys in the store have a form that this release does not know");
  ORC_ASSIGN(const std::string key, derive(token, sealed.substr(1, kSaltSize)));
  const std::string_view body = sealed.substr(1 + kSaltSize + kNonceSize);
  std::string tag(body.substr(body.size() - kTagSize));
  const std::string_view cipher_text = body.substr(0, body.size() - kTagSize);
  std::string plain(cipher_text.size(), '\0');
  const openssl::CipherHandle cipher(EVP_CIPHER_CTX_new());
  int size = 0, rest = 0;
  const bool fine = cipher != nullptr &&
                    EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(key),
                                       raw(sealed) + 1 + kSaltSize) == 1 &&
                    EVP_DecryptUpdate(cipher.get(), raw(plain), &size, raw(cipher_text),
                                      static_cast<int>(cipher_text.size())) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagSize, tag.data()) == 1 &&
                    EVP_DecryptFinal_ex(cipher.get(), raw(plain) + size, &rest) == 1;
  if (!fine) {
    return Error(Error::denied, "cluster",
                 "this token is not the one of the cluster; copy the file DIR/token of its first peer and "
                 "name it with "
                 "--token-file");
  }
  SharedFiles files;
  std::string_view left(plain);
  while (!left.empty()) {
    ORC_ASSIGN(std::string name, take_text(left));
    ORC_ASSIGN(std::string bytes, take_text(left));
    if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
      return Error(Error::corrupt, "cluster",
                   "the shared keys in the store hold a file named \"" + name + "\"");
    files[std::move(name)] = std::move(bytes);
  }
  return files;
}

Result<std::string> load_token(const std::string& data_dir, const std::string& token_file, bool may_make,
                               Random& random) {
  const std::string path = token_file.empty() ? data_dir + "/token" : token_file;
  auto text = read_file(path, 4096);
  if (!text && text.error().is(Error::not_found) && may_make && token_file.empty()) {
    std::array<char, 32> bytes{};
    random.fill(bytes.data(), bytes.size());
    std::string token;
    for (const char byte : bytes) {
      token += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
      token += "0123456789abcdef"[static_cast<unsigned char>(byte) & 15];
    }
    ORC_TRY(replace_file(path, token + "\n", 0600, true));
    return token;
  }
  if (!text) {
    return Error(text.error().code(), "cluster",
                 "a peer of a cluster needs its token: copy DIR/token of the first peer and name it with "
                 "--token-file")
        .because(text.error());
  }
  while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) text->pop_back();
  if (text->size() < 16)
    return Error(Error::invalid, "cluster", "the token in " + path + " is shorter than 16 characters");
  return std::move(*text);
}

Result<bool> take_shared_keys(StateStore& store, const std::string& data_dir, const std::string& token) {
  ORC_ASSIGN(const GetResult found, store.get(kKey).wait(kStoreWait));
  if (!found.kv) return false;
  ORC_ASSIGN(const SharedFiles files, unseal(found.kv->value.bytes(), token));
  ORC_TRY(make_directories(data_dir + "/pki", 0700));
  for (const auto& [name, bytes] : files) {
    const std::string path = data_dir + "/pki/" + name;
    auto have = read_file(path, kFileMax);
    if (have && *have == bytes) continue;
    ORC_TRY(replace_file(path, bytes, 0600, true));
  }
  return true;
}

Result<bool> put_shared_keys(StateStore& store, const std::string& data_dir, const std::string& token,
                             Random& random) {
  SharedFiles files;
  const std::string folder = data_dir + "/pki";
  ORC_ASSIGN(const auto names, real_disk().list(folder));
  for (const std::string& name : names) {
    if (name[0] == '.' || name.find(".tmp") != std::string::npos) continue;
    ORC_ASSIGN(files[name], read_file(folder + "/" + name, kFileMax));
  }
  ORC_ASSIGN(const std::string sealed, seal(files, token, random));
  auto written = store.put(kKey, Value(sealed), {.if_mod_revision = 0}).wait(kStoreWait);
  if (written) return true;
  if (written.error().is(Error::conflict)) return false;
  return written.error();
}

}  // namespace orchestra::cluster
