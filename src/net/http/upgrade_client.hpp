#pragma once
// The client's side of an upgrade: a request whose answer 101 leaves the connection to the caller as bytes.
#include <memory>

#include "api/pod_streams.hpp"
#include "base/http_client.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::http {

class ClientPool;

struct UpgradeAnswer {
  HttpResponse response;                 ///< with the body where there was no upgrade
  std::shared_ptr<DuplexStream> stream;  ///< null: the server answered something else than 101
};

/// Each upgrade has a connection of its own; those of one client share what was read of certificates.
class UpgradeClient {
 public:
  explicit UpgradeClient(Engine& engine);
  /// `request` holds the fields Upgrade, Connection and what else the protocol wants.
  Pending<UpgradeAnswer> open(HttpRequest request);

 private:
  Engine& engine_;
  std::shared_ptr<ClientPool> pool_;
};

}  // namespace orchestra::http
