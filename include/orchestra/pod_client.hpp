#pragma once
// PodClient: what runs in pods, through any Client: logs, commands, connections, and the requests that go
// with them. In process nothing is copied over a socket; a RemoteClient uses the protocols of kubectl. Since
// 0.1.
#include <memory>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/pod_streams.hpp"

namespace orchestra {

/// One pod. `container` may stay empty where the pod has one, or names its default by annotation.
struct PodName {
  std::string ns, name;
  std::string container = {};
};
struct AccountToken {
  std::string token;
  std::string expires;  ///< RFC 3339
};

/// Any thread. Errors carry the Status of the server, as those of Client.
class ORC_API PodClient {
 public:
  explicit PodClient(Client client) : client_(std::move(client)) {}

  Pending<std::shared_ptr<ByteStream>> log(const PodName& pod, const LogOptions& options = {}) const;
  /// Runs a command; with an empty one `invalid`. Read until the chunk with the exit.
  Pending<std::shared_ptr<ProcessStream>> exec(const PodName& pod, const ExecOptions& options) const;
  /// Joins the main process; ExecOptions::command is not looked at.
  Pending<std::shared_ptr<ProcessStream>> attach(const PodName& pod, const ExecOptions& options) const;
  /// One connection to a port of the pod. That nobody listens there may show at the first read only.
  Pending<std::shared_ptr<DuplexStream>> port_forward(const PodName& pod, int port) const;
  /// Deletes the pod unless a disruption budget forbids it (429, `overloaded`).
  Pending<void> evict(const PodName& pod, const DeleteOptions& options = {}) const;
  /// A token of a service account; empty audiences: the server's.
  Pending<AccountToken> token(const std::string& ns, const std::string& account,
                              const std::vector<std::string>& audiences = {},
                              std::int64_t expiration_seconds = 3600) const;

 private:
  Client client_;
};

}  // namespace orchestra
