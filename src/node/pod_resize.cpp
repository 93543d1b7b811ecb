// Resources of a PodWorker: what the node promises when the pod comes, and in-place resize.
//
// Three things are kept apart, as upstream does (KEP-1287): what the spec wants, what the node has allocated
// (a file in the pod's folder, so a new agent goes on with it), and what each container runs with. The worker
// sees its pod with the allocated resources only; so a resize that is deferred changes nothing else.
//
// cgroup v1 refuses a child's quota above its parent's, and a parent's below a child's. So the pod's own
// limits are lifted before any of its containers gets others, be it in place or by a restart, and set when
// all have them.
#include <algorithm>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "node/pod_worker.hpp"
#include "node/static_pods.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr Duration kRuntimeDeadline = 120s;
constexpr Duration kApiDeadline = 10s;
constexpr Duration kDeferredRetry = 3s;  // others may have ended meanwhile
constexpr Duration kErrorRetry = 5s;
}  // namespace

Object PodWorker::allocate(const Object& pod) {
  const json::object wanted = resources_by_container(tree(pod));
  if (allocated_ == wanted) {
    resize_pending_.clear();
    resize_pending_why_.clear();
    return pod;
  }
  if (claim(pod)) {
    if (!allocated_.empty()) begin_resize(pod);
    keep_allocation(wanted);
    return pod;
  }
  if (!reason_.empty() || allocated_.empty()) return pod;
  auto seen = Object::from_json(to_json(with_resources(tree(pod), allocated_)));
  return seen ? *seen : pod;
}

// What our Node says of a new pod. Before a "no" by labels or taints, and where labels decide at all, the
// Node is read anew: the scheduler may have heard of a change before we did.
std::optional<Refusal> PodWorker::refusal_of_node(const Object& pod) const {
  const json::value& object = tree(pod);
  Object node = context_.known_node();
  const bool tainted = !is_static(pod) && refuse_taints(object, node);
  const bool by_labels =
      find(object, "/spec/nodeSelector") != nullptr || find(object, "/spec/affinity/nodeAffinity") != nullptr;
  if (context_.client && (tainted || by_labels)) {
    auto now = context_.client.get("v1", "nodes", context_.options.node_name).wait(kApiDeadline);
    if (now) node = *now;
  }
  if (node) {
    if (auto refused = refuse_labels(object, node)) return refused;
  }
  if (!context_.allocations.claim_ports(uid_, host_ports_of(object))) return ports_taken();
  return is_static(pod) ? std::nullopt : refuse_taints(object, node);
}

// True: what the pod asks for is promised. A new pod that does not fit has failed; a resize that does not
// fit waits.
bool PodWorker::claim(const Object& pod) {
  const bool fresh = allocated_.empty();
  const auto reject = [&](const Refusal& refused) {
    fail(pod, refused.reason, refused.message);
    message_ = "Pod was rejected: " + refused.message;
    return false;
  };
  if (fresh) {
    if (const auto refused = refuse_system(tree(pod))) return reject(*refused);
    if (const auto refused = refuse_network(tree(pod), context_.options.network_lacks))
      return reject(*refused);
  }
  std::string reason, why;
  if (!fresh && process_level()) {
    reason = "Infeasible";
    why = "In-place pod resize needs cgroups, and isolation level process has none";
  } else if (const auto short_of = context_.allocations.claim(uid_, requests_of(tree(pod)))) {
    if (fresh) return reject({short_of->reason(), short_of->text()});
    reason = short_of->never ? "Infeasible" : "Deferred";
    why = short_of->never ? short_of->capacity_text() : short_of->text();
    if (!short_of->never) wake_after(kDeferredRetry);
  }
  if (!reason.empty() && (resize_pending_ != reason || resize_pending_why_ != why))
    context_.event(pod, "Warning", "Resize" + reason, why);
  resize_pending_ = reason;
  resize_pending_why_ = why;
  if (!reason.empty()) return false;
  if (fresh) {
    if (const auto refused = refusal_of_node(pod)) return reject(*refused);
  }
  if (!fresh) context_.event(pod, "Normal", "ResizeStarted", "Pod resize started");
  return true;
}

void PodWorker::keep_allocation(json::object allocated) {
  allocated_ = std::move(allocated);
  auto kept = make_directories(directory(), 0750);
  if (kept) kept = replace_file(allocation_path(), to_json(allocated_), 0600, false);
  if (kept) return;
  context_.engine.log(LogLevel::warning, "node", "what a pod was allocated could not be kept",
                      {{"pod", uid_}, {"error", kept.error().to_string()}});
}

void PodWorker::begin_resize(const Object& pod) {
  const auto memory = [](const json::value& with) { return pod_limits(with, qos_class(with)).memory_bytes; };
  const std::int64_t before = memory(with_resources(tree(pod), allocated_)), after = memory(tree(pod));
  memory_meanwhile_ = before > 0 && after > 0 ? std::max(before, after) : 0;
  limits_due_ = true;
  lifted_ = resize_unsupported_ = false;
}

// The agent before may have been killed while it resized the pod.
void PodWorker::adopt_limits(const ResourceLimits& made_with) {
  if (!sandbox_ || process_level()) return;
  const json::value pod = with_resources(tree(pod_), allocated_);
  const ResourceLimits whole = pod_limits(pod, qos_class(pod));
  limits_due_ = whole.cpu_shares != made_with.cpu_shares || whole.cpu_quota_us != made_with.cpu_quota_us ||
                whole.memory_bytes != made_with.memory_bytes;
  memory_meanwhile_ = made_with.memory_bytes > 0 && whole.memory_bytes > 0
                          ? std::max(made_with.memory_bytes, whole.memory_bytes)
                          : 0;
  for (const auto& [name, slot] : slots_) {
    const json::value* has = allocated_.if_contains(name);
    if (has != nullptr && slot.current && slot.resources != *has) limits_due_ = true;
  }
}

void PodWorker::judge_resize(const Object& pod, const Result<void>& step) {
  if (step) return;
  resize_error_ = step.error().to_string();
  context_.event(pod, "Warning", "ResizeError", resize_error_);
  if (step.error().is(Error::unsupported)) {
    resize_unsupported_ = true;
  } else {
    wake_after(kErrorRetry);
  }
}

void PodWorker::lift_limits(const Object& pod) {
  if (resize_unsupported_) return;
  resize_error_.clear();
  if (!limits_due_ || lifted_) return;
  ResourceLimits lifted;
  lifted.cpu_shares = pod_limits(tree(pod), qos_class(tree(pod))).cpu_shares;
  lifted.memory_bytes = memory_meanwhile_;
  const auto done = context_.parts.runtime->update_limits(uid_, "", lifted).wait(kRuntimeDeadline);
  lifted_ = done.has_value();
  judge_resize(pod, done);
}

void PodWorker::resize_containers(const Object& pod) {
  std::vector<const json::value*> in_place;
  for (const char* where : {"/spec/initContainers", "/spec/containers"}) {
    const json::array* all = array_at(tree(pod), where);
    if (all == nullptr) continue;
    for (const json::value& spec : *all) {
      Slot& slot = slots_.at(string_at(spec, "/name"));
      if (slot.init && !slot.sidecar) continue;
      if (!slot.current || slot.current->state != ContainerState::running) continue;
      if (slot.resources.is_null() || slot.resources == resources_of(spec)) continue;
      if (slot.stopping) continue;
      if (!resize_restarts(spec, slot.resources, resources_of(spec))) {
        in_place.push_back(&spec);
        continue;
      }
      if (limits_due_ && !lifted_ && !resize_unsupported_) continue;  // its next start would be refused
      slot.restart_for_resize = true;
      const auto grace = std::chrono::seconds(int_at(tree(pod), "/spec/terminationGracePeriodSeconds", 30));
      stop_container(pod, slot, spec, grace, "Container " + slot.name + " resize requires restart");
      drive_stop(pod, slot);
    }
  }
  if (!in_place.empty() && !limits_due_) {
    limits_due_ = true;
    lift_limits(pod);
  }
  if (!in_place.empty() && lifted_ && !resize_unsupported_) judge_resize(pod, resize_in_place(pod, in_place));
  const bool was = std::exchange(resizing_, false);
  for (const auto& [name, slot] : slots_) {
    const json::value* wanted = allocated_.if_contains(name);
    const bool running = slot.current && slot.current->state == ContainerState::running;
    if (wanted != nullptr && running && !slot.resources.is_null() && slot.resources != *wanted)
      resizing_ = true;
    if (slot.restart_for_resize) resizing_ = true;
  }
  if (lifted_ && (!resizing_ || resize_unsupported_)) {
    const ResourceLimits whole = pod_limits(tree(pod), qos_class(tree(pod)));
    const auto set = context_.parts.runtime->update_limits(uid_, "", whole).wait(kRuntimeDeadline);
    limits_due_ = lifted_ = !set && !set.error().is(Error::unsupported);
    judge_resize(pod, set);
    if (!set) resizing_ = true;
  }
  if (was && !resizing_ && resize_pending_.empty())
    context_.event(pod, "Normal", "ResizeCompleted", "Pod resize completed");
}

Result<void> PodWorker::resize_in_place(const Object& pod, const std::vector<const json::value*>& changed) {
  const std::string qos = qos_class(tree(pod));
  Result<void> result;
  for (const json::value* spec : changed) {
    Slot& slot = slots_.at(string_at(*spec, "/name"));
    const ResourceLimits limits = limits_of(*spec, qos, context_.memory_bytes);
    auto done = context_.parts.runtime->update_limits(uid_, slot.current->id, limits).wait(kRuntimeDeadline);
    if (!done) {
      result = done.error().with_context("container " + slot.name);
      continue;
    }
    std::lock_guard lock(mutex_);
    slot.resources = resources_of(*spec);
  }
  return result;
}

}  // namespace orchestra::node
