// Who has which ids: 65536 for each pod, none twice, none that the administrator gave to somebody.
#include "node/user_ranges.hpp"

#include "tests/support/test.hpp"

using namespace orchestra::node;

TEST_CASE("each pod has 65536 ids of its own, until nothing of it is left") {
  UserRanges ranges;
  CHECK(ranges.take("a") == 65536u);
  CHECK(ranges.take("b") == 131072u);
  CHECK(ranges.take("a") == 65536u);
  ranges.release("a");
  CHECK(ranges.take("c") == 65536u);
  ranges.adopt("runs already", 3 * 65536);
  ranges.adopt("the machine's ids", 0);
  CHECK(ranges.take("d") == 4u * 65536);
  CHECK(ranges.take("runs already") == 3u * 65536);
}

TEST_CASE("ids that the administrator gave to users are left alone, whole blocks of them") {
  UserRanges ranges;
  ranges.keep_away_from(
      "# users\nann:100000:65536\nbroken\nbob:x:1\nbob:7\n1000:4294967295:99999999999\ncarl:262144:1\n");
  CHECK(ranges.take("a") == 3u * 65536);  // 65536 and 131072 meet 100000..165535
  CHECK(ranges.take("b") == 5u * 65536);
  UserRanges none;
  none.keep_away_from("all:0:4294967295");
  CHECK_FALSE(none.take("a"));
}
