// `orchestra doctor`: what this machine can do, what was tried, and what to do about the rest.
#include <cstdio>

#include "base/json.hpp"
#include "examples/cli/cli.hpp"
#include "orchestra/machine.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::cli {

int run_doctor(const std::vector<std::string>& args) {
  const Flags flags = Flags::parse(args, {}, {"json", "help"});
  if (flags.has("help")) {
    std::puts(
        "usage: orchestra doctor [--json]\nTries what the runtime and the network need, and prints evidence "
        "and remedy for each ability.");
    return 0;
  }
  if (!flags.problem.empty())
    return usage_error("doctor: " + flags.problem + "; see orchestra doctor --help");
  struct Row {
    std::string name, evidence, consequence, remedy;
    bool available;
  };
  std::vector<Row> rows;
  for (const MachineAbility& one : probe_machine())
    rows.push_back({one.name, one.evidence, one.needed_for, one.remedy, one.available});
  for (const NetworkAbility& one : NetProbe::run())
    rows.push_back({one.name, one.evidence, one.consequence, one.remedy, one.available});
  if (flags.has("json")) {
    json::array out;
    for (const Row& row : rows) {
      out.push_back(json::object{{"name", row.name},
                                 {"available", row.available},
                                 {"evidence", row.evidence},
                                 {"consequence", row.consequence},
                                 {"remedy", row.remedy}});
    }
    std::printf("%s\n", to_json(out).c_str());
    return 0;
  }
  for (const Row& row : rows) {
    std::printf("%-4s %-28s %s\n", row.available ? "yes" : "NO", row.name.c_str(), row.evidence.c_str());
    if (!row.available && !row.consequence.empty())
      std::printf("       without it: %s\n", row.consequence.c_str());
    if (!row.available && !row.remedy.empty()) std::printf("       remedy: %s\n", row.remedy.c_str());
  }
  return 0;
}

}  // namespace orchestra::cli
