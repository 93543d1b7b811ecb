#pragma once
// One watch over HTTP: a line of JSON per event, flushed at once, until the client goes, the timeout
// passes or history is gone. It writes one piece at a time, so a slow client holds nothing but its place
// in the store's ring.
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "apiserver/call.hpp"
#include "apiserver/watch_cursor.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {

struct WatchStreamOptions {
  Representation want;
  std::string api_version;  ///< version part: "v1"
  Duration bookmark_interval = std::chrono::seconds(60);
  std::string timeout_text;  ///< timeoutSeconds; empty: 30 to 60 minutes by chance
  std::function<bool()> stopped;
};

class WatchStream : public std::enable_shared_from_this<WatchStream> {
 public:
  /// Runs until it ends by itself; the handle is only for kick().
  static std::weak_ptr<WatchStream> run(Engine& engine, std::unique_ptr<WatchCursor> cursor,
                                        std::shared_ptr<HttpBodyWriter> writer, WatchStreamOptions options);
  /// Looks again whether there is something to do (the server stops).
  void kick();

 private:
  WatchStream(Engine& engine, std::unique_ptr<WatchCursor> cursor, std::shared_ptr<HttpBodyWriter> writer,
              WatchStreamOptions options);
  void step();
  void post_step();
  void tick();
  void finish();
  void release();
  std::string encode(const std::vector<WatchItem>& items);
  void append_event(std::string& out, const char* type, const std::string& object) const;
  /// An event whose object is JSON of our own making (bookmarks, errors), in the form of this watch.
  void append_own(std::string& out, const char* type, const std::string& json) const;
  void append_bookmark(std::string& out, Revision revision, bool initial_end);

  Engine& engine_;
  std::unique_ptr<WatchCursor> cursor_;  ///< touched only by the running step
  std::shared_ptr<HttpBodyWriter> writer_;
  WatchStreamOptions options_;
  std::int64_t ends_ns_ = 0, bookmark_ns_ = 0;
  bool first_event_ = true, bookmarks_ = false, waits_ = false;

  std::mutex mutex_;  ///< guards what follows
  bool running_ = false, again_ = false, armed_ = false, closed_ = false;
  Engine::TimerId timer_ = 0;
};

}  // namespace orchestra::apiserver
