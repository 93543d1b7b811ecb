#include "api/resolv_conf.hpp"

#include <algorithm>
#include <sstream>

namespace orchestra {
namespace {

constexpr std::size_t kServersMax = 3, kSearchesMax = 32, kSearchCharactersMax = 2048;

struct Parsed {
  std::vector<std::string> servers, searches;
  std::vector<std::pair<std::string, std::optional<std::string>>> options;
};

std::pair<std::string, std::optional<std::string>> split_option(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, std::nullopt};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

Parsed parse(const std::string& file) {
  Parsed out;
  std::istringstream lines(file);
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line.substr(0, line.find_first_of("#;")));
    std::string keyword, word;
    words >> keyword;
    std::vector<std::string> values;
    while (words >> word) values.push_back(word);
    if (keyword == "nameserver" && !values.empty()) out.servers.push_back(values[0]);
    if (keyword == "search" || keyword == "domain") out.searches = values;  // the last one counts
    if (keyword != "options") continue;
    for (const std::string& value : values) out.options.push_back(split_option(value));
  }
  return out;
}

void add_unique(std::vector<std::string>& list, const std::vector<std::string>& more) {
  for (const std::string& one : more) {
    if (!one.empty() && std::find(list.begin(), list.end(), one) == list.end()) list.push_back(one);
  }
}

/// The pod's own options replace those of the same name.
void set_option(Parsed& out, const std::pair<std::string, std::optional<std::string>>& option) {
  const auto same = [&](const auto& have) { return have.first == option.first; };
  const auto found = std::find_if(out.options.begin(), out.options.end(), same);
  if (found == out.options.end()) {
    out.options.push_back(option);
  } else {
    found->second = option.second;
  }
}

void limit(Parsed& parsed, std::vector<std::string>& dropped) {
  while (parsed.servers.size() > kServersMax) {
    dropped.push_back("name server " + parsed.servers.back() + ": more than 3");
    parsed.servers.pop_back();
  }
  std::size_t characters = 0, count = 0;
  std::vector<std::string> kept;
  for (const std::string& search : parsed.searches) {
    characters += search.size() + (count > 0 ? 1 : 0);
    if (++count <= kSearchesMax && characters <= kSearchCharactersMax) {
      kept.push_back(search);
    } else {
      dropped.push_back("search domain " + search + ": more than 32, or 2048 characters in all");
    }
  }
  parsed.searches = std::move(kept);
}

}  // namespace

ResolvConf resolv_conf(const ResolvConfInput& input) {
  const Parsed host = parse(input.host_file);
  Parsed out;
  const bool cluster =
      !input.cluster_servers.empty() &&
      ((input.policy == "ClusterFirst" && !input.host_network) || input.policy == "ClusterFirstWithHostNet");
  if (cluster) {
    out.servers = input.cluster_servers;
    out.searches = {input.ns + ".svc." + input.zone, "svc." + input.zone, input.zone};
    add_unique(out.searches, host.searches);
    out.options = {{"ndots", "5"}};
  } else if (input.policy != "None") {
    out = host;
  }
  add_unique(out.servers, input.servers);
  add_unique(out.searches, input.searches);
  for (const auto& option : input.options) set_option(out, option);

  ResolvConf result;
  limit(out, result.dropped);
  if (!out.searches.empty()) {
    result.text += "search";
    for (const std::string& search : out.searches) result.text += " " + search;
    result.text += "\n";
  }
  for (const std::string& server : out.servers) result.text += "nameserver " + server + "\n";
  if (!out.options.empty()) {
    result.text += "options";
    for (const auto& [name, value] : out.options) result.text += " " + name + (value ? ":" + *value : "");
    result.text += "\n";
  }
  return result;
}

std::string host_resolv_conf_path(std::string_view etc_resolv_conf) {
  const Parsed parsed = parse(std::string(etc_resolv_conf));
  const bool stub = parsed.servers.size() == 1 && parsed.servers.front() == "127.0.0.53";
  return stub ? "/run/systemd/resolve/resolv.conf" : "/etc/resolv.conf";
}

}  // namespace orchestra
