#pragma once
// NetLab: a test host without uplink and pods in network namespaces of their own, and TCP/UDP inside them.
// A namespace lives as long as its handle, so nothing of it can be left over.
#include <memory>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/pod_network.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

/// True when this process may make network namespaces and links.
bool can_make_namespaces();

#define NEEDS_ROOT(name) \
  if (!can_make_namespaces()) ORC_SKIP(name, "needs root: network namespaces cannot be made")

/// Attachment mode bridge is possible.
bool has_bridge_module();

/// A fresh namespace with lo up.
NetworkNamespace make_host();
/// `text` of /proc/sys/NAME in the namespace.
std::string sysctl_in(const NetworkNamespace& where, const std::string& name);
void set_sysctl_in(const NetworkNamespace& where, const std::string& name, const std::string& value);
/// One line per link, address and route, sorted: to compare before and after.
std::vector<std::string> machine_state(const NetworkNamespace& where);
/// Output of `nft list ruleset` there.
std::string ruleset(const NetworkNamespace& where);
void run_nft(const NetworkNamespace& where, const std::string& commands);
/// A veth pair between two namespaces, both ends up, with addresses "192.0.2.1/24".
void wire(const NetworkNamespace& a, const std::string& a_link, const std::string& a_address,
          const NetworkNamespace& b, const std::string& b_link, const std::string& b_address);

/// A listening TCP socket in a namespace that answers every connection with `answer` and closes it, served
/// by a thread of the test until destroyed. Counts connections and remembers the last client's address.
class TcpAnswerer {
 public:
  TcpAnswerer(const NetworkNamespace& where, const std::string& address, int port, std::string answer);
  ~TcpAnswerer();
  TcpAnswerer(const TcpAnswerer&) = delete;
  TcpAnswerer& operator=(const TcpAnswerer&) = delete;
  int port() const;
  int connections() const;
  std::string last_client() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Answers every datagram with `answer`.
class UdpAnswerer {
 public:
  UdpAnswerer(const NetworkNamespace& where, const std::string& address, int port, std::string answer);
  ~UdpAnswerer();
  UdpAnswerer(const UdpAnswerer&) = delete;
  UdpAnswerer& operator=(const UdpAnswerer&) = delete;
  int port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

constexpr int kPatienceMs = 20'000;  ///< for an answer that must come

/// What the server said, or "error: ECONNREFUSED", "error: timeout".
std::string ask_tcp(const NetworkNamespace& from, const std::string& address, int port,
                    int milliseconds = kPatienceMs);
std::string ask_udp(const NetworkNamespace& from, const std::string& address, int port,
                    int milliseconds = kPatienceMs);

/// One UDP socket with one local port, asked again and again.
class UdpClient {
 public:
  UdpClient(const NetworkNamespace& from, const std::string& address, int port);
  std::string ask(int milliseconds = kPatienceMs);

 private:
  Fd socket_;
};

/// SCTP (RFC 9260) by hand, for kernels that have connection tracking for it but no sockets: answers every
/// INIT to one port with an INIT ACK whose cookie is `answer`. What has a wrong checksum is not answered.
class SctpAnswerer {
 public:
  SctpAnswerer(const NetworkNamespace& where, int port, std::string answer);
  ~SctpAnswerer();
  SctpAnswerer(const SctpAnswerer&) = delete;
  SctpAnswerer& operator=(const SctpAnswerer&) = delete;
  std::string last_client() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
/// The cookie of the INIT ACK that comes back from the address and port asked, or "error: ECONNREFUSED",
/// "error: timeout".
std::string ask_sctp(const NetworkNamespace& from, const std::string& address, int port,
                     int milliseconds = kPatienceMs);

/// What a connected socket says until it closes.
std::string read_all(const Fd& socket);

/// Counts IPv4 frames that arrive on a link.
class Capture {
 public:
  Capture(const NetworkNamespace& where, const std::string& link);
  int ipv4_frames();

 private:
  Fd socket_;
  int seen_ = 0;
};

}  // namespace orchestra::test
