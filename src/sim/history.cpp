// The checkers of history.hpp.
#include "sim/history.hpp"

#include <algorithm>
#include <map>
#include <set>

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

/// Whether the operation's answer fits the state, which it then changes.
bool explains(const Operation& op, std::string& state) {
  switch (op.type) {
    case Type::read:
      return op.outcome == Outcome::unknown || state == op.value;
    case Type::write:
      state = op.value;
      return true;
    case Type::remove:
      state.clear();
      return true;
    case Type::compare_and_write:
      if (op.outcome == Outcome::failed_compare) return state != op.expected;
      if (state != op.expected) return op.outcome == Outcome::unknown;
      state = op.value;
      return true;
  }
  return false;
}

/// One key. Depth first over "which of the calls that may be next is next"; a set of done calls together with
/// the state that they left is tried once.
class KeySearch {
 public:
  explicit KeySearch(std::vector<Operation> ops) : ops_(std::move(ops)), done_(ops_.size(), false) {
    std::stable_sort(ops_.begin(), ops_.end(),
                     [](const Operation& a, const Operation& b) { return a.called < b.called; });
    for (const Operation& op : ops_) must_ += op.outcome != Outcome::unknown;
  }
  std::string run() {
    if (search("", 0)) return {};
    std::string text = "no order of the calls explains:";
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      if (!deepest_[i] && ops_[i].outcome != Outcome::unknown) return text + " " + shown(ops_[i]);
    }
    return text + " the history";
  }

 private:
  bool search(const std::string& state, std::size_t finished) {
    if (finished == must_) return true;
    if (finished > best_ || deepest_.empty()) {
      best_ = finished;
      deepest_ = done_;
    }
    std::string key(state);
    key += '\n';
    std::size_t first = 0;
    while (first < done_.size() && done_[first]) ++first;
    key += std::to_string(first);
    key += ':';
    for (std::size_t i = first; i < last_done_; ++i) key += done_[i] ? '1' : '0';
    while (key.back() == '0') key.pop_back();
    if (!seen_.insert(std::move(key)).second) return false;
    if (seen_.size() > kStatesMax) return true;  // too many unknown writes to decide: no verdict
    // Next may be whatever was called before the first return among those that are left.
    std::int64_t until = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = first; i < ops_.size() && ops_[i].called <= until; ++i) {
      if (!done_[i] && ops_[i].outcome != Outcome::unknown) until = std::min(until, ops_[i].returned);
    }
    // Calls with an answer first: what is unknown takes effect only where nothing else explains the answers.
    for (const bool unknown : {false, true}) {
      for (std::size_t i = first; i < ops_.size() && ops_[i].called <= until; ++i) {
        if (done_[i] || (ops_[i].outcome == Outcome::unknown) != unknown) continue;
        std::string next = state;
        if (!explains(ops_[i], next)) continue;
        done_[i] = true;
        last_done_ = std::max(last_done_, i + 1);
        if (search(next, finished + (unknown ? 0 : 1))) return true;
        done_[i] = false;
      }
    }
    return false;
  }

  std::vector<Operation> ops_;
  std::vector<bool> done_, deepest_;
  std::size_t last_done_ = 0;  ///< nothing behind it was ever done
  std::size_t must_ = 0, best_ = 0;
  std::set<std::string> seen_;
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
