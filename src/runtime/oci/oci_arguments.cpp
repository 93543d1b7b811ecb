#include "runtime/oci/oci_arguments.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <csignal>
#include <string_view>

namespace orchestra::runtime {
namespace {

struct Option {
  std::string_view commands;  ///< " create run ": where it is known; "*" = before the command
  std::string_view name;
  char letter;
  bool takes_value;
};
constexpr Option kOptions[] = {
    {"*", "root", 0, true},
    {"*", "log", 0, true},
    {"*", "log-format", 0, true},
    {"*", "debug", 0, false},
    {"*", "systemd-cgroup", 0, false},
    {"*", "cgroup-manager", 0, true},
    {"*", "rootless", 0, true},
    {"*", "version", 'v', false},
    {"*", "help", 'h', false},
    {" create run spec ", "bundle", 'b', true},
    {" create run exec ", "console-socket", 0, true},
    {" create run exec ", "pid-file", 0, true},
    {" create run ", "no-pivot", 0, false},
    {" create run ", "no-new-keyring", 0, false},
    {" create run exec ", "preserve-fds", 0, true},
    {" run exec ", "detach", 'd', false},
    {" run ", "keep", 0, false},
    {" run ", "no-subreaper", 0, false},
    {" create run exec ", "pidfd-socket", 0, true},
    {" kill ", "all", 'a', false},
    {" delete ", "force", 'f', false},
    {" delete ", "regex", 0, false},
    {" exec ", "process", 'p', true},
    {" exec ", "tty", 't', false},
    {" exec ", "cwd", 0, true},
    {" exec ", "env", 'e', true},
    {" exec ", "user", 'u', true},
    {" exec ", "additional-gids", 'g', true},
    {" exec ", "cap", 'c', true},
    {" exec ", "no-new-privs", 0, false},
    {" exec ", "ignore-paused", 0, false},
    {" exec ", "apparmor", 0, true},
    {" exec ", "process-label", 0, true},
    {" exec ", "cgroup", 0, true},
    {" update ", "resources", 'r', true},
    {" update ", "blkio-weight", 0, true},
    {" update ", "cpu-period", 0, true},
    {" update ", "cpu-quota", 0, true},
    {" update ", "cpu-burst", 0, true},
    {" update ", "cpu-share", 0, true},
    {" update ", "cpu-rt-period", 0, true},
    {" update ", "cpu-rt-runtime", 0, true},
    {" update ", "cpu-idle", 0, true},
    {" update ", "cpuset-cpus", 0, true},
    {" update ", "cpuset-mems", 0, true},
    {" update ", "kernel-memory", 0, true},
    {" update ", "kernel-memory-tcp", 0, true},
    {" update ", "memory", 0, true},
    {" update ", "memory-reservation", 0, true},
    {" update ", "memory-swap", 0, true},
    {" update ", "pids-limit", 0, true},
    {" update ", "l3-cache-schema", 0, true},
    {" update ", "mem-bw-schema", 0, true},
    {" events ", "interval", 0, true},
    {" events ", "stats", 0, false},
    {" spec ", "rootless", 0, false},
    {" list ps ", "format", 'f', true},
    {" list ", "quiet", 'q', false},
};

const Option* find_option(const std::string& command, std::string_view name) {
  for (const Option& option : kOptions) {
    const bool here = command.empty() ? option.commands == "*"
                                      : option.commands.find(" " + command + " ") != std::string_view::npos;
    const bool named = name.size() == 1 ? option.letter == name[0] : option.name == name;
    if (here && named) return &option;
  }
  return nullptr;
}

Error usage(const std::string& message) { return Error(Error::invalid, "runtime", message); }

constexpr std::array<std::pair<std::string_view, int>, 31> kSignals{
    {{"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"ILL", SIGILL},   {"TRAP", SIGTRAP},
     {"ABRT", SIGABRT},     {"BUS", SIGBUS},   {"FPE", SIGFPE},     {"KILL", SIGKILL}, {"USR1", SIGUSR1},
     {"SEGV", SIGSEGV},     {"USR2", SIGUSR2}, {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
     {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
     {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
     {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"PWR", SIGPWR},
     {"SYS", SIGSYS}}};
constexpr int kRealTimeFirst = 34, kSignalLast = 64;
}  // namespace

Result<OciArguments> parse_oci_arguments(const std::vector<std::string>& args) {
  OciArguments parsed;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& word = args[i];
    // Behind `exec ID` the words are the program's own.
    const bool operands_only = parsed.command == "exec" && !parsed.operands.empty();
    if (operands_only || word.size() < 2 || word[0] != '-') {
      (parsed.command.empty() ? parsed.command : parsed.operands.emplace_back()) = word;
      continue;
    }
    if (word == "--") {
      parsed.operands.insert(parsed.operands.end(), args.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                             args.end());
      break;
    }
    std::string name = word.substr(word[1] == '-' ? 2 : 1);
    std::optional<std::string> value;
    if (const std::size_t equal = name.find('='); equal != std::string::npos) {
      value = name.substr(equal + 1);
      name.resize(equal);
    }
    const Option* option = find_option(parsed.command, name);
    if (option == nullptr && name != "h" && name != "help") {
      return usage("unknown option " + word +
                   (parsed.command.empty() ? "" : " of \"" + parsed.command + "\""));
    }
    if (option == nullptr) option = find_option("", "help");
    if (option->takes_value && !value) {
      if (++i >= args.size()) return usage("option " + word + " needs a value");
      value = args[i];
    }
    parsed.options[std::string(option->name)].push_back(value.value_or(""));
  }
  return parsed;
}

Result<int> parse_signal(const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) {
    if (number >= 0 && number <= kSignalLast) return number;
    return usage("signal " + text + ": 0.." + std::to_string(kSignalLast) + " are signals");
  }
  std::string name = text;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (const auto& [known, value] : kSignals) {
    if (name == known) return value;
  }
  if (name.starts_with("RTMIN")) {
    int offset = 0;
    if (name.size() > 6) std::from_chars(name.data() + 6, name.data() + name.size(), offset);
    if (offset >= 0 && kRealTimeFirst + offset <= kSignalLast) return kRealTimeFirst + offset;
  }
  return usage("unknown signal \"" + text + "\"");
}

Result<void> check_container_id(const std::string& id) {
  const auto fine = [](char c, bool first) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '+' || c == '-' ||
           (!first && c == '.');
  };
  if (id.empty() || id.size() > 255)
    return usage("container id \"" + id.substr(0, 300) + "\": 1..255 characters are taken");
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (!fine(id[i], i == 0))
      return usage("container id \"" + id +
                   "\": only letters, digits and _ + - . may occur, and no dot first");
  }
  return {};
}

std::string oci_help() {
  return "usage: orchestra oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND [options] ID\n"
         "\n"
         "  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--no-pivot] ID\n"
         "  start ID                      runs the created container's program\n"
         "  run [-d] [-b BUNDLE] [--keep] ID\n"
         "  exec [-d] [-t] [-p FILE] [-e NAME=VALUE] [-u UID[:GID]] [--cwd DIR] ID COMMAND [ARG..]\n"
         "  state ID                      prints the state as JSON\n"
         "  list [-f table|json] [-q]\n"
         "  ps [-f table|json] ID\n"
         "  kill [-a] ID [SIGNAL]         by number or name; TERM if not given\n"
         "  pause ID, resume ID\n"
         "  delete [-f] [--regex] ID\n"
         "  update [-r FILE|-] [--memory N] [--cpu-quota N] [--pids-limit N] .. ID\n"
         "  events [--stats] [--interval SECONDS] ID\n"
         "  features                      what this runtime can do, as JSON\n"
         "  spec [-b BUNDLE]              writes a config.json that runs\n";
}

}  // namespace orchestra::runtime
