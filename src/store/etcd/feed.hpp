#pragma once
// The feed: every change under a prefix, in order, each once, whatever happens to connections and servers.
//
// One etcd watch on a WebSocket, where progress can be asked for; where that is not possible (a gateway that
// bounds messages or refuses the token there) on a chunked stream of HTTP. A connection that ends is made
// again, on another endpoint if need be, from the last delivered revision on; what comes twice is dropped.
// A revision is delivered whole: of an answer in parts, the last revision waits for the next part.
// What the feed cannot bridge (compacted meanwhile, another cluster) it reports once and stops.
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/etcd/gateway.hpp"

namespace orchestra::store::etcd {

struct FeedHandler {
  /// Whole revisions, in order. Version 0: a removal.
  std::function<void(std::vector<KeyValue> changes)> on_changes;
  /// No change up to `revision` is missing.
  std::function<void(Revision revision)> on_progress;
  /// The feed has ended: `compacted`, or an error that trying again does not mend.
  std::function<void(const Error& why)> on_lost;
  std::function<void(const std::string& note)> on_note;
};

class Feed : public std::enable_shared_from_this<Feed> {
 public:
  Feed(Engine& engine, std::shared_ptr<HttpClient> http, std::shared_ptr<Gateway> gateway, KeyRange range,
       bool trusts_progress, FeedHandler handler);
  void start(Revision after);
  /// No further call begins.
  void stop();
  /// Asks for a progress answer where those are to be trusted; else false.
  bool request_progress();
  std::string transport() const;

 private:
  using Generation = std::uint64_t;
  void connect();
  void open_socket(Generation generation);
  void open_stream(Generation generation);
  void lost_connection(Generation generation, const Error& why);
  void take_text(Generation generation, std::string_view text);
  void take_bytes(Generation generation, std::string_view bytes);
  void take(Generation generation, WatchMessage message);
  void take_canceled(Generation generation, const WatchMessage& message);
  void deliver(WatchMessage message);
  void give_up(const Error& why);
  void watch_health(Generation generation, std::size_t endpoint);
  bool is_current(Generation generation) const;

  Engine& engine_;
  const std::shared_ptr<HttpClient> http_;
  const std::shared_ptr<Gateway> gateway_;
  const KeyRange range_;
  const bool trusts_progress_;
  const FeedHandler handler_;
  mutable std::mutex mutex_;  ///< guards what follows; never held during a call of the handler
  Generation generation_ = 0;
  bool stopped_ = false, chunked_ = false, heard_ = false;
  int failures_ = 0;  ///< in a row, without a change or `created` in between
  int cuts_ = 0;      ///< sockets that ended at the same revision after they had worked
  Revision cut_at_ = -1;
  Revision delivered_ = 0;
  std::size_t endpoint_ = 0;
  std::shared_ptr<WebSocket> socket_;
  std::shared_ptr<Pending<HttpResponse>> stream_;
  std::mutex delivery_;         ///< held during calls of the handler: one at a time
  std::string line_;            ///< of the chunked stream; one writer
  std::vector<KeyValue> held_;  ///< of the revision that may go on in the next part
};

}  // namespace orchestra::store::etcd
