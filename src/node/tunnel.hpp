#pragma once
// The agent's end of the node tunnel: dials the API server and stays connected.
//
// What the server asks for on it (logs, exec, attach, port-forward of pods of this node) is answered by the
// agent's own PodStreams; numbers go the other way. A connection that ends is made again, after 200 ms at
// first and up to 15 s later, with jitter, so that a thousand nodes do not come back at once.
#include <memory>
#include <mutex>
#include <string>

#include "api/tunnel/peer.hpp"
#include "base/http_client.hpp"
#include "orchestra/remote_client.hpp"

namespace orchestra::node {

class TunnelClient : public std::enable_shared_from_this<TunnelClient> {
 public:
  TunnelClient(Engine& engine, std::shared_ptr<HttpClient> http, RemoteClientOptions server, std::string node,
               std::shared_ptr<PodStreams> streams);
  void start();
  void stop();
  bool connected() const;
  void send_statistics(const tunnel::Statistics& statistics);

 private:
  void dial();
  void opened(const std::shared_ptr<tunnel::Peer>& peer, Result<std::shared_ptr<WebSocket>> socket);
  void lost(const std::shared_ptr<tunnel::Peer>& peer, const Error& why);
  void dial_later();

  Engine& engine_;
  const std::shared_ptr<HttpClient> http_;
  const RemoteClientOptions server_;
  const std::string node_;
  const std::shared_ptr<PodStreams> streams_;
  mutable std::mutex mutex_;
  std::shared_ptr<tunnel::Peer> peer_;  ///< of the connection that is open or being opened
  std::shared_ptr<WebSocket> socket_;
  Engine::TimerId timer_ = 0;
  int failures_ = 0;
  bool stopped_ = false;
};

}  // namespace orchestra::node
