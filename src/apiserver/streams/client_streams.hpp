#pragma once
// The client's side of exec, attach and port-forward, for RemoteClient: on any Kubernetes, ours included.
//
// exec and attach go over a WebSocket with v5.channel.k8s.io, or v4, which has no way to say that the input
// ended. A forwarded connection is a pair of SPDY streams, in a WebSocket (servers since 1.31) or on the
// connection itself.
#include <memory>
#include <string>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

/// `stream` is an upgraded connection; `half_close`: v5 was agreed on.
std::shared_ptr<ProcessStream> make_remote_process(Engine& engine, std::shared_ptr<DuplexStream> stream,
                                                   bool half_close);

/// `carrier` carries SPDY frames.
std::shared_ptr<DuplexStream> make_remote_forward(Engine& engine, std::shared_ptr<DuplexStream> carrier,
                                                  int port);

/// How a command ended, from the Status on the error channel.
ProcessChunk exit_of_status(const std::string& status_json);

}  // namespace orchestra::apiserver
