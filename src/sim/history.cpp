// The checkers of history.hpp.
#include "sim/history.hpp"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace orchestra::sim {
namespace {

using Type = Operation::Type;
using Outcome = Operation::Outcome;

std::string shown(const Operation& op) {
  const char* names[] = {"read", "write", "remove", "compare-and-write"};
  const char* outcomes[] = {"done", "compare failed", "unknown"};
  return std::string(names[static_cast<int>(op.type)]) + " of " + op.key + " \"" + op.value + "\" (" +
         outcomes[static_cast<int>(op.outcome)] + ", revision " + std::to_string(op.revision) + ", client " +
         std::to_string(op.client) + ", " + std::to_string(op.called) + ".." +
         (op.outcome == Outcome::unknown ? "?" : std::to_string(op.returned)) + ")";
}

constexpr std::size_t kStatesMax = 20'000;

/// One key. Depth first over "which of the calls that may be next is next"; a set of done calls together with
/// the state that they left is tried once. Values are numbers here, 0 = no key.
class KeySearch {
 public:
  explicit KeySearch(std::vector<Operation> ops) : ops_(std::move(ops)) {
    std::stable_sort(ops_.begin(), ops_.end(),
                     [](const Operation& a, const Operation& b) { return a.called < b.called; });
    std::map<std::string, std::uint32_t> numbers{{"", 0}};
    const auto number = [&](const std::string& value) {
      return numbers.emplace(value, static_cast<std::uint32_t>(numbers.size())).first->second;
    };
    steps_.resize(kHeads);
    for (const Operation& op : ops_) {
      must_ += op.outcome != Outcome::unknown;
      steps_.push_back({op.type, op.outcome, number(op.value), number(op.expected), op.called, op.returned});
    }
    std::size_t last[kHeads] = {kAnswered, kUnknown};
    for (std::size_t i = kHeads; i < steps_.size(); ++i) {
      std::size_t& before = last[steps_[i].outcome == Outcome::unknown ? kUnknown : kAnswered];
      steps_[i].before = before;
      steps_[before].next = i;
      steps_[i].mark = mark_of(i);
      before = i;
    }
    for (const std::size_t head : {kAnswered, kUnknown}) {
      steps_[last[head]].next = head;
      steps_[head].before = last[head];
    }
  }
  std::string run() {
    if (search(0, 0, 0)) return {};
    return "no order of the calls explains: " +
           (left_.empty() ? "the history" : shown(ops_[left_.front() - kHeads]));
  }

 private:
  struct Step {
    Type type;
    Outcome outcome;
    std::uint32_t value, expected;
    std::int64_t called, returned;
    std::size_t next = 0, before = 0;  ///< in its list of those that are not done, by the time of their call
    std::uint64_t mark = 0;            ///< a set of done calls is the sum of their marks
  };
  static std::uint64_t mark_of(std::uint64_t number) {
    std::uint64_t z = (number + 1) * 0x9E3779B97F4A7C15ull;  // splitmix64 (Steele, Lea, Flood 2014)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// Whether the operation's answer fits the state, which it then changes.
  static bool explains(const Step& op, std::uint32_t& state) {
    switch (op.type) {
      case Type::read:
        return op.outcome == Outcome::unknown || state == op.value;
      case Type::write:
        state = op.value;
        return true;
      case Type::remove:
        state = 0;
        return true;
      case Type::compare_and_write:
        if (op.outcome == Outcome::failed_compare) return state != op.expected;
        if (state != op.expected) return op.outcome == Outcome::unknown;
        state = op.value;
        return true;
    }
    return false;
  }

  bool search(std::uint32_t state, std::size_t finished, std::uint64_t done) {
    if (finished == must_) return true;
    if (!seen_.insert(done ^ mark_of(state) * 3).second) return false;
    if (seen_.size() > kStatesMax) return true;  // too many unknown writes to decide: no verdict
    // Next may be whatever was called before the first return among those that are left.
    std::int64_t until = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = steps_[kAnswered].next; i != kAnswered && steps_[i].called <= until;
         i = steps_[i].next)
      until = std::min(until, steps_[i].returned);
    // Calls with an answer first: what is unknown takes effect only where nothing else explains the answers.
    for (const std::size_t head : {kAnswered, kUnknown}) {
      for (std::size_t i = steps_[head].next; i != head && steps_[i].called <= until; i = steps_[i].next) {
        Step& step = steps_[i];
        std::uint32_t next = state;
        if (!explains(step, next) || (head == kUnknown && next == state)) continue;
        steps_[step.before].next = step.next;
        steps_[step.next].before = step.before;
        if (search(next, finished + (head == kUnknown ? 0 : 1), done + step.mark)) return true;
        steps_[step.before].next = i;
        steps_[step.next].before = i;
      }
    }
    if (finished > best_ ||
        left_.empty()) {  // no further from here: what is left is what cannot be explained
      best_ = finished;
      left_.clear();
      for (std::size_t i = steps_[kAnswered].next; i != kAnswered; i = steps_[i].next) left_.push_back(i);
    }
    return false;
  }

  std::vector<Operation> ops_;
  /// The heads of two lists: calls with an answer, and those whose outcome is unknown.
  static constexpr std::size_t kAnswered = 0, kUnknown = 1, kHeads = 2;
  std::vector<Step> steps_;        ///< ops_[i] is steps_[i + kHeads]
  std::vector<std::size_t> left_;  ///< calls with an answer that are not done where the search came farthest
  std::size_t must_ = 0, best_ = 0;
  std::unordered_set<std::uint64_t> seen_;
};

/// Values are unique: a write that somebody saw did happen, before the one who saw it first returned. One
/// that nobody saw explains nothing but a failed compare; so both are left out.
std::vector<Operation> settle_unknown(const std::vector<Operation>& ops) {
  std::map<std::string, std::int64_t> seen;  // value -> the earliest return of those who saw it
  for (const Operation& op : ops) {
    if (op.outcome != Outcome::done) continue;
    const std::string* saw = op.type == Type::read                ? &op.value
                             : op.type == Type::compare_and_write ? &op.expected
                                                                  : nullptr;
    if (saw == nullptr || saw->empty()) continue;
    const auto [at, fresh] = seen.emplace(*saw, op.returned);
    if (!fresh) at->second = std::min(at->second, op.returned);
  }
  std::vector<Operation> settled;
  std::int64_t dropped = std::numeric_limits<std::int64_t>::max();
  for (const Operation& op : ops) {
    if (op.outcome != Outcome::unknown || op.type == Type::remove) {
      settled.push_back(op);
      continue;
    }
    const auto at = seen.find(op.value);
    if (at == seen.end()) {
      dropped = std::min(dropped, op.called);
      continue;
    }
    settled.push_back(op);
    settled.back().outcome = Outcome::done;
    settled.back().returned = std::max(op.called, at->second);
  }
  std::erase_if(settled, [&](const Operation& op) {
    return op.outcome == Outcome::failed_compare && op.returned >= dropped;
  });
  return settled;
}

}  // namespace

std::string check_linearizable(const std::vector<Operation>& history) {
  std::map<std::string, std::vector<Operation>> by_key;
  for (const Operation& op : history) {
    if (op.type != Type::read || op.outcome != Outcome::unknown) by_key[op.key].push_back(op);
  }
  for (auto& [key, ops] : by_key) {
    std::string wrong = KeySearch(settle_unknown(ops)).run();
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string check_revisions(const std::vector<Operation>& history) {
  std::vector<const Operation*> by_return, by_call;
  for (const Operation& op : history) {
    if (op.outcome == Outcome::unknown) continue;
    by_return.push_back(&op);
    by_call.push_back(&op);
  }
  std::sort(by_return.begin(), by_return.end(),
            [](const Operation* a, const Operation* b) { return a->returned < b->returned; });
  std::sort(by_call.begin(), by_call.end(),
            [](const Operation* a, const Operation* b) { return a->called < b->called; });
  std::size_t at = 0;
  const Operation* newest = nullptr;
  for (const Operation* op : by_call) {
    for (; at < by_return.size() && by_return[at]->returned < op->called; ++at) {
      if (newest == nullptr || by_return[at]->revision > newest->revision) newest = by_return[at];
    }
    const bool writes = op->type != Type::read && op->outcome == Outcome::done;
    if (newest == nullptr) continue;
    if (op->revision < newest->revision ||
        (writes && op->type != Type::remove && op->revision == newest->revision))
      return "revisions go back: " + shown(*op) + " began after " + shown(*newest) + " had returned";
  }
  // Two writes never share a revision.
  std::map<std::int64_t, const Operation*> writes;
  for (const Operation* op : by_call) {
    if (op->outcome != Outcome::done || op->type == Type::read || op->type == Type::remove) continue;
    const auto [other, fresh] = writes.emplace(op->revision, op);
    if (!fresh) return "two writes in one revision: " + shown(*op) + " and " + shown(*other->second);
  }
  return {};
}

}  // namespace orchestra::sim
