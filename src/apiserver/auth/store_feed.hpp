#pragma once
// What lies below one prefix of the store, followed without a thread: read once, then a watch that is polled
// whenever somebody asks, so that an answer is never older than what this process has committed.
#include <functional>
#include <optional>
#include <string>

#include "orchestra/engine.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class StoreFeed {
 public:
  /// `reset` forgets everything, `take` hears of each key (null: removed). Both on the asking thread.
  StoreFeed(Engine& engine, std::shared_ptr<StateStore> store, std::string prefix,
            std::function<void()> reset, std::function<void(const std::string& key, const Value* value)> take)
      : engine_(engine),
        store_(std::move(store)),
        prefix_(std::move(prefix)),
        reset_(std::move(reset)),
        take_(std::move(take)) {}

  /// Reads what exists. May block, where the store has to ask elsewhere.
  Result<void> load();
  /// Takes what changed since; reads everything again where the history is gone. A failure is logged once,
  /// and what was known stays.
  void refresh();
  const std::string& prefix() const { return prefix_; }

 private:
  Engine& engine_;
  std::shared_ptr<StateStore> store_;
  const std::string prefix_;
  const std::function<void()> reset_;
  const std::function<void(const std::string&, const Value*)> take_;
  std::optional<Watch> watch_;
  bool complained_ = false;
};

}  // namespace orchestra::apiserver
