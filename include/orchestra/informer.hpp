#pragma once
// Informer<T>: a local, indexed, always current copy of the objects of one resource.
//
// It lists once, then follows a watch: resumes where it was when the connection breaks, and lists again and
// compares when the server has forgotten the revision (`expired`), so handlers see every change exactly as
// (old, new) and never miss a removal. No thread per informer: a watch calls when there is something and an
// event thread of the engine applies it. Objects are shared with every other reader; nothing is copied.
//
//   Informer<k8s::Pod> pods(engine, client);
//   pods.on_event([](const k8s::Pod& old, const k8s::Pod& now) { ... });   // old empty: new; now empty: gone
//   pods.start().value();
//   pods.wait_synced().wait(10s).value();
//   for (const k8s::Pod& pod : pods.by_node("edge-1")) ...
//
// Reads may be made from any thread at any time. Since 0.1.
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"

namespace orchestra {

struct ObjectKey {
  std::string ns, name;
  std::string text() const { return ns.empty() ? name : ns + "/" + name; }
  static ObjectKey from_text(std::string_view text);
  static ObjectKey of(const Object& object) { return {object.ns(), object.name()}; }
  friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;
};

/// A resource by its version and plural name: {"apps/v1", "deployments"}.
struct ResourceRef {
  std::string api_version, resource;
  std::string text() const { return api_version + "/" + resource; }
  friend auto operator<=>(const ResourceRef&, const ResourceRef&) = default;
};
template <class T>
ResourceRef resource_of() {
  return {T::api_version_name, T::resource_name};
}

using LabelMap = std::map<std::string, std::string>;
using LabelMatcher = std::function<bool(const LabelMap&)>;
/// Labels with their values; views of what the caller keeps for the length of a call. Since 0.2.
using LabelViews = std::vector<std::pair<std::string_view, std::string_view>>;

/// The indexed store behind an informer; usable alone (tests, simulators). Thread safe. Results come in the
/// order of (namespace, name), so that whoever decides by them decides the same every time.
class ORC_API ObjectCache {
 public:
  /// Index values of an object.
  using Index = std::function<std::vector<std::string>(const Object&)>;
  static constexpr const char* kOwner = "owner";  ///< UIDs of all owners
  static constexpr const char* kNode = "node";    ///< /spec/nodeName

  ObjectCache();
  ~ObjectCache();
  ObjectCache(const ObjectCache&) = delete;
  ObjectCache& operator=(const ObjectCache&) = delete;

  /// Adds an index; objects that are here already are indexed at once.
  void add_index(const std::string& name, Index index);
  /// Stores a version; answers the one before (empty: none).
  Object put(Object object);
  /// Answers what was removed.
  Object erase(const ObjectKey& key);

  Object get(const std::string& ns, const std::string& name) const;
  Object get(const ObjectKey& key) const { return get(key.ns, key.name); }
  Object by_uid(const std::string& uid) const;
  std::vector<Object> list() const;
  std::vector<Object> list(const std::string& ns) const;
  std::vector<Object> find(const std::string& index, const std::string& value) const;
  /// Objects of a namespace (empty: all) whose labels match. Each distinct set of labels is tried once; of
  /// those only the ones with the rarest of `having`, labels that whatever matches has with these values.
  std::vector<Object> select(const std::string& ns, const LabelMatcher& matches,
                             const LabelViews& having = {}) const;
  /// Of those the ones that no owner controls; costs nothing for the others. Since 0.2.
  std::vector<Object> select_orphans(const std::string& ns, const LabelMatcher& matches,
                                     const LabelViews& having = {}) const;
  std::size_t size() const;
  /// Bytes of the objects' JSON (shared with other readers of the same versions).
  std::uint64_t bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct InformerOptions {
  std::string ns = {};      ///< empty: all
  std::string labels = {};  ///< label selector
  std::string fields = {};  ///< field selector
  Duration retry_min = std::chrono::milliseconds(50);
  Duration retry_max = std::chrono::seconds(30);
  std::size_t waiters_max = 65536;  ///< more calls of wait_for answer `overloaded`
  /// Every so often all objects are told once more, with themselves as `old`; zero: never. Since 0.2.
  Duration resync = {};
};

/// Informer without the type: what Informer<T> and ControllerRunner stand on.
class ORC_API InformerCore {
 public:
  using Handler = std::function<void(const Object& old, const Object& now)>;

  InformerCore(Engine& engine, Client client, ResourceRef resource, InformerOptions options = {});
  ~InformerCore();  ///< stop()
  InformerCore(const InformerCore&) = delete;
  InformerCore& operator=(const InformerCore&) = delete;

  /// Called on an event thread, one call at a time, in the order of revisions, after the cache has the
  /// change. Must not block and must not call stop(). A handler that is added late is first told all objects.
  void on_event(Handler handler);
  /// Tells all objects once more, with themselves as `old`, soon and on an event thread. Since 0.2.
  void resync();
  /// Begins to list. Errors of the server do not end an informer: it tries again with growing pauses.
  Result<void> start();
  /// No handler runs when this has returned. Idempotent, any thread but a handler's.
  void stop();

  const ResourceRef& resource() const;
  ObjectCache& cache();
  const ObjectCache& cache() const;
  /// The first list is complete.
  bool synced() const;
  /// Highest resourceVersion that this informer has seen, as a number.
  std::int64_t revision() const;
  Pending<void> wait_synced();
  /// Read-your-writes: done when the cache has everything up to `resource_version`.
  Pending<void> wait_for(const std::string& resource_version);
  /// Done when no object with this UID is in the cache, or only one that is being deleted.
  Pending<void> wait_gone(const std::string& uid);
  /// The last error of list or watch; empty when all is well.
  std::string last_error() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

template <class T>
class Informer {
 public:
  Informer(Engine& engine, Client client, InformerOptions options = {})
      : core_(engine, std::move(client), resource_of<T>(), std::move(options)) {}

  void on_event(std::function<void(const T& old, const T& now)> handler) {
    core_.on_event(
        [handler = std::move(handler)](const Object& old, const Object& now) { handler(T(old), T(now)); });
  }
  Result<void> start() { return core_.start(); }
  void stop() { core_.stop(); }
  bool synced() const { return core_.synced(); }
  Pending<void> wait_synced() { return core_.wait_synced(); }
  Pending<void> wait_for(const std::string& resource_version) { return core_.wait_for(resource_version); }
  void add_index(const std::string& name, std::function<std::vector<std::string>(const T&)> index) {
    core_.cache().add_index(name, [index = std::move(index)](const Object& o) { return index(T(o)); });
  }

  /// Empty (false) if there is none.
  T get(const std::string& ns, const std::string& name) const { return T(core_.cache().get(ns, name)); }
  T get(const std::string& name) const { return get({}, name); }
  std::vector<T> list() const { return typed(core_.cache().list()); }
  std::vector<T> list(const std::string& ns) const { return typed(core_.cache().list(ns)); }
  std::vector<T> by_owner(const std::string& uid) const { return by_index(ObjectCache::kOwner, uid); }
  std::vector<T> by_node(const std::string& node) const { return by_index(ObjectCache::kNode, node); }
  std::vector<T> by_index(const std::string& index, const std::string& value) const {
    return typed(core_.cache().find(index, value));
  }
  std::vector<T> select(const std::string& ns, const LabelMatcher& matches) const {
    return typed(core_.cache().select(ns, matches));
  }
  InformerCore& core() { return core_; }

 private:
  static std::vector<T> typed(std::vector<Object> objects) {
    return std::vector<T>(std::make_move_iterator(objects.begin()), std::make_move_iterator(objects.end()));
  }
  InformerCore core_;
};

/// Any resource, named at run time.
template <>
class Informer<Object> : public InformerCore {
 public:
  using InformerCore::InformerCore;
};

}  // namespace orchestra
