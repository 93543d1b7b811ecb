#pragma once
// NftSession: nftables commands as text, each call one atomic transaction of the kernel.
//
// A session belongs to the namespace it was opened in. Interface names are never used in our rules, so
// nothing else of libnftables looks at the calling thread's namespace. One caller at a time.
#include <memory>
#include <string>

#include "orchestra/network_snapshot.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

class NftSession {
 public:
  static Result<std::unique_ptr<NftSession>> open(const NetworkNamespace& name_space);
  ~NftSession();
  NftSession(const NftSession&) = delete;
  NftSession& operator=(const NftSession&) = delete;

  /// All or nothing. The error carries the kernel's words and the line they are about.
  Result<void> run(const std::string& commands);
  /// Output of a `list ...` command.
  Result<std::string> list(const std::string& command);

 private:
  NftSession();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "orc_1a2b3c4d" and a suffix; instance must be 8 hex digits.
std::string nft_table_name(const std::string& instance, const std::string& suffix = "");
Result<void> check_instance(const std::string& instance);
/// "tcp": how rules and elements name a protocol.
const char* nft_word(IpProtocol protocol);

}  // namespace orchestra::net
