#include "net/dns/forwarder.hpp"

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <numeric>

#include "base/engine_impl.hpp"
#include "net/dns/record_text.hpp"
#include "orchestra/env.hpp"

namespace orchestra::dns {
namespace {

constexpr auto kTryDeadline = std::chrono::seconds(2);
constexpr auto kLookupDeadline = std::chrono::seconds(6);
constexpr auto kProbeInterval = std::chrono::milliseconds(500);
constexpr int kFailuresUntilDown = 2;
constexpr std::size_t kOutstandingMax = 1000;
constexpr std::size_t kWaitingMax = 256;  // who may join one question

CachedAnswer nobody_answered() {
  return {.rcode = Rcode::server_failure,
          .extended = ExtendedError{kNoUpstream, "no upstream server answers"}};
}

/// An answer that helps nobody. The server's own reason is passed on (RFC 8914 section 3), else its code is
/// said.
CachedAnswer unhelpful(Rcode rcode, std::optional<ExtendedError> reason) {
  if (!reason) {
    reason = ExtendedError{kOtherError, "an upstream server answered " + rcode_text(static_cast<int>(rcode))};
  }
  return {.rcode = rcode == Rcode::refused ? Rcode::refused : Rcode::server_failure,
          .extended = std::move(reason)};
}

/// "N.LABEL.domain"; without the domain where that has no room for it.
Name loop_probe_name(std::size_t server, const std::string& label, const Name& domain) {
  const std::string number = std::to_string(server);
  Name out(1, static_cast<char>(number.size()));
  out += number;
  out += static_cast<char>(label.size());
  out += label;
  return out.size() + domain.size() <= kNameBytesMax ? out + domain : out + '\0';
}

}  // namespace

Forwarder::Forwarder(Engine& engine, std::vector<Upstream> servers, DnsForwardPolicy policy,
                     std::size_t cache_bytes_max, std::uint32_t stale_seconds, const Name& domain)
    : engine_(engine),
      strand_(http::asio::make_strand(event_context(engine))),
      policy_(policy),
      cache_(cache_bytes_max, stale_seconds) {
  std::uint64_t bits[2] = {};
  engine_.random().fill(bits, sizeof bits);
  char label[40];
  std::snprintf(label, sizeof label, "%016llx%016llx", static_cast<unsigned long long>(bits[0]),
                static_cast<unsigned long long>(bits[1]));
  probe_label_ = label;
  for (Upstream& upstream : servers) {
    Name probe = loop_probe_name(servers_.size(), probe_label_, domain);
    Server& server = servers_.emplace_back();
    server.upstream = std::move(upstream);
    server.loop_probe = std::move(probe);
  }
}

bool Forwarder::is_own_probe(const Name& name) {
  if (servers_.empty() || name.find(probe_label_) == std::string::npos) return false;
  http::asio::post(strand_, [self = shared_from_this(), name] {
    for (Server& server : self->servers_) {
      if (server.loop_probe != name || server.loops) continue;
      server.loops = server.down = true;
      self->engine_.log(LogLevel::error, "dns",
                        "an upstream server forwards to this server; it is not asked any more",
                        {{"server", server.upstream.address.text()}});
    }
  });
  return true;
}

void Forwarder::resolve(UpstreamQuestion question, Done done) {
  http::asio::dispatch(
      strand_, [self = shared_from_this(), question = std::move(question), done = std::move(done)]() mutable {
        self->look_up(std::move(question), std::move(done));
      });
}

void Forwarder::look_up(UpstreamQuestion question, Done done) {
  const CacheKey key{question.question.name, question.question.type, question.dnssec_ok,
                     question.checking_disabled};
  const std::int64_t now = engine_.clock().now().steady_ns;
  auto cached = cache_.find(key, now);
  ++(cached ? hits_ : misses_);
  if (cached) {
    if (cached->refresh) start(std::move(question), key, nullptr);
    return done(std::move(*cached));
  }
  if (all_down()) {
    if (auto stale = cache_.find_stale(key, now)) {
      start(std::move(question), key, nullptr);
      return done(std::move(*stale));
    }
  }
  start(std::move(question), key, std::move(done));
}

void Forwarder::start(UpstreamQuestion question, const CacheKey& key, Done done) {
  const auto refuse = [&](const char* why) {
    if (done) done({.rcode = Rcode::refused, .extended = ExtendedError{kOtherError, why}});
  };
  if (stopped_ || servers_.empty()) return refuse("nobody to ask");
  if (const auto found = lookups_.find(key.text()); found != lookups_.end()) {
    if (found->second->waiting.size() >= kWaitingMax) return refuse("too many wait for this answer");
    if (done) found->second->waiting.push_back(std::move(done));
    return;
  }
  if (lookups_.size() >= kOutstandingMax) return refuse("too many questions are out");
  auto lookup = std::make_shared<Lookup>();
  lookup->question = std::move(question);
  lookup->key = key;
  lookup->last_failure = nobody_answered();
  lookup->order = choose();
  lookup->ends_ns = engine_.clock().now().steady_ns + Duration(kLookupDeadline).count();
  if (done) lookup->waiting.push_back(std::move(done));
  lookups_.emplace(key.text(), lookup);
  try_next(lookup);
}

bool Forwarder::all_down() const {
  return std::all_of(servers_.begin(), servers_.end(),
                     [](const Server& server) { return server.down.load(); });
}

/// Servers in the order of trying: those that are up by the policy; if none is, all the same.
std::vector<std::size_t> Forwarder::choose() {
  std::vector<std::size_t> order(servers_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t first = policy_ == DnsForwardPolicy::sequential    ? 0
                            : policy_ == DnsForwardPolicy::round_robin ? next_++ % order.size()
                                                                       : engine_.random().below(order.size());
  std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(first), order.end());
  std::stable_partition(order.begin(), order.end(), [&](std::size_t i) { return !servers_[i].down; });
  const auto down =
      std::find_if(order.begin(), order.end(), [&](std::size_t i) { return servers_[i].down.load(); });
  if (down != order.begin()) order.erase(down, order.end());
  std::erase_if(order, [&](std::size_t i) { return servers_[i].loops; });
  return order;
}

void Forwarder::try_next(const SharedLookup& lookup) {
  const std::int64_t left = lookup->ends_ns - engine_.clock().now().steady_ns;
  if (lookup->order.empty() || left <= 0) return finish(lookup, lookup->last_failure);
  const std::size_t server = lookup->order.front();
  lookup->order.erase(lookup->order.begin());
  lookup->query =
      std::make_shared<UpstreamQuery>(engine_, strand_, servers_[server].upstream, lookup->question,
                                      [self = shared_from_this(), lookup, server](Result<Message> result) {
                                        self->on_result(lookup, server, std::move(result));
                                      });
  lookup->query->start(std::min<Duration>(kTryDeadline, Duration(left)));
}

void Forwarder::on_result(const SharedLookup& lookup, std::size_t server, Result<Message> result) {
  if (stopped_) return finish(lookup, {.rcode = Rcode::server_failure});
  note(server, result.has_value());
  if (result) {
    CachedAnswer answer = trusted_part(*result, lookup->question.question);
    if (answer.rcode == Rcode::no_error || answer.rcode == Rcode::name_error)
      return finish(lookup, std::move(answer));
    lookup->last_failure = unhelpful(answer.rcode, std::move(result->extended_error));
  } else if (engine_.logs(LogLevel::debug)) {
    engine_.log(LogLevel::debug, "dns", result.error().message());
  }
  // A single server gets a second try, as a lost packet is no answer.
  if (!result && lookup->order.empty() && servers_.size() == 1 && !servers_[server].down) {
    lookup->order.push_back(server);
  }
  try_next(lookup);
}

void Forwarder::finish(const SharedLookup& lookup, CachedAnswer answer) {
  lookup->query.reset();
  lookups_.erase(lookup->key.text());
  const std::int64_t now = engine_.clock().now().steady_ns;
  if (!stopped_) cache_.put(lookup->key, answer, now);
  entries_ = cache_.size();
  if (answer.rcode == Rcode::server_failure) {
    if (auto stale = cache_.find_stale(lookup->key, now); stale && stale->rcode != Rcode::server_failure)
      answer = std::move(*stale);
  }
  for (Done& done : std::exchange(lookup->waiting, {})) done(answer);
}

void Forwarder::note(std::size_t index, bool answered) {
  Server& server = servers_[index];
  if (answered) {
    ++server.answered;
    server.failures = 0;
    if (!server.loops && server.down.exchange(false)) {
      engine_.log(LogLevel::info, "dns", "upstream server answers again",
                  {{"server", server.upstream.address.text()}});
    }
    return;
  }
  ++server.failed;
  if (++server.failures < kFailuresUntilDown || server.down) return;
  server.down = true;
  engine_.log(LogLevel::warning, "dns", "upstream server does not answer",
              {{"server", server.upstream.address.text()}});
  ask_for_loop(index);
  engine_.after(kProbeInterval, [weak = weak_from_this(), index] {
    if (const auto self = weak.lock()) http::asio::post(self->strand_, [self, index] { self->probe(index); });
  });
}

/// A question that nobody else could ask; its answer does not matter (is_own_probe).
void Forwarder::ask_for_loop(std::size_t index) {
  UpstreamQuestion question;
  const Name& name = servers_[index].loop_probe;
  question.question = {.sent = name, .name = name, .type = Type::hinfo};
  std::make_shared<UpstreamQuery>(engine_, strand_, servers_[index].upstream, std::move(question),
                                  [](Result<Message>) {})
      ->start(kTryDeadline);
}

/// Asks a server that is down for the root's name servers, until it says anything.
void Forwarder::probe(std::size_t index) {
  if (stopped_ || !servers_[index].down || servers_[index].loops) return;
  UpstreamQuestion question;
  question.question = {.sent = std::string(1, '\0'), .name = std::string(1, '\0'), .type = Type::ns};
  auto query = std::make_shared<UpstreamQuery>(
      engine_, strand_, servers_[index].upstream, std::move(question),
      [self = shared_from_this(), index](Result<Message> result) {
        if (result) return self->note(index, true);
        self->engine_.after(kProbeInterval, [weak = std::weak_ptr(self), index] {
          if (const auto self = weak.lock())
            http::asio::post(self->strand_, [self, index] { self->probe(index); });
        });
      });
  query->start(kTryDeadline);
}

void Forwarder::tell(DnsStats& stats) const {
  stats.cache_hits += hits_;
  stats.cache_misses += misses_;
  stats.cache_entries += entries_;
  for (const Server& server : servers_) {
    DnsUpstreamStats one{server.upstream.address.text(), server.answered, server.failed, server.down};
    const auto known =
        std::find_if(stats.upstreams.begin(), stats.upstreams.end(),
                     [&](const DnsUpstreamStats& other) { return other.server == one.server; });
    if (known == stats.upstreams.end()) {
      stats.upstreams.push_back(std::move(one));
      continue;
    }
    // Given for several domains.
    known->answered += one.answered;
    known->failed += one.failed;
    known->down |= one.down;
  }
}

void Forwarder::stop() {
  http::asio::dispatch(strand_, [self = shared_from_this()] {
    self->stopped_ = true;
    auto lookups = std::exchange(self->lookups_, {});
    for (auto& [key, lookup] : lookups) {
      const auto query = lookup->query;
      if (query) query->cancel();
    }
  });
}

}  // namespace orchestra::dns
