#pragma once
// HttpClient: requests over HTTP/1.1 for shells that are not about HTTP (registries, probes, remote
// API servers). Implemented in src/net/http. And Spawner, StepRunner, PodDialer: the other seams where
// shells meet (DESIGN.md section 7).
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct TlsOptions {
  bool verify = true;
  std::string ca_pem;           ///< empty: the system's bundle
  std::string certificate_pem;  ///< client certificate chain
  std::string key_pem;
  std::string server_name;  ///< SNI and verification; empty: the URL's host
};
struct HttpRequest {
  std::string method = "GET";
  std::string url;  ///< http://, https://; unix sockets: "unix:/path/sock:/uri"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  /// A body too large for memory: called until it gives an empty string; needs body_size.
  std::function<Result<std::string>()> body_source;
  std::optional<std::uint64_t> body_size;
  TlsOptions tls;
  Duration connect_deadline = std::chrono::seconds(10);
  Duration header_deadline = std::chrono::seconds(30);
  Duration stall_deadline = std::chrono::seconds(30);  ///< no byte for so long
  Duration total_deadline = std::chrono::hours(24);
  std::uint64_t body_bytes_max = 64 << 20;  ///< of the answer, when it is collected
  int redirects_max = 0;
  /// Connects here instead of to the URL's host (probes into pods).
  std::string connect_address;
  /// Answer body chunks as they come (called in order from one thread); the body is then not collected.
  /// An error ends the transfer.
  std::function<Result<void>(std::string_view)> on_body;
  /// Called once before the first body byte.
  std::function<Result<void>(int status, const std::map<std::string, std::string>& headers)> on_headers;
};
struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< names in lower case; repeated ones joined by ", "
  std::string body;
  std::string url;  ///< after redirects
};
/// The typed extra of errors of HttpClient: whether the server may have seen the request.
struct HttpFailure {
  bool sent = false;
};
/// One WebSocket (RFC 6455), the client's side: whole messages in order, until one end closes. Pings
/// are answered and sent; an end that is silent for too long counts as closed. Dropping it closes it.
class ORC_API WebSocket {
 public:
  virtual ~WebSocket() = default;
  /// Queues one message; `overloaded` when queue_bytes_max wait, `unavailable` when closed.
  virtual Result<void> send(std::string message) = 0;
  virtual void close() = 0;
};
/// Called in order from one thread at a time; must not block. Calls that are under way when close() is
/// called may still arrive.
struct WebSocketHandler {
  std::function<void(std::string message)> on_message;
  std::function<void(const Error& why)> on_closed;
  bool binary = false;                    ///< send() makes binary messages, not text
  std::size_t queue_bytes_max = 4 << 20;  ///< that may wait to be sent
};
class ORC_API HttpClient {
 public:
  virtual ~HttpClient() = default;
  /// An HTTP status of 400 and more is an answer, not an error. Blocks no event thread.
  virtual Pending<HttpResponse> send(HttpRequest request) = 0;
  /// Opens a WebSocket at an http, https or unix URL. A server that answers otherwise than by 101 is
  /// `unsupported`, with its status and the beginning of its answer.
  virtual Pending<std::shared_ptr<WebSocket>> open_web_socket(HttpRequest request, WebSocketHandler handler) {
    (void)handler;
    return Error(Error::unsupported, "http", "this HTTP client opens no WebSockets: " + request.url);
  }
};

/// Starts programs by clone3 with a pidfd; no SIGCHLD, no fork of host memory.
struct SpawnRequest {
  std::vector<std::string> args;  ///< args[0] is a path, or looked up in PATH
  std::vector<std::string> env;
  std::string input;
  std::string working_directory;
  Duration deadline = std::chrono::seconds(30);
  std::size_t output_bytes_max = 64 << 10;
};
struct SpawnResult {
  int exit_code = 0;  ///< 128+n for signal n
  std::string output, errors;
  bool truncated = false;
};
class ORC_API Spawner {
 public:
  virtual ~Spawner() = default;
  virtual Pending<SpawnResult> run(SpawnRequest request) = 0;
};

class Engine;
/// The Spawner of this machine; `engine` must outlive it.
ORC_API std::shared_ptr<Spawner> make_spawner(Engine& engine);

/// Runs one build or pipeline step in a container over a ready root (image builder -> runtime).
struct StepMount {
  std::string source, target;
  bool read_only = false;
};
struct StepRequest {
  std::string id;
  std::string root_directory;  ///< used when lower is empty
  std::string layers_directory;
  std::vector<std::string> overlay_lower;  ///< top first
  std::string overlay_upper, overlay_work;
  std::vector<std::string> args, env;
  std::string cwd = "/";
  std::uint32_t uid = 0, gid = 0;
  std::vector<StepMount> mounts;
  bool network = false;  ///< false: an empty network namespace (or, at level process, the machine's)
  Duration deadline = std::chrono::hours(1);
  std::function<void(std::string_view)> on_output;
};
struct StepResult {
  int exit_code = 0;
  std::string output;  ///< the last 64 KiB
};
class ORC_API StepRunner {
 public:
  virtual ~StepRunner() = default;
  virtual Pending<StepResult> run(StepRequest request) = 0;
};

/// A connected TCP socket into a pod's network namespace (also to its 127.0.0.1).
class ORC_API PodDialer {
 public:
  virtual ~PodDialer() = default;
  virtual Pending<std::shared_ptr<Fd>> dial(std::string pod_uid, std::string address, int port,
                                            Duration deadline) = 0;
};

}  // namespace orchestra
