#include "node/streams.hpp"

#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>

#include "api/object_tree.hpp"
#include "base/engine_impl.hpp"
#include "logs/cri_log.hpp"
#include "node/pod_worker.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {
constexpr Duration kDialDeadline = 10s;

Error stream_error(Error::Code code, std::string text) { return {code, "node", std::move(text)}; }

/// A connected socket as a DuplexStream.
class SocketStream final : public DuplexStream, public std::enable_shared_from_this<SocketStream> {
 public:
  SocketStream(Engine& engine, int fd) : descriptor_(asio::make_strand(event_context(engine)), fd) {}

  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> promise;
    auto pending = promise.pending();
    asio::post(descriptor_.get_executor(), [self = shared_from_this(), promise, bytes_max] {
      self->buffer_.resize(std::clamp<std::size_t>(bytes_max, 1, 64 << 10));
      self->descriptor_.async_read_some(
          asio::buffer(self->buffer_),
          [self, promise](const boost::system::error_code& failed, std::size_t got) {
            if (failed == asio::error::eof) return promise.set(std::string());
            if (failed)
              return promise.set(
                  stream_error(Error::unavailable, "forwarded connection: " + failed.message()));
            promise.set(self->buffer_.substr(0, got));
          });
    });
    return pending;
  }
  Pending<void> write(std::string bytes) override {
    Promise<void> promise;
    auto pending = promise.pending();
    asio::post(descriptor_.get_executor(), [self = shared_from_this(), promise,
                                            bytes = std::make_shared<std::string>(std::move(bytes))] {
      asio::async_write(self->descriptor_, asio::buffer(*bytes),
                        [self, promise, bytes](const boost::system::error_code& failed, std::size_t) {
                          if (failed)
                            return promise.set(stream_error(Error::unavailable,
                                                            "forwarded connection: " + failed.message()));
                          promise.set({});
                        });
    });
    return pending;
  }
  void close_write() override {
    asio::post(descriptor_.get_executor(), [self = shared_from_this()] {
      if (self->descriptor_.is_open()) ::shutdown(self->descriptor_.native_handle(), SHUT_WR);
    });
  }
  void close() override {
    asio::post(descriptor_.get_executor(), [self = shared_from_this()] {
      boost::system::error_code ignored;
      self->descriptor_.close(ignored);
    });
  }

 private:
  asio::posix::stream_descriptor descriptor_;
  std::string buffer_;
};

/// Go's net.IP.IsGlobalUnicast, which upstream asks of the addresses of pods.
bool may_be_dialled(const asio::ip::address& address) {
  if (address.is_unspecified() || address.is_loopback() || address.is_multicast()) return false;
  if (address.is_v6()) return !address.to_v6().is_link_local() && !address.to_v6().is_v4_mapped();
  const std::uint32_t v4 = address.to_v4().to_uint();
  return v4 != 0xffffffff && v4 >> 16 != 0xa9fe && v4 >> 24 != 127;  // broadcast, 169.254/16, 127/8
}
}  // namespace

Result<ContainerStatus> Streams::find_container(const PodTarget& target, bool previous) {
  auto workers = workers_.lock();
  auto worker = workers ? workers->worker_of(target.ns, target.pod) : nullptr;
  if (!worker)
    return stream_error(Error::not_found,
                        "pod " + target.ns + "/" + target.pod + " does not run on this node");
  auto status = worker->container(target.container, previous);
  if (status) return *status;
  const Object pod = worker->pod();
  const std::string phase = string_at(tree(pod), "/status/phase");
  if ((phase == "Succeeded" || phase == "Failed") && !worker->container(target.container, false)) {
    return stream_error(Error::not_found, "container \"" + target.container + "\" in pod \"" + target.pod +
                                              "\" has ended; no more of it is here than its logs");
  }
  if (previous) {
    return stream_error(Error::invalid, "previous terminated container \"" + target.container +
                                            "\" in pod \"" + target.pod + "\" not found");
  }
  std::string why = "ContainerCreating";
  for (const char* where : {"/status/containerStatuses", "/status/initContainerStatuses"}) {
    if (const json::array* all = array_at(tree(pod), where)) {
      for (const json::value& one : *all) {
        if (string_at(one, "/name") == target.container) why = string_at(one, "/state/waiting/reason", why);
      }
    }
  }
  return stream_error(Error::invalid, "container \"" + target.container + "\" in pod \"" + target.pod +
                                          "\" is waiting to start: " + why);
}

Pending<std::shared_ptr<ByteStream>> Streams::log(PodTarget target, LogOptions options) {
  std::string path;
  std::function<bool()> ended;
  auto status = find_container(target, options.previous);
  if (status) {
    path = status->log_path;
    const bool done = status->state == ContainerState::exited || status->state == ContainerState::unknown;
    const std::string container = target.container, id = status->id;
    ended = [done, workers = workers_, target, id] {
      if (done) return true;
      auto directory = workers.lock();
      auto worker = directory ? directory->worker_of(target.ns, target.pod) : nullptr;
      if (!worker) return true;
      const auto now = worker->container(target.container, false);
      return !now || now->id != id || now->state == ContainerState::exited ||
             now->state == ContainerState::unknown;
    };
  } else {
    // Of a finished pod no container is known after a restart of the host; its log files are still here.
    const std::string folder =
        context_.log_directory(target.ns, target.pod, target.uid) + "/" + target.container;
    int newest = -1;
    if (auto names = context_.engine.disk().list(folder)) {
      for (const std::string& name : *names) {
        if (name.size() > 4 && name.compare(name.size() - 4, 4, ".log") == 0)
          newest = std::max(newest, std::atoi(name.c_str()));
      }
    }
    if (options.previous) --newest;
    if (newest < 0 || !status.error().is(Error::not_found)) return status.error();
    path = folder + "/" + std::to_string(newest) + ".log";
    ended = [] { return true; };
  }
  logs::LogStreamOptions stream;
  stream.live_path = path;
  stream.follow = options.follow;
  stream.tail_lines = options.tail_lines;
  stream.ended = std::move(ended);
  stream.filter.timestamps = options.timestamps;
  if (options.limit_bytes)
    stream.filter.limit_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, *options.limit_bytes));
  if (options.since_seconds)
    stream.filter.since_ns = context_.engine.clock().now().wall_ns - *options.since_seconds * 1'000'000'000;
  if (!options.since_time.empty()) {
    const auto since = logs::parse_time(options.since_time);
    if (!since)
      return stream_error(Error::invalid, "sinceTime \"" + options.since_time + "\" is not an RFC 3339 time");
    stream.filter.since_ns = *since;
  }
  return logs::open_log_stream(context_.engine, std::move(stream));
}

Pending<std::shared_ptr<ProcessStream>> Streams::exec(PodTarget target, ExecOptions options) {
  auto workers = workers_.lock();
  auto worker = workers ? workers->worker_of(target.ns, target.pod) : nullptr;
  auto status = find_container(target, false);
  if (!status) return status.error();
  if (status->state != ContainerState::running) {
    return stream_error(Error::invalid, "container \"" + target.container + "\" in pod \"" + target.pod +
                                            "\" is not running");
  }
  const std::string uid = worker->pod().uid();
  if (options.command.empty()) return context_.parts.runtime->attach(uid, status->id, std::move(options));
  return context_.parts.runtime->exec_stream(uid, status->id, std::move(options));
}

Pending<std::shared_ptr<DuplexStream>> Streams::port_forward(PodTarget target, int port) {
  auto workers = workers_.lock();
  auto worker = workers ? workers->worker_of(target.ns, target.pod) : nullptr;
  if (!worker)
    return stream_error(Error::not_found,
                        "pod " + target.ns + "/" + target.pod + " does not run on this node");
  if (bool_at(tree(worker->pod()), "/spec/hostNetwork")) return dial_machine(*worker, target.pod, port);
  // Its loopback first, as upstream; then the address that we gave it (never what its status says: others may
  // write that). Both from inside its own network.
  const std::string uid = worker->pod().uid(), own = worker->address();
  const bool loopback = context_.parts.runtime->isolation() != Isolation::full;
  const std::string first = loopback ? own : "127.0.0.1";
  Promise<std::shared_ptr<DuplexStream>> promise;
  auto pending = promise.pending();
  const auto done = [&engine = context_.engine, promise](const Result<std::shared_ptr<Fd>>& connected) {
    if (!connected) return promise.set(connected.error());
    auto socket = (*connected)->duplicate();
    if (!socket) return promise.set(socket.error());
    promise.set(std::shared_ptr<DuplexStream>(std::make_shared<SocketStream>(engine, socket->release())));
  };
  auto dialer = context_.parts.dialer;
  dialer->dial(uid, first, port, kDialDeadline)
      .on_ready([dialer, uid, first, own, port, done](Result<std::shared_ptr<Fd>> connected) {
        if (connected || own.empty() || own == first) return done(connected);
        dialer->dial(uid, own, port, kDialDeadline).on_ready(done);
      });
  return pending;
}

// A pod on the machine's network: the address that the agent has for its machine, the one that the pod's
// status tells everybody. Never the loopback, where what listens counts on being asked from this machine
// alone, nor an address of the link (metadata services).
Pending<std::shared_ptr<DuplexStream>> Streams::dial_machine(const PodWorker& worker, const std::string& pod,
                                                             int port) {
  const std::string address = worker.address();
  boost::system::error_code failed;
  const auto parsed = asio::ip::make_address(address, failed);
  if (failed || !may_be_dialled(parsed)) {
    return stream_error(Error::denied, "pod " + pod + " is on its machine's network, of which \"" + address +
                                           "\" is known: address not allowed");
  }
  auto socket = std::make_shared<asio::ip::tcp::socket>(asio::make_strand(event_context(context_.engine)));
  Promise<std::shared_ptr<DuplexStream>> promise;
  auto pending = promise.pending();
  const Engine::TimerId late = context_.engine.after(kDialDeadline, [socket] {
    asio::post(socket->get_executor(), [socket] {
      boost::system::error_code ignored;
      socket->close(ignored);
    });
  });
  const asio::ip::tcp::endpoint to(parsed, static_cast<std::uint16_t>(port));
  asio::post(socket->get_executor(), [&engine = context_.engine, socket, to, promise, late] {
    socket->async_connect(to, [&engine, socket, to, promise, late](const boost::system::error_code& error) {
      engine.cancel_timer(late);
      if (error) {
        return promise.set(stream_error(Error::unavailable, "connect " + to.address().to_string() + ":" +
                                                                std::to_string(to.port()) + ": " +
                                                                error.message()));
      }
      promise.set(std::shared_ptr<DuplexStream>(std::make_shared<SocketStream>(engine, socket->release())));
    });
  });
  return pending;
}

Pending<NodePage> Streams::page(std::string node, std::string path) {
  auto directory = workers_.lock();
  if (!directory || node != context_.options.node_name) {
    return stream_error(Error::not_found,
                        "the agent of node " + context_.options.node_name + " is not that of " + node);
  }
  return context_.engine.run_blocking([directory, &context = context_, path]() -> Result<NodePage> {
    return make_page(context, directory->page_sources(), path);
  });
}

}  // namespace orchestra::node
