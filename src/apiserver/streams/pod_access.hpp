#pragma once
// From a request on a pod's subresource (log, exec, attach, portforward) to the container it means.
//
// Streams are the one place where the server deals with pods as such: the container is chosen as kubectl
// expects (the named one, the only one, or the one of the annotation), and what cannot be is refused with
// a 400 that lists what there is.
#include <functional>

#include "api/pod_streams.hpp"
#include "apiserver/core.hpp"

namespace orchestra::apiserver {

struct PodAccess {
  PodTarget target;
  LogOptions log;
  ExecOptions exec;
  std::shared_ptr<PodStreams> streams;
};

/// Looks up the pod and checks the parameters of `call.info.subresource`. The callback runs at once or on
/// a thread of the store.
void find_pod(ApiCore& core, const Call& call, std::function<void(Result<PodAccess>)> answer);

}  // namespace orchestra::apiserver
