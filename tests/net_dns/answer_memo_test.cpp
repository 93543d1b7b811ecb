// Answers that are kept as wire, the limit of answers, cookies: the pure parts of a listener.
#include "net/dns/answer_memo.hpp"

#include "net/dns/cookie.hpp"
#include "net/dns/rate_limiter.hpp"
#include "net/dns/record_text.hpp"
#include "net/dns/zone_set.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::dns {
namespace {

using test::query_packet;
constexpr std::int64_t kOneSecond = 1'000'000'000;

Record address_record(const std::string& name, char last) {
  return {make_name(name).value(), Type::a, 5, std::string{10, 0, 0, last}};
}

std::string answer_to(const std::string& packet, const std::vector<Record>& answers) {
  return write_answer(*read_query(packet), Rcode::no_error, {true, true}, answers, {}, {}, kEdnsUdpBytes);
}

std::string find(const AnswerMemo& memo, const std::string& packet, std::uint32_t rotation = 0,
                 std::int64_t now_ns = 0) {
  PlainQuestion question;
  if (!read_plain_question(packet, 1, question)) return "not plain";
  char out[kEdnsUdpBytes];
  return {out, memo.find(packet, question, rotation, now_ns, out).bytes};
}

void remember(AnswerMemo& memo, const std::string& packet, const std::string& answer) {
  PlainQuestion question;
  REQUIRE(read_plain_question(packet, 1, question));
  memo.remember(question, answer);
}

}  // namespace

TEST_CASE("a remembered answer is what would have been written for the question") {
  AnswerMemo memo;
  const std::string first = query_packet("web.shop.example", "A", 7);
  remember(memo, first, answer_to(first, {address_record("web.shop.example", 1)}));
  // Another id, another case, no recursion wanted, checking disabled.
  Question asked = test::question("web.shop.example", "A");
  asked.sent = "\3wEb\4ShOp\7examplE" + std::string(1, '\0');
  std::string second = write_query(0xbeef, asked, false, true);
  second.resize(second.size() - kOptBytes);
  second[11] = 0;
  second[2] = 0;
  CHECK(find(memo, second) == answer_to(second, {address_record("web.shop.example", 1)}));
  CHECK(find(memo, query_packet("web.shop.example", "AAAA")).empty());
  CHECK(find(memo, query_packet("web.shop.exampl", "A")).empty());
  CHECK(find(memo, query_packet("web.shop.example", "A", 7, true)).empty());  // with EDNS: another answer
  memo.clear();
  CHECK(find(memo, first).empty());
}

TEST_CASE("several addresses take turns in a remembered answer") {
  AnswerMemo memo;
  const std::string packet = query_packet("web.shop.example", "A", 7, true);
  const auto one = address_record("web.shop.example", 1), two = address_record("web.shop.example", 2),
             three = address_record("web.shop.example", 3);
  remember(memo, packet, answer_to(packet, {one, two, three}));
  CHECK(find(memo, packet, 0) == answer_to(packet, {one, two, three}));
  CHECK(find(memo, packet, 1) == answer_to(packet, {two, three, one}));
  CHECK(find(memo, packet, 5) == answer_to(packet, {three, one, two}));
}

TEST_CASE("several addresses behind aliases take turns, the aliases stay") {
  const std::string packet = query_packet("web.shop.example", "A", 7, true);
  const auto alias = [](const std::string& from, const std::string& to, Type type = Type::cname) {
    return Record{make_name(from).value(), type, 5, make_name(to).value()};
  };
  const Record first = alias("web.shop.example", "x.elsewhere.example"),
               second = alias("x.elsewhere.example", "y.shop.example"),
               one = address_record("y.shop.example", 1), two = address_record("y.shop.example", 2);
  AnswerMemo memo;
  remember(memo, packet, answer_to(packet, {first, second, one, two}));
  CHECK(find(memo, packet, 0) == answer_to(packet, {first, second, one, two}));
  CHECK(find(memo, packet, 1) == answer_to(packet, {first, second, two, one}));
  // A DNAME and the alias that it makes.
  const Record rule = alias("shop.example", "new.example", Type::dname),
               made = alias("web.shop.example", "web.new.example"),
               new_one = address_record("web.new.example", 1), new_two = address_record("web.new.example", 2);
  AnswerMemo renamed;
  remember(renamed, packet, answer_to(packet, {rule, made, new_one, new_two}));
  CHECK(find(renamed, packet, 1) == answer_to(packet, {rule, made, new_two, new_one}));
  // Not of that form: addresses of two names, or with a signature.
  const Record signature{one.name, static_cast<Type>(46), 5, std::string(30, 's')};
  for (const std::vector<Record>& odd : {std::vector{first, one, address_record("z.shop.example", 2)},
                                         std::vector{first, second, one, two, signature},
                                         std::vector{signature, one, two}, std::vector{first, second}}) {
    AnswerMemo other;
    remember(other, packet, answer_to(packet, odd));
    CHECK(find(other, packet, 1) == answer_to(packet, odd));
  }
}

TEST_CASE("an answer that is too large for who asks is not given") {
  AnswerMemo memo;
  const std::string packet = query_packet("web.shop.example", "A", 7, true);
  std::vector<Record> many;
  for (char i = 1; i < 60; ++i) many.push_back(address_record("web.shop.example", i));
  const std::string answer = answer_to(packet, many);
  REQUIRE(answer.size() > kUdpBytes);
  remember(memo, packet, answer);
  CHECK(find(memo, packet).size() == answer.size());
  std::string small = packet;
  small[small.size() - kOptBytes + 3] = 2;  // 512 octets
  small[small.size() - kOptBytes + 4] = 0;
  CHECK(find(memo, small).empty());
}

TEST_CASE("what an upstream server said ends, and is not for who asks otherwise") {
  AnswerMemo memo;
  const std::string packet = query_packet("a.example", "A");
  PlainQuestion question;
  REQUIRE(read_plain_question(packet, 1, question));
  const std::string first = answer_to(packet, {address_record("a.example", 1)}),
                    second = answer_to(packet, {address_record("a.example", 2)});
  memo.remember(question, first, kOneSecond);
  CHECK(find(memo, packet, 0, kOneSecond - 1) == first);
  CHECK(find(memo, packet, 0, kOneSecond).empty());
  std::string not_recursive = packet, checking_disabled = packet;
  not_recursive[2] = 0;
  checking_disabled[3] = 0x10;
  CHECK(find(memo, not_recursive).empty());
  CHECK(find(memo, checking_disabled).empty());  // CVE-2024-0874
  memo.remember(question, second, 2 * kOneSecond);
  CHECK(find(memo, packet, 0, kOneSecond) == second);
  CHECK(memo.size() == 1);
}

TEST_CASE("questions out of the common are left to the reader that knows all") {
  PlainQuestion out;
  const std::string plain = query_packet("a.example", "A");
  CHECK(read_plain_question(plain, 1, out));
  for (std::size_t size = 0; size < plain.size(); ++size)
    CHECK_FALSE(read_plain_question(std::string_view(plain).substr(0, size), 1, out));
  const auto changed = [&](std::size_t at, char value) {
    std::string packet = plain;
    packet[at] = value;
    return packet;
  };
  for (const std::string& packet :
       {changed(2, '\x81'), changed(2, '\x09'), changed(5, 2), changed(7, 1), changed(9, 1), changed(11, 1),
        changed(12, '\xc0'), changed(plain.size() - 1, 3), plain + "x", query_packet("a.example", "AXFR"),
        write_query(1, test::question("a.example", "A"), false, false, "12345678")}) {
    CHECK_FALSE(read_plain_question(packet, 1, out));
  }
}

TEST_CASE("a memo that is full forgets everything and goes on") {
  AnswerMemo memo;
  for (std::size_t i = 0; i <= AnswerMemo::kEntriesMax; ++i) {
    const std::string packet = query_packet("n" + std::to_string(i) + ".example", "A");
    remember(memo, packet, answer_to(packet, {}));
  }
  CHECK(memo.size() == 1);
}

TEST_CASE("above the limit of answers every second asker is told to come by TCP") {
  RateLimiter limiter(10, {1, 2});
  const auto source = net::IpAddress::parse("192.0.2.7").value();
  const auto neighbour = net::IpAddress::parse("192.0.2.200").value();
  const auto other = net::IpAddress::parse("198.51.100.7").value();
  for (int i = 0; i < 10; ++i) CHECK(limiter.ask(source, 0) == RateVerdict::answer);
  CHECK(limiter.ask(neighbour, 0) == RateVerdict::slip);  // the same /24
  CHECK(limiter.ask(source, 0) == RateVerdict::drop);
  CHECK(limiter.ask(source, 0) == RateVerdict::slip);
  CHECK(limiter.ask(other, 0) == RateVerdict::answer);
  CHECK(limiter.ask(source, kOneSecond / 10) == RateVerdict::answer);
  CHECK(limiter.ask(source, kOneSecond / 10) == RateVerdict::drop);
  RateLimiter none(0, {1, 2});
  for (int i = 0; i < 1000; ++i) CHECK(none.ask(source, 0) == RateVerdict::answer);
}

TEST_CASE("a cookie is for one address and one hour") {
  // SipHash-2-4 of the octets 0 to 14 under the key 0 to 15 (the paper's appendix A).
  std::string octets;
  for (char i = 0; i < 15; ++i) octets += i;
  CHECK(sip_hash({0x0706050403020100, 0x0f0e0d0c0b0a0908}, octets) == 0xa129ca6149be45e5);
  const CookieKey key{3, 4};
  const auto client = net::IpAddress::parse("192.0.2.7").value();
  const std::string cookie = make_cookie(key, "12345678", client, 1000);
  CHECK(cookie.size() == 24);
  CHECK(is_own_cookie(key, cookie, client, 1000));
  CHECK(is_own_cookie(key, cookie, client, 4600));
  CHECK_FALSE(is_own_cookie(key, cookie, client, 4601));
  CHECK_FALSE(is_own_cookie(key, cookie, client, 600));
  CHECK_FALSE(is_own_cookie({3, 5}, cookie, client, 1000));
  CHECK_FALSE(is_own_cookie(key, cookie, net::IpAddress::parse("192.0.2.8").value(), 1000));
  CHECK_FALSE(is_own_cookie(key, "12345678", client, 1000));
}

TEST_CASE("the part before a search list is known by the pod's namespace") {
  const Name zone = make_name("cluster.local").value();
  const auto before = [&](const std::string& name, const std::string& ns) {
    const auto found = before_search(make_name(name).value(), ns, zone);
    return found ? to_text(*found) : "none";
  };
  CHECK(before("www.example.com.shop.svc.cluster.local", "shop") == "www.example.com");
  CHECK(before("www.example.com.shop.svc.cluster.local", "bank") == "none");
  CHECK(before("shop.svc.cluster.local", "shop") == "none");
  CHECK(before("www.example.com", "shop") == "none");
}

}  // namespace orchestra::dns
