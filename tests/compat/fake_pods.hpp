#pragma once
// PodStreams without pods: logs of three lines, a tiny shell for exec, an echo behind every port, two pages
// of a node.
//
// exec knows: `echo WORDS`, `cat` (copies its input), `exit N`, `size` (waits for one resize), `keyboard`
// (copies its input and sizes), `big N` (N bytes of output). Everything else exits with 127.
#include <cstdio>
#include <deque>
#include <mutex>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::test {

/// A queue of chunks between a writer and one reader.
template <class T>
class Channel {
 public:
  void put(T value) {
    std::optional<Promise<T>> reader;
    {
      std::lock_guard lock(mutex_);
      if (reader_) {
        reader.swap(reader_);
      } else {
        queue_.push_back(std::move(value));
        return;
      }
    }
    reader->set(std::move(value));
  }
  Pending<T> take() {
    Promise<T> promise;
    auto pending = promise.pending();
    std::lock_guard lock(mutex_);
    if (queue_.empty()) {
      reader_ = promise;
    } else {
      promise.set(std::move(queue_.front()));
      queue_.pop_front();
    }
    return pending;
  }

 private:
  std::mutex mutex_;
  std::deque<T> queue_;
  std::optional<Promise<T>> reader_;
};

class FakeLog final : public ByteStream {
 public:
  FakeLog(LogOptions options) : options_(options) {
    std::vector<std::string> lines = {"first line\n", "second line\n", "third line\n"};
    if (options.previous) lines = {"from before\n"};
    std::size_t begin = 0;
    if (options.tail_lines && static_cast<std::size_t>(*options.tail_lines) < lines.size()) {
      begin = lines.size() - static_cast<std::size_t>(*options.tail_lines);
    }
    for (std::size_t i = begin; i < lines.size(); ++i) {
      channel_.put((options.timestamps ? "2026-01-02T03:04:05.000000000Z " : "") + lines[i]);
    }
    // A followed log of this fake ends by itself, so that tests end.
    if (options.follow) channel_.put("followed\n");
    channel_.put("");
  }
  Pending<std::string> read(std::size_t) override { return channel_.take(); }
  void close() override { channel_.put(""); }

 private:
  LogOptions options_;
  Channel<std::string> channel_;
};

class FakeProcess final : public ProcessStream {
 public:
  explicit FakeProcess(ExecOptions options) : options_(std::move(options)) {
    const std::vector<std::string>& command = options_.command;
    const std::string name = command.empty() ? "attach" : command[0];
    if (name == "echo") {
      std::string out;
      for (std::size_t i = 1; i < command.size(); ++i) out += (i > 1 ? " " : "") + command[i];
      output(out + "\n");
      exit(0);
    } else if (name == "exit") {
      error("leaving with " + command.at(1) + "\n");
      exit(std::stoi(command.at(1)));
    } else if (name == "big") {
      for (int left = std::stoi(command.at(1)); left > 0; left -= 32768) {
        output(std::string(static_cast<std::size_t>(std::min(left, 32768)), 'x'));
      }
      exit(0);
    } else if (name == "tar" && command.size() > 3 && command[1] == "cf") {
      run_tar(command);
    } else if (name == "attach") {
      output("attached\n");
      exit(0);
    } else if (name != "cat" && name != "size" && name != "keyboard") {
      error(name + ": not found\n");
      exit(127);
    }
  }
  Pending<ProcessChunk> read() override { return channel_.take(); }
  Pending<void> write_stdin(std::string bytes) override {
    output(std::move(bytes));
    return Result<void>();
  }
  void close_stdin() override { exit(0); }
  void resize(std::uint16_t columns, std::uint16_t rows) override {
    const std::string name = options_.command.empty() ? "" : options_.command[0];
    if (name == "size" || name == "keyboard")
      output(std::to_string(columns) + "x" + std::to_string(rows) + "\n");
    if (name == "size") exit(0);
  }
  void close() override { exit(137); }

 private:
  /// `tar cf - PATH` of kubectl cp: an archive with one file of 100,000 bytes under the asked name.
  void run_tar(const std::vector<std::string>& command) {
    std::string name = command.back();
    while (!name.empty() && name.front() == '/') name.erase(0, 1);
    const std::string content(100'000, 'z');
    std::string header(512, '\0');
    const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    char size[13];
    std::snprintf(size, sizeof size, "%011o", static_cast<unsigned>(content.size()));
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, size);
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, std::string("ustar\00000", 8));
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    char check[8];
    std::snprintf(check, sizeof check, "%06o", sum);
    put(148, std::string(check, 7));
    output(header);
    for (std::size_t at = 0; at < content.size(); at += 30'000) output(content.substr(at, 30'000));
    output(std::string((512 - content.size() % 512) % 512 + 1024, '\0'));
    exit(0);
  }
  void output(std::string bytes) {
    channel_.put({ProcessChunk::Channel::standard_output, std::move(bytes), 0, std::nullopt});
  }
  void error(std::string bytes) {
    channel_.put({ProcessChunk::Channel::standard_error, std::move(bytes), 0, std::nullopt});
  }
  void exit(int code) {
    {
      std::lock_guard lock(mutex_);
      if (ended_) return;
      ended_ = true;
    }
    channel_.put({ProcessChunk::Channel::exit, "", code, std::nullopt});
  }
  ExecOptions options_;
  std::mutex mutex_;
  bool ended_ = false;
  Channel<ProcessChunk> channel_;
};

class FakeSocket final : public DuplexStream {
 public:
  Pending<std::string> read(std::size_t) override { return channel_.take(); }
  Pending<void> write(std::string bytes) override {
    channel_.put("echo: " + bytes);
    return Result<void>();
  }
  void close_write() override { channel_.put(""); }
  void close() override { channel_.put(""); }

 private:
  Channel<std::string> channel_;
};

class FakePods final : public PodStreams {
 public:
  explicit FakePods(Engine&) {}
  Pending<std::shared_ptr<ByteStream>> log(PodTarget, LogOptions options) override {
    return Result<std::shared_ptr<ByteStream>>(std::make_shared<FakeLog>(options));
  }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions options) override {
    return Result<std::shared_ptr<ProcessStream>>(std::make_shared<FakeProcess>(std::move(options)));
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget, int port) override {
    if (port == 1) return Error(Error::unavailable, "fake", "nothing listens on port 1");
    return Result<std::shared_ptr<DuplexStream>>(std::make_shared<FakeSocket>());
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    const auto answer = [](int code, const char* type, std::string body) {
      return Result<NodePage>(NodePage{code, type, std::move(body)});
    };
    if (path == "/healthz") return answer(200, "text/plain; charset=utf-8", "ok");
    if (path == "/stats/summary")
      return answer(200, "application/json", R"({"node":{"nodeName":")" + node + R"("},"pods":[]})");
    return answer(404, "text/plain; charset=utf-8",
                  "the agent of node " + node + " has no page \"" + path + "\"\n");
  }
};

}  // namespace orchestra::test
