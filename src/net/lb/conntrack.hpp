#pragma once
// Stale UDP entries of connection tracking.
//
// A UDP client with a fixed port keeps its entry alive for ever, and with it the endpoint that the entry
// was translated to. So after a change every entry towards a changed UDP front is looked at: it goes when
// what answers it is not one of the front's endpoints any more. That covers an endpoint that is gone, a
// Service that lost its last one or was deleted, and one that got its first (the entry then leads to the
// untranslated front). Entries of endpoints that serve stay, also at a restart; TCP is left alone there.
// Network policies use the same list to cut what a change denies.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "net/lb/rule_plan.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct TrackedFlow {
  IpProtocol protocol = IpProtocol::udp;
  IpAddress client, front;  ///< original source and destination
  std::uint16_t front_port = 0;
  IpAddress server;  ///< who answers: source of the reply direction
  std::uint16_t server_port = 0;
  std::string original_tuple;  ///< the kernel's attribute, for the removal
};

/// Pure. Fronts sorted by UdpFront::operator<.
bool is_stale(const TrackedFlow& entry, const std::vector<UdpFront>& fronts);

/// How full the table of connection tracking is; limit 0: not known.
struct ConntrackUse {
  std::uint64_t entries = 0, limit = 0;
  double ratio() const { return limit == 0 ? 0 : static_cast<double>(entries) / static_cast<double>(limit); }
};
Result<ConntrackUse> conntrack_use(const NetworkNamespace& name_space);
constexpr double kConntrackWarnRatio = 0.8, kConntrackWellRatio = 0.7;
/// Says once when the table has come to kConntrackWarnRatio, and again only after it was below
/// kConntrackWellRatio. Pure.
class ConntrackAlarm {
 public:
  /// A sentence, or "".
  std::string look(const ConntrackUse& use);

 private:
  bool told_ = false;
};

class ConntrackCleaner {
 public:
  /// Of flows of one family.
  static Result<ConntrackCleaner> open(const NetworkNamespace& name_space, int family = 4);
  /// Answers how many entries were removed.
  Result<std::size_t> remove_stale(std::vector<UdpFront> fronts);
  /// The TCP, UDP and SCTP flows for which `gone` says so.
  Result<std::size_t> remove_if(const std::function<bool(const TrackedFlow&)>& gone);

 private:
  ConntrackCleaner(Fd fd, int family) : fd_(std::move(fd)), family_(family) {}
  Result<std::vector<TrackedFlow>> list();
  Result<void> remove(const TrackedFlow& entry);
  Fd fd_;
  int family_;
  std::uint32_t sequence_ = 1;
};

}  // namespace orchestra::net
