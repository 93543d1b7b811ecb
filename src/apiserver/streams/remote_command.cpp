// Joining a process and a client: see remote_command.hpp.
#include "apiserver/streams/remote_command.hpp"

#include <mutex>
#include <vector>

#include "api/status.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {
namespace {

class RemoteCommand : public std::enable_shared_from_this<RemoteCommand> {
 public:
  using Open = std::function<Pending<std::shared_ptr<ProcessStream>>()>;
  RemoteCommand(Engine& engine, std::shared_ptr<RemoteChannels> channels, Open open)
      : engine_(engine), channels_(std::move(channels)), open_(std::move(open)) {}

  void start() {
    auto self = shared_from_this();
    channels_->start([self] { self->open(); },
                     [self](RemoteInput input, std::function<void()> taken) {
                       self->input(std::move(input), std::move(taken));
                     });
  }

 private:
  void open() {
    auto self = shared_from_this();
    open_().on_ready([self](Result<std::shared_ptr<ProcessStream>> process) {
      if (!process) {
        ProcessChunk failed{ProcessChunk::Channel::exit, {}, 0, process.error()};
        return self->channels_->finish(exit_status_json(failed));
      }
      std::vector<std::function<void()>> waiting;
      bool gone = false;
      {
        std::lock_guard lock(self->mutex_);
        self->process_ = *process;
        waiting.swap(self->waiting_);
        gone = self->gone_;
      }
      if (gone) return (*process)->close();
      for (const auto& input : waiting) input();
      self->pump();
    });
  }

  void input(RemoteInput input, std::function<void()> taken) {
    std::shared_ptr<ProcessStream> process;
    {
      std::lock_guard lock(mutex_);
      process = process_;
      if (input.kind == RemoteInput::Kind::gone) gone_ = true;
      if (!process && !gone_) {
        // One piece at a time of each channel: at most input and a size wait for the process.
        waiting_.push_back([self = shared_from_this(), input = std::move(input), taken = std::move(taken)] {
          self->input(input, taken);
        });
        return;
      }
    }
    if (!process) return;
    switch (input.kind) {
      case RemoteInput::Kind::standard_input:
        process->write_stdin(std::move(input.bytes)).on_ready([taken, engine = &engine_](Result<void>) {
          // A process that no longer reads is not an error: the rest of its input is dropped.
          engine->post(taken);
        });
        return;
      case RemoteInput::Kind::end_of_input:
        process->close_stdin();
        break;
      case RemoteInput::Kind::resize:
        process->resize(input.columns, input.rows);
        break;
      case RemoteInput::Kind::gone:
        process->close();
        return;
    }
    taken();
  }

  void pump() {
    auto self = shared_from_this();
    process_->read().on_ready([self](Result<ProcessChunk> chunk) {
      if (!chunk) {
        ProcessChunk lost{ProcessChunk::Channel::exit, {}, 0, chunk.error()};
        return self->channels_->finish(exit_status_json(lost));
      }
      if (chunk->channel == ProcessChunk::Channel::exit)
        return self->channels_->finish(exit_status_json(*chunk));
      if (chunk->bytes.empty()) return self->engine_.post([self] { self->pump(); });
      self->channels_->write(chunk->channel, std::move(chunk->bytes)).on_ready([self](Result<void> written) {
        if (!written) return self->process_->close();
        self->engine_.post([self] { self->pump(); });
      });
    });
  }

  Engine& engine_;
  std::shared_ptr<RemoteChannels> channels_;
  Open open_;
  std::mutex mutex_;
  std::shared_ptr<ProcessStream> process_;
  std::vector<std::function<void()>> waiting_;
  bool gone_ = false;
};
}  // namespace

void run_remote_command(Engine& engine, std::shared_ptr<RemoteChannels> channels,
                        std::function<Pending<std::shared_ptr<ProcessStream>>()> open) {
  std::make_shared<RemoteCommand>(engine, std::move(channels), std::move(open))->start();
}

std::string exit_status_json(const ProcessChunk& exit) {
  json::object status{{"metadata", json::object()}};
  if (exit.failure) {
    const Status failure = api::status_of(*exit.failure);
    return failure.json;
  }
  if (exit.exit_code == 0) {
    status["status"] = "Success";
    return to_json(status);
  }
  const std::string code = std::to_string(exit.exit_code);
  status["status"] = "Failure";
  status["message"] = "command terminated with non-zero exit code: exit status " + code;
  status["reason"] = "NonZeroExitCode";
  status["details"] =
      json::object{{"causes", json::array{json::object{{"reason", "ExitCode"}, {"message", code}}}}};
  return to_json(status);
}

std::string exit_status_text(const std::string& status_json) {
  const auto status = parse_json(status_json);
  if (!status || string_at(*status, "/status") == "Success") return {};
  return string_at(*status, "/message");
}

std::optional<std::pair<std::uint16_t, std::uint16_t>> parse_resize(std::string_view text) {
  auto tree = parse_json(text);
  if (!tree) return std::nullopt;
  const std::int64_t columns = int_at(*tree, "/Width");
  const std::int64_t rows = int_at(*tree, "/Height");
  if (columns <= 0 || rows <= 0 || columns > 0xFFFF || rows > 0xFFFF) return std::nullopt;
  return std::make_pair(static_cast<std::uint16_t>(columns), static_cast<std::uint16_t>(rows));
}

}  // namespace orchestra::apiserver
