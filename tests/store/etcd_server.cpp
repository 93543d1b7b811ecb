#include "tests/store/etcd_server.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/base64.hpp"
#include "tests/store/support.hpp"
#include "tests/support/raw_socket.hpp"

namespace orchestra::store::test {

bool have_etcd() {
  static const bool have = [] {
    const char* path = ::getenv("PATH");
    std::istringstream folders(path == nullptr ? "" : path);
    for (std::string folder; std::getline(folders, folder, ':');) {
      if (::access((folder + "/etcd").c_str(), X_OK) == 0) return true;
    }
    return false;
  }();
  return have;
}

EtcdServer::EtcdServer(std::vector<std::string> more_args) : more_args_(std::move(more_args)) {
  // In memory where possible: what is tested here is not etcd's disk.
  std::string pattern = (::access("/dev/shm", W_OK) == 0 ? std::string("/dev/shm")
                                                         : std::filesystem::temp_directory_path().string()) +
                        "/orc-etcd-XXXXXX";
  folder_ = ::mkdtemp(pattern.data());
  start();
}

EtcdServer::~EtcdServer() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void EtcdServer::start() {
  std::vector<std::string> args{"etcd",
                                "--data-dir",
                                folder_ + "/d",
                                "--listen-client-urls",
                                "unix://c:0",
                                "--listen-peer-urls",
                                "unix://p:0",
                                "--advertise-client-urls",
                                "http://127.0.0.1:0",
                                "--log-level",
                                "error",
                                "--logger",
                                "zap",
                                "--heartbeat-interval",
                                "20",
                                "--election-timeout",
                                "200"};
  args.insert(args.end(), more_args_.begin(), more_args_.end());
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  for (const char* name : {"/c:0", "/p:0"}) ::unlink((folder_ + name).c_str());
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::chdir(folder_.c_str()) != 0) ::_exit(126);
    const int log = ::open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(126);
    ::execvp("etcd", argv.data());
    ::_exit(127);
  }
  REQUIRE(pid_ > 0);
  REQUIRE(eventually([&] {
    const int state = ::waitpid(pid_, nullptr, WNOHANG);
    REQUIRE_MESSAGE(state == 0, "etcd ended at its start");
    return post("/health", "").find("true") != std::string::npos;
  }));
}

void EtcdServer::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}
void EtcdServer::pause() {
  ::kill(pid_, SIGSTOP);
  // The signal is on its way; only a process whose threads have all stopped is seen as stopped.
  int status = 0;
  while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
}
void EtcdServer::go_on() { ::kill(pid_, SIGCONT); }
void EtcdServer::wipe() {
  kill();
  std::filesystem::remove_all(folder_ + "/d");
  start();
}

std::string EtcdServer::post(const std::string& path, const std::string& body) const {
  orchestra::test::RawSocket socket(url());
  if (!socket.connected()) return {};
  const std::string head =
      body.empty() ? "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                   : "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
                         std::to_string(body.size()) + "\r\n\r\n" + body;
  socket.send(head);
  const std::string answer = socket.read_all();
  const std::size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? std::string() : answer.substr(end + 4);
}

void EtcdServer::put(const std::string& key, const std::string& value) const {
  const std::string answer = post("/v3/kv/put", R"({"key":")" + encode_base64_text(key) + R"(","value":")" +
                                                    encode_base64_text(value) + "\"}");
  REQUIRE_MESSAGE(answer.find("revision") != std::string::npos, answer);
}

}  // namespace orchestra::store::test
