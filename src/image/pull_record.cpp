#include "image/pull_record.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "image/digest.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kRecordBytesMax = 1 << 20;
constexpr std::size_t kLoginsMax = 1000;  // of one repository; the oldest go: they are asked for again
constexpr std::size_t kKeyBytes = 32;

std::string repository_of(const ImageReference& name) { return name.host() + "/" + name.repository(); }

std::string hash_of(const std::string& key, const RegistryCredentials& login) {
  std::string text;
  for (const std::string* part : {&login.user, &login.password, &login.token, &login.identity_token})
    text += std::to_string(part->size()) + ":" + *part;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    constexpr const char* digits = "0123456789abcdef";
    hex += digits[digest[i] >> 4];
    hex += digits[digest[i] & 15];
  }
  return hex;
}

Result<json::object> load(const std::string& path) {
  auto text = read_file(path, kRecordBytesMax);
  if (!text && text.error().is(Error::not_found)) return json::object();
  if (!text) return text.error();
  ORC_ASSIGN(json::value record, parse_json(*text));
  if (!record.is_object()) return Error(Error::corrupt, "image", path + ": not a record of pulls");
  return std::move(record.as_object());
}
}  // namespace

std::string PullRecords::path_of(const std::string& manifest) const {
  return directory_ + "/" + manifest.substr(manifest.find(':') + 1) + ".json";
}

Result<std::string> PullRecords::key() const {
  const std::string path = directory_ + "/key";
  auto text = read_file(path, kKeyBytes);
  if (text && text->size() == kKeyBytes) return *text;
  if (!text && !text.error().is(Error::not_found)) return text.error();
  std::string made(kKeyBytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(made.data()), kKeyBytes) != 1)
    return Error(Error::internal, "image", "no random bytes for the key of pull records");
  ORC_TRY(make_directories(directory_, 0700));
  ORC_TRY(replace_file(path, made, 0600, true));
  return made;
}

bool PullRecords::has(const std::string& manifest) const {
  return access(path_of(manifest).c_str(), F_OK) == 0;
}

Result<bool> PullRecords::allows(const std::string& manifest, const ImageReference& name,
                                 const std::vector<RegistryCredentials>& logins) const {
  if (!has(manifest)) return true;
  ORC_ASSIGN(const json::object record, load(path_of(manifest)));
  const json::value* entry = record.if_contains(repository_of(name));
  if (entry == nullptr) return false;  // pulled under another name, which this one has to be asked for
  if (bool_at(*entry, "/everybody")) return true;
  ORC_ASSIGN(const std::string with, key());
  const json::array* known = array_at(*entry, "/logins");
  for (const RegistryCredentials& login : logins) {
    const std::string hash = hash_of(with, login);
    for (std::size_t i = 0; known != nullptr && i < known->size(); ++i) {
      if ((*known)[i].is_string() && (*known)[i].get_string() == hash) return true;
    }
  }
  return false;
}

Result<void> PullRecords::note(const std::string& manifest, const ImageReference& name,
                               const RegistryCredentials* login) {
  ORC_TRY(make_directories(directory_, 0700));
  ORC_ASSIGN(json::object record, load(path_of(manifest)));
  json::value& entry = record[repository_of(name)];
  if (!entry.is_object()) entry = json::object();
  json::object& object = entry.as_object();
  if (login == nullptr) {
    object["everybody"] = true;
    object.erase("logins");
  } else if (!object.contains("everybody")) {
    ORC_ASSIGN(const std::string with, key());
    const std::string hash = hash_of(with, *login);
    json::value& logins = object["logins"];
    if (!logins.is_array()) logins = json::array();
    json::array& all = logins.as_array();
    for (const json::value& one : all) {
      if (one.is_string() && one.get_string() == hash) return {};
    }
    if (all.size() >= kLoginsMax) all.erase(all.begin());
    all.emplace_back(hash);
  }
  return replace_file(path_of(manifest), to_json(record), 0600, true);
}

std::string PullRecords::begun_path(const ImageReference& name) const {
  const std::string digest = sha256_digest(name.canonical());
  return directory_ + "/" + digest.substr(digest.find(':') + 1) + ".begun";
}

Result<void> PullRecords::begin(const ImageReference& name) const {
  ORC_TRY(make_directories(directory_, 0700));
  return replace_file(begun_path(name), name.canonical(), 0600, true);
}

void PullRecords::end(const ImageReference& name) const { unlink(begun_path(name).c_str()); }

Result<void> PullRecords::close_begun(
    const std::function<std::string(const std::string& name)>& manifest_of) const {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, none)) {
    if (!std::string(entry.path().filename()).ends_with(".begun")) continue;
    ORC_ASSIGN(const std::string text, read_file(entry.path(), kRecordBytesMax));
    const auto name = ImageReference::parse(text);
    const std::string manifest = name ? manifest_of(name->canonical()) : std::string();
    if (!manifest.empty()) {
      ORC_ASSIGN(json::object record, load(path_of(manifest)));
      json::value& known = record[repository_of(*name)];
      if (!known.is_object()) known = json::object();
      ORC_TRY(replace_file(path_of(manifest), to_json(record), 0600, true));
    }
    unlink(entry.path().c_str());
  }
  return {};
}

void PullRecords::forget(const std::string& manifest) const { unlink(path_of(manifest).c_str()); }

void PullRecords::keep_only(const std::function<bool(const std::string& manifest)>& has) const {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, none)) {
    constexpr std::string_view end = ".json";
    const std::string name = entry.path().filename();
    if (!name.ends_with(end)) continue;
    const std::string hex = name.substr(0, name.size() - end.size());
    if (!has("sha256:" + hex) && !has("sha512:" + hex)) unlink(entry.path().c_str());
  }
}

}  // namespace orchestra::image
