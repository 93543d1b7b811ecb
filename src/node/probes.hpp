#pragma once
// Probes: startup, readiness and liveness of one running container.
//
// ProbeCounter is pure: results in, verdict changes out (thresholds as in Kubernetes). ContainerProbes runs
// the probes of one container by timers; the probe itself blocks on a worker (exec, tcp) or waits for the
// HTTP client. Startup holds the others back; readiness is false until its first success; liveness is true
// until it fails. Nothing is reported after stop().
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "api/pod_runtime.hpp"
#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::node {

enum class ProbeKind : std::uint8_t { startup, readiness, liveness };
const char* to_string(ProbeKind kind);

struct ProbeSpec {
  Duration initial_delay{}, period = std::chrono::seconds(10), timeout = std::chrono::seconds(1);
  int success_threshold = 1, failure_threshold = 3;
  static ProbeSpec from(const json::value& probe);
};

class ProbeCounter {
 public:
  ProbeCounter(ProbeKind kind, const ProbeSpec& spec) : spec_(spec), verdict_(kind == ProbeKind::liveness) {}
  /// Takes one result; true if the verdict was decided anew (changed, or a threshold of failures was met).
  bool add(bool success);
  bool verdict() const { return verdict_; }
  bool decided() const { return decided_; }

 private:
  ProbeSpec spec_;
  int successes_ = 0, failures_ = 0;
  bool verdict_;
  bool decided_ = false;
};

struct ProbeTarget {
  std::string pod_uid, container_id, ip;
  json::value container;  ///< its spec: probes and named ports
};
struct ProbeReport {
  ProbeKind kind = ProbeKind::readiness;
  bool success = false;  ///< of this attempt
  bool decided = false;  ///< a threshold was reached
  std::string message;   ///< of a failure
};

class ContainerProbes : public std::enable_shared_from_this<ContainerProbes> {
 public:
  using Report = std::function<void(ProbeReport)>;  ///< any thread
  ContainerProbes(Engine& engine, std::shared_ptr<PodRuntime> runtime, std::shared_ptr<HttpClient> http,
                  ProbeTarget target, Report report);
  void start();
  void stop();
  /// Waits until no probe is under way; after stop(), not from a report.
  void drain();
  /// Termination: liveness and startup stop, readiness goes on.
  void only_readiness();

 private:
  struct Entry {
    ProbeSpec spec;
    ProbeCounter counter;
    Engine::TimerId timer = 0;
    bool active = true;
  };
  void arm(ProbeKind kind, Duration delay);
  void fire(ProbeKind kind);
  void finish(ProbeKind kind, bool success, std::string message);
  void finish(ProbeKind kind, const std::string& why);
  void run_exec(ProbeKind kind, const json::value& action, Duration timeout);
  void run_http(ProbeKind kind, const json::value& action, Duration timeout);
  void run_grpc(ProbeKind kind, const json::value& action, Duration timeout);
  void run_tcp(ProbeKind kind, const json::value& action, Duration timeout);

  Engine& engine_;
  /// Weak: a probe that the runtime still holds must not hold the runtime.
  std::weak_ptr<PodRuntime> runtime_;
  std::shared_ptr<HttpClient> http_;
  ProbeTarget target_;
  Report report_;
  std::mutex mutex_;
  std::map<ProbeKind, Entry> entries_;
  bool stopped_ = false;
  std::size_t in_flight_ = 0;
  std::condition_variable idle_;
};

/// A port number, or the containerPort of that name; 0 if there is none.
int resolve_port(const json::value& container, const json::value* port);
/// A connected, non-blocking socket; none: `why` says what went wrong.
Fd connect_within(const std::string& ip, int port, Duration timeout, std::string& why);
/// Connects within `timeout`; empty if it worked, else why not.
std::string try_connect(const std::string& ip, int port, Duration timeout);
/// GET of an httpGet action; used by probes and lifecycle hooks.
HttpRequest make_http_request(const json::value& container, const json::value& action, const std::string& ip,
                              Duration timeout);

}  // namespace orchestra::node
