// Who listens on a port: /proc/net/{tcp,udp,unix} gives the socket's inode, /proc/PID/fd the process that
// has it open. Used once, for the message of an error.
#include <dirent.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "net/http/address.hpp"

namespace orchestra::http {
namespace {

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

std::vector<std::string> list(const std::string& path) {
  std::vector<std::string> names;
  const Directory directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return names;
  while (const dirent* entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  return names;
}

/// Inodes of the sockets that are bound to the port in one table of /proc/net.
void find_inodes(const std::string& table, std::uint16_t port, Listen kind,
                 std::vector<std::string>& inodes) {
  std::ifstream file("/proc/net/" + table);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, skip, inode;
    fields >> slot >> local >> remote >> state >> skip >> skip >> skip >> skip >> skip >> inode;
    const std::size_t colon = local.rfind(':');
    if (colon == std::string::npos || (kind == Listen::stream && state != "0A")) continue;
    if (std::strtoul(local.c_str() + colon + 1, nullptr, 16) == port) inodes.push_back(inode);
  }
}

void find_unix_inodes(const std::string& path, std::vector<std::string>& inodes) {
  std::ifstream file("/proc/net/unix");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.ends_with(" " + path)) continue;
    std::istringstream fields(line);
    std::string skip, inode;
    fields >> skip >> skip >> skip >> skip >> skip >> skip >> inode;
    inodes.push_back(inode);
  }
}

std::string holder_of(const std::vector<std::string>& inodes) {
  for (const std::string& pid : list("/proc")) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string folder = "/proc/" + pid + "/fd";
    for (const std::string& fd : list(folder)) {
      char target[64] = {};
      if (::readlink((folder + "/" + fd).c_str(), target, sizeof target - 1) <= 0) continue;
      for (const std::string& inode : inodes) {
        if (target != "socket:[" + inode + "]") continue;
        std::string name;
        std::ifstream comm("/proc/" + pid + "/comm");
        std::getline(comm, name);
        return "process " + pid + " (" + name + ")";
      }
    }
  }
  return "another process";
}

}  // namespace

std::string port_holder(const SocketAddress& address, Listen kind) {
  std::vector<std::string> inodes;
  if (address.family() == AF_UNIX) {
    find_unix_inodes(address.host(), inodes);
  } else {
    const std::string table = kind == Listen::stream ? "tcp" : "udp";
    find_inodes(table, address.port(), kind, inodes);
    find_inodes(table + "6", address.port(), kind, inodes);
  }
  return inodes.empty() ? "another process" : holder_of(inodes);
}

}  // namespace orchestra::http
