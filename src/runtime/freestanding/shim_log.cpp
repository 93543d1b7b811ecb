// Container output to CRI log files: `<time> <stdout|stderr> <F|P> <content>`.
//
// One clock read per read(), never running backwards inside one log. Lines longer than 16 KiB become P
// records and a last F; a rest without a newline at the end of the stream becomes P (containerd's
// internal/cri/io/logger.go). Rotation happens here, at a record boundary, by a rename that never
// replaces. A full disk costs the oldest rotated files, then records; so does a pod that writes more than
// its limit. What is dropped is counted and said in the log; nothing here ever blocks.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shim.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr int kLogFilesMax = 5;  ///< of one container, the live one included
constexpr size_t kOutBytes = 256 << 10;
constexpr size_t kPrefixBytes = 30 + 1 + 6 + 1;  // time, stream, their spaces
char g_out[kOutBytes];
size_t g_out_used = 0;
uint64_t g_out_lines = 0, g_out_content = 0;  ///< lines ended in g_out, bytes of content
constexpr int64_t kReportNs = 1000000000;     ///< what was dropped is said at most once a second

struct Civil {
  long year;
  unsigned month, day, hour, minute, second;
};
/// Days to civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
Civil to_civil(int64_t seconds) {
  const int64_t days = seconds / 86400;
  const auto rest = static_cast<unsigned>(seconds % 86400);
  const int64_t z = days + 719468;
  const int64_t era = z / 146097;
  const auto doe = static_cast<unsigned>(z - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  const unsigned month = mp < 10 ? mp + 3 : mp - 9;
  const long year = static_cast<long>(yoe) + static_cast<long>(era) * 400 + (month <= 2 ? 1 : 0);
  return {year, month, doy - (153 * mp + 2) / 5 + 1, rest / 3600, rest / 60 % 60, rest % 60};
}
char* put(char* at, unsigned long value, int digits) {
  for (int i = digits - 1; i >= 0; --i) {
    at[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  return at + digits;
}
/// "2026-11-23T15:04:05.000000001Z stdout ": everything up to the tag.
size_t make_prefix(char* at, int64_t ns, int stream) {
  const Civil t = to_civil(ns / 1000000000);
  char* p = put(at, static_cast<unsigned long>(t.year), 4);
  *p++ = '-';
  p = put(p, t.month, 2);
  *p++ = '-';
  p = put(p, t.day, 2);
  *p++ = 'T';
  p = put(p, t.hour, 2);
  *p++ = ':';
  p = put(p, t.minute, 2);
  *p++ = ':';
  p = put(p, t.second, 2);
  *p++ = '.';
  p = put(p, static_cast<unsigned long>(ns % 1000000000), 9);
  copy(p, stream == 0 ? "Z stdout " : "Z stderr ", 9);
  return static_cast<size_t>(p + 9 - at);
}

void open_file(Container& container) {
  LogFile& log = container.log;
  log.fd =
      static_cast<int>(open_at(AT_FDCWD, container.config.log_path, O_WRONLY | O_APPEND | O_CREAT, 0640));
  struct stat info;
  log.bytes = 0;
  if (log.fd >= 0 && sys(__NR_newfstatat, log.fd, arg(""), arg(&info), AT_EMPTY_PATH) == 0)
    log.bytes = info.st_size;
}

struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

bool at_end(const char* name) {
  return name[0] == 0 || (name[0] == '.' && name[1] == 'g' && name[2] == 'z' && name[3] == 0);
}
/// Names by age: the ".gz" of a packed one does not count, else those of one second would change places.
int compare(const char* a, const char* b) {
  while (!at_end(a) && !at_end(b) && *a == *b) ++a, ++b;
  return (at_end(a) ? 0 : static_cast<unsigned char>(*a)) - (at_end(b) ? 0 : static_cast<unsigned char>(*b));
}

/// Looks at rotated files "BASE.2026..": how many there are, and the name of the oldest.
int find_oldest(int folder, const char* base, Line<256>& oldest) {
  alignas(8) static char entries[16384];
  const size_t base_bytes = length(base);
  int count = 0;
  sys(__NR_lseek, folder, 0, 0);
  long n;
  while ((n = sys(__NR_getdents64, folder, arg(entries), sizeof entries)) > 0) {
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
      at += entry->size;
      const char* suffix = entry->name + base_bytes;
      if (!starts_with(entry->name, base) || suffix[0] != '.' || suffix[1] < '0' || suffix[1] > '9') continue;
      ++count;
      if (oldest.used != 0 && compare(oldest.text, entry->name) <= 0) continue;
      oldest = Line<256>();
      oldest.add(entry->name);
    }
  }
  return count;
}

/// Removes rotated files, the oldest first (their names sort by age), until fewer than `keep` are left or
/// `removals` are gone. The number removed.
int drop_oldest(const Container& container, int keep, int removals) {
  Line<kPathBytes> folder_path;
  folder_path.add(container.config.log_path);
  while (folder_path.used > 0 && folder_path.text[folder_path.used - 1] != '/') --folder_path.used;
  const char* base = container.config.log_path + folder_path.used;
  folder_path.text[folder_path.used] = 0;
  const long folder = open_at(AT_FDCWD, folder_path.text, O_RDONLY | O_DIRECTORY);
  if (folder < 0) return 0;
  int removed = 0;
  while (removed < removals) {
    Line<256> oldest;
    if (find_oldest(static_cast<int>(folder), base, oldest) < keep) break;
    if (sys(__NR_unlinkat, folder, arg(oldest.text), 0) < 0) break;
    ++removed;
  }
  close_fd(static_cast<int>(folder));
  return removed;
}

/// False: what was collected is lost, and counted.
bool flush(Container& container) {
  LogFile& log = container.log;
  if (g_out_used == 0) return true;
  long result = log.fd >= 0 ? write_fd(log.fd, g_out, g_out_used) : -EBADF;
  while (log.fd >= 0 && result < 0) {
    // A torn record is cut off, so that what follows stays readable.
    sys(__NR_ftruncate, log.fd, log.bytes);
    if ((result != -ENOSPC && result != -EDQUOT) || drop_oldest(container, 1, 1) == 0) break;
    result = write_fd(log.fd, g_out, g_out_used);
  }
  if (result < 0) {
    log.unwritten.add(g_out_lines, g_out_content);
    log.write_error = static_cast<int>(-result);
  } else {
    log.bytes += static_cast<int64_t>(g_out_used);
  }
  g_out_used = 0;
  g_out_lines = g_out_content = 0;
  return result >= 0;
}

void rotate(Container& container) {
  LogFile& log = container.log;
  flush(container);
  const Civil t = to_civil(wall_ns() / 1000000000);
  char stamp[16];
  char* p = put(stamp, static_cast<unsigned long>(t.year), 4);
  p = put(p, t.month, 2);
  p = put(p, t.day, 2);
  *p++ = '-';
  p = put(p, t.hour, 2);
  p = put(p, t.minute, 2);
  p = put(p, t.second, 2);
  *p = 0;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    Line<kPathBytes + 32> name;
    name.add(container.config.log_path).add(".").add(stamp);
    if (attempt > 0) {
      char suffix[5] = {'.'};
      put(suffix + 1, static_cast<unsigned long>(attempt), 3);
      name.add(suffix);
    }
    const long result = sys(__NR_renameat2, AT_FDCWD, arg(container.config.log_path), AT_FDCWD,
                            arg(name.text), RENAME_NOREPLACE);
    if (result == -EEXIST) continue;
    break;
  }
  close_fd(log.fd);
  open_file(container);
  drop_oldest(container, kLogFilesMax, 64);
}

void emit(Container& container, const char* prefix, size_t prefix_bytes, bool whole, const char* bytes,
          size_t size) {
  LogFile& log = container.log;
  const size_t record = prefix_bytes + 2 + size + 1;
  const int64_t limit = container.config.log_bytes_max;
  if (limit > 0 && log.bytes + static_cast<int64_t>(g_out_used + record) > limit &&
      log.bytes + static_cast<int64_t>(g_out_used) > 0) {
    rotate(container);
  }
  if (g_out_used + record > kOutBytes) flush(container);
  char* at = g_out + g_out_used;
  copy(at, prefix, prefix_bytes);
  at[prefix_bytes] = whole ? 'F' : 'P';
  at[prefix_bytes + 1] = ' ';
  copy(at + prefix_bytes + 2, bytes, size);
  at[prefix_bytes + 2 + size] = '\n';
  g_out_used += record;
  g_out_lines += whole ? 1 : 0;
  g_out_content += size;
}

/// The pod's limit: a bucket that holds what one second may bring, and may owe one record. True: the record
/// may be written.
bool take_from_limit(LogLimit& limit, size_t record, int64_t now) {
  if (limit.bytes_per_second <= 0) return true;
  constexpr int64_t kHour = 3600ll * 1000000000;
  const int64_t passed = now - limit.filled_ns < kHour ? now - limit.filled_ns : kHour;
  const int64_t more = limit.bytes_per_second * (passed / 1000) / 1000000;
  if (more > 0) {
    limit.left = limit.left + more > limit.bytes_per_second ? limit.bytes_per_second : limit.left + more;
    limit.filled_ns = now;
  }
  if (limit.left <= 0) return false;
  limit.left -= static_cast<int64_t>(record);
  return true;
}

/// A record of the container's own output: written where the pod's limit allows.
void emit_output(Container& container, const char* prefix, size_t prefix_bytes, bool whole, const char* bytes,
                 size_t size, int64_t now) {
  if (take_from_limit(shim().log_limit, prefix_bytes + 3 + size, now)) {
    emit(container, prefix, prefix_bytes, whole, bytes, size);
  } else {
    container.log.over_limit.add(whole ? 1 : 0, size);
  }
}

const char* find_newline(const char* at, const char* end) {
  constexpr uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080, kNewlines = kOnes * '\n';
  for (; at + 8 <= end; at += 8) {
    uint64_t eight;
    copy(&eight, at, 8);
    eight ^= kNewlines;
    // The lowest bit set marks the first zero byte: both CPUs are little-endian.
    const uint64_t zeros = (eight - kOnes) & ~eight & kHighs;
    if (zeros != 0) return at + __builtin_ctzll(zeros) / 8;
  }
  while (at < end && *at != '\n') ++at;
  return at;
}

void report(Container& container, Dropped& dropped, const char* prefix, size_t prefix_bytes,
            const char* because, long number, const char* unit) {
  if (!flush(container) || (dropped.bytes == 0 && dropped.lines == 0)) return;
  Line<160> text;
  text.add("[orchestra] dropped ").add(static_cast<long>(dropped.lines)).add(" lines (");
  text.add(static_cast<long>(dropped.bytes)).add(" bytes): ").add(because).add(number).add(unit);
  const Dropped said = dropped, unwritten = container.log.unwritten;
  emit(container, prefix, prefix_bytes, true, text.text, text.used);
  if (!flush(container)) {  // said when it can be; this sentence itself does not count
    container.log.unwritten = unwritten;
    return;
  }
  dropped.lines -= said.lines;
  dropped.bytes -= said.bytes;
}

void report_dropped(Container& container, const char* prefix, size_t prefix_bytes) {
  LogFile& log = container.log;
  log.report_ns = 0;
  report(container, log.unwritten, prefix, prefix_bytes, "the log could not be written, errno ",
         log.write_error, "");
  report(container, log.over_limit, prefix, prefix_bytes, "over ",
         static_cast<long>(shim().log_limit.bytes_per_second), " B/s");
}

/// The start of a record of now: time never runs backwards inside one log.
size_t prefix_of_now(Container& container, char* prefix, int stream) {
  const int64_t now = wall_ns();
  if (now > container.log.last_ns) container.log.last_ns = now;
  return make_prefix(prefix, container.log.last_ns, stream);
}
}  // namespace

void open_log(Container& container) {
  if (container.config.log_path[0] == 0) return;
  open_file(container);
  Line<kPathBytes + 16> path;
  path.add(container.config.directory).add("/lines");
  const long fd = open_at(AT_FDCWD, path.text, O_RDWR | O_CREAT, 0600);
  if (fd < 0) return;
  if (sys(__NR_ftruncate, fd, sizeof(LineBuffers)) == 0) {
    const long at = sys(__NR_mmap, 0, sizeof(LineBuffers), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at > 0 || at < -4095) container.log.lines = reinterpret_cast<LineBuffers*>(at);
  }
  close_fd(static_cast<int>(fd));
}

void write_log(Container& container, int stream, const char* bytes, size_t size) {
  LogFile& log = container.log;
  if (log.lines == nullptr) return;
  char prefix[kPrefixBytes];
  const size_t prefix_bytes = prefix_of_now(container, prefix, stream);
  const int64_t now = steady_ns();
  if (log.report_ns != 0 && now >= log.report_ns) report_dropped(container, prefix, prefix_bytes);
  LineBuffers::Stream& line = log.lines->streams[stream];
  const char* end = bytes + size;
  while (bytes < end) {
    const char* newline = find_newline(bytes, end);
    const auto piece = static_cast<size_t>(newline - bytes);
    if (line.used == 0 && newline < end && piece <= kLogRecordBytes) {
      emit_output(container, prefix, prefix_bytes, true, bytes, piece, now);
      bytes = newline + 1;
      continue;
    }
    const size_t room = kLogRecordBytes - line.used;
    const size_t taken = piece < room ? piece : room;
    copy(line.bytes + line.used, bytes, taken);
    line.used += static_cast<uint32_t>(taken);
    bytes += taken;
    if (bytes < end && *bytes == '\n') {
      emit_output(container, prefix, prefix_bytes, true, line.bytes, line.used, now);
      line.used = 0;
      ++bytes;
    } else if (bytes < end) {  // the buffer is full and the line goes on
      emit_output(container, prefix, prefix_bytes, false, line.bytes, line.used, now);
      line.used = 0;
    }
  }
  flush(container);
  if (log.report_ns == 0 && (log.over_limit.bytes != 0 || log.unwritten.bytes != 0))
    log.report_ns = now + kReportNs;
}

void report_log(Container& container) {
  char prefix[kPrefixBytes];
  const size_t prefix_bytes = prefix_of_now(container, prefix, 0);
  report_dropped(container, prefix, prefix_bytes);
  flush(container);
}

void end_log(Container& container) {
  LogFile& log = container.log;
  if (log.lines != nullptr) {
    for (int stream = 0; stream < 2; ++stream) {
      LineBuffers::Stream& line = log.lines->streams[stream];
      if (line.used == 0) continue;
      char prefix[kPrefixBytes];
      const size_t prefix_bytes = prefix_of_now(container, prefix, stream);
      emit_output(container, prefix, prefix_bytes, false, line.bytes, line.used, steady_ns());
      line.used = 0;
    }
    report_log(container);
    sys(__NR_munmap, arg(log.lines), sizeof(LineBuffers));
    log.lines = nullptr;
  }
  close_fd(log.fd);
  log.fd = -1;
}

}  // namespace orch
