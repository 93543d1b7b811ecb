// What a handler holds while it answers, for both versions of HTTP: see server_session.hpp.
#include "net/http/server_session.hpp"

#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <charconv>
#include <ctime>

#include "net/http/head.hpp"
#include "orchestra/env.hpp"

namespace orchestra::http {

Error gone() { return {Error::cancelled, "http", "the client has closed the connection"}; }

std::shared_ptr<const std::string> text(std::string bytes) {
  return std::make_shared<const std::string>(std::move(bytes));
}

std::string lower_case(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::optional<std::uint64_t> told_length(const HttpResponder::Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!equal_ignoring_case(name, "content-length")) continue;
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (error == std::errc() && end == value.data() + value.size()) return length;
  }
  return std::nullopt;
}

std::string http_date(Clock& clock) {
  const std::time_t seconds = clock.now().wall_ns / 1'000'000'000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  char out[40];
  std::snprintf(out, sizeof out, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[parts.tm_wday], parts.tm_mday,
                kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
  return out;
}

std::optional<Pending<void>> ServerSession::write_chunk_now(Turn turn,
                                                            const std::shared_ptr<const std::string>& bytes) {
  Promise<void> written;
  write_chunk(turn, *bytes, written);
  return written.pending();
}

namespace {

/// What users hold knows its session weakly: a writer or stream may outlive server and engine.
using WeakSession = std::weak_ptr<ServerSession>;

/// Calls on the session's strand; false when the session is gone.
template <class F>
bool on_strand(const WeakSession& weak, F call) {
  const auto session = weak.lock();
  if (!session) return false;
  asio::dispatch(session->strand(), [session, call = std::move(call)]() mutable { call(*session); });
  return true;
}

void call_on_closed_of(const WeakSession& weak, ServerSession::Turn turn, std::function<void()> call) {
  const bool alive = on_strand(
      weak, [turn, call](ServerSession& session) mutable { session.add_on_closed(turn, std::move(call)); });
  if (!alive) call();
}

class BodyWriter final : public HttpBodyWriter {
 public:
  BodyWriter(WeakSession session, ServerSession::Turn turn) : session_(std::move(session)), turn_(turn) {}
  // A writer that is dropped in mid-body must not look like a finished body.
  ~BodyWriter() override {
    if (!ended_) BodyWriter::abort();
  }
  Pending<void> write(std::string bytes) override {
    Promise<void> written;
    const bool alive = on_strand(
        session_, [turn = turn_, bytes = std::move(bytes), written](ServerSession& session) mutable {
          session.write_chunk(turn, std::move(bytes), written);
        });
    if (!alive) written.set(gone());
    return written.pending();
  }
  std::optional<Pending<void>> write_now(const std::shared_ptr<const std::string>& bytes) override {
    const auto session = session_.lock();
    if (!session || !session->strand().running_in_this_thread()) return write(*bytes);
    return session->write_chunk_now(turn_, bytes);
  }
  bool dispatch(std::shared_ptr<HttpBodyTask> task) override {
    auto session = session_.lock();
    if (!session) return false;
    const Strand& strand = session->strand();
    strand.execute([session = std::move(session), task = std::move(task)] { task->run_in_order(); });
    return true;
  }
  void finish() override {
    ended_ = true;
    on_strand(session_, [turn = turn_](ServerSession& session) { session.finish_stream(turn); });
  }
  void abort() override {
    ended_ = true;
    on_strand(session_, [turn = turn_](ServerSession& session) { session.abort_stream(turn); });
  }
  void on_closed(std::function<void()> call) override { call_on_closed_of(session_, turn_, std::move(call)); }

 private:
  const WeakSession session_;
  const ServerSession::Turn turn_;
  std::atomic<bool> ended_{false};
};

class UpgradedStream final : public DuplexStream {
 public:
  UpgradedStream(WeakSession session, ServerSession::Turn turn) : session_(std::move(session)), turn_(turn) {}
  ~UpgradedStream() override { UpgradedStream::close(); }
  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> reader;
    const bool alive = on_strand(session_, [turn = turn_, bytes_max, reader](ServerSession& session) {
      session.upgraded_read(turn, bytes_max, reader);
    });
    if (!alive) reader.set(gone());
    return reader.pending();
  }
  Pending<void> write(std::string bytes) override {
    Promise<void> written;
    const bool alive = on_strand(
        session_, [turn = turn_, bytes = std::move(bytes), written](ServerSession& session) mutable {
          session.upgraded_write(turn, std::move(bytes), written);
        });
    if (!alive) written.set(gone());
    return written.pending();
  }
  void close_write() override {
    on_strand(session_, [turn = turn_](ServerSession& session) { session.upgraded_close_write(turn); });
  }
  void close() override {
    on_strand(session_, [turn = turn_](ServerSession& session) { session.upgraded_close(turn); });
  }

 private:
  const WeakSession session_;
  const ServerSession::Turn turn_;
};

class Responder final : public HttpResponder {
 public:
  Responder(WeakSession session, ServerSession::Turn turn) : session_(std::move(session)), turn_(turn) {}
  ~Responder() override {
    if (!answered_) Responder::respond(500, {{"Content-Type", "text/plain"}}, "the handler gave no answer\n");
  }
  void respond(int status, Headers headers, std::string body) override {
    std::vector<std::shared_ptr<const std::string>> parts;
    if (!body.empty()) parts.push_back(text(std::move(body)));
    Responder::respond_parts(status, std::move(headers), std::move(parts));
  }
  void respond_parts(int status, Headers headers,
                     std::vector<std::shared_ptr<const std::string>> parts) override {
    if (answered_.exchange(true)) return;
    on_strand(session_, [turn = turn_, status, headers = std::move(headers),
                         parts = std::move(parts)](ServerSession& session) mutable {
      session.respond(turn, status, headers, std::move(parts));
    });
  }
  std::shared_ptr<HttpBodyWriter> start(int status, Headers headers) override {
    answered_ = true;
    on_strand(session_, [turn = turn_, status, headers = std::move(headers)](ServerSession& session) {
      session.begin_stream(turn, status, headers);
    });
    return std::make_shared<BodyWriter>(session_, turn_);
  }
  std::shared_ptr<DuplexStream> upgrade(Headers headers) override {
    answered_ = true;
    on_strand(session_, [turn = turn_, headers = std::move(headers)](ServerSession& session) {
      session.begin_upgrade(turn, headers);
    });
    return std::make_shared<UpgradedStream>(session_, turn_);
  }
  void on_closed(std::function<void()> call) override { call_on_closed_of(session_, turn_, std::move(call)); }

 private:
  const WeakSession session_;
  const ServerSession::Turn turn_;
  std::atomic<bool> answered_{false};
};

}  // namespace

std::shared_ptr<HttpResponder> make_responder(std::weak_ptr<ServerSession> session,
                                              ServerSession::Turn turn) {
  return std::make_shared<Responder>(std::move(session), turn);
}

}  // namespace orchestra::http
