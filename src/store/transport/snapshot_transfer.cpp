// PeerNet: snapshots from one peer to another, on a connection of their own.
//
// Chunks of 256 KiB, at most four unacknowledged; the receiver tells at the beginning how much it has from an
// earlier attempt, and after each chunk how much is there. The last frame carries the Raft message; its
// acknowledgement means verified and installed; until then the receiver tells each second that it is at it.
// Files are read and written on worker threads.
#include <algorithm>

#include "store/raft/codec.hpp"
#include "store/transport/peer_net_parts.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint64_t kChunk = 256u << 10;
constexpr std::uint64_t kWindow = 4 * kChunk;
constexpr std::size_t kTransfersMax = 2;
constexpr Duration kBeat = std::chrono::seconds(1);  ///< while the receiver verifies and installs
/// Without anything said. What is lost without a word (a machine without power) would else be waited for as
/// long as TCP does. A receiver of an earlier release says nothing until all is verified and on disk.
constexpr std::int64_t kWordlessMax = 10'000'000'000;
constexpr std::int64_t kBeatlessMax = 120'000'000'000;

}  // namespace

// ---- the sending side

std::int64_t PeerNet::transfer_patience_ns(const Transfer& transfer) const {
  if (transfer.end_sent) return transfer.beats ? kWordlessMax : kBeatlessMax;
  const std::uint64_t rate = options_.snapshot_bytes_per_s;
  return kWordlessMax + (rate == 0 ? 0 : static_cast<std::int64_t>(kChunk * 1'000'000'000 / rate));
}

void PeerNet::send_snapshot(PeerId to, std::shared_ptr<DiskFile> file, std::uint64_t bytes, Message message,
                            std::function<void(Result<void>)> done) {
  auto transfer = std::make_shared<Transfer>();
  transfer->to = to;
  transfer->file = std::move(file);
  transfer->bytes = bytes;
  transfer->message = std::move(message);
  transfer->done = std::move(done);
  std::string address;
  Hello hello;
  std::optional<Error> refused;
  {
    std::lock_guard lock(mutex_);
    const auto link = links_.find(to);
    if (stopped_ || link == links_.end()) {
      refused = Error(Error::unavailable, "store", "there is no peer " + std::to_string(to.value));
    } else if (transfers_.contains(to) || transfers_.size() >= kTransfersMax) {
      refused = Error(Error::busy, "store", "two snapshots are on their way already");
    } else {
      address = link->second->address;
      hello = hello_to(to, Purpose::snapshot);
      transfer->progress_ns = steady_now();
      transfers_[to] = transfer;
    }
  }
  if (refused) return transfer->done(*refused);
  hello.file_bytes = bytes;
  hello.index = transfer->message.index;
  hello.term = transfer->message.log_term;
  TransportHandler handler;
  handler.on_message = [weak = weak_from_this(), transfer](const std::string& frame) {
    auto self = weak.lock();
    if (!self) return;
    {
      std::lock_guard lock(self->mutex_);
      transfer->progress_ns = self->steady_now();
    }
    if (!transfer->greeted) {
      const auto answer = decode_hello_answer(frame);
      if (!answer) return self->transfer_end(transfer, answer.error());
      if (answer->code != 0)
        return self->transfer_end(transfer,
                                  Error(static_cast<Error::Code>(answer->code), "store", answer->text));
      transfer->greeted = true;
      transfer->beats = answer->text == kBeats;
      transfer->sent = transfer->arrived = std::min(answer->offset, transfer->bytes);
      return self->transfer_next(transfer);
    }
    const auto arrived = decode_chunk_answer(frame);
    if (!arrived) return self->transfer_end(transfer, arrived.error());
    if (transfer->end_sent && *arrived == transfer->bytes + 1) return self->transfer_end(transfer, {});
    transfer->arrived = std::max(transfer->arrived, std::min(*arrived, transfer->bytes));
    self->transfer_next(transfer);
  };
  handler.on_closed = [weak = weak_from_this(), transfer](const Error& why) {
    if (auto self = weak.lock()) self->transfer_end(transfer, why);
  };
  transport()
      .connect(address, std::move(handler))
      .on_ready(
          [weak = weak_from_this(), transfer, hello](Result<std::shared_ptr<TransportConnection>> connected) {
            auto self = weak.lock();
            if (!self) return;
            if (!connected) return self->transfer_end(transfer, connected.error());
            {
              std::lock_guard lock(self->mutex_);
              transfer->connection = *connected;
            }
            (void)(*connected)->send(encode_hello(hello));
          });
}

/// Reads and sends on a worker, as far as the window goes.
void PeerNet::transfer_next(const std::shared_ptr<Transfer>& transfer) {
  {
    std::lock_guard lock(mutex_);
    if (transfer->ended || transfer->reading || transfer->end_sent) return;
    transfer->reading = true;
  }
  auto queued = engine_.post_blocking([self = shared_from_this(), transfer] {
    while (true) {
      std::uint64_t offset = 0;
      {
        std::lock_guard lock(self->mutex_);
        if (transfer->ended || transfer->sent - transfer->arrived >= kWindow || transfer->end_sent) {
          transfer->reading = false;
          return;
        }
        offset = transfer->sent;
      }
      if (offset >= transfer->bytes) {
        {
          std::lock_guard lock(self->mutex_);
          transfer->end_sent = true;  // before it is: the answer may be quick
          transfer->progress_ns = self->steady_now();
          transfer->reading = false;
        }
        (void)transfer->connection->send(encode_message_frame(
            FrameKind::snapshot_end, self->options_.identity.cluster, encode_message(transfer->message)));
        return;
      }
      Chunk chunk{offset, std::string(std::min(kChunk, transfer->bytes - offset), '\0')};
      const auto got = transfer->file->read_at(offset, chunk.bytes.data(), chunk.bytes.size());
      if (!got || *got != chunk.bytes.size())
        return self->transfer_end(transfer, Error(Error::io, "store", "the snapshot file ends early"));
      const std::uint64_t size = chunk.bytes.size();
      (void)transfer->connection->send(encode_chunk(chunk));
      std::lock_guard lock(self->mutex_);
      transfer->sent = offset + size;
      transfer->progress_ns = self->steady_now();
      if (self->options_.snapshot_bytes_per_s != 0) {
        transfer->reading = false;
        const std::int64_t wait =
            static_cast<std::int64_t>(size * 1'000'000'000 / self->options_.snapshot_bytes_per_s);
        self->engine_.after(Duration(wait), [weak = self->weak_from_this(), transfer] {
          if (auto again = weak.lock()) again->transfer_next(transfer);
        });
        return;
      }
    }
  });
  if (!queued) transfer_end(transfer, queued.error());
}

void PeerNet::transfer_end(const std::shared_ptr<Transfer>& transfer, const Result<void>& result) {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(transfer->ended, true)) return;
    const auto found = transfers_.find(transfer->to);
    if (found != transfers_.end() && found->second == transfer) transfers_.erase(found);
    if (transfer->connection) transfer->connection->close();
  }
  transfer->done(result);
}

// ---- the receiving side

void PeerNet::on_snapshot_frame(const std::shared_ptr<Incoming>& incoming, std::string frame) {
  {
    std::lock_guard lock(incoming->frames_mutex);
    incoming->frames.push_back(std::move(frame));
    if (std::exchange(incoming->draining, true)) return;
  }
  auto queued =
      engine_.post_blocking([self = shared_from_this(), incoming] { self->drain_snapshot(incoming); });
  if (!queued) incoming->connection->close();
}

/// Tells each second, with an offset that stands for it, that the file is being verified.
void PeerNet::beat(const std::shared_ptr<Incoming>& incoming, std::uint64_t offset) {
  if (!incoming->verifying) return;
  (void)incoming->connection->send(encode_chunk_answer(offset, {}));
  engine_.after(kBeat, [weak = weak_from_this(), incoming, offset] {
    if (auto self = weak.lock()) self->beat(incoming, offset);
  });
}

void PeerNet::drain_snapshot(const std::shared_ptr<Incoming>& incoming) {
  while (true) {
    std::string frame;
    {
      std::lock_guard lock(incoming->frames_mutex);
      if (incoming->frames.empty()) {
        incoming->draining = false;
        return;
      }
      frame = std::move(incoming->frames.front());
      incoming->frames.pop_front();
    }
    std::uint64_t offset = 0;
    const auto take = [&]() -> Result<void> {
      if (static_cast<FrameKind>(frame[0]) == FrameKind::chunk) {
        ORC_ASSIGN(const Chunk chunk, decode_chunk(frame));
        ORC_TRY(incoming->receiver->write(chunk.offset, chunk.bytes));
        offset = incoming->receiver->offset();
        return {};
      }
      ORC_ASSIGN(const std::string_view bytes, message_of_frame(frame, options_.identity.cluster));
      ORC_ASSIGN(Message message, decode_message(bytes));
      if (message.type != MessageType::snapshot || message.from != incoming->peer ||
          message.to.value != options_.identity.peer) {
        return Error(Error::invalid, "store", "the snapshot ends with a wrong message");
      }
      offset = incoming->receiver->offset() + 1;
      incoming->verifying = true;
      beat(incoming, offset + 1);
      const Result<void> finished = incoming->receiver->finish(std::move(message));
      incoming->verifying = false;
      return finished;
    };
    const auto taken = take();
    (void)incoming->connection->send(
        encode_chunk_answer(offset, taken ? std::string() : taken.error().to_string()));
    if (!taken)
      engine_.log(LogLevel::warning, "store", "a snapshot was not taken: " + taken.error().to_string());
  }
}

}  // namespace orchestra::store
