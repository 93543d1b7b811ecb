#pragma once
// exec and attach: a process in a container joined to a client's channels, whatever protocol carries them.
//
// Input is taken one piece at a time and output is read one chunk at a time, so a client that stops
// reading, or a process that does, blocks only its own stream. The end is always a Status on the error
// channel; without it kubectl reports an error even for a command that succeeded.
#include <functional>
#include <memory>
#include <string>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

struct RemoteInput {
  enum class Kind : std::uint8_t { standard_input, end_of_input, resize, gone };
  Kind kind = Kind::gone;
  std::string bytes;
  std::uint16_t columns = 0, rows = 0;
};

/// The client's side, made by the WebSocket and SPDY adapters.
class RemoteChannels {
 public:
  using OnInput = std::function<void(RemoteInput, std::function<void()> taken)>;
  virtual ~RemoteChannels() = default;
  /// `ready` is called once when the client has opened its channels; then input comes, each after the last
  /// was taken. `gone` comes once at the end, without waiting.
  virtual void start(std::function<void()> ready, OnInput on_input) = 0;
  virtual Pending<void> write(ProcessChunk::Channel channel, std::string bytes) = 0;
  /// Sends the Status, ends all channels and, when the client has read them, the connection.
  virtual void finish(std::string status_json) = 0;
};

/// Opens the process once the channels are there and joins both until one ends.
void run_remote_command(Engine& engine, std::shared_ptr<RemoteChannels> channels,
                        std::function<Pending<std::shared_ptr<ProcessStream>>()> open);

/// The Status that ends a command.
std::string exit_status_json(const ProcessChunk& exit);
/// The same before v4 of the protocols: what went wrong, as text; empty: nothing.
std::string exit_status_text(const std::string& status_json);
/// {"Width":80,"Height":24}; nullopt if it is something else.
std::optional<std::pair<std::uint16_t, std::uint16_t>> parse_resize(std::string_view json);

}  // namespace orchestra::apiserver
