#pragma once
// What a scheduler extender is told and what it says: the wire types of k8s.io/kube-scheduler/extender/v1.
// Pure.
//
// Upstream's types have no names of their own for JSON: keys are written as the fields are called
// ("NodeNames"), and read in whatever case, as Go does.
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "orchestra/scheduler.hpp"

namespace orchestra::sched {

/// The pod asks for, or is limited in, a resource that the extender manages.
bool is_interested(const SchedulerExtender& extender, const Object& pod);

/// ExtenderArgs of a filter or prioritize call. A node whose object is gone is left out of whole nodes.
std::string extender_args(const SchedulerExtender& extender, const Object& pod,
                          const std::vector<std::string>& nodes,
                          const std::function<Object(const std::string&)>& node_named);

/// ExtenderFilterResult.
struct ExtenderVerdict {
  std::vector<std::string> left;               ///< of those that it was asked about, in that order
  std::map<std::string, std::string> refused;  ///< all others, with the reason
};
Result<ExtenderVerdict> read_verdict(const SchedulerExtender& extender, std::string_view answer,
                                     const std::vector<std::string>& nodes);
/// HostPriorityList: 0..10 by node; nodes that it does not name have 0.
Result<std::map<std::string, std::int64_t>> read_priorities(std::string_view answer,
                                                            const std::vector<std::string>& nodes);
/// ExtenderBindingArgs and ExtenderBindingResult.
std::string extender_binding(const Object& pod, const std::string& node);
Result<void> read_binding(std::string_view answer);

}  // namespace orchestra::sched
