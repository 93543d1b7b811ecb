#include "node/probes.hpp"

#include "node/grpc_health.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/fd.hpp"

namespace orchestra::node {

namespace {
constexpr std::size_t kOutputBytesMax = 1 << 10;  // of a failed exec probe, in events
constexpr std::size_t kBodyBytesMax = 10 << 10;

const char* field_of(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::startup:
      return "/startupProbe";
    case ProbeKind::readiness:
      return "/readinessProbe";
    case ProbeKind::liveness:
      return "/livenessProbe";
  }
  return "";
}
}  // namespace

const char* to_string(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::startup:
      return "Startup";
    case ProbeKind::readiness:
      return "Readiness";
    case ProbeKind::liveness:
      return "Liveness";
  }
  return "";
}

ProbeSpec ProbeSpec::from(const json::value& probe) {
  ProbeSpec out;
  const auto seconds = [&](const char* at, std::int64_t other, std::int64_t least) {
    return std::chrono::seconds(std::max(least, int_at(probe, at, other)));
  };
  out.initial_delay = seconds("/initialDelaySeconds", 0, 0);
  out.period = seconds("/periodSeconds", 10, 1);
  out.timeout = seconds("/timeoutSeconds", 1, 1);
  out.success_threshold = static_cast<int>(std::max<std::int64_t>(1, int_at(probe, "/successThreshold", 1)));
  out.failure_threshold = static_cast<int>(std::max<std::int64_t>(1, int_at(probe, "/failureThreshold", 3)));
  return out;
}

bool ProbeCounter::add(bool success) {
  if (success) {
    failures_ = 0;
    if (++successes_ < spec_.success_threshold) return false;
    const bool changed = !verdict_ || !decided_;
    verdict_ = decided_ = true;
    return changed;
  }
  successes_ = 0;
  if (++failures_ < spec_.failure_threshold) return false;
  const bool changed = verdict_ || !decided_ || failures_ == spec_.failure_threshold;
  verdict_ = false;
  decided_ = true;
  return changed;
}

int resolve_port(const json::value& container, const json::value* port) {
  if (port == nullptr) return 0;
  if (port->is_int64()) return static_cast<int>(port->get_int64());
  if (!port->is_string()) return 0;
  const std::string name(port->get_string());
  if (const json::array* ports = array_at(container, "/ports")) {
    for (const json::value& one : *ports) {
      if (string_at(one, "/name") == name) return static_cast<int>(int_at(one, "/containerPort"));
    }
  }
  return std::atoi(name.c_str());
}

Fd connect_within(const std::string& ip, int port, Duration timeout, std::string& why) {
  const std::string shown = ip + ":" + std::to_string(port);
  sockaddr_storage address{};
  socklen_t size = 0;
  if (auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
      inet_pton(AF_INET, ip.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(port));
    size = sizeof *v4;
  } else if (auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
             inet_pton(AF_INET6, ip.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<std::uint16_t>(port));
    size = sizeof *v6;
  } else {
    why = "dial tcp " + shown + ": not an IP address";
    return Fd();
  }
  Fd fd(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    why = std::string("socket: ") + std::strerror(errno);
    return fd;
  }
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0) return fd;
  int failed = errno;
  if (failed == EINPROGRESS) {
    pollfd waiting{fd.get(), POLLOUT, 0};
    const int ms = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
    if (poll(&waiting, 1, ms) <= 0) {
      why = "dial tcp " + shown + ": i/o timeout";
      return Fd();
    }
    socklen_t length = sizeof failed;
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failed, &length);
  }
  if (failed == 0) return fd;
  why = "dial tcp " + shown + ": connect: " + std::strerror(failed);
  return Fd();
}

std::string try_connect(const std::string& ip, int port, Duration timeout) {
  std::string why;
  (void)connect_within(ip, port, timeout, why);
  return why;
}

HttpRequest make_http_request(const json::value& container, const json::value& action, const std::string& ip,
                              Duration timeout) {
  HttpRequest request;
  std::string scheme = string_at(action, "/scheme", "HTTP");
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  std::string host = string_at(action, "/host", ip);
  if (host.find(':') != std::string::npos && host.front() != '[') host = "[" + host + "]";
  std::string path = string_at(action, "/path", "/");
  if (path.empty() || path.front() != '/') path = "/" + path;
  request.url =
      scheme + "://" + host + ":" + std::to_string(resolve_port(container, find(action, "/port"))) + path;
  bool agent = false, accept = false;
  if (const json::array* headers = array_at(action, "/httpHeaders")) {
    for (const json::value& header : *headers) {
      std::string name = string_at(header, "/name");
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      agent = agent || name == "user-agent";
      accept = accept || name == "accept";
      request.headers.emplace_back(string_at(header, "/name"), string_at(header, "/value"));
    }
  }
  if (!agent) request.headers.emplace_back("User-Agent", "kube-probe/1.35");
  if (!accept) request.headers.emplace_back("Accept", "*/*");
  request.headers.emplace_back("Connection", "close");
  request.tls.verify = false;
  request.connect_deadline = request.header_deadline = request.stall_deadline = request.total_deadline =
      timeout;
  request.body_bytes_max = 1 << 20;
  request.redirects_max = 0;
  return request;
}

ContainerProbes::ContainerProbes(Engine& engine, std::shared_ptr<PodRuntime> runtime,
                                 std::shared_ptr<HttpClient> http, ProbeTarget target, Report report)
    : engine_(engine),
      runtime_(std::move(runtime)),
      http_(std::move(http)),
      target_(std::move(target)),
      report_(std::move(report)) {
  for (const ProbeKind kind : {ProbeKind::startup, ProbeKind::readiness, ProbeKind::liveness}) {
    const json::value* probe = find(target_.container, field_of(kind));
    if (probe == nullptr || !probe->is_object()) continue;
    const ProbeSpec spec = ProbeSpec::from(*probe);
    entries_.emplace(kind, Entry{spec, ProbeCounter(kind, spec)});
  }
}

void ContainerProbes::start() {
  std::lock_guard lock(mutex_);
  const bool startup = entries_.count(ProbeKind::startup) != 0;
  for (auto& [kind, entry] : entries_) {
    if (!startup || kind == ProbeKind::startup) arm(kind, entry.spec.initial_delay);
  }
}

void ContainerProbes::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  for (auto& [kind, entry] : entries_) engine_.cancel_timer(entry.timer);
}

void ContainerProbes::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return in_flight_ == 0; });
}

void ContainerProbes::only_readiness() {
  std::lock_guard lock(mutex_);
  for (auto& [kind, entry] : entries_) {
    if (kind == ProbeKind::readiness) continue;
    entry.active = false;
    engine_.cancel_timer(entry.timer);
  }
}

void ContainerProbes::arm(ProbeKind kind, Duration delay) {
  Entry& entry = entries_.at(kind);
  if (stopped_ || !entry.active) return;
  entry.timer = engine_.after(delay, [self = shared_from_this(), kind] { self->fire(kind); });
}

void ContainerProbes::fire(ProbeKind kind) {
  Duration timeout;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    ++in_flight_;
    timeout = entries_.at(kind).spec.timeout;
  }
  const json::value& probe = *find(target_.container, field_of(kind));
  if (const json::value* action = find(probe, "/exec")) return run_exec(kind, *action, timeout);
  if (const json::value* action = find(probe, "/httpGet")) return run_http(kind, *action, timeout);
  if (const json::value* action = find(probe, "/tcpSocket")) return run_tcp(kind, *action, timeout);
  if (const json::value* action = find(probe, "/grpc")) return run_grpc(kind, *action, timeout);
  finish(kind, false, "this kind of probe is not supported; supported: exec, httpGet, tcpSocket, grpc");
}

void ContainerProbes::run_grpc(ProbeKind kind, const json::value& action, Duration timeout) {
  const int port = static_cast<int>(int_at(action, "/port"));
  auto queued = engine_.post_blocking(
      [self = shared_from_this(), kind, port, timeout, service = string_at(action, "/service")] {
        const std::string why = check_grpc_health(self->target_.ip, port, service, timeout);
        self->finish(kind, why);
      });
  if (!queued) finish(kind, false, queued.error().to_string());
}

void ContainerProbes::run_exec(ProbeKind kind, const json::value& action, Duration timeout) {
  std::vector<std::string> args;
  if (const json::array* command = array_at(action, "/command")) {
    for (const json::value& arg : *command)
      args.push_back(arg.is_string() ? std::string(arg.get_string()) : "");
  }
  const auto runtime = runtime_.lock();
  if (!runtime) return finish(kind, false, "the runtime was closed");
  runtime->exec(target_.pod_uid, target_.container_id, args, timeout, kOutputBytesMax)
      .on_ready([self = shared_from_this(), kind](Result<ExecResult> result) {
        if (!result) return self->finish(kind, false, result.error().to_string());
        self->finish(kind, result->exit_code == 0, result->output);
      });
}

void ContainerProbes::run_http(ProbeKind kind, const json::value& action, Duration timeout) {
  HttpRequest request = make_http_request(target_.container, action, target_.ip, timeout);
  http_->send(std::move(request)).on_ready([self = shared_from_this(), kind](Result<HttpResponse> response) {
    if (!response) return self->finish(kind, false, response.error().to_string());
    const bool good = response->status >= 200 && response->status < 400;
    self->finish(kind, good,
                 good ? "" : "HTTP probe failed with statuscode: " + std::to_string(response->status));
  });
}

void ContainerProbes::run_tcp(ProbeKind kind, const json::value& action, Duration timeout) {
  const std::string ip = string_at(action, "/host", target_.ip);
  const int port = resolve_port(target_.container, find(action, "/port"));
  auto queued = engine_.post_blocking([self = shared_from_this(), kind, ip, port, timeout] {
    const std::string why = try_connect(ip, port, timeout);
    self->finish(kind, why);
  });
  if (!queued) finish(kind, false, queued.error().to_string());
}

/// Of a probe that says what went wrong; empty: nothing did.
void ContainerProbes::finish(ProbeKind kind, const std::string& why) { finish(kind, why.empty(), why); }

void ContainerProbes::finish(ProbeKind kind, bool success, std::string message) {
  ProbeReport report{kind, success, false, std::move(message)};
  {
    std::lock_guard lock(mutex_);
    --in_flight_;
    idle_.notify_all();
    Entry& entry = entries_.at(kind);
    if (stopped_ || !entry.active) return;
    report.decided = entry.counter.add(success);
    if (kind == ProbeKind::startup && entry.counter.verdict()) {
      entry.active = false;  // done for this container; the others begin
      for (auto& [other, waiting] : entries_) {
        if (other != ProbeKind::startup) arm(other, waiting.spec.initial_delay);
      }
    } else {
      arm(kind, entry.spec.period);
    }
  }
  if (report.decided || !success) report_(std::move(report));
}

}  // namespace orchestra::node
