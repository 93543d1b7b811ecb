// Entry of the streams: chooses log or an upgrade protocol. See pod_streams_http.hpp.
#include "apiserver/streams/pod_streams_http.hpp"

#include "api/status.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/streams/pod_access.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kLogChunkBytes = 64 << 10;

/// One log, copied chunk by chunk: the next is read when the last was taken by the kernel.
class LogCopy : public std::enable_shared_from_this<LogCopy> {
 public:
  LogCopy(Engine& engine, std::shared_ptr<ByteStream> log, std::shared_ptr<HttpBodyWriter> writer)
      : engine_(engine), log_(std::move(log)), writer_(std::move(writer)) {}

  void start() {
    // The client going away ends a read that waits for more (follow).
    writer_->on_closed([log = log_] { log->close(); });
    next();
  }

 private:
  void next() {
    auto self = shared_from_this();
    log_->read(kLogChunkBytes).on_ready([self](Result<std::string> chunk) {
      if (!chunk) return self->writer_->abort();
      if (chunk->empty()) {
        self->log_->close();
        return self->writer_->finish();
      }
      self->writer_->write(std::move(*chunk)).on_ready([self](Result<void> written) {
        if (!written) return self->log_->close();
        self->engine_.post([self] { self->next(); });
      });
    });
  }

  Engine& engine_;
  std::shared_ptr<ByteStream> log_;
  std::shared_ptr<HttpBodyWriter> writer_;
};

void serve_log(Engine& engine, const PodAccess& pod, std::shared_ptr<HttpResponder> responder) {
  pod.streams->log(pod.target, pod.log)
      .on_ready([&engine, responder = std::move(responder)](Result<std::shared_ptr<ByteStream>> log) {
        if (!log) return send_reply(engine, responder, error_reply(log.error()));
        auto writer =
            responder->start(200, {{"Content-Type", "text/plain"}, {"Cache-Control", "no-cache, private"}});
        std::make_shared<LogCopy>(engine, std::move(*log), std::move(writer))->start();
      });
}
}  // namespace

void serve_pod_stream(ApiCore& core, Call call, const HttpServerRequest& request,
                      std::shared_ptr<HttpResponder> responder) {
  Engine& engine = core.engine();
  const std::string subresource = call.info.subresource;
  if (subresource == "log") call.info.verb = "get";
  (void)request;
  find_pod(core, call, [&engine, subresource, responder = std::move(responder)](Result<PodAccess> pod) {
    if (!pod) return send_reply(engine, responder, error_reply(pod.error()));
    if (subresource == "log") return serve_log(engine, *pod, responder);
    send_reply(engine, responder, error_reply(api::bad_request("Upgrade request required")));
  });
}

}  // namespace orchestra::apiserver
