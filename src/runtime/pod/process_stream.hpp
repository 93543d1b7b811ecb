#pragma once
// ProcessStream over descriptors and the shim's control connection: exec streams and attach.
#include <deque>
#include <mutex>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"
#include "runtime/pod/fd_events.hpp"
#include "runtime/shim/shim_client.hpp"

namespace orchestra::runtime {

/// What a stream is made of. The control connection carries the exit, and for attach all bytes.
struct StreamParts {
  std::string id;  ///< of the container, for attach requests
  bool attach = false;
  bool terminal = false;
  Fd control;
  Fd output, error;  ///< exec: read ends; a terminal has only `output`
  Fd input;          ///< exec: write end, or the terminal again
};
/// A stream that pulls: nothing is read from the process while nobody reads from the stream.
std::shared_ptr<ProcessStream> make_process_stream(Engine& engine, StreamParts parts);
/// A stream with nothing but an exit: the program could not be started.
std::shared_ptr<ProcessStream> make_failed_stream(int exit_code, Error failure);

}  // namespace orchestra::runtime
