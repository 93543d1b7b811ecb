#pragma once
// Readiness of descriptors on the engine's event threads, without naming Asio to its users.
#include <functional>
#include <memory>

#include "base/fd.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::runtime {

/// Owns one descriptor. A callback is called once, on an event thread; with false after close().
class FdEvents {
 public:
  static std::shared_ptr<FdEvents> make(Engine& engine, Fd fd);
  virtual ~FdEvents() = default;
  virtual int get() const = 0;  ///< -1 after close()
  virtual void when_readable(std::function<void(bool)> call) = 0;
  virtual void when_writable(std::function<void(bool)> call) = 0;
  virtual void close() = 0;
};

}  // namespace orchestra::runtime
