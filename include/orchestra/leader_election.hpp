#pragma once
// LeaderElection: at most one holder of a key among all who campaign for it, on any StateStore.
//
// The holder's key lives on a lease that it keeps alive; when it dies or is cut off, the lease ends and
// another takes over. What the election protects must check the fencing token: a holder that was paused
// may believe for a moment that it still leads. The token is the create revision of the holder's key; a
// write that carries fence() in its transaction fails once another holds the key. Since 0.1.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "orchestra/state_store.hpp"

namespace orchestra {

struct LeaderElectionOptions {
  std::string key;       ///< e.g. "/app/leader"
  std::string identity;  ///< the value of the key while this one leads
  std::chrono::seconds ttl{15};
  Duration retry = std::chrono::seconds(1);  ///< after an error of the store
  // Called one at a time on an engine thread; they must not block.
  std::function<void(Revision token)> on_elected = {};
  std::function<void(const Error& why)> on_lost = {};
  /// Set: where another holds the key the campaign ends with this call (`busy`, the holder's KeyValue as its
  /// detail) instead of waiting. Since 0.2.
  std::function<void(const Error& why)> on_busy = {};
};

class ORC_API LeaderElection {
 public:
  LeaderElection(Engine& engine, std::shared_ptr<StateStore> store, LeaderElectionOptions options);
  /// stop()
  ~LeaderElection();
  LeaderElection(const LeaderElection&) = delete;
  LeaderElection& operator=(const LeaderElection&) = delete;

  /// Begins to campaign. `invalid` for an empty key or identity, or a ttl below 1 s.
  Result<void> start();
  /// Gives the key up, if held, and campaigns no more. No callback runs after it returns, unless it was
  /// called from one.
  void stop();

  /// The fencing token while this one leads, by its own clock; none otherwise.
  std::optional<Revision> token() const;
  bool leading() const { return token().has_value(); }
  /// To be put into the compares of a transaction: holds while the key is the one of `token`.
  static Compare fence(const std::string& key, Revision token);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
