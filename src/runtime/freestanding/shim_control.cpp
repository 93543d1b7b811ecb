// The control socket: clients, frames, and which request goes where.
//
// Each connection has one input buffer and handles one frame at a time. Answers are small and go into
// the socket's buffer; a client that does not read them, or an attached one that is 1 MiB behind, is cut:
// the shim never waits for anybody. Only the shim's own user and root may connect (SO_PEERCRED).
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "init_steps.hpp"
#include "shim.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr size_t kBufferBytes = kFrameBytesMax + sizeof(FrameHeader);
uint32_t g_generation = 0;

bool peer_is_allowed(int fd) {
  ucred peer;
  socklen_t size = sizeof peer;
  if (sys(__NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, arg(&peer), arg(&size)) < 0) return false;
  return peer.uid == 0 || peer.uid == static_cast<uid_t>(sys(__NR_geteuid));
}

void drop_fds(Client& client) {
  for (int i = 0; i < client.fd_count; ++i) close_fd(client.fds[i]);
  client.fd_count = 0;
}

long receive(Client& client) {
  iovec piece{client.buffer + client.used, kBufferBytes - client.used};
  alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))];
  msghdr header;
  zero(&header, sizeof header);
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const long n = sys(__NR_recvmsg, client.fd, arg(&header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n <= 0 || header.msg_controllen < sizeof(cmsghdr)) return n;
  cmsghdr* extra = CMSG_FIRSTHDR(&header);
  if (extra == nullptr || extra->cmsg_level != SOL_SOCKET || extra->cmsg_type != SCM_RIGHTS) return n;
  const size_t count = (extra->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  drop_fds(client);
  copy(client.fds, CMSG_DATA(extra), count * sizeof(int));
  client.fd_count = static_cast<int>(count);
  return n;
}

Waiter waiter_of(int index, const FrameHeader& header) {
  return {index, shim().clients[index].generation, header.request};
}

/// Ids come from outside the shim: they must end.
bool text_ends(const char* text, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (text[i] == 0) return true;
  }
  return false;
}

/// The plan behind a fixed request, checked; nullptr if it is not sound.
const Plan* plan_behind(const char* payload, uint32_t bytes, size_t request_bytes) {
  static_assert(sizeof(CreateRequest) % 8 == 0 && sizeof(IdRequest) % 8 == 0);
  if (bytes <= request_bytes) return nullptr;
  return plan_is_sound(payload + request_bytes, bytes - request_bytes)
             ? reinterpret_cast<const Plan*>(payload + request_bytes)
             : nullptr;
}

void list_containers(const Waiter& waiter) {
  alignas(ContainerRecord) static char bytes[kContainersMax * sizeof(ContainerRecord)];
  auto* all = reinterpret_cast<ContainerRecord*>(bytes);
  uint32_t count = 0;
  for (const Container& container : containers()) {
    if (container.used) all[count++] = container.record;
  }
  answer(waiter, 0, all, count * static_cast<uint32_t>(sizeof(ContainerRecord)));
}

void signal_container(const Waiter& waiter, Container& container, uint32_t number) {
  const int signal = static_cast<int>(number & 0xffff);
  if (container.pidfd < 0 || container.record.phase == Phase::exited || container.ended) {
    answer(waiter, -ESRCH);
    return;
  }
  const long result = sys(__NR_pidfd_send_signal, container.pidfd, signal, 0, 0);
  if ((number & kSignalAll) != 0) kill_cgroup(container.config.cgroup);
  answer(waiter, static_cast<int>(result));
}

void attach_client(const Waiter& waiter, int index, Container& container, uint32_t flags) {
  Client& client = shim().clients[index];
  if (container.record.phase == Phase::exited) {
    answer(waiter, -ESRCH);
    return;
  }
  const int bytes = static_cast<int>(kAttachBytesMax);
  sys(__NR_setsockopt, client.fd, SOL_SOCKET, SO_SNDBUFFORCE, arg(&bytes), sizeof bytes);
  sys(__NR_setsockopt, client.fd, SOL_SOCKET, SO_SNDBUF, arg(&bytes), sizeof bytes);
  client.attached = static_cast<int>(&container - shim().containers);
  client.attach_flags = flags;
  client.attach_request = waiter.request;
  if ((flags & kWantInput) != 0) ++container.attached_inputs;
  answer(waiter, 0);
}

void resize(const Waiter& waiter, Container& container, uint32_t number) {
  if (container.master < 0) {
    answer(waiter, -ENOTTY);
    return;
  }
  const uint16_t size[4] = {static_cast<uint16_t>(number), static_cast<uint16_t>(number >> 16), 0, 0};
  answer(waiter, static_cast<int>(sys(__NR_ioctl, container.master, 0x5414 /* TIOCSWINSZ */, arg(size))));
}

void handle_id_request(int index, const FrameHeader& header, const char* payload) {
  const auto& request = *reinterpret_cast<const IdRequest*>(payload);
  const Waiter waiter = waiter_of(index, header);
  Client& client = shim().clients[index];
  if (header.bytes < sizeof(IdRequest) || !text_ends(request.id, sizeof request.id)) {
    answer(waiter, -EINVAL);
    return;
  }
  const int found = find_container(request.id);
  if (found < 0) {
    answer(waiter, header.op == Op::remove ? 0 : -ENOENT);
    return;
  }
  Container& container = shim().containers[found];
  switch (header.op) {
    case Op::start:
      start_container(waiter, found);
      break;
    case Op::signal:
      signal_container(waiter, container, request.number);
      break;
    case Op::remove:
      remove_container(waiter, found);
      break;
    case Op::attach:
      attach_client(waiter, index, container, request.flags);
      break;
    case Op::resize:
      resize(waiter, container, request.number);
      break;
    case Op::close_input:
      close_input(container);
      answer(waiter, 0);
      break;
    case Op::exec: {
      const Plan* plan = plan_behind(payload, header.bytes, sizeof(IdRequest));
      if (plan == nullptr || (client.fd_count != 3 && (request.flags & kWantTerminal) == 0)) {
        answer(waiter, -EINVAL);
      } else {
        start_exec(waiter, found, request.flags, plan, client.fds);
      }
      drop_fds(client);
      break;
    }
    default:
      answer(waiter, -ENOSYS);
  }
}

/// False: not now, the frame stays in the buffer.
bool handle_frame(int index, const FrameHeader& header, const char* payload) {
  const Waiter waiter = waiter_of(index, header);
  switch (header.op) {
    case Op::list:
      list_containers(waiter);
      return true;
    case Op::subscribe:
      answer(waiter, 0);
      subscribe(index);
      return true;
    case Op::create: {
      const auto& request = *reinterpret_cast<const CreateRequest*>(payload);
      const Plan* plan = plan_behind(payload, header.bytes, sizeof(CreateRequest));
      const bool sound = plan != nullptr && text_ends(request.id, sizeof request.id) &&
                         text_ends(request.directory, kPathBytes) &&
                         text_ends(request.log_path, kPathBytes) && text_ends(request.oom_file, kPathBytes) &&
                         text_ends(request.root, kPathBytes) && text_ends(request.cgroup, kPathBytes);
      if (sound) {
        create_container(waiter, request, plan);
      } else {
        answer(waiter, -EINVAL);
      }
      return true;
    }
    case Op::shutdown:
      begin_shutdown(waiter);
      return true;
    case Op::input:
      return true;  // not attached: nothing to write to
    default:
      handle_id_request(index, header, payload);
      return true;
  }
}

void consume_frames(int index) {
  Client& client = shim().clients[index];
  while (client.fd >= 0 && !client.waits_for_input && client.used >= sizeof(FrameHeader)) {
    FrameHeader header;
    copy(&header, client.buffer, sizeof header);
    if (header.bytes > kFrameBytesMax) {
      close_client(index);
      return;
    }
    const size_t whole = sizeof header + header.bytes;
    if (client.used < whole) return;
    if (client.attached >= 0 && header.op == Op::input) {
      write_input(client);  // consumes the frame itself, as far as the container takes it
      if (client.waits_for_input) return;
      continue;
    }
    handle_frame(index, header, client.buffer + sizeof header);
    if (client.fd < 0) return;
    __builtin_memmove(client.buffer, client.buffer + whole, client.used - whole);
    client.used -= static_cast<uint32_t>(whole);
  }
}
}  // namespace

void accept_client() {
  const long fd = sys(__NR_accept4, shim().listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (!peer_is_allowed(static_cast<int>(fd))) {
    close_fd(static_cast<int>(fd));
    return;
  }
  add_client(static_cast<int>(fd));
}

int add_client(int fd) {
  for (uint32_t i = 0; i < kClientsMax; ++i) {
    Client& client = shim().clients[i];
    if (client.fd >= 0) continue;
    const long buffer =
        sys(__NR_mmap, 0, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer < 0 && buffer >= -4095) break;
    client = Client{};
    client.fd = fd;
    client.generation = ++g_generation;
    client.buffer = reinterpret_cast<char*>(buffer);
    watch(client.fd, EPOLLIN, Source::client, i);
    return static_cast<int>(i);
  }
  close_fd(fd);  // kClientsMax connections are open: the peer sees an end of file
  return -1;
}

void subscribe(int index) {
  if (index < 0) return;
  shim().clients[index].subscribed = true;
  for (Container& container : containers()) {
    if (container.used) send_frame(index, Op::event, 0, 0, 0, &container.record, sizeof container.record);
  }
}

void close_client(int index) {
  Client& client = shim().clients[index];
  if (client.fd < 0) return;
  unwatch(client.fd);
  drop_fds(client);
  sys(__NR_munmap, arg(client.buffer), kBufferBytes);
  client.buffer = nullptr;
  if (index == shim().host) {
    shim().host = -1;
    begin_shutdown(Waiter{});
  }
  if (client.attached >= 0) {
    Container& container = shim().containers[client.attached];
    const bool wrote = (client.attach_flags & kWantInput) != 0;
    if (wrote && container.used && --container.attached_inputs == 0 && container.input_once)
      close_input(container);
    client.attached = -1;
  }
  for (Exec& exec : execs()) {
    // Whoever asked for it is gone: the process and its session end.
    if (!exec.used || exec.ended || exec.waiter.client != index ||
        exec.waiter.generation != client.generation)
      continue;
    sys(__NR_kill, -exec.pid, SIGKILL);
    sys(__NR_kill, exec.pid, SIGKILL);
  }
}

void client_ready(int index, uint32_t events) {
  Client& client = shim().clients[index];
  if (client.fd < 0) return;
  if ((events & EPOLLIN) != 0) {
    const long n = receive(client);
    if (n == -EAGAIN || n == -EINTR) return;
    if (n <= 0) {
      close_client(index);
      return;
    }
    client.used += static_cast<uint32_t>(n);
    consume_frames(index);
  } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    close_client(index);
  }
}

bool send_frame(int index, Op op, uint32_t request, int status, uint16_t flags, const void* bytes,
                uint32_t size, int fd) {
  Client& client = shim().clients[index];
  if (client.fd < 0) return false;
  FrameHeader header;
  header.bytes = size;
  header.request = request;
  header.op = op;
  header.flags = flags;
  header.status = status;
  iovec pieces[2] = {{&header, sizeof header}, {const_cast<void*>(bytes), size}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message;
  zero(&message, sizeof message);
  message.msg_iov = pieces;
  message.msg_iovlen = size != 0 ? 2 : 1;
  if (fd >= 0) {
    zero(control, sizeof control);
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* extra = CMSG_FIRSTHDR(&message);
    extra->cmsg_level = SOL_SOCKET;
    extra->cmsg_type = SCM_RIGHTS;
    extra->cmsg_len = CMSG_LEN(sizeof(int));
    copy(CMSG_DATA(extra), &fd, sizeof fd);
  }
  const long sent = sys(__NR_sendmsg, client.fd, arg(&message), MSG_NOSIGNAL_ | MSG_DONTWAIT);
  if (sent == static_cast<long>(sizeof header + size)) return true;
  close_client(index);  // it does not read: 1 MiB behind (attached) or its answers pile up
  return false;
}

bool is_open(const Waiter& waiter) {
  return waiter.client >= 0 && shim().clients[waiter.client].fd >= 0 &&
         shim().clients[waiter.client].generation == waiter.generation;
}

void answer(const Waiter& waiter, int status, const void* bytes, uint32_t size, int fd) {
  if (is_open(waiter)) send_frame(waiter.client, Op::reply, waiter.request, status, 0, bytes, size, fd);
}

void answer_failure(const Waiter& waiter, int error, Stage stage, const char* text) {
  ReportMessage message;
  message.kind = Report::failed;
  message.stage = stage;
  message.error = error;
  size_t n = 0;
  while (text[n] != 0 && n + 1 < sizeof message.text) message.text[n] = text[n], ++n;
  message.text[n] = 0;
  answer(waiter, -(error != 0 ? error : EIO), &message, sizeof message);
}

void publish(Container& container) {
  for (uint32_t i = 0; i < kClientsMax; ++i) {
    if (shim().clients[i].fd >= 0 && shim().clients[i].subscribed) {
      send_frame(static_cast<int>(i), Op::event, 0, 0, 0, &container.record, sizeof container.record);
    }
  }
}

void send_output(int container, int stream, const char* bytes, uint32_t size) {
  const uint32_t wanted = stream == 0 ? kWantOutput : kWantError;
  for (uint32_t i = 0; i < kClientsMax; ++i) {
    Client& client = shim().clients[i];
    if (client.fd < 0 || client.attached != container || (client.attach_flags & wanted) == 0) continue;
    send_frame(static_cast<int>(i), Op::output, client.attach_request, 0, static_cast<uint16_t>(stream + 1),
               bytes, size);
  }
}

void write_input(Client& client) {
  Container& container = shim().containers[client.attached];
  FrameHeader header;
  copy(&header, client.buffer, sizeof header);
  char* bytes = client.buffer + sizeof header;
  uint32_t left = header.bytes;
  while (left > 0 && container.used && container.input >= 0) {
    const long n = sys(__NR_write, container.input, arg(bytes), left);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      client.waits_for_input = true;
      rewatch(container.input, container.master >= 0 ? EPOLLIN | EPOLLOUT : EPOLLOUT,
              container.master >= 0 ? Source::stream : Source::input,
              container.master >= 0 ? static_cast<uint32_t>(client.attached) * 2
                                    : static_cast<uint32_t>(client.attached));
      rewatch(client.fd, 0, Source::client, static_cast<uint32_t>(&client - shim().clients));
      break;
    }
    if (n < 0) break;  // the container closed its stdin
    bytes += n;
    left -= static_cast<uint32_t>(n);
  }
  if (client.waits_for_input) {  // keep the rest of the frame at the front of the buffer
    const uint32_t done = header.bytes - left;
    header.bytes = left;
    __builtin_memmove(client.buffer + sizeof header, client.buffer + sizeof header + done,
                      client.used - sizeof header - done);
    copy(client.buffer, &header, sizeof header);
    client.used -= done;
    return;
  }
  const size_t whole = sizeof header + header.bytes;
  __builtin_memmove(client.buffer, client.buffer + whole, client.used - whole);
  client.used -= static_cast<uint32_t>(whole);
}

void input_writable(int index) {
  Container& container = shim().containers[index];
  if (container.input >= 0) {
    if (container.master >= 0) {
      rewatch(container.master, EPOLLIN, Source::stream, static_cast<uint32_t>(index) * 2);
    } else {
      sys(__NR_epoll_ctl, shim().epoll, EPOLL_CTL_DEL, container.input, 0);
    }
  }
  for (uint32_t i = 0; i < kClientsMax; ++i) {
    Client& client = shim().clients[i];
    if (client.fd < 0 || client.attached != index || !client.waits_for_input) continue;
    client.waits_for_input = false;
    rewatch(client.fd, EPOLLIN, Source::client, i);
    consume_frames(static_cast<int>(i));
  }
}

}  // namespace orch
