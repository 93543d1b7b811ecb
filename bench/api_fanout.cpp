// The floor under a fan-out of events: the same bytes to the same number of sockets, by a loop of writes.
// What is above it is ours: finding who wants the event, encoding it, and waking for it.
#include <fcntl.h>
#include <sys/epoll.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {

double fanout_floor_ms(int sockets, std::size_t bytes, int rounds) {
  Listener listener;
  std::vector<std::unique_ptr<Connection>> readers;
  std::vector<Fd> writers;
  const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  for (int i = 0; i < sockets; ++i) {
    readers.push_back(std::make_unique<Connection>(listener.address));
    writers.emplace_back(accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    const int on = 1;
    setsockopt(writers.back().get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<std::uint64_t>(i)}};
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, readers.back()->fd(), &event);
  }
  const std::string text(bytes, 'e');
  std::mutex mutex;
  std::condition_variable changed;
  int wanted = 0;
  bool over = false;
  std::thread loop([&] {
    for (int done = 0;; ++done) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return over || wanted > done; });
      if (over) return;
      lock.unlock();
      for (const Fd& writer : writers) (void)!write(writer.get(), text.data(), text.size());
    }
  });
  std::vector<double> worst;
  std::vector<char> buffer(64 << 10);
  std::vector<epoll_event> events(1024);
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> times;
    const std::int64_t begin = now_ns();
    {
      std::lock_guard lock(mutex);
      ++wanted;
    }
    changed.notify_one();
    while (times.size() < static_cast<std::size_t>(sockets)) {
      const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 10000);
      if (ready <= 0) break;
      for (int k = 0; k < ready; ++k) {
        (void)!read(readers[events[static_cast<std::size_t>(k)].data.u64]->fd(), buffer.data(),
                    buffer.size());
        times.push_back(ms_since(begin));
      }
    }
    worst.push_back(percentile(times, 0.99));
  }
  {
    std::lock_guard lock(mutex);
    over = true;
  }
  changed.notify_one();
  loop.join();
  return percentile(worst, 0.5);
}

}  // namespace orchestra::bench::server_area
