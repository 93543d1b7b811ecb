// What a host may do with a running container beside what the node agent needs: limits, pause, window,
// statistics, events.
#include <cstring>

#include "orchestra/env.hpp"
#include "runtime/domain.hpp"
#include "runtime/pod/pod_runtime.hpp"

namespace orchestra::runtime {
namespace {
constexpr auto kFreezeDeadline = std::chrono::seconds(2);
constexpr auto kResizeDeadline = std::chrono::seconds(5);

std::uint64_t raw(const CgroupStats& stats, const char* v1, const char* v2) {
  for (const char* name : {v1, v2}) {
    const auto found = stats.memory_raw.find(name);
    if (found != stats.memory_raw.end()) return found->second;
  }
  return 0;
}
std::uint64_t sum(const std::vector<CgroupStats::Io>& all, const char* operation) {
  std::uint64_t total = 0;
  for (const auto& io : all) total += io.operation == operation ? io.value : 0;
  return total;
}

ContainerStats public_stats(const CgroupStats& from) {
  ContainerStats stats;
  stats.cpu_ns = from.cpu_ns;
  stats.cpu_user_ns = from.cpu_user_ns;
  stats.cpu_system_ns = from.cpu_system_ns;
  stats.throttled_periods = from.throttled_periods;
  stats.throttled_ns = from.throttled_ns;
  stats.memory_bytes = from.memory_bytes;
  stats.memory_working_set_bytes = from.memory_working_set_bytes;
  stats.memory_limit_bytes = from.memory_limit_bytes;
  stats.memory_rss_bytes = raw(from, "total_rss", "anon");
  stats.memory_cache_bytes = raw(from, "total_cache", "file");
  stats.memory_failures = from.memory_failures;
  stats.page_faults = raw(from, "total_pgfault", "pgfault");
  stats.swap_bytes = from.swap_bytes;
  stats.oom_kills = from.oom_kills;
  stats.pids = from.pids;
  stats.pids_limit = from.pids_limit;
  stats.io_read_bytes = sum(from.io_bytes, "Read");
  stats.io_write_bytes = sum(from.io_bytes, "Write");
  stats.io_reads = sum(from.io_operations, "Read");
  stats.io_writes = sum(from.io_operations, "Write");
  return stats;
}
}  // namespace

void RealPodRuntime::tell(RuntimeEvent::Kind kind, const std::string& pod, const std::string& container,
                          std::optional<int> exit_code) const {
  RuntimeEvent event;
  event.kind = kind;
  event.wall_ns = engine_.clock().now().wall_ns;
  event.pod = pod;
  event.container = container;
  event.exit_code = exit_code;
  events_->add(std::move(event));
}

std::shared_ptr<Pod> RealPodRuntime::new_pod(std::string directory, PodSandboxConfig config) {
  auto pod = std::make_shared<Pod>(engine_, std::move(directory), std::move(config));
  const std::weak_ptr<RealPodRuntime> weak = weak_from_this();
  pod->on_change = [weak, uid = pod->uid()](const wire::ContainerRecord& record) {
    const auto self = weak.lock();
    if (!self) return;
    using Kind = RuntimeEvent::Kind;
    const std::string id(record.id, strnlen(record.id, sizeof record.id));
    if (record.phase == wire::Phase::created) self->tell(Kind::created, uid, id);
    if (record.phase == wire::Phase::running) self->tell(Kind::started, uid, id);
    if (record.phase != wire::Phase::exited) return;
    if (record.oom_killed != 0) self->tell(Kind::oom, uid, id);
    self->tell(Kind::exited, uid, id, record.known != 0 ? std::optional<int>(record.code) : std::nullopt);
  };
  return pod;
}

Result<std::string> RealPodRuntime::running_group(const std::string& pod_uid, const std::string& id) const {
  ORC_ASSIGN(const auto pod, require(pod_uid));
  ORC_ASSIGN(const ContainerStatus status, pod->status(id));
  if (status.state != ContainerState::running && status.state != ContainerState::created)
    return Error(Error::conflict, kDomain, "container " + id + " is not running");
  if (!cgroups_) {
    return Error(Error::unsupported, kDomain,
                 "container " + id + ": there are no cgroups at this isolation level; use level full");
  }
  return container_group(*pod, id);
}

Pending<void> RealPodRuntime::update_container(std::string pod_uid, std::string id,
                                               ContainerSpec::Resources resources) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
                               resources = std::move(resources)]() -> Result<void> {
    ORC_ASSIGN(const std::string group, self->running_group(uid, id));
    std::vector<std::string> missing;
    ORC_TRY(self->cgroups_->update(group, resources, missing));
    if (!missing.empty())
      return Error(Error::unsupported, kDomain, "container " + id + ": " + missing.front());
    self->tell(RuntimeEvent::Kind::updated, uid, id);
    return {};
  });
}

namespace {
/// Without a quota the old one goes; a memory limit only changes (the API never takes one away).
ContainerSpec::Resources whole_limits(const ResourceLimits& limits) {
  ContainerSpec::Resources out;
  if (limits.cpu_shares > 0) out.cpu_shares = static_cast<std::uint64_t>(limits.cpu_shares);
  out.cpu_quota = limits.cpu_quota_us > 0 ? limits.cpu_quota_us : -1;
  out.cpu_period = static_cast<std::uint64_t>(limits.cpu_period_us);
  if (limits.memory_bytes > 0) out.memory_limit = limits.memory_bytes;
  out.check_before_update = true;
  return out;
}
}  // namespace

Pending<void> RealPodRuntime::update_limits(std::string pod_uid, std::string id, ResourceLimits limits) {
  if (!id.empty()) return update_container(std::move(pod_uid), std::move(id), whole_limits(limits));
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), limits]() -> Result<void> {
        ORC_ASSIGN(const auto pod, self->require(uid));
        if (!self->cgroups_) {
          return Error(Error::unsupported, kDomain,
                       "pod " + uid + ": there are no cgroups at this isolation level; use level full");
        }
        std::vector<std::string> missing;
        ORC_TRY(self->cgroups_->update(pod->group(), whole_limits(limits), missing));
        if (!missing.empty())
          return Error(Error::unsupported, kDomain, "pod " + uid + ": " + missing.front());
        return {};
      });
}

Pending<void> RealPodRuntime::freeze_container(std::string pod_uid, std::string id, bool frozen) {
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id), frozen]() -> Result<void> {
        ORC_ASSIGN(const std::string group, self->running_group(uid, id));
        ORC_TRY(self->cgroups_->freeze(group, frozen, kFreezeDeadline));
        self->tell(frozen ? RuntimeEvent::Kind::paused : RuntimeEvent::Kind::resumed, uid, id);
        return {};
      });
}

void RealPodRuntime::thaw(const Pod& pod, const std::string& id) const {
  if (!cgroups_) return;
  const std::string group = container_group(pod, id);
  if (cgroups_->frozen(group)) (void)cgroups_->freeze(group, false, kFreezeDeadline);
}

bool RealPodRuntime::is_frozen(const std::string& pod_uid, const std::string& id) const {
  const auto pod = find(pod_uid);
  return pod && cgroups_ && cgroups_->frozen(container_group(*pod, id));
}

Pending<void> RealPodRuntime::resize_container(std::string pod_uid, std::string id, std::uint16_t columns,
                                               std::uint16_t rows) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
                               columns, rows]() -> Result<void> {
    ORC_ASSIGN(const auto pod, self->require(uid));
    ORC_TRY(pod->status(id));
    ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
    const auto size = static_cast<std::uint32_t>(columns) << 16 | rows;
    ORC_TRY(shim.call(wire::Op::resize, id_request(id, size), kResizeDeadline));
    return {};
  });
}

Pending<ContainerStats> RealPodRuntime::stats(std::string pod_uid, std::string id) {
  if (!cgroups_) {
    return usage(std::move(pod_uid), std::move(id))
        .then([](Result<ContainerUsage> usage) -> Result<ContainerStats> {
          if (!usage) return usage.error();
          ContainerStats stats;
          stats.cpu_ns = usage->cpu_ns;
          stats.memory_bytes = usage->memory_bytes;
          stats.memory_working_set_bytes = usage->memory_working_set_bytes;
          stats.pids = usage->pids;
          return stats;
        });
  }
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id)]() -> Result<ContainerStats> {
        ORC_ASSIGN(const std::string group, self->running_group(uid, id));
        ORC_ASSIGN(const CgroupStats stats, self->cgroups_->stats(group));
        return public_stats(stats);
      });
}

}  // namespace orchestra::runtime
