#include "net/dns/service.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace orchestra::dns {

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

Service::Service(ZoneOptions zone, std::vector<net::IpRange> allow_from, std::shared_ptr<Forwarder> forwarder)
    : options_(std::move(zone)), allow_from_(std::move(allow_from)), forwarder_(std::move(forwarder)) {
  publish(nullptr);
}

bool Service::admits(const http::SocketAddress& source) {
  const net::IpAddress address = ip_of(source);
  const bool admitted = std::any_of(allow_from_.begin(), allow_from_.end(),
                                    [&](const net::IpRange& range) { return range.contains(address); });
  if (!admitted) ++dropped_;
  return admitted;
}

void Service::publish(std::shared_ptr<const NetworkSnapshot> snapshot) {
  zone_.store(std::make_shared<const ClusterZone>(options_, std::move(snapshot)));
}

Service::Handled Service::handle(std::string_view packet, bool udp) {
  auto query = read_query(packet);
  if (!query) {
    ++dropped_;
    return {};
  }
  ++queries_;
  if (query->refusal) return {.packet = write(*query, udp, {.ours = false, .rcode = *query->refusal})};
  const SharedZone zone = zone_.load();
  Answer answer = zone->answer(*query->question, rotation_.fetch_add(1, std::memory_order_relaxed));
  const bool can_ask = forwarder_->server_count() > 0 && query->recursion_desired;
  if (!answer.ours && !can_ask) answer.rcode = Rcode::refused;
  if ((answer.ours && !answer.chase) || !can_ask) return {.packet = write(*query, udp, answer)};
  ++forwarded_;
  return {.packet = {}, .rest = Unfinished{std::move(*query), udp, std::move(answer)}};
}

void Service::finish(Unfinished rest, Reply reply) {
  UpstreamQuestion question{.question = *rest.query.question,
                            .dnssec_ok = rest.query.edns && rest.query.edns->dnssec_ok,
                            .checking_disabled = rest.query.checking_disabled};
  if (rest.answer.chase) question.question.name = *rest.answer.chase;
  forwarder_->resolve(std::move(question), [self = shared_from_this(), rest = std::move(rest),
                                            reply = std::move(reply)](CachedAnswer found) {
    Answer answer = rest.answer;
    answer.rcode = answer.chase && found.rcode == Rcode::refused ? Rcode::server_failure : found.rcode;
    answer.answers.insert(answer.answers.end(), found.answers.begin(), found.answers.end());
    answer.authority = found.authority;
    // Half an ExternalName would be remembered as the whole.
    if (answer.rcode == Rcode::server_failure) answer.answers.clear();
    reply(self->write(rest.query, rest.udp, answer));
  });
}

std::string Service::write(const Query& query, bool udp, const Answer& answer) {
  if (answer.rcode == Rcode::name_error) ++name_errors_;
  if (answer.rcode == Rcode::server_failure) ++failures_;
  const AnswerFlags flags{.authoritative = answer.ours && answer.rcode != Rcode::server_failure,
                          .recursion_available = forwarder_->server_count() > 0};
  return write_answer(query, answer.rcode, flags, answer.answers, answer.authority, answer.additional,
                      udp ? udp_limit(query) : kTcpBytesMax);
}

DnsStats Service::stats() const {
  return {.queries = queries_,
          .forwarded = forwarded_,
          .dropped = dropped_,
          .name_errors = name_errors_,
          .failures = failures_};
}

}  // namespace orchestra::dns
