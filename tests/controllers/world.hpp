#pragma once
// A cluster in a few maps, for tests of pure controllers: objects by resource, and actions applied to them
// the way the API server would (uids, revisions, generations, preconditions, finalizers), in virtual time.
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "controllers/common/observations.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::test {

using controllers::Observations;

class World : public View {
 public:
  const ObjectCache* cache(const ResourceRef& resource) const override;
  ObjectCache& objects(const ResourceRef& resource);

  /// Stores an object as it is; missing uid, resourceVersion and creationTimestamp are filled in.
  Object add(Object object);
  /// As a user's edit: the spec may change, so the generation rises.
  void edit(const ResourceRef& resource, const std::string& ns, const std::string& name,
            const std::function<void(json::value&)>& change);
  /// A write of the status only.
  void edit_status(const ResourceRef& resource, const Object& object,
                   const std::function<void(json::value& status)>& change);
  void erase(const ResourceRef& resource, const Object& object);

  /// Applies actions in order; the first that fails ends it.
  Result<void> apply(const Actions& actions);
  /// Applies at most `count` of the actions: a stop between two writes.
  Result<void> apply_some(const Actions& actions, std::size_t count);
  /// Decides on every key of a reconciler's first source until nothing changes; bounded.
  void settle(const std::vector<std::shared_ptr<const Reconciler>>& reconcilers, int rounds = 50);

  Now now() const { return {wall_ns, wall_ns - stepped_ns}; }
  std::int64_t wall_ns = 1'767'225'600'000'000'000;  // 2026-01-01T00:00:00Z
  std::int64_t stepped_ns = 0;                       ///< by how much the wall clock has been set so far

  /// Stores a version as a watch brings it, for observe().
  void see(const Object& object);
  /// The controllers' program begins anew: it sees everything for the first time.
  void restart();
  /// View::observed() tells what a runner of these sources would have observed of see() so far.
  void observe(const std::vector<Source>& sources);
  std::optional<Observed> observed(const ResourceRef& resource, const ObjectKey& key) const override {
    return observations_.find(resource, key);
  }
  std::uint64_t writes = 0;
  std::vector<std::string> events;
  bool pods_linger = false;  ///< deleted pods stay terminating until finish_pods()
  void finish_pods();

 private:
  Result<void> apply(const Action& action);
  struct Seen {
    Object old, now;
    Now at;
  };
  std::map<ResourceRef, std::unique_ptr<ObjectCache>> caches_;
  std::vector<Seen> history_;
  Observations observations_;
  std::uint64_t revision_ = 100;
  std::uint64_t next_uid_ = 1;
};

/// An object from one line of the scenario language; see scenario.cpp.
Object object_from_line(const std::string& line);
ResourceRef resource_of_object(const Object& object);

}  // namespace orchestra::test
