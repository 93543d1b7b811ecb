#include "cluster/options.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <sstream>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "controllers/nodeipam/decide.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/snapshot.hpp"

namespace orchestra {

std::string default_data_dir() {
  if (geteuid() == 0) return "/var/lib/orchestra";
  const char* home = getenv("HOME");
  return std::string(home != nullptr && *home != '\0' ? home : "/tmp") + "/.local/share/orchestra";
}

namespace cluster {
namespace {
constexpr int kServicePrefix6Min = 108;  // as upstream: 2^20 addresses are enough
constexpr int kServicePrefix6Max = 126;
}  // namespace

Result<std::string> load_instance(const std::string& data_dir, Random& random) {
  const std::string path = data_dir + "/instance";
  auto text = read_file(path, 64);
  if (text) {
    while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) text->pop_back();
    if (text->size() == 8 && text->find_first_not_of("0123456789abcdef") == std::string::npos) return *text;
    return Error(Error::corrupt, "cluster",
                 path + " holds \"" + *text + "\", not 8 hex digits; remove the file after `orchestra down`");
  }
  if (!text.error().is(Error::not_found)) return text.error();
  char id[9];
  std::snprintf(id, sizeof id, "%08x", static_cast<unsigned>(random.next()));
  ORC_TRY(replace_file(path, std::string(id) + "\n", 0644, true));
  return std::string(id);
}

Result<std::shared_ptr<void>> lock_folder(Engine& engine, const std::string& data_dir,
                                          std::string& instance) {
  ORC_TRY(make_directories(data_dir, 0755));
  ORC_ASSIGN(auto lock, real_disk().lock(data_dir + "/LOCK"));
  ORC_ASSIGN(instance, load_instance(data_dir, engine.random()));
  return lock;
}

Result<FamilyRanges> split_ranges(const std::string& option, const std::string& text) {
  const auto refuse = [&](const std::string& why) {
    return Error(Error::invalid, "cluster", option + " " + text + ": " + why);
  };
  FamilyRanges out;
  const std::size_t comma = text.find(',');
  ORC_ASSIGN(const net::IpRange first, net::IpRange::parse(text.substr(0, comma)));
  out.six_first = !first.base.is_v4();
  (out.six_first ? out.v6 : out.v4) = first.to_string();
  if (comma == std::string::npos) return out;
  if (text.find(',', comma + 1) != std::string::npos) return refuse("at most two ranges, one of each family");
  ORC_ASSIGN(const net::IpRange second, net::IpRange::parse(text.substr(comma + 1)));
  if (second.base.is_v4() != out.six_first) return refuse("two ranges are one of IPv4 and one of IPv6");
  (out.six_first ? out.v4 : out.v6) = second.to_string();
  return out;
}

std::string join_ranges(const FamilyRanges& ranges) {
  const std::string& first = ranges.six_first ? ranges.v6 : ranges.v4;
  const std::string& second = ranges.six_first ? ranges.v4 : ranges.v6;
  return first.empty() || second.empty() ? first + second : first + "," + second;
}

std::string numbers_of(const FamilyRanges& pods) {
  return pods.v4.empty() ? controllers::kNumbersAlone : pods.v4;
}

Result<void> check_ranges(const std::string& pods, const std::string& services) {
  ORC_ASSIGN(const FamilyRanges of_pods, split_ranges("--pod-cidr", pods));
  ORC_ASSIGN(const FamilyRanges of_services, split_ranges("--service-cidr", services));
  const auto refuse = [](std::string why) { return Error(Error::invalid, "cluster", std::move(why)); };
  if (auto six = net::parse_cluster6(of_pods.v6); !six) return six.error().with_context("--pod-cidr");
  const auto lacks = [&](const char* family) {
    return refuse("--service-cidr " + services + " has an " + family + " range and --pod-cidr " + pods +
                  " has none");
  };
  if (!of_services.v6.empty() && of_pods.v6.empty()) return lacks("IPv6");
  if (!of_services.v4.empty() && of_pods.v4.empty()) return lacks("IPv4");
  if (of_services.six_first != of_pods.six_first)
    return refuse(
        "--service-cidr " + services + " and --pod-cidr " + pods +
        " must begin with the same family: it is that of the node, of podIP and of Services that do "
        "not say which");
  if (of_services.v6.empty()) return {};
  ORC_ASSIGN(const net::IpRange pods6, net::IpRange::parse(of_pods.v6));
  ORC_ASSIGN(const net::IpRange services6, net::IpRange::parse(of_services.v6));
  if (services6.prefix < kServicePrefix6Min || services6.prefix > kServicePrefix6Max)
    return refuse("--service-cidr " + services + ": the IPv6 range must have a prefix of /108 to /126");
  if (pods6.overlaps(services6)) return refuse("--service-cidr " + services + " overlaps --pod-cidr " + pods);
  return {};
}

Result<Ranges> load_ranges(const std::string& data_dir) {
  auto text = read_file(data_dir + "/net/ranges.json", 4096);
  if (!text) {
    if (text.error().is(Error::not_found)) return Ranges{};
    return text.error();
  }
  ORC_ASSIGN(const json::value value, parse_json(*text));
  return Ranges{string_at(value, "/pods"), string_at(value, "/services"), string_at(value, "/node")};
}

Result<void> save_ranges(const std::string& data_dir, const Ranges& ranges) {
  ORC_TRY(make_directories(data_dir + "/net", 0700));
  const json::value value =
      json::object{{"pods", ranges.pods}, {"services", ranges.services}, {"node", ranges.node}};
  return replace_file(data_dir + "/net/ranges.json", to_json(value) + "\n", 0600, true);
}

std::string address_in(const std::string& cidr, unsigned offset) {
  const auto range = net::IpRange::parse(cidr.substr(0, cidr.find(',')));
  if (!range) return {};
  net::IpAddress address = range->base;
  std::uint64_t sum = offset;  // carried from the last byte to the first
  for (std::size_t at = address.is_v4() ? 4 : 16; at-- > 0 && sum != 0; sum >>= 8) {
    sum += address.bytes[at];
    address.bytes[at] = static_cast<std::uint8_t>(sum);
  }
  return address.to_string();
}

Resolver parse_resolv_conf(const std::string& text, bool skip_loopback) {
  Resolver out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    line = line.substr(0, line.find_first_of("#;"));
    std::istringstream words(line);
    std::string key, word;
    words >> key;
    if (key == "nameserver" && words >> word) {
      const bool loopback = word.rfind("127.", 0) == 0 || word == "::1";
      if (!(loopback && skip_loopback)) out.servers.push_back(word);
    } else if (key == "search" || key == "domain") {
      out.search.clear();
      while (words >> word) out.search.push_back(word);
    }
  }
  return out;
}

std::string with_port(const std::string& address, int port) {
  const bool six = address.find(':') != std::string::npos;
  return (six ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  std::string out;
  for (const char c : std::string(name))
    out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (char& c : out) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '-';
  }
  while (!out.empty() && (out.front() == '-' || out.front() == '.')) out.erase(out.begin());
  return out.empty() ? "node" : out;
}
std::string default_address() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in far{}, own{};
  far.sin_family = AF_INET;
  far.sin_port = htons(9);
  far.sin_addr.s_addr = htonl(0xc0000201);  // 192.0.2.1 (RFC 5737): only the route to it is looked up
  socklen_t size = sizeof own;
  if (!socket || connect(socket.get(), reinterpret_cast<sockaddr*>(&far), sizeof far) != 0 ||
      getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0)
    return {};
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &own.sin_addr, text, sizeof text);
}

std::pair<std::string, int> split_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon + 1 == address.size()) return {address, -1};
  const std::string digits = address.substr(colon + 1);
  if (digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos)
    return {address.substr(0, colon), -1};
  const int port = std::atoi(digits.c_str());
  return {address.substr(0, colon), port > 65535 ? -1 : port};
}

}  // namespace cluster
}  // namespace orchestra
