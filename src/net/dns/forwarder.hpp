#pragma once
// Questions about names that are not ours, answered by upstream servers, with a cache in front.
//
// One question is out at most once: who asks the same meanwhile joins it. A server that fails twice is
// down: it is passed over, and probed every half second until it answers. When all are down one is tried
// all the same; an answer whose time is over serves meanwhile where that is allowed (RFC 8767). A server that
// goes down is asked a name that nobody could guess: if this comes back to us as a question, that server
// forwards to us, and is left out from then on. A failure carries its reason (RFC 8914): the server's own
// where one answered, and 22, "no reachable authority", only where none did. Everything happens on one
// strand.
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "net/dns/cache.hpp"
#include "net/dns/upstream_query.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::dns {

class Forwarder : public std::enable_shared_from_this<Forwarder> {
 public:
  using Done = std::function<void(CachedAnswer)>;
  /// `domain`: whose names come here. What a server is asked to find out whether it forwards to us lies below
  /// it, because a server may send us the names of one domain only.
  Forwarder(Engine& engine, std::vector<Upstream> servers, DnsForwardPolicy policy,
            std::size_t cache_bytes_max, std::uint32_t stale_seconds, const Name& domain = Name(1, '\0'));

  /// Any thread; `done` is called once on the forwarder's strand. Refused when too much is outstanding.
  void resolve(UpstreamQuestion question, Done done);
  void stop();
  std::size_t server_count() const { return servers_.size(); }
  /// Our own question has come back: the server that it was sent to is not asked any more. Any thread.
  bool is_own_probe(const Name& name);
  /// Adds what this one counted. Any thread.
  void tell(DnsStats& stats) const;

 private:
  struct Server {
    Upstream upstream;
    Name loop_probe;  // below a label of 32 random hexadecimal digits
    int failures = 0;
    bool loops = false;
    std::atomic<bool> down{false};
    std::atomic<std::uint64_t> answered{0}, failed{0};
  };
  struct Lookup {
    UpstreamQuestion question;
    CacheKey key;
    std::vector<std::size_t> order;  // servers still to try
    std::int64_t ends_ns = 0;
    std::vector<Done> waiting;
    std::shared_ptr<UpstreamQuery> query;
    CachedAnswer last_failure;  // what the last server that said anything said; none did: so
  };
  using SharedLookup = std::shared_ptr<Lookup>;

  void look_up(UpstreamQuestion question, Done done);
  /// `done` may be empty: only the cache is to have it.
  void start(UpstreamQuestion question, const CacheKey& key, Done done);
  bool all_down() const;
  std::vector<std::size_t> choose();
  void try_next(const SharedLookup& lookup);
  void on_result(const SharedLookup& lookup, std::size_t server, Result<Message> result);
  void finish(const SharedLookup& lookup, CachedAnswer answer);
  void note(std::size_t server, bool answered);
  void probe(std::size_t server);
  void ask_for_loop(std::size_t server);

  Engine& engine_;
  http::Strand strand_;
  std::deque<Server> servers_;  // as many as at the start
  const DnsForwardPolicy policy_;
  Cache cache_;
  std::map<std::string, SharedLookup> lookups_;
  std::atomic<std::uint64_t> hits_{0}, misses_{0};
  std::atomic<std::size_t> entries_{0};
  std::size_t next_ = 0;
  std::string probe_label_;  // the same for all servers; random, and not changed any more
  bool stopped_ = false;
};

}  // namespace orchestra::dns
