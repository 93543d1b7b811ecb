#include "node/statistics.hpp"

#include <algorithm>
#include <tuple>

#include "api/meta.hpp"

namespace orchestra::node {

namespace {

std::string seconds_text(std::int64_t ns) {
  // A Go duration with milliseconds: "10.013s".
  const std::int64_t ms = ns / 1'000'000;
  std::string text = std::to_string(ms / 1000);
  if (ms % 1000 != 0) {
    std::string rest = std::to_string(ms % 1000 + 1000).substr(1);
    while (rest.back() == '0') rest.pop_back();
    text += "." + rest;
  }
  return text + "s";
}

json::object usage_of(std::int64_t nanocores, std::int64_t working_set) {
  return {{"cpu", std::to_string(nanocores) + "n"}, {"memory", std::to_string(working_set / 1024) + "Ki"}};
}

}  // namespace

void Statistics::pass(std::vector<ContainerSample> samples) {
  std::lock_guard lock(mutex_);
  std::map<std::string, Known> next;
  for (ContainerSample& sample : samples) {
    Known known;
    if (const auto before = containers_.find(sample.id); before != containers_.end()) {
      const ContainerUsage& old = before->second.last.usage;
      const std::int64_t window = sample.usage.wall_ns - old.wall_ns;
      if (window > 0 && sample.usage.cpu_ns >= old.cpu_ns) {
        const auto spent = static_cast<double>(sample.usage.cpu_ns - old.cpu_ns);
        known.window_ns = window;
        known.rate = ContainerRate{sample.container,
                                   static_cast<std::int64_t>(spent * 1e9 / static_cast<double>(window)),
                                   static_cast<std::int64_t>(sample.usage.memory_working_set_bytes)};
      }
    }
    known.last = std::move(sample);
    std::string id = known.last.id;
    next.emplace(std::move(id), std::move(known));
  }
  containers_ = std::move(next);
}

std::vector<PodRates> Statistics::collect() const {
  std::map<std::string, PodRates> pods;
  std::map<std::string, bool> whole;
  for (const auto& [id, known] : containers_) {
    const ContainerSample& last = known.last;
    PodRates& pod = pods[last.pod_uid];
    pod.uid = last.pod_uid;
    pod.ns = last.ns;
    pod.name = last.pod;
    pod.labels = last.labels;
    pod.at_ns = std::max(pod.at_ns, last.usage.wall_ns);
    pod.window_ns = std::max(pod.window_ns, known.window_ns);
    pod.working_set += static_cast<std::int64_t>(last.usage.memory_working_set_bytes);
    const auto fresh = whole.emplace(last.pod_uid, true).first;
    if (known.rate) {
      pod.containers.push_back(*known.rate);
    } else {
      fresh->second = false;
    }
  }
  std::vector<PodRates> out;
  for (auto& [uid, pod] : pods) {
    if (whole[uid]) out.push_back(std::move(pod));
  }
  std::sort(out.begin(), out.end(), [](const PodRates& a, const PodRates& b) {
    return std::tie(a.ns, a.name) < std::tie(b.ns, b.name);
  });
  return out;
}

std::vector<PodRates> Statistics::pods(const std::string& ns) const {
  std::lock_guard lock(mutex_);
  std::vector<PodRates> all = collect();
  if (!ns.empty()) std::erase_if(all, [&](const PodRates& pod) { return pod.ns != ns; });
  return all;
}

std::optional<PodRates> Statistics::pod(const std::string& uid) const {
  std::lock_guard lock(mutex_);
  for (PodRates& pod : collect()) {
    if (pod.uid == uid) return std::move(pod);
  }
  return std::nullopt;
}

json::value pod_metrics(const PodRates& pod) {
  json::array containers;
  for (const ContainerRate& each : pod.containers)
    containers.push_back(
        json::object{{"name", each.container}, {"usage", usage_of(each.nanocores, each.working_set)}});
  json::object labels;
  for (const auto& [name, value] : pod.labels) labels[name] = value;
  const std::string at = api::format_time(pod.at_ns);
  json::object metadata{{"name", pod.name}, {"namespace", pod.ns}, {"creationTimestamp", at}};
  if (!labels.empty()) metadata["labels"] = std::move(labels);
  return json::object{{"apiVersion", "metrics.k8s.io/v1beta1"}, {"kind", "PodMetrics"},
                      {"metadata", std::move(metadata)},        {"timestamp", at},
                      {"window", seconds_text(pod.window_ns)},  {"containers", std::move(containers)}};
}

json::value node_metrics(const std::string& node, std::int64_t at_ns, std::int64_t window_ns,
                         std::int64_t nanocores, std::int64_t working_set) {
  const std::string at = api::format_time(at_ns);
  return json::object{{"apiVersion", "metrics.k8s.io/v1beta1"},
                      {"kind", "NodeMetrics"},
                      {"metadata", json::object{{"name", node}, {"creationTimestamp", at}}},
                      {"timestamp", at},
                      {"window", seconds_text(window_ns)},
                      {"usage", usage_of(nanocores, working_set)}};
}

}  // namespace orchestra::node
