#pragma once
// Work inside another network namespace, without ever moving a thread of the engine there.
//
// A fresh thread joins the namespace, does the work and ends; the caller waits for it. So no pool thread
// can be left in a foreign namespace, and nothing of ours keeps a namespace alive. Costs about 50 us.
#include <functional>

#include "orchestra/pod_network.hpp"

namespace orchestra::net {

/// Runs `work` in `name_space` (at once, on this thread, when it is our own) and answers its result.
/// `work` must not throw. Blocks.
Result<void> in_namespace(const NetworkNamespace& name_space, const std::function<Result<void>()>& work);

/// The same with a value.
template <class T>
Result<T> in_namespace_get(const NetworkNamespace& name_space, const std::function<Result<T>()>& work) {
  std::optional<Result<T>> answer;
  ORC_TRY(in_namespace(name_space, [&]() -> Result<void> {
    answer.emplace(work());
    return {};
  }));
  return std::move(*answer);
}

}  // namespace orchestra::net
