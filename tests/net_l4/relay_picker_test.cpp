// Whom a client of the userspace proxy gets. No sockets, no clock.
#include "net/lb/relay_picker.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::net;

namespace {
constexpr std::int64_t kSecond = 1'000'000'000;
RelayTargets three(int affinity_seconds) {
  return {.list = {{1, 80}, {2, 80}, {3, 80}}, .round_robin = true, .affinity_seconds = affinity_seconds};
}
std::uint32_t ask(RelayPicker& picker, std::uint32_t client, std::int64_t now_ns) {
  const auto targets = picker.pick(real_random(), client, now_ns, 3);
  if (targets.empty()) return 0;
  picker.used(client, targets.front(), now_ns);
  return targets.front().address;
}
}  // namespace

TEST_CASE("without affinity endpoints take turns, and all of them are alternatives") {
  RelayPicker picker;
  CHECK(ask(picker, 9, 0) == 0);
  picker.set(three(0));
  CHECK(ask(picker, 9, 0) == 1);
  CHECK(ask(picker, 9, 0) == 2);
  CHECK(ask(picker, 9, 0) == 3);
  CHECK(picker.pick(real_random(), 9, 0, 2).size() == 2);
  CHECK(picker.clients() == 0);
}

TEST_CASE("with affinity a client keeps its endpoint while it comes back in time") {
  RelayPicker picker;
  picker.set(three(10));
  CHECK(ask(picker, 7, 0) == 1);
  CHECK(ask(picker, 8, 0) == 2);
  CHECK(ask(picker, 7, 9 * kSecond) == 1);
  CHECK(ask(picker, 7, 18 * kSecond) == 1);  // each connection starts the time anew
  CHECK(ask(picker, 7, 28 * kSecond) == 3);  // too late: a new choice
}

TEST_CASE("an endpoint that goes takes its clients along, and the memory has a bound") {
  RelayPicker picker;
  picker.set(three(10));
  CHECK(ask(picker, 7, 0) == 1);
  picker.set({.list = {{2, 80}, {3, 80}}, .round_robin = true, .affinity_seconds = 10});
  CHECK(picker.clients() == 0);
  CHECK(ask(picker, 7, 0) != 1);
  for (std::uint32_t client = 0; client < RelayPicker::kClientsMax + 10; ++client) ask(picker, client, 0);
  CHECK(picker.clients() == RelayPicker::kClientsMax);
  picker.set({.list = {{2, 80}, {3, 80}}});
  CHECK(picker.clients() == 0);
}
