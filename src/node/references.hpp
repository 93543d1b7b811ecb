#pragma once
// ConfigMaps or Secrets that pods of this node name.
//
// An agent in the process of its API server reads them all through one informer, which costs nothing there.
// An agent elsewhere has the rights of a node: it may read only what its pods name (the Node authorizer), so
// each object gets an informer of its own at the first question, kept as long as somebody asks for it.
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "orchestra/informer.hpp"

namespace orchestra::node {

class References {
 public:
  /// Nobody has asked for so long (workers ask each minute for what their volumes show): forgotten.
  static constexpr Duration kForgetAfter = std::chrono::minutes(5);

  References(Engine& engine, Client client, ResourceRef resource, bool one_by_one);
  ~References();  ///< stop()
  /// Before start(): called on event threads with each change.
  void on_event(InformerCore::Handler handler);
  Result<void> start();
  Pending<void> wait_synced();
  void stop();
  /// Empty: there is none. Where objects are read one by one the first question waits for the answer: not on
  /// an event thread. `unavailable`: the server could not be asked.
  Result<Object> get(const std::string& ns, const std::string& name);
  /// Ends informers that nobody asks any more; not on an event thread.
  void forget_unused();
  std::size_t followed() const;

 private:
  struct Followed {
    std::shared_ptr<InformerCore> informer;
    std::int64_t asked_ns = 0;  ///< steady
  };
  Engine& engine_;
  const Client client_;
  const ResourceRef resource_;
  const std::unique_ptr<InformerCore> all_;  ///< null: one by one
  InformerCore::Handler handler_;
  mutable std::mutex mutex_;
  std::map<ObjectKey, Followed> followed_;
  bool stopped_ = false;
};

}  // namespace orchestra::node
