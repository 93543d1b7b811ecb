#include "node/statistics.hpp"

#include <algorithm>
#include <tuple>

namespace orchestra::node {

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
        known.rate = ContainerUse{sample.container,
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

std::vector<PodUse> Statistics::collect() const {
  std::map<std::string, PodUse> pods;
  std::map<std::string, bool> whole;
  for (const auto& [id, known] : containers_) {
    const ContainerSample& last = known.last;
    PodUse& pod = pods[last.pod_uid];
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
  std::vector<PodUse> out;
  for (auto& [uid, pod] : pods) {
    if (whole[uid]) out.push_back(std::move(pod));
  }
  std::sort(out.begin(), out.end(),
            [](const PodUse& a, const PodUse& b) { return std::tie(a.ns, a.name) < std::tie(b.ns, b.name); });
  return out;
}

std::vector<PodUse> Statistics::pods(const std::string& ns) const {
  std::lock_guard lock(mutex_);
  std::vector<PodUse> all = collect();
  if (!ns.empty()) std::erase_if(all, [&](const PodUse& pod) { return pod.ns != ns; });
  return all;
}

std::vector<MeasuredContainer> Statistics::containers() const {
  std::vector<MeasuredContainer> out;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, known] : containers_) {
      MeasuredContainer one{known.last};
      if (known.rate) one.nanocores = known.rate->nanocores;
      out.push_back(std::move(one));
    }
  }
  std::sort(out.begin(), out.end(), [](const MeasuredContainer& a, const MeasuredContainer& b) {
    return std::tie(a.sample.ns, a.sample.pod, a.sample.container) <
           std::tie(b.sample.ns, b.sample.pod, b.sample.container);
  });
  return out;
}

std::optional<PodUse> Statistics::pod(const std::string& uid) const {
  std::lock_guard lock(mutex_);
  for (PodUse& pod : collect()) {
    if (pod.uid == uid) return std::move(pod);
  }
  return std::nullopt;
}

}  // namespace orchestra::node
