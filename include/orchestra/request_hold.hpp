#pragma once
// RequestHold: whom the proxy asks when a request meets a Service that has no endpoint.
//
// A Service that is scaled to zero on purpose comes up on demand: its requests wait in the proxy, in order
// and bounded, until the first endpoint is ready, and demand() tells the autoscaler. Since 0.1.
#include <cstddef>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"

namespace orchestra {

/// Both are called on the proxy's threads and must not block.
class ORC_API RequestHold {
 public:
  virtual ~RequestHold() = default;
  /// True: requests for this Service wait while it has no endpoint. False: they get 503 at once.
  virtual bool holds(const NamespacedName& service) = 0;
  /// `waiting` requests of one of the proxy's workers wait for this Service now; 0 when the last has gone on.
  virtual void demand(const NamespacedName& service, std::size_t waiting) = 0;
};

}  // namespace orchestra
