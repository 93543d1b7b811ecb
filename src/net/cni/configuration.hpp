#pragma once
// CNI configurations, what plugins are told and what they answer. Pure; SPEC.md sections 1, 2 and 5.
//
// Versions 0.1.0 to 1.1.0. Results before 0.3.0 have one address of each family and cannot be chained.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "orchestra/cni_runtime.hpp"

namespace orchestra::net {

constexpr std::size_t kCniPluginsMax = 32;

/// SPEC.md section 2: an alphanumeric character, then those and "_.-". Names of networks are such, too.
bool is_container_id(std::string_view id);

struct CniList {
  std::string name;
  std::vector<std::string> versions;  ///< that the configuration may be read as; lowest first
  bool disable_check = false, disable_gc = false;
  std::vector<json::object> plugins;  ///< each has a "type" that is a plain file name
};
/// A list, or the configuration of one plugin. `file` is for the messages.
Result<CniList> parse_cni_configuration(std::string_view text, const std::string& file);
/// The lexicographically first that ends in .conflist, .conf or .json.
std::optional<std::string> choose_cni_file(std::vector<std::string> names);

/// What VERSION answered.
Result<std::vector<std::string>> parse_cni_versions(std::string_view output, const std::string& plugin);
/// The highest version of the list that each plugin (by type) supports; the error names who does not.
Result<std::string> negotiate_cni_version(const CniList& list,
                                          const std::map<std::string, std::vector<std::string>>& supported);
/// Is `version` ("0.4.0") at least `least`? False when it is none.
bool cni_version_at_least(std::string_view version, std::string_view least);

/// stdin of plugin `index`. `previous` empty: none. `valid` (GC only): container ids.
struct CniInput {
  std::string version;
  json::object capabilities;
  std::string previous;
  const std::set<std::string>* valid = nullptr;
  std::string interface_name;
};
std::string cni_input(const CniList& list, std::size_t index, const CniInput& input);

/// A result of ADD.
Result<CniResult> parse_cni_result(std::string_view output, const std::string& plugin);
/// What a plugin that failed said: its error object, else what it wrote.
Error cni_plugin_error(const std::string& plugin, const std::string& command, int exit_code,
                       std::string_view output, std::string_view errors);
/// The code of an error object; 0 when there is none.
int cni_error_code(std::string_view output);

}  // namespace orchestra::net
