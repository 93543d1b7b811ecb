#pragma once
// What is true of the simulated cluster at each moment, kept by its events, and the invariants that must
// never break: docs/simulation.md lists them. Pure: objects in, numbers and broken rules out.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "orchestra/reconciler.hpp"
#include "orchestra/scheduling_snapshot.hpp"
#include "orchestra/simulator.hpp"

namespace orchestra::sim {

/// "shop/web" or "job/shop/once" as "deployment/shop/web", "job/shop/once".
std::string workload_key(const std::string& target);
/// nullopt: no such kind.
std::optional<ResourceRef> resource_of_workload(const std::string& key);

class Book {
 public:
  /// `view` shows what owns the pods.
  explicit Book(const View& view) : view_(view) {}

  void pod_changed(const Object& old, const Object& now, Duration at);
  void node_changed(const Object& old, const Object& now, Duration at);
  /// A ReplicaSet or Job: how many pods it may have.
  void owner_changed(const Object& old, const Object& now, Duration at);
  /// Any object: nobody may write it over and over.
  void written(const Object& now, Duration at);
  void serving(const Object& pod, bool serving);

  void fill(SimSample& sample) const;
  std::int64_t serving_of(const std::string& key) const;
  /// How many pods the workload should have; nullopt: it is not there.
  std::optional<std::int64_t> wanted_of(const std::string& key) const;
  /// Every pod that should run is Ready.
  bool settled() const { return pending_ == 0 && unready_ == 0 && ending_ == 0; }
  std::set<std::string> take_touched() { return std::exchange(touched_, {}); }
  /// Those of `pods` that belong to the workload.
  std::vector<Object> pods_of(const std::string& key, const std::vector<Object>& pods);

  void note(const std::string& line);  ///< into the hash
  std::uint64_t hash() const { return hash_; }
  std::vector<std::string>& violations() { return violations_; }
  const std::vector<std::string>& violations() const { return violations_; }
  std::uint64_t created = 0, bound = 0;

 private:
  struct Pod {
    std::string node;
    bool pending = false, ready = false, ending = false, done = false, failed = false, counted = false;
    std::string owner;  // UID of its controller while it stands for a replica
    Amounts requests;
    std::vector<PodPort> ports;
  };
  struct Node {
    NodeShape shape;
    bool ready = false;
    Amounts used;
    std::map<PodPort, std::string> ports;
  };
  struct Owner {
    std::string name;
    std::int64_t active = 0, wanted = 0, wanted_before = 0;
    bool known = false;
    Duration changed{};
  };
  struct Writes {  // of one object within one minute
    std::int64_t count = 0, replicas = 0;
    bool told = false;
  };
  void broke(const std::string& what, Duration at);
  void count(const Pod& pod, int by);
  void place(Pod& pod, const Object& object, Duration at);
  void leave(Pod& pod, const std::string& uid);
  std::string workload_of(const Object& pod);

  const View& view_;
  std::unordered_map<std::string, Pod> pods_;
  std::map<std::string, Node> nodes_;
  std::unordered_map<std::string, Owner> owners_;           // by UID
  std::unordered_map<std::string, std::string> workloads_;  // UID of a pod's controller -> key
  std::map<std::string, std::int64_t> serving_;             // by workload
  std::unordered_map<std::string, std::string> serves_;     // UID of a pod that serves -> workload
  std::unordered_map<std::string, Writes> writes_;          // by UID, of this minute
  std::int64_t minute_ = -1;
  std::set<std::string> touched_;
  std::int64_t total_ = 0, pending_ = 0, ready_ = 0, unready_ = 0, ending_ = 0, done_ = 0, failed_ = 0,
               serving_total_ = 0, nodes_ready_ = 0;
  std::uint64_t hash_ = 14695981039346656037ULL;
  std::vector<std::string> violations_;
};

/// "01:02:03.500"
std::string clock_text(Duration at);

}  // namespace orchestra::sim
