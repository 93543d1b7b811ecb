// What the parts of a cluster count, for its metric registry.
#include "cluster/control_loops.hpp"
#include "cluster/node.hpp"

namespace orchestra::cluster {
namespace {

void counter(MetricSink& sink, const char* name, const char* help, std::uint64_t value,
             const MetricLabels& labels = {}) {
  sink.sample(MetricKind::counter, name, help, labels, static_cast<double>(value));
}

void collect_dns(MetricSink& sink, const DnsStats& stats) {
  for (const auto& [type, count] : stats.requests)
    counter(sink, "orchestra_dns_requests_total", "Queries by the type asked for.", count, {{"type", type}});
  for (const auto& [key, count] : stats.responses) {
    counter(sink, "orchestra_dns_responses_total", "Answers by response code and type.", count,
            {{"rcode", key.second}, {"type", key.first}});
  }
  counter(sink, "orchestra_dns_forward_requests_total", "Queries for names outside of the zone.",
          stats.forwarded);
  counter(sink, "orchestra_dns_dropped_total", "Queries without an answer: malformed, or not allowed to ask.",
          stats.dropped);
  counter(sink, "orchestra_dns_limited_total", "Queries above the limit of answers for their network.",
          stats.limited);
  counter(sink, "orchestra_dns_cache_hits_total", "Forwarded queries that the cache answered.",
          stats.cache_hits);
  counter(sink, "orchestra_dns_cache_misses_total", "Forwarded queries that the cache did not answer.",
          stats.cache_misses);
  sink.sample(MetricKind::gauge, "orchestra_dns_cache_entries", "Answers of upstream servers that are kept.",
              {}, static_cast<double>(stats.cache_entries));
  for (const DnsUpstreamStats& one : stats.upstreams) {
    const MetricLabels upstream{{"upstream", one.server}};
    counter(sink, "orchestra_dns_forward_answers_total", "Answers of an upstream server.", one.answered,
            upstream);
    counter(sink, "orchestra_dns_forward_failures_total", "Tries that an upstream server did not answer.",
            one.failed, upstream);
    sink.sample(MetricKind::gauge, "orchestra_dns_forward_up", "0: the upstream server is passed over.",
                upstream, one.down ? 0 : 1);
  }
}

void collect_ingress(MetricSink& sink, const HttpProxyStats& stats) {
  counter(sink, "orchestra_ingress_connections_total", "Connections of clients.", stats.connections);
  counter(sink, "orchestra_ingress_requests_total", "Requests of clients.", stats.requests);
  counter(sink, "orchestra_ingress_retries_total", "Requests sent to another endpoint or once more.",
          stats.retries);
  counter(sink, "orchestra_ingress_not_routed_total", "Requests that no rule takes: 404.", stats.not_routed);
  counter(sink, "orchestra_ingress_upstream_failures_total", "502, 503 and 504 of our own.",
          stats.upstream_failures);
}

void collect_services(MetricSink& sink, const ServiceProxyStats& stats) {
  counter(sink, "orchestra_net_syncs_total", "Times that Services were made true.", stats.syncs);
  const char* help = "Times that every rule was written again, by cause.";
  counter(sink, "orchestra_net_resync_total", help, stats.full_syncs, {{"cause", "full"}});
  counter(sink, "orchestra_net_resync_total", help, stats.foreign_changes, {{"cause", "foreign_change"}});
  if (stats.tracked_max > 0) {
    const double tracked = static_cast<double>(stats.tracked), most = static_cast<double>(stats.tracked_max);
    sink.sample(MetricKind::gauge, "orchestra_net_conntrack_entries", "Connections that the kernel tracks.",
                {}, tracked);
    sink.sample(MetricKind::gauge, "orchestra_net_conntrack_used_ratio", "Of those that it may track.", {},
                tracked / most);
  }
  sink.sample(MetricKind::gauge, "orchestra_net_proxy_connections",
              "Open connections of the userspace proxy.", {}, static_cast<double>(stats.connections_open));
}

}  // namespace

void Node::collect(MetricSink& sink) const {
  if (dns_) collect_dns(sink, dns_->stats());
  if (ingress_) collect_ingress(sink, ingress_->stats());
  if (proxy_) collect_services(sink, proxy_->stats());
}

void ControlLoops::collect(MetricSink& sink) const {
  std::shared_ptr<Scheduler> scheduler;
  {
    std::lock_guard lock(mutex_);
    scheduler = set_.scheduler;
  }
  sink.sample(MetricKind::gauge, "leader_election_master_status", "1 where controllers and scheduler run.",
              {{"name", "control"}}, scheduler ? 1 : 0);
  if (!scheduler) return;
  const SchedulerStats stats = scheduler->stats();
  const char* attempts = "scheduler_schedule_attempts_total";
  const char* help = "Attempts to place a pod, by result.";
  counter(sink, attempts, help, stats.scheduled, {{"result", "scheduled"}});
  counter(sink, attempts, help, stats.unschedulable, {{"result", "unschedulable"}});
  counter(sink, attempts, help, stats.errors, {{"result", "error"}});
  counter(sink, "scheduler_preemption_attempts_total", "Pods that others were asked to leave for.",
          stats.preemptions);
  const auto pending = [&](const char* queue, std::size_t value) {
    sink.sample(MetricKind::gauge, "scheduler_pending_pods", "Pods that wait, by queue.", {{"queue", queue}},
                static_cast<double>(value));
  };
  pending("active", stats.active);
  pending("backoff", stats.backing_off);
  pending("unschedulable", stats.waiting);
  pending("gated", stats.gated);
}

}  // namespace orchestra::cluster
