#include "runtime/pod/fd_events.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <mutex>

#include "base/engine_impl.hpp"

namespace orchestra::runtime {
namespace {
namespace asio = boost::asio;

class AsioFdEvents final : public FdEvents {
 public:
  AsioFdEvents(Engine& engine, Fd fd) : descriptor_(event_context(engine)) {
    boost::system::error_code failed;
    descriptor_.assign(fd.get(), failed);
    if (!failed) {
      fd.release();
      descriptor_.non_blocking(true, failed);
    }
  }
  int get() const override {
    std::lock_guard lock(mutex_);
    return descriptor_.is_open() ? const_cast<asio::posix::stream_descriptor&>(descriptor_).native_handle()
                                 : -1;
  }
  void when_readable(std::function<void(bool)> call) override {
    wait(asio::posix::stream_descriptor::wait_read, std::move(call));
  }
  void when_writable(std::function<void(bool)> call) override {
    wait(asio::posix::stream_descriptor::wait_write, std::move(call));
  }
  void close() override {
    std::lock_guard lock(mutex_);
    boost::system::error_code ignored;
    descriptor_.close(ignored);
  }

 private:
  void wait(asio::posix::stream_descriptor::wait_type type, std::function<void(bool)> call) {
    std::lock_guard lock(mutex_);
    descriptor_.async_wait(
        type, [call = std::move(call)](const boost::system::error_code& failed) { call(!failed); });
  }
  mutable std::mutex mutex_;
  asio::posix::stream_descriptor descriptor_;
};
}  // namespace

std::shared_ptr<FdEvents> FdEvents::make(Engine& engine, Fd fd) {
  return std::make_shared<AsioFdEvents>(engine, std::move(fd));
}

}  // namespace orchestra::runtime
