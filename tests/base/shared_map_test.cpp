// SharedMap against std::map: the same entries, older copies untouched, differences found.
#include "orchestra/shared_map.hpp"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
using Shared = SharedMap<std::string, int>;
using Plain = std::map<std::string, int>;

Plain plain_of(const Shared& map) {
  Plain out;
  for (const auto& [key, value] : map) out.emplace(key, value);
  REQUIRE(out.size() == map.size());
  return out;
}

/// "+key value", "-key value", "key value value", in order.
std::vector<std::string> differences(const Shared& before, const Shared& after) {
  std::vector<std::string> out;
  Shared::compare(before, after, [&](const std::string& key, const int* was, const int* is) {
    if (was == nullptr) {
      out.push_back("+" + key + " " + std::to_string(*is));
    } else if (is == nullptr) {
      out.push_back("-" + key + " " + std::to_string(*was));
    } else {
      out.push_back(key + " " + std::to_string(*was) + " " + std::to_string(*is));
    }
  });
  return out;
}

std::vector<std::string> differences(const Plain& before, const Plain& after) {
  std::vector<std::string> out;
  auto was = before.begin();
  auto is = after.begin();
  while (was != before.end() || is != after.end()) {
    if (is == after.end() || (was != before.end() && was->first < is->first)) {
      out.push_back("-" + was->first + " " + std::to_string(was->second));
      ++was;
    } else if (was == before.end() || is->first < was->first) {
      out.push_back("+" + is->first + " " + std::to_string(is->second));
      ++is;
    } else {
      if (was->second != is->second)
        out.push_back(is->first + " " + std::to_string(was->second) + " " + std::to_string(is->second));
      ++was;
      ++is;
    }
  }
  return out;
}
}  // namespace

TEST_CASE("a shared map holds what a map holds, and its copies keep what they held") {
  for (std::uint32_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const std::uint32_t keys = seed % 3 == 0 ? 20 : 2000;
    Shared shared;
    Plain plain;
    std::vector<std::pair<Shared, Plain>> kept;
    for (int step = 0; step < 4000; ++step) {
      const std::string key = std::to_string(random() % keys);
      // Grows first and shrinks to nothing in the end.
      if (random() % 4000 < static_cast<std::uint32_t>(step)) {
        REQUIRE(shared.erase(key) == (plain.erase(key) == 1));
      } else {
        const int value = static_cast<int>(random() % 5);
        shared.set(key, value);
        plain[key] = value;
      }
      if (step % 250 == 0) kept.emplace_back(shared, plain);
      const std::string wanted = std::to_string(random() % keys);
      REQUIRE(shared.contains(wanted) == plain.contains(wanted));
      if (plain.contains(wanted)) REQUIRE(shared.at(wanted) == plain.at(wanted));
      const auto least = shared.lower_bound(wanted);
      const auto expected = plain.lower_bound(wanted);
      REQUIRE((least == shared.end()) == (expected == plain.end()));
      if (expected != plain.end()) REQUIRE(least->first == expected->first);
    }
    REQUIRE(plain_of(shared) == plain);
    kept.emplace_back(shared, plain);
    for (const auto& [copy, truth] : kept) {
      REQUIRE(plain_of(copy) == truth);
      for (const auto& [other, other_truth] : kept)
        REQUIRE(differences(copy, other) == differences(truth, other_truth));
    }
    for (const auto& [key, value] : plain) REQUIRE(shared.erase(key));
    CHECK(shared.empty());
    CHECK(shared.begin() == shared.end());
  }
}

TEST_CASE("an empty shared map, and a key that is not there") {
  const Shared empty;
  CHECK(empty.begin() == empty.end());
  CHECK_FALSE(empty.contains("a"));
  CHECK(empty.lower_bound("a") == empty.end());
  CHECK_THROWS_AS((void)empty.at("a"), std::out_of_range);
  CHECK(differences(empty, empty).empty());
}
