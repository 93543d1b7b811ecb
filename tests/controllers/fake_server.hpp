#pragma once
// A server of one kind of trouble: lists and watches pods and replica sets from memory, and can hold back
// what watches deliver, cut them, or forget old revisions.
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "base/json.hpp"
#include "orchestra/informer.hpp"

namespace orchestra::test {

class FakeServer : public Client::Impl, public std::enable_shared_from_this<FakeServer> {
 public:
  /// As a user would; answers the stored object.
  Object put(const Object& object);
  void erase(const std::string& resource, const ObjectKey& key);
  /// While held, watches deliver nothing; of one resource only if it is named.
  void hold(bool held, const std::string& resource = {});
  /// Ends all watches; with `forget` they have to list again.
  void cut(bool forget);
  std::size_t count(const std::string& resource) const;
  std::size_t lists() const;
  std::size_t creates() const;  ///< of pods
  /// Creates of pods are refused while there are so many, as a quota does.
  void limit_pods(std::size_t most);
  std::size_t refused() const;  ///< creates of pods
  Object get(const std::string& resource, const ObjectKey& key) const;

  Pending<ApiResponse> request(ApiRequest request) override;
  Pending<ObjectList> list(ApiRequest request) override;
  Result<ObjectWatch> watch(ApiRequest request) override;
  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) override;
  Pending<std::shared_ptr<ByteStream>> log(ApiRequest) override { return unsupported(); }
  Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest) override { return unsupported(); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest, int) override { return unsupported(); }

 private:
  struct Logged {
    std::int64_t revision;
    std::string resource;
    ObjectChange change;
  };
  class Stream;
  static Error unsupported() { return Error(Error::unsupported, "test", "not part of this server"); }
  ApiResponse answer(const ApiRequest& request);
  Object store(std::string resource, json::value tree, ObjectChange::Type type);
  void wake();

  mutable std::mutex mutex_;
  std::map<std::string, std::map<ObjectKey, Object>> objects_;
  std::vector<Logged> events_;
  std::vector<std::weak_ptr<Stream>> streams_;
  std::int64_t revision_ = 10;
  std::int64_t forgotten_ = 0;
  std::uint64_t next_uid_ = 1;
  std::size_t lists_ = 0, creates_ = 0, refused_ = 0;
  std::size_t pods_max_ = static_cast<std::size_t>(-1);
  std::set<std::string> held_;
};

}  // namespace orchestra::test
