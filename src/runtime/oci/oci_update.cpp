// `update` and `events`: limits of a container that runs, and what its controllers count.
//
// The JSON of events is the one of runc's types/events.go, which containerd and others read.
#include <poll.h>
#include <unistd.h>

#include <charconv>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "orchestra/env.hpp"
#include "runtime/domain.hpp"
#include "runtime/oci/oci_command.hpp"
#include "runtime/spec/parse_resources.hpp"
#include "runtime/systemd/systemd.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kResourcesBytesMax = 1 << 20;
constexpr int kLookMs = 100;  ///< how often an OOM kill and the container's end are looked for
constexpr std::int64_t kIntervalDefaultMs = 5000;

/// "-1", "1048576", "64M", "1.5GiB" is not taken: whole numbers with k, m, g, t and an optional b or ib.
Result<std::int64_t> parse_size(const std::string& option, const std::string& text) {
  const auto bad = [&] {
    return Error(Error::invalid, kDomain,
                 "--" + option + " \"" + text + "\": expected a number, or one with k, m, g or t");
  };
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return bad();
  std::string unit;
  for (const char* c = end; c < text.data() + text.size(); ++c)
    unit += static_cast<char>(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
  if (unit.ends_with("ib") && unit.size() == 3) unit.resize(1);
  if (unit.ends_with("b")) unit.pop_back();
  constexpr std::string_view units = "kmgt";
  if (unit.empty()) return value;
  const std::size_t power = unit.size() == 1 ? units.find(unit[0]) : std::string_view::npos;
  if (power == std::string_view::npos || value < 0 || value > (1ll << 22)) return bad();
  return value << (10 * (power + 1));
}

json::array io_json(const std::vector<CgroupStats::Io>& all) {
  json::array out;
  for (const auto& io : all)
    out.push_back({{"major", io.major}, {"minor", io.minor}, {"op", io.operation}, {"value", io.value}});
  return out;
}

json::object pressure_json(const CgroupStats& stats, const char* name) {
  const auto found = stats.pressure.find(name);
  if (found == stats.pressure.end()) return {};
  const auto& p = found->second;
  return {{"some",
           {{"avg10", p.some_avg10},
            {"avg60", p.some_avg60},
            {"avg300", p.some_avg300},
            {"total", p.some_total_us}}},
          {"full",
           {{"avg10", p.full_avg10},
            {"avg60", p.full_avg60},
            {"avg300", p.full_avg300},
            {"total", p.full_total_us}}}};
}

json::object memory_json(const CgroupStats& stats) {
  json::object raw;
  for (const auto& [name, value] : stats.memory_raw) raw[name] = value;
  const auto entry = [](std::uint64_t limit, std::uint64_t usage, std::uint64_t max, std::uint64_t failures) {
    json::object out{{"limit", limit}, {"usage", usage}, {"failcnt", failures}};
    if (max != 0) out["max"] = max;
    return out;
  };
  const auto cache = stats.memory_raw.find(stats.memory_raw.count("file") != 0 ? "file" : "cache");
  json::object out{{"usage", entry(stats.memory_limit_bytes, stats.memory_bytes, stats.memory_max_bytes,
                                   stats.memory_failures)},
                   {"swap", entry(stats.swap_limit_bytes, stats.swap_bytes, 0, 0)},
                   {"cache", cache == stats.memory_raw.end() ? 0 : cache->second},
                   {"raw", std::move(raw)}};
  if (auto pressure = pressure_json(stats, "memory"); !pressure.empty()) out["psi"] = std::move(pressure);
  return out;
}

json::object stats_event(const std::string& id, const CgroupStats& stats) {
  json::array each;
  for (const std::uint64_t value : stats.cpu_each_ns) each.emplace_back(value);
  json::object usage{{"total", stats.cpu_ns}, {"kernel", stats.cpu_system_ns}, {"user", stats.cpu_user_ns}};
  if (!each.empty()) usage["percpu"] = std::move(each);
  json::object cpu{{"usage", std::move(usage)},
                   {"throttling",
                    {{"periods", stats.periods},
                     {"throttledPeriods", stats.throttled_periods},
                     {"throttledTime", stats.throttled_ns}}}};
  if (auto pressure = pressure_json(stats, "cpu"); !pressure.empty()) cpu["psi"] = std::move(pressure);
  json::object pids{{"current", stats.pids}};
  if (stats.pids_limit != 0) pids["limit"] = stats.pids_limit;
  json::object block{{"ioServiceBytesRecursive", io_json(stats.io_bytes)},
                     {"ioServicedRecursive", io_json(stats.io_operations)}};
  if (auto pressure = pressure_json(stats, "io"); !pressure.empty()) block["psi"] = std::move(pressure);
  json::object huge;
  for (const auto& [size, pages] : stats.hugepages)
    huge[size] = {{"usage", pages.usage}, {"max", pages.max}, {"failcnt", pages.failures}};
  return {{"type", "stats"},
          {"id", id},
          {"data",
           {{"cpu", std::move(cpu)},
            {"cpuset", json::object()},
            {"memory", memory_json(stats)},
            {"pids", std::move(pids)},
            {"blkio", std::move(block)},
            {"hugetlb", std::move(huge)},
            {"intel_rdt", json::object()},
            {"network_interfaces", nullptr}}}};
}

template <class T>
Result<void> take_number(const OciArguments& args, const char* option, std::optional<T>& out) {
  if (!args.has(option)) return {};
  ORC_ASSIGN(const std::int64_t value, parse_size(option, args.get(option)));
  out = static_cast<T>(value);
  return {};
}
}  // namespace

Result<ContainerSpec::Resources> OciCommand::update_resources(const OciState& state,
                                                              const Cgroups& cgroups) const {
  ContainerSpec::Resources r;
  if (args_.has("resources")) {
    const std::string path = args_.get("resources") == "-" ? "/dev/stdin" : args_.get("resources");
    ORC_ASSIGN(const std::string text, read_file(path, kResourcesBytesMax));
    ORC_ASSIGN(r, resources_from_json(text));
  }
  ORC_TRY(take_number(args_, "cpu-period", r.cpu_period));
  ORC_TRY(take_number(args_, "cpu-quota", r.cpu_quota));
  ORC_TRY(take_number(args_, "cpu-burst", r.cpu_burst));
  ORC_TRY(take_number(args_, "cpu-share", r.cpu_shares));
  ORC_TRY(take_number(args_, "cpu-rt-period", r.realtime_period));
  ORC_TRY(take_number(args_, "cpu-rt-runtime", r.realtime_runtime));
  ORC_TRY(take_number(args_, "cpu-idle", r.cpu_idle));
  ORC_TRY(take_number(args_, "memory", r.memory_limit));
  ORC_TRY(take_number(args_, "memory-reservation", r.memory_reservation));
  ORC_TRY(take_number(args_, "memory-swap", r.memory_swap));
  ORC_TRY(take_number(args_, "pids-limit", r.pids_limit));
  if (args_.has("cpuset-cpus")) r.cpuset_cpus = args_.get("cpuset-cpus");
  if (args_.has("cpuset-mems")) r.cpuset_mems = args_.get("cpuset-mems");
  std::optional<std::uint16_t> weight;
  ORC_TRY(take_number(args_, "blkio-weight", weight));
  if (weight) r.block_io.emplace().weight = weight;
  for (const char* option : {"kernel-memory", "kernel-memory-tcp"}) {
    if (args_.has(option))
      warn(std::string("--") + option + ": kernels since 5.11 have no such limit; ignored");
  }
  for (const char* option : {"l3-cache-schema", "mem-bw-schema"}) {
    if (args_.has(option))
      return Error(Error::unsupported, kDomain, std::string("--") + option + ": this machine has no resctrl");
  }
  if (r.memory_swap.value_or(0) > 0 && !r.memory_limit) {  // v2 counts swap apart from memory
    ORC_ASSIGN(const CgroupStats stats, cgroups.stats(state.cgroup));
    if (stats.memory_limit_bytes != 0) r.memory_limit = static_cast<std::int64_t>(stats.memory_limit_bytes);
  }
  return r;
}

Result<int> OciCommand::update() {
  ORC_ASSIGN(const OciState state, load_operand());
  const std::string status = store_.status(state);
  if (status == "stopped")
    return Error(Error::conflict, kDomain, "container not running: " + state.id + " is stopped");
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  if (!cgroups) return Error(Error::unsupported, kDomain, "update: container " + state.id + " has no cgroup");
  ORC_ASSIGN(const ContainerSpec::Resources resources, update_resources(state, *cgroups));
  std::vector<std::string> missing;
  if (!state.systemd_unit.empty()) {  // first, for systemd writes its own rounding
    ORC_ASSIGN(auto systemd, Systemd::open(geteuid() != 0));
    ORC_TRY(systemd.set(state.systemd_unit, systemd_limits(resources, on_unified(cgroups->layout()))));
  }
  ORC_TRY(cgroups->update(state.cgroup, resources, missing));
  if (!missing.empty()) return Error(Error::unsupported, kDomain, "update: " + missing.front());
  return 0;
}

Result<int> OciCommand::events() {
  ORC_ASSIGN(const OciState state, load_operand());
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  if (store_.status(state) == "stopped")
    return Error(Error::conflict, kDomain, "container not running: " + state.id + " is stopped");
  if (!cgroups) return Error(Error::unsupported, kDomain, "events: container " + state.id + " has no cgroup");
  ORC_ASSIGN(CgroupStats stats, cgroups->stats(state.cgroup));
  if (args_.has("stats")) {
    print(to_json(stats_event(state.id, stats)) + "\n");
    return 0;
  }
  std::int64_t interval = kIntervalDefaultMs;
  if (args_.has("interval")) {
    std::string text = args_.get("interval");
    const bool ms = text.ends_with("ms");
    if (text.ends_with("s")) text.resize(text.size() - (ms ? 2 : 1));
    ORC_ASSIGN(interval, parse_size("interval", text));
    if (!ms) interval *= 1000;
    if (interval < kLookMs)
      return Error(Error::invalid, kDomain, "--interval " + args_.get("interval") + ": at least 100ms");
  }
  ORC_ASSIGN(const Fd pidfd, open_pidfd(state.pid));
  std::uint64_t kills = stats.oom_kills;
  for (std::int64_t waited = 0;; waited += kLookMs) {
    if (waited % interval < kLookMs) print(to_json(stats_event(state.id, stats)) + "\n");
    pollfd wait{pidfd.get(), POLLIN, 0};
    const bool ended = poll(&wait, 1, kLookMs) > 0;
    auto now = cgroups->stats(state.cgroup);
    if (!now) return 0;
    if (now->oom_kills > kills) print(to_json(json::object{{"type", "oom"}, {"id", state.id}}) + "\n");
    kills = std::max(kills, now->oom_kills);
    stats = std::move(*now);
    if (ended) return 0;
  }
}

}  // namespace orchestra::runtime
