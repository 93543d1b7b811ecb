// Events of the agent: repeated ones raise `count` of the object that exists (a merge patch), new ones are
// created. At most kInFlightMax writes are under way; more are dropped, since an event is never worth a wait.
#include "api/meta.hpp"
#include "node/context.hpp"

namespace orchestra::node {

namespace {
constexpr std::size_t kInFlightMax = 256;
constexpr std::size_t kSeenMax = 4096;
}  // namespace

void AgentContext::event(const Object& pod, const char* type, const std::string& reason,
                         const std::string& message) {
  if (!client) {
    engine.log(LogLevel::info, "node", reason + ": " + message, {{"pod", pod.ns() + "/" + pod.name()}});
    return;
  }
  const std::string ns = pod.ns().empty() ? "default" : pod.ns();  // of a Node's event
  const std::string now = api::format_time(engine.clock().now().wall_ns);
  const std::string key = pod.uid() + "\n" + reason + "\n" + message;
  Seen seen;
  {
    std::lock_guard lock(event_mutex_);
    if (events_in_flight_ >= kInFlightMax) return;
    ++events_in_flight_;
    if (seen_.size() >= kSeenMax) seen_.clear();
    Seen& entry = seen_[key];
    if (entry.count++ == 0) {
      char suffix[24];
      std::snprintf(suffix, sizeof suffix, ".%016llx",
                    static_cast<unsigned long long>(engine.random().next()));
      entry.name = pod.name() + suffix;
      entry.first = now;
    }
    seen = entry;
  }
  const auto done = [this] {
    std::lock_guard lock(event_mutex_);
    --events_in_flight_;
  };
  if (seen.count > 1) {
    const json::value patch = json::object{{"count", seen.count}, {"lastTimestamp", now}};
    client.patch("v1", "events", seen.name, ns, PatchType::merge, to_json(patch))
        .on_ready([done](Result<Object>) { done(); });
    return;
  }
  const json::value body =
      json::object{{"apiVersion", "v1"},
                   {"kind", "Event"},
                   {"metadata", json::object{{"name", seen.name}, {"namespace", ns}}},
                   {"involvedObject", json::object{{"apiVersion", "v1"},
                                                   {"kind", pod.kind().empty() ? "Pod" : pod.kind()},
                                                   {"name", pod.name()},
                                                   {"namespace", pod.ns()},
                                                   {"uid", pod.uid()}}},
                   {"reason", reason},
                   {"message", message.substr(0, 1024)},
                   {"type", type},
                   {"count", 1},
                   {"firstTimestamp", seen.first},
                   {"lastTimestamp", now},
                   {"source", json::object{{"component", "kubelet"}, {"host", options.node_name}}},
                   {"reportingComponent", "kubelet"},
                   {"reportingInstance", options.node_name}};
  auto object = Object::from_json(to_json(body));
  if (!object) return done();
  client.create(*object).on_ready([done](Result<Object>) { done(); });
}

}  // namespace orchestra::node
