#include "net/dns/service.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "orchestra/env.hpp"

namespace orchestra::dns {
namespace {

bool contains(const std::vector<net::IpRange>& ranges, const net::IpAddress& address) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const net::IpRange& range) { return range.contains(address); });
}

/// A query that has no question is of no type.
std::size_t type_index(const Query& query) {
  return query.question ? DnsCounts::type_index(static_cast<std::uint16_t>(query.question->type)) : 0;
}

}  // namespace

net::IpAddress ip_of(const http::SocketAddress& address) {
  net::IpAddress out;
  if (address.family() == AF_INET6) {
    out.family = 6;
    std::memcpy(out.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, 16);
  } else {
    std::memcpy(out.bytes.data(), &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, 4);
  }
  return out;
}

Service::Service(Engine& engine, ServiceOptions options, std::shared_ptr<Forwarder> forwarder,
                 StubForwarders stubs)
    : engine_(engine),
      options_(std::move(options)),
      forwarder_(std::move(forwarder)),
      stubs_(std::move(stubs)),
      recursion_(forwarder_->server_count() > 0 || !stubs_.empty()),
      limiter_(options_.answers_per_second, options_.cookie_key) {
  const bool cluster = !options_.zone.zone.empty();
  set_zones(std::make_shared<const ZoneSet>(
      cluster ? std::make_shared<const ClusterZone>(options_.zone, nullptr) : nullptr, ZoneSet::Zones()));
}

bool Service::admits(const net::IpAddress& source) {
  const bool admitted = contains(options_.allow_from, source);
  if (!admitted) ++dropped_;
  return admitted;
}

RateVerdict Service::limit(const net::IpAddress& source, std::string_view packet) {
  if (options_.answers_per_second == 0 || contains(options_.unlimited, source)) return RateVerdict::answer;
  {
    std::lock_guard lock(limiter_mutex_);
    const RateVerdict verdict = limiter_.ask(source, engine_.clock().now().steady_ns);
    if (verdict == RateVerdict::answer) return verdict;
    // Who shows a cookie of ours really is there.
    const auto query = read_query(packet);
    const bool known =
        query && query->edns && is_own_cookie(options_.cookie_key, query->edns->cookie, source, seconds());
    if (known) return RateVerdict::answer;
    ++limited_;
    return verdict;
  }
}

/// One publisher at a time; the version moves behind the zones, so that who sees it sees them.
void Service::set_zones(SharedZones zones) {
  zones_.store(std::move(zones));
  version_.fetch_add(1, std::memory_order_acq_rel);
}

void Service::publish(std::shared_ptr<const NetworkSnapshot> snapshot) {
  if (options_.zone.zone.empty()) return;
  std::lock_guard lock(change_mutex_);
  const SharedZones old = zones_.load();
  set_zones(std::make_shared<const ZoneSet>(
      std::make_shared<const ClusterZone>(options_.zone, std::move(snapshot), old->cluster().get()),
      old->zones()));
}

Result<void> Service::add_zone(std::shared_ptr<const DnsZone> zone) {
  auto known = std::dynamic_pointer_cast<const AnyZone>(std::move(zone));
  if (!known) return Error(Error::invalid, "dns", "no zone to add");
  std::lock_guard lock(change_mutex_);
  const SharedZones old = zones_.load();
  if (old->cluster() && old->cluster()->name() == known->wire_name()) {
    return Error(Error::invalid, "dns", "zone " + known->name() + " is the cluster's own");
  }
  ZoneSet::Zones zones = old->zones();
  zones.insert_or_assign(known->wire_name(), known);
  set_zones(std::make_shared<const ZoneSet>(old->cluster(), std::move(zones)));
  return {};
}

Result<void> Service::remove_zone(const std::string& name) {
  std::lock_guard lock(change_mutex_);
  const SharedZones old = zones_.load();
  ZoneSet::Zones zones = old->zones();
  const auto wire = make_name(name);
  if (!wire || zones.erase(*wire) == 0) {
    return Error(Error::not_found, "dns", "there is no zone \"" + name + "\"");
  }
  set_zones(std::make_shared<const ZoneSet>(old->cluster(), std::move(zones)));
  return {};
}

Service::Handled Service::handle(std::string_view packet, const Asker& asker) {
  auto query = read_query(packet);
  if (!query) {
    ++dropped_;
    return {};
  }
  ++queries_;
  counts_.asked(type_index(*query));
  if (query->refusal) return {.packet = write(*query, asker, {.ours = false, .rcode = *query->refusal})};
  return answer_query(std::move(*query), asker);
}

Service::Handled Service::answer_query(Query query, const Asker& asker) {
  const SharedZones zones = zones_.load();
  const std::uint32_t rotation = rotation_.fetch_add(1, std::memory_order_relaxed);
  Answer answer = zones->answer(*query.question, rotation);
  const auto& forwarder = forwarder_of(answer.chase.value_or(query.question->name));
  const bool can_ask = forwarder->server_count() > 0 && query.recursion_desired;
  if (!answer.ours && is_own_probe(query.question->name)) answer.rcode = Rcode::refused;
  if (!answer.ours && !can_ask) {
    answer.rcode = Rcode::refused;
    answer.extended = ExtendedError{kNotAuthoritative, ""};
  }
  const bool address = query.question->type == Type::a || query.question->type == Type::aaaa;
  const bool by_asker = options_.autopath && address && answer.ours && answer.rcode == Rcode::name_error;
  if (by_asker && can_ask) {
    if (auto rest = walk_search(*zones, query, asker, answer, rotation)) {
      ++forwarded_;
      return {.packet = {}, .rest = std::move(rest)};
    }
  }
  if (answer.passes_on) {
    answer.keep &= forwarder->server_count() == 0;
    if (can_ask && !answer.chase) answer = {.ours = false};
    if (!can_ask) answer.chase.reset();  // then the name is not there
  }
  if ((answer.ours && !answer.chase) || !can_ask || answer.rcode == Rcode::refused) {
    // Not the same for all who may ask: a name that autopath goes on from for some pods, and half an answer,
    // which only those get who want no recursion.
    const bool half = answer.chase && forwarder->server_count() > 0;
    const bool keep = answer.ours && answer.keep && !by_asker && !half &&
                      (answer.rcode == Rcode::no_error || answer.rcode == Rcode::name_error);
    return {.packet = write(query, asker, answer), .rest = {}, .keep = keep};
  }
  ++forwarded_;
  return {.packet = {}, .rest = Unfinished{std::move(query), asker, std::move(answer)}};
}

/// The name was looked up below the asking pod's own namespace and is not there: what the client would ask
/// next, in its order. Found among our zones: `answer` becomes it. Else the name itself, upstream.
std::optional<Service::Unfinished> Service::walk_search(const ZoneSet& zones, const Query& query,
                                                        const Asker& asker, Answer& answer,
                                                        std::uint32_t rotation) {
  const Question& asked = *query.question;
  const NetworkSnapshot* snapshot = zones.cluster() ? zones.cluster()->snapshot() : nullptr;
  if (snapshot == nullptr || (asked.type != Type::a && asked.type != Type::aaaa)) return std::nullopt;
  const NetworkPod* pod = snapshot->find_pod_by_address(asker.address.to_string());
  const Name& zone = zones.cluster()->name();
  const auto bare = pod ? before_search(asked.name, pod->ns, zone) : std::nullopt;
  if (!bare) return std::nullopt;
  const std::string_view labels(bare->data(), bare->size() - 1);
  Answer found;
  const auto begin_with_alias = [&](const Name& target) {
    found.keep = false;
    found.answers.insert(found.answers.begin(), {asked.name, Type::cname, options_.zone.ttl, target});
  };
  for (const Name& suffix : {std::string("\3svc") + zone, zone, std::string(1, '\0')}) {
    Question next = asked;
    next.name = std::string(labels) + suffix;
    if (next.name.size() > kNameBytesMax) continue;
    found = zones.answer(next, rotation);
    if (found.ours && (found.rcode != Rcode::no_error || found.answers.empty())) continue;
    begin_with_alias(next.name);
    if (found.ours && !found.chase) {
      answer = std::move(found);
      return std::nullopt;
    }
    if (!found.chase) found.chase = next.name;
    found.ours = true;
    Unfinished rest{query, asker, std::move(found)};
    rest.chase_or_none = true;
    rest.if_none = std::make_shared<Answer>(answer);
    return rest;
  }
  return std::nullopt;
}

std::string Service::refer_to_tcp(std::string_view packet) {
  const auto query = read_query(packet);
  if (!query || !query->question) return {};
  return write_answer(*query, Rcode::no_error, {.truncated = true}, {}, {}, {}, kUdpBytes);
}

/// Each forwarder looks for its own: the name may lie below the domain of another one.
bool Service::is_own_probe(const Name& name) const {
  return forwarder_->is_own_probe(name) || std::any_of(stubs_.begin(), stubs_.end(), [&](const auto& stub) {
           return stub.second->is_own_probe(name);
         });
}

const std::shared_ptr<Forwarder>& Service::forwarder_of(const Name& name) const {
  if (stubs_.empty()) return forwarder_;
  for (std::string_view above = name; above.size() > 1;) {
    if (const auto found = stubs_.find(above); found != stubs_.end()) return found->second;
    above.remove_prefix(static_cast<unsigned char>(above[0]) + 1u);
  }
  return forwarder_;
}

void Service::finish(Unfinished rest, Reply reply) {
  UpstreamQuestion question{.question = *rest.query.question,
                            .dnssec_ok = rest.query.edns && rest.query.edns->dnssec_ok,
                            .checking_disabled = rest.query.checking_disabled};
  if (rest.answer.chase) question.question.name = *rest.answer.chase;
  const auto forwarder = forwarder_of(question.question.name);
  forwarder->resolve(std::move(question), [self = shared_from_this(), rest = std::move(rest),
                                           reply = std::move(reply)](CachedAnswer found) {
    if (rest.chase_or_none &&
        (found.rcode == Rcode::name_error || (found.rcode == Rcode::no_error && found.answers.empty()))) {
      return reply(self->write(rest.query, rest.asker, *rest.if_none));
    }
    Answer answer = rest.answer;
    answer.rcode = answer.chase && found.rcode == Rcode::refused ? Rcode::server_failure : found.rcode;
    answer.answers.insert(answer.answers.end(), found.answers.begin(), found.answers.end());
    answer.authority = found.authority;
    answer.extended = found.extended;
    // Half an ExternalName would be remembered as the whole.
    if (answer.rcode == Rcode::server_failure) answer.answers.clear();
    reply(self->write(rest.query, rest.asker, answer));
  });
}

std::string Service::write(const Query& query, const Asker& asker, const Answer& answer) {
  if (answer.rcode == Rcode::name_error) ++name_errors_;
  if (answer.rcode == Rcode::server_failure) ++failures_;
  counts_.answered(type_index(query), DnsCounts::rcode_index(answer.rcode));
  AnswerFlags flags{.authoritative = answer.ours && !answer.referral && answer.rcode != Rcode::server_failure,
                    .recursion_available = recursion_,
                    .truncated = false,
                    .cookie = {},
                    .extended = answer.extended,
                    .pad_to = asker.secure && query.edns && query.edns->padded ? kAnswerBlock : 0};
  if (query.edns && !query.edns->cookie.empty())
    flags.cookie = make_cookie(options_.cookie_key, query.edns->cookie, asker.address, seconds());
  return write_answer(query, answer.rcode, flags, answer.answers, answer.authority, answer.additional,
                      asker.udp ? udp_limit(query) : kTcpBytesMax);
}

std::int64_t Service::begin_ns() const { return options_.durations ? engine_.clock().now().steady_ns : 0; }

void Service::took(std::int64_t begin_ns, std::uint64_t answers) const {
  if (!options_.durations || answers == 0) return;
  const std::int64_t ns = engine_.clock().now().steady_ns - begin_ns;
  options_.durations->observe(static_cast<double>(ns) / 1e9, answers);
}

std::uint32_t Service::seconds() const {
  return static_cast<std::uint32_t>(engine_.clock().now().wall_ns / 1'000'000'000);
}

void Service::count_remembered(const RememberedCounts& counts) {
  queries_.fetch_add(counts.answers, std::memory_order_relaxed);
  remembered_.fetch_add(counts.answers, std::memory_order_relaxed);
  if (counts.forwarded > 0) forwarded_.fetch_add(counts.forwarded, std::memory_order_relaxed);
  if (counts.name_errors > 0) name_errors_.fetch_add(counts.name_errors, std::memory_order_relaxed);
  for (std::size_t type = 0; type < counts.by_type.size(); ++type) {
    const auto [answers, name_errors] = counts.by_type[type];
    if (answers + name_errors == 0) continue;
    counts_.asked(type, answers + name_errors);
    if (answers > 0) counts_.answered(type, DnsCounts::rcode_index(Rcode::no_error), answers);
    if (name_errors > 0) counts_.answered(type, DnsCounts::rcode_index(Rcode::name_error), name_errors);
  }
}

void Service::stop() {
  forwarder_->stop();
  for (const auto& [name, stub] : stubs_) stub->stop();
}

DnsStats Service::stats() const {
  DnsStats out{.queries = queries_,
               .forwarded = forwarded_,
               .dropped = dropped_,
               .name_errors = name_errors_,
               .failures = failures_,
               .limited = limited_,
               .remembered = remembered_};
  counts_.tell(out);
  forwarder_->tell(out);
  for (const auto& [name, stub] : stubs_) stub->tell(out);
  return out;
}

}  // namespace orchestra::dns
