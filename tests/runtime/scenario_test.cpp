// Runs tests/scenarios/runtime/*.txt: a command and a JSON document, `----`, the whole answer, `====`.
//
//   plan [apparmor] [selinux] [exec]   config.json -> the printed plan, or the error
//   limits v1|v2|none                  linux.resources -> the files to write and what is missing
//
// ORCHESTRA_UPDATE_SCENARIOS=1 writes the answers of this build into the files: read the difference.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "orchestra/container_spec.hpp"
#include "runtime/linux/cgroups.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/spec/parse_resources.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {
namespace {

using namespace orchestra::runtime;
namespace fs = std::filesystem;

struct Scenario {
  std::string comment, command, document, expected;
};

std::vector<Scenario> read_scenarios(const fs::path& path) {
  std::vector<Scenario> all;
  std::ifstream file(path);
  std::string line;
  int part = 0;
  for (all.emplace_back(); std::getline(file, line);) {
    Scenario& now = all.back();
    if (line == "====") {
      all.emplace_back();
      part = 0;
    } else if (line == "----") {
      part = 2;
    } else if (part == 0 && line.starts_with("#")) {
      now.comment += line + "\n";
    } else if (part == 0) {
      now.command = line;
      part = 1;
    } else {
      (part == 1 ? now.document : now.expected) += line + "\n";
    }
  }
  if (all.back().command.empty()) all.pop_back();
  return all;
}

std::string plan_answer(const std::string& flags, const std::string& document) {
  const auto spec = ContainerSpec::from_json(document);
  if (!spec) return "error: " + spec.error().message() + "\n";
  const auto has = [&](const char* word) { return flags.find(word) != std::string::npos; };
  PlanContext context;
  context.apparmor = has("apparmor");
  context.selinux = has("selinux");
  context.exec = has("exec");
  context.bundle = "/bundle";
  context.state_members = R"({"id":"c","status":"creating"})";
  const auto plan = make_plan(*spec, context);
  // What is printed here is also what a document that was written out and read again means.
  const auto again = ContainerSpec::from_json(spec->to_json());
  CHECK_MESSAGE(again.has_value(), (again ? "" : again.error().message()));
  if (again && plan) CHECK(print_plan(make_plan(*again, context).value()) == print_plan(*plan));
  return plan ? print_plan(*plan) : "error: " + plan.error().message() + "\n";
}

CgroupLayout layout_of(const std::string& name) {
  if (name == "v2") {
    return parse_cgroup_layout("24 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
                               {{"/cg", "cpuset cpu io memory hugetlb pids rdma\n"}});
  }
  if (name != "v1") return {};
  std::string mounts;
  for (const char* controller : {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "rdma", "net_cls",
                                 "net_prio", "devices", "freezer"})
    mounts += std::string("1 1 0:1 / /") + controller + " rw - cgroup cgroup rw," + controller + "\n";
  return parse_cgroup_layout(mounts, {});
}

std::string limits_answer(const std::string& layout, const std::string& document) {
  const auto resources = resources_from_json(document);
  if (!resources) return "error: " + resources.error().message() + "\n";
  std::vector<std::string> missing;
  std::string out;
  for (const CgroupWrite& write : plan_limits(layout_of(layout), *resources, missing)) {
    out += write.file + " = " + write.value;
    if (!write.other_file.empty())
      out += ", else " + write.other_file + (write.other_value.empty() ? "" : " = " + write.other_value);
    out += write.required ? "\n" : " (if there)\n";
  }
  for (const std::string& reason : missing) out += "missing: " + reason + "\n";
  return out;
}

std::string answer_of(const Scenario& scenario) {
  const std::size_t space = scenario.command.find(' ');
  const std::string word = scenario.command.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : scenario.command.substr(space + 1);
  if (word == "plan") return plan_answer(rest, scenario.document);
  if (word == "limits") return limits_answer(rest, scenario.document);
  return "unknown command\n";
}
}  // namespace

TEST_CASE("scenario files of the runtime: each document becomes exactly what stands below it") {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(ORCHESTRA_SOURCE_DIR "/tests/scenarios/runtime")) {
    std::vector<Scenario> all = read_scenarios(entry.path());
    count += all.size();
    if (std::getenv("ORCHESTRA_UPDATE_SCENARIOS") != nullptr) {
      std::ofstream file(entry.path());
      for (const Scenario& one : all)
        file << one.comment << one.command << "\n" << one.document << "----\n" << answer_of(one) << "====\n";
      continue;
    }
    for (const Scenario& one : all) {
      CAPTURE(entry.path().filename().string());
      CAPTURE(one.comment);
      CHECK(answer_of(one) == one.expected);
    }
  }
  CHECK(count > 50);
}

}  // namespace orchestra::test
