// orc_informer_* and orc_client_apply in C: on a server in this process, and over HTTPS.
#include <poll.h>
#include <future>

#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <vector>

#include "base/json.hpp"
#include "bindings/c/handles.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
constexpr std::int64_t kSyncPatience = 30'000;

std::string text_of_bytes(orc_bytes& bytes) {
  std::string out(bytes.data, bytes.size);
  orc_bytes_free(&bytes);
  return out;
}

struct TwoWays {
  test::TempDir folder;
  orc_engine engine{std::make_unique<Engine>()};
  ApiServer server{*engine.engine, MemoryStore::create(*engine.engine),
                   ApiServerOptions{.listen = "127.0.0.1:0", .data_directory = folder.path()}};
  Client client;
  std::vector<orc_client*> clients;
  TwoWays() {
    REQUIRE(server.start());
    REQUIRE(server.write_kubeconfig(folder / "kubeconfig"));
    client = server.client();
    clients.push_back(new orc_client{client});
    orc_client* remote = nullptr;
    REQUIRE(orc_client_connect(&engine, (folder / "kubeconfig").c_str(), nullptr, &remote, nullptr) ==
            ORC_OK);
    clients.push_back(remote);
  }
  ~TwoWays() {
    for (orc_client* one : clients) orc_client_free(one);
    server.stop();
  }
  Object put(const std::string& name, const std::string& value, const std::string& label = "web") const {
    const Object object = Object::from_json(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" +
                                            name + R"(","namespace":"shop","labels":{"app":")" + label +
                                            R"("}},"data":{"v":")" + value + R"("}})")
                              .value();
    const auto made = client.create(object).wait(30s);
    if (made) return *made;
    const auto updated = client.update(object).wait(30s);
    REQUIRE_MESSAGE(updated, (updated ? "" : updated.error().to_string()));
    return *updated;
  }
  void remove(const std::string& name) const {
    REQUIRE(client.remove("v1", "configmaps", name, "shop").wait(30s));
  }
  void make_namespace() const {
    REQUIRE(
        client.create(Object::from_yaml("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").value())
            .wait(30s));
  }
};

/// What a callback was told: "+a", "~a:old>new", "=a" (by a resync), "-a".
struct Told {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> lines;
  std::function<void()> inside;  ///< runs in the callback

  static void call(void* user, const orc_informer_event* event) {
    auto* told = static_cast<Told*>(user);
    const auto object = [](const char* json, size_t size) {
      return json == nullptr ? Object() : Object::from_json({json, size}).value();
    };
    const Object old = object(event->old_json, event->old_size),
                 now = object(event->now_json, event->now_size);
    std::string line;
    if (event->type == ORC_INFORMER_ADDED) line = "+" + now.name();
    if (event->type == ORC_INFORMER_DELETED) line = "-" + old.name();
    if (event->type == ORC_INFORMER_MODIFIED) {
      line = old.resource_version() == now.resource_version()
                 ? "=" + now.name()
                 : "~" + now.name() + ":" + old.get("/data/v").value() + ">" + now.get("/data/v").value();
    }
    if (told->inside) told->inside();
    std::lock_guard lock(told->mutex);
    told->lines.push_back(line);
    told->changed.notify_all();
  }
  bool wait_for(const std::vector<std::string>& expected) {
    std::unique_lock lock(mutex);
    const bool same = changed.wait_for(lock, 30s, [&] { return lines == expected; });
    if (!same) {
      for (const std::string& line : lines) MESSAGE(line);
    }
    return same;
  }
};

struct InformerHandle {
  orc_informer* informer = nullptr;
  orc_code code = ORC_OK;
  std::string why;
  InformerHandle(TwoWays& ways, orc_client* client, Told* told, std::int64_t resync_ms = 0,
                 const char* labels = "app=web", const char* resource = "configmaps") {
    orc_informer_options options{};
    options.size = sizeof options;
    options.resource = resource;
    options.ns = "shop";
    options.labels = labels;
    options.resync_ms = resync_ms;
    options.call = told != nullptr ? Told::call : nullptr;
    options.user = told;
    orc_error* error = nullptr;
    code = orc_informer_new(&ways.engine, client, &options, &informer, &error);
    if (error != nullptr) why = orc_error_message(error);
    orc_error_free(error);
  }
  InformerHandle(const InformerHandle&) = delete;
  ~InformerHandle() { orc_informer_free(informer); }
  bool synced() const { return orc_informer_wait_synced(informer, kSyncPatience, nullptr) == ORC_OK; }
  std::string names(const char* ns, const char* labels) const {
    std::string out;
    REQUIRE(orc_informer_list(informer, ns, labels, add_name, &out, nullptr) == ORC_OK);
    return out;
  }
  static int add_name(void* user, const char* json, size_t size) {
    auto* out = static_cast<std::string*>(user);
    *out += Object::from_json({json, size})->name() + ";";
    return out->size() > 6 ? 1 : 0;  // ends a listing after the third
  }
  /// "ADDED a;MODIFIED b 1>2;..." of what waits; "late" or "stopped" where nothing does.
  std::string next(std::int64_t timeout_ms) const {
    orc_bytes events{};
    orc_error* error = nullptr;
    const orc_code answer = orc_informer_next(informer, timeout_ms, &events, &error);
    CHECK((error != nullptr) == (answer != ORC_OK && answer != ORC_EDEADLINEEXCEEDED));
    orc_error_free(error);
    if (answer == ORC_EDEADLINEEXCEEDED) return "late";
    if (answer == ORC_ECANCELLED) return "stopped";
    REQUIRE(answer == ORC_OK);
    const json::value tree = parse_json(text_of_bytes(events)).value();
    std::string out;
    for (const json::value& event : tree.as_array()) {
      out += string_at(event, "/type") + " " + string_at(event, "/object/metadata/name");
      if (find(event, "/old") != nullptr)
        out += " " + string_at(event, "/old/data/v") + ">" + string_at(event, "/object/data/v");
      out += ";";
    }
    return out;
  }
};
}  // namespace

TEST_CASE("C: an informer tells what is there and what changes, and answers from its copy") {
  TwoWays ways;
  ways.make_namespace();
  for (orc_client* client : ways.clients) {
    const Object first = ways.put("a", "1");
    ways.put("other", "1", "db");
    Told told;
    const InformerHandle maps(ways, client, &told);
    REQUIRE_MESSAGE(maps.code == ORC_OK, maps.why);
    REQUIRE(maps.synced());
    REQUIRE(told.wait_for({"+a"}));
    const Object second = ways.put("b", "1");
    const Object changed = ways.put("a", "2");
    // What was written is read, also where no event was waited for.
    REQUIRE(orc_informer_wait_for(maps.informer, changed.resource_version().c_str(), kSyncPatience,
                                  nullptr) == ORC_OK);
    orc_bytes got{};
    REQUIRE(orc_informer_get(maps.informer, "shop", "a", &got, nullptr) == ORC_OK);
    CHECK(Object::from_json(text_of_bytes(got))->get("/data/v") == "2");
    CHECK(maps.names(nullptr, nullptr) == "a;b;");
    CHECK(maps.names("shop", "app in (web)") == "a;b;");
    CHECK(maps.names("shop", "app=db").empty());
    CHECK(maps.names("default", nullptr).empty());
    ways.put("b", "1", "db");  // leaves the selector
    ways.remove("a");
    CHECK(told.wait_for({"+a", "+b", "~a:1>2", "-b", "-a"}));
    CHECK(orc_informer_get(maps.informer, "shop", "a", &got, nullptr) == ORC_ENOTFOUND);
    ways.remove("b");
    ways.remove("other");
    CHECK(orc_informer_stop(maps.informer, nullptr) == ORC_OK);
    ways.put("late", "1");
    ways.remove("late");
    CHECK(told.wait_for({"+a", "+b", "~a:1>2", "-b", "-a"}));
  }
}

TEST_CASE("C: what nobody reads in time is one change for each object, and no removal is lost") {
  TwoWays ways;
  ways.make_namespace();
  for (orc_client* client : ways.clients) {
    for (const char* name : {"a", "b", "c"}) ways.put(name, "1");
    const InformerHandle maps(ways, client, nullptr);
    REQUIRE(maps.synced());
    pollfd ready{orc_informer_fd(maps.informer), POLLIN, 0};
    CHECK(poll(&ready, 1, 30'000) == 1);
    CHECK(maps.next(kSyncPatience) == "ADDED a;ADDED b;ADDED c;");
    CHECK(maps.next(0) == "late");
    CHECK(poll(&ready, 1, 0) == 0);
    for (const char* value : {"2", "3", "4"}) ways.put("b", value);
    ways.remove("a");
    ways.put("seen-by-nobody", "1");
    ways.remove("seen-by-nobody");
    ways.remove("c");
    ways.put("c", "another");
    const Object last = ways.put("d", "1");
    REQUIRE(orc_informer_wait_for(maps.informer, last.resource_version().c_str(), kSyncPatience, nullptr) ==
            ORC_OK);
    // Behind stop() every change is in the queue, and stays to be read.
    REQUIRE(orc_informer_stop(maps.informer, nullptr) == ORC_OK);
    CHECK(maps.next(0) == "MODIFIED b 1>4;DELETED a;DELETED c;ADDED c;ADDED d;");
    CHECK(maps.next(kSyncPatience) == "stopped");
    CHECK(poll(&ready, 1, 0) == 1);
    for (const char* name : {"b", "c", "d"}) ways.remove(name);
  }
}

TEST_CASE("C: a resync tells all objects again, when asked and by its time") {
  TwoWays ways;
  ways.make_namespace();
  ways.put("a", "1");
  ways.put("b", "1");
  Told told;
  const InformerHandle maps(ways, ways.clients[0], &told);
  REQUIRE(told.wait_for({"+a", "+b"}));
  CHECK(orc_informer_resync(maps.informer, nullptr) == ORC_OK);
  CHECK(told.wait_for({"+a", "+b", "=a", "=b"}));
  Told each;
  {
    const InformerHandle timed(ways, ways.clients[0], &each, 5);
    std::unique_lock lock(each.mutex);
    REQUIRE(each.changed.wait_for(lock, 30s, [&] { return each.lines.size() >= 6; }));
  }
  CHECK(each.lines[0] == "+a");
  CHECK(each.lines[2] == "=a");
  CHECK(each.lines[3] == "=b");
  CHECK(each.lines[4] == "=a");
}

TEST_CASE("C: a callback may read its informer, and is told that it cannot stop it") {
  TwoWays ways;
  ways.make_namespace();
  ways.put("a", "1");
  Told told;
  std::promise<orc_informer*> made;  // the callback may run before orc_informer_new has answered
  std::vector<orc_code> codes;
  told.inside = [&codes, known = made.get_future().share()] {
    orc_informer* const informer = known.get();
    orc_bytes got{};
    codes.push_back(orc_informer_get(informer, "shop", "a", &got, nullptr));
    orc_bytes_free(&got);
    codes.push_back(orc_informer_stop(informer, nullptr));
    codes.push_back(orc_informer_wait_for(informer, "999999999", 30'000, nullptr));
  };
  const InformerHandle maps(ways, ways.clients[0], &told);
  made.set_value(maps.informer);
  REQUIRE(told.wait_for({"+a"}));
  CHECK(codes == std::vector<orc_code>{ORC_OK, ORC_EWOULDDEADLOCK, ORC_EWOULDDEADLOCK});
}

TEST_CASE("C: an informer that cannot reach its server says why, and ends at once when it is freed") {
  TwoWays ways;
  orc_client nowhere{Client()};
  CHECK(InformerHandle(ways, &nowhere, nullptr).code == ORC_EINVAL);
  const std::string config =
      "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
      "clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\n";
  FILE* file = fopen((ways.folder / "nowhere").c_str(), "w");
  fputs(config.c_str(), file);
  fclose(file);
  orc_client* remote = nullptr;
  REQUIRE(orc_client_connect(&ways.engine, (ways.folder / "nowhere").c_str(), nullptr, &remote, nullptr) ==
          ORC_OK);
  {
    const InformerHandle maps(ways, remote, nullptr);
    REQUIRE(maps.code == ORC_OK);
    orc_bytes why{};
    do {
      REQUIRE(orc_informer_last_error(maps.informer, &why, nullptr) == ORC_OK);
    } while (text_of_bytes(why).empty());
    orc_error* error = nullptr;
    CHECK(orc_informer_wait_synced(maps.informer, 0, &error) == ORC_EDEADLINEEXCEEDED);
    CHECK(std::string(orc_error_message(error)).find("v1/configmaps") != std::string::npos);
    CHECK(std::string(orc_error_message(error)).find("127.0.0.1") != std::string::npos);
    orc_error_free(error);
    CHECK(maps.next(0) == "late");
  }
  orc_client_free(remote);
}

TEST_CASE("C: wrong arguments of informers are refused") {
  TwoWays ways;
  Told told;
  CHECK(InformerHandle(ways, ways.clients[0], nullptr, -1).code == ORC_EINVAL);
  CHECK(InformerHandle(ways, ways.clients[0], nullptr, 0, "app in (").code == ORC_EINVAL);
  CHECK(InformerHandle(ways, ways.clients[0], nullptr, 0, nullptr, nullptr).code == ORC_EINVAL);
  const InformerHandle called(ways, ways.clients[0], &told);
  REQUIRE(called.code == ORC_OK);
  orc_bytes events{};
  CHECK(orc_informer_next(called.informer, 0, &events, nullptr) == ORC_EINVAL);
  CHECK(orc_informer_fd(called.informer) == -1);
  CHECK(orc_informer_wait_for(called.informer, "seven", 0, nullptr) == ORC_EINVAL);
  std::string out;
  CHECK(orc_informer_list(called.informer, nullptr, "=", InformerHandle::add_name, &out, nullptr) ==
        ORC_EINVAL);
  CHECK(orc_informer_find(called.informer, "colour", "x", InformerHandle::add_name, &out, nullptr) ==
        ORC_EINVAL);
  CHECK(orc_informer_get(nullptr, nullptr, "a", &events, nullptr) == ORC_EINVAL);
  orc_informer_free(nullptr);
}

TEST_CASE("C: pods are found by their node and by their owner") {
  TwoWays ways;
  ways.make_namespace();
  for (const char* node : {"n1", "n2"}) {
    REQUIRE(ways.client
                .create(Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"on-)" +
                                          std::string(node) +
                                          R"(","namespace":"shop","labels":{"app":"web"},"ownerReferences":[{
                    "apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"owner-of-)" +
                                          node + R"("}]},"spec":{"nodeName":")" + node +
                                          R"(","containers":[{"name":"c","image":"i"}]}})")
                            .value())
                .wait(30s));
  }
  const InformerHandle pods(ways, ways.clients[1], nullptr, 0, nullptr, "pods");
  REQUIRE(pods.synced());
  std::string out;
  REQUIRE(orc_informer_find(pods.informer, "node", "n2", InformerHandle::add_name, &out, nullptr) == ORC_OK);
  CHECK(out == "on-n2;");
  out.clear();
  REQUIRE(orc_informer_find(pods.informer, "owner", "owner-of-n1", InformerHandle::add_name, &out, nullptr) ==
          ORC_OK);
  CHECK(out == "on-n1;");
}

TEST_CASE("C: server-side apply answers the objects, counts them, and stops at a conflict") {
  TwoWays ways;
  for (orc_client* client : ways.clients) {
    const auto apply = [&](const std::string& text, const char* manager, int force, std::string& answer) {
      orc_apply_options options{};
      options.size = sizeof options;
      options.manager = manager;
      options.force = force;
      orc_bytes out{};
      orc_error* error = nullptr;
      std::size_t applied = 0;
      const orc_code code =
          orc_client_apply(client, text.data(), text.size(), &options, &out, &applied, &error);
      answer = code == ORC_OK ? text_of_bytes(out) : orc_error_message(error);
      orc_error_free(error);
      return std::to_string(code) + " " + std::to_string(applied);
    };
    const std::string first = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '1'}\n";
    const std::string second = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {v: '1'}\n";
    std::string answer;
    CHECK(apply(first + "---\n" + second, "me", 0, answer) == "0 2");
    CHECK(array_at(parse_json(answer).value(), "")->size() == 2);
    CHECK(answer.find(R"("name":"b")") != std::string::npos);
    const std::string other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {v: '2'}\n";
    CHECK(apply(first + "---\n" + other, "you", 0, answer) == std::to_string(ORC_ECONFLICT) + " 1");
    CHECK(answer.find("ConfigMap b") != std::string::npos);
    CHECK(answer.find("conflict with \"me\"") != std::string::npos);
    CHECK(apply(other, "you", 1, answer) == "0 1");
    CHECK(answer.find(R"("data":{"v":"2"})") != std::string::npos);
    CHECK(apply(other, "", 1, answer) == std::to_string(ORC_EINVAL) + " 0");
    CHECK(apply("kind: [", "me", 0, answer) == std::to_string(ORC_EINVAL) + " 0");
    for (const char* name : {"a", "b"})
      REQUIRE(ways.client.remove("v1", "configmaps", name, "default").wait(30s));
  }
}
