#pragma once
// StoreServer and StoreClient: a StateStore over the network (`orchestra://HOST:PORT`).
//
// The server offers any StateStore on a socket; the client is a StateStore that asks one of several servers
// and goes on with the next one when it breaks off. What may have been applied when a connection breaks is
// `unknown_outcome` and never sent again; reads are. Watches go on after the last revision they delivered.
// Since 0.2.
#include <memory>
#include <string>
#include <vector>

#include "orchestra/raft_store.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

class ORC_API StoreServer {
 public:
  struct Options {
    std::string listen = "127.0.0.1:2390";  ///< port 0 takes a free one
    /// Clients must then use TLS and show a certificate of the same authority.
    StoreTls tls = {};
    /// Without TLS any other address than the loopback must be asked for.
    bool insecure = false;
    std::size_t clients_max = 4096;
    std::size_t calls_max = 65'536;  ///< under way per client; more answers `overloaded`
  };
  StoreServer(Engine& engine, std::shared_ptr<StateStore> store, Options options);
  ~StoreServer();  ///< stop()
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;
  /// `busy` when the address is taken; `denied` for another address than the loopback without TLS and without
  /// `insecure`; `invalid` names what is wrong with the certificates.
  Result<void> start();
  /// Closes the connections; calls under way are not waited for.
  void stop();
  /// host:port, with the real port.
  std::string address() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

struct StoreClientOptions {
  std::vector<std::string> endpoints;                ///< "HOST:PORT" or "orchestra://HOST:PORT"
  Duration call_deadline = std::chrono::seconds(5);  ///< reads are tried again until then
  StoreTls tls = {};                                 ///< where the servers want it
};

class ORC_API StoreClient {
 public:
  /// Does not wait for a connection: calls do. The result is also a StoreMembers. The engine must outlive it.
  static Result<std::shared_ptr<StateStore>> connect(Engine& engine, StoreClientOptions options);
};

}  // namespace orchestra
