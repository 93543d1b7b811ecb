// What every StateStore answers: reads, writes, conditions, transactions (spec/store.md sections 1 and 2).
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

STORE_TEST_CASE("an empty store is at revision 1 and a missing key is an empty answer") {
  CHECK(fixture->revision() == 1);
  auto result = fixture->get("nothing").wait(kSoon);
  REQUIRE(result.has_value());
  CHECK_FALSE(result->kv.has_value());
  CHECK(result->revision == 1);
}

STORE_TEST_CASE("a put takes one revision and counts versions") {
  CHECK(put(*fixture.store, "k", "1").revision == 2);
  CHECK(put(*fixture.store, "k", "2").revision == 3);
  auto result = fixture->get("k").wait(kSoon);
  REQUIRE(result.has_value());
  REQUIRE(result->kv.has_value());
  CHECK(result->kv->create_revision == 2);
  CHECK(result->kv->mod_revision == 3);
  CHECK(result->kv->version == 2);
  CHECK(text(result->kv) == "2");
}

STORE_TEST_CASE("a put with a request id is done once, however often it comes, and expires by name") {
  REQUIRE(fixture->get("k").wait(kSoon).has_value());  // a client knows what its server can once it has asked
  auto* sessions = dynamic_cast<StoreSessions*>(fixture.store.get());
  if (!fixture->capabilities().exactly_once) {
    CHECK(fixture->put("k", "1", {.request_id = "1.1"}).wait(kSoon).error().is(Error::unsupported));
    return;
  }
  REQUIRE(sessions != nullptr);
  const auto session = sessions->session_open().wait(kSoon);
  REQUIRE(session.has_value());
  CHECK(*session != *sessions->session_open().wait(kSoon));
  CHECK(fixture->revision() <= 1);
  const auto once = [&](int number, const std::string& value, std::optional<Revision> if_revision = {}) {
    return fixture
        ->put("k", value,
              {.if_mod_revision = if_revision, .request_id = *session + "." + std::to_string(number)})
        .wait(kSoon);
  };
  CHECK(once(1, "1")->revision == 2);
  CHECK(once(2, "2")->revision == 3);
  CHECK(once(1, "1")->revision == 2);
  CHECK(get(*fixture.store, "k") == "2");
  // A condition is decided once, too.
  CHECK(once(3, "x", 99).error().is(Error::conflict));
  put(*fixture.store, "k", "3");
  CHECK(once(3, "x", 4).error().is(Error::conflict));
  CHECK(once(4, "4", 4)->revision == 5);
  CHECK(once(4, "4", 4)->revision == 5);
  CHECK(get(*fixture.store, "k") == "4");
  for (int number = 5; number < 70; ++number) REQUIRE(once(number, "n").has_value());
  CHECK(once(1, "1").error().is(Error::expired));
  CHECK(get(*fixture.store, "k") == "n");
  CHECK(fixture->put("k", "x", {.request_id = "77777.1"}).wait(kSoon).error().is(Error::expired));
  for (const char* wrong : {"x", "1", "1.", "1.0", "1.1x", ".1"})
    CHECK(fixture->put("k", "x", {.request_id = wrong}).wait(kSoon).error().is(Error::invalid));
}

STORE_TEST_CASE("a key that was removed starts again at version 1") {
  put(*fixture.store, "k", "1");
  put(*fixture.store, "k", "2");
  auto removed = fixture->remove(Key("k"), {.want_previous = true}).wait(kSoon);
  REQUIRE(removed.has_value());
  CHECK(removed->removed == 1);
  REQUIRE(removed->previous.size() == 1);
  CHECK(removed->previous[0].value == Value("2"));
  put(*fixture.store, "k", "3");
  auto result = fixture->get("k").wait(kSoon);
  REQUIRE(result->kv.has_value());
  CHECK(result->kv->version == 1);
  CHECK(result->kv->create_revision == 5);
}

STORE_TEST_CASE("removing nothing does not advance the revision") {
  put(*fixture.store, "k", "1");
  auto removed = fixture->remove(Key("other")).wait(kSoon);
  REQUIRE(removed.has_value());
  CHECK(removed->removed == 0);
  CHECK(removed->revision == 2);
  CHECK(fixture->revision() == 2);
}

STORE_TEST_CASE("a conditional put that fails answers the key that is there now") {
  put(*fixture.store, "k", "old");
  auto made = fixture->put("k", "new", {.if_mod_revision = 0}).wait(kSoon);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().is(Error::conflict));
  REQUIRE(made.error().detail<KeyValue>() != nullptr);
  CHECK(made.error().detail<KeyValue>()->value == Value("old"));
  CHECK(made.error().detail<KeyValue>()->mod_revision == 2);
  auto gone = fixture->put("absent", "x", {.if_mod_revision = 7}).wait(kSoon);
  REQUIRE_FALSE(gone.has_value());
  REQUIRE(gone.error().detail<KeyValue>() != nullptr);
  CHECK(gone.error().detail<KeyValue>()->mod_revision == 0);
  CHECK(gone.error().detail<KeyValue>()->key == "absent");
  CHECK(fixture->revision() == 2);
  CHECK(fixture->put("k", "new", {.if_mod_revision = 2}).wait(kSoon).has_value());
  CHECK(fixture->put("k", "newer", {.if_version = 2}).wait(kSoon).has_value());
  CHECK_FALSE(fixture->put("k", "never", {.if_version = 2}).wait(kSoon).has_value());
  CHECK(get(*fixture.store, "k") == "newer");
}

STORE_TEST_CASE("a conditional remove spares a key that changed") {
  put(*fixture.store, "k", "1");
  put(*fixture.store, "k", "2");
  auto stale = fixture->remove(Key("k"), {.if_mod_revision = 2}).wait(kSoon);
  REQUIRE_FALSE(stale.has_value());
  CHECK(stale.error().is(Error::conflict));
  CHECK(fixture->remove(Key("k"), {.if_mod_revision = 3}).wait(kSoon).has_value());
  CHECK(get(*fixture.store, "k") == "(none)");
}

STORE_TEST_CASE("ranges: limits, counts, order, prefixes, empty intervals") {
  for (const char* key : {"a", "b/1", "b/2", "b/3", "c"}) put(*fixture.store, key, key);
  const auto range = [&](KeyRange wanted, RangeOptions options = {}) {
    auto result = fixture->range(std::move(wanted), options).wait(kSoon);
    REQUIRE(result.has_value());
    return std::move(*result);
  };
  CHECK(list(range(KeyPrefix("b/"))) == "b/1=b/1 b/2=b/2 b/3=b/3");
  CHECK(range(KeyPrefix("")).count == 5);
  CHECK(list(range(KeyPrefix("b/"), {.limit = 2})) == "b/1=b/1 b/2=b/2");
  CHECK(range(KeyPrefix("b/"), {.limit = 2}).more);
  CHECK(range(KeyPrefix("b/"), {.limit = 2}).count == 3);
  CHECK_FALSE(range(KeyPrefix("b/"), {.limit = 3}).more);
  CHECK(list(range(KeyPrefix("b/"), {.limit = 2, .descending = true})) == "b/3=b/3 b/2=b/2");
  CHECK(list(range(KeyPrefix("b/"), {.keys_only = true})) == "b/1= b/2= b/3=");
  CHECK(range(KeyPrefix("b/"), {.count_only = true}).items.empty());
  CHECK(range(KeyPrefix("b/"), {.count_only = true}).count == 3);
  CHECK(range({.begin = "b", .end = "b/3"}).count == 2);
  CHECK(range({.begin = "c", .end = "a"}).count == 0);
  CHECK(range({.begin = "b/2", .to_the_end = true}).count == 3);
  CHECK(list(range(Key("c"))) == "c=c");
}

STORE_TEST_CASE("keys and values are any bytes") {
  const std::string key("\0\xFF\n", 3);
  const std::string value("\0\0\xFE", 3);
  put(*fixture.store, key, value);
  put(*fixture.store, "\xFF\xFF", "");
  CHECK(get(*fixture.store, key) == value);
  CHECK(get(*fixture.store, "\xFF\xFF").empty());
  auto high = fixture->range(KeyPrefix("\xFF")).wait(kSoon);
  REQUIRE(high.has_value());
  CHECK(high->count == 1);
}

STORE_TEST_CASE("what is too large or malformed is refused by name") {
  const auto code = [](auto result) { return result.has_value() ? Error::Code{} : result.error().code(); };
  const StoreCapabilities limits = fixture->capabilities();
  CHECK(code(fixture->put("", "x").wait(kSoon)) == Error::invalid);
  CHECK(code(fixture->put(std::string(limits.key_bytes_max.value + 1, 'k'), "x").wait(kSoon)) ==
        Error::too_large);
  CHECK(code(fixture->put("k", std::string(limits.value_bytes_max.value + 1, 'v')).wait(kSoon)) ==
        Error::too_large);
  CHECK(fixture->put("k", std::string(limits.value_bytes_max.value, 'v')).wait(kSoon).has_value());
  CHECK(get(*fixture.store, "k").size() == limits.value_bytes_max.value);
  Txn twice;
  twice.then = {TxnOp{.range = Key("a"), .value = "1"}, TxnOp{.range = Key("a"), .value = "2"}};
  CHECK(code(fixture->txn(twice).wait(kSoon)) == Error::invalid);
  Txn many;
  many.then.resize(limits.txn_ops_max + 1, TxnOp{.type = TxnOp::Type::range, .range = Key("a")});
  CHECK(code(fixture->txn(many).wait(kSoon)) == Error::too_large);
  CHECK(code(fixture->put("k", "v", {.lease = 99}).wait(kSoon)) == Error::not_found);
  CHECK(fixture->revision() == 2);
}

STORE_TEST_CASE("a txn takes the branch its compares choose, whole and in one revision") {
  put(*fixture.store, "a", "1");
  Txn txn;
  txn.compares = {{Key("a"), Compare::Target::value, Compare::Op::equal, 0, "1"},
                  {Key("b"), Compare::Target::version, Compare::Op::equal, 0}};
  txn.then = {TxnOp{.range = Key("b"), .value = "2"},
              TxnOp{.type = TxnOp::Type::remove, .range = Key("a"), .want_previous = true},
              TxnOp{.type = TxnOp::Type::range, .range = KeyPrefix("")}};
  txn.otherwise = {TxnOp{.type = TxnOp::Type::range, .range = KeyPrefix("")}};
  auto first = fixture->txn(txn).wait(kSoon);
  REQUIRE(first.has_value());
  CHECK(first->succeeded);
  CHECK(first->revision == 3);
  CHECK(first->ops[1].removed == 1);
  REQUIRE(first->ops[1].previous.size() == 1);
  CHECK(list(first->ops[2].range) == "b=2");
  CHECK(first->ops[2].range.items[0].mod_revision == 3);
  auto second = fixture->txn(txn).wait(kSoon);
  REQUIRE(second.has_value());
  CHECK_FALSE(second->succeeded);
  CHECK(second->revision == 3);
  CHECK(list(second->ops[0].range) == "b=2");
}

Compare missing(const std::string& key) {
  return {Key(key), Compare::Target::version, Compare::Op::equal, 0};
}
TxnOp read_all() { return TxnOp{.type = TxnOp::Type::range, .range = KeyPrefix("")}; }

STORE_TEST_CASE("a txn within a txn: decided on the state before, done in its place, in one revision") {
  auto watch = fixture->watch({.range = KeyPrefix(""), .after = 1});
  REQUIRE(watch.has_value());
  Txn inner;  // "a" is missing when it is decided, although it is written by then
  inner.compares = {missing("a")};
  inner.then = {TxnOp{.range = Key("b"), .value = "2"}, read_all()};
  inner.otherwise = {TxnOp{.range = Key("c"), .value = "3"},
                     TxnOp{.type = TxnOp::Type::remove, .range = Key("b"), .want_previous = true},
                     read_all()};
  Txn outer;
  outer.then = {TxnOp{.range = Key("a"), .value = "1"}, nest(inner), read_all()};
  auto first = fixture->txn(outer).wait(kSoon);
  REQUIRE(first.has_value());
  CHECK(first->succeeded);
  CHECK(first->revision == 2);
  REQUIRE(first->ops.size() == 3);
  CHECK(first->ops[0].nested.empty());
  REQUIRE(first->ops[1].nested.size() == 1);
  const TxnResult& nested = first->ops[1].nested[0];
  CHECK(nested.succeeded);
  CHECK(nested.revision == 2);
  REQUIRE(nested.ops.size() == 2);
  CHECK(list(nested.ops[1].range) == "a=1 b=2");
  CHECK(nested.ops[1].range.revision == 2);
  CHECK(list(first->ops[2].range) == "a=1 b=2");

  auto second = fixture->txn(outer).wait(kSoon);
  REQUIRE(second.has_value());
  CHECK(second->succeeded);
  CHECK(second->revision == 3);
  const TxnResult& other = second->ops[1].nested.at(0);
  CHECK_FALSE(other.succeeded);
  REQUIRE(other.ops.size() == 3);
  CHECK(other.ops[1].removed == 1);
  REQUIRE(other.ops[1].previous.size() == 1);
  CHECK(other.ops[1].previous[0].value == Value("2"));
  CHECK(list(other.ops[2].range) == "a=1 c=3");

  // In the branch that does not run nothing happens; what is only read takes no revision.
  Txn read;
  read.compares = {missing("a")};
  read.then = {nest(outer)};
  read.otherwise = {nest(Txn{{missing("z")}, {nest(Txn{{}, {read_all()}, {}})}, {}})};
  auto third = fixture->txn(read).wait(kSoon);
  REQUIRE(third.has_value());
  CHECK_FALSE(third->succeeded);
  CHECK(third->revision == 3);
  const TxnResult& middle = third->ops.at(0).nested.at(0);
  CHECK(middle.succeeded);
  CHECK(list(middle.ops.at(0).nested.at(0).ops.at(0).range) == "a=1 c=3");

  std::string seen;
  while (watch->progress() < 3) {
    const auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    for (const WatchEvent& event : batch->events)
      seen += std::to_string(event.kv.mod_revision) + (event.type == WatchEvent::Type::put ? "+" : "-") +
              event.kv.key + " ";
  }
  CHECK(seen == "2+a 2+b 3+a 3+c 3-b ");
}

STORE_TEST_CASE("a txn within a txn that cannot be done leaves all of it undone") {
  put(*fixture.store, "a", "1");
  Txn leased;
  leased.compares = {missing("a")};
  leased.otherwise = {TxnOp{.range = Key("b"), .value = "2", .lease = 99}};
  Txn outer;
  outer.then = {TxnOp{.range = Key("c"), .value = "3"}, nest(leased)};
  const auto failed = fixture->txn(outer).wait(kSoon);
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().is(Error::not_found));
  CHECK(get(*fixture.store, "c") == "(none)");
  CHECK(fixture->revision() == 2);
  // In the branch that does not run it harms nobody.
  std::swap(outer.then[1].nested[0].then, outer.then[1].nested[0].otherwise);
  CHECK(fixture->txn(outer).wait(kSoon).has_value());
  CHECK(get(*fixture.store, "c") == "3");
}

STORE_TEST_CASE("txns within txns: keys that clash, depth and number are refused by name") {
  const StoreCapabilities limits = fixture->capabilities();
  const auto says = [&](const Txn& txn) {
    const auto done = fixture->txn(txn).wait(kSoon);
    return done ? std::string() : std::string(to_string(done.error().code())) + ": " + done.error().message();
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  const TxnOp put_a{.range = Key("a"), .value = "1"};
  const TxnOp remove_a{.type = TxnOp::Type::remove, .range = KeyPrefix("a")};
  const auto only = [](std::vector<TxnOp> then, std::vector<TxnOp> otherwise = {}) {
    return Txn{{}, std::move(then), std::move(otherwise)};
  };
  CHECK(has(says(only({put_a, nest(only({put_a}))})), "puts key \"a\" twice"));
  CHECK(has(says(only({put_a, nest(only({}, {put_a}))})), "puts key \"a\" twice"));
  CHECK(has(says(only({nest(only({put_a})), nest(only({}, {put_a}))})), "puts key \"a\" twice"));
  CHECK(has(says(only({}, {put_a, nest(only({nest(only({put_a}))}))})), "puts key \"a\" twice"));
  CHECK(has(says(only({remove_a, nest(only({}, {put_a}))})), "both puts and removes key \"a\""));
  CHECK(has(says(only({put_a, nest(only({remove_a}))})), "both puts and removes key \"a\""));
  CHECK(has(says(only({nest(only({remove_a})), nest(only({put_a}))})), "both puts and removes key \"a\""));
  CHECK(has(says(only({nest(only({put_a})), nest(only({remove_a}))})), "both puts and removes key \"a\""));
  CHECK(has(says(only({nest(only({TxnOp{.range = Key(""), .value = "1"}}))})), "must not be empty"));
  CHECK(fixture->revision() <= 1);
  // Branches of one txn exclude each other.
  CHECK(says(only({nest(only({put_a}, {put_a}))}, {put_a})).empty());
  CHECK(says(only({nest(only({put_a}, {remove_a}))})).empty());

  Txn deep = only({TxnOp{.range = Key("deep"), .value = "1"}});
  for (std::size_t depth = 1; depth < limits.txn_depth_max; ++depth) deep = only({nest(deep)});
  CHECK(says(deep).empty());
  CHECK(get(*fixture.store, "deep") == "1");
  CHECK(has(says(only({nest(deep)})), "operation 1 of a txn is a txn that lies deeper"));
  TxnOp hollow;
  hollow.type = TxnOp::Type::txn;
  CHECK(has(says(only({put_a, hollow})), "operation 2 of a txn is a txn and holds 0"));
  TxnOp both = put_a;
  both.nested.emplace_back();
  CHECK(has(says(only({both})), "holds a txn and is none"));
  Txn many;  // each half is allowed alone
  many.then.resize(limits.txn_ops_max / 2, TxnOp{.type = TxnOp::Type::range, .range = Key("a")});
  Txn more = many;
  more.then.push_back(nest(many));
  CHECK(has(says(more), "passes the limit"));
}

STORE_TEST_CASE("every compare target and operator") {
  put(*fixture.store, "a", "x");
  put(*fixture.store, "a", "y");
  put(*fixture.store, "b", "y");
  using T = Compare::Target;
  using O = Compare::Op;
  const auto holds = [&](Compare compare) {
    Txn txn;
    txn.compares.push_back(std::move(compare));
    auto result = fixture->txn(txn).wait(kSoon);
    REQUIRE(result.has_value());
    return result->succeeded;
  };
  CHECK(holds({Key("a"), T::version, O::equal, 2}));
  CHECK(holds({Key("a"), T::version, O::less, 3}));
  CHECK(holds({Key("a"), T::create, O::equal, 2}));
  CHECK(holds({Key("a"), T::mod, O::greater, 2}));
  CHECK(holds({Key("a"), T::mod, O::not_equal, 2}));
  CHECK(holds({Key("a"), T::lease, O::equal, 0}));
  CHECK(holds({Key("a"), T::value, O::greater, 0, "x"}));
  CHECK_FALSE(holds({Key("a"), T::value, O::less, 0, "x"}));
  CHECK(holds({Key("none"), T::mod, O::equal, 0}));
  CHECK_FALSE(holds({Key("none"), T::value, O::equal, 0, ""}));
  CHECK(holds({KeyPrefix(""), T::value, O::equal, 0, "y"}));
  CHECK_FALSE(holds({KeyPrefix(""), T::version, O::equal, 2}));
  CHECK(holds({KeyPrefix("zz"), T::create, O::equal, 0}));
}

STORE_TEST_CASE("a removal of a range is one revision") {
  for (const char* key : {"p/1", "p/2", "p/3", "q"}) put(*fixture.store, key, "v");
  auto removed = fixture->remove(KeyPrefix("p/")).wait(kSoon);
  REQUIRE(removed.has_value());
  CHECK(removed->removed == 3);
  CHECK(removed->revision == 6);
  CHECK(fixture->range(KeyPrefix("")).wait(kSoon)->count == 1);
}

STORE_TEST_CASE("every old revision is readable until it is compacted, then answers compacted") {
  for (int i = 0; i < 50; ++i) put(*fixture.store, "k" + std::to_string(i % 7), std::to_string(i));
  REQUIRE(fixture->remove(Key("k3")).wait(kSoon).has_value());
  CHECK(get(*fixture.store, "k3") == "(none)");
  CHECK(get(*fixture.store, "k3", 51) == "45");
  CHECK(get(*fixture.store, "k3", 5) == "3");
  CHECK(get(*fixture.store, "k3", 4) == "(none)");
  CHECK(fixture->range(KeyPrefix(""), {.revision = 4}).wait(kSoon)->count == 3);
  REQUIRE(fixture->compact(20).wait(kSoon).has_value());
  CHECK(fixture->compacted_revision() == 20);
  CHECK(get(*fixture.store, "k3", 20) == "17");
  auto old = fixture->get("k3", {.revision = 19}).wait(kSoon);
  REQUIRE_FALSE(old.has_value());
  CHECK(old.error().is(Error::compacted));
  REQUIRE(old.error().detail<RevisionDetail>() != nullptr);
  CHECK(old.error().detail<RevisionDetail>()->compacted == 20);
  auto later = fixture->range(KeyPrefix(""), {.revision = 1000}).wait(kSoon);
  REQUIRE_FALSE(later.has_value());
  CHECK(later.error().is(Error::future));
  CHECK(fixture->compact(20).wait(kSoon).error().is(Error::compacted));
  CHECK(fixture->compact(1000).wait(kSoon).error().is(Error::future));
}

STORE_TEST_CASE("paging at one revision sees one state, whatever is written meanwhile") {
  for (int i = 100; i < 200; ++i) put(*fixture.store, "k" + std::to_string(i), "v");
  auto first = fixture->range(KeyPrefix("k"), {.limit = 10}).wait(kSoon);
  REQUIRE(first.has_value());
  const Revision at = first->revision;
  std::size_t seen = first->items.size();
  std::string last = first->items.back().key;
  while (true) {
    put(*fixture.store, "k" + std::to_string(100 + seen), "changed");
    put(*fixture.store, "k999" + std::to_string(seen), "new");
    REQUIRE(fixture->remove(Key("k" + std::to_string(199 - seen / 4))).wait(kSoon).has_value());
    auto page = fixture->range({.begin = last + '\0', .end = "l"}, {.limit = 10, .revision = at}).wait(kSoon);
    REQUIRE(page.has_value());
    seen += page->items.size();
    for (const KeyValue& kv : page->items) CHECK(kv.value == Value("v"));
    if (!page->more) break;
    last = page->items.back().key;
  }
  CHECK(seen == 100);
}

STORE_TEST_CASE("a snapshot stays as it is while the store goes on") {
  put(*fixture.store, "a", "1");
  auto view = fixture->snapshot().wait(kSoon);
  REQUIRE(view.has_value());
  put(*fixture.store, "a", "2");
  put(*fixture.store, "b", "2");
  REQUIRE(view->range(KeyPrefix("")).size() == 1);
  CHECK(view->range(KeyPrefix(""))[0].value == Value("1"));
  CHECK(view->revision() == 2);
  auto older = fixture->snapshot(1).wait(kSoon);
  REQUIRE(older.has_value());
  CHECK(older->range(KeyPrefix("")).empty());
}

STORE_TEST_CASE("wait_revision returns when the revision is there, or at its deadline") {
  CHECK(fixture->wait_revision(1, 0s).wait(kSoon).has_value());
  auto pending = fixture->wait_revision(2, 60s);
  put(*fixture.store, "k", "v");
  CHECK(pending.wait(kSoon).has_value());
  auto never = fixture->wait_revision(100, 1ms).wait(kSoon);
  REQUIRE_FALSE(never.has_value());
  CHECK(never.error().is(Error::deadline_exceeded));
}

STORE_TEST_CASE("a stopped store refuses with unavailable") {
  auto waiting = fixture->wait_revision(100, 60s);
  fixture->stop();
  CHECK(waiting.wait(kSoon).error().is(Error::unavailable));
  CHECK(fixture->put("k", "v").wait(kSoon).error().is(Error::unavailable));
  CHECK(fixture->get("k").wait(kSoon).error().is(Error::unavailable));
}

}  // namespace
}  // namespace orchestra::store::test
