// Logins, see credentials.hpp.
#include "image/registry/credentials.hpp"

#include <algorithm>
#include <chrono>

#include "base/base64.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"

namespace orchestra::image {
namespace {

constexpr std::string_view kHubKey = "https://index.docker.io/v1/";

std::string file_key(const std::string& host) { return host == "docker.io" ? std::string(kHubKey) : host; }

Result<RegistryCredentials> ask_helper(Spawner& spawner, const std::string& name, const std::string& host) {
  const bool plain =
      !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
      });
  if (!plain) return Error(Error::invalid, "image", "\"" + name + "\" cannot name a credential helper");
  SpawnRequest request;
  request.args = {"docker-credential-" + name, "get"};
  request.input = file_key(host);
  request.deadline = std::chrono::seconds(30);
  request.output_bytes_max = 64 << 10;
  auto ended = spawner.run(request).wait(std::chrono::seconds(40));
  // A helper that is not installed knows nothing: public images can be pulled all the same.
  if (!ended) return ended.error().with_context("docker-credential-" + name);
  if (ended->exit_code != 0) {
    // The helper's words may hold secrets: only what it always says when it has nothing.
    const bool unknown = ended->output.find("credentials not found") != std::string::npos;
    return Error(unknown ? Error::not_found : Error::unauthenticated, "image",
                 "docker-credential-" + name + " get ended with status " + std::to_string(ended->exit_code));
  }
  return parse_helper_answer(ended->output);
}

}  // namespace

std::string helper_for(std::string_view config, const std::string& host) {
  const auto root = parse_json(config);
  if (!root || !root->is_object()) return {};
  if (const json::object* helpers = object_at(*root, "/credHelpers"); helpers != nullptr) {
    for (const std::string& key : {host, file_key(host)}) {
      const json::value* found = helpers->if_contains(key);
      if (found != nullptr && found->is_string()) return std::string(found->as_string());
    }
  }
  return string_at(*root, "/credsStore");
}

Result<RegistryCredentials> parse_helper_answer(std::string_view text) {
  const auto root = parse_json(text);
  if (!root || !root->is_object())
    return Error(Error::unauthenticated, "image", "the credential helper's answer is no JSON object");
  RegistryCredentials out;
  out.user = string_at(*root, "/Username");
  out.password = string_at(*root, "/Secret");
  if (out.user == "<token>") {
    out.identity_token = std::move(out.password);
    out.user.clear();
    out.password.clear();
  }
  return out;
}

Result<std::vector<RegistryCredentials>> find_credentials(const ImageStoreOptions& store,
                                                          const ImagePullOptions& options,
                                                          const ImageReference& reference) {
  if (options.credentials) return std::vector<RegistryCredentials>{*options.credentials};
  std::vector<KeyringEntry> keyring;
  const auto add = [&keyring](const std::string& text) -> Result<void> {
    ORC_ASSIGN(auto entries, parse_docker_config(text));
    keyring.insert(keyring.end(), entries.begin(), entries.end());
    return {};
  };
  for (const std::string& text : options.docker_configs) ORC_TRY(add(text));
  for (const std::string& text : options.login_files) ORC_TRY(add(text));
  std::vector<RegistryCredentials> out = match_credentials(keyring, reference);
  for (const std::string& text : options.login_files) {
    const std::string helper = helper_for(text, reference.host());
    if (helper.empty()) continue;
    if (!store.spawner) {
      return Error(Error::unsupported, "image",
                   "the login file names the credential helper " + helper +
                       ", and this store was opened without a way to start programs");
    }
    auto answer = ask_helper(*store.spawner, helper, reference.host());
    if (answer) out.insert(out.begin(), *answer);
    if (!answer && !answer.error().is(Error::not_found)) return answer.error();
  }
  return out;
}

Result<std::string> with_login(std::string_view config, const std::string& host, const std::string& user,
                               const std::string& password) {
  json::value root = json::object();
  if (!config.empty()) {
    ORC_ASSIGN(root, parse_json(config));
    if (!root.is_object()) return Error(Error::invalid, "image", "the login file is no JSON object");
  }
  json::value& auths = root.as_object()["auths"];
  if (!auths.is_object()) auths = json::object();
  auths.as_object()[file_key(host)] = json::object{{"auth", encode_base64_text(user + ":" + password)}};
  return to_pretty_json(root);
}

}  // namespace orchestra::image
