// See in_process_watch.hpp.
#include "apiserver/in_process_watch.hpp"

#include <mutex>

#include "apiserver/encode.hpp"

namespace orchestra::apiserver {
namespace {
constexpr Duration kBusyPause = std::chrono::milliseconds(100);  // when no worker thread is free

struct Changes {
  std::vector<ObjectChange> list;
  std::optional<Error> failed;  ///< behind those of the list
};

// A type with a converter is asked here, and blocks.
Changes changes_of(ApiCore& core, const WatchRequest& request, const std::vector<WatchItem>& items) {
  Changes out;
  out.list.reserve(items.size());
  for (const WatchItem& item : items) {
    ObjectChange change;
    if (item.type == WatchItem::Type::bookmark) {
      change.type = ObjectChange::Type::bookmark;
      auto object = Object::from_json(bookmark_json(*request.type, "", item.revision, item.initial_end));
      if (object) change.object = std::move(*object);
      out.list.push_back(std::move(change));
      continue;
    }
    auto object = core.object_in_version(*request.type, request.version, item.stored, item.revision);
    if (!object) {
      out.failed = object.error();
      break;
    }
    change.type = item.type == WatchItem::Type::added      ? ObjectChange::Type::added
                  : item.type == WatchItem::Type::modified ? ObjectChange::Type::modified
                                                           : ObjectChange::Type::removed;
    change.object = std::move(*object);
    out.list.push_back(std::move(change));
  }
  return out;
}

/// next() and poll() are called by one thread at a time.
class InProcessWatch final : public ObjectWatch::Impl {
 public:
  InProcessWatch(std::shared_ptr<ApiCore> core, std::unique_ptr<WatchCursor> cursor,
                 std::shared_ptr<AuditRecord> record, std::shared_ptr<void> handle)
      : handle_(std::move(handle)),
        core_(std::move(core)),
        cursor_(std::move(cursor)),
        record_(std::move(record)) {}
  ~InProcessWatch() override { complete(); }
  InProcessWatch(const InProcessWatch&) = delete;
  InProcessWatch& operator=(const InProcessWatch&) = delete;

  std::optional<std::vector<ObjectChange>> next(Duration deadline) override {
    if (ended_) return std::nullopt;
    auto items = cursor_->next(deadline, ended_);
    if (ended_) complete();
    if (!items) return std::nullopt;
    return convert(*items);
  }
  std::optional<std::vector<ObjectChange>> poll() override {
    if (ended_) return std::nullopt;
    auto items = cursor_->poll();
    if (!items) {
      ended_ = items.error();
      complete();
      return std::nullopt;
    }
    if (items->empty()) return std::nullopt;
    return convert(*items);
  }
  void notify(std::function<void()> ready) override {
    if (ended_) return ready();
    cursor_->notify(std::move(ready));
  }
  std::optional<Error> error() const override { return ended_; }
  void cancel() override {
    cursor_->cancel();
    complete();
  }

 private:
  std::vector<ObjectChange> convert(const std::vector<WatchItem>& items) {
    Changes changes = changes_of(*core_, cursor_->request(), items);
    ended_ = std::move(changes.failed);
    return std::move(changes.list);
  }
  void complete() const {
    if (record_ != nullptr) record_->complete();
  }

  const std::shared_ptr<void> handle_;  ///< first: it goes last
  std::shared_ptr<ApiCore> core_;
  std::unique_ptr<WatchCursor> cursor_;
  const std::shared_ptr<AuditRecord> record_;
  std::optional<Error> ended_;
};

/// Reads and converts on worker threads.
class ConvertedWatch final : public ObjectWatch::Impl, public std::enable_shared_from_this<ConvertedWatch> {
 public:
  ConvertedWatch(std::shared_ptr<ApiCore> core, std::unique_ptr<WatchCursor> cursor,
                 std::shared_ptr<AuditRecord> record, std::shared_ptr<void> handle)
      : handle_(std::move(handle)),
        core_(std::move(core)),
        cursor_(std::move(cursor)),
        record_(std::move(record)) {}
  ~ConvertedWatch() override { complete(); }
  ConvertedWatch(const ConvertedWatch&) = delete;
  ConvertedWatch& operator=(const ConvertedWatch&) = delete;

  /// Goes for the next batch unless that is already so, or one waits for the reader.
  void work() {
    {
      std::lock_guard lock(mutex_);
      if (working_ || failed_ || !batch_.empty() || cancelled_) return;
      working_ = true;
    }
    post();
  }

  std::optional<std::vector<ObjectChange>> poll() override {
    std::vector<ObjectChange> out;
    {
      std::lock_guard lock(mutex_);
      out.swap(batch_);
    }
    if (out.empty()) return std::nullopt;
    work();
    return out;
  }
  std::optional<std::vector<ObjectChange>> next(Duration deadline) override {
    Promise<void> here;
    auto waiting = here.pending();
    notify([here] { here.set({}); });
    if (auto waited = waiting.wait(deadline); !waited && !waited.error().is(Error::deadline_exceeded)) {
      std::lock_guard lock(mutex_);
      failed_ = waited.error();
    }
    return poll();
  }
  void notify(std::function<void()> ready) override {
    {
      std::lock_guard lock(mutex_);
      if (batch_.empty() && !failed_) {
        ready_ = std::move(ready);
        return;
      }
    }
    ready();
  }
  std::optional<Error> error() const override {
    std::lock_guard lock(mutex_);
    return batch_.empty() ? failed_ : std::nullopt;
  }
  // A read that waits for the store ends with its error.
  void cancel() override {
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    cursor_->cancel();
    complete();
  }

 private:
  void post() {
    const auto self = shared_from_this();
    if (core_->engine().post_blocking([self] { self->step(); })) return;
    core_->engine().after(kBusyPause, [self] { self->post(); });
  }
  void step() {
    auto items = cursor_->poll();
    Changes changes;
    if (items) {
      changes = changes_of(*core_, cursor_->request(), *items);
    } else {
      changes.failed = items.error();
    }
    const bool idle = changes.list.empty() && !changes.failed;
    const bool ends = changes.failed.has_value();
    std::function<void()> ready;
    {
      std::lock_guard lock(mutex_);
      working_ = false;
      batch_ = std::move(changes.list);
      if (ends) failed_ = std::move(changes.failed);
      if (!idle) ready.swap(ready_);
    }
    if (ends) complete();
    if (ready) ready();
    if (!idle) return;
    std::weak_ptr<ConvertedWatch> weak = weak_from_this();
    cursor_->notify([weak] {
      if (const auto self = weak.lock()) self->work();
    });
  }
  void complete() const {
    if (record_ != nullptr) record_->complete();
  }

  const std::shared_ptr<void> handle_;  ///< first: it goes last
  std::shared_ptr<ApiCore> core_;
  std::unique_ptr<WatchCursor> cursor_;  ///< but for cancel() of the step that runs
  const std::shared_ptr<AuditRecord> record_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::vector<ObjectChange> batch_;
  std::optional<Error> failed_;
  std::function<void()> ready_;
  bool working_ = false, cancelled_ = false;
};
}  // namespace

std::shared_ptr<ObjectWatch::Impl> in_process_watch(std::shared_ptr<ApiCore> core,
                                                    std::unique_ptr<WatchCursor> cursor,
                                                    std::shared_ptr<AuditRecord> record,
                                                    std::shared_ptr<void> handle) {
  if (cursor->request().type->converter == nullptr)
    return std::make_shared<InProcessWatch>(std::move(core), std::move(cursor), std::move(record),
                                            std::move(handle));
  auto watch = std::make_shared<ConvertedWatch>(std::move(core), std::move(cursor), std::move(record),
                                                std::move(handle));
  watch->work();
  return watch;
}

}  // namespace orchestra::apiserver
