// ServiceProxy by nftables: a table for each family, with a plan of its own.
//
// A change is at most three transactions, each of which leaves a table that is right by itself: chains
// that are needed first (text), then all map elements (one binary batch), then chains that grew (text).
// Only the second one happens for ordinary changes. Where a table of ours is there already (an earlier
// process, a foreign change) one text transaction replaces it whole, so that no packet sees a half; that is
// slower than the binary batch and rare. What session affinity remembers is carried over then.
// Once a second the ruleset's generation is compared with the one after our last change. When somebody
// else changed something and our table lost rules or is gone, everything is written again.
#include "net/lb/nft_proxy.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include "net/lb/conntrack.hpp"
#include "net/lb/explain.hpp"
#include "net/lb/health_checks.hpp"
#include "net/lb/nft_netlink.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/lb/rule_plan.hpp"
#include "net/lb/table_guard.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"

namespace orchestra::net {
namespace {

using namespace std::chrono_literals;
constexpr Duration kWatchPeriod = 1s;
constexpr Duration kWatchPeriodMax = 30s;
constexpr Duration kConntrackPeriod = 10s;

/// One family: its table, and what the kernel was told.
struct Side {
  Side(NftElements& elements, BaseTable text, std::string node, PlanFamily family)
      : base(std::move(text)), guard(elements, base.table), plan(std::move(node), family) {}
  const BaseTable base;
  TableGuard guard;
  RulePlan plan;
  std::size_t width = 0;
  std::vector<std::string> objects_to_remove;
};

std::vector<BaseTable> tables_of(const ServiceProxyOptions& options, const std::string& name) {
  std::vector<BaseTable> out;
  if (!options.service_cidr.empty())
    out.push_back({{name, 4}, options.cluster_cidr, options.service_cidr, options.node_gateway});
  if (!options.service_cidr6.empty())
    out.push_back({{name, 6}, options.cluster_cidr6, options.service_cidr6, options.node_gateway6});
  return out;
}

class NftProxy final : public ServiceProxy, public std::enable_shared_from_this<NftProxy> {
 public:
  NftProxy(Engine& engine, ServiceProxyOptions options, std::unique_ptr<NftSession> session,
           NftElements elements)
      : engine_(engine),
        options_(std::move(options)),
        queue_(std::make_shared<SerialQueue>(engine)),
        session_(std::move(session)),
        elements_(std::move(elements)),
        health_(engine, options_.node, options_.name_space) {
    std::vector<BaseTable> tables = tables_of(options_, nft_table_name(options_.instance));
    const bool alone = tables.size() == 1;
    for (BaseTable& table : tables) {
      const PlanFamily family{table.table.family, alone};
      sides_.push_back(std::make_unique<Side>(elements_, std::move(table), options_.node, family));
    }
  }
  ~NftProxy() override {
    if (timer_ != 0) engine_.cancel_timer(timer_);
  }

  Pending<ApplyResult> apply(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    if (!snapshot->synced.services || !snapshot->synced.endpoint_slices) {
      return Error(Error::unavailable, "net",
                   "Services and EndpointSlices are not listed completely yet; rules stay as they are");
    }
    {
      std::lock_guard lock(mutex_);
      newest_ = snapshot;
    }
    return queue_->run([self = shared_from_this()] { return self->apply_now(); });
  }

  Result<std::string> explain(std::string_view target) override {
    std::shared_ptr<const NetworkSnapshot> snapshot;
    {
      std::lock_guard lock(mutex_);
      snapshot = applied_;
    }
    if (!snapshot) return Error(Error::unavailable, "net", "no snapshot was applied yet");
    return explain_target(*snapshot, options_.node, target);
  }

  const char* mode() const override { return "nftables"; }

  ServiceProxyStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }

  Pending<void> teardown() override {
    return queue_->run([self = shared_from_this()]() -> Result<void> {
      self->torn_down_ = true;
      self->health_.close();
      std::string commands;
      for (const auto& side : self->sides_) {
        side->plan.forget();
        const std::string table = "table " + side->base.table.text();
        commands += table + "\ndelete " + table + "\n";
      }
      return self->session_->run(commands);
    });
  }

  void watch() {
    std::weak_ptr<NftProxy> weak = weak_from_this();
    std::lock_guard lock(mutex_);
    timer_ = engine_.after(watch_period_, [weak] {
      auto self = weak.lock();
      if (!self || self->torn_down_) return;
      auto looked = self->queue_->run([self]() -> Result<void> {
        self->look_for_foreign_changes();
        self->look_at_conntrack();
        self->watch();
        return {};
      });
      (void)looked;
    });
  }

 private:
  /// Snapshots that came while others were applied are folded: only the newest one is done.
  Result<ApplyResult> apply_now() {
    std::shared_ptr<const NetworkSnapshot> snapshot;
    {
      std::lock_guard lock(mutex_);
      snapshot = newest_;
    }
    if (torn_down_) return Error(Error::unavailable, "net", "the service proxy was torn down");
    ApplyResult result;
    for (const auto& side : sides_) {
      auto done = apply_side(*side, *snapshot, result);
      health_.set_proxy_healthy(done.has_value());
      if (!done) return done.error();
    }
    health_.apply(*snapshot, result.rejected);
    result.revision = snapshot->revision;
    std::lock_guard lock(mutex_);
    applied_ = std::move(snapshot);
    ++stats_.syncs;
    if (result.full) ++stats_.full_syncs;
    return result;
  }

  Result<void> apply_side(Side& side, const NetworkSnapshot& snapshot, ApplyResult& result) {
    RuleBatch batch = side.plan.update(snapshot);
    bool full = batch.full;
    std::size_t changes = batch.removed.size() + batch.added.size();
    auto written = write(side, batch);
    if (!written && !batch.full) {
      // The kernel does not have what we believed (somebody changed it): write everything once.
      side.plan.forget();
      batch = side.plan.update(snapshot);
      full = true;
      changes = batch.added.size();
      written = write(side, batch);
    }
    if (!written) {
      side.plan.forget();
      return written.error().with_context("Services of node " + options_.node);
    }
    clean_conntrack(side, std::move(batch.udp_fronts));
    result.full = result.full || full;
    result.changes += changes;
    result.services += side.plan.ports();
    for (NetworkRejection& one : batch.rejected) result.rejected.push_back(std::move(one));
    side.guard.remember();
    return {};
  }

  Result<void> write(Side& side, const RuleBatch& batch) {
    if (batch.empty() && batch.objects_removed.empty()) return {};
    const NftTable& table = side.base.table;
    std::string before;
    if (batch.full) {
      before = base_table_text(side.base);
      side.width = 0;
      side.objects_to_remove.clear();
    }
    if (batch.width > side.width) before += width_text(table, side.width, batch.width);
    for (const auto& chain : batch.chains_before) before += service_chain_text(table, chain);
    bool replaces = false;
    if (batch.full) {
      ORC_ASSIGN(const auto present, elements_.table_state(table));
      replaces = present.has_value();
      if (replaces) before += elements_text(table, batch.added);
    }
    std::string clients = replaces ? kept_clients(table, batch) : "";
    if (!clients.empty() && !session_->run(before + clients)) {
      engine_.log(LogLevel::warning, "lb", "what session affinity remembered could not be taken over",
                  {{"table", table.text()}});
      clients.clear();
    }
    if (clients.empty() && !before.empty()) ORC_TRY(session_->run(before));
    side.width = std::max(side.width, batch.width);
    if (!replaces) ORC_TRY(elements_.apply(table, {}, batch.removed, batch.added));
    std::string after;
    for (const auto& chain : batch.chains_after) after += service_chain_text(table, chain);
    // Kernels before 6.2 keep a chain busy until the removal of its last user is done: one sync later.
    std::set<std::string> again;
    for (const auto* list : {&batch.chains_before, &batch.chains_after}) {
      for (const ServiceChain& chain : *list) {
        again.insert("chain " + chain.name);
        for (std::string& object : chain.objects()) again.insert(std::move(object));
      }
    }
    for (const auto& object : side.objects_to_remove) {
      if (again.contains(object)) continue;  // it came back meanwhile
      after += "delete " + object.substr(0, object.find(' ')) + " " + table.text() +
               object.substr(object.find(' ')) + "\n";
    }
    side.objects_to_remove = batch.objects_removed;
    // What a set remembers is gone at once: an endpoint that comes back has no clients yet.
    for (const auto& object : side.objects_to_remove) {
      if (object.starts_with("set ")) after += "flush set " + table.text() + object.substr(3) + "\n";
    }
    if (!after.empty()) ORC_TRY(session_->run(after));
    return {};
  }

  /// The dynamic sets outlive this program, and are carried over when the table is replaced: in the same
  /// transaction, with the time that each client has left.
  std::string kept_clients(const NftTable& table, const RuleBatch& batch) {
    const bool affinity = std::any_of(batch.chains_before.begin(), batch.chains_before.end(),
                                      [](const ServiceChain& chain) { return chain.affinity_seconds > 0; });
    if (!affinity) return {};
    const auto listing = session_->list("list sets table " + table.text());
    return listing ? kept_clients_text(table, *listing, batch.chains_before) : "";
  }

  /// Where connection tracking cannot be edited, clients with fixed UDP ports keep their old endpoint.
  void clean_conntrack(const Side& side, std::vector<UdpFront> fronts) {
    if (fronts.empty() || conntrack_failed_) return;
    auto cleaner = ConntrackCleaner::open(options_.name_space, side.base.table.family);
    auto removed = cleaner ? cleaner->remove_stale(std::move(fronts)) : Result<std::size_t>(cleaner.error());
    if (removed) return;
    conntrack_failed_ = removed.error().is(Error::unsupported) || removed.error().is(Error::denied);
    engine_.log(LogLevel::warning, "lb", "stale UDP flows were not cut",
                {{"error", removed.error().to_string()}});
  }

  void look_at_conntrack() {
    const std::int64_t now_ns = engine_.clock().now().steady_ns;
    if (torn_down_ || now_ns < next_look_ns_) return;
    next_look_ns_ = now_ns + std::chrono::nanoseconds(kConntrackPeriod).count();
    const auto use = conntrack_use(options_.name_space);
    if (!use) return;  // nothing is tracked here
    {
      std::lock_guard lock(mutex_);
      stats_.tracked = use->entries;
      stats_.tracked_max = use->limit;
    }
    if (const std::string problem = alarm_.look(*use); !problem.empty())
      engine_.log(LogLevel::warning, "lb", problem);
  }

  void look_for_foreign_changes() {
    if (torn_down_) return;
    bool changed = false;
    for (const auto& side : sides_) changed = side->guard.changed_by_others() || changed;
    bool applied = false;
    {
      std::lock_guard lock(mutex_);
      applied = applied_ != nullptr;
    }
    if (!changed || !applied) {
      watch_period_ = kWatchPeriod;
      return;
    }
    engine_.log(LogLevel::warning, "lb", "somebody changed our nftables table; writing it again",
                {{"table", sides_.front()->base.table.name}});
    {
      std::lock_guard lock(mutex_);
      ++stats_.foreign_changes;
    }
    for (const auto& side : sides_) side->plan.forget();
    auto done = apply_now();
    if (!done)
      engine_.log(LogLevel::error, "lb", "Services could not be restored",
                  {{"error", done.error().to_string()}});
    // Two programs must not fight at full speed.
    watch_period_ = std::min(watch_period_ * 2, kWatchPeriodMax);
  }

  Engine& engine_;
  const ServiceProxyOptions options_;
  std::shared_ptr<SerialQueue> queue_;
  // Used in the queue only:
  std::unique_ptr<NftSession> session_;
  NftElements elements_;
  std::vector<std::unique_ptr<Side>> sides_;  ///< IPv4 first
  HealthChecks health_;
  bool conntrack_failed_ = false;
  ConntrackAlarm alarm_;
  std::int64_t next_look_ns_ = 0;
  Duration watch_period_ = kWatchPeriod;
  std::atomic<bool> torn_down_{false};

  mutable std::mutex mutex_;
  std::shared_ptr<const NetworkSnapshot> newest_, applied_;
  ServiceProxyStats stats_;
  Engine::TimerId timer_ = 0;
};

Result<void> check_options6(const ServiceProxyOptions& options) {
  ORC_ASSIGN(const IpRange pods6, IpRange::parse(options.cluster_cidr6));
  ORC_ASSIGN(const IpRange services6, IpRange::parse(options.service_cidr6));
  const auto gateway6 = IpAddress::parse(options.node_gateway6);
  if (pods6.base.is_v4() || services6.base.is_v4() || !gateway6 || gateway6->is_v4()) {
    return Error(Error::invalid, "net",
                 "Services of IPv6 need pods " + options.cluster_cidr6 + ", Services " +
                     options.service_cidr6 + " and gateway \"" + options.node_gateway6 + "\" of IPv6");
  }
  return {};
}

Result<void> check_options(const ServiceProxyOptions& options) {
  ORC_TRY(check_instance(options.instance));
  if (options.service_cidr.empty() && options.service_cidr6.empty())
    return Error(Error::invalid, "net", "Services need a range of addresses");
  if (options.service_cidr.empty()) return check_options6(options);
  ORC_ASSIGN(const IpRange pods, IpRange::parse(options.cluster_cidr));
  ORC_ASSIGN(const IpRange services, IpRange::parse(options.service_cidr));
  const auto gateway = IpAddress::parse(options.node_gateway);
  if (!pods.base.is_v4() || !services.base.is_v4() || !gateway || !gateway->is_v4()) {
    return Error(Error::invalid, "net",
                 "Services by nftables need IPv4: pods " + options.cluster_cidr + ", Services " +
                     options.service_cidr + ", gateway \"" + options.node_gateway + "\"");
  }
  return options.service_cidr6.empty() ? Result<void>() : check_options6(options);
}

}  // namespace

Result<std::shared_ptr<ServiceProxy>> make_nft_proxy(Engine& engine, ServiceProxyOptions options) {
  ORC_TRY(check_options(options));
  ORC_ASSIGN(auto session, NftSession::open(options.name_space));
  // Tried, not guessed: a table with what the layout needs is made and removed in one transaction.
  const std::string scratch = nft_table_name(options.instance, "_try");
  for (const BaseTable& base : tables_of(options, scratch)) {
    ORC_TRY(session->run(base_table_text(base) + width_text(base.table, 0, 2) + "delete table " +
                         base.table.text() + "\n"));
  }
  ORC_ASSIGN(NftElements elements, NftElements::open(options.name_space));
  auto proxy =
      std::make_shared<NftProxy>(engine, std::move(options), std::move(session), std::move(elements));
  proxy->watch();
  return std::shared_ptr<ServiceProxy>(std::move(proxy));
}

}  // namespace orchestra::net
