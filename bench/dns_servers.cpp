#include "bench/dns_servers.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "bench/bench.hpp"
#include "net/http/address.hpp"

namespace orchestra::bench {
namespace {

constexpr int kReadyMs = 20000;
constexpr std::size_t kBatch = 64;

std::int64_t process_cpu_ns(pid_t pid) {
  clockid_t clock = 0;
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> out;
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  for (pid_t child = 0; file >> child;) {
    out.push_back(child);
    for (const pid_t below : children_of(child)) out.push_back(below);
  }
  return out;
}

/// A port that was free a moment ago, for programs that take no 0.
std::string free_address() {
  const auto any = http::parse_address("127.0.0.1:0").value();
  const Fd udp = http::open_listener(any, http::Listen::datagram, {}).value();
  return http::local_address(udp.get()).value().text();
}

bool answers(const std::string& address, const std::string& packet, pid_t pid) {
  const auto to = http::parse_address(address).value();
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.get(), to.size) != 0) return false;
  const std::int64_t until = now_ns() + std::int64_t{kReadyMs} * 1'000'000;
  while (now_ns() < until && ::waitpid(pid, nullptr, WNOHANG) == 0) {
    (void)::send(fd.get(), packet.data(), packet.size(), 0);
    pollfd wait{fd.get(), POLLIN, 0};
    char answer[4096];
    if (::poll(&wait, 1, 50) > 0 && ::recv(fd.get(), answer, sizeof answer, 0) > 4 && (answer[3] & 0xf) == 0)
      return true;
  }
  return false;
}

pid_t start_program(const std::vector<std::string>& words, const std::string& folder) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpgid(0, 0);
  const int log = ::open((folder + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (log < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(126);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

std::string version_of(const std::string& program, const char* flag) {
  std::string out;
  std::FILE* pipe = ::popen((program + " " + flag + " 2>&1").c_str(), "r");
  char line[200];
  if (pipe != nullptr && std::fgets(line, sizeof line, pipe) != nullptr) out = line;
  if (pipe != nullptr) ::pclose(pipe);
  const auto digit = out.find_first_of("0123456789");
  return digit == std::string::npos ? "" : out.substr(digit, out.find_first_of(" ,\n", digit) - digit);
}

void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

/// The command line of a peer, its files written.
std::vector<std::string> command_of(const std::string& program, const std::string& path, const PeerZone& zone,
                                    const std::string& folder, const std::string& address) {
  const auto colon = address.rfind(':');
  const std::string ip = address.substr(0, colon), port = address.substr(colon + 1);
  write_text(folder + "/zone", zone.zone_file);
  if (program == "knotd") {
    write_text(folder + "/conf",
               "server:\n  rundir: " + folder + "\n  listen: " + ip + "@" + port +
                   "\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
                   "database:\n  storage: " +
                   folder + "\nlog:\n  - target: stderr\n    any: error\nzone:\n  - domain: " + zone.zone +
                   "\n    file: " + folder + "/zone\n    zonefile-sync: -1\n    journal-content: none\n");
    return {path, "-c", folder + "/conf"};
  }
  if (program == "nsd") {
    write_text(folder + "/conf", "server:\n  ip-address: " + ip + "@" + port +
                                     "\n  server-count: 1\n  username: \"\"\n  zonesdir: \"\"\n  database: "
                                     "\"\"\n  chroot: \"\"\n  pidfile: \"" +
                                     folder + "/pid\"\n  xfrdfile: \"" + folder +
                                     "/xfrd\"\n  zonelistfile: \"" + folder + "/zones\"\n  xfrdir: \"" +
                                     folder +
                                     "\"\n  rrl-ratelimit: 0\n  minimal-responses: yes\nremote-control:\n"
                                     "  control-enable: no\nzone:\n  name: \"" +
                                     zone.zone + "\"\n  zonefile: \"" + folder + "/zone\"\n");
    return {path, "-d", "-c", folder + "/conf"};
  }
  write_text(folder + "/hosts", zone.hosts);
  write_text(folder + "/conf", "");
  return {path,
          "--keep-in-foreground",
          "--conf-file=" + folder + "/conf",
          "--no-resolv",
          "--no-hosts",
          "--addn-hosts=" + folder + "/hosts",
          "--port=" + port,
          "--listen-address=" + ip,
          "--bind-interfaces",
          "--user=root",
          "--pid-file=" + folder + "/pid",
          "--local=/" + zone.zone + "/"};
}

}  // namespace

DnsPeer::~DnsPeer() {
  for (const pid_t child : children_of(pid_)) ::kill(child, SIGKILL);
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::int64_t DnsPeer::cpu_ns() const {
  std::int64_t all = process_cpu_ns(pid_);
  for (const pid_t child : children_of(pid_)) all += process_cpu_ns(child);
  return all;
}

double DnsPeer::rss_mib() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atof(line.c_str() + 6) / 1024;
  }
  return 0;
}

std::unique_ptr<DnsPeer> start_own(const std::string& name,
                                   std::function<void(std::function<void(std::string)> ready)> serve) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return nullptr;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve([&](const std::string& address) {
      const std::string line = address + "\n";
      (void)!::write(ends[1], line.data(), line.size());
    });
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string address;
  for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) address += c;
  ::close(ends[0]);
  return std::make_unique<DnsPeer>(name, "", address, pid);
}

std::unique_ptr<DnsPeer> start_echo() {
  return start_own("echo", [](const std::function<void(std::string)>& ready) {
    const Fd fd =
        http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::datagram, {}).value();
    ready(http::local_address(fd.get()).value().text());
    static std::array<std::array<char, 2048>, kBatch> packets;
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> vectors{};
    std::array<sockaddr_storage, kBatch> sources{};
    while (true) {
      pollfd wait{fd.get(), POLLIN, 0};
      if (::poll(&wait, 1, -1) <= 0) continue;
      for (std::size_t i = 0; i < kBatch; ++i) {
        vectors[i] = {packets[i].data(), packets[i].size()};
        messages[i].msg_hdr = {.msg_name = &sources[i],
                               .msg_namelen = sizeof sources[i],
                               .msg_iov = &vectors[i],
                               .msg_iovlen = 1};
      }
      const int count = ::recvmmsg(fd.get(), messages.data(), kBatch, MSG_DONTWAIT, nullptr);
      for (int i = 0; i < count; ++i) vectors[i].iov_len = messages[i].msg_len;
      if (count > 0) (void)::sendmmsg(fd.get(), messages.data(), static_cast<unsigned>(count), 0);
    }
  });
}

std::unique_ptr<DnsPeer> start_peer(const std::string& program, const PeerZone& zone,
                                    const std::string& folder, std::string& trouble) {
  std::string path = find_program(program);
  const std::string fetched = "build/peers/dns/bin/" + program;
  if (path.empty() && ::access(fetched.c_str(), X_OK) == 0) path = fetched;
  if (path.empty()) {
    trouble = program + " is not installed; tools/fetch-peers.sh brings it";
    return nullptr;
  }
  const std::string address = free_address();
  const pid_t pid = start_program(command_of(program, path, zone, folder, address), folder);
  const std::string version = version_of(path, program == "knotd" ? "-V" : "-v");
  auto peer = std::make_unique<DnsPeer>(program, version, address, pid);
  if (answers(address, zone.first_query, pid)) return peer;
  std::ifstream log(folder + "/log");
  std::stringstream text;
  text << log.rdbuf();
  trouble = program + " does not answer: " + text.str().substr(0, 300);
  return nullptr;
}

}  // namespace orchestra::bench
