#include "runtime/pod/pod.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/pod/records.hpp"

namespace orchestra::runtime {

Result<void> check_name(std::string_view what, std::string_view name, std::size_t max) {
  const auto bad = [&](const std::string& why) {
    return Error(Error::invalid, "runtime",
                 std::string(what) + " \"" + std::string(name.substr(0, 300)) + "\": " + why);
  };
  if (name.empty() || name.size() > max) return bad("has to have 1.." + std::to_string(max) + " characters");
  if (name == "." || name == "..") return bad("is not a name");
  for (const char c : name) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      std::strchr("_.+-", c) != nullptr;
    if (!fine || c == '\0') return bad("only letters, digits and _ . + - may occur");
  }
  return {};
}

void Pod::set_sandbox(PodSandbox sandbox) {
  std::lock_guard lock(mutex_);
  sandbox_ = std::move(sandbox);
}
PodSandbox Pod::sandbox() const {
  std::lock_guard lock(mutex_);
  return sandbox_;
}
void Pod::add_degraded(const std::vector<std::string>& reasons) {
  std::lock_guard lock(mutex_);
  auto& all = sandbox_.degraded;
  for (const std::string& reason : reasons) {
    if (std::find(all.begin(), all.end(), reason) == all.end()) all.push_back(reason);
  }
}
void Pod::add_container(ContainerConfig config, const wire::ContainerRecord& record) {
  {
    std::lock_guard lock(mutex_);
    const std::string id = config.id;
    Known& known = containers_[id];
    known.config = std::move(config);
    known.record = record;
  }
  if (on_change) on_change(record);
}
void Pod::forget_container(const std::string& id) {
  std::vector<Promise<ContainerStatus>> waiters;
  {
    std::lock_guard lock(mutex_);
    const auto found = containers_.find(id);
    if (found == containers_.end()) return;
    waiters = std::move(found->second.waiters);
    containers_.erase(found);
  }
  for (const auto& waiter : waiters)
    waiter.set(Error(Error::not_found, "runtime", "container " + id + " was removed"));
}
std::optional<ContainerConfig> Pod::container(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end()) return std::nullopt;
  return found->second.config;
}
std::vector<ContainerStatus> Pod::statuses() const {
  std::lock_guard lock(mutex_);
  std::vector<ContainerStatus> all;
  for (const auto& [id, known] : containers_)
    all.push_back(status_of(known.record, config_.uid, known.config));
  return all;
}
Result<ContainerStatus> Pod::status(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end())
    return Error(Error::not_found, "runtime", "container " + id + " does not exist in pod " + config_.uid);
  return status_of(found->second.record, config_.uid, found->second.config);
}

Pending<ContainerStatus> Pod::exited(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = containers_.find(id);
  if (found == containers_.end()) {
    return Error(Error::not_found, "runtime", "container " + id + " does not exist in pod " + config_.uid);
  }
  Known& known = found->second;
  if (known.record.phase == wire::Phase::exited)
    return Result<ContainerStatus>(status_of(known.record, config_.uid, known.config));
  known.waiters.emplace_back();
  return known.waiters.back().pending();
}

void Pod::update(const wire::ContainerRecord& record) {
  std::vector<Promise<ContainerStatus>> waiters;
  std::optional<ContainerStatus> status;
  bool changed = false;
  {
    std::lock_guard lock(mutex_);
    const auto found = containers_.find(std::string(record.id, strnlen(record.id, sizeof record.id)));
    if (found == containers_.end()) return;  // being created by a call that stores its own record, or removed
    Known& known = found->second;
    if (known.record.phase == wire::Phase::exited || record.phase < known.record.phase) return;
    // Late news of one of the same id that was undone, as after a kill of the host amid its creation.
    if (record.pid != known.record.pid || record.start_ticks != known.record.start_ticks) return;
    changed = record.phase != known.record.phase;
    known.record = record;
    if (record.phase == wire::Phase::exited) {
      waiters.swap(known.waiters);
      status = status_of(record, config_.uid, known.config);
    }
  }
  if (changed && on_change) on_change(record);
  for (const auto& waiter : waiters) waiter.set(*status);
}

void Pod::abandon(const Error& error) {
  std::vector<Promise<ContainerStatus>> waiters;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, known] : containers_) {
      for (auto& waiter : known.waiters) waiters.push_back(std::move(waiter));
      known.waiters.clear();
    }
  }
  for (const auto& waiter : waiters) waiter.set(error);
}

Result<void> Pod::follow(Fd connection, std::function<void()> on_lost) {
  if (!connection) {
    ORC_ASSIGN(ShimConnection made, ShimConnection::connect(directory_));
    ORC_TRY(made.call(wire::Op::subscribe, {}, std::chrono::seconds(10)));
    connection = std::move(made.socket());
  }
  {
    std::lock_guard lock(mutex_);
    incoming_.clear();
    on_lost_ = std::move(on_lost);
    events_ = FdEvents::make(engine_, std::move(connection));
  }
  wait_for_events();
  return {};
}

void Pod::stop_following() {
  std::shared_ptr<FdEvents> events;
  {
    std::lock_guard lock(mutex_);
    events = std::exchange(events_, nullptr);
    on_lost_ = nullptr;
  }
  if (events) events->close();
}

void Pod::wait_for_events() {
  std::lock_guard lock(mutex_);
  if (!events_) return;
  events_->when_readable([self = shared_from_this()](bool open) {
    if (open) self->read_events();
  });
}

void Pod::read_events() {
  std::vector<wire::ContainerRecord> records;
  std::function<void()> lost;
  {
    std::lock_guard lock(mutex_);
    if (!events_) return;
    char buffer[16384];
    while (true) {
      const ssize_t n = recv(events_->get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n <= 0) {
        events_->close();
        events_.reset();
        lost = std::exchange(on_lost_, nullptr);
        break;
      }
      incoming_.append(buffer, static_cast<std::size_t>(n));
    }
    std::size_t at = 0;
    while (incoming_.size() - at >= sizeof(wire::FrameHeader)) {
      wire::FrameHeader header;
      std::memcpy(&header, incoming_.data() + at, sizeof header);
      if (incoming_.size() - at - sizeof header < header.bytes) break;
      if (header.op == wire::Op::event && header.bytes == sizeof(wire::ContainerRecord)) {
        std::memcpy(&records.emplace_back(), incoming_.data() + at + sizeof header,
                    sizeof(wire::ContainerRecord));
      }
      at += sizeof header + header.bytes;
    }
    incoming_.erase(0, at);
  }
  for (const wire::ContainerRecord& record : records) update(record);
  if (lost) {
    lost();
  } else {
    wait_for_events();
  }
}

}  // namespace orchestra::runtime
