// The checkers against planted bugs (src/store/planted.hpp): each mistake that can be switched on must be
// seen by the simulator, else the checkers are too weak or the switch changes nothing.
//
// Each run is a child of its own: a bug may well end in a failed assertion, which is a way of being seen. The
// table says with which seed each one was found; when a change of the store moves that, others are tried, up
// to 300 of them. ORCHESTRA_LONG=yes hunts every bug from seed 1 and prints the table; BUG=name hunts one.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "sim/store_sim.hpp"
#include "store/planted.hpp"
#include "tests/support/test.hpp"

namespace orchestra::store::planting {
Bug planted_bug = Bug::none;
unsigned long planted_hits = 0;
}  // namespace orchestra::store::planting

namespace {

using orchestra::sim::run_store_sim;
using orchestra::sim::StoreSimOptions;
using orchestra::store::Bug;

/// SEEDS=N: another number of them, from 1 on.
std::uint64_t seeds_max() {
  const char* wanted = std::getenv("SEEDS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 300;
}
constexpr unsigned kSecondsMax = 30;  ///< of one run; one that hangs has not been seen

struct Planted {
  Bug bug;
  const char* name;
  std::uint64_t seed;  ///< that finds it
};
constexpr Planted kPlanted[] = {
    {Bug::acknowledge_before_sync, "acknowledge_before_sync", 1},
    {Bug::count_own_log_unstored, "count_own_log_unstored", 2},
    {Bug::ask_votes_unstored, "ask_votes_unstored", 1},
    {Bug::vote_before_sync, "vote_before_sync", 1},
    {Bug::vote_not_stored, "vote_not_stored", 1},
    {Bug::vote_twice, "vote_twice", 7},
    {Bug::vote_for_stale_log, "vote_for_stale_log", 7},
    {Bug::commit_old_term, "commit_old_term", 3},
    {Bug::commit_beyond_match, "commit_beyond_match", 20},
    {Bug::skip_log_check, "skip_log_check", 13},
    {Bug::keep_conflicts, "keep_conflicts", 7},
    {Bug::accept_stale_term, "accept_stale_term", 7},
    {Bug::receipt_of_later, "receipt_of_later", 2},
    {Bug::no_check_quorum, "no_check_quorum", 6},
    {Bug::read_without_round, "read_without_round", 20},
    {Bug::two_changes, "two_changes", 9},
    {Bug::no_joint, "no_joint", 6},
    {Bug::lose_hard_state, "lose_hard_state", 1},
    {Bug::skip_sync, "skip_sync", 1},
    {Bug::skip_folder_sync, "skip_folder_sync", 1},
    {Bug::skip_snapshot_sync, "skip_snapshot_sync", 1},
    {Bug::trim_too_much, "trim_too_much", 55},
    {Bug::install_keeps_state, "install_keeps_state", 1},
    {Bug::reply_by_index, "reply_by_index", 7},
    {Bug::drop_watch_event, "drop_watch_event", 1},
    {Bug::serve_stale_after_pause, "serve_stale_after_pause", 1},
    {Bug::retry_unknown, "retry_unknown", 138},
    {Bug::leases_not_restarted, "leases_not_restarted", 7},
    {Bug::forget_sessions, "forget_sessions", 1},
    {Bug::state_rots, "state_rots", 1},
    {Bug::break_promise, "break_promise", 7},
    {Bug::store_commit_early, "store_commit_early", 23},
    {Bug::revive_ending_lease, "revive_ending_lease", 214},
    {Bug::keep_alive_unrecorded, "keep_alive_unrecorded", 44},
    {Bug::cut_damage, "cut_damage", 12},
    {Bug::trust_payloads, "trust_payloads", 9},
    {Bug::accept_empty_disk, "accept_empty_disk", 1},
    {Bug::enrol_unasked, "enrol_unasked", 256},
    {Bug::count_votes_twice, "count_votes_twice", 45},
    {Bug::skip_unknown_command, "skip_unknown_command", 4},
};
static_assert(std::size(kPlanted) == static_cast<std::size_t>(Bug::last) - 1, "a switch without a line here");

constexpr const char* kStopped = " [a peer was stopped by the others]";
struct Run {
  std::string seen;  ///< empty: nobody noticed
  bool hung = false;
  unsigned long hits = 0;  ///< how often the mistake was passed
};

/// In the child: what was seen goes to `out`.
[[noreturn]] void run_here(Bug bug, std::uint64_t seed, int out) {
  ::dup2(out, 2);              // an assertion speaks on stderr
  ::signal(SIGABRT, SIG_DFL);  // doctest's handler would speak for the parent
  ::alarm(kSecondsMax);
  orchestra::store::planted_bug = bug;
  StoreSimOptions options;
  options.seed = seed;
  options.peers = 0;
  options.lease_reads = bug == Bug::break_promise;
  orchestra::sim::StoreSimReport report;
  try {
    report = run_store_sim(options);
  } catch (const std::exception& broken) {  // must not reach the runner, which is the parent's
    report.violation = std::string("an exception: ") + broken.what();
  }
  std::string text = std::to_string(orchestra::store::planted_hits) + "\n" + report.violation;
  if (report.diverged != 0) text += kStopped;
  const ssize_t wrote = ::write(out, text.data(), text.size());
  ::_exit(wrote == static_cast<ssize_t>(text.size()) ? 0 : 1);
}

Run run_in_child(Bug bug, std::uint64_t seed) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(ends[0]);
    run_here(bug, seed, ends[1]);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  Run run;
  if (WIFSIGNALED(status)) {
    run.hung = WTERMSIG(status) == SIGALRM;
    if (WTERMSIG(status) == SIGABRT && text.find("assertion failed") != std::string::npos) {
      run.seen = text;
      run.hits = 1;
    }
    return run;
  }
  const std::size_t line = text.find('\n');
  if (line == std::string::npos) return run;
  run.hits = std::strtoul(text.c_str(), nullptr, 10);
  run.seen = text.substr(line + 1);
  return run;
}

/// The seed that finds it, from `first` on; 0: none of them.
std::uint64_t hunt(const Planted& planted, std::uint64_t first, Run& last) {
  unsigned long hits = 0;
  for (std::uint64_t seed = first; seed < first + seeds_max(); ++seed) {
    last = run_in_child(planted.bug, seed);
    hits += last.hits;
    if (!last.seen.empty()) return seed;
  }
  last.hits = hits;
  return 0;
}

bool long_run() {
  const char* wanted = std::getenv("ORCHESTRA_LONG");
  return wanted != nullptr && *wanted != '\0';
}

}  // namespace

TEST_CASE("each planted bug is seen by the simulator within a bounded number of seeds") {
  const char* only = std::getenv("BUG");
  for (const Planted& planted : kPlanted) {
    if (only != nullptr && std::strcmp(only, planted.name) != 0) continue;
    Run run;
    std::uint64_t seed = 0;
    const bool from_the_start = only != nullptr || long_run();
    if (!from_the_start) {
      run = run_in_child(planted.bug, planted.seed);
      if (!run.seen.empty()) seed = planted.seed;
    }
    if (seed == 0) seed = hunt(planted, 1, run);
    const std::string name = planted.name;
    CHECK_MESSAGE(seed != 0, name, " was not seen in ", seeds_max(), " seeds; it was passed ", run.hits,
                  " times");
    if (seed != 0 && (from_the_start || seed != planted.seed))
      MESSAGE("{Bug::", name, ", \"", name, "\", ", seed, "},  // ", run.seen);
  }
}

TEST_CASE("a peer whose state is wrong is found by the others, and stops") {
  bool stopped = false;
  for (std::uint64_t seed = 1; seed <= 10 && !stopped; ++seed)
    stopped = run_in_child(Bug::state_rots, seed).seen.find(kStopped) != std::string::npos;
  CHECK(stopped);
}

TEST_CASE("without a planted bug the same seeds are clean") {
  for (const Planted& planted : kPlanted) {
    static std::set<std::uint64_t> done;
    if (!done.insert(planted.seed).second) continue;
    const Run run = run_in_child(Bug::none, planted.seed);
    CHECK_FALSE(run.hung);
    CHECK_MESSAGE(run.seen.empty(), "seed ", planted.seed, ": ", run.seen);
  }
}
