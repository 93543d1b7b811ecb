#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "base/json.hpp"
#include "base/version.hpp"
#include "bench/bench.hpp"

namespace orchestra::bench {
namespace {
std::map<std::string, AreaFunction>& areas() {
  static std::map<std::string, AreaFunction> all;
  return all;
}
std::int64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}
std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}
bool passes(const Metric& metric) {
  return metric.op == ">=" ? *metric.value >= *metric.goal : *metric.value <= *metric.goal;
}
json::value to_value(const Metric& metric) {
  json::object out;
  out["name"] = metric.name;
  out["value"] = metric.value ? json::value(*metric.value) : json::value(nullptr);
  out["unit"] = metric.unit;
  out["goal"] = metric.goal ? json::value(*metric.goal) : json::value(nullptr);
  out["op"] = metric.op;
  out["pass"] = metric.value && metric.goal ? json::value(passes(metric)) : json::value(nullptr);
  if (metric.peer) {
    out["peer"] = json::object{
        {"name", metric.peer->name}, {"version", metric.peer->version}, {"value", metric.peer->value}};
  } else {
    out["peer"] = nullptr;
  }
  out["note"] = metric.note;
  return out;
}
}  // namespace

bool register_area(const std::string& name, AreaFunction run) {
  return areas().emplace(name, std::move(run)).second;
}
std::int64_t now_ns() { return read_clock(CLOCK_MONOTONIC); }
std::int64_t cpu_ns() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }
double percentile(std::vector<double> values, double p) {
  if (values.empty()) return std::nan("");
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}
std::string find_program(const std::string& command) {
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "/usr/bin:/bin";
  folders += ":/usr/sbin:/sbin";
  for (std::size_t at = 0; at < folders.size();) {
    std::size_t end = std::min(folders.find(':', at), folders.size());
    std::string file = folders.substr(at, end - at) + "/" + command;
    if (access(file.c_str(), X_OK) == 0) return file;
    at = end + 1;
  }
  return {};
}

int main_of(int argc, char** argv) {
  Options options;
  bool as_json = false;
  std::string area;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      as_json = true;
    } else if (std::strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else if (area.empty() && argv[i][0] != '-') {
      area = argv[i];
    } else {
      std::fprintf(stderr,
                   "orchestra-bench: unknown argument %s; usage: orchestra-bench AREA [--json] [--quick]\n",
                   argv[i]);
      return 2;
    }
  }
  const auto found = areas().find(area);
  if (found == areas().end()) {
    std::string names;
    for (const auto& [name, run] : areas()) names += " " + name;
    std::fprintf(stderr, "orchestra-bench: no area \"%s\"; there are:%s\n", area.c_str(), names.c_str());
    return area.empty() ? 2 : 3;
  }
  Report report;
  found->second(options, report);
  if (as_json) {
    json::array metrics;
    for (const Metric& metric : report.metrics) metrics.push_back(to_value(metric));
    const json::object out{{"area", area},
                           {"commit", kCommit},
                           {"machine", json::object{{"cores", std::thread::hardware_concurrency()},
                                                    {"kernel", first_line("/proc/sys/kernel/osrelease")},
                                                    {"load", first_line("/proc/loadavg")}}},
                           {"metrics", std::move(metrics)}};
    std::printf("%s\n", to_json(out).c_str());
    return 0;
  }
  for (const Metric& metric : report.metrics) {
    const std::string value = metric.value ? std::to_string(*metric.value) : "-";
    std::string goal = metric.goal ? metric.op + " " + std::to_string(*metric.goal) +
                                         (metric.value ? (passes(metric) ? "  pass" : "  FAIL") : "")
                                   : "";
    std::printf("%-36s %16s %-8s %s", metric.name.c_str(), value.c_str(), metric.unit.c_str(), goal.c_str());
    if (metric.peer)
      std::printf("  [%s %s: %g]", metric.peer->name.c_str(), metric.peer->version.c_str(),
                  metric.peer->value);
    std::printf("%s%s\n", metric.note.empty() ? "" : "  # ", metric.note.c_str());
  }
  return 0;
}
}  // namespace orchestra::bench

int main(int argc, char** argv) { return orchestra::bench::main_of(argc, argv); }
