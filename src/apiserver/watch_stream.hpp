#pragma once
// One watch over HTTP: a line of JSON per event, flushed at once, until the client goes, the timeout
// passes or history is gone. It writes one piece at a time. What happens before the client has taken it is
// kept for the next piece; where that becomes too much the watch ends, as upstream ends watchers that are too
// slow: in order, once the client has taken what it was sent, and without an ERROR, so that it resumes from
// there. A client that is not behind but catches up with the past is never too slow.
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "apiserver/event_frames.hpp"
#include "apiserver/wake_list.hpp"
#include "apiserver/watch_cursor.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {

struct WatchStreamOptions {
  Representation want;
  std::string api_version;  ///< version part: "v1"
  Duration bookmark_interval = std::chrono::seconds(60);
  std::string timeout_text;  ///< timeoutSeconds; empty: 30 to 60 minutes by chance
  std::size_t behind_events_max = 1024;
  std::size_t behind_bytes_max = 8 << 20;  ///< of the stored objects
  std::function<bool()> stopped;
};

class WatchStream final : public std::enable_shared_from_this<WatchStream>,
                          public HttpBodyTask,
                          public WakeList::Sleeper {
 public:
  /// Runs until it ends by itself; the handle is only for kick().
  static std::weak_ptr<WatchStream> run(Engine& engine, std::unique_ptr<WatchCursor> cursor,
                                        std::shared_ptr<HttpBodyWriter> writer, WatchStreamOptions options);
  /// Looks again whether there is something to do (the server stops).
  void kick();

 private:
  WatchStream(Engine& engine, std::unique_ptr<WatchCursor> cursor, std::shared_ptr<HttpBodyWriter> writer,
              WatchStreamOptions options);
  using Text = EventFrames::Text;
  void run_in_order() override { step(); }
  void woken() override { post_step(); }
  bool claim();
  void step();
  void keep_up();
  void send(Text text, bool last, Now now);
  void rest();
  void arm();
  void post_step();
  bool due(Now now) const;
  void tick();
  void finish();
  void release();
  Text encode(const std::vector<WatchItem>& items, Now now);
  Text encode_one(const WatchItem& item, Now now);
  void append_item(std::string& out, const WatchItem& item, Now now);
  Result<EventTexts::Text> text_of(const WatchItem& item, Now now) const;
  void append_event(std::string& out, const char* type, const std::string& object) const;
  /// An event whose object is JSON of our own making (bookmarks, errors), in the form of this watch.
  void append_own(std::string& out, const char* type, const std::string& json) const;
  void append_bookmark(std::string& out, Revision revision, bool initial_end);

  Engine& engine_;
  std::unique_ptr<WatchCursor> cursor_;  ///< touched only by the running step
  const std::shared_ptr<WakeList> wakes_;
  std::shared_ptr<HttpBodyWriter> writer_;
  WatchStreamOptions options_;
  std::int64_t ends_ns_ = 0, bookmark_ns_ = 0;
  bool first_event_ = true, bookmarks_ = false, waits_ = false;
  bool ended_ = false;              ///< the last piece is on its way, or the client was too slow
  bool tracking_ = false;           ///< a piece is on its way to a client that was not behind before
  std::vector<WatchItem> waiting_;  ///< came while that piece was on its way
  std::size_t waiting_bytes_ = 0;

  std::mutex mutex_;  ///< guards what follows
  bool running_ = false, again_ = false, armed_ = false, closed_ = false, writing_ = false;
  Engine::TimerId timer_ = 0;
};

}  // namespace orchestra::apiserver
