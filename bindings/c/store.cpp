// orc_store_*: StateStore for C.
#include "bindings/c/handles.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"
#include "store/ops.hpp"

using namespace orchestra;
using namespace orchestra::c;

struct orc_store_watch {
  std::mutex mutex;
  Watch watch;
  ReadyFd ready;
};

namespace {
bool usable(const orc_store* store) { return store != nullptr && store->store != nullptr; }
std::string bytes_of(const void* data, std::size_t size) {
  return data != nullptr ? std::string(static_cast<const char*>(data), size) : std::string();
}
}  // namespace

orc_code orc_store_memory(orc_engine* engine, orc_store** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || out == nullptr) return bad("engine and out must not be NULL", error);
    *out = new orc_store{MemoryStore::create(*engine->engine)};
    return ORC_OK;
  });
}

orc_code orc_store_open(orc_engine* engine, const char* data_dir, orc_store** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || out == nullptr || data_dir == nullptr || *data_dir == '\0')
      return bad("engine, data_dir and out must be given", error);
    RaftStoreOptions options;
    options.data_dir = data_dir;
    auto store = RaftStore::open(*engine->engine, options);
    if (!store) return fail(store.error(), error);
    *out = new orc_store{*store};
    return ORC_OK;
  });
}

void orc_store_free(orc_store* store) { delete store; }

orc_code orc_store_put(orc_store* store, const void* key, size_t key_size, const void* value,
                       size_t value_size, int64_t if_mod_revision, int64_t timeout_ms, int64_t* revision,
                       orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || key == nullptr || key_size == 0 || (value == nullptr && value_size != 0))
      return bad("store, key and value must be given", error);
    PutOptions options;
    if (if_mod_revision >= 0) options.if_mod_revision = if_mod_revision;
    auto written = store->store->put(bytes_of(key, key_size), bytes_of(value, value_size), options)
                       .wait(milliseconds(timeout_ms));
    if (!written) return fail(written.error(), error);
    if (revision != nullptr) *revision = written->revision;
    return ORC_OK;
  });
}

orc_code orc_store_get(orc_store* store, const void* key, size_t key_size, int64_t timeout_ms,
                       orc_bytes* value, int64_t* mod_revision, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || key == nullptr || value == nullptr)
      return bad("store, key and value must be given", error);
    auto read = store->store->get(bytes_of(key, key_size)).wait(milliseconds(timeout_ms));
    if (!read) return fail(read.error(), error);
    if (!read->kv)
      return fail(Error(Error::not_found, "store", "key \"" + bytes_of(key, key_size) + "\" does not exist"),
                  error);
    give(value, read->kv->value.bytes());
    if (mod_revision != nullptr) *mod_revision = read->kv->mod_revision;
    return ORC_OK;
  });
}

orc_code orc_store_txn(orc_store* store, const char* text, int64_t timeout_ms, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || text == nullptr || out == nullptr) return bad("store, text and out must be given", error);
    auto done = store::run_txn_text(*store->store, text, milliseconds(timeout_ms));
    if (!done) return fail(done.error(), error);
    give(out, to_json(*done));
    return ORC_OK;
  });
}

orc_code orc_store_lease_grant(orc_store* store, int64_t ttl_s, int64_t timeout_ms, int64_t* lease, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || lease == nullptr) return bad("store and lease must be given", error);
    auto granted = store->store->lease_grant(std::chrono::seconds(ttl_s)).wait(milliseconds(timeout_ms));
    if (!granted) return fail(granted.error(), error);
    *lease = static_cast<int64_t>(*granted);
    return ORC_OK;
  });
}

orc_code orc_store_lease_keep_alive(orc_store* store, int64_t lease, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store)) return bad("store must be given", error);
    auto kept = store->store->lease_keep_alive(static_cast<LeaseId>(lease)).wait(milliseconds(timeout_ms));
    return kept ? ORC_OK : fail(kept.error(), error);
  });
}

orc_code orc_store_lease_revoke(orc_store* store, int64_t lease, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store)) return bad("store must be given", error);
    auto revoked = store->store->lease_revoke(static_cast<LeaseId>(lease)).wait(milliseconds(timeout_ms));
    return revoked ? ORC_OK : fail(revoked.error(), error);
  });
}

orc_code orc_store_remove(orc_store* store, const void* key, size_t key_size, int64_t timeout_ms,
                          uint64_t* removed, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || key == nullptr) return bad("store and key must be given", error);
    auto gone = store->store->remove(Key(bytes_of(key, key_size))).wait(milliseconds(timeout_ms));
    if (!gone) return fail(gone.error(), error);
    if (removed != nullptr) *removed = gone->removed;
    return ORC_OK;
  });
}

orc_code orc_store_range(orc_store* store, const void* prefix, size_t prefix_size, size_t limit,
                         int64_t timeout_ms, orc_store_each each, void* user, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || each == nullptr) return bad("store and each must be given", error);
    RangeOptions options;
    options.limit = limit;
    auto range =
        store->store->range(KeyPrefix(bytes_of(prefix, prefix_size)), options).wait(milliseconds(timeout_ms));
    if (!range) return fail(range.error(), error);
    for (const KeyValue& kv : range->items) {
      const std::string_view value = kv.value.bytes();
      if (each(user, kv.key.data(), kv.key.size(), value.data(), value.size(), kv.mod_revision) != 0) break;
    }
    return ORC_OK;
  });
}

orc_code orc_store_watch_new(orc_store* store, const void* prefix, size_t prefix_size, int64_t after,
                             orc_store_watch** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(store) || out == nullptr) return bad("store and out must be given", error);
    WatchOptions options;
    options.range = KeyPrefix(bytes_of(prefix, prefix_size));
    if (after > 0) options.after = after;
    auto watch = store->store->watch(options);
    if (!watch) return fail(watch.error(), error);
    *out = new orc_store_watch{{}, std::move(*watch), {}};
    (*out)->watch.notify((*out)->ready.signal());
    return ORC_OK;
  });
}

orc_code orc_store_watch_next(orc_store_watch* watch, int64_t timeout_ms, orc_store_on_event call, void* user,
                              orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (watch == nullptr || call == nullptr) return bad("watch and call must be given", error);
    std::lock_guard lock(watch->mutex);
    auto batch = timeout_ms > 0 ? watch->watch.next(milliseconds(timeout_ms)) : watch->watch.poll();
    watch->ready.clear();
    watch->watch.notify(watch->ready.signal());
    if (!batch) return watch->watch.error() ? fail(*watch->watch.error(), error) : ORC_EDEADLINEEXCEEDED;
    for (const WatchEvent& event : batch->events) {
      const std::string_view value = event.kv.value.bytes();
      const orc_store_event out{event.type == WatchEvent::Type::remove,
                                event.kv.key.data(),
                                event.kv.key.size(),
                                value.data(),
                                value.size(),
                                event.kv.mod_revision};
      call(user, &out);
    }
    return ORC_OK;
  });
}
int orc_store_watch_fd(orc_store_watch* watch) { return watch != nullptr ? watch->ready.get() : -1; }
void orc_store_watch_free(orc_store_watch* watch) {
  if (watch == nullptr) return;
  watch->watch.cancel();
  delete watch;
}
