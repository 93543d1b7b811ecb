// Small decisions of the cluster: ranges, addresses, resolv.conf.
#include "cluster/options.hpp"

#include "base/fd.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::cluster;

TEST_CASE("ranges give this node's part and fixed addresses") {
  CHECK(address_in("10.96.0.0/16", 1) == "10.96.0.1");
  CHECK(address_in("10.96.0.0/16", 300) == "10.96.1.44");
  CHECK(address_in("nonsense", 1).empty());
  CHECK(address_in("fd00:10:96::/112", 1) == "fd00:10:96::1");
  CHECK(address_in("fd00:10:96::/112,10.96.0.0/16", 300) == "fd00:10:96::12c");
}

TEST_CASE("resolv.conf is read as the resolver reads it") {
  const std::string text =
      "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1 ; far\nsearch a.example "
      "b.example\noptions ndots:2\n";
  CHECK(parse_resolv_conf(text, true).servers == std::vector<std::string>{"192.0.2.1"});
  CHECK(parse_resolv_conf(text, false).servers.size() == 2);
  CHECK(parse_resolv_conf(text, true).search == std::vector<std::string>{"a.example", "b.example"});
  CHECK(parse_resolv_conf("", true).servers.empty());
}

TEST_CASE("addresses split into host and port, bad ones are told") {
  CHECK(split_address("127.0.0.1:8080") == std::pair<std::string, int>("127.0.0.1", 8080));
  CHECK(split_address("[::1]:0") == std::pair<std::string, int>("[::1]", 0));
  for (const char* bad : {"127.0.0.1", "127.0.0.1:", "h:99999", "h:8x"})
    CHECK(split_address(bad).second == -1);
}

TEST_CASE("the instance id is made once and a broken one is refused") {
  test::TempDir dir;
  auto first = load_instance(dir.path(), real_random());
  REQUIRE(first);
  CHECK(first->size() == 8);
  CHECK(load_instance(dir.path(), real_random()).value() == *first);
  REQUIRE(write_file(dir / "instance", "nonsense!"));
  const auto broken = load_instance(dir.path(), real_random());
  REQUIRE_FALSE(broken);
  CHECK(broken.error().is(Error::corrupt));
}

TEST_CASE("ranges of pods and Services name one family or both, the first family first") {
  const FamilyRanges one = split_ranges("--pod-cidr", "10.244.0.0/16").value();
  CHECK(one.v4 == "10.244.0.0/16");
  CHECK(one.v6.empty());
  const FamilyRanges two = split_ranges("--pod-cidr", "10.244.0.0/16,fd00:0010:244::/96").value();
  CHECK(two.v6 == "fd00:10:244::/96");
  const FamilyRanges six = split_ranges("--pod-cidr", "fd00:10:244::/96,10.244.0.0/16").value();
  CHECK(six.v4 == "10.244.0.0/16");
  CHECK(six.six_first);
  CHECK(join_ranges(six) == "fd00:10:244::/96,10.244.0.0/16");
  const FamilyRanges alone = split_ranges("--pod-cidr", "fd00:10:244::/96").value();
  CHECK(alone.v4.empty());
  CHECK(join_ranges(alone) == "fd00:10:244::/96");
  CHECK(numbers_of(alone) == "10.244.0.0/16");
  CHECK(join_ranges(one) == "10.244.0.0/16");
  CHECK(join_ranges(two) == "10.244.0.0/16,fd00:10:244::/96");
  struct Row {
    const char *pods, *services, *why;
  };
  for (const Row& row :
       {Row{"10.244.0.0/16", "10.96.0.0/16", ""}, Row{"10.244.0.0/16,fd00:10:244::/96", "10.96.0.0/16", ""},
        Row{"10.244.0.0/16,fd00:10:244::/64", "10.96.0.0/16,fd00:10:96::/112", ""},
        Row{"fd00:10:244::/96", "fd00:10:96::/112", ""},
        Row{"fd00:10:244::/96,10.244.0.0/16", "fd00:10:96::/112,10.96.0.0/16", ""},
        Row{"fd00:10:244::/96,10.244.0.0/16", "fd00:10:96::/112", ""},
        Row{"fd00:10:244::/96", "10.96.0.0/16", "has an IPv4 range and --pod-cidr"},
        Row{"fd00:10:244::/96,10.244.0.0/16", "10.96.0.0/16", "must begin with the same family"},
        Row{"10.244.0.0/16,fd00:10:244::/96", "fd00:10:96::/112", "must begin with the same family"},
        Row{"10.244.0.0/16,10.245.0.0/16", "10.96.0.0/16", "one of IPv4 and one of IPv6"},
        Row{"10.244.0.0/16,fd00::/96,fd01::/96", "10.96.0.0/16", "at most two ranges"},
        Row{"10.244.0.0/16,", "10.96.0.0/16", "range"},
        Row{"10.244.0.0/16,fd00:10:244::/97", "10.96.0.0/16", "a prefix of /16 to /96"},
        Row{"10.244.0.0/16", "10.96.0.0/16,fd00:10:96::/112", "has an IPv6 range and --pod-cidr"},
        Row{"10.244.0.0/16,fd00::/64", "10.96.0.0/16,fd01::/96", "a prefix of /108 to /126"},
        Row{"10.244.0.0/16,fd00::/64", "10.96.0.0/16,fd00::1:0/112", "overlaps --pod-cidr"}}) {
    const auto checked = check_ranges(row.pods, row.services);
    CHECK_MESSAGE(checked.has_value() == (*row.why == 0), row.pods, " ", row.services);
    if (!checked)
      CHECK_MESSAGE(checked.error().to_string().find(row.why) != std::string::npos,
                    checked.error().to_string());
  }
}
