// PolicyEnforcer: the shell around PolicyProgram.
//
// A change of pods is one transaction of elements; a change of policies rewrites the table in one
// transaction. What a change denies is cut afterwards: replies would go on through `established`.
#include "orchestra/policy_enforcer.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "net/lb/conntrack.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/lb/table_guard.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/policy/program.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace net {
namespace {

using namespace std::chrono_literals;
constexpr Duration kWatchPeriod = 1s;

class Enforcer final : public PolicyEnforcer, public std::enable_shared_from_this<Enforcer> {
 public:
  Enforcer(Engine& engine, PolicyEnforcerOptions options, IpRange local, std::optional<IpRange> cluster6,
           std::unique_ptr<NftSession> session, NftElements elements)
      : engine_(engine),
        options_(std::move(options)),
        local_(local),
        cluster6_(cluster6),
        table_(nft_table_name(options_.instance, "_np")),
        queue_(std::make_shared<SerialQueue>(engine)),
        session_(std::move(session)),
        elements_(std::move(elements)),
        guard_(elements_, NftTable{table_, options_.ipv4 ? 4 : 6}) {}
  ~Enforcer() override {
    if (timer_ != 0) engine_.cancel_timer(timer_);
  }

  Pending<PolicyApplyResult> apply(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    const NetworkSnapshot::Synced& synced = snapshot->synced;
    if (!synced.pods || !synced.namespaces || !synced.network_policies) {
      return Error(
          Error::unavailable, "net",
          "pods, namespaces and NetworkPolicies are not listed completely yet; rules stay as they are");
    }
    {
      std::lock_guard lock(mutex_);
      newest_ = std::move(snapshot);
    }
    return queue_->run([self = shared_from_this()] { return self->apply_now(); });
  }

  Result<PolicyVerdict> explain(const PolicyFlow& flow) const override {
    std::lock_guard lock(mutex_);
    if (!applied_) return Error(Error::unavailable, "net", "no snapshot was applied yet");
    return evaluate(policies_, *applied_, flow);
  }

  Pending<std::vector<PolicyCounter>> counters() override {
    return queue_->run([self = shared_from_this()] { return self->read_counters(); });
  }

  Pending<void> teardown() override {
    return queue_->run([self = shared_from_this()]() -> Result<void> {
      self->torn_down_ = true;
      self->structure_.clear();
      std::string gone;
      for (const char* family : {"ip ", "ip6 "}) {
        if (family == std::string_view("ip6 ") ? !self->cluster6_ : !self->options_.ipv4) continue;
        const std::string table = std::string("table ") + family + self->table_ + "\n";
        gone += table + "delete " + table;
      }
      return self->session_->run(gone);
    });
  }

  void watch() {
    std::lock_guard lock(mutex_);
    timer_ = engine_.after(kWatchPeriod, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (!self || self->torn_down_) return;
      auto looked = self->queue_->run([self]() -> Result<void> {
        self->restore();
        self->watch();
        return {};
      });
      (void)looked;
    });
  }

 private:
  Result<PolicyApplyResult> apply_now() {
    std::shared_ptr<const NetworkSnapshot> snapshot;
    {
      std::lock_guard lock(mutex_);
      snapshot = newest_;
    }
    if (torn_down_) return Error(Error::unavailable, "net", "the policy enforcer was torn down");
    PolicySet policies = PolicySet::read(*snapshot);
    PolicyProgram program = PolicyProgram::compile(policies, *snapshot, options_.node, cluster6_);
    PolicyApplyResult result{.policies = policies.policies.size(), .pods = program.selected};
    ORC_TRY(write(program, result));
    result.rejected = policies.rejected;
    program_ = std::move(program);
    {
      std::lock_guard lock(mutex_);
      policies_ = std::move(policies);
      applied_ = snapshot;
    }
    if (result.elements != 0 || result.rewritten) cut_denied(result);
    return result;
  }

  Result<void> write(const PolicyProgram& program, PolicyApplyResult& result) {
    std::string structure = options_.ipv4 ? structure_text(program, table_, local_) : "";
    if (cluster6_) structure += structure_text(program, table_, local_, cluster6_);
    if (structure == structure_) {
      const std::string changes = changes_of(program_, program, result.elements);
      if (changes.empty()) return {};
      if (session_->run(changes)) {
        guard_.remember();
        return {};
      }
      result.elements = 0;  // the kernel does not hold what we believed: write all of it
    }
    structure_.clear();
    ORC_TRY(session_->run(structure + changes_of({}, program, result.elements)));
    structure_ = structure;
    result.rewritten = true;
    guard_.remember();
    return {};
  }

  std::string changes_of(const PolicyProgram& before, const PolicyProgram& after, std::size_t& count) const {
    std::string out = options_.ipv4 ? element_changes(before, after, table_, count) : "";
    if (cluster6_) out += element_changes(before, after, table_, count, cluster6_);
    return out;
  }

  /// The IPv4 address that an IPv6 one of a pod or a node is made of; 0: it is somebody else's.
  std::uint32_t number_of(const IpAddress& address) const {
    if (address.is_v4()) return address.v4_number();
    if (!cluster6_ || !cluster6_->contains(address)) return 0;
    return net::number_of(address).v4_number();
  }

  /// Tracked flows of this node's pods that the rules would refuse now.
  void cut_denied(PolicyApplyResult& result) {
    if (!program_.active || conntrack_failed_) return;
    const auto cut = [&](int family) -> Result<std::size_t> {
      ORC_ASSIGN(ConntrackCleaner cleaner, ConntrackCleaner::open(options_.name_space, family));
      return cleaner.remove_if([&](const TrackedFlow& flow) {
        const std::uint32_t client = number_of(flow.client), server = number_of(flow.server);
        const bool ours = program_.known.contains(client) || program_.known.contains(server);
        return ours &&
               !program_.accept({flow.client, flow.server, client, server, flow.protocol, flow.server_port},
                                local_);
      });
    };
    auto removed = options_.ipv4 ? cut(4) : Result<std::size_t>(std::size_t{0});
    if (removed) result.connections_cut = *removed;
    if (removed && cluster6_) {
      removed = cut(6);
      if (removed) result.connections_cut += *removed;
    }
    if (removed) return;
    conntrack_failed_ = removed.error().is(Error::unsupported) || removed.error().is(Error::denied);
    engine_.log(LogLevel::warning, "policy", "connections that are denied now were not cut",
                {{"error", removed.error().to_string()}});
  }

  void restore() {
    if (torn_down_ || structure_.empty() || !guard_.changed_by_others()) return;
    engine_.log(LogLevel::warning, "policy", "somebody changed our nftables table; writing it again",
                {{"table", table_}});
    structure_.clear();
    if (auto done = apply_now(); !done) {
      engine_.log(LogLevel::error, "policy", "NetworkPolicies could not be restored",
                  {{"error", done.error().to_string()}});
    }
  }

  /// "counter ci_0123 {\n packets 3 bytes 180"
  Result<std::vector<PolicyCounter>> read_counters() {
    std::vector<std::string> texts;
    for (const char* family : {"ip ", "ip6 "}) {
      if (family == std::string_view("ip6 ") ? !cluster6_ : !options_.ipv4) continue;
      ORC_ASSIGN(texts.emplace_back(), session_->list(std::string("list counters table ") + family + table_));
    }
    std::vector<PolicyCounter> out;
    for (const auto& [name, policy] : program_.counters) {
      PolicyCounter counter{.policy = policy, .direction = name.starts_with("ce") ? "egress" : "ingress"};
      for (const std::string& text : texts) {
        const std::size_t at = text.find("counter " + name + " ");
        const std::size_t packets = at == std::string::npos ? at : text.find("packets ", at);
        const std::size_t bytes = packets == std::string::npos ? packets : text.find("bytes ", packets);
        if (bytes == std::string::npos) continue;
        counter.packets += std::strtoull(text.c_str() + packets + 8, nullptr, 10);
        counter.bytes += std::strtoull(text.c_str() + bytes + 6, nullptr, 10);
      }
      out.push_back(std::move(counter));
    }
    return out;
  }

  Engine& engine_;
  const PolicyEnforcerOptions options_;
  const IpRange local_;
  const std::optional<IpRange> cluster6_;
  const std::string table_;
  std::shared_ptr<SerialQueue> queue_;
  // Used in the queue only:
  std::unique_ptr<NftSession> session_;
  NftElements elements_;
  TableGuard guard_;
  PolicyProgram program_;
  std::string structure_;  ///< that the kernel holds; empty: unknown
  bool conntrack_failed_ = false;
  std::atomic<bool> torn_down_{false};

  mutable std::mutex mutex_;
  std::shared_ptr<const NetworkSnapshot> newest_, applied_;
  PolicySet policies_;
  Engine::TimerId timer_ = 0;
};

}  // namespace
}  // namespace net

Result<std::shared_ptr<PolicyEnforcer>> PolicyEnforcer::create(Engine& engine,
                                                               PolicyEnforcerOptions options) {
  ORC_TRY(net::check_instance(options.instance));
  ORC_ASSIGN(const net::IpRange local, net::IpRange::parse(options.pod_cidr));
  if (!local.base.is_v4())
    return Error(Error::invalid, "net",
                 "policies are enforced for IPv4 pods; pod_cidr is " + options.pod_cidr);
  ORC_ASSIGN(const std::optional<net::IpRange> cluster6, net::parse_cluster6(options.cluster_cidr6));
  if (!options.ipv4 && !cluster6)
    return Error(Error::invalid, "net", "policies for pods of IPv6 alone need their cluster's range");
  ORC_ASSIGN(auto session, net::NftSession::open(options.name_space));
  // Tried, not guessed: a table with what the layout needs is made and removed in one transaction.
  const std::string scratch = net::nft_table_name(options.instance, "_npt");
  if (options.ipv4)
    ORC_TRY(session->run(net::structure_text({}, scratch, local) + "delete table ip " + scratch + "\n"));
  if (cluster6) {
    ORC_TRY(session->run(net::structure_text({}, scratch, local, cluster6) + "delete table ip6 " + scratch +
                         "\n"));
  }
  ORC_ASSIGN(net::NftElements elements, net::NftElements::open(options.name_space));
  auto made = std::make_shared<net::Enforcer>(engine, std::move(options), local, cluster6, std::move(session),
                                              std::move(elements));
  made->watch();
  return std::shared_ptr<PolicyEnforcer>(std::move(made));
}

}  // namespace orchestra
