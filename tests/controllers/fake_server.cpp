// The troublesome server: see fake_server.hpp.
#include "tests/controllers/fake_server.hpp"

#include "controllers/common/objects.hpp"

namespace orchestra::test {

using namespace controllers;

class FakeServer::Stream : public ObjectWatch::Impl {
 public:
  Stream(std::shared_ptr<FakeServer> server, std::string resource, std::int64_t after)
      : server_(std::move(server)), resource_(std::move(resource)), after_(after) {}

  std::optional<std::vector<ObjectChange>> next(Duration) override { return poll(); }
  std::optional<std::vector<ObjectChange>> poll() override {
    std::lock_guard lock(server_->mutex_);
    std::vector<ObjectChange> changes;
    if (error_ || server_->held_.contains(resource_)) return std::nullopt;
    for (const Logged& event : server_->events_) {
      if (event.resource == resource_ && event.revision > after_) changes.push_back(event.change);
    }
    after_ = server_->revision_;
    if (changes.empty()) return std::nullopt;
    return changes;
  }
  void notify(std::function<void()> ready) override {
    {
      std::lock_guard lock(server_->mutex_);
      if (!error_ && !has_events()) {
        ready_ = std::move(ready);
        return;
      }
    }
    ready();
  }
  std::optional<Error> error() const override {
    std::lock_guard lock(server_->mutex_);
    return error_;
  }
  void cancel() override { end(Error(Error::cancelled, "test", "cancelled")); }

  void end(const Error& error) {
    std::function<void()> call;
    {
      std::lock_guard lock(server_->mutex_);
      if (!error_) error_ = error;
      call = std::exchange(ready_, nullptr);
    }
    if (call) call();
  }
  void wake() {
    std::function<void()> call;
    {
      std::lock_guard lock(server_->mutex_);
      if (has_events()) call = std::exchange(ready_, nullptr);
    }
    if (call) call();
  }

 private:
  bool has_events() const {
    if (server_->held_.contains(resource_)) return false;
    for (const Logged& event : server_->events_) {
      if (event.resource == resource_ && event.revision > after_) return true;
    }
    return false;
  }
  const std::shared_ptr<FakeServer> server_;
  const std::string resource_;
  std::int64_t after_;
  std::optional<Error> error_;
  std::function<void()> ready_;
};

void FakeServer::wake() {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    std::lock_guard lock(mutex_);
    for (const auto& weak : streams_) {
      if (auto stream = weak.lock()) streams.push_back(std::move(stream));
    }
  }
  for (const auto& stream : streams) stream->wake();
}

// Under the mutex.
Object FakeServer::store(std::string resource, json::value tree, ObjectChange::Type type) {
  ++revision_;
  set_at(tree, "/metadata/resourceVersion", json::value(std::to_string(revision_)));
  Object object = object_from_tree(std::move(tree));
  if (type == ObjectChange::Type::removed) {
    objects_[resource].erase(ObjectKey::of(object));
  } else {
    objects_[resource][ObjectKey::of(object)] = object;
  }
  events_.push_back({revision_, std::move(resource), {type, object}});
  return object;
}

Object FakeServer::put(const Object& object) {
  Object stored;
  {
    std::lock_guard lock(mutex_);
    const std::string resource = object.kind() == "Pod" ? "pods" : "replicasets";
    const bool there = objects_[resource].contains(ObjectKey::of(object));
    stored = store(resource, tree(object), there ? ObjectChange::Type::modified : ObjectChange::Type::added);
  }
  wake();
  return stored;
}

void FakeServer::erase(const std::string& resource, const ObjectKey& key) {
  {
    std::lock_guard lock(mutex_);
    store(resource, tree(objects_[resource].at(key)), ObjectChange::Type::removed);
  }
  wake();
}

void FakeServer::hold(bool held, const std::string& resource) {
  {
    std::lock_guard lock(mutex_);
    for (const char* each : {"pods", "replicasets"}) {
      if (!resource.empty() && resource != each) continue;
      if (held) {
        held_.insert(each);
      } else {
        held_.erase(each);
      }
    }
  }
  wake();
}

void FakeServer::cut(bool forget) {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    std::lock_guard lock(mutex_);
    if (forget) forgotten_ = revision_ + 1;
    for (const auto& weak : streams_) {
      if (auto stream = weak.lock()) streams.push_back(std::move(stream));
    }
    streams_.clear();
    if (forget) ++revision_;
  }
  for (const auto& stream : streams) {
    stream->end(Error(forget ? Error::expired : Error::unavailable, "test", "cut"));
  }
}

std::size_t FakeServer::count(const std::string& resource) const {
  std::lock_guard lock(mutex_);
  const auto found = objects_.find(resource);
  return found == objects_.end() ? 0 : found->second.size();
}
std::size_t FakeServer::lists() const {
  std::lock_guard lock(mutex_);
  return lists_;
}
std::size_t FakeServer::creates() const {
  std::lock_guard lock(mutex_);
  return creates_;
}

void FakeServer::limit_pods(std::size_t most) {
  std::lock_guard lock(mutex_);
  pods_max_ = most;
}
std::size_t FakeServer::refused() const {
  std::lock_guard lock(mutex_);
  return refused_;
}
Object FakeServer::get(const std::string& resource, const ObjectKey& key) const {
  std::lock_guard lock(mutex_);
  const auto found = objects_.find(resource);
  if (found == objects_.end()) return {};
  const auto object = found->second.find(key);
  return object == found->second.end() ? Object() : object->second;
}

ApiResponse FakeServer::answer(const ApiRequest& request) {
  ApiResponse response;
  {
    std::lock_guard lock(mutex_);
    auto& objects = objects_[request.resource];
    if (request.verb == "create" && request.resource == "pods" && objects.size() >= pods_max_) {
      ++refused_;
      response.code = 403;
      response.body = R"({"kind":"Status","code":403,"reason":"Forbidden","message":"exceeded quota: few"})";
    } else if (request.verb == "create") {
      if (request.resource == "pods") ++creates_;
      json::value root = request.object ? tree(request.object) : parse_json(request.body).value();
      set_at(root, "/metadata/uid", json::value("uid-" + std::to_string(next_uid_++)));
      response.object = store(request.resource, std::move(root), ObjectChange::Type::added);
    } else if (request.verb == "update") {
      response.object = store(request.resource, tree(request.object), ObjectChange::Type::modified);
    } else if (request.verb == "delete") {
      const auto found = objects.find({request.ns, request.name});
      if (found == objects.end()) {
        response.code = 404;
        response.body = R"({"kind":"Status","code":404,"reason":"NotFound","message":"gone"})";
      } else {
        response.object = store(request.resource, tree(found->second), ObjectChange::Type::removed);
      }
    } else {
      response.code = 405;
      response.body = R"({"kind":"Status","code":405,"reason":"MethodNotAllowed","message":"no"})";
    }
  }
  return response;
}

Pending<ApiResponse> FakeServer::request(ApiRequest request) {
  Result<ApiResponse> response = answer(request);
  wake();
  return response;
}

Pending<std::vector<ApiResponse>> FakeServer::batch(std::vector<ApiRequest> requests) {
  std::vector<ApiResponse> responses;
  for (const ApiRequest& request : requests) responses.push_back(answer(request));
  wake();
  return Result<std::vector<ApiResponse>>(std::move(responses));
}

Pending<ObjectList> FakeServer::list(ApiRequest request) {
  std::lock_guard lock(mutex_);
  ++lists_;
  ObjectList list;
  for (const auto& [key, object] : objects_[request.resource]) list.items.push_back(object);
  list.resource_version = std::to_string(revision_);
  return Result<ObjectList>(std::move(list));
}

Result<ObjectWatch> FakeServer::watch(ApiRequest request) {
  const std::int64_t after = to_int(request.query["resourceVersion"]).value_or(0);
  std::lock_guard lock(mutex_);
  if (after < forgotten_) return Error(Error::expired, "test", "too old resource version");
  auto stream = std::make_shared<Stream>(shared_from_this(), request.resource, after);
  streams_.push_back(stream);
  return ObjectWatch(stream);
}

}  // namespace orchestra::test
