// `orchestra dns query`: one question, by UDP and, where the answer says so, by TCP; the answer as text.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/fd.hpp"
#include "cluster/options.hpp"
#include "examples/cli/cli.hpp"
#include "net/dns/record_text.hpp"
#include "net/http/address.hpp"
#include "orchestra/env.hpp"

namespace orchestra::cli {
namespace {

constexpr std::size_t kCookieBytes = 8;

struct Asked {
  dns::Question question;
  http::SocketAddress server;
  bool tcp = false, recurse = true;
  int timeout_ms = 5000;
};

Error no_answer(const Asked& asked, const std::string& what) {
  return {Error::unavailable, "dns", asked.server.text() + ": " + what};
}

bool wait_for(int fd, short events, int timeout_ms) {
  pollfd wait{fd, events, 0};
  return ::poll(&wait, 1, timeout_ms) > 0;
}

Result<std::string> exchange_udp(const Asked& asked, const std::string& packet) {
  const Fd fd(::socket(asked.server.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), asked.server.get(), asked.server.size) != 0 ||
      ::send(fd.get(), packet.data(), packet.size(), 0) < 0)
    return no_answer(asked, ::strerror(errno));
  std::string answer(65535, '\0');
  while (wait_for(fd.get(), POLLIN, asked.timeout_ms)) {
    const ssize_t size = ::recv(fd.get(), answer.data(), answer.size(), 0);
    if (size < 0) return no_answer(asked, ::strerror(errno));
    if (size < 2 || answer.compare(0, 2, packet, 0, 2) != 0) continue;  // not to this question
    answer.resize(static_cast<std::size_t>(size));
    return answer;
  }
  return no_answer(asked, "no answer in time");
}

Result<std::string> exchange_tcp(const Asked& asked, std::string packet) {
  const Fd fd(::socket(asked.server.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = asked.timeout_ms / 1000, .tv_usec = asked.timeout_ms % 1000 * 1000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  packet.insert(0, {static_cast<char>(packet.size() >> 8), static_cast<char>(packet.size() & 0xff)});
  if (!fd || ::connect(fd.get(), asked.server.get(), asked.server.size) != 0 ||
      ::send(fd.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0)
    return no_answer(asked, std::string("by TCP: ") + ::strerror(errno));
  std::string answer;
  std::size_t wanted = 2;
  while (answer.size() < wanted) {
    char bytes[4096];
    const ssize_t size = ::recv(fd.get(), bytes, std::min(sizeof bytes, wanted - answer.size()), 0);
    if (size <= 0) return no_answer(asked, "the answer by TCP ended early");
    answer.append(bytes, static_cast<std::size_t>(size));
    if (answer.size() == 2) {
      wanted +=
          std::size_t{static_cast<unsigned char>(answer[0])} << 8 | static_cast<unsigned char>(answer[1]);
    }
  }
  return answer.substr(2);
}

Result<http::SocketAddress> first_name_server() {
  const std::string text = read_file("/etc/resolv.conf", 64 << 10).value_or("");
  const auto servers = cluster::parse_resolv_conf(text, false).servers;
  if (!servers.empty()) return http::make_address(servers.front(), 53);
  return Error(Error::invalid, "dns", "/etc/resolv.conf names no server; give one as @ADDRESS");
}

/// NAME [TYPE] [@SERVER] in any order after the name.
Result<Asked> parse(const Flags& flags) {
  Asked asked;
  std::string name;
  std::optional<http::SocketAddress> server;
  for (std::size_t i = 1; i < flags.words.size(); ++i) {
    const std::string& word = flags.words[i];
    const auto type = name.empty() ? std::nullopt : dns::parse_type(word);
    if (word.front() == '@') {
      ORC_ASSIGN(server, http::parse_address(word.substr(1), 53));
    } else if (name.empty()) {
      name = word;
    } else if (type) {
      asked.question.type = *type;
    } else {
      return Error(Error::invalid, "dns", "\"" + word + "\" is no type of record");
    }
  }
  const auto wire = dns::parse_name(name, std::string(1, '\0'));
  if (!wire) return Error(Error::invalid, "dns", "\"" + name + "\" is no domain name");
  asked.question.name = asked.question.sent = *wire;
  if (!server) {
    ORC_ASSIGN(server, first_name_server());
  }
  asked.server = *server;
  asked.tcp = flags.has("tcp");
  asked.recurse = !flags.has("norecurse");
  asked.timeout_ms = static_cast<int>(std::atof(flags.get("timeout", "5").c_str()) * 1000);
  if (asked.timeout_ms < 1 || asked.timeout_ms > 600'000)
    return Error(Error::invalid, "dns",
                 "--timeout " + flags.get("timeout") + ": seconds, above 0 and up to 600");
  return asked;
}

void print(const dns::Message& message, const Asked& asked, bool tcp, double milliseconds) {
  std::string flags;
  for (const auto& [set, name] : {std::pair(message.authoritative, " aa"),
                                  {message.truncated, " tc"},
                                  {message.recursion_available, " ra"}}) {
    if (set) flags += name;
  }
  std::printf(";; %s%s, %.1f ms, %s by %s\n", dns::rcode_text(message.rcode).c_str(), flags.c_str(),
              milliseconds, asked.server.text().c_str(), tcp ? "TCP" : "UDP");
  if (message.extended_error) {
    std::printf(";; extended error %d %s\n", message.extended_error->code,
                message.extended_error->text.c_str());
  }
  const std::pair<const char*, const std::vector<dns::Record>*> sections[] = {
      {"", &message.answers}, {"authority", &message.authority}, {"additional", &message.additional}};
  for (const auto& [title, records] : sections) {
    if (*title != '\0' && !records->empty()) std::printf(";; %s\n", title);
    for (const dns::Record& record : *records) std::printf("%s\n", dns::record_text(record).c_str());
  }
}

int status_of(int rcode) { return rcode == 0 ? 0 : rcode == 3 ? 3 : rcode == 5 ? 10 : 5; }

Result<int> ask(const Asked& asked) {
  std::uint16_t id = 0;
  std::string cookie(kCookieBytes, '\0');
  real_random().fill(&id, sizeof id);
  real_random().fill(cookie.data(), cookie.size());
  std::string packet = dns::write_query(id, asked.question, false, false, cookie);
  if (!asked.recurse) packet[2] = 0;
  const std::int64_t begin_ns = real_clock().now().steady_ns;
  bool tcp = asked.tcp;
  auto answer = tcp ? exchange_tcp(asked, packet) : exchange_udp(asked, packet);
  if (answer && !tcp && answer->size() > 2 && ((*answer)[2] & 0x02) != 0) {
    tcp = true;
    answer = exchange_tcp(asked, packet);
  }
  if (!answer) return answer.error();
  const auto took_ns = static_cast<double>(real_clock().now().steady_ns - begin_ns);
  const auto message = dns::read_message(*answer);
  if (!message || !message->response || message->id != id) return no_answer(asked, "the answer is malformed");
  print(*message, asked, tcp, took_ns / 1e6);
  return status_of(message->rcode);
}

}  // namespace

int run_dns_query(const Flags& flags) {
  if (flags.words.size() < 2)
    return usage_error("dns query: give a name, as in orchestra dns query example.com A");
  const auto asked = parse(flags);
  if (!asked) return usage_error("dns query: " + asked.error().message());
  const auto done = ask(*asked);
  return done ? *done : report(done.error());
}

}  // namespace orchestra::cli
