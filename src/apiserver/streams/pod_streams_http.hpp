#pragma once
// Logs, exec, attach and port-forward over HTTP: chunked text, or an upgraded connection.
#include "apiserver/core.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {

/// Answers a request on log, exec, attach or portforward of a pod.
void serve_pod_stream(ApiCore& core, Call call, const HttpServerRequest& request,
                      std::shared_ptr<HttpResponder> responder);

}  // namespace orchestra::apiserver
