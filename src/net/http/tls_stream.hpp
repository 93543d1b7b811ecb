#pragma once
// TLS as a client over any DuplexStream, e.g. a connection that an agent has dialled into a pod.
//
// OpenSSL speaks to two buffers in memory; the bytes of those go over the stream below. The handshake is done
// before the stream is handed out. What reading makes to be sent (an answer to a new key) goes out with the
// next write, so that a read never writes beside a write.
#include <memory>
#include <string>

#include "net/http/tls_context.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/pod_streams.hpp"

namespace orchestra::http {

/// `context`: of a client. Fails with `unavailable` where the other side speaks no TLS, or as `below` does.
Pending<std::shared_ptr<DuplexStream>> open_tls_stream(Engine& engine, SharedTlsContext context,
                                                       std::shared_ptr<DuplexStream> below);

}  // namespace orchestra::http
