#include "net/dns/cache.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::dns {
namespace {

using test::query_packet;
constexpr std::int64_t kSecond = 1'000'000'000;

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out += static_cast<char>(value);
  return out;
}
std::string header(int questions, int answers, int authority, int additional, int flags = 0x0100) {
  return bytes({0, 7, flags >> 8, flags & 0xff, 0, questions, 0, answers, 0, authority, 0, additional});
}
const std::string kQuestion = bytes({1, 'a', 0, 0, 1, 0, 1});
const std::string kOpt = bytes({0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0});

std::optional<Rcode> refusal(const std::string& packet) {
  const auto query = read_query(packet);
  REQUIRE(query.has_value());
  return query->refusal;
}

Record address(const std::string& name, int last) {
  return {make_name(name).value(), Type::a, 5, bytes({10, 0, 0, last})};
}

}  // namespace

TEST_CASE("names go to wire form and back") {
  CHECK(to_text(make_name("Web.Shop.").value()) == "web.shop");
  CHECK(to_text(make_name("").value()) == ".");
  CHECK(to_text(bytes({3, 'a', '.', 7, 0})) == "a\\046\\007");
  CHECK_FALSE(make_name("a..b"));
  CHECK_FALSE(make_name(".a"));
  CHECK_FALSE(make_name(std::string(64, 'a')));
  CHECK(make_name(std::string(63, 'a')));
  std::string long_name;
  for (int i = 0; i < 128; ++i) long_name += "a.";
  CHECK_FALSE(make_name(long_name));
  CHECK(is_below_or_equal(make_name("a.b.c").value(), make_name("b.c").value()));
  CHECK_FALSE(is_below_or_equal(make_name("ab.c").value(), make_name("b.c").value()));
}

TEST_CASE("a query keeps the case that it was sent in and is looked up without it") {
  std::string packet = query_packet("web.shop", "A", 0x1234, true);
  packet[13] = 'W';
  const auto query = read_query(packet);
  REQUIRE(query);
  CHECK_FALSE(query->refusal);
  CHECK(query->id == 0x1234);
  CHECK(query->question->name == make_name("web.shop").value());
  CHECK(query->question->sent[1] == 'W');
  CHECK(query->edns->udp_bytes == 1232);
  const std::string answer =
      write_answer(*query, Rcode::no_error, {true, true}, {address("web.shop", 1)}, {}, {}, 1232);
  CHECK(answer.substr(12, 10) == query->question->sent);
}

TEST_CASE("queries that are not plain questions get the rcode of their fault, or silence") {
  CHECK_FALSE(read_query(""));
  CHECK_FALSE(read_query(header(1, 0, 0, 0).substr(0, 11)));
  CHECK_FALSE(read_query(header(1, 0, 0, 0, 0x8100) + kQuestion));
  CHECK_FALSE(refusal(header(1, 0, 0, 0) + kQuestion));
  CHECK_FALSE(refusal(header(1, 0, 0, 1) + kQuestion + kOpt));
  CHECK(refusal(header(1, 0, 0, 0, 0x2100) + kQuestion) == Rcode::not_implemented);
  CHECK(refusal(header(0, 0, 0, 0)) == Rcode::form_error);
  CHECK(refusal(header(2, 0, 0, 0) + kQuestion + kQuestion) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 0) + kQuestion.substr(0, 6)) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 0) + bytes({0xc0, 12, 0, 1, 0, 1})) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 0) + bytes({0x40, 'a', 0, 0, 1, 0, 1})) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 2) + kQuestion + kOpt + kOpt) == Rcode::form_error);
  CHECK(refusal(header(1, 1, 0, 0) + kQuestion + kOpt) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 1) + kQuestion) == Rcode::form_error);
  CHECK(refusal(header(1, 0, 0, 1) + kQuestion + bytes({0, 0, 41, 4, 0xd0, 0, 1, 0, 0, 0, 0})) ==
        Rcode::bad_version);
  CHECK(refusal(header(1, 0, 0, 0) + bytes({1, 'a', 0, 0, 1, 0, 3})) == Rcode::refused);
  CHECK(refusal(header(1, 0, 0, 0) + bytes({1, 'a', 0, 0, 252, 0, 1})) == Rcode::refused);
}

TEST_CASE("compression pointers that loop, go forward or into the header are refused") {
  const auto answer_with = [](const std::string& name) {
    return header(1, 1, 0, 0, 0x8180) + kQuestion + name + bytes({0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 1});
  };
  CHECK(read_message(answer_with(bytes({0xc0, 12}))));
  CHECK_FALSE(read_message(answer_with(bytes({0xc0, 19}))));  // itself
  CHECK_FALSE(read_message(answer_with(bytes({0xc0, 30}))));  // forward
  CHECK_FALSE(read_message(answer_with(bytes({0xc0, 4}))));   // header
  CHECK_FALSE(read_message(answer_with(bytes({1, 'b', 0xc0, 19}))));
  CHECK_FALSE(read_message(answer_with(bytes({0x80, 0}))));
  CHECK_FALSE(read_message(answer_with(bytes({0xc0}))));
}

TEST_CASE("an answer reads back as it was written, in fewer bytes than its names have") {
  const auto query = *read_query(query_packet("a.long.example.name", "A", 7, true));
  const std::vector<Record> answers = {
      {make_name("a.long.example.name").value(), Type::cname, 5, make_name("b.long.example.name").value()},
      address("b.long.example.name", 1),
      address("b.long.example.name", 2)};
  const std::vector<Record> authority = {
      {make_name("example.name").value(), Type::soa, 5,
       soa_data(make_name("ns.example.name").value(), make_name("root.example.name").value(), 1, 5)}};
  const std::vector<Record> additional = {{make_name("c.example.name").value(), Type::srv, 5,
                                           srv_data(1, 2, 3, make_name("d.example.name").value())}};
  const std::string packet =
      write_answer(query, Rcode::no_error, {true, false}, answers, authority, additional, 1232);
  const auto message = read_message(packet);
  REQUIRE(message);
  CHECK(message->answers == answers);
  CHECK(message->authority == authority);
  CHECK(message->additional == additional);
  CHECK(message->authoritative);
  CHECK_FALSE(message->truncated);
  CHECK(packet.size() < 200);
}

TEST_CASE("what does not fit is left out whole, and TC says so") {
  const auto query = *read_query(query_packet("web.shop", "A"));
  std::vector<Record> answers;
  for (int i = 0; i < 100; ++i) answers.push_back(address("web.shop", i));
  const std::string packet = write_answer(query, Rcode::no_error, {}, answers, {}, {}, udp_limit(query));
  CHECK(packet.size() <= 512);
  const auto message = read_message(packet);
  REQUIRE(message);
  CHECK(message->truncated);
  CHECK(message->answers.size() == (512 - 12 - 14) / 16);
  const auto tcp = read_message(write_answer(query, Rcode::no_error, {}, answers, {}, {}, kTcpBytesMax));
  CHECK(tcp->answers.size() == 100);
  // Additional records go without a word.
  const auto extra = read_message(write_answer(query, Rcode::no_error, {}, {}, {}, answers, 512));
  CHECK_FALSE(extra->truncated);
}

TEST_CASE("messages are padded to whole blocks, within what they may have") {
  const auto asked = test::question("www.example", "A");
  for (const std::size_t cookie : {0u, 8u, 40u}) {
    const std::string padded = write_query(1, asked, true, false, std::string(cookie, 'x'), kQueryBlock);
    CHECK(padded.size() == kQueryBlock);
    const auto query = read_query(padded);
    REQUIRE(query);
    CHECK(query->edns->padded);
    CHECK(query->edns->cookie.size() == cookie);
  }
  CHECK_FALSE(read_query(write_query(1, asked, true, false))->edns->padded);
  const auto query = read_query(write_query(1, asked, false, false, {}, kQueryBlock));
  std::vector<Record> records;
  for (std::size_t count = 0; count < 60; ++count) {
    const AnswerFlags flags{.pad_to = kAnswerBlock};
    const std::string answer = write_answer(*query, Rcode::no_error, flags, records, {}, {}, kTcpBytesMax);
    CHECK(answer.size() % kAnswerBlock == 0);
    const auto read = read_message(answer);
    REQUIRE(read);
    CHECK(read->answers.size() == count);
    const std::string tight = write_answer(*query, Rcode::no_error, flags, records, {}, {}, 500);
    CHECK(tight.size() <= 500);
    CHECK(read_message(tight));
    records.push_back(
        {asked.name, Type::a, 60, address_data(reinterpret_cast<const std::uint8_t*>("1234"), 4)});
  }
}

TEST_CASE("the cache counts time down and forgets in time") {
  Cache cache(100000);
  const CacheKey key{.name = make_name("a").value()};
  cache.put(key, {.answers = {address("a", 1)}}, 0);
  CHECK(cache.find(key, 2 * kSecond)->answers[0].ttl == 3);
  CHECK_FALSE(cache.find(key, 5 * kSecond));
  CHECK_FALSE(cache.find({.name = key.name, .checking_disabled = true}, 0));
  cache.put(key, {.rcode = Rcode::server_failure}, 0);
  CHECK(cache.find(key, 4 * kSecond)->rcode == Rcode::server_failure);
  CHECK_FALSE(cache.find(key, 5 * kSecond));
  Record soa{make_name("").value(), Type::soa, 100000, soa_data(key.name, key.name, 1, 60)};
  cache.put(key, {.rcode = Rcode::name_error, .authority = {soa}}, 0);
  CHECK(cache.find(key, 59 * kSecond));
  CHECK_FALSE(cache.find(key, 60 * kSecond));
}

TEST_CASE("a failure does not take the place of an answer whose time is not over") {
  Record lasting = address("a", 1);
  lasting.ttl = 100;
  const CacheKey key{.name = make_name("a").value()};
  const std::int64_t near_its_end = 95 * kSecond;
  Cache cache(100000);
  cache.put(key, {.answers = {lasting}}, 0);
  CHECK_FALSE(cache.find(key, near_its_end)->refresh);
  CHECK(cache.find(key, near_its_end)->refresh);
  for (const Rcode rcode : {Rcode::server_failure, Rcode::refused}) {
    cache.put(key, {.rcode = rcode}, near_its_end);  // what the fetch ahead of time brought
    REQUIRE(cache.find(key, near_its_end));
    CHECK(cache.find(key, near_its_end)->answers.size() == 1);
  }
  cache.put(key, {.rcode = Rcode::server_failure}, near_its_end);
  CHECK_FALSE(cache.find(key, near_its_end)->refresh);  // not again with each question
  CHECK(cache.find(key, near_its_end)->refresh);
  cache.put(key, {.rcode = Rcode::name_error}, near_its_end);  // an answer does
  CHECK(cache.find(key, near_its_end)->rcode == Rcode::name_error);
  cache.put(key, {.rcode = Rcode::server_failure}, 100 * kSecond);
  CHECK(cache.find(key, 100 * kSecond)->rcode == Rcode::server_failure);
  Cache stale(100000, 3600);
  stale.put(key, {.answers = {lasting}}, 0);
  stale.put(key, {.rcode = Rcode::server_failure}, 200 * kSecond);
  CHECK(stale.find_stale(key, 200 * kSecond)->answers.size() == 1);
}

TEST_CASE("the cache keeps its bound and drops what was used least recently") {
  Cache cache(20000);
  const auto key = [](int i) { return CacheKey{.name = make_name("n" + std::to_string(i)).value()}; };
  for (int i = 0; i < 1000; ++i) {
    cache.put(key(i), {.answers = {address("a", 1)}}, 0);
    CHECK(cache.find(key(0), 0));
    CHECK(cache.bytes() <= 20000);
  }
  CHECK(cache.size() > 10);
  CHECK_FALSE(cache.find(key(1), 0));
  CHECK(cache.find(key(999), 0));
}

TEST_CASE("records about names that nobody asked for are not believed") {
  Message message;
  const Question asked = test::question("a.example", "A");
  message.answers = {{asked.name, Type::cname, 60, make_name("b.example").value()},
                     address("b.example", 1),
                     address("bank.example", 66)};
  message.authority = {{make_name("elsewhere").value(), Type::soa, 60, ""}};
  const CachedAnswer answer = trusted_part(message, asked);
  CHECK(test::lines(answer.answers) ==
        std::vector<std::string>{"a.example 60 CNAME b.example", "b.example 5 A 10.0.0.1"});
  CHECK(answer.authority.empty());
  Message looping;
  looping.answers = {{asked.name, Type::cname, 60, asked.name}};
  CHECK(trusted_part(looping, asked).answers.size() <= 16);
}

}  // namespace orchestra::dns
