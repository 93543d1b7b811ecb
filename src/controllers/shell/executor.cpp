// Executor: see executor.hpp.
#include "controllers/shell/executor.hpp"

#include <algorithm>

#include "base/engine_manual.hpp"
#include "controllers/common/objects.hpp"

namespace orchestra {

using namespace controllers;

namespace {

constexpr std::size_t kBatchMax = 500;
constexpr int kNameTries = 8;

std::string place_of(const Action& action) {
  return action.resource.text() + " " + ObjectKey{action.ns, action.name}.text();
}

// Five letters as the API server appends them to generateName; drawn here, so that a create whose outcome is
// unknown can be looked up.
std::string name_suffix(Random& random) {
  constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  std::string suffix;
  for (int i = 0; i < 5; ++i) suffix += kLetters[random.below(kLetters.size())];
  return suffix;
}

std::string named(const std::string& base, Random& random) {
  constexpr std::size_t kBaseMax = 58;  // a name of 63 octets at most, as names.SimpleNameGenerator
  return base.substr(0, kBaseMax) + name_suffix(random);
}

}  // namespace

Executor::Prepared Executor::prepare(const Action& action, const Moved& moved) {
  Prepared prepared;
  ApiRequest& request = prepared.request;
  request.api_version = action.resource.api_version;
  request.resource = action.resource.resource;
  request.subresource = action.subresource;
  request.ns = action.ns;
  request.name = action.name;
  request.deadline = options_.request_deadline;
  request.fence = options_.fence;
  request.want_object = true;
  const auto before = moved.find(place_of(action));
  const auto current = [&](const std::string& version) {
    return before != moved.end() && before->second.first == version ? before->second.second : version;
  };
  switch (action.verb) {
    case Action::Verb::create: {
      request.verb = "create";
      if (!action.name.empty()) {
        if (action.subresource.empty()) request.name.clear();
        request.object = action.object;
      } else {
        json::value body = tree(action.object);
        prepared.drawn_name = named(string_at(body, "/metadata/generateName"), engine_.random());
        set_at(body, "/metadata/name", json::value(prepared.drawn_name));
        request.object = object_from_tree(std::move(body));
      }
      break;
    }
    case Action::Verb::update: {
      request.verb = "update";
      const std::string version = action.object.resource_version();
      if (current(version) == version) {
        request.object = action.object;
      } else {
        json::value body = tree(action.object);
        set_at(body, "/metadata/resourceVersion", json::value(current(version)));
        request.object = object_from_tree(std::move(body));
      }
      break;
    }
    case Action::Verb::patch: {
      request.verb = "patch";
      request.content_type = "application/merge-patch+json";
      json::value body = parse_json(action.patch).value_or(json::object());
      if (!action.uid.empty()) set_at(body, "/metadata/uid", json::value(action.uid));
      if (!action.resource_version.empty()) {
        set_at(body, "/metadata/resourceVersion", json::value(current(action.resource_version)));
      }
      request.body = to_json(body);
      break;
    }
    case Action::Verb::remove: {
      request.verb = "delete";
      json::value body = json::object{{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
      if (!action.uid.empty()) set_at(body, "/preconditions/uid", json::value(action.uid));
      if (!action.resource_version.empty()) {
        set_at(body, "/preconditions/resourceVersion", json::value(current(action.resource_version)));
      }
      if (!action.propagation.empty()) set_at(body, "/propagationPolicy", json::value(action.propagation));
      if (action.grace_period_seconds) set_at(body, "/gracePeriodSeconds", *action.grace_period_seconds);
      request.body = to_json(body);
      break;
    }
    case Action::Verb::event:
      break;
  }
  return prepared;
}

Result<void> Executor::check(const Action& action) {
  for (const LiveCheck& check : action.checks) {
    const bool holds_none = check.expect == LiveCheck::Expect::none;
    Result<bool> fine = holds_none ? none_in_namespace(check) : live_as_expected(check);
    if (!fine) return fine.error();
    if (*fine) continue;
    return Error(Error::conflict, "controllers",
                 action.describe() + ": the server has another state of " + check.resource.resource + " " +
                     ObjectKey{check.ns, check.name}.text() + " " + check.uid + " than the cache");
  }
  return {};
}

Result<bool> Executor::none_in_namespace(const LiveCheck& check) {
  ListOptions first;
  first.ns = check.ns;
  first.limit = 1;
  const auto found =
      wait_on(engine_, client_.list(check.resource.api_version, check.resource.resource, first),
              options_.request_deadline);
  if (found) return found->items.empty();
  if (found.error().is(Error::not_found)) return true;  // the server does not have this resource
  return found.error();
}

Result<bool> Executor::live_as_expected(const LiveCheck& check) {
  const auto live =
      wait_on(engine_, client_.get(check.resource.api_version, check.resource.resource, check.name, check.ns),
              options_.request_deadline);
  if (!live && !live.error().is(Error::not_found)) return live.error();
  const bool present = live && (check.uid.empty() || live->uid() == check.uid);
  return check.expect == LiveCheck::Expect::present ? present && !live->deleting() : !present;
}

Execution Executor::run(const std::vector<Action>& actions, std::size_t count) {
  Execution execution;
  Moved moved;
  std::size_t group = 1;
  for (std::size_t i = 0; i < count;) {
    const Action& action = actions[i];
    if (action.verb == Action::Verb::event) {
      events_.record(component_, action.object, action.event_type, action.event_reason, action.event_message);
      outcome(execution, action, "");
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    if (action.independent) {
      while (end < count && end - i < group && actions[end].independent && actions[end].verb == action.verb)
        ++end;
      group = std::min(group * 2, kBatchMax);
    } else {
      group = 1;
    }
    if (!run_group(actions, i, end, execution, moved)) break;
    i = end;
  }
  return execution;
}

bool Executor::run_group(const std::vector<Action>& actions, std::size_t begin, std::size_t end,
                         Execution& execution, Moved& moved) {
  std::vector<Prepared> prepared;
  std::vector<ApiRequest> requests;
  for (std::size_t i = begin; i < end; ++i) {
    Result<void> may =
        stopped_() ? Error(Error::cancelled, "controllers", "the controller was stopped") : check(actions[i]);
    if (!may) {
      execution.error = may.error();
      execution.failed = &actions[i];
      outcome(execution, actions[i], may.error().message());
      return false;
    }
    prepared.push_back(prepare(actions[i], moved));
    requests.push_back(prepared.back().request);
  }
  auto answered = wait_on(engine_, client_.batch(requests), options_.request_deadline);
  std::vector<Result<Object>> results;
  if (answered) {
    results = std::move(answered).value();
  } else {
    const Error::Code code =
        answered.error().is(Error::deadline_exceeded) ? Error::unknown_outcome : answered.error().code();
    results.assign(requests.size(), Error(code, "controllers", answered.error().message()));
  }
  bool all_done = results.size() == requests.size();
  for (std::size_t i = 0; i < std::min(results.size(), requests.size()); ++i) {
    const Action& action = actions[begin + i];
    const Result<Object> result = settle(action, prepared[i], std::move(results[i]));
    if (result) {
      finished(action, *result, execution, moved);
      continue;
    }
    all_done = false;
    outcome(execution, action, result.error().to_string());
    if (!execution.error) {
      execution.error = result.error();
      execution.failed = &action;
    }
  }
  return all_done;
}

// Second looks at answers that are not the last word.
Result<Object> Executor::settle(const Action& action, const Prepared& prepared, Result<Object> result) {
  if (result) return result;
  if (action.verb == Action::Verb::remove && result.error().is(Error::not_found)) return Object();
  if (prepared.drawn_name.empty()) return result;
  if (result.error().is(Error::unknown_outcome)) {
    // Nobody else draws our name: what is there now is ours.
    auto there = wait_on(
        engine_,
        client_.get(action.resource.api_version, action.resource.resource, prepared.drawn_name, action.ns),
        options_.request_deadline);
    return there ? there : result;
  }
  for (int i = 0; !result && result.error().is(Error::already_exists) && i < kNameTries; ++i) {
    auto again = wait_on(engine_, client_.batch({prepare(action, {}).request}), options_.request_deadline);
    if (!again) return again.error();
    if (again->size() != 1) break;
    result = std::move(again->front());
  }
  return result;
}

void Executor::finished(const Action& action, const Object& result, Execution& execution, Moved& moved) {
  ++execution.written;
  if (action.verb == Action::Verb::remove) {
    execution.writes.gone.emplace_back(action.resource, action.uid);
  } else if (action.subresource != "binding" && !result.resource_version().empty()) {
    std::string& highest = execution.writes.revisions[action.resource];
    if (to_int(result.resource_version()).value_or(0) > to_int(highest).value_or(0))
      highest = result.resource_version();
    if (action.verb == Action::Verb::update) {
      // The first version that we knew leads to the last one that we wrote.
      auto& versions = moved[place_of(action)];
      if (versions.first.empty()) versions.first = action.object.resource_version();
      versions.second = result.resource_version();
    }
  }
  const std::string name = result.name().empty() ? action.name : result.name();
  if (action.announce) {
    events_.record(component_, action.announce->about, "Normal", action.announce->reason,
                   action.announce->message + name);
  }
  outcome(execution, action, action.name.empty() ? name : "");
}

void Executor::outcome(Execution& execution, const Action& action, const std::string& text) const {
  if (execution.outcomes.size() > kOutcomesMax) return;
  if (execution.outcomes.size() == kOutcomesMax) {
    execution.outcomes.emplace_back("... and more");
    return;
  }
  execution.outcomes.push_back(text.empty() ? action.describe() : action.describe() + " -> " + text);
}

}  // namespace orchestra
