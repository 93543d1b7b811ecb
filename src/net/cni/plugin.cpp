#include "net/cni/plugin.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <set>

#include "api/pod_attacher.hpp"
#include "base/fd.hpp"
#include "net/cni/configuration.hpp"
#include "net/snapshot.hpp"
#include "orchestra/env.hpp"

namespace orchestra::net {
namespace {

constexpr const char* kVersions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
constexpr const char* kGateway = "169.254.1.1";
constexpr const char* kGateway6 = "fe80::1";
constexpr const char* kInterface = "eth0";
constexpr std::size_t kPortsMax = 4096;
constexpr Duration kDeadline = std::chrono::seconds(25);  // a runtime waits 30 s and more

/// Error codes of SPEC.md section 5; from 100 on a plugin's own.
enum Code {
  kIncompatibleVersion = 1,
  kUnknownContainer = 3,
  kBadEnvironment = 4,
  kInputOutput = 5,
  kUndecodable = 6,
  kBadConfiguration = 7,
  kTryAgain = 11,
  kNotReady = 50,
};

CniAnswer fail(const std::string& version, int code, const std::string& message) {
  return {1, to_json(json::object{{"cniVersion", version}, {"code", code}, {"msg", message}}) + "\n"};
}

int code_of(const Error& error) {
  if (error.is(Error::resource_exhausted) || error.is(Error::busy) || error.is(Error::deadline_exceeded))
    return kTryAgain;
  if (error.is(Error::invalid) || error.is(Error::conflict)) return kBadConfiguration;
  return kInputOutput;
}

/// Eight hex digits from the network's name: FNV-1a, 32 bits. Another name in the same folder is refused by
/// the journal there. Two names with the same digits (one pair in four thousand million) in two folders are
/// not told apart: the second network takes over the first one's gateway link and tables.
std::string instance_of(const std::string& name) {
  std::uint32_t hash = 2166136261u;
  for (const unsigned char c : name) hash = (hash ^ c) * 16777619u;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", hash);
  return text;
}

/// One of runtimeConfig.portMappings, as Debian's portmap reads it: ports of 1 to 65535, no default for them.
Result<HostPort> read_mapping(const json::value& mapping, bool has_six) {
  const auto refuse = [&](const std::string& why) {
    return Error(Error::invalid, "cni", "portMappings has " + to_json(mapping) + ": " + why);
  };
  if (!mapping.is_object()) return refuse("it is no object");
  HostPort port;
  std::string protocol = string_at(mapping, "/protocol", "tcp");
  std::transform(protocol.begin(), protocol.end(), protocol.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  bool known = false;
  for (const IpProtocol one : {IpProtocol::tcp, IpProtocol::udp, IpProtocol::sctp}) {
    if (protocol != to_string(one)) continue;
    port.protocol = one;
    known = true;
  }
  if (!known) return refuse("its protocol is none of tcp, udp, sctp");
  port.host_address = string_at(mapping, "/hostIP");
  if (port.host_address == "0.0.0.0" || port.host_address == "::") port.host_address.clear();
  const auto address = IpAddress::parse(port.host_address);
  if (!port.host_address.empty() && !address) return refuse("its hostIP is no address");
  if (address && !address->is_v4() && !has_six)
    return refuse("its hostIP is IPv6, and the network has no clusterCIDR6");
  const std::int64_t host = int_at(mapping, "/hostPort"), inside = int_at(mapping, "/containerPort");
  if (host < 1 || host > 65535) return refuse("its hostPort is not between 1 and 65535");
  if (inside < 1 || inside > 65535) return refuse("its containerPort is not between 1 and 65535");
  port.host_port = static_cast<std::uint16_t>(host);
  port.pod_port = static_cast<std::uint16_t>(inside);
  return port;
}

Result<void> read_wishes(const json::value& config, AttachRequest& request) {
  const json::value* ports = find(config, "/runtimeConfig/portMappings");
  if (ports != nullptr && !ports->is_null()) {
    if (!ports->is_array()) return Error(Error::invalid, "cni", "portMappings is no list");
    if (ports->get_array().size() > kPortsMax)
      return Error(Error::invalid, "cni",
                   "portMappings has more than " + std::to_string(kPortsMax) + " entries");
    for (const json::value& one : ports->get_array()) {
      ORC_ASSIGN(HostPort port, read_mapping(one, !string_at(config, "/clusterCIDR6").empty()));
      request.host_ports.push_back(std::move(port));
    }
  }
  const auto rate = [&](const char* path) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(int_at(config, path), 0));
  };
  request.ingress_bits = rate("/runtimeConfig/bandwidth/ingressRate");
  request.egress_bits = rate("/runtimeConfig/bandwidth/egressRate");
  return {};
}

class Call {
 public:
  Call(Engine& engine, const CniCall& call) : engine_(engine), call_(call) {}

  CniAnswer answer() {
    if (call_.command == "VERSION") return versions();
    auto parsed = parse_json(call_.input);
    if (!parsed || !parsed->is_object())
      return fail("1.1.0", kUndecodable, "the configuration is no JSON object");
    config_ = std::move(*parsed);
    version_ = string_at(config_, "/cniVersion");
    if (std::find(std::begin(kVersions), std::end(kVersions), version_) == std::end(kVersions))
      return fail("1.1.0", kIncompatibleVersion,
                  "cniVersion \"" + version_ + "\" is not spoken; 0.3.0 to 1.1.0 are");
    name_ = string_at(config_, "/name");
    if (!is_container_id(name_))  // a folder is named by it
      return fail(version_, kBadConfiguration,
                  "the network's name is \"" + name_ +
                      "\"; letters, digits and \"_.-\" may be in it, the first no sign");
    const bool of_container = call_.command == "ADD" || call_.command == "DEL" || call_.command == "CHECK";
    if (of_container && !is_container_id(call_.container_id))
      return fail(version_, kBadEnvironment, "CNI_CONTAINERID is \"" + call_.container_id + "\"");
    if (of_container && call_.interface_name != kInterface)
      return fail(version_, kBadEnvironment,
                  "CNI_IFNAME is \"" + call_.interface_name + "\"; only eth0 is made");
    auto opened = open();
    if (!opened)
      return fail(version_, call_.command == "STATUS" ? kNotReady : code_of(opened.error()),
                  opened.error().to_string());
    if (call_.command == "ADD") return add();
    if (call_.command == "DEL") return done(network_->attacher()->detach(call_.container_id).wait(kDeadline));
    if (call_.command == "CHECK") return check();
    if (call_.command == "GC") return collect();
    if (call_.command == "STATUS") return {};
    return fail(version_, kBadEnvironment, "CNI_COMMAND is \"" + call_.command + "\"");
  }

 private:
  static CniAnswer versions() {
    json::array list;
    for (const char* one : kVersions) list.push_back(json::value(one));
    return {0, to_json(json::object{{"cniVersion", "1.1.0"}, {"supportedVersions", std::move(list)}}) + "\n"};
  }

  CniAnswer done(const Result<void>& result) const {
    return result ? CniAnswer{} : fail(version_, code_of(result.error()), result.error().to_string());
  }

  Result<void> open() {
    PodNetworkOptions options;
    options.data_dir = string_at(config_, "/dataDir", "/var/lib/orchestra-cni/" + name_);
    options.instance = instance_of(name_);
    options.pod_cidr = string_at(config_, "/podCIDR");
    options.cluster_cidr = string_at(config_, "/clusterCIDR");
    options.cluster_cidr6 = string_at(config_, "/clusterCIDR6");
    options.mtu = static_cast<int>(int_at(config_, "/mtu"));
    options.name_space = call_.node;
    ORC_TRY(make_directories(options.data_dir, 0700));
    ORC_ASSIGN(lock_, open_file(options.data_dir + "/lock", O_RDWR | O_CREAT | O_CLOEXEC));
    if (::flock(lock_.get(), LOCK_EX) != 0)
      return system_error("cni", "flock", options.data_dir + "/lock", errno);
    ORC_ASSIGN(network_, PodNetwork::open(engine_, options));
    return {};
  }

  CniAnswer add() {
    auto where = NetworkNamespace::open(call_.net_namespace);
    if (!where) return fail(version_, kBadEnvironment, "CNI_NETNS: " + where.error().to_string());
    AttachRequest request{call_.container_id, "", call_.container_id, where->fd()};
    if (auto wishes = read_wishes(config_, request); !wishes)
      return fail(version_, kBadConfiguration, wishes.error().to_string());
    const auto attached = network_->attacher()->attach(request).wait(kDeadline);
    if (!attached) {
      (void)network_->attacher()->detach(call_.container_id).wait(kDeadline);  // its error tells nothing new
      return fail(version_, code_of(attached.error()), attached.error().to_string());
    }
    json::array ips, routes;
    for (const std::string& address : attached->addresses) {
      const bool six = address.find(':') != std::string::npos;
      const char* gateway = six ? kGateway6 : kGateway;
      json::object ip{{"address", address + (six ? "/128" : "/32")}, {"gateway", gateway}, {"interface", 1}};
      if (!cni_version_at_least(version_, "1.0.0")) ip["version"] = six ? "6" : "4";
      ips.push_back(std::move(ip));
      routes.push_back(json::object{{"dst", six ? "::/0" : "0.0.0.0/0"}, {"gw", gateway}});
    }
    const json::value result = json::object{
        {"cniVersion", version_},
        {"interfaces", json::array{json::object{{"name", attached->link}},
                                   json::object{{"name", kInterface}, {"sandbox", call_.net_namespace}}}},
        {"ips", std::move(ips)},
        {"routes", std::move(routes)},
        {"dns", json::object{}}};
    return {0, to_json(result) + "\n"};
  }

  CniAnswer check() {
    const auto known = network_->attacher()->list();
    if (!known) return fail(version_, code_of(known.error()), known.error().to_string());
    const bool there = std::any_of(known->begin(), known->end(),
                                   [&](const Attachment& one) { return one.pod_uid == call_.container_id; });
    return there ? CniAnswer{}
                 : fail(version_, kUnknownContainer, "container " + call_.container_id + " is not attached");
  }

  CniAnswer collect() {
    std::set<std::string> valid;
    const json::value* list = config_.get_object().if_contains("cni.dev/valid-attachments");
    if (list == nullptr || !list->is_array())
      return fail(version_, kBadConfiguration, "GC needs cni.dev/valid-attachments");
    for (const json::value& one : list->get_array()) valid.insert(string_at(one, "/containerID"));
    const auto removed = network_->reconcile(std::move(valid)).wait(kDeadline);
    return done(removed ? Result<void>() : Result<void>(removed.error()));
  }

  Engine& engine_;
  const CniCall& call_;
  json::value config_;
  std::string version_, name_;
  Fd lock_;
  std::shared_ptr<PodNetwork> network_;
};

}  // namespace

CniAnswer answer_cni_call(Engine& engine, const CniCall& call) { return Call(engine, call).answer(); }

}  // namespace orchestra::net
