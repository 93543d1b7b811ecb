#pragma once
// Name servers that `orchestra-bench dns` compares, each a process of its own: ours, a bare echo, and those
// that Debian packages bring. All are measured alike: the CPU time that the process and its children used.
#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

namespace orchestra::bench {

/// A server that was started, and ends with this object.
class DnsPeer {
 public:
  DnsPeer(std::string name, std::string version, std::string address, pid_t pid)
      : name_(std::move(name)), version_(std::move(version)), address_(std::move(address)), pid_(pid) {}
  ~DnsPeer();
  DnsPeer(const DnsPeer&) = delete;
  DnsPeer& operator=(const DnsPeer&) = delete;
  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }
  const std::string& address() const { return address_; }  ///< "127.0.0.1:12345"
  std::int64_t cpu_ns() const;                             ///< so far, of the process and its children
  double rss_mib() const;

 private:
  const std::string name_, version_, address_;
  const pid_t pid_;
};

/// Forks; the child runs `serve`, which tells its address by the function that it is given and waits for its
/// end. Call it while this process has one thread.
std::unique_ptr<DnsPeer> start_own(const std::string& name,
                                   std::function<void(std::function<void(std::string)> ready)> serve);
/// Gives every datagram back as it came.
std::unique_ptr<DnsPeer> start_echo();

/// What the others serve: zone file of `zone`, and hosts lines for dnsmasq, which knows no zone files.
struct PeerZone {
  std::string zone;         ///< "cluster.local"
  std::string zone_file;    ///< text
  std::string hosts;        ///< text
  std::string first_query;  ///< a packet that must get an answer before the server counts as ready
};
/// "knotd", "nsd" or "dnsmasq" with one worker, its files below `folder`; null and `trouble` when it is not
/// installed or does not answer. Looked for on PATH and below build/peers/dns/bin.
std::unique_ptr<DnsPeer> start_peer(const std::string& program, const PeerZone& zone,
                                    const std::string& folder, std::string& trouble);

}  // namespace orchestra::bench
