// The node tunnel: two peers joined by a pair of queues, with streams that the test plays.
#include <condition_variable>
#include <deque>
#include <mutex>

#include "api/tunnel/peer.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

/// A source of bytes and a place for them: a log, or a connection.
class PlayedBytes final : public DuplexStream {
 public:
  std::deque<std::string> chunks;  ///< then the end
  std::atomic<int> reads{0};
  std::atomic<bool> is_closed{false}, write_closed{false};
  Pending<std::string> read(std::size_t bytes_max) override {
    ++reads;
    std::lock_guard lock(mutex_);
    if (chunks.empty()) {
      if (!hold) return Result<std::string>(std::string());
      waiting_ = Promise<std::string>();
      return waiting_->pending();
    }
    std::string out = chunks.front().substr(0, bytes_max);
    chunks.front().erase(0, out.size());
    if (chunks.front().empty()) chunks.pop_front();
    return Result<std::string>(std::move(out));
  }
  Pending<void> write(std::string bytes) override {
    std::lock_guard lock(mutex_);
    written_ += bytes;
    return Result<void>();
  }
  void close_write() override {
    write_closed = true;
    release();
  }
  void close() override {
    is_closed = true;
    release();
  }
  void release() {
    std::optional<Promise<std::string>> waiting;
    {
      std::lock_guard lock(mutex_);
      waiting.swap(waiting_);
    }
    if (waiting) waiting->set(std::string());
  }
  std::string written() {
    std::lock_guard lock(mutex_);
    return written_;
  }
  bool hold = false;  ///< no end until close

 private:
  std::mutex mutex_;
  std::string written_;
  std::optional<Promise<std::string>> waiting_;
};

/// Says what it reads on its input, then exits with 3.
class Echo final : public ProcessStream {
 public:
  Pending<ProcessChunk> read() override {
    std::lock_guard lock(mutex_);
    if (is_closed) return Error(Error::cancelled, "test", "the process was closed");
    if (out_.empty()) {
      waiting_ = Promise<ProcessChunk>();
      return waiting_->pending();
    }
    ProcessChunk chunk = std::move(out_.front());
    out_.pop_front();
    return Result<ProcessChunk>(std::move(chunk));
  }
  Pending<void> write_stdin(std::string bytes) override {
    push({ProcessChunk::Channel::standard_output, bytes, 0, std::nullopt});
    push({ProcessChunk::Channel::standard_error, "!", 0, std::nullopt});
    return Result<void>();
  }
  void close_stdin() override { push({ProcessChunk::Channel::exit, "", 3, std::nullopt}); }
  void resize(std::uint16_t columns, std::uint16_t rows) override {
    push({ProcessChunk::Channel::standard_output,
          std::to_string(columns) + "x" + std::to_string(rows),
          0,
          {}});
  }
  void close() override {
    std::optional<Promise<ProcessChunk>> waiting;
    {
      std::lock_guard lock(mutex_);
      is_closed = true;
      waiting.swap(waiting_);
    }
    if (waiting) waiting->set(Error(Error::cancelled, "test", "the process was closed"));
  }
  std::atomic<bool> is_closed{false};

 private:
  void push(ProcessChunk chunk) {
    std::optional<Promise<ProcessChunk>> waiting;
    {
      std::lock_guard lock(mutex_);
      if (!waiting_) return out_.push_back(std::move(chunk));
      waiting.swap(waiting_);
    }
    waiting->set(std::move(chunk));
  }
  std::mutex mutex_;
  std::deque<ProcessChunk> out_;
  std::optional<Promise<ProcessChunk>> waiting_;
};

class PlayedPods final : public PodStreams {
 public:
  std::shared_ptr<PlayedBytes> bytes = std::make_shared<PlayedBytes>();
  std::shared_ptr<Echo> process = std::make_shared<Echo>();
  PodTarget asked;
  LogOptions log_asked;
  ExecOptions exec_asked;
  Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) override {
    asked = target;
    log_asked = options;
    if (target.pod == "missing")
      return Error(Error::not_found, "node", "pod shop/missing does not run on this node");
    return Result<std::shared_ptr<ByteStream>>(bytes);
  }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions options) override {
    exec_asked = options;
    return Result<std::shared_ptr<ProcessStream>>(process);
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget, int) override {
    return Result<std::shared_ptr<DuplexStream>>(bytes);
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    if (path == "/big")
      return Result<NodePage>(NodePage{200, "text/plain", std::string(3 << 20, 'x') + node});
    if (path == "/away") return Error(Error::unavailable, "node", "the agent stops");
    return Result<NodePage>(NodePage{404, "text/plain", "no page " + path});
  }
};

/// Both ends, and messages that go from one to the other on an event thread, in order.
struct Line {
  Line() {
    server = std::make_shared<tunnel::Peer>(
        engine, [this](std::string message) { push(to_agent, std::move(message)); }, nullptr);
    agent = std::make_shared<tunnel::Peer>(
        engine, [this](std::string message) { push(to_server, std::move(message)); }, pods);
  }
  ~Line() {
    server->closed(Error(Error::cancelled, "test", "the test is over"));
    agent->closed(Error(Error::cancelled, "test", "the test is over"));
    engine.stop();
  }
  struct Way {
    std::deque<std::string> messages;
    bool busy = false;
    std::atomic<std::size_t> bytes{0};
  };
  void push(Way& way, std::string message) {
    std::lock_guard lock(mutex);
    way.bytes += message.size();
    way.messages.push_back(std::move(message));
    if (std::exchange(way.busy, true)) return;
    engine.post([this, &way] { run(way); });
  }
  void run(Way& way) {
    while (true) {
      std::string message;
      {
        std::lock_guard lock(mutex);
        if (way.messages.empty()) {
          way.busy = false;
          return;
        }
        message = std::move(way.messages.front());
        way.messages.pop_front();
      }
      auto taken = (&way == &to_agent ? agent : server)->receive(message);
      if (!taken) failures += taken.error().to_string() + "; ";
    }
  }
  bool until(const std::function<bool()>& true_now) {
    for (int i = 0; i < 500 && !true_now(); ++i) {
      const Promise<> nobody;
      (void)nobody.pending().wait(10ms);
    }
    return true_now();
  }
  Engine engine;
  std::shared_ptr<PlayedPods> pods = std::make_shared<PlayedPods>();
  std::shared_ptr<tunnel::Peer> server, agent;
  std::mutex mutex;
  Way to_agent, to_server;
  std::string failures;
};

PodTarget target(const std::string& pod = "web") { return {"shop", pod, "uid-1", "main", "n2"}; }

std::string read_all(ByteStream& stream) {
  std::string out;
  while (true) {
    auto chunk = stream.read(7000).wait(10s);
    if (!chunk) return out + "error: " + chunk.error().to_string();
    if (chunk->empty()) return out;
    out += *chunk;
  }
}

}  // namespace

TEST_CASE("a log comes through the tunnel whole, with what was asked, and both ends forget the stream") {
  Line line;
  std::string all;
  for (int i = 0; i < 60'000; ++i) all += "line " + std::to_string(i) + "\n";  // several windows
  line.pods->bytes->chunks.push_back(all);
  LogOptions options;
  options.follow = true;
  options.tail_lines = 12;
  options.since_time = "2026-01-01T00:00:00Z";
  auto log = line.server->streams()->log(target(), options).wait(10s);
  REQUIRE(log);
  CHECK(read_all(**log) == all);
  CHECK(line.pods->asked.uid == "uid-1");
  CHECK(line.pods->asked.container == "main");
  CHECK(line.pods->log_asked.follow);
  CHECK(line.pods->log_asked.tail_lines == 12);
  CHECK_FALSE(line.pods->log_asked.limit_bytes);
  CHECK(line.pods->log_asked.since_time == "2026-01-01T00:00:00Z");
  CHECK(line.until([&] { return line.server->open_streams() == 0 && line.agent->open_streams() == 0; }));
  CHECK(line.failures.empty());
}

TEST_CASE("a reader that stops reading holds up its own stream only, at one window") {
  Line line;
  line.pods->bytes->chunks.push_back(std::string(4 << 20, 'x'));
  auto slow = line.server->streams()->log(target(), {}).wait(10s);
  REQUIRE(slow);
  const std::shared_ptr<PlayedBytes> first = line.pods->bytes;
  REQUIRE(line.until([&] { return line.to_server.bytes >= tunnel::kWindowBytes; }));
  // Another stream on the same connection is served meanwhile.
  line.pods->bytes = std::make_shared<PlayedBytes>();
  line.pods->bytes->chunks.push_back("quick");
  auto quick = line.server->streams()->log(target(), {}).wait(10s);
  REQUIRE(quick);
  CHECK(read_all(**quick) == "quick");
  CHECK(line.to_server.bytes < tunnel::kWindowBytes + 4096);
  // It goes on where it was once somebody reads.
  CHECK(read_all(**slow).size() == (4u << 20));
  CHECK(line.failures.empty());
}

TEST_CASE("exec: input, both outputs, sizes of the terminal, the end of input and the exit code") {
  Line line;
  ExecOptions options;
  options.command = {"sh", "-c", "cat"};
  options.in = options.tty = true;
  auto process = line.server->streams()->exec(target(), options).wait(10s);
  REQUIRE(process);
  CHECK(line.pods->exec_asked.command == options.command);
  CHECK(line.pods->exec_asked.tty);
  REQUIRE((*process)->write_stdin("hello").wait(10s));
  auto chunk = (*process)->read().wait(10s);
  REQUIRE(chunk);
  CHECK(chunk->bytes == "hello");
  CHECK(chunk->channel == ProcessChunk::Channel::standard_output);
  chunk = (*process)->read().wait(10s);
  REQUIRE(chunk);
  CHECK(chunk->channel == ProcessChunk::Channel::standard_error);
  (*process)->resize(120, 40);
  chunk = (*process)->read().wait(10s);
  REQUIRE(chunk);
  CHECK(chunk->bytes == "120x40");
  (*process)->close_stdin();
  chunk = (*process)->read().wait(10s);
  REQUIRE(chunk);
  CHECK(chunk->channel == ProcessChunk::Channel::exit);
  CHECK(chunk->exit_code == 3);
  CHECK(line.until([&] { return line.server->open_streams() == 0 && line.agent->open_streams() == 0; }));
  CHECK(line.failures.empty());
}

TEST_CASE("a forwarded connection closes each direction by itself") {
  Line line;
  line.pods->bytes->hold = true;
  line.pods->bytes->chunks.push_back("banner");
  auto connection = line.server->streams()->port_forward(target(), 5432).wait(10s);
  REQUIRE(connection);
  auto got = (*connection)->read(100).wait(10s);
  REQUIRE(got);
  CHECK(*got == "banner");
  REQUIRE((*connection)->write("question").wait(10s));
  CHECK(line.until([&] { return line.pods->bytes->written() == "question"; }));
  (*connection)->close_write();
  CHECK(line.until([&] { return line.pods->bytes->write_closed.load(); }));
  got = (*connection)->read(100).wait(10s);
  REQUIRE(got);
  CHECK(got->empty());
  CHECK(line.until([&] { return line.server->open_streams() == 0 && line.agent->open_streams() == 0; }));
  CHECK(line.failures.empty());
}

TEST_CASE("a refusal keeps its code and its words; a client that goes ends the process") {
  Line line;
  auto missing = line.server->streams()->log(target("missing"), {}).wait(10s);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().is(Error::not_found));
  CHECK(missing.error().message() == "pod shop/missing does not run on this node");

  auto process = line.server->streams()->exec(target(), {.command = {"sleep"}}).wait(10s);
  REQUIRE(process);
  (*process)->close();
  CHECK(line.until([&] { return line.pods->process->is_closed.load(); }));

  line.pods->bytes->hold = true;
  {
    auto followed = line.server->streams()->log(target(), {.follow = true}).wait(10s);
    REQUIRE(followed);
  }  // dropped
  CHECK(line.until([&] { return line.pods->bytes->is_closed.load(); }));
  CHECK(line.until([&] { return line.server->open_streams() == 0 && line.agent->open_streams() == 0; }));
}

TEST_CASE("a page of the node comes through the tunnel whole, whatever its code is") {
  Line line;
  const auto big = line.server->streams()->page("n2", "/big").wait(10s);
  REQUIRE_MESSAGE(big, big.error().to_string());
  CHECK(big->code == 200);
  CHECK(big->content_type == "text/plain");
  CHECK((big->body == std::string(3 << 20, 'x') + "n2"));
  const auto none = line.server->streams()->page("n2", "/x?y=1").wait(10s);
  REQUIRE(none);
  CHECK(none->code == 404);
  CHECK(none->body == "no page /x?y=1");
  const auto away = line.server->streams()->page("n2", "/away").wait(10s);
  REQUIRE_FALSE(away);
  CHECK(away.error().message() == "the agent stops");
  CHECK(line.until([&] { return line.server->open_streams() == 0 && line.agent->open_streams() == 0; }));
  CHECK(line.failures.empty());
  for (const char* bad : {"", "no line", "{}\nbody", "{\"code\":99}\n", "[\n"})
    CHECK_FALSE(tunnel::decode_page(bad));
}

TEST_CASE("when the connection ends every stream ends with the reason, on both sides") {
  Line line;
  line.pods->bytes->hold = true;
  auto followed = line.server->streams()->log(target(), {.follow = true}).wait(10s);
  REQUIRE(followed);
  auto waiting = (*followed)->read(100);
  line.server->closed(Error(Error::unavailable, "test", "node n2 is gone"));
  auto got = waiting.wait(10s);
  REQUIRE_FALSE(got);
  CHECK(got.error().message() == "node n2 is gone");
  const auto late = line.server->streams()->log(target(), {}).wait(10s);
  REQUIRE_FALSE(late);
  CHECK(late.error().is(Error::unavailable));
  line.agent->closed(Error(Error::unavailable, "test", "the API server is gone"));
  CHECK(line.until([&] { return line.pods->bytes->is_closed.load(); }));
}

TEST_CASE("who breaks the protocol is told what is wrong") {
  Line line;
  const auto told = [](Result<void> taken) { return taken ? std::string() : taken.error().message(); };
  tunnel::Frame open;
  open.type = tunnel::FrameType::open;
  open.stream = 1;
  open.payload = tunnel::encode_request({tunnel::Request::Kind::exec, target(), {}, {.command = {"x"}}, 0});
  CHECK(told(line.server->receive(tunnel::encode(open))) == "only an API server opens streams");
  CHECK(told(line.agent->receive(tunnel::encode(open))).empty());
  CHECK(told(line.agent->receive(tunnel::encode(open))) == "stream 1 was used before");
  // More than a window that nobody has read.
  auto agent = std::make_shared<tunnel::Peer>(
      line.engine, [](const std::string&) {}, nullptr);
  auto pending = agent->streams()->log(target(), {});
  tunnel::Frame data;
  data.type = tunnel::FrameType::data;
  data.stream = 1;
  data.channel = 1;
  data.payload = std::string(tunnel::kDataBytesMax, 'x');
  std::string wrong;
  for (int i = 0; i < 5 && wrong.empty(); ++i) wrong = told(agent->receive(tunnel::encode(data)));
  CHECK(wrong == "stream 1 sent more than its window");
  agent->closed(Error(Error::cancelled, "test", "over"));
  CHECK(told(line.agent->receive("")) == "a message of 0 bytes is no frame");
  // Frames of a stream that is over are no mistake: both ends may end one at the same time.
  data.stream = 77;
  CHECK(told(line.agent->receive(tunnel::encode(data))).empty());
}

TEST_CASE("statistics go the other way and are gone with the connection") {
  Line line;
  PodUse pod{"uid-1", "shop", "web", {{"app", "web"}}, 5, 6, {}, 7};
  pod.containers.push_back({"main", 8, 9});
  line.agent->send_statistics({{pod}, {{"n2", 1, 2, 3, 4}}});
  REQUIRE(line.until([&] { return line.server->statistics().has_value(); }));
  const auto got = line.server->statistics();
  REQUIRE(got->pods.size() == 1);
  CHECK(got->pods[0].labels == pod.labels);
  CHECK(got->pods[0].containers[0].nanocores == 8);
  CHECK(got->pods[0].working_set == 7);
  REQUIRE(got->nodes.size() == 1);
  CHECK(got->nodes[0].nanocores == 3);
  line.server->closed(Error(Error::unavailable, "test", "gone"));
  CHECK_FALSE(line.server->statistics());
}
