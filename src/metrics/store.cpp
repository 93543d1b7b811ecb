// orchestra_store_*: what a StoreStatus says.
#include "orchestra/metrics.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

void collect_store(MetricSink& sink, const StoreStatus& status) {
  const auto gauge = [&](const char* name, const char* help, double value) {
    sink.sample(MetricKind::gauge, std::string("orchestra_store_") + name, help, {}, value);
  };
  gauge("revision", "Revision of the state store.", static_cast<double>(status.revision));
  gauge("compacted_revision", "Revisions up to this one can not be read any more.",
        static_cast<double>(status.compacted_revision));
  gauge("keys", "Keys in the state store.", static_cast<double>(status.keys));
  gauge("state_bytes", "Bytes of state.", static_cast<double>(status.state_bytes.value));
  gauge("log_bytes", "Bytes of the log on disk.", static_cast<double>(status.log_bytes.value));
  gauge("ring_bytes", "Bytes of old revisions kept for watches.", static_cast<double>(status.ring_bytes.value));
  gauge("watchers", "Watches of the store.", static_cast<double>(status.watchers));
  gauge("leases", "Leases that live.", static_cast<double>(status.leases));
  gauge("is_leader", "1 if this peer leads.", status.role == "leader" ? 1 : 0);
  for (const std::string& cause : status.alarms) {
    sink.sample(MetricKind::gauge, "orchestra_store_alarm", "1 for each alarm that is on.", {{"cause", cause}}, 1);
  }
}

}  // namespace orchestra
