// EtcdStoreImpl: how the mirror comes to be, follows, and catches up.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/etcd/etcd_store.hpp"

namespace orchestra::store::etcd {
namespace {

constexpr Duration kCatchUp = std::chrono::seconds(3);
constexpr Duration kHurryEvery = std::chrono::milliseconds(100);
constexpr Duration kReloadAgain = std::chrono::seconds(1);
constexpr Duration kOpenDeadline = std::chrono::minutes(5);
constexpr Revision kHistory = 10'000;  ///< revisions that are read again at open, so that watches resume
constexpr std::uint64_t kPage = 1000;
constexpr std::size_t kTellMax = 8;
constexpr std::string_view kKubernetesMagic("k8s\0", 4);

void tell(std::vector<std::string>& to, std::string line) {
  to.push_back(std::move(line));
  if (to.size() > kTellMax) to.erase(to.begin());
}

/// A call with a callback, waited for; open() is the one place that blocks.
template <class T, class F>
Result<T> waited(F start) {
  Promise<T> promise;
  auto pending = promise.pending();
  start([promise](Result<T> result) { promise.set(std::move(result)); });
  return pending.wait(kOpenDeadline);
}

}  // namespace

struct EtcdStoreImpl::Load {
  Records records;
  Revision at = 0;      ///< all records are of this revision
  Revision newest = 0;  ///< etcd's revision at the last page
  Revision last_change = 0;
  std::string next;
  std::uint64_t page = kPage;
  std::function<void(Result<std::shared_ptr<Load>>)> done;
};

// ---- loading

void EtcdStoreImpl::load(Revision revision, std::function<void(Result<std::shared_ptr<Load>>)> done) {
  auto load = std::make_shared<Load>();
  load->at = revision;
  load->next = mirrored_.begin;
  load->done = std::move(done);
  load_page(load);
}

void EtcdStoreImpl::load_page(const std::shared_ptr<Load>& load) {
  KeyRange rest = mirrored_;
  rest.begin = load->next;
  const RangeOptions options{.limit = load->page, .revision = load->at};
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/kv/range", encode_range(rest, options), false, true, [self, load](Result<json::object> answer) {
    if (!answer && answer.error().is(Error::too_large) && load->page > 1) {
      load->page = std::max<std::uint64_t>(1, load->page / 8);
      return self->load_page(load);
    }
    if (!answer) return load->done(answer.error());
    auto read = read_range_answer(*answer);
    if (!read) return load->done(read.error());
    load->newest = read->revision;
    if (load->at == 0) load->at = read->revision;
    for (const KeyValue& kv : read->items) {
      load->last_change = std::max(load->last_change, kv.mod_revision);
      load->records.push_back(
          RecordRef::make(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease));
    }
    if (!read->more || read->items.empty()) return load->done(load);
    load->next = read->items.back().key + std::string(1, '\0');
    self->load_page(load);
  });
}

Result<void> EtcdStoreImpl::check_prefix() {
  const RangeOptions some{.limit = 64};
  ORC_ASSIGN(const json::object answer, waited<json::object>([&](Answered answered) {
               call("/v3/kv/range", encode_range(mirrored_, some), false, true, std::move(answered));
             }));
  ORC_ASSIGN(const RangeResult first, read_range_answer(answer));
  for (const KeyValue& kv : first.items) {
    if (kv.value.bytes().substr(0, kKubernetesMagic.size()) != kKubernetesMagic || options_.adopt) continue;
    return Error(
        Error::conflict, "store",
        "key \"" + kv.key + "\" of etcd under the prefix \"" + options_.prefix +
            "\" holds data of a Kubernetes cluster; choose another prefix, or adopt it by --etcd-adopt");
  }
  return {};
}

Result<void> EtcdStoreImpl::start() {
  ORC_ASSIGN(const Version version,
             waited<Version>([&](auto found) { gateway_->find_version(std::move(found)); }));
  trusts_progress_ = trusts_progress(version);
  version_ = std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
             std::to_string(version.patch);
  ORC_TRY(check_prefix());
  gateway_->on_alarm([weak = weak_from_this()](const std::string& what) {
    if (auto self = std::static_pointer_cast<EtcdStoreImpl>(weak.lock())) self->reload(what);
  });
  ORC_TRY(load_and_follow());
  schedule_compaction();
  return {};
}

/// The state of some revisions ago, so that the feed brings the history up to now with it.
Result<void> EtcdStoreImpl::load_and_follow() {
  using Loaded = std::shared_ptr<Load>;
  const Revision before = std::max<Revision>(1, gateway_->seen() - kHistory);
  auto loaded = waited<Loaded>([&](auto done) { load(before, std::move(done)); });
  if (!loaded && loaded.error().is(Error::compacted)) {
    loaded = waited<Loaded>([&](auto done) { load(0, std::move(done)); });
  }
  if (!loaded) return loaded.error();
  const Revision at = (*loaded)->at, now = (*loaded)->newest;
  {
    std::lock_guard lock(etcd_mutex_);
    newest_change_ = (*loaded)->last_change;
  }
  follow_from(std::move((*loaded)->records), at);
  begin_feed(at);
  ORC_ASSIGN(const bool caught,
             waited<bool>([&](auto done) { catch_up(now, [done](bool is) { done(is); }); }));
  if (caught) return {};
  return Error(Error::unavailable, "store",
               "etcd at " + gateway_->name(0) + " answers, but a watch of \"" + options_.prefix +
                   "\" does not reach revision " + std::to_string(now) +
                   "; is a proxy between that cuts streams?");
}

/// What was mirrored is no longer true, or has a gap: all watches end, all is read again.
void EtcdStoreImpl::reload(const std::string& why) {
  std::shared_ptr<Feed> feed;
  {
    std::lock_guard lock(etcd_mutex_);
    if (core_->stopped || std::exchange(reloading_, true)) return;
    tell(alarms_, why);
    ++epoch_;
    feed = std::move(feed_);
  }
  engine_.log(LogLevel::warning, "store", "the mirror of etcd is read again", {{"why", why}});
  if (feed) feed->stop();
  gateway_->forget();
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  load(0, [self](Result<std::shared_ptr<Load>> loaded) {
    if (self->core_->stopped) return;
    if (!loaded) {
      self->engine_.after(kReloadAgain, [weak = self->weak_from_this(), why = loaded.error().message()] {
        auto self = std::static_pointer_cast<EtcdStoreImpl>(weak.lock());
        if (!self) return;
        {
          std::lock_guard lock(self->etcd_mutex_);
          self->reloading_ = false;
        }
        self->reload(why);
      });
      return;
    }
    {
      std::lock_guard lock(self->etcd_mutex_);
      self->reloading_ = false;
      self->newest_change_ = (*loaded)->last_change;
    }
    const Revision at = (*loaded)->at;
    self->follow_from(std::move((*loaded)->records), at);
    self->begin_feed(at);
  });
}

void EtcdStoreImpl::begin_feed(Revision after) {
  FeedHandler handler;
  const std::weak_ptr<LocalStore> weak = weak_from_this();
  const auto self_of = [weak] { return std::static_pointer_cast<EtcdStoreImpl>(weak.lock()); };
  handler.on_changes = [self_of](std::vector<KeyValue> changes) {
    const auto self = self_of();
    if (!self) return;
    {
      std::lock_guard lock(self->etcd_mutex_);
      self->newest_change_ = std::max(self->newest_change_, changes.back().mod_revision);
    }
    self->follow(changes);
  };
  handler.on_progress = [self_of](Revision revision) {
    if (const auto self = self_of()) self->follow_to(revision);
  };
  handler.on_lost = [self_of](const Error& why) {
    if (const auto self = self_of()) self->reload(why.message());
  };
  handler.on_note = [self_of](const std::string& note) {
    const auto self = self_of();
    if (!self) return;
    std::lock_guard lock(self->etcd_mutex_);
    tell(self->notes_, note);
  };
  auto feed =
      std::make_shared<Feed>(engine_, http_, gateway_, mirrored_, trusts_progress_, std::move(handler));
  {
    std::lock_guard lock(etcd_mutex_);
    if (core_->stopped) return;
    feed_ = feed;
  }
  feed->start(after);
}

// ---- catching up

void EtcdStoreImpl::catch_up(Revision wanted, Caught caught) {
  if (revision() >= wanted) return caught(true);
  hurry(wanted, steady() + kCatchUp.count());
  LocalStore::wait_revision(wanted, kCatchUp).on_ready([caught = std::move(caught)](Result<void> there) {
    caught(there.has_value());
  });
}

/// Asks for progress each 100 ms until the mirror has the revision or the time is over. With everything
/// mirrored there is nothing to ask for: each revision comes with its events.
void EtcdStoreImpl::hurry(Revision wanted, std::int64_t until_ns) {
  if (options_.prefix.empty()) return;
  engine_.after(kHurryEvery, [weak = weak_from_this(), wanted, until_ns] {
    auto self = std::static_pointer_cast<EtcdStoreImpl>(weak.lock());
    if (!self || self->core_->stopped || self->revision() >= wanted || self->steady() > until_ns) return;
    std::shared_ptr<Feed> feed;
    {
      std::lock_guard lock(self->etcd_mutex_);
      feed = self->feed_;
    }
    if (!feed || !feed->request_progress()) self->prove(wanted);
    self->hurry(wanted, until_ns);
  });
}

void EtcdStoreImpl::prove(Revision wanted) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/kv/range", encode_newest(mirrored_), false, true, [self, wanted](Result<json::object> answer) {
    auto read = answer ? read_range_answer(*answer) : Result<RangeResult>(answer.error());
    if (!read || read->revision < wanted) return;
    const Revision newest = read->items.empty() ? 0 : read->items[0].mod_revision;
    // As many keys, and no change that we have not seen: no put and no removal lies between.
    const auto root = self->core_->root();
    Revision seen = 0;
    {
      std::lock_guard lock(self->etcd_mutex_);
      seen = self->newest_change_;
    }
    const bool same = read->count == root->tree.size() && newest <= seen &&
                      root->revision <= read->revision && seen <= root->revision;
    if (same) self->follow_to(read->revision);
  });
}

void EtcdStoreImpl::catch_up_to_now(std::function<void(Result<bool>)> caught) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  // Any key will do: the header tells the revision of the cluster.
  const KeyRange any = Key(options_.prefix.empty() ? std::string("\0", 1) : options_.prefix);
  call("/v3/kv/range", encode_range(any, {.count_only = true}), false, true,
       [self, caught = std::move(caught)](Result<json::object> answer) {
         auto header = answer ? read_header(*answer) : Result<Header>(answer.error());
         if (!header) return caught(header.error());
         self->catch_up(header->revision, [caught](bool is) { caught(is); });
       });
}

}  // namespace orchestra::store::etcd
