// One outstanding read, one queue of writes; readiness comes from the event threads.
//
// exec: output comes from pipes (or the terminal) that this process holds, the exit from the control
// connection; after the exit the pipes are drained to their end, at most kDrain (a daemon may hold them).
// attach: output and exit both are frames of the control connection, input goes there as frames.
#include "runtime/pod/process_stream.hpp"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "orchestra/env.hpp"
#include "runtime/domain.hpp"

namespace orchestra::runtime {
namespace {

constexpr std::size_t kChunkBytes = 32 << 10;
constexpr std::size_t kWriteBytesMax = 1 << 20;  ///< queued input; more answers `overloaded`
constexpr auto kDrain = std::chrono::seconds(1);

/// write(2) to a pipe without SIGPIPE, whatever the host does about it: blocked here, taken if it came.
ssize_t write_without_signal(int fd, const void* bytes, std::size_t size) {
  sigset_t pipe, before, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  const bool was_pending = sigismember(&pending, SIGPIPE) == 1;
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  const ssize_t n = ::write(fd, bytes, size);
  const int error = errno;
  if (n < 0 && error == EPIPE && !was_pending) {
    const timespec now{0, 0};
    sigtimedwait(&pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return n;
}

class PulledStream final : public ProcessStream, public std::enable_shared_from_this<PulledStream> {
 public:
  PulledStream(Engine& engine, StreamParts parts)
      : engine_(engine), id_(std::move(parts.id)), attach_(parts.attach), terminal_(parts.terminal) {
    control_.events = FdEvents::make(engine, std::move(parts.control));
    if (parts.output) outputs_[0].events = FdEvents::make(engine, std::move(parts.output));
    if (parts.error) outputs_[1].events = FdEvents::make(engine, std::move(parts.error));
    if (parts.input) input_ = FdEvents::make(engine, std::move(parts.input));
  }
  ~PulledStream() override { close(); }

  Pending<ProcessChunk> read() override {
    Promise<ProcessChunk> promise;
    Pending<ProcessChunk> pending = promise.pending();
    {
      std::lock_guard lock(mutex_);
      if (reading_) return Error(Error::busy, kDomain, "a read of this stream is outstanding already");
      reading_ = promise;
    }
    pump();
    return pending;
  }

  Pending<void> write_stdin(std::string bytes) override {
    Promise<void> promise;
    Pending<void> pending = promise.pending();
    {
      std::lock_guard lock(mutex_);
      if (closed_ || input_ended_ || (!attach_ && !input_))
        return Error(Error::conflict, kDomain, "stdin of the process is closed");
      if (queued_bytes_ + bytes.size() > kWriteBytesMax)
        return Error(Error::overloaded, kDomain, "1 MiB of input waits for the process");
      queue(attach_ ? frames_of(bytes) : std::move(bytes), promise);
    }
    pump_writes();
    return pending;
  }

  void close_stdin() override {
    {
      std::lock_guard lock(mutex_);
      if (input_ended_ || closed_) return;
      input_ended_ = true;
      if (attach_) {
        queue(frame(wire::Op::close_input, id_request(id_)), {});
      } else if (terminal_) {
        queue(std::string(1, '\x04'), {});
      } else {
        queue({}, {});  // an empty entry: close once all before is written
      }
    }
    pump_writes();
  }

  void resize(std::uint16_t columns, std::uint16_t rows) override {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || !terminal_) return;
      if (!attach_) {
        const winsize size{rows, columns, 0, 0};
        if (input_) ioctl(input_->get(), TIOCSWINSZ, &size);
        return;
      }
      queue(frame(wire::Op::resize, id_request(id_, static_cast<std::uint32_t>(columns) << 16 | rows)), {});
    }
    pump_writes();
  }

  void close() override {
    std::optional<Promise<ProcessChunk>> reading;
    std::deque<Write> writes;
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      closed_ = true;
      reading = std::exchange(reading_, std::nullopt);
      writes.swap(writes_);
      control_.events->close();
      for (Source& source : outputs_) {
        if (source.events) source.events->close();
      }
      if (input_) input_->close();
    }
    const Error gone(Error::cancelled, kDomain, "the stream was closed");
    if (reading) reading->set(gone);
    for (Write& write : writes) {
      if (write.promise) write.promise->set(gone);
    }
  }

 private:
  struct Source {
    std::shared_ptr<FdEvents> events;
    bool armed = false;
  };
  struct Write {
    std::string bytes;
    std::size_t at = 0;
    std::optional<Promise<void>> promise;
  };

  static std::string frame(wire::Op op, std::string_view payload) {
    wire::FrameHeader header;
    header.bytes = static_cast<std::uint32_t>(payload.size());
    header.op = op;
    std::string out(reinterpret_cast<const char*>(&header), sizeof header);
    return out.append(payload);
  }
  static std::string frames_of(std::string_view bytes) {
    std::string out;
    for (std::size_t at = 0; at < bytes.size(); at += kChunkBytes)
      out += frame(wire::Op::input, bytes.substr(at, kChunkBytes));
    return out;
  }

  void queue(std::string bytes, std::optional<Promise<void>> promise) {
    queued_bytes_ += bytes.size();
    writes_.push_back({std::move(bytes), 0, std::move(promise)});
  }

  // --- reading -------------------------------------------------------------------------------------------
  void pump() {
    std::optional<Promise<ProcessChunk>> promise;
    std::optional<Result<ProcessChunk>> answer;
    {
      std::lock_guard lock(mutex_);
      if (!reading_) return;
      answer = produce();
      if (answer) {
        promise = std::exchange(reading_, std::nullopt);
      } else {
        arm();
      }
    }
    if (promise) promise->set(std::move(*answer));
  }

  std::optional<Result<ProcessChunk>> produce() {
    using Channel = ProcessChunk::Channel;
    if (closed_) return Error(Error::cancelled, kDomain, "the stream was closed");
    if (exit_told_) return Error(Error::conflict, kDomain, "the process has ended and its exit was read");
    for (std::size_t i = 0; i < 2; ++i) {
      if (auto bytes = read_output(outputs_[i])) {
        return ProcessChunk{
            i == 0 ? Channel::standard_output : Channel::standard_error, std::move(*bytes), 0, {}};
      }
    }
    if (auto chunk = read_control()) return std::move(*chunk);
    const bool drained = !outputs_[0].events && !outputs_[1].events;
    if (!end_ && !lost_) return std::nullopt;
    if (!drained && engine_.clock().now().steady_ns < drain_until_) return std::nullopt;
    exit_told_ = true;
    ProcessChunk chunk;
    chunk.channel = Channel::exit;
    if (end_ && end_->known != 0) {
      chunk.exit_code = end_->code;
    } else {
      chunk.exit_code = -1;
      chunk.failure =
          lost_ ? *lost_ : Error(Error::unavailable, kDomain, "the exit code of the process is not known");
    }
    return chunk;
  }

  std::optional<std::string> read_output(Source& source) {
    if (!source.events) return std::nullopt;
    std::string bytes(kChunkBytes, '\0');
    ssize_t n;
    do {
      n = ::read(source.events->get(), bytes.data(), bytes.size());
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
      bytes.resize(static_cast<std::size_t>(n));
      return bytes;
    }
    if (n < 0 && errno == EAGAIN) return std::nullopt;
    source.events->close();  // the end; a terminal says it by EIO
    source.events.reset();
    return std::nullopt;
  }

  std::optional<ProcessChunk> read_control() {
    while (!end_ && !lost_) {
      if (auto chunk = next_frame()) return chunk;
      if (end_) break;
      char buffer[kChunkBytes];
      const ssize_t n = recv(control_.events->get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n <= 0) {
        lost_ = Error(Error::unavailable, kDomain,
                      attach_ ? "detached: this client was more than 1 MiB behind, or the pod's shim is gone"
                              : "the pod's shim is gone");
        begin_drain();
        break;
      }
      incoming_.append(buffer, static_cast<std::size_t>(n));
    }
    return std::nullopt;
  }

  std::optional<ProcessChunk> next_frame() {
    while (incoming_.size() >= sizeof(wire::FrameHeader)) {
      wire::FrameHeader header;
      std::memcpy(&header, incoming_.data(), sizeof header);
      const std::size_t whole = sizeof header + header.bytes;
      if (incoming_.size() < whole) return std::nullopt;
      std::string payload = incoming_.substr(sizeof header, header.bytes);
      incoming_.erase(0, whole);
      if (header.op == wire::Op::exec_exited && payload.size() == sizeof(wire::ExecEnd)) {
        std::memcpy(&end_.emplace(), payload.data(), sizeof(wire::ExecEnd));
        begin_drain();
        return std::nullopt;
      }
      if (header.op == wire::Op::output) {
        const auto channel = header.flags == 2 ? ProcessChunk::Channel::standard_error
                                               : ProcessChunk::Channel::standard_output;
        return ProcessChunk{channel, std::move(payload), 0, {}};
      }
    }
    return std::nullopt;
  }

  void begin_drain() {
    drain_until_ = engine_.clock().now().steady_ns + std::chrono::nanoseconds(kDrain).count();
    if (!outputs_[0].events && !outputs_[1].events) return;
    engine_.after(kDrain, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->pump();
    });
  }

  void arm() {
    const auto watch = [this](Source& source) {
      if (!source.events || source.armed) return;
      source.armed = true;
      source.events->when_readable([self = shared_from_this(), &source](bool) {
        {
          std::lock_guard lock(self->mutex_);
          source.armed = false;
        }
        self->pump();
      });
    };
    watch(outputs_[0]);
    watch(outputs_[1]);
    if (!end_ && !lost_) watch(control_);
  }

  // --- writing -------------------------------------------------------------------------------------------
  void pump_writes() {
    std::vector<std::pair<Promise<void>, Result<void>>> done;
    {
      std::lock_guard lock(mutex_);
      while (!writes_.empty() && !closed_ && !write_armed_) {
        Write& write = writes_.front();
        if (write.bytes.empty() && !attach_ && !write.promise) {  // close_stdin of a pipe
          input_->close();
          input_.reset();
          writes_.clear();
          break;
        }
        const auto result = write_some(write);
        if (!result) break;
        queued_bytes_ -= write.bytes.size();
        if (write.promise) done.emplace_back(*write.promise, *result);
        writes_.pop_front();
      }
    }
    for (auto& [promise, result] : done) promise.set(std::move(result));
  }

  /// Nothing: it has to wait.
  std::optional<Result<void>> write_some(Write& write) {
    const auto& target = attach_ ? control_.events : input_;
    if (!target) return Result<void>(Error(Error::conflict, kDomain, "stdin of the process is closed"));
    while (write.at < write.bytes.size()) {
      const char* from = write.bytes.data() + write.at;
      const std::size_t size = write.bytes.size() - write.at;
      const ssize_t n = attach_ ? send(target->get(), from, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                                : write_without_signal(target->get(), from, size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        write_armed_ = true;
        target->when_writable([self = shared_from_this()](bool) {
          {
            std::lock_guard lock(self->mutex_);
            self->write_armed_ = false;
          }
          self->pump_writes();
        });
        return std::nullopt;
      }
      if (n < 0) return Result<void>(system_error(kDomain, "write to", "stdin of the process", errno));
      write.at += static_cast<std::size_t>(n);
    }
    return Result<void>();
  }

  Engine& engine_;
  const std::string id_;
  const bool attach_, terminal_;
  std::mutex mutex_;
  Source control_, outputs_[2];
  std::shared_ptr<FdEvents> input_;
  std::string incoming_;
  std::optional<Promise<ProcessChunk>> reading_;
  std::deque<Write> writes_;
  std::size_t queued_bytes_ = 0;
  std::optional<wire::ExecEnd> end_;
  std::optional<Error> lost_;
  std::int64_t drain_until_ = 0;
  bool write_armed_ = false, input_ended_ = false, exit_told_ = false, closed_ = false;
};

class FailedStream final : public ProcessStream {
 public:
  FailedStream(int code, Error failure) : code_(code), failure_(std::move(failure)) {}
  Pending<ProcessChunk> read() override {
    return Result<ProcessChunk>(ProcessChunk{ProcessChunk::Channel::exit, {}, code_, failure_});
  }
  Pending<void> write_stdin(std::string) override {
    return Error(Error::conflict, kDomain, "the process was not started");
  }
  void close_stdin() override {}
  void resize(std::uint16_t, std::uint16_t) override {}
  void close() override {}

 private:
  const int code_;
  const Error failure_;
};
}  // namespace

std::shared_ptr<ProcessStream> make_process_stream(Engine& engine, StreamParts parts) {
  return std::make_shared<PulledStream>(engine, std::move(parts));
}
std::shared_ptr<ProcessStream> make_failed_stream(int exit_code, Error failure) {
  return std::make_shared<FailedStream>(exit_code, std::move(failure));
}

}  // namespace orchestra::runtime
