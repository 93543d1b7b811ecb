#include "net/podnet/address_pool.hpp"

#include <algorithm>

#include "base/json.hpp"

namespace orchestra::net {
namespace {

bool clash(const HostPort& a, const HostPort& b) {
  return a.protocol == b.protocol && a.host_port == b.host_port &&
         (a.host_address.empty() || b.host_address.empty() || a.host_address == b.host_address);
}

/// Two ports of one pod with one key: only one of them can lead anywhere. A port of one address beside the
/// same of all addresses is none: the narrower one goes first.
const HostPort* find_duplicate(const std::vector<HostPort>& ports) {
  for (auto port = ports.begin(); port != ports.end(); ++port) {
    for (auto before = ports.begin(); before != port; ++before) {
      if (before->protocol == port->protocol && before->host_port == port->host_port &&
          before->host_address == port->host_address)
        return &*port;
    }
  }
  return nullptr;
}

json::array ports_to_json(const std::vector<HostPort>& ports) {
  json::array out;
  for (const HostPort& port : ports) {
    out.push_back(json::object{{"protocol", to_string(port.protocol)},
                               {"hostIP", port.host_address},
                               {"hostPort", port.host_port},
                               {"port", port.pod_port}});
  }
  return out;
}

/// Nothing when one of them is not what ports_to_json() writes.
std::optional<std::vector<HostPort>> ports_from_json(const json::value& lease) {
  std::vector<HostPort> out;
  const json::array* list = array_at(lease, "/hostPorts");
  if (list == nullptr) return out;
  for (const json::value& item : *list) {
    HostPort port;
    const std::string protocol = string_at(item, "/protocol");
    bool known = false;
    for (const IpProtocol one : {IpProtocol::tcp, IpProtocol::udp, IpProtocol::sctp}) {
      if (protocol != to_string(one)) continue;
      port.protocol = one;
      known = true;
    }
    port.host_address = string_at(item, "/hostIP");
    const std::int64_t host = int_at(item, "/hostPort"), inside = int_at(item, "/port");
    const bool address = port.host_address.empty() || IpAddress::parse(port.host_address);
    if (!known || !address || host < 1 || host > 65535 || inside < 1 || inside > 65535) return std::nullopt;
    port.host_port = static_cast<std::uint16_t>(host);
    port.pod_port = static_cast<std::uint16_t>(inside);
    out.push_back(std::move(port));
    if (find_duplicate(out) != nullptr) out.pop_back();  // earlier versions kept what they could not publish
  }
  return out;
}

}  // namespace

AddressPool::AddressPool(const IpRange& range, std::int64_t cooldown_ns)
    : range_(range), cooldown_ns_(cooldown_ns) {
  const std::uint32_t base = range.base.v4_number();
  const std::uint32_t size = std::uint32_t{1} << (32 - range.prefix);
  first_ = base + 1;
  last_ = base + size - 2;  // the broadcast address stays free
  cursor_ = first_;
}

Result<AddressPool> AddressPool::create(const IpRange& range, std::int64_t cooldown_ns) {
  if (!range.base.is_v4() || range.prefix < 8 || range.prefix > 29) {
    return Error(Error::invalid, "podnet",
                 "pod range " + range.to_string() + " must be IPv4 with a prefix of /8 to /29");
  }
  return AddressPool(range, cooldown_ns);
}

Result<void> AddressPool::load(std::string_view journal, std::int64_t now_ns) {
  ORC_ASSIGN(const json::value root, parse_json(journal));
  const auto bad = [&](const std::string& why) {
    return Error(Error::corrupt, "podnet",
                 "the address journal of " + range_.to_string() + " is damaged: " + why);
  };
  if (string_at(root, "/range") != range_.to_string()) {
    return bad("it is for the range \"" + string_at(root, "/range") + "\"");
  }
  const auto pod_address = [&](const json::value& item) -> std::optional<std::uint32_t> {
    const auto address = IpAddress::parse(string_at(item, "/address"));
    if (!address || !address->is_v4()) return std::nullopt;
    const auto number = address->v4_number();
    if (number <= first_ || number > last_) return std::nullopt;
    return number;
  };
  if (const auto* items = array_at(root, "/leases")) {
    for (const auto& item : *items) {
      const auto number = pod_address(item);
      Lease lease{string_at(item, "/uid"), string_at(item, "/namespace"), string_at(item, "/name"), {}, {}};
      if (!number || lease.pod_uid.empty()) return bad("lease " + to_json(item) + " is not of this range");
      if (!used_.insert(*number).second) return bad("address of " + to_json(item) + " is leased twice");
      lease.address = IpAddress::v4(*number);
      auto ports = ports_from_json(item);
      if (!ports) return bad("lease " + to_json(item) + " has ports that are none");
      lease.host_ports = std::move(*ports);
      const std::string uid = lease.pod_uid;
      by_pod_[uid] = std::move(lease);
    }
  }
  if (const auto* items = array_at(root, "/released")) {
    for (const auto& item : *items) {
      const auto number = pod_address(item);
      if (!number) continue;
      // A wall clock that was set back must not lock an address for longer than one cool-down.
      released_[*number] = std::min(int_at(item, "/at"), now_ns);
    }
  }
  const auto cursor = IpAddress::parse(string_at(root, "/last"));
  if (cursor && range_.contains(*cursor)) cursor_ = cursor->v4_number();
  return {};
}

std::string AddressPool::journal() const {
  json::array leases, released;
  for (const auto& [uid, lease] : by_pod_) {
    json::object one{
        {"uid", uid}, {"namespace", lease.ns}, {"name", lease.name}, {"address", lease.address.to_string()}};
    if (!lease.host_ports.empty()) one["hostPorts"] = ports_to_json(lease.host_ports);
    leases.push_back(std::move(one));
  }
  for (const auto& [address, at] : released_) {
    released.push_back(json::object{{"address", IpAddress::v4(address).to_string()}, {"at", at}});
  }
  return to_json(json::object{{"range", range_.to_string()},
                              {"last", IpAddress::v4(cursor_).to_string()},
                              {"leases", std::move(leases)},
                              {"released", std::move(released)}});
}

bool AddressPool::is_cooled(std::uint32_t address, std::int64_t now_ns) const {
  const auto released = released_.find(address);
  return released == released_.end() || now_ns - released->second >= cooldown_ns_;
}

Result<AddressPool::Lease> AddressPool::reserve(const std::string& pod_uid, const std::string& ns,
                                                const std::string& name, std::int64_t now_ns) {
  if (const auto known = by_pod_.find(pod_uid); known != by_pod_.end()) return known->second;
  const std::uint32_t count = last_ - first_;  // of pod addresses
  std::optional<std::uint32_t> chosen;
  for (std::uint32_t step = 1; step <= count && !chosen; ++step) {
    const std::uint32_t candidate = first_ + 1 + (cursor_ - first_ - 1 + step) % count;
    if (!used_.contains(candidate) && is_cooled(candidate, now_ns)) chosen = candidate;
  }
  if (!chosen) {
    std::string message =
        "no address left in " + range_.to_string() + ": " + std::to_string(used_.size()) + " in use";
    if (used_.size() < count) {
      message += ", " + std::to_string(count - used_.size()) + " released less than " +
                 std::to_string(cooldown_ns_ / 1'000'000'000) + " s ago";
    }
    return Error(Error::resource_exhausted, "podnet", message);
  }
  cursor_ = *chosen;
  used_.insert(*chosen);
  released_.erase(*chosen);
  Lease lease{pod_uid, ns, name, IpAddress::v4(*chosen), {}};
  by_pod_[pod_uid] = lease;
  return lease;
}

Result<bool> AddressPool::set_host_ports(const std::string& pod_uid, const std::vector<HostPort>& ports) {
  const auto own = by_pod_.find(pod_uid);
  if (own == by_pod_.end()) return Error(Error::not_found, "podnet", "pod " + pod_uid + " has no address");
  if (own->second.host_ports == ports) return false;
  if (const HostPort* twice = find_duplicate(ports)) {
    return Error(Error::invalid, "podnet",
                 "the pod asks for port " + to_string(*twice) + " of this machine twice");
  }
  for (const auto& [uid, lease] : by_pod_) {
    if (uid == pod_uid) continue;
    for (const HostPort& taken : lease.host_ports) {
      for (const HostPort& port : ports) {
        if (!clash(taken, port)) continue;
        return Error(Error::conflict, "podnet",
                     "port " + to_string(port) + " of this machine leads to pod " + lease.ns + "/" +
                         lease.name + " already");
      }
    }
  }
  own->second.host_ports = ports;
  return true;
}

bool AddressPool::adopt(const std::string& pod_uid, const IpAddress& address) {
  if (!address.is_v4() || by_pod_.contains(pod_uid)) return false;
  const std::uint32_t number = address.v4_number();
  if (number <= first_ || number > last_ || !used_.insert(number).second) return false;
  released_.erase(number);
  by_pod_[pod_uid] = Lease{pod_uid, "", "", address, {}};
  return true;
}

bool AddressPool::release(const std::string& pod_uid, std::int64_t now_ns) {
  const auto lease = by_pod_.find(pod_uid);
  if (lease == by_pod_.end()) return false;
  const std::uint32_t number = lease->second.address.v4_number();
  used_.erase(number);
  released_[number] = now_ns;
  by_pod_.erase(lease);
  return true;
}

const AddressPool::Lease* AddressPool::find(const std::string& pod_uid) const {
  const auto lease = by_pod_.find(pod_uid);
  return lease == by_pod_.end() ? nullptr : &lease->second;
}

std::vector<AddressPool::Lease> AddressPool::leases() const {
  std::vector<Lease> out;
  out.reserve(by_pod_.size());
  for (const auto& [uid, lease] : by_pod_) out.push_back(lease);
  return out;
}

}  // namespace orchestra::net
