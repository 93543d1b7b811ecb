#pragma once
// Was a history of calls linearizable? Pure.
//
// Per key, by the search of Wing and Gong with Lowe's memoised states ("Testing for linearizability", 2017):
// find an order of the calls that respects real time and explains every answer. A write whose outcome is
// unknown may take effect at any time after its call, or never. Values are unique per write, so a conditional
// write compares values here where the store compares revisions.
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace orchestra::sim {

struct Operation {
  enum class Type : std::uint8_t { read, write, remove, compare_and_write };
  enum class Outcome : std::uint8_t { done, failed_compare, unknown };
  Type type{};
  std::string key;
  std::string value;     ///< written; read: what was found ("" = no key)
  std::string expected;  ///< compare_and_write: what must be there ("" = no key)
  Outcome outcome{};
  std::int64_t called = 0;
  std::int64_t returned = std::numeric_limits<std::int64_t>::max();
  std::int64_t revision = 0;  ///< of the store, in the answer
  int client = 0;
};

/// Empty: linearizable (or too many calls with unknown outcome to decide). Else what cannot be explained.
std::string check_linearizable(const std::vector<Operation>& history);
/// The stricter order that revisions tell: a call that began after another returned is not older, and a read
/// at revision R shows the last write up to R.
std::string check_revisions(const std::vector<Operation>& history);

}  // namespace orchestra::sim
