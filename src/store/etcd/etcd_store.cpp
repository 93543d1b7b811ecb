// EtcdStoreImpl: reads, leases, status; see etcd_store.hpp.
#include "store/etcd/etcd_store.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/base64.hpp"
#include "orchestra/env.hpp"

namespace orchestra::store::etcd {
namespace {

constexpr std::uint64_t kRequestMax = 1536u << 10;  ///< etcd's default --max-request-bytes
constexpr std::uint64_t kKeyMax = 4u << 10;
constexpr std::size_t kOpsMax = 128;   ///< etcd's default --max-txn-ops
constexpr std::uint64_t kPage = 1000;  ///< keys a request
constexpr std::uint64_t kPageMin = 1;
constexpr int kRestartsMax = 3;  ///< of a long range that compaction overtook

StoreLimits mirror_limits(StoreLimits limits) {
  limits.state_bytes_max = Bytes{~std::uint64_t{0}};
  return limits;
}

/// The interval holds no key.
bool is_empty(const KeyRange& range) {
  return !range.single && !range.to_the_end && range.begin >= range.end;
}

Error no_lease(LeaseId id) {
  return Error(Error::not_found, "store",
               "no lease " + std::to_string(id) + ": it has expired or was revoked");
}

/// The first key after `key`.
std::string successor(std::string key) {
  key.push_back('\0');
  return key;
}

}  // namespace

EtcdStoreImpl::EtcdStoreImpl(Engine& engine, std::shared_ptr<HttpClient> http, EtcdStoreOptions options)
    : LocalStore(engine, mirror_limits(options.limits)),
      options_(std::move(options)),
      http_(http),
      gateway_(std::make_shared<Gateway>(engine, http, options_)),
      mirrored_(KeyPrefix(options_.prefix)) {}

EtcdStoreImpl::~EtcdStoreImpl() { EtcdStoreImpl::stop(); }

void EtcdStoreImpl::stop() {
  std::shared_ptr<Feed> feed;
  {
    std::lock_guard lock(etcd_mutex_);
    feed = std::move(feed_);
    if (compaction_timer_ != 0) engine_.cancel_timer(compaction_timer_);
  }
  gateway_->on_alarm({});
  if (feed) feed->stop();
  LocalStore::stop();
}

std::int64_t EtcdStoreImpl::steady() const { return engine_.clock().now().steady_ns; }

void EtcdStoreImpl::call(std::string path, std::string body, bool write, bool linearizable,
                         Answered answered) {
  gateway_->call({std::move(path), std::move(body), write, linearizable}, std::move(answered));
}

bool EtcdStoreImpl::mirrors(const KeyRange& range) const {
  if (range.single) return mirrored_.contains(range.begin);
  if (range.begin < mirrored_.begin) return false;
  if (mirrored_.to_the_end) return true;
  return !range.to_the_end && range.end <= mirrored_.end;
}

bool EtcdStoreImpl::mirrored_at(Revision revision) const {
  const auto root = core_->root();
  return revision >= root->compacted && revision <= root->revision;
}

Error EtcdStoreImpl::with_revisions(Error error, Revision asked) const {
  const Revision current = std::max(gateway_->seen(), revision());
  const Revision compacted = compacted_revision();
  if (error.is(Error::compacted)) return compacted_error(asked, std::max(compacted, asked + 1), current);
  if (error.is(Error::future)) return future_error(asked, compacted, current);
  return error;
}

// ---- reads

Pending<GetResult> EtcdStoreImpl::get(std::string key, GetOptions options) {
  if (auto ok = check_key(key, capabilities()); !ok) return ok.error();
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  const bool local =
      mirrors(Key(key)) && (options.revision == 0 ? options.consistency == Consistency::serializable
                                                  : mirrored_at(options.revision));
  if (local) return LocalStore::get(std::move(key), options);
  RangeOptions range{.revision = options.revision, .consistency = options.consistency};
  Promise<GetResult> promise;
  auto pending = promise.pending();
  call("/v3/kv/range", encode_range(Key(std::move(key)), range), false,
       options.consistency == Consistency::linearizable,
       [self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this()), promise,
        asked = options.revision](Result<json::object> answer) {
         if (!answer) return promise.set(self->with_revisions(answer.error(), asked));
         auto read = read_range_answer(*answer);
         if (!read) return promise.set(read.error());
         GetResult result;
         result.revision = read->revision;
         if (!read->items.empty()) result.kv = std::move(read->items.front());
         promise.set(std::move(result));
       });
  return pending;
}

Pending<RangeResult> EtcdStoreImpl::range(KeyRange range, RangeOptions options) {
  if (auto ok = check_range(range, capabilities()); !ok) return ok.error();
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  const bool here = mirrors(range) || is_empty(range);
  if (here && (options.revision == 0 ? options.consistency == Consistency::serializable
                                     : mirrored_at(options.revision))) {
    return LocalStore::range(std::move(range), options);
  }
  Promise<RangeResult> promise;
  auto pending = promise.pending();
  if (!here || options.revision != 0) {
    read_through(range, options, promise);
    return pending;
  }
  catch_up_to_now([self, range, options, promise](Result<bool> caught) {
    if (!caught) return promise.set(caught.error());
    if (!*caught) return self->read_through(range, options, promise);
    self->LocalStore::range(range, options).on_ready([promise](Result<RangeResult> result) {
      promise.set(std::move(result));
    });
  });
  return pending;
}

/// A range in pages, all of one revision.
struct EtcdStoreImpl::Pages {
  KeyRange range, rest;
  RangeOptions options;
  Promise<RangeResult> promise;
  RangeResult result;
  Revision at = 0;
  std::uint64_t page = kPage;
  int restarts = 0;
};

void EtcdStoreImpl::read_through(const KeyRange& range, RangeOptions options, Promise<RangeResult> promise) {
  auto pages = std::make_shared<Pages>();
  pages->range = pages->rest = range;
  pages->options = options;
  pages->promise = std::move(promise);
  pages->at = options.revision;
  read_page(pages);
}

void EtcdStoreImpl::read_page(const std::shared_ptr<Pages>& pages) {
  RangeOptions options = pages->options;
  options.revision = pages->at;
  const std::uint64_t have = pages->result.items.size();
  options.limit = pages->options.limit == 0
                      ? pages->page
                      : std::min<std::uint64_t>(pages->page, pages->options.limit - have);
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  const bool linearizable = options.consistency == Consistency::linearizable;
  call("/v3/kv/range", encode_range(pages->rest, options), false, linearizable,
       [self, pages](Result<json::object> answer) {
         const bool ours = pages->options.revision == 0;
         if (!answer && answer.error().is(Error::compacted) && ours && ++pages->restarts <= kRestartsMax) {
           pages->result = {};
           pages->rest = pages->range;
           pages->at = 0;
           return self->read_page(pages);
         }
         if (!answer && answer.error().is(Error::too_large) && pages->page > kPageMin) {
           pages->page = std::max(kPageMin, pages->page / 8);
           return self->read_page(pages);
         }
         if (!answer) return pages->promise.set(self->with_revisions(answer.error(), pages->at));
         auto read = read_range_answer(*answer);
         if (!read) return pages->promise.set(read.error());
         RangeResult& result = pages->result;
         const bool first = result.items.empty();
         if (first) {
           result.count = read->count;
           result.revision = read->revision;
           if (pages->at == 0) pages->at = read->revision;
         }
         for (KeyValue& kv : read->items) result.items.push_back(std::move(kv));
         const bool full = pages->options.limit != 0 && result.items.size() >= pages->options.limit;
         result.more = read->more;
         if (!read->more || full || read->items.empty()) return pages->promise.set(std::move(result));
         if (pages->options.descending) {
           pages->rest.end = result.items.back().key;
           pages->rest.to_the_end = false;
         } else {
           pages->rest.begin = successor(result.items.back().key);
         }
         self->read_page(pages);
       });
}

Pending<Snapshot> EtcdStoreImpl::snapshot(Revision revision, Consistency consistency) {
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  if (revision != 0 || consistency == Consistency::serializable)
    return LocalStore::snapshot(revision, consistency);
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  Promise<Snapshot> promise;
  auto pending = promise.pending();
  catch_up_to_now([self, promise](Result<bool> caught) {
    if (!caught) return promise.set(caught.error());
    if (!*caught) {
      return promise.set(Error(Error::unavailable, "store",
                               "the mirror is at revision " + std::to_string(self->revision()) +
                                   ", etcd at " + std::to_string(self->gateway_->seen()) +
                                   ": its watch is late; see `store status`"));
    }
    self->LocalStore::snapshot(0, Consistency::serializable).on_ready([promise](Result<Snapshot> snapshot) {
      promise.set(std::move(snapshot));
    });
  });
  return pending;
}

Result<Watch> EtcdStoreImpl::watch(WatchOptions options) {
  ORC_TRY(check_range(options.range, capabilities()));
  if (!mirrors(options.range) && !is_empty(options.range)) {
    return Error(Error::unsupported, "store",
                 "a watch from \"" + options.range.begin + "\" leaves the mirrored prefix \"" +
                     options_.prefix + "\"; open an EtcdStore with a prefix that covers it");
  }
  return LocalStore::watch(std::move(options));
}

Pending<void> EtcdStoreImpl::wait_revision(Revision wanted, Duration deadline) {
  if (wanted > revision()) hurry(wanted, steady() + deadline.count());
  return LocalStore::wait_revision(wanted, deadline);
}

// ---- leases

Pending<void> EtcdStoreImpl::lease_keep_alive(LeaseId id) {
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  Promise<void> promise;
  auto pending = promise.pending();
  // Repeating it does no harm: a read, as far as retries go.
  call("/v3/lease/keepalive", to_json(json::object{{"ID", std::to_string(id)}}), false, false,
       [promise, id](Result<json::object> answer) {
         if (!answer) return promise.set(answer.error());
         const json::value* result = answer->if_contains("result");
         if (result == nullptr || !result->is_object())
           return promise.set(Error(Error::io, "store", "etcd's answer to keepalive has no result"));
         auto ttl = read_number(result->as_object(), "TTL");
         if (!ttl) return promise.set(ttl.error());
         promise.set(*ttl > 0 ? Result<void>() : Result<void>(no_lease(id)));
       });
  return pending;
}

Pending<LeaseInfo> EtcdStoreImpl::lease_time_to_live(LeaseId id, bool want_keys) {
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  Promise<LeaseInfo> promise;
  auto pending = promise.pending();
  json::object request{{"ID", std::to_string(id)}};
  if (want_keys) request["keys"] = true;
  call("/v3/lease/timetolive", to_json(request), false, false, [promise, id](Result<json::object> answer) {
    if (!answer) return promise.set(answer.error());
    auto left = read_number(*answer, "TTL");
    auto ttl = read_number(*answer, "grantedTTL");
    if (!left || !ttl)
      return promise.set(Error(Error::io, "store", "etcd's answer to timetolive is malformed"));
    if (*left < 0 || *ttl == 0) return promise.set(no_lease(id));
    LeaseInfo info{id, std::chrono::seconds(*ttl), std::chrono::seconds(*left), {}};
    if (const json::value* keys = answer->if_contains("keys"); keys != nullptr && keys->is_array()) {
      for (const json::value& key : keys->as_array()) {
        const auto text = key.is_string() ? decode_base64_text(key.as_string()) : std::nullopt;
        if (text) info.keys.push_back(*text);
      }
      std::sort(info.keys.begin(), info.keys.end());
    }
    promise.set(std::move(info));
  });
  return pending;
}

/// etcd lists ids only; the rest is asked lease by lease, all at once.
Pending<std::vector<LeaseInfo>> EtcdStoreImpl::lease_list() {
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  struct Gather {
    Promise<std::vector<LeaseInfo>> promise;
    std::mutex mutex;
    std::size_t left = 0;
    std::vector<LeaseInfo> all;
    std::optional<Error> error;
  };
  auto gather = std::make_shared<Gather>();
  auto pending = gather->promise.pending();
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/lease/leases", "{}", false, false, [self, gather](Result<json::object> answer) {
    if (!answer) return gather->promise.set(answer.error());
    const json::value* leases = answer->if_contains("leases");
    std::vector<LeaseId> ids;
    if (leases != nullptr && leases->is_array()) {
      for (const json::value& one : leases->as_array()) {
        auto id = one.is_object() ? read_number(one.as_object(), "ID")
                                  : Result<std::int64_t>(Error(Error::io, "store", "a lease is no object"));
        if (!id) return gather->promise.set(id.error());
        ids.push_back(*id);
      }
    }
    if (ids.empty()) return gather->promise.set(std::vector<LeaseInfo>());
    gather->left = ids.size();
    for (const LeaseId id : ids) {
      self->lease_time_to_live(id, false).on_ready([gather](Result<LeaseInfo> info) {
        std::unique_lock lock(gather->mutex);
        if (info) {
          gather->all.push_back(std::move(*info));
        } else if (!info.error().is(Error::not_found)) {  // it ended meanwhile
          gather->error = info.error();
        }
        if (--gather->left != 0) return;
        lock.unlock();
        if (gather->error) return gather->promise.set(*gather->error);
        std::sort(gather->all.begin(), gather->all.end(),
                  [](const LeaseInfo& a, const LeaseInfo& b) { return a.id < b.id; });
        gather->promise.set(std::move(gather->all));
      });
    }
  });
  return pending;
}

// ---- about the store

StoreCapabilities EtcdStoreImpl::capabilities() const {
  StoreCapabilities limits;
  limits.watch_progress = trusts_progress_;
  limits.range_stream = false;
  // One request, before base64: what a key and the frame of a txn take is kept free.
  limits.value_bytes_max = Bytes{kRequestMax - 2 * kKeyMax};
  limits.key_bytes_max = Bytes{kKeyMax};
  limits.txn_ops_max = kOpsMax;
  return limits;
}

StoreStatus EtcdStoreImpl::status() const {
  StoreStatus status = LocalStore::status();
  status.kind = "etcd";
  status.role = "client";
  status.durability = "etcd";
  std::lock_guard lock(etcd_mutex_);
  for (const std::string& alarm : alarms_) status.alarms.push_back(alarm);
  status.notes.push_back("etcd " + version_ + ", prefix \"" + options_.prefix + "\"");
  if (feed_) status.notes.push_back("following by " + feed_->transport());
  for (const Gateway::Health& one : gateway_->health()) {
    status.notes.push_back("endpoint " + one.url + (one.up ? " is up" : " is down: " + one.why));
  }
  for (const std::string& note : notes_) status.notes.push_back(note);
  return status;
}

std::string EtcdStoreImpl::cluster_id() const {
  std::lock_guard lock(etcd_mutex_);
  return "etcd-" + gateway_->cluster() + "." + std::to_string(epoch_);
}

LogIdentity EtcdStoreImpl::identity() const {
  LogIdentity identity;
  const std::string cluster = gateway_->cluster();
  std::uint64_t number = 0;
  std::from_chars(cluster.data(), cluster.data() + cluster.size(), number);
  std::memcpy(identity.cluster.data(), &number, sizeof number);
  return identity;
}

Pending<Revision> EtcdStoreImpl::save_snapshot(std::function<Result<void>(std::string_view)> sink) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  return engine_.run_blocking([self, sink = std::move(sink)]() -> Result<Revision> {
    ORC_ASSIGN(const auto leases, self->lease_list().wait(self->options_.call_deadline));
    ORC_ASSIGN(const Snapshot now,
               self->snapshot(0, Consistency::linearizable).wait(std::chrono::minutes(1)));
    SnapshotImage image = self->capture();
    self->add_history(image);
    for (const LeaseInfo& lease : leases) image.leases.push_back({lease.id, lease.ttl, {}});
    ORC_ASSIGN(const SnapshotSummary summary, write_snapshot(image, sink));
    return summary.meta.revision;
  });
}

}  // namespace orchestra::store::etcd
