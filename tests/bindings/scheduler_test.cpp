// The scheduler through the C ABI: decisions on own data without an engine, rules of the host as callbacks,
// and the examples that show it.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "orchestra/orchestra.h"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

namespace {

std::string node_json(const std::string& name, const std::string& cpu) {
  return R"({"apiVersion":"v1","kind":"Node","metadata":{"name":")" + name +
         R"("},"status":{"allocatable":{"cpu":")" + cpu + R"(","memory":"8Gi","pods":"10"}}})";
}
std::string pod_json(const std::string& name, const std::string& cpu) {
  return R"({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":")" + name + R"(","uid":")" +
         name + R"("},"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":")" + cpu +
         R"("}}}]}})";
}

struct OwnSnapshot {
  orc_snapshot* handle = nullptr;
  OwnSnapshot() { REQUIRE(orc_snapshot_new(&handle, nullptr) == ORC_OK); }
  ~OwnSnapshot() { orc_snapshot_free(handle); }
  void set(const std::string& object) {
    REQUIRE(orc_snapshot_set(handle, object.data(), object.size(), nullptr) == ORC_OK);
  }
  std::string place(const std::string& pod, const orc_scheduler_plugin* plugin = nullptr) {
    orc_bytes answer{};
    orc_error* error = nullptr;
    if (orc_snapshot_place(handle, pod.data(), pod.size(), plugin, plugin == nullptr ? 0 : 1, 1, &answer,
                           &error) != ORC_OK) {
      std::string message = orc_error_message(error);
      orc_error_free(error);
      return message;
    }
    std::string text(answer.data, answer.size);
    orc_bytes_free(&answer);
    return text;
  }
};

int no_b(void*, const char*, const char* node, char* reason, std::size_t size) {
  if (std::strstr(node, "\"name\":\"b\"") == nullptr) return 0;
  std::snprintf(reason, size, "node(s) were too far away");
  return 1;
}
int broken(void*, const char*, const char*, char*, std::size_t) { return 7; }

std::string output_of(const std::string& program) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(program.c_str(), "r"), pclose);
  std::string text;
  char line[512];
  while (pipe && std::fgets(line, sizeof line, pipe.get()) != nullptr) text += line;
  return text;
}

}  // namespace

TEST_CASE("C decides on its own machines, with reasons, and with a rule of its own") {
  OwnSnapshot snapshot;
  snapshot.set(node_json("a", "1"));
  snapshot.set(node_json("b", "4"));
  CHECK(snapshot.place(pod_json("first", "1")).find(R"("node":"b")") != std::string::npos);
  orc_scheduler_plugin plugin{sizeof plugin, "Near", 0, nullptr, no_b, nullptr};
  CHECK(snapshot.place(pod_json("second", "1"), &plugin).find(R"("node":"a")") != std::string::npos);
  CHECK(snapshot.place(pod_json("third", "1"), &plugin)
            .find(R"("counts":{"Insufficient cpu":1,"node(s) were too far away":1})") != std::string::npos);
  plugin.filter = broken;
  CHECK(
      snapshot.place(pod_json("fourth", "1"), &plugin).find("plugin Near: filter: the callback answered 7") !=
      std::string::npos);
  REQUIRE(orc_snapshot_remove_pod(snapshot.handle, "second", nullptr) == ORC_OK);
  CHECK(orc_snapshot_remove_pod(snapshot.handle, "second", nullptr) == ORC_ENOTFOUND);
  orc_bytes rows{};
  const std::string pod = pod_json("fifth", "2");
  REQUIRE(orc_snapshot_explain(snapshot.handle, pod.data(), pod.size(), &rows, nullptr) == ORC_OK);
  CHECK(std::string(rows.data).find(R"({"node":"a","reasons":["Insufficient cpu"]})") != std::string::npos);
  CHECK(std::string(rows.data).find(R"("plugin":"NodeResourcesFit")") != std::string::npos);
  orc_bytes_free(&rows);
}

TEST_CASE("what C hands over wrongly is refused with a sentence") {
  OwnSnapshot snapshot;
  orc_error* error = nullptr;
  const std::string service = R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"s"}})";
  CHECK(orc_snapshot_set(snapshot.handle, service.data(), service.size(), &error) == ORC_EINVAL);
  CHECK(std::string(orc_error_message(error)).find("does not look at a Service") != std::string::npos);
  orc_error_free(error);
  orc_bytes answer{};
  CHECK(orc_snapshot_place(snapshot.handle, service.data(), service.size(), nullptr, 0, 0, &answer,
                           nullptr) == ORC_EINVAL);
  CHECK(orc_snapshot_place(snapshot.handle, "{", 1, nullptr, 0, 0, &answer, nullptr) != ORC_OK);
  orc_scheduler_plugin nameless{sizeof nameless, nullptr, 0, nullptr, no_b, nullptr};
  const std::string pod = pod_json("p", "1");
  CHECK(orc_snapshot_place(snapshot.handle, pod.data(), pod.size(), &nameless, 1, 0, &answer, nullptr) ==
        ORC_EINVAL);
  CHECK(orc_snapshot_new(nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_scheduler_new(nullptr, nullptr, nullptr, nullptr, 0, nullptr, nullptr) == ORC_EINVAL);
  orc_scheduler_stop(nullptr);
  orc_scheduler_free(nullptr);
}

TEST_CASE("examples/scheduler_plugin: the cheapest machine is filled first, in C and in C++") {
  for (const char* language : {"c", "cpp"}) {
    const std::string program = std::string(ORCHESTRA_BINARY_DIR) + "/bin/example_cheapest_" + language;
    if (!std::filesystem::exists(program)) ORC_SKIP("examples/scheduler_plugin", program + " was not built");
    const std::string said = output_of(program);
    const auto spot = said.find("spot");
    const auto reserved = said.find("reserved");
    const auto expensive = said.find("on-demand");
    CHECK_MESSAGE((spot < reserved && reserved < expensive && expensive != std::string::npos), said);
  }
}
