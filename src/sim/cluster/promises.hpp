#pragma once
// What an API server and its controllers promise about many objects at once, and whether they keep it:
// quotas, disruption budgets, endpoints. Pure: objects in, broken promises out.
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestra/reconciler.hpp"
#include "orchestra/scheduling_snapshot.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::sim {

class Promises {
 public:
  struct Hooks {
    std::function<std::vector<Object>(const std::string& ns)> pods;  ///< as they are now
    std::function<void(const std::string& what, Duration at)> broke;
  };
  explicit Promises(Hooks hooks) : hooks_(std::move(hooks)) {}

  void pod_changed(const Object& old, const Object& now, Duration at);
  void quota_changed(const Object& old, const Object& now, Duration at);
  void budget_changed(const Object& old, const Object& now, Duration at);

 private:
  struct Quota {
    Amounts hard;
    Duration changed{};
  };
  // Of a namespace with a quota.
  struct Space {
    std::map<std::string, Quota> quotas;
    std::map<std::string, Amounts> pods;  // by UID; what each counts for
    Amounts used;
  };
  struct Budget {
    Selector selector;
    std::set<std::string> disrupted;
    Duration lost = Duration::min();  // when a pod of it was lost otherwise
  };
  void count(Space& space, const std::string& uid, Amounts amounts);
  static Amounts amounts_of(const Object& pod);

  const Hooks hooks_;
  std::map<std::string, Space> spaces_;                           // by namespace
  std::map<std::string, std::map<std::string, Budget>> budgets_;  // by namespace, by name
};

/// Services whose EndpointSlices list other pods as ready than those that are: one line each.
std::vector<std::string> wrong_endpoints(const std::vector<Object>& services,
                                         const std::vector<Object>& slices, const std::vector<Object>& pods);

}  // namespace orchestra::sim
