#pragma once
// SchedulerPlugin: rules of the host beside the builtin ones, at the extension points of kube-scheduler's
// framework (kubernetes/pkg/scheduler/framework/interface.go).
//
//   class Cheapest : public orchestra::SchedulerPlugin {
//     std::string name() const override { return "Cheapest"; }
//     bool scores() const override { return true; }
//     std::int64_t score(const PodShape&, const NodeView& node) override { return 100 - price_of(node.shape);
//     }
//   };
//   SchedulerOptions options;
//   options.plugins.push_back(std::make_shared<Cheapest>());
//
// A plugin that throws, answers nonsense (a score outside of 0..100) or overruns its deadline fails the pod
// at hand, which is tried again after its back-off with an Event that names the plugin; the scheduler goes
// on. Since 0.1.
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/result.hpp"
#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra {

/// One node as a plugin sees it. Valid during the call.
struct NodeView {
  const NodeShape& shape;
  const Amounts& used;  ///< sum of requests of the pods there; "pods" is their number
};

struct PermitAnswer {
  enum class Kind : std::uint8_t { allow, deny, wait };
  Kind kind = Kind::allow;
  std::string reason;                    ///< of deny
  std::chrono::milliseconds timeout{0};  ///< of wait: then the pod is refused
};

/// Calls come one at a time, on worker threads of the engine (place() calls on the caller's), never on two
/// threads at once for one scheduler. Keep what is passed by reference no longer than the call.
class ORC_API SchedulerPlugin {
 public:
  virtual ~SchedulerPlugin() = default;
  virtual std::string name() const = 0;
  /// Weight of the score, 1..100; used when the profile names none.
  virtual std::int64_t weight() const { return 1; }

  /// Which points it wants to be asked at.
  virtual bool filters() const { return false; }
  virtual bool scores() const { return false; }

  /// nullopt: the node will do; else the reason, counted in the pod's message.
  virtual std::optional<std::string> filter(const PodShape& pod, const NodeView& node) {
    (void)pod, (void)node;
    return std::nullopt;
  }
  /// 0..100 for a node that passed all filters.
  virtual std::int64_t score(const PodShape& pod, const NodeView& node) {
    (void)pod, (void)node;
    return 0;
  }
  /// The pod is about to be bound to the node: claim what it needs. An error fails the attempt.
  virtual Result<void> reserve(const PodShape& pod, const std::string& node) {
    (void)pod, (void)node;
    return {};
  }
  /// Takes reserve() back; also called for plugins whose reserve() was not reached. Must not fail.
  virtual void unreserve(const PodShape& pod, const std::string& node) { (void)pod, (void)node; }
  /// The last word before binding. After `wait`, Scheduler::allow() or reject() decides, or the timeout does.
  virtual PermitAnswer permit(const PodShape& pod, const std::string& node) {
    (void)pod, (void)node;
    return {};
  }
  /// Work that has to be done before the binding is written; may take longer than the other points.
  virtual Result<void> pre_bind(const PodShape& pod, const std::string& node) {
    (void)pod, (void)node;
    return {};
  }
};

}  // namespace orchestra
