#pragma once
// A private etcd (Debian package etcd-server) in a folder of its own, reached by a unix socket.
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::store::test {

/// Whether there is one; else tests that need it are skipped by name.
bool have_etcd();
constexpr const char* kNoEtcd = "etcd is not in PATH (Debian package etcd-server; tools/fetch-peers.sh)";

class EtcdServer {
 public:
  explicit EtcdServer(std::vector<std::string> more_args = {});
  ~EtcdServer();
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  std::string url() const { return "unix:" + folder_ + "/c:0"; }
  const std::string& folder() const { return folder_; }
  /// Starts it and waits until it is healthy.
  void start();
  void kill();  ///< SIGKILL, and waits for its end
  void pause();
  void go_on();
  /// An empty one takes its place.
  void wipe();
  /// POST of a JSON body past the store under test; the answer's body.
  std::string post(const std::string& path, const std::string& body) const;
  void put(const std::string& key, const std::string& value) const;

 private:
  std::string folder_;
  std::vector<std::string> more_args_;
  pid_t pid_ = 0;
};

}  // namespace orchestra::store::test
