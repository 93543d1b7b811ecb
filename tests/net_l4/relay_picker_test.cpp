// Whom a client of the userspace proxy gets. No sockets, no clock.
#include <map>

#include "net/lb/relay_picker.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::net;

namespace {
constexpr std::int64_t kOneSecond = 1'000'000'000;
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
  const RelayTargets two{.list = {{1, 80}, {2, 80}}, .affinity_seconds = 10};
  picker.set(two);
  // A client that would rather have the third, which comes later.
  RelayPicker later;
  later.set(three(10));
  std::uint32_t client = 0;
  while (ask(later, ++client, 0) != 3) {
  }
  const std::uint32_t given = ask(picker, client, 0);
  CHECK(given != 3);
  picker.set(three(10));
  CHECK(ask(picker, client, 9 * kOneSecond) == given);
  CHECK(ask(picker, client, 18 * kOneSecond) == given);  // each connection starts the time anew
  CHECK(ask(picker, client, 28 * kOneSecond) == 3);      // too late: a new choice
}

TEST_CASE(
    "with affinity clients find their endpoints again after a restart, and each endpoint has its share") {
  RelayPicker before, after, more;
  before.set(three(10));
  RelayTargets turned = three(10);
  std::swap(turned.list[0], turned.list[2]);
  after.set(turned);  // the order is not what counts
  turned.list.push_back({4, 80});
  more.set(turned);
  std::map<std::uint32_t, int> shares;
  int moved = 0;
  for (std::uint32_t client = 0x0af40100; client < 0x0af40100 + 3000; ++client) {
    const std::uint32_t given = ask(before, client, 0), with_more = ask(more, client, 0);
    ++shares[given];
    CHECK(ask(after, client, 0) == given);
    if (with_more != given) ++moved;
    CHECK((with_more == given || with_more == 4));
  }
  for (const auto& [address, share] : shares) CHECK((share > 900 && share < 1100));
  CHECK(shares.size() == 3);
  CHECK((moved > 650 && moved < 850));
}

TEST_CASE("an endpoint that goes takes its clients along, and the memory has a bound") {
  RelayPicker picker;
  picker.set(three(10));
  const std::uint32_t given = ask(picker, 7, 0);
  RelayTargets rest = three(10);
  std::erase_if(rest.list, [&](const RelayTarget& target) { return target.address == given; });
  picker.set(rest);
  CHECK(picker.clients() == 0);
  CHECK(ask(picker, 7, 0) != given);
  for (std::uint32_t client = 0; client < RelayPicker::kClientsMax + 10; ++client) ask(picker, client, 0);
  CHECK(picker.clients() == RelayPicker::kClientsMax);
  picker.set({.list = {{2, 80}, {3, 80}}});
  CHECK(picker.clients() == 0);
}
