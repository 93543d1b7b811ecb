// EventRecorder: core/v1 Events, as client-go's record package writes them; see reconciler.hpp.
//
// A repeat of (object, type, reason, message) raises the count of the Event that is there; an object that
// talks too much is cut by a token bucket. One request is in flight at a time, the rest waits in a bounded
// queue: recording never waits, and events are lost (and counted) rather than work delayed.
#include <algorithm>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "controllers/common/objects.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra {

using controllers::format_time;

namespace {

struct Pended {
  std::string key, component, type, reason, message;
  Object about;
  std::int64_t wall_ns = 0;
};

// What was written for a key before.
struct Written {
  std::string ns, name;
  std::int64_t count = 0;
};

struct Bucket {
  double tokens = 0;
  std::int64_t at_ns = 0;
};

json::object reference_to(const Object& about) {
  json::object reference{{"kind", about.kind()}, {"apiVersion", about.api_version()}, {"name", about.name()}};
  if (!about.ns().empty()) reference["namespace"] = about.ns();
  if (!about.uid().empty()) reference["uid"] = about.uid();
  if (!about.resource_version().empty()) reference["resourceVersion"] = about.resource_version();
  return reference;
}

// Forgets the oldest entries of a map that is filled in order.
template <class Map>
void bound(Map& map, std::deque<std::string>& order, std::size_t most) {
  while (map.size() > most && !order.empty()) {
    map.erase(order.front());
    order.pop_front();
  }
}

}  // namespace

struct EventRecorder::Impl : std::enable_shared_from_this<EventRecorder::Impl> {
  Engine& engine;
  const Client client;
  const EventRecorderOptions options;
  std::mutex mutex;
  std::deque<Pended> queue;
  std::unordered_map<std::string, Written> written;
  std::deque<std::string> written_order;
  std::unordered_map<std::string, Bucket> buckets;
  std::deque<std::string> bucket_order;
  std::uint64_t dropped = 0;
  bool sending = false;
  bool stopped = false;

  Impl(Engine& engine, Client client, EventRecorderOptions options)
      : engine(engine), client(std::move(client)), options(std::move(options)) {}

  // Under the mutex.
  bool may_talk(const std::string& source) {
    const std::int64_t now = engine.clock().now().steady_ns;
    const auto [it, fresh] = buckets.try_emplace(source, Bucket{static_cast<double>(options.burst), now});
    if (fresh) bucket_order.push_back(source);
    Bucket& bucket = it->second;
    const double refilled =
        static_cast<double>(now - bucket.at_ns) / static_cast<double>(options.refill.count());
    bucket.tokens = std::min(static_cast<double>(options.burst), bucket.tokens + refilled);
    bucket.at_ns = now;
    const bool allowed = bucket.tokens >= 1;
    if (allowed) bucket.tokens -= 1;
    bound(buckets, bucket_order, options.objects_max);
    return allowed;
  }

  ApiRequest fresh_event(const Pended& event, Written& as) {
    as.ns = event.about.ns().empty() ? "default" : event.about.ns();
    char suffix[24];
    std::snprintf(suffix, sizeof suffix, "%016llx", static_cast<unsigned long long>(engine.random().next()));
    as.name = event.about.name() + "." + suffix;
    as.count = 1;
    const std::string now = format_time(event.wall_ns);
    const json::object body{{"apiVersion", "v1"},
                            {"kind", "Event"},
                            {"metadata", {{"name", as.name}, {"namespace", as.ns}}},
                            {"involvedObject", reference_to(event.about)},
                            {"reason", event.reason},
                            {"message", event.message.substr(0, 1024)},
                            {"source", {{"component", event.component}}},
                            {"firstTimestamp", now},
                            {"lastTimestamp", now},
                            {"count", 1},
                            {"type", event.type},
                            {"reportingComponent", event.component},
                            {"reportingInstance", options.reporting_instance}};
    ApiRequest request;
    request.verb = "create";
    request.resource = "events";
    request.ns = as.ns;
    request.body = to_json(body);
    return request;
  }

  ApiRequest repeated_event(const Pended& event, const Written& as) {
    const json::object body{{"count", as.count}, {"lastTimestamp", format_time(event.wall_ns)}};
    ApiRequest request;
    request.verb = "patch";
    request.resource = "events";
    request.ns = as.ns;
    request.name = as.name;
    request.content_type = "application/merge-patch+json";
    request.body = to_json(body);
    return request;
  }

  // Begins to send the first of the queue; the caller holds the mutex.
  void send_next(std::unique_lock<std::mutex> lock) {
    if (sending || stopped || queue.empty()) return;
    sending = true;
    Pended event = std::move(queue.front());
    queue.pop_front();
    Written& entry = written[event.key];
    if (entry.count == 0) written_order.push_back(event.key);
    const bool repeat = entry.count > 0;
    if (repeat) ++entry.count;
    ApiRequest request = repeat ? repeated_event(event, entry) : fresh_event(event, entry);
    bound(written, written_order, options.objects_max);
    lock.unlock();
    client.request(std::move(request))
        .on_ready([self = shared_from_this(), event, repeat](Result<ApiResponse> done) {
          self->engine.post([self, event, repeat, error = done ? std::nullopt : std::optional(done.error())] {
            self->sent(event, repeat, error);
          });
        });
  }

  void sent(const Pended& event, bool repeat, const std::optional<Error>& error) {
    std::unique_lock lock(mutex);
    sending = false;
    if (error) {
      written.erase(event.key);
      // The Event that was there has expired: it is a new one again.
      if (repeat && error->is(Error::not_found)) {
        queue.push_front(event);
      } else {
        ++dropped;
      }
    }
    send_next(std::move(lock));
  }
};

EventRecorder::EventRecorder(Engine& engine, Client client, EventRecorderOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(options))) {}
EventRecorder::~EventRecorder() { stop(); }

void EventRecorder::record(const std::string& component, const Object& about, const std::string& type,
                           const std::string& reason, const std::string& message) {
  std::unique_lock lock(impl_->mutex);
  if (impl_->stopped || !impl_->client) return;
  const std::string source =
      component + "|" + about.kind() + "|" + about.ns() + "|" + about.name() + "|" + about.uid();
  if (impl_->queue.size() >= impl_->options.queue_max || !impl_->may_talk(source)) {
    ++impl_->dropped;
    return;
  }
  impl_->queue.push_back({source + "|" + type + "|" + reason + "|" + message, component, type, reason,
                          message, about, impl_->engine.clock().now().wall_ns});
  impl_->send_next(std::move(lock));
}

void EventRecorder::stop() {
  std::lock_guard lock(impl_->mutex);
  impl_->stopped = true;
  impl_->queue.clear();
}

std::uint64_t EventRecorder::dropped() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->dropped;
}

}  // namespace orchestra
