// The words of command_args.hpp.
#include "store/command_args.hpp"

#include <charconv>

#include "orchestra/env.hpp"

namespace orchestra::store::command {

Error usage_error(const std::string& what) { return Error(Error::invalid, "store", what); }

Result<Arguments> parse(const std::vector<std::string>& args) {
  static const std::map<std::string, bool> kFlags{// name -> takes a value
                                                  {"--data", true},
                                                  {"--timeout", true},
                                                  {"--if-revision", true},
                                                  {"--lease", true},
                                                  {"--range-end", true},
                                                  {"--revision", true},
                                                  {"--limit", true},
                                                  {"--after", true},
                                                  {"--count", false},
                                                  {"--json", false},
                                                  {"--previous", false},
                                                  {"--prefix", false},
                                                  {"--keys-only", false},
                                                  {"--serializable", false},
                                                  {"--value-only", false},
                                                  {"--bump-revision", true},
                                                  {"--endpoint", true},
                                                  {"--listen", true},
                                                  {"--peer-listen", true},
                                                  {"--peer-address", true},
                                                  {"--name", true},
                                                  {"--initial-peers", true},
                                                  {"--join", true},
                                                  {"--durability", true},
                                                  {"--insecure", false},
                                                  {"--learner", false},
                                                  {"--force", false},
                                                  {"--lan-fast", false},
                                                  {"--cacert", true},
                                                  {"--cert", true},
                                                  {"--key", true},
                                                  {"--user", true},
                                                  {"--force-new-cluster", false},
                                                  {"--peer-cacert", true},
                                                  {"--peer-cert", true},
                                                  {"--peer-key", true},
                                                  {"--full", false},
                                                  {"--to-revision", true},
                                                  {"--no-repair", false},
                                                  {"--lease-reads", false},
                                                  {"--max-clock-drift", true},
                                                  {"--snapshot-zstd", true},
                                                  {"--scrub-every", true},
                                                  {"--segment-bytes", true},
                                                  {"--follow", true},
                                                  {"--log-keep-bytes", true},
                                                  {"--log-keep-entries", true},
                                                  {"--snapshot-log-bytes", true}};
  Arguments parsed;
  bool only_words = false;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (only_words || args[i].size() < 3 || args[i].compare(0, 2, "--") != 0) {
      if (args[i] == "--" && !only_words) {
        only_words = true;
      } else {
        parsed.words.push_back(args[i]);
      }
      continue;
    }
    const std::size_t equals = args[i].find('=');
    const std::string name = args[i].substr(0, equals);
    const auto flag = kFlags.find(name);
    if (flag == kFlags.end()) return usage_error("there is no option " + name);
    // `watch --count N` takes a value, `get --count` does not.
    const bool takes =
        flag->second || (name == "--count" && !parsed.words.empty() && parsed.words[0] == "watch");
    std::string value;
    if (equals != std::string::npos) {
      value = args[i].substr(equals + 1);
    } else if (takes) {
      if (i + 1 == args.size()) return usage_error("option " + name + " needs a value");
      value = args[++i];
    }
    parsed.values[name] = value;
  }
  return parsed;
}

Result<std::optional<std::int64_t>> number_of(const Arguments& args, const std::string& name) {
  const auto found = args.values.find(name);
  if (found == args.values.end()) return std::optional<std::int64_t>();
  std::int64_t value = 0;
  const std::string& text = found->second;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || value < 0) {
    return usage_error("option " + name + " needs a whole number, not \"" + text + "\"");
  }
  return std::optional(value);
}

/// "90", "90s", "5m", "2h", in seconds.
Result<std::int64_t> seconds_of(const std::string& text) {
  std::int64_t value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end.ptr, static_cast<std::size_t>(text.data() + text.size() - end.ptr));
  if (end.ec == std::errc() && value >= 0) {
    if (unit.empty() || unit == "s") return value;
    if (unit == "m") return value * 60;
    if (unit == "h") return value * 3600;
  }
  return usage_error("\"" + text + "\" is not a duration like 5s, 2m or 1h");
}

bool holds_log(Disk& disk, const std::string& folder) {
  const auto names = disk.list(folder);
  if (!names) return false;
  for (const std::string& name : *names) {
    if (name.size() == 16 && name.compare(0, 4, "log-") == 0) return true;
  }
  return false;
}
/// A data folder of `orchestra up` keeps its store in DIR/store; a bare store lies in DIR itself.
std::string store_folder(const std::string& data) {
  return holds_log(real_disk(), data) ? data : data + "/store";
}

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  while (from <= text.size() && !text.empty()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    if (comma > from) parts.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

bool is_url(const std::string& text) {
  return text.compare(0, 7, "http://") == 0 || text.compare(0, 8, "https://") == 0 ||
         text.compare(0, 10, "etcd+unix:") == 0;
}

/// An etcd by the words of the command line; of its keys only those under `prefix` are followed.
Result<EtcdStoreOptions> etcd_options(const Arguments& args, const std::string& urls, std::string prefix) {
  EtcdStoreOptions options;
  options.prefix = std::move(prefix);
  options.adopt = true;  // whoever names the server by hand wants to see what is there
  for (std::size_t at = 0; at <= urls.size();) {
    const std::size_t comma = std::min(urls.find(',', at), urls.size());
    std::string url = urls.substr(at, comma - at);
    at = comma + 1;
    if (!is_url(url)) {
      return Error(Error::unsupported, "store",
                   "endpoint \"" + url + "\" is no URL of an etcd (http://, https://, etcd+unix:)");
    }
    if (url.compare(0, 5, "etcd+") == 0) url.erase(0, 5);
    options.endpoints.push_back(std::move(url));
  }
  for (const auto& [flag, to] : {std::pair("--cacert", &options.ca_pem),
                                 {"--cert", &options.certificate_pem},
                                 {"--key", &options.key_pem}}) {
    if (!args.has(flag)) continue;
    ORC_ASSIGN(*to, real_disk().read_file(args.values.at(flag), 1u << 20));
  }
  if (args.has("--user")) {
    const std::string& user = args.values.at("--user");
    const std::size_t colon = user.find(':');
    if (colon == std::string::npos) return usage_error("option --user needs NAME:PASSWORD");
    options.username = user.substr(0, colon);
    options.password = user.substr(colon + 1);
  }
  return options;
}

StoreTls tls_of(const Arguments& args, const std::string& prefix) {
  StoreTls tls;
  for (const auto& [flag, to] :
       {std::pair("cacert", &tls.ca_file), {"cert", &tls.certificate_file}, {"key", &tls.key_file}}) {
    const auto file = args.values.find(prefix + flag);
    if (file != args.values.end()) *to = file->second;
  }
  return tls;
}

}  // namespace orchestra::store::command
