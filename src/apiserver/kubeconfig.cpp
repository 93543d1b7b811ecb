// Reading kubeconfig files: the current (or a named) context, certificates inline or in files, tokens.
// Exec plug-ins and username/password are refused by name instead of being ignored.
#include "apiserver/text.hpp"
#include "base/fd.hpp"
#include "base/yaml.hpp"
#include "orchestra/remote_client.hpp"

namespace orchestra {
namespace {
constexpr std::size_t kFileBytesMax = 1 << 20;

Error bad(const std::string& what) { return Error(Error::invalid, "client", "kubeconfig: " + what); }

const json::value* named(const json::value& config, const char* list, const std::string& name) {
  if (const json::array* entries = array_at(config, std::string("/") + list)) {
    for (const json::value& entry : *entries) {
      if (string_at(entry, "/name") == name) return &entry;
    }
  }
  return nullptr;
}

std::string path_of(const std::string& file, const std::string& folder) {
  return file.front() == '/' || folder.empty() ? file : folder + "/" + file;
}

// `KEY-data` in base64, or the file that `KEY` names.
Result<std::string> material(const json::value& entry, const std::string& key, const std::string& folder) {
  if (const std::string data = string_at(entry, "/" + key + "-data"); !data.empty()) {
    auto decoded = apiserver::base64_decode(data);
    if (!decoded) return bad(key + "-data is not base64");
    return std::move(*decoded);
  }
  const std::string file = string_at(entry, "/" + key);
  if (file.empty()) return std::string();
  return read_file(path_of(file, folder), kFileBytesMax);
}
}  // namespace

Result<RemoteClientOptions> read_kubeconfig(const std::string& text, const std::string& context,
                                            const std::string& folder) {
  ORC_ASSIGN(const json::value config, parse_yaml(text));
  const std::string wanted = context.empty() ? string_at(config, "/current-context") : context;
  if (wanted.empty()) return bad("there is no current-context; name one");
  const json::value* chosen = named(config, "contexts", wanted);
  if (chosen == nullptr) return bad("there is no context \"" + wanted + "\"");
  const std::string cluster_name = string_at(*chosen, "/context/cluster");
  const std::string user_name = string_at(*chosen, "/context/user");
  const json::value* cluster_entry = named(config, "clusters", cluster_name);
  if (cluster_entry == nullptr)
    return bad("there is no cluster \"" + cluster_name + "\", which context \"" + wanted + "\" names");
  const json::value* cluster = find(*cluster_entry, "/cluster");
  RemoteClientOptions options;
  options.server = cluster == nullptr ? std::string() : string_at(*cluster, "/server");
  if (options.server.empty()) return bad("cluster \"" + cluster_name + "\" has no server");
  if (bool_at(*cluster, "/insecure-skip-tls-verify")) {
    return bad("cluster \"" + cluster_name +
               "\" asks for insecure-skip-tls-verify; this client always verifies, give it the certificate "
               "authority");
  }
  ORC_ASSIGN(options.ca_pem, material(*cluster, "certificate-authority", folder));
  options.server_name = string_at(*cluster, "/tls-server-name");
  const json::value* user_entry = named(config, "users", user_name);
  const json::value* user = user_entry == nullptr ? nullptr : find(*user_entry, "/user");
  if (user == nullptr) return options;
  ORC_ASSIGN(options.certificate_pem, material(*user, "client-certificate", folder));
  ORC_ASSIGN(options.key_pem, material(*user, "client-key", folder));
  options.token = string_at(*user, "/token");
  if (const std::string file = string_at(*user, "/tokenFile"); !file.empty()) {
    options.token_file = path_of(file, folder);
    if (options.token.empty()) {
      ORC_ASSIGN(const std::string token, read_file(options.token_file, kFileBytesMax));
      options.token = std::string(apiserver::trim(token));
    }
  }
  if (options.certificate_pem.empty() && options.token.empty() && user->is_object() &&
      !user->get_object().empty()) {
    return bad(
        "user \"" + user_name +
        "\" has neither a client certificate nor a token; exec plug-ins and passwords are not supported");
  }
  return options;
}

}  // namespace orchestra
