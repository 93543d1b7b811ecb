#pragma once
// NetworkFeed: keeps a NetworkSnapshot current from an API server.
//
// One informer per kind feeds it. Changes are folded: the first one starts a build at once on a worker,
// those that come meanwhile wait for the next build (1 ms later at the earliest). Subscribers get every
// new snapshot in order, each of them on the building worker, one call at a time; slow work belongs
// elsewhere. A snapshot is published from the first change on: look at its `synced` flags. Since 0.1.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"

namespace orchestra {

struct NetworkFeedOptions {
  /// Level process: the ranges of pods and Services in 127/8.
  std::vector<std::string> loopback_ranges = {};
  bool ingresses = true;          ///< Ingresses, their classes and TLS Secrets
  bool network_policies = false;  ///< only where the API server has the kind
};

class ORC_API NetworkFeed {
 public:
  using Subscriber = std::function<void(std::shared_ptr<const NetworkSnapshot>)>;
  static Result<std::shared_ptr<NetworkFeed>> start(Engine& engine, Client client,
                                                    NetworkFeedOptions options = {});
  virtual ~NetworkFeed() = default;
  /// Told the newest snapshot at once if there is one. Subscribers live as long as the feed.
  virtual void subscribe(Subscriber subscriber) = 0;
  /// nullptr before the first one.
  virtual std::shared_ptr<const NetworkSnapshot> latest() const = 0;
  /// Done with the first snapshot whose Services, EndpointSlices, pods and namespaces are complete.
  virtual Pending<void> wait_synced() = 0;
  /// No subscriber is called when this has returned. Not from a subscriber. Twice is fine.
  virtual void stop() = 0;
};

}  // namespace orchestra
