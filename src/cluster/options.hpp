#pragma once
// What a cluster keeps in its folder besides the state of its parts: instance id and address ranges; and the
// small decisions made from options and the machine. Pure except where it says so.
#include <memory>
#include <string>
#include <vector>

#include "orchestra/cluster.hpp"
#include "orchestra/env.hpp"

namespace orchestra::cluster {

inline constexpr const char* kDefaultPodCidr = "10.244.0.0/16";
inline constexpr const char* kDefaultServiceCidr = "10.96.0.0/16";
inline constexpr const char* kProcessPodCidr = "127.128.0.0/12";
inline constexpr const char* kProcessServiceCidr = "127.96.0.0/16";

/// DIR/instance: 8 hex digits, made once.
Result<std::string> load_instance(const std::string& data_dir, Random& random);

/// Makes the folder, takes its lock (`busy` names the holder) and reads the instance id.
Result<std::shared_ptr<void>> lock_folder(Engine& engine, const std::string& data_dir, std::string& instance);

/// A range of each family, as --pod-cidr and --service-cidr name them: "10.244.0.0/16,fd00:10:244::/96", or
/// one of them alone. The family of the first is that of podIP, of Services that do not say, and of the
/// node's address among the pods.
struct FamilyRanges {
  std::string v4;  ///< empty: IPv6 only
  std::string v6;  ///< empty: IPv4 only
  bool six_first = false;
};
/// Canonical texts. Pure.
Result<FamilyRanges> split_ranges(const std::string& option, const std::string& text);
std::string join_ranges(const FamilyRanges& ranges);
/// Pods and Services fit each other: the same first family (Services may have that one only), no overlap,
/// sizes. Pure.
Result<void> check_ranges(const std::string& pods, const std::string& services);
/// The IPv4 form in which pods are numbered: their range of IPv4, or where they have none another's.
std::string numbers_of(const FamilyRanges& pods);

struct Ranges {
  std::string pods, services;  ///< as the options name them
  std::string node;            ///< this node's part of the pods'; empty: none yet
};
/// DIR/net/ranges.json, written at the first start so that later starts use the same.
Result<Ranges> load_ranges(const std::string& data_dir);
Result<void> save_ranges(const std::string& data_dir, const Ranges& ranges);
/// "10.96.0.0/16", 1 -> "10.96.0.1"; of the first range.
std::string address_in(const std::string& cidr, unsigned offset);

struct Resolver {
  std::vector<std::string> servers, search;
};
/// name servers and search domains of a resolv.conf text; loopback stubs are left out when `skip_loopback`.
Resolver parse_resolv_conf(const std::string& text, bool skip_loopback);

/// The host's name in the form of a Node's.
std::string host_name();
/// The address that this machine uses towards others by its default route; empty: it has none. No packet is
/// sent.
std::string default_address();

/// "10.244.1.1:53", "[fd00::1]:53"
std::string with_port(const std::string& address, int port);
/// Splits "127.0.0.1:8080"; port -1 if malformed.
std::pair<std::string, int> split_address(const std::string& address);

}  // namespace orchestra::cluster
