#pragma once
// What stands behind Engine, for code of ours that needs sockets: the Asio context of its event threads.
#include <boost/asio/io_context.hpp>

#include "orchestra/engine.hpp"

namespace orchestra {
/// The context that the engine's event threads run. Sockets and strands live here.
ORC_API boost::asio::io_context& event_context(Engine& engine);
/// Readable from the moment that stop() is called: what loops on a worker thread watches it and ends. The
/// engine's.
ORC_API int stopping_descriptor(Engine& engine);
/// Marks this thread as an event thread for the length of a scope: Pending::wait() then refuses.
class EventThreadScope {
 public:
  EventThreadScope();
  ~EventThreadScope();

 private:
  bool before_;
};
}  // namespace orchestra
