#include "base/tree_memory.hpp"

#include "base/json_text.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("trees are made in a memory of their own, copies outlive it") {
  json::value copy, assigned;
  {
    TreeMemory memory;
    std::string text = R"({"big":")" + std::string(3 * TreeMemory::kBlockBytes, 'x') + "\",\"list\":[";
    for (int i = 0; i < 5000; ++i)
      text += (i == 0 ? "" : ",") + std::string(R"({"a name that is not short":"and a value"})");
    const json::value tree = parse_json(text + "]}", &memory).value();
    CHECK(tree.storage() == json::storage_ptr(&memory));
    CHECK(to_json(tree) == text + "]}");
    copy = tree;               // into the heap
    json::value moved = tree;  // a copy as well
    assigned = std::move(moved);
    CHECK(copy.storage() != tree.storage());
    json::value grown(tree, &memory);
    grown.get_object()["more"] = copy;
    CHECK(grown.get_object()["more"].storage() == json::storage_ptr(&memory));
  }
  CHECK(same_json(copy, assigned));
  CHECK(array_at(copy, "/list")->size() == 5000);
}

TEST_CASE("memory that was given back is used again") {
  for (int round = 0; round < 200; ++round) {
    TreeMemory first, second;
    const std::string text =
        R"({"round":)" + std::to_string(round) + R"(,"words":["one","two","three and more"]})";
    const json::value a = parse_json(text, &first).value(), b = parse_json(text, &second).value();
    REQUIRE(same_json(a, b));
    REQUIRE(to_json(a) == text);
  }
}

TEST_CASE("trees are the same whatever the order of their members") {
  struct Row {
    std::string a, b;
    bool same;
  };
  const std::vector<Row> rows = {
      {R"({"a":1,"b":[{"c":2,"d":3}]})", R"({"b":[{"d":3,"c":2}],"a":1})", true},
      {R"({"a":1})", R"({"a":1,"b":null})", false},
      {R"({"a":1,"b":2})", R"({"a":1,"c":2})", false},
      {R"([1,2])", R"([2,1])", false},
      {R"([1])", R"([1,1])", false},
      {R"({"a":{}})", R"({"a":[]})", false},
      {"1", "1", true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.a);
    const json::value a = parse_json(row.a).value(), b = parse_json(row.b).value();
    CHECK(same_json(a, b) == row.same);
    CHECK((a == b) == row.same);
  }
}
