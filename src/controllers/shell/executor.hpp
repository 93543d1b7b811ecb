#pragma once
// Executor: turns the actions of one decision into requests, in order.
//
// What holds: an action runs only after those before it succeeded; independent neighbours run together in
// batches of 1, 2, 4, ... (a server that refuses one refuses it before hundreds were asked). A write's
// precondition follows our own writes: two updates of one object in one decision do not conflict with each
// other. A create whose outcome is unknown is looked up by its name before anything else is created.
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/reconciler.hpp"

namespace orchestra {

/// What the view has to show before the same key may be decided on again.
struct OwnWrites {
  std::map<ResourceRef, std::string> revisions;           ///< the highest that was written
  std::vector<std::pair<ResourceRef, std::string>> gone;  ///< UIDs that were removed
};

struct Execution {
  OwnWrites writes;
  std::vector<std::string> outcomes;  ///< one line per action, at most kOutcomesMax and "... more"
  std::optional<Error> error;
  const Action* failed = nullptr;  ///< set with error; points into the actions
  std::size_t written = 0;
};
inline constexpr std::size_t kOutcomesMax = 32;

class Executor {
 public:
  Executor(Engine& engine, Client client, EventRecorder& events, std::string component,
           const RunnerOptions& options, std::function<bool()> stopped)
      : engine_(engine),
        client_(std::move(client)),
        events_(events),
        component_(std::move(component)),
        options_(options),
        stopped_(std::move(stopped)) {}

  /// Blocks: for worker threads. At most `count` actions.
  Execution run(const std::vector<Action>& actions, std::size_t count);

 private:
  using Moved =
      std::map<std::string, std::pair<std::string, std::string>>;  // object -> versions before, after
  struct Prepared {
    ApiRequest request;
    std::string drawn_name;  // of a create by generateName
  };
  Prepared prepare(const Action& action, const Moved& moved);
  Result<void> check(const Action& action);
  Result<bool> none_in_namespace(const LiveCheck& check);
  Result<bool> live_as_expected(const LiveCheck& check);
  /// Runs actions[begin, end), all independent of each other; false: one failed.
  bool run_group(const std::vector<Action>& actions, std::size_t begin, std::size_t end, Execution& execution,
                 Moved& moved);
  Result<Object> settle(const Action& action, const Prepared& prepared, Result<Object> result);
  void finished(const Action& action, const Object& result, Execution& execution, Moved& moved);
  void outcome(Execution& execution, const Action& action, const std::string& text) const;

  Engine& engine_;
  Client client_;
  EventRecorder& events_;
  std::string component_;
  const RunnerOptions& options_;
  std::function<bool()> stopped_;
};

}  // namespace orchestra
