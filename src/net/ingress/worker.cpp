#include "net/ingress/worker.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <set>

#include "base/engine_impl.hpp"
#include "orchestra/env.hpp"

namespace orchestra::ingress {
namespace {

constexpr auto kUpstreamIdle = std::chrono::seconds(30);  // below what usual backends wait
constexpr std::size_t kIdlePerEndpointMax = 128;

bool is_usable(http::Wire& wire) {
  char byte = 0;
  return ::recv(wire.native(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         (errno == EAGAIN || errno == EWOULDBLOCK);
}

}  // namespace

Worker::Worker(std::shared_ptr<ProxyShared> shared, std::uint64_t seed)
    : shared_(std::move(shared)),
      strand_(http::asio::make_strand(event_context(shared_->engine))),
      balancer_(seed),
      request_seed_(seed * 0x9e3779b97f4a7c15),
      sweeper_(std::make_shared<http::Deadline>(shared_->engine, strand_)) {}

std::int64_t Worker::now_ns() const { return shared_->engine.clock().now().steady_ns; }

std::uint64_t Worker::next_random() {
  // splitmix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = request_seed_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::string Worker::next_request_id() {
  std::uint64_t z = next_random();
  std::string out(16, '0');
  for (char& digit : out) {
    digit = "0123456789abcdef"[z & 0xf];
    z >>= 4;
  }
  return out;
}

std::unique_ptr<UpstreamConnection> Worker::take(const std::string& endpoint) {
  const auto found = idle_.find(endpoint);
  while (found != idle_.end() && !found->second.empty()) {
    auto connection = std::move(found->second.back());
    found->second.pop_back();
    if (is_usable(*connection->wire)) {
      connection->reused = true;
      return connection;
    }
    connection->wire->close();
  }
  return nullptr;
}

void Worker::give(std::unique_ptr<UpstreamConnection> connection) {
  auto& same = idle_[connection->endpoint];
  if (same.size() >= kIdlePerEndpointMax || shared_->draining) return connection->wire->close();
  connection->idle_since_ns = now_ns();
  connection->buffer.release();
  same.push_back(std::move(connection));
  if (std::exchange(sweeping_, true)) return;
  sweeper_->set(kUpstreamIdle, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->sweep();
  });
}

void Worker::sweep() {
  const std::int64_t oldest = now_ns() - Duration(kUpstreamIdle).count();
  for (auto entry = idle_.begin(); entry != idle_.end();) {
    auto& connections = entry->second;
    while (!connections.empty() && connections.front()->idle_since_ns <= oldest) {
      connections.front()->wire->close();
      connections.pop_front();
    }
    entry = connections.empty() ? idle_.erase(entry) : std::next(entry);
  }
  sweeping_ = !idle_.empty();
  if (!sweeping_) return;
  sweeper_->set(kUpstreamIdle / 2, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->sweep();
  });
}

void Worker::table_changed(const RouteTable& table) {
  balancer_.keep_only(table);
  std::set<std::string, std::less<>> alive;
  for (const auto& backend : table.backends()) {
    for (const Endpoint& endpoint : backend->endpoints) alive.insert(endpoint.name);
  }
  std::erase_if(idle_, [&](const auto& entry) {
    if (alive.contains(entry.first)) return false;
    for (const auto& connection : entry.second) connection->wire->close();
    return true;
  });
  release_held(table);
}

Result<void> Worker::hold(const Backend& backend, std::function<void()> resume) {
  const auto [queue, fresh] =
      held_.try_emplace({backend.service, backend.port}, "requests for " + backend.service.to_string(),
                        shared_->options.held_per_service_max);
  ORC_TRY(queue->second.push(std::move(resume)));
  shared_->options.hold->demand(backend.service, queue->second.count());
  return {};
}

/// In order: whoever came first is asked first. One that has gone meanwhile resumes into nothing.
void Worker::release_held(const RouteTable& table) {
  std::vector<std::function<void()>> resumed;
  for (auto entry = held_.begin(); entry != held_.end();) {
    const auto backend = table.backend(entry->first.first, entry->first.second);
    const bool still_empty = backend != nullptr && backend->endpoints.empty();
    if (still_empty) {
      ++entry;
      continue;
    }
    for (auto& resume : entry->second.take_all()) resumed.push_back(std::move(resume));
    shared_->options.hold->demand(entry->first.first, 0);
    entry = held_.erase(entry);
  }
  for (const auto& resume : resumed) resume();
}

void Worker::close_idle() {
  for (auto& [endpoint, connections] : std::exchange(idle_, {})) {
    for (const auto& connection : connections) connection->wire->close();
  }
}

}  // namespace orchestra::ingress
