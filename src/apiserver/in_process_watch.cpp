// See in_process_watch.hpp.
#include "apiserver/in_process_watch.hpp"

#include "apiserver/encode.hpp"

namespace orchestra::apiserver {
namespace {
struct Changes {
  std::vector<ObjectChange> list;
  std::optional<Error> failed;  ///< behind those of the list
};

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
                 std::shared_ptr<AuditRecord> record)
      : core_(std::move(core)), cursor_(std::move(cursor)), record_(std::move(record)) {}
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

  std::shared_ptr<ApiCore> core_;
  std::unique_ptr<WatchCursor> cursor_;
  const std::shared_ptr<AuditRecord> record_;
  std::optional<Error> ended_;
};
}  // namespace

std::shared_ptr<ObjectWatch::Impl> in_process_watch(std::shared_ptr<ApiCore> core,
                                                    std::unique_ptr<WatchCursor> cursor,
                                                    std::shared_ptr<AuditRecord> record) {
  return std::make_shared<InProcessWatch>(std::move(core), std::move(cursor), std::move(record));
}

}  // namespace orchestra::apiserver
