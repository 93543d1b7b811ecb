// The same zone file in our server and in Knot DNS and NSD: 100,000 random questions, the same answers.
//
// Compared: response code, AA, TC, the answer section and, of a "no" and of a referral, the authority
// section. Not compared: additional data (each server adds what it likes), ANY (we answer as RFC 8482 says).
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>

#include "net/dns/record_text.hpp"
#include "server_support.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/paths.hpp"

namespace orchestra {
namespace {

using namespace test::dns_server;

constexpr const char* kPeerZone = R"($ORIGIN shop.example.
$TTL 1h
@       IN SOA ns1 hostmaster 2024010101 2h 30m 2w 5m
        NS  ns1
        NS  ns.elsewhere.example.
        MX  10 mail
ns1     A    192.0.2.1
        AAAA 2001:db8::1
www 300 IN A 192.0.2.10
www 300 IN A 192.0.2.11
www 300 IN A 192.0.2.12
mail    MX   10 www
        TXT  "v=spf1 -all"
_sip._tcp SRV 0 5 5060 www
text    TXT  "two words; no comment" plain \100ec
alias   CNAME www
chain   CNAME alias
far     CNAME www.elsewhere.example.
lost    CNAME nobody
*.wild  A    192.0.2.99
        TXT  wild
x.y.wild A   192.0.2.98
*.cwild CNAME www
a.b.c   A    192.0.2.20
sub     NS   ns.sub
        NS   ns1
ns.sub  A    192.0.2.30
sub     DS   1 8 2 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
old     DNAME new
www.new A    192.0.2.40
odd\.dot A   192.0.2.50
gen     TYPE65280 \# 3 0a0B0c
caa     CAA  0 issue "ca.example"
)";

/// Its program, from PATH or as tools/fetch-peers.sh brings it; "" without.
std::string program_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(std::string(path == nullptr ? "" : path) + ":/usr/sbin:" ORCHESTRA_SOURCE_DIR
                                                                        "/build/peers/dns/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = folder + "/" + name;
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

class Peer {
 public:
  explicit Peer(const std::string& name) {
    const std::string port = std::to_string(test::free_port());  // they take no port 0
    address_ = "127.0.0.1:" + port;
    std::ofstream(folder_ / "zone") << kPeerZone;
    std::ofstream conf(folder_ / "conf");
    if (name == "knotd") {
      conf << "server:\n  rundir: " << folder_.path() << "\n  listen: 127.0.0.1@" << port
           << "\ndatabase:\n  storage: " << folder_.path()
           << "\nzone:\n  - domain: shop.example\n    file: " << folder_ / "zone"
           << "\n    zonefile-sync: -1\n    journal-content: none\n";
    } else {
      conf << "server:\n  ip-address: 127.0.0.1@" << port
           << "\n  username: \"\"\n  zonesdir: \"\"\n  database: \"\"\n  chroot: \"\"\n  pidfile: \""
           << folder_ / "pid"
           << "\"\n  xfrdfile: \"" << folder_ / "xfrd"
           << "\"\n  zonelistfile: \"" << folder_ / "zones"
           << "\"\n  xfrdir: \"" << folder_.path()
           << "\"\n  rrl-ratelimit: 0\n  minimal-responses: yes\nremote-control:\n  control-enable: "
              "no\nzone:\n"
              "  name: \"shop.example\"\n  zonefile: \""
           << folder_ / "zone"
           << "\"\n";
    }
    conf.close();
    start(name);
  }
  ~Peer() {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& address() const { return address_; }

 private:
  void start(const std::string& name) {
    const std::string path = program_path(name), conf = folder_ / "conf", log = folder_ / "log";
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::setpgid(0, 0);
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT, 0600);
      if (out < 0 || ::dup2(out, 1) < 0 || ::dup2(out, 2) < 0) ::_exit(126);
      if (name == "knotd") ::execl(path.c_str(), path.c_str(), "-c", conf.c_str(), nullptr);
      ::execl(path.c_str(), path.c_str(), "-d", "-c", conf.c_str(), nullptr);
      ::_exit(127);
    }
    ::setpgid(pid_, pid_);
    const std::int64_t until = real_clock().now().steady_ns + 30'000'000'000;
    while (real_clock().now().steady_ns < until) {
      const auto message =
          dns::read_message(ask_udp(address_, test::query_packet("www.shop.example", "A"), 100));
      if (message && message->answers.size() == 3) return;
      REQUIRE_MESSAGE(::waitpid(pid_, nullptr, WNOHANG) == 0, name << " ended at its start");
      std::this_thread::yield();
    }
    FAIL(name << " does not answer");
  }

  const test::TempDir folder_;
  std::string address_;
  pid_t pid_ = 0;
};

std::string comparable(const std::string& packet) {
  const auto message = dns::read_message(packet);
  if (!message) return "no answer";
  std::string out = dns::rcode_text(message->rcode) + (message->authoritative ? " aa" : "") +
                    (message->truncated ? " tc" : "");
  const bool referral = message->answers.empty() && !message->authoritative;
  for (const auto* section : {&message->answers, &message->authority}) {
    std::vector<std::string> lines;
    for (const dns::Record& record : *section) {
      const bool counts = section == &message->answers || record.type == dns::Type::soa ||
                          (referral && record.type == dns::Type::ns);
      if (counts) lines.push_back(dns::record_text(record));
    }
    std::sort(lines.begin(), lines.end());
    for (const std::string& line : lines) out += "\n" + line;
    out += "\n--";
  }
  return out;
}

class Questions {
 public:
  explicit Questions(unsigned seed) : random_(seed) {}
  std::string next(std::uint16_t id) {
    static const std::vector<std::string> kNames = {
        "@",       "ns1",       "www",  "mail",   "_sip._tcp", "text",     "alias",  "chain",
        "far",     "lost",      "wild", "*.wild", "y.wild",    "x.y.wild", "cwild",  "a.b.c",
        "b.c",     "c",         "sub",  "ns.sub", "old",       "www.old",  "no.old", "new",
        "www.new", "odd\\.dot", "gen",  "caa",    "_tcp",      "nobody"};
    static const std::vector<std::string> kTypes = {"A",     "AAAA", "NS",  "MX",    "TXT", "SRV",      "SOA",
                                                    "CNAME", "DS",   "CAA", "DNAME", "PTR", "TYPE65280"};
    std::string text = kNames[below(kNames.size())];
    for (std::size_t deeper = below(6); deeper > 3; --deeper)
      text = std::string(1, "abwx*"[below(5)]) + (text == "@" ? "" : "." + text);
    const auto origin = dns::make_name("shop.example").value();
    dns::Question question;
    question.name = dns::parse_name(text, origin).value();
    question.type = dns::parse_type(kTypes[below(kTypes.size())]).value();
    question.sent = question.name;
    for (char& c : question.sent) {
      if (c >= 'a' && c <= 'z' && below(4) == 0) c = static_cast<char>(c - 32);
    }
    text_ = text + " " + dns::type_text(question.type);
    std::string packet = dns::write_query(id, question, false, false);
    packet[2] = 0;  // no recursion
    return packet;
  }
  const std::string& text() const { return text_; }

 private:
  std::size_t below(std::size_t n) { return random_() % n; }
  std::mt19937 random_;
  std::string text_;
};

/// One socket for many questions; lost datagrams are asked again.
class Asker {
 public:
  explicit Asker(const std::string& address) {
    const auto to = http::parse_address(address).value();
    fd_ = Fd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd_.get(), to.get(), to.size) == 0);
  }
  std::string ask(const std::string& packet) {
    for (int i = 0; i < 10; ++i) {
      (void)::send(fd_.get(), packet.data(), packet.size(), 0);
      pollfd wait{fd_.get(), POLLIN, 0};
      char answer[4096];
      while (::poll(&wait, 1, 3000) > 0) {
        const ssize_t size = ::recv(fd_.get(), answer, sizeof answer, 0);
        if (size > 2 && std::equal(answer, answer + 2, packet.begin()))
          return {answer, static_cast<std::size_t>(size)};
      }
    }
    return {};
  }

 private:
  Fd fd_;
};

void compare(const std::string& name) {
  const Peer peer(name);
  Fixture ours;
  REQUIRE(ours.server->add_zone(DnsZone::from_text(kPeerZone, "shop.example").value()));
  Asker us(ours.address), them(peer.address());
  Questions questions(1);
  const int count = std::getenv("ORCHESTRA_LONG") != nullptr ? 100000 : 10000;
  int different = 0;
  for (int i = 0; i < count && different < 5; ++i) {
    const std::string packet = questions.next(static_cast<std::uint16_t>(i));
    const std::string own = comparable(us.ask(packet)), other = comparable(them.ask(packet));
    CHECK_MESSAGE(own == other, questions.text() << "\nours: " << own << "\n" << name << ": " << other);
    different += own != other;
  }
}

}  // namespace

TEST_CASE("random questions get the same answers from Knot DNS") {
  if (program_path("knotd").empty())
    ORC_SKIP("knot", "the Debian package knot is not there (tools/fetch-peers.sh)");
  compare("knotd");
}

TEST_CASE("random questions get the same answers from NSD") {
  if (program_path("nsd").empty())
    ORC_SKIP("nsd", "the Debian package nsd is not there (tools/fetch-peers.sh)");
  compare("nsd");
}

}  // namespace orchestra
