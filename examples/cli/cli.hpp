#pragma once
// Shared by the commands of the orchestra program: flags, exit codes, messages.
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/exit_status.hpp"

namespace orchestra::cli {

inline int report(const Error& error) {
  std::fprintf(stderr, "orchestra: %s\n", error.to_string().c_str());
  return exit_status(error);
}
inline int usage_error(const std::string& text) {
  std::fprintf(stderr, "orchestra: %s\n", text.c_str());
  return 2;
}

/// `--name value`, `--name=value`, switches and repeated flags; the rest are words.
struct Flags {
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> words;
  std::string problem;  ///< not empty: a usage error

  static Flags parse(const std::vector<std::string>& args, const std::set<std::string>& with_value,
                     const std::set<std::string>& switches);
  bool has(const std::string& name) const { return values.count(name) != 0; }
  std::string get(const std::string& name, const std::string& other = {}) const {
    const auto it = values.find(name);
    return it == values.end() ? other : it->second.back();
  }
  std::vector<std::string> all(const std::string& name) const {
    const auto it = values.find(name);
    return it == values.end() ? std::vector<std::string>() : it->second;
  }
};

int run_up(const std::vector<std::string>& args);
/// The whole program where it was started as orchestra-cni (SPEC.md of CNI, section 2).
int run_cni_plugin();
int run_join(const std::vector<std::string>& args);
int run_down(const std::vector<std::string>& args);
int run_doctor(const std::vector<std::string>& args);
int run_explain(const std::vector<std::string>& args);
int run_dns(const std::vector<std::string>& args);
int run_dns_query(const Flags& flags);
int run_logs(const std::vector<std::string>& args);

/// "a,b,,c": a, b, c.
std::vector<std::string> split_commas(const std::string& text);
/// $KUBECONFIG, else ~/.kube/config.
std::string default_kubeconfig();

}  // namespace orchestra::cli
