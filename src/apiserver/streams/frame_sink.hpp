#pragma once
// Frames to one connection, in order, one write outstanding at a time.
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

class FrameSink : public std::enable_shared_from_this<FrameSink> {
 public:
  static constexpr std::size_t kWriteBytesMax = 256 << 10;  ///< frames joined into one write
  FrameSink(Engine& engine, std::shared_ptr<DuplexStream> stream)
      : engine_(engine), stream_(std::move(stream)) {}
  /// Completes when the frame was handed to the kernel; callers wait for it before they send more.
  Pending<void> send(std::string frame);
  /// What is sent from now on waits for release().
  void hold();
  void release();

 private:
  void pump();
  Engine& engine_;
  std::shared_ptr<DuplexStream> stream_;
  std::mutex mutex_;
  struct Waiting {
    std::string frame;
    Promise<void> sent;
  };
  std::deque<Waiting> queue_;
  bool busy_ = false, held_ = false;
};

}  // namespace orchestra::apiserver
