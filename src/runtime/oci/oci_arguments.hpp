#pragma once
// The command line of the common OCI runtimes: global options, a command, its options, operands.
#include <map>
#include <string>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::runtime {

struct OciArguments {
  std::map<std::string, std::vector<std::string>> options;  ///< by long name without dashes; flags hold ""
  std::string command;
  std::vector<std::string> operands;

  bool has(const std::string& name) const { return options.count(name) != 0; }
  std::string get(const std::string& name, std::string other = {}) const {
    const auto found = options.find(name);
    return found == options.end() ? other : found->second.back();
  }
  std::vector<std::string> all(const std::string& name) const {
    const auto found = options.find(name);
    return found == options.end() ? std::vector<std::string>() : found->second;
  }
};

/// Unknown options are errors that name them. For `exec` everything behind the id belongs to the command.
Result<OciArguments> parse_oci_arguments(const std::vector<std::string>& args);
/// "9", "KILL", "sigkill", "SIGRTMIN+3".
Result<int> parse_signal(const std::string& text);
/// [A-Za-z0-9_+-][A-Za-z0-9_+.-]*, at most 255.
Result<void> check_container_id(const std::string& id);
std::string oci_help();

}  // namespace orchestra::runtime
