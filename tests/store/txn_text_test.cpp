// Transactions as text (src/store/txn_text.hpp).
#include "store/txn_text.hpp"

#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

std::string wrong(const std::string& text) {
  const auto parsed = parse_txn(text);
  return parsed ? std::string() : parsed.error().message();
}

TEST_CASE("a transaction is read line by line: conditions, operations, what runs else") {
  const auto txn = parse_txn(
      "# comment\n\n if mod a = 7\nif value \"b c\" != \"x\\\"\\n\\x41\"\nif exists d --prefix\r\n"
      "put a \"\"\nput l v lease=12\nget a --prefix\ndel b\nelse\nget a");
  REQUIRE(txn.has_value());
  REQUIRE(txn->compares.size() == 3);
  CHECK(txn->compares[0].number == 7);
  CHECK(txn->compares[1].range.begin == "b c");
  CHECK(txn->compares[1].value == "x\"\nA");
  CHECK(txn->compares[1].op == Compare::Op::not_equal);
  CHECK_FALSE(txn->compares[2].range.single);
  REQUIRE(txn->then.size() == 4);
  CHECK(txn->then[0].value.bytes().empty());
  CHECK(txn->then[1].lease == 12);
  CHECK_FALSE(txn->then[2].range.single);
  CHECK(txn->then[3].type == TxnOp::Type::remove);
  CHECK(txn->otherwise.size() == 1);
}

TEST_CASE("transactions within one another are lines from `txn` to `end`, in either branch") {
  const auto txn = parse_txn(
      "if missing a\nput a 1\ntxn\n  if missing b\n  txn\n get c\nend\nelse\n  put b 2\nend\n"
      "get a\nelse\ntxn\nend\nend_of_it");
  CHECK(txn.error().message().find("line 15") != std::string::npos);
  const auto read = parse_txn(
      "if missing a\nput a 1\ntxn\n  if missing b\n  txn\n get c\nend\nelse\n  put b 2\nend\n"
      "get a\nelse\ntxn\nend");
  REQUIRE(read.has_value());
  REQUIRE(read->then.size() == 3);
  REQUIRE(read->then[1].type == TxnOp::Type::txn);
  const Txn& inner = read->then[1].nested.at(0);
  CHECK(inner.compares.size() == 1);
  REQUIRE(inner.then.size() == 1);
  CHECK(inner.then[0].nested.at(0).then.at(0).range.begin == "c");
  CHECK(inner.otherwise.at(0).range.begin == "b");
  CHECK(read->otherwise.at(0).nested.at(0).then.empty());
}

TEST_CASE("mistakes in a transaction name their line") {
  struct Mistake {
    const char* text;
    const char* says;
  };
  for (const auto& [text, says] : {Mistake{"", "empty"},
                                   {"put a", "line 1"},
                                   {"get a\nif mod a = 1", "line 2"},
                                   {"frob a", "frob"},
                                   {"if mod a ~ 1", "\"~\""},
                                   {"if mod a = x", "whole number"},
                                   {"if size a = 1", "size"},
                                   {"put a \"b", "quotation"},
                                   {"put a \"\\q\"", "\\q"},
                                   {"put a \"\\x4\"", "hexadecimal"},
                                   {"get a\nelse\nget b\nelse", "line 4"},
                                   {"get a b", "line 1"},
                                   {"if missing", "line 1"},
                                   {"txn a\nend", "stands alone"},
                                   {"put a 1\nend", "line 2"},
                                   {"txn\nput a 1", "without its `end`"},
                                   {"txn\nif missing a\nput a 1\nif missing b\nend", "line 4"},
                                   {"txn\ntxn\ntxn\ntxn\ntxn\ntxn\ntxn\ntxn", "line 8"},
                                   {"put a b lease=", "whole number"},
                                   {"put a b c", "lease=ID"}}) {
    CAPTURE(text);
    CHECK(wrong(text).find(says) != std::string::npos);
  }
}

}  // namespace
}  // namespace orchestra::store::test
