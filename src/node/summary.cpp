// The Summary API and metric pages of a node: see summary.hpp.
#include "node/summary.hpp"

#include <algorithm>
#include <functional>
#include <sstream>

#include "api/meta.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra::node {
namespace {

constexpr double kNanos = 1e9;

json::object at(std::int64_t wall_ns) { return {{"time", api::format_time(wall_ns)}}; }

json::object cpu(std::int64_t wall_ns, std::optional<std::int64_t> nanocores, std::uint64_t nanoseconds) {
  json::object out = at(wall_ns);
  if (nanocores) out["usageNanoCores"] = *nanocores;
  out["usageCoreNanoSeconds"] = nanoseconds;
  return out;
}

json::object memory(std::int64_t wall_ns, std::int64_t limit, std::uint64_t used, std::uint64_t working_set) {
  json::object out = at(wall_ns);
  if (limit > 0) {
    const auto set = static_cast<std::int64_t>(working_set);
    out["availableBytes"] = std::max<std::int64_t>(0, limit - set);
  }
  out["usageBytes"] = used;
  out["workingSetBytes"] = working_set;
  return out;
}

json::object disk(const NodeNumbers& numbers, std::int64_t used) {
  const MachineFacts& facts = numbers.facts;
  json::object out = at(numbers.now_ns);
  out["availableBytes"] = facts.disk_free_bytes;
  out["capacityBytes"] = facts.disk_bytes;
  out["usedBytes"] = used;
  out["inodesFree"] = facts.inodes_free;
  out["inodes"] = facts.inodes;
  return out;
}

json::object link(const LinkUse& one) {
  return {{"name", one.name},
          {"rxBytes", one.rx_bytes},
          {"rxErrors", one.rx_errors},
          {"txBytes", one.tx_bytes},
          {"txErrors", one.tx_errors}};
}

void add_network(json::object& out, const std::vector<LinkUse>& links, const std::string& main,
                 std::int64_t wall_ns) {
  if (links.empty()) return;
  json::object network = at(wall_ns);
  json::array all;
  for (const LinkUse& one : links) {
    if (one.name == main) {
      for (auto& [key, value] : link(one)) network[key] = value;
    }
    all.push_back(link(one));
  }
  network["interfaces"] = std::move(all);
  out["network"] = std::move(network);
}

/// What the containers of a pod use together, as of the oldest of their samples.
struct Sum {
  std::int64_t wall_ns = 0;
  std::optional<std::int64_t> nanocores;
  ContainerUsage usage;
};
Sum sum_of(const PodNumbers& pod) {
  Sum out;
  bool whole = true;
  std::int64_t nanocores = 0;
  for (const ContainerNumbers& one : pod.containers) {
    const ContainerUsage& usage = one.measured.sample.usage;
    out.wall_ns = out.wall_ns == 0 ? usage.wall_ns : std::min(out.wall_ns, usage.wall_ns);
    out.usage.cpu_ns += usage.cpu_ns;
    out.usage.memory_bytes += usage.memory_bytes;
    out.usage.memory_working_set_bytes += usage.memory_working_set_bytes;
    out.usage.pids += usage.pids;
    whole = whole && one.measured.nanocores.has_value();
    nanocores += one.measured.nanocores.value_or(0);
  }
  if (whole) out.nanocores = nanocores;
  return out;
}

json::object container_stats(const NodeNumbers& numbers, const ContainerNumbers& one,
                             bool only_cpu_and_memory) {
  const ContainerUsage& usage = one.measured.sample.usage;
  json::object out{{"name", one.measured.sample.container},
                   {"startTime", api::format_time(one.started_ns)},
                   {"cpu", cpu(usage.wall_ns, one.measured.nanocores, usage.cpu_ns)},
                   {"memory", memory(usage.wall_ns, one.memory_limit, usage.memory_bytes,
                                     usage.memory_working_set_bytes)}};
  if (!only_cpu_and_memory) out["logs"] = disk(numbers, one.log_bytes);
  return out;
}

json::object pod_stats(const NodeNumbers& numbers, const PodNumbers& pod, bool only_cpu_and_memory) {
  json::object out{{"podRef", json::object{{"name", pod.name}, {"namespace", pod.ns}, {"uid", pod.uid}}},
                   {"startTime", api::format_time(pod.started_ns)}};
  json::array containers;
  for (const ContainerNumbers& one : pod.containers)
    containers.push_back(container_stats(numbers, one, only_cpu_and_memory));
  out["containers"] = std::move(containers);
  const Sum sum = sum_of(pod);
  out["cpu"] = cpu(sum.wall_ns, sum.nanocores, sum.usage.cpu_ns);
  out["memory"] = memory(sum.wall_ns, 0, sum.usage.memory_bytes, sum.usage.memory_working_set_bytes);
  if (only_cpu_and_memory) return out;
  add_network(out, pod.links, pod.links.empty() ? "" : pod.links.front().name, numbers.now_ns);
  std::int64_t ephemeral = 0;
  json::array volumes;
  for (const VolumeUse& volume : pod.volumes) {
    json::object one = disk(numbers, volume.bytes);
    one["name"] = volume.name;
    volumes.push_back(std::move(one));
    ephemeral += volume.bytes;
  }
  if (!volumes.empty()) out["volume"] = std::move(volumes);
  for (const ContainerNumbers& one : pod.containers) ephemeral += one.log_bytes;
  out["ephemeral-storage"] = disk(numbers, ephemeral);
  out["process_stats"] = json::object{{"process_count", sum.usage.pids}};
  return out;
}

double seconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / kNanos; }

/// A page of its own, of these samples alone.
std::string page_of(const std::function<void(MetricSink&)>& tell) {
  const auto metrics = Metrics::create();
  const auto telling = metrics->collect(tell);
  return metrics->text();
}

MetricLabels labels_of(const ContainerSample& one) {
  return {{"container", one.container}, {"namespace", one.ns}, {"pod", one.pod}};
}

}  // namespace

std::vector<LinkUse> parse_net_dev(const std::string& text) {
  std::vector<LinkUse> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;  // one of the two head lines
    LinkUse one;
    std::istringstream words(line.substr(0, colon) + " " + line.substr(colon + 1));
    std::uint64_t column[16] = {};
    words >> one.name;
    for (std::uint64_t& each : column) words >> each;
    if (!words || one.name == "lo") continue;
    one.rx_bytes = column[0];
    one.rx_errors = column[2];
    one.tx_bytes = column[8];
    one.tx_errors = column[10];
    out.push_back(std::move(one));
  }
  return out;
}

std::string default_link(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, destination;
    words >> name >> destination;
    if (destination == "00000000") return name;
  }
  return {};
}

json::value summary(const NodeNumbers& numbers, bool only_cpu_and_memory) {
  const MachineFacts& facts = numbers.facts;
  json::object node{{"nodeName", numbers.node}, {"startTime", api::format_time(numbers.booted_ns)}};
  std::optional<std::int64_t> nanocores;
  if (numbers.use) nanocores = numbers.use->nanocores;
  node["cpu"] = cpu(numbers.now_ns, nanocores, facts.busy_ns);
  json::object machine = at(numbers.now_ns);
  machine["availableBytes"] = facts.memory_available_bytes;
  machine["usageBytes"] = facts.memory_bytes - facts.memory_free_bytes;
  machine["workingSetBytes"] = facts.memory_bytes - facts.memory_available_bytes;
  node["memory"] = std::move(machine);
  if (!only_cpu_and_memory) {
    add_network(node, numbers.links, numbers.main_link, numbers.now_ns);
    node["fs"] = disk(numbers, facts.disk_bytes - facts.disk_free_bytes);
    node["runtime"] = json::object{{"imageFs", disk(numbers, numbers.image_bytes)}};
    json::object limits = at(numbers.now_ns);
    limits["maxpid"] = facts.pids_max;
    limits["curproc"] = facts.pids;
    node["rlimit"] = std::move(limits);
  }
  json::array pods;
  for (const PodNumbers& pod : numbers.pods) pods.push_back(pod_stats(numbers, pod, only_cpu_and_memory));
  return json::object{{"node", std::move(node)}, {"pods", std::move(pods)}};
}

std::string resource_page(const NodeNumbers& numbers) {
  return page_of([&](MetricSink& sink) {
    const MachineFacts& facts = numbers.facts;
    const std::int64_t now_ms = numbers.now_ns / 1'000'000;
    sink.sample(MetricKind::counter, "node_cpu_usage_seconds_total",
                "CPU time that the node has used, in core-seconds.", {}, seconds(facts.busy_ns), now_ms);
    sink.sample(MetricKind::gauge, "node_memory_working_set_bytes", "Working set of the node in bytes.", {},
                static_cast<double>(facts.memory_bytes - facts.memory_available_bytes), now_ms);
    for (const PodNumbers& pod : numbers.pods) {
      for (const ContainerNumbers& one : pod.containers) {
        const ContainerUsage& usage = one.measured.sample.usage;
        const MetricLabels labels = labels_of(one.measured.sample);
        const std::int64_t at_ms = usage.wall_ns / 1'000'000;
        sink.sample(MetricKind::gauge, "container_start_time_seconds",
                    "Start of the container since 1970 in seconds.", labels,
                    seconds(static_cast<std::uint64_t>(one.started_ns)));
        sink.sample(MetricKind::counter, "container_cpu_usage_seconds_total",
                    "CPU time that the container has used, in core-seconds.", labels, seconds(usage.cpu_ns),
                    at_ms);
        sink.sample(MetricKind::gauge, "container_memory_working_set_bytes",
                    "Working set of the container in bytes.", labels,
                    static_cast<double>(usage.memory_working_set_bytes), at_ms);
      }
      const Sum sum = sum_of(pod);
      const MetricLabels labels{{"namespace", pod.ns}, {"pod", pod.name}};
      sink.sample(MetricKind::counter, "pod_cpu_usage_seconds_total",
                  "CPU time that the pod has used, in core-seconds.", labels, seconds(sum.usage.cpu_ns),
                  sum.wall_ns / 1'000'000);
      sink.sample(MetricKind::gauge, "pod_memory_working_set_bytes", "Working set of the pod in bytes.",
                  labels, static_cast<double>(sum.usage.memory_working_set_bytes), sum.wall_ns / 1'000'000);
    }
    for (const char* name : {"scrape_error", "resource_scrape_error"})
      sink.sample(MetricKind::gauge, name, "1: the numbers of containers could not be had.", {}, 0);
  });
}

std::string container_page(const NodeNumbers& numbers) {
  return page_of([&](MetricSink& sink) {
    const MachineFacts& facts = numbers.facts;
    sink.sample(MetricKind::gauge, "machine_cpu_cores", "Processors of the machine.", {},
                static_cast<double>(facts.cpu_milli) / 1000);
    sink.sample(MetricKind::gauge, "machine_memory_bytes", "Memory of the machine in bytes.", {},
                static_cast<double>(facts.memory_bytes));
    for (const PodNumbers& pod : numbers.pods) {
      for (const ContainerNumbers& one : pod.containers) {
        const ContainerSample& sample = one.measured.sample;
        const ContainerUsage& usage = sample.usage;
        const std::int64_t at_ms = usage.wall_ns / 1'000'000;
        const auto tell = [&](MetricKind kind, const char* name, const char* help, double value) {
          MetricLabels labels = labels_of(sample);
          labels.emplace_back("id", "/" + sample.pod_uid + "/" + sample.id);
          labels.emplace_back("image", one.image);
          labels.emplace_back("name", sample.id);
          if (kind == MetricKind::counter) labels.emplace_back("cpu", "total");
          sink.sample(kind, name, help, labels, value, at_ms);
        };
        tell(MetricKind::counter, "container_cpu_usage_seconds_total", "CPU time used, in core-seconds.",
             seconds(usage.cpu_ns));
        tell(MetricKind::gauge, "container_memory_usage_bytes", "Memory in bytes, with all caches.",
             static_cast<double>(usage.memory_bytes));
        tell(MetricKind::gauge, "container_memory_working_set_bytes", "Working set in bytes.",
             static_cast<double>(usage.memory_working_set_bytes));
        tell(MetricKind::gauge, "container_spec_memory_limit_bytes", "Limit of memory in bytes; 0: none.",
             static_cast<double>(one.memory_limit));
        tell(MetricKind::gauge, "container_threads", "Threads.", static_cast<double>(usage.pids));
        tell(MetricKind::gauge, "container_start_time_seconds", "Start since 1970 in seconds.",
             seconds(static_cast<std::uint64_t>(one.started_ns)));
        tell(MetricKind::gauge, "container_last_seen", "When it was last measured, since 1970 in seconds.",
             seconds(static_cast<std::uint64_t>(usage.wall_ns)));
      }
      for (const LinkUse& one : pod.links) {
        const auto tell = [&](const char* name, const char* help, std::uint64_t value) {
          sink.sample(MetricKind::counter, name, help,
                      {{"container", ""}, {"interface", one.name}, {"namespace", pod.ns}, {"pod", pod.name}},
                      static_cast<double>(value), numbers.now_ns / 1'000'000);
        };
        tell("container_network_receive_bytes_total", "Bytes received.", one.rx_bytes);
        tell("container_network_receive_errors_total", "Errors while receiving.", one.rx_errors);
        tell("container_network_transmit_bytes_total", "Bytes sent.", one.tx_bytes);
        tell("container_network_transmit_errors_total", "Errors while sending.", one.tx_errors);
      }
    }
  });
}

}  // namespace orchestra::node
