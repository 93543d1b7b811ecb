#include "metrics/resource_metrics.hpp"

#include "api/meta.hpp"

namespace orchestra::metrics {

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

json::value pod_metrics(const PodUse& pod) {
  json::array containers;
  for (const ContainerUse& each : pod.containers)
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

json::value node_metrics(const NodeUse& node) {
  const std::string at = api::format_time(node.at_ns);
  return json::object{{"apiVersion", "metrics.k8s.io/v1beta1"},
                      {"kind", "NodeMetrics"},
                      {"metadata", json::object{{"name", node.name}, {"creationTimestamp", at}}},
                      {"timestamp", at},
                      {"window", seconds_text(node.window_ns)},
                      {"usage", usage_of(node.nanocores, node.working_set)}};
}

}  // namespace orchestra::metrics
