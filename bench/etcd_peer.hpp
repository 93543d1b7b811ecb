#pragma once
// An etcd of the benchmark's own, loaded through its gRPC protocol: the fair way to compare with it.
//
// The client speaks just enough HTTP/2 (RFC 9113) and gRPC for unary Put calls: header blocks of literals
// without indexing, any number of streams over a few connections, one thread. It never decodes a header
// block: a call is done when its stream ends, and went well if a message came before that.
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace orchestra::bench {

class EtcdPeer {
 public:
  /// `etcd` on PATH, its data below `folder`; trouble(): none is installed, or it does not answer. With
  /// `peers` ("IP:PORT" each, free) a cluster of so many members, loaded through the one that is fastest.
  explicit EtcdPeer(const std::string& folder, const std::vector<std::string>& peers = {});
  ~EtcdPeer();
  EtcdPeer(const EtcdPeer&) = delete;
  EtcdPeer& operator=(const EtcdPeer&) = delete;

  const std::string& trouble() const { return trouble_; }
  const std::string& version() const { return version_; }

  struct Load {
    double per_s = 0, p50_us = 0, cpu_us = 0;  ///< CPU of all members for each put
    std::string trouble;
  };
  /// `clients` puts under way at once, keys of 22 and values of 256 bytes.
  Load put(int clients, std::int64_t for_ns);

 private:
  pid_t start(const std::string& program, const std::string& folder, const std::vector<std::string>& more);
  bool answers(std::int64_t until);
  double cpu_us() const;
  std::string socket_;  ///< of the member that is loaded
  std::string trouble_, version_;
  std::vector<pid_t> pids_;
};

}  // namespace orchestra::bench
