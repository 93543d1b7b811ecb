// Parsing of WWW-Authenticate and of credential files, see auth.hpp.
#include "image/registry/auth.hpp"

#include <algorithm>
#include <cctype>

#include "base/base64.hpp"
#include "base/json.hpp"
#include "image/build/ignore.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kChallengesMax = 16;
constexpr std::string_view kHubKey = "index.docker.io";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool is_token_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

/// A cursor over one header value.
struct Cursor {
  std::string_view text;
  std::size_t at = 0;
  bool end() const { return at >= text.size(); }
  char peek() const { return end() ? '\0' : text[at]; }
  void blanks() {
    while (!end() && (peek() == ' ' || peek() == '\t')) ++at;
  }
  void blanks_and_commas() {
    while (!end() && (peek() == ' ' || peek() == '\t' || peek() == ',')) ++at;
  }
  std::string token() {
    const std::size_t start = at;
    while (!end() && is_token_char(peek())) ++at;
    return std::string(text.substr(start, at - start));
  }
  /// False if the closing quote is missing.
  bool quoted(std::string& out) {
    ++at;
    while (!end() && peek() != '"') {
      if (peek() == '\\' && at + 1 < text.size()) ++at;
      out += text[at++];
    }
    if (end()) return false;
    ++at;
    return true;
  }
};

/// Parameters until the next scheme. False: malformed.
bool read_parameters(Cursor& cursor, Challenge& challenge) {
  while (true) {
    cursor.blanks_and_commas();
    if (cursor.end()) return true;
    const std::size_t start = cursor.at;
    const std::string name = cursor.token();
    if (name.empty()) return false;
    cursor.blanks();
    if (cursor.peek() != '=') {
      cursor.at = start;  // the next challenge's scheme
      return true;
    }
    ++cursor.at;
    cursor.blanks();
    std::string value;
    if (cursor.peek() == '"') {
      if (!cursor.quoted(value)) return false;
    } else {
      value = cursor.token();
    }
    challenge.parameters.emplace(lower(name), std::move(value));
  }
}

/// "https://index.docker.io/v1/" -> "index.docker.io"; "host/path" stays.
std::string normal_key(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  const std::size_t slash = key.find('/');
  std::string host(key.substr(0, slash));
  std::string path = slash == std::string_view::npos ? std::string() : std::string(key.substr(slash));
  // The old API roots mean the host itself.
  if (path.starts_with("/v1/") || path.starts_with("/v2/")) path = path.substr(3);
  if (path == "/v1" || path == "/v2" || path == "/") path.clear();
  while (path.ends_with('/')) path.pop_back();
  return host + path;
}

std::optional<RegistryCredentials> read_entry(const json::value& entry) {
  if (!entry.is_object()) return std::nullopt;
  RegistryCredentials out;
  out.user = string_at(entry, "/username");
  out.password = string_at(entry, "/password");
  out.token = string_at(entry, "/registrytoken");
  if (const std::string auth = string_at(entry, "/auth"); !auth.empty()) {
    const auto plain = decode_base64_text(auth);
    const std::size_t colon = plain ? plain->find(':') : std::string::npos;
    if (colon == std::string::npos) return std::nullopt;
    out.user = plain->substr(0, colon);
    out.password = plain->substr(colon + 1);
    // Some tools pad the password with zero bytes.
    while (out.password.ends_with('\0')) out.password.pop_back();
  }
  out.identity_token = string_at(entry, "/identitytoken");
  if (out.user.empty() && out.token.empty() && out.identity_token.empty()) return std::nullopt;
  return out;
}

std::pair<std::string_view, std::string_view> split_port(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || host.ends_with(']')) return {host, {}};
  return {host.substr(0, colon), host.substr(colon + 1)};
}

}  // namespace

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> out;
  Cursor cursor{header};
  while (out.size() < kChallengesMax) {
    cursor.blanks_and_commas();
    Challenge challenge;
    challenge.scheme = lower(cursor.token());
    if (challenge.scheme.empty()) return out;
    const bool good = read_parameters(cursor, challenge);
    out.push_back(std::move(challenge));
    if (!good) return out;
  }
  return out;
}

Result<std::vector<KeyringEntry>> parse_docker_config(std::string_view text) {
  auto root = parse_json(text);
  if (!root || !root->is_object()) {
    return Error(Error::invalid, "image", "a pull secret is no JSON object (.dockerconfigjson)");
  }
  const json::object* auths = object_at(*root, "/auths");
  if (auths == nullptr) auths = &root->as_object();  // .dockercfg
  std::vector<KeyringEntry> out;
  for (const auto& [key, value] : *auths) {
    auto credentials = read_entry(value);
    if (credentials) out.push_back({normal_key(key), std::move(*credentials)});
  }
  return out;
}

bool key_matches(std::string_view key, std::string_view host, std::string_view path) {
  const std::size_t slash = key.find('/');
  const std::string_view key_host = key.substr(0, slash);
  const std::string_view key_path =
      slash == std::string_view::npos ? std::string_view() : key.substr(slash + 1);
  const auto [key_name, key_port] = split_port(key_host);
  const auto [name, port] = split_port(host);
  if (key_port != port || !path.starts_with(key_path)) return false;
  std::size_t a = 0, b = 0;
  while (true) {
    const std::size_t a_end = std::min(key_name.find('.', a), key_name.size());
    const std::size_t b_end = std::min(name.find('.', b), name.size());
    if (!match_path(key_name.substr(a, a_end - a), name.substr(b, b_end - b))) return false;
    const bool a_last = a_end == key_name.size(), b_last = b_end == name.size();
    if (a_last || b_last) return a_last && b_last;
    a = a_end + 1;
    b = b_end + 1;
  }
}

std::vector<RegistryCredentials> match_credentials(const std::vector<KeyringEntry>& entries,
                                                   const ImageReference& image) {
  std::vector<KeyringEntry> sorted = entries;
  // Reverse order puts "host/team/app" before "host/team" before "host".
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.key > b.key; });
  std::vector<RegistryCredentials> out;
  const auto take = [&](const RegistryCredentials& one) {
    const bool known = std::any_of(out.begin(), out.end(), [&](const auto& other) {
      return other.user == one.user && other.password == one.password && other.token == one.token &&
             other.identity_token == one.identity_token;
    });
    if (!known) out.push_back(one);
  };
  for (const KeyringEntry& entry : sorted) {
    if (key_matches(entry.key, image.host(), image.repository())) take(entry.credentials);
  }
  if (!out.empty() || image.host() != "docker.io") return out;
  for (const KeyringEntry& entry : sorted) {
    if (entry.key == kHubKey || entry.key == image.api_host()) take(entry.credentials);
  }
  return out;
}

}  // namespace orchestra::image
