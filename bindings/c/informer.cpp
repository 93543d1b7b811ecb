// orc_informer_*: a current copy of the objects of one resource.
//
// Changes go to a callback, or into a queue that holds one entry per object: what the reader was told last,
// and what is true now. So a reader that is slow misses versions in between but no object and no removal, and
// the queue is never longer than what the reader was told and what exists, together.
#include "orchestra/informer.hpp"

#include <atomic>
#include <condition_variable>
#include <list>
#include <thread>

#include "bindings/c/handles.hpp"
#include "orchestra/selector.hpp"

using namespace orchestra;
using namespace orchestra::c;

namespace {
constexpr std::size_t kBatchChanges = 256;
constexpr std::size_t kBatchBytes = 1 << 20;  // a batch ends with the change that passes it

class ChangeQueue {
 public:
  void add(const Object& old, const Object& now) {
    std::lock_guard lock(mutex_);
    const ObjectKey key = ObjectKey::of(now ? now : old);
    const auto found = waiting_.find(key);
    if (found == waiting_.end()) {
      waiting_[key] = order_.insert(order_.end(), Change{old, now});
    } else {
      found->second->now = now;
      if (found->second->old || now) return;
      order_.erase(found->second);  // came and went unseen
      waiting_.erase(found);
      return;
    }
    ready_.signal()();
    changed_.notify_all();
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    ready_.signal()();
    changed_.notify_all();
  }
  /// A JSON array; nullopt: nothing came in time. `closed`: nothing will come any more.
  std::optional<std::string> take(Duration patience, bool& closed) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return closed_ || !order_.empty(); });
    closed = closed_ && order_.empty();
    if (order_.empty()) {
      if (!closed) ready_.clear();
      return std::nullopt;
    }
    std::vector<Change> batch;
    for (std::size_t bytes = 0; batch.size() < kBatchChanges && bytes < kBatchBytes && !order_.empty();) {
      const Change& change = order_.front();
      for (const Object* each : {&change.old, &change.now}) bytes += *each ? each->json().size() : 0;
      waiting_.erase(ObjectKey::of(change.now ? change.now : change.old));
      batch.push_back(std::move(order_.front()));
      order_.pop_front();
    }
    if (order_.empty() && !closed_) ready_.clear();
    lock.unlock();  // printing may take a while, and the informer's thread waits for nobody
    std::string out = "[";
    for (const Change& change : batch) print(change, out);
    return out + "]";
  }
  int fd() const { return ready_.get(); }

 private:
  struct Change {
    Object old, now;
  };
  static void print(const Change& change, std::string& out) {
    const auto one = [&](const char* type, const Object& object, const Object& old) {
      if (out.size() > 1) out += ',';
      out.append("{\"type\":\"").append(type).append("\",\"object\":").append(object.json());
      if (old) out.append(",\"old\":").append(old.json());
      out += '}';
    };
    if (!change.old) return one("ADDED", change.now, {});
    if (!change.now) return one("DELETED", change.old, {});
    if (change.old.uid() == change.now.uid()) return one("MODIFIED", change.now, change.old);
    one("DELETED", change.old, {});  // the same name, another object
    one("ADDED", change.now, {});
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Change> order_;
  std::map<ObjectKey, std::list<Change>::iterator> waiting_;
  bool closed_ = false;
  ReadyFd ready_;
};

Error inside_callback() {
  return Error(Error::would_deadlock, "c",
               "an informer cannot be stopped by its own callback; let another thread do it");
}
}  // namespace

struct orc_informer {
  Engine& engine;
  const orc_informer_on_event call;
  void* const user;
  ChangeQueue queue;                       ///< where there is no callback
  std::atomic<std::thread::id> calling{};  ///< the thread that runs the callback
  InformerCore core;                       ///< last: its handler uses the rest

  orc_informer(Engine& with, Client client, const orc_informer_options& options)
      : engine(with),
        call(options.call),
        user(options.user),
        core(with, std::move(client),
             {options.api_version == nullptr ? "v1" : options.api_version, options.resource},
             {.ns = text_of(options.ns),
              .labels = text_of(options.labels),
              .fields = text_of(options.fields),
              .resync = milliseconds(options.resync_ms)}) {
    core.on_event([this](const Object& old, const Object& now) { changed(old, now); });
  }
  bool in_callback() const { return calling.load() == std::this_thread::get_id(); }

 private:
  void changed(const Object& old, const Object& now) {
    if (call == nullptr) return queue.add(old, now);
    orc_informer_event event{};
    event.type = !old ? ORC_INFORMER_ADDED : !now ? ORC_INFORMER_DELETED : ORC_INFORMER_MODIFIED;
    if (old) event.old_json = old.json().data(), event.old_size = old.json().size();
    if (now) event.now_json = now.json().data(), event.now_size = now.json().size();
    calling = std::this_thread::get_id();
    call(user, &event);
    calling = std::thread::id();
  }
};

namespace {
orc_code waited(orc_informer* informer, Pending<void> pending, int64_t timeout_ms, const char* what,
                orc_error** error) {
  const auto done = pending.wait(milliseconds(timeout_ms));
  if (done) return ORC_OK;
  if (!done.error().is(Error::deadline_exceeded)) return fail(done.error(), error);
  const std::string why = informer->core.last_error();
  return fail(Error(Error::deadline_exceeded, "c",
                    "the informer of " + informer->core.resource().text() + " " + what + " in time" +
                        (why.empty() ? "" : ": " + why)),
              error);
}

orc_code each_of(const std::vector<Object>& objects, orc_informer_each each, void* user) {
  for (const Object& object : objects) {
    if (each(user, object.json().data(), object.json().size()) != 0) break;
  }
  return ORC_OK;
}
}  // namespace

orc_code orc_informer_new(orc_engine* engine, orc_client* client, const orc_informer_options* options,
                          orc_informer** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || client == nullptr || out == nullptr)
      return bad("engine, client and out must be given", error);
    if (options == nullptr || options->size != sizeof(orc_informer_options) || options->resource == nullptr)
      return bad("options, with their size and a resource, must be given", error);
    if (options->resync_ms < 0) return bad("resync_ms must not be negative", error);
    const auto labels = Selector::parse(text_of(options->labels));
    if (!labels) return fail(labels.error(), error);
    auto made = std::make_unique<orc_informer>(*engine->engine, client->client, *options);
    const auto started = made->core.start();
    if (!started) return fail(started.error(), error);
    *out = made.release();
    return ORC_OK;
  });
}

orc_code orc_informer_wait_synced(orc_informer* informer, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr) return bad("informer must be given", error);
    return waited(informer, informer->core.wait_synced(), timeout_ms, "has not read the first list", error);
  });
}

orc_code orc_informer_wait_for(orc_informer* informer, const char* resource_version, int64_t timeout_ms,
                               orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    const std::string version = text_of(resource_version);
    if (informer == nullptr || version.empty() ||
        version.find_first_not_of("0123456789") != std::string::npos)
      return bad("informer and a resourceVersion (a number as text) must be given", error);
    return waited(informer, informer->core.wait_for(version), timeout_ms,
                  ("has not seen version " + version).c_str(), error);
  });
}

orc_code orc_informer_get(orc_informer* informer, const char* ns, const char* name, orc_bytes* out,
                          orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr || name == nullptr || out == nullptr)
      return bad("informer, name and out must be given", error);
    const ObjectKey key{text_of(ns), name};
    const Object object = informer->core.cache().get(key);
    if (!object)
      return fail(Error(Error::not_found, "c",
                        informer->core.resource().text() + " " + key.text() + " is not in the informer"),
                  error);
    give(out, object.json());
    return ORC_OK;
  });
}

orc_code orc_informer_list(orc_informer* informer, const char* ns, const char* labels, orc_informer_each each,
                           void* user, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr || each == nullptr) return bad("informer and each must be given", error);
    const auto selector = Selector::parse(text_of(labels));
    if (!selector) return fail(selector.error(), error);
    const auto matches = [&](const LabelMap& of) { return selector->matches(of); };
    return each_of(informer->core.cache().select(text_of(ns), matches), each, user);
  });
}

orc_code orc_informer_find(orc_informer* informer, const char* index, const char* value,
                           orc_informer_each each, void* user, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr || index == nullptr || value == nullptr || each == nullptr)
      return bad("informer, index, value and each must be given", error);
    const std::string name = index;
    if (name != ObjectCache::kOwner && name != ObjectCache::kNode)
      return bad("index must be \"owner\" (a UID) or \"node\" (a name)", error);
    return each_of(informer->core.cache().find(name, value), each, user);
  });
}

orc_code orc_informer_next(orc_informer* informer, int64_t timeout_ms, orc_bytes* events, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr || events == nullptr) return bad("informer and events must be given", error);
    if (informer->call != nullptr) return bad("this informer tells its changes to a callback", error);
    bool closed = false;
    const auto text = informer->queue.take(milliseconds(timeout_ms), closed);
    if (closed)
      return fail(Error(Error::cancelled, "c",
                        "the informer of " + informer->core.resource().text() + " was stopped"),
                  error);
    if (!text) return ORC_EDEADLINEEXCEEDED;
    give(events, *text);
    return ORC_OK;
  });
}

int orc_informer_fd(orc_informer* informer) {
  return informer != nullptr && informer->call == nullptr ? informer->queue.fd() : -1;
}

orc_code orc_informer_resync(orc_informer* informer, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr) return bad("informer must be given", error);
    informer->core.resync();
    return ORC_OK;
  });
}

orc_code orc_informer_last_error(orc_informer* informer, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr || out == nullptr) return bad("informer and out must be given", error);
    give(out, informer->core.last_error());
    return ORC_OK;
  });
}

orc_code orc_informer_stop(orc_informer* informer, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (informer == nullptr) return ORC_OK;
    if (informer->in_callback()) return fail(inside_callback(), error);
    informer->core.stop();
    informer->queue.close();
    return ORC_OK;
  });
}

void orc_informer_free(orc_informer* informer) {
  if (informer == nullptr) return;
  if (!informer->in_callback()) {
    delete informer;
    return;
  }
  // Against the rules; it then ends behind its callback, and with an engine that stops it stays as it is.
  (void)informer->engine.post_blocking([informer] { delete informer; });
}
