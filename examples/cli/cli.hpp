#pragma once
// Shared by the commands of the orchestra program: flags, exit codes, messages.
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra::cli {

/// Exit status of DESIGN.md section 5.
inline int exit_code(const Error& error) {
  switch (error.code()) {
    case Error::not_found:
      return 3;
    case Error::already_exists:
    case Error::conflict:
    case Error::busy:
      return 4;
    case Error::unavailable:
    case Error::not_leader:
    case Error::overloaded:
    case Error::deadline_exceeded:
      return 5;
    case Error::unknown_outcome:
      return 6;
    case Error::compacted:
    case Error::expired:
    case Error::future:
      return 7;
    case Error::no_space:
    case Error::too_large:
    case Error::resource_exhausted:
      return 8;
    case Error::corrupt:
      return 9;
    case Error::denied:
    case Error::unauthenticated:
      return 10;
    default:
      return 1;
  }
}
inline int report(const Error& error) {
  std::fprintf(stderr, "orchestra: %s\n", error.to_string().c_str());
  return exit_code(error);
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

}  // namespace orchestra::cli
