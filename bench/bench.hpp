#pragma once
// orchestra-bench: each area registers a function that measures and reports metrics; main prints the
// table or the JSON envelope of DESIGN.md section 5. Only measured numbers: what could not be measured
// is reported with pass = null and a note that says why.
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace orchestra::bench {

struct Peer {
  std::string name, version;
  double value = 0;
};
struct Metric {
  std::string name;
  std::optional<double> value;  ///< absent: not measured, `note` says why
  std::string unit;
  std::optional<double> goal;
  std::string op = "<=";        ///< how value compares to goal when it passes
  std::optional<Peer> peer = std::nullopt;
  std::string note = {};
};
struct Options {
  bool quick = false;  ///< within 30 s
};
struct Report {
  std::vector<Metric> metrics;
  void add(Metric metric) { metrics.push_back(std::move(metric)); }
};
using AreaFunction = std::function<void(const Options&, Report&)>;
/// `const bool registered = register_area("store", run);` at namespace scope of bench/AREA.cpp.
bool register_area(const std::string& name, AreaFunction run);

std::int64_t now_ns();       ///< CLOCK_MONOTONIC
std::int64_t cpu_ns();       ///< CPU time of this process
double percentile(std::vector<double> values, double p);  ///< p in 0..1
/// `command` on PATH, or empty: for peers that Debian packages bring.
std::string find_program(const std::string& command);

}  // namespace orchestra::bench
