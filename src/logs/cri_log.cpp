#include "logs/cri_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <mutex>

#include "logs/log_file.hpp"

namespace orchestra::logs {

namespace {
constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kRecordBytesMax = 64 << 10;  // longer "records" are not CRI: passed on as they are
constexpr Duration kFollowPause = std::chrono::milliseconds(40);
}  // namespace

std::optional<CriRecord> parse_record(std::string_view line) {
  const std::size_t first = line.find(' ');
  if (first == std::string_view::npos) return std::nullopt;
  const std::size_t second = line.find(' ', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::size_t third = line.find(' ', second + 1);
  CriRecord out;
  out.time = line.substr(0, first);
  out.stream = line.substr(first + 1, second - first - 1);
  const std::string_view tags =
      line.substr(second + 1, (third == std::string_view::npos ? line.size() : third) - second - 1);
  const std::string_view tag = tags.substr(0, tags.find(':'));
  if ((out.stream != "stdout" && out.stream != "stderr") || (tag != "F" && tag != "P")) return std::nullopt;
  out.full = tag == "F";
  out.content = third == std::string_view::npos ? std::string_view() : line.substr(third + 1);
  return out;
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  const auto number = [&](std::size_t at, std::size_t digits) -> int {
    int value = 0;
    for (std::size_t i = at; i < at + digits; ++i) {
      if (i >= text.size() || text[i] < '0' || text[i] > '9') return -1;
      value = value * 10 + (text[i] - '0');
    }
    return value;
  };
  std::tm utc{};
  const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || minute < 0 || second < 0)
    return std::nullopt;
  utc.tm_year = year - 1900;
  utc.tm_mon = month - 1;
  utc.tm_mday = day;
  utc.tm_hour = hour;
  utc.tm_min = minute;
  utc.tm_sec = second;
  std::int64_t ns = static_cast<std::int64_t>(timegm(&utc)) * 1'000'000'000;
  std::size_t at = 19;
  if (at < text.size() && text[at] == '.') {
    std::int64_t unit = 100'000'000;
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10)
      ns += (text[at] - '0') * unit;
  }
  if (at >= text.size()) return std::nullopt;
  if (text[at] == 'Z') return at + 1 == text.size() ? std::optional(ns) : std::nullopt;
  const int offset_hours = number(at + 1, 2), offset_minutes = number(at + 4, 2);
  if ((text[at] != '+' && text[at] != '-') || offset_hours < 0 || offset_minutes < 0) return std::nullopt;
  const std::int64_t offset = (offset_hours * 3600 + offset_minutes * 60) * std::int64_t{1'000'000'000};
  return text[at] == '+' ? ns - offset : ns + offset;
}

void CriFilter::emit(std::string_view text, std::string& out) {
  if (options_.limit_bytes)
    text = text.substr(0, std::min<std::uint64_t>(text.size(), *options_.limit_bytes - emitted_));
  out.append(text);
  emitted_ += text.size();
}

void CriFilter::record(std::string_view line, std::string& out) {
  const auto parsed = parse_record(line);
  if (!parsed) return;
  bool& in_line = in_line_[parsed->stream == "stderr" ? 1 : 0];
  if (options_.since_ns != 0 && parse_time(parsed->time).value_or(0) < options_.since_ns) return;
  if (options_.timestamps && !in_line) {
    emit(parsed->time, out);
    emit(" ", out);
  }
  emit(parsed->content, out);
  if (parsed->full) emit("\n", out);
  in_line = !parsed->full;
}

void CriFilter::feed(std::string_view raw, std::string& out) {
  while (!raw.empty() && !limit_reached()) {
    const std::size_t newline = raw.find('\n');
    if (newline == std::string_view::npos) {
      if (rest_.size() < kRecordBytesMax) rest_.append(raw);
      return;
    }
    if (rest_.empty()) {
      record(raw.substr(0, newline), out);
    } else {
      rest_.append(raw.substr(0, newline));
      record(rest_, out);
      rest_.clear();
    }
    raw.remove_prefix(newline + 1);
  }
}

namespace {
bool is_file(int fd, const std::string& path) {
  struct stat mine {
  }, named{};
  return fstat(fd, &mine) == 0 && stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
         mine.st_dev == named.st_dev;
}

/// Offset where the last `left` whole lines of one file begin; counts `left` down by the lines found.
std::uint64_t tail_of_file(int fd, std::uint64_t size, std::int64_t& left) {
  std::string data;  // the bytes from `start` up to the end of the oldest record that was not counted
  std::uint64_t start = size;
  while (true) {
    // A record is whole when the newline before it is in `data`, or when the file begins there.
    const std::size_t end = data.empty() ? 0 : data.size() - 1;  // its own newline
    const std::size_t before = end == 0 ? std::string::npos : data.rfind('\n', end - 1);
    if (before == std::string::npos && start > 0) {
      const std::uint64_t take = std::min<std::uint64_t>(kReadBytes, start);
      std::string block(take, '\0');
      if (pread(fd, block.data(), take, static_cast<off_t>(start - take)) != static_cast<ssize_t>(take))
        return start;
      start -= take;
      data.insert(0, block);
      continue;
    }
    if (data.empty()) return start;
    // A record that is being written has no newline yet, and is no line.
    const bool whole = data.back() == '\n';
    const std::size_t begin = before == std::string::npos ? 0 : before + 1;
    const auto parsed = parse_record(std::string_view(data).substr(begin, end - begin));
    // F ends a line: the newest line is complete at the first F found going backwards.
    if (whole && parsed && parsed->full && left-- == 0) return start + data.size();
    data.resize(begin);
    if (begin == 0 && start == 0) return 0;
  }
}
}  // namespace

Result<LogFiles> open_log_files(const std::string& live) {
  constexpr int kTries = 10;
  LogFiles out;
  for (int i = 0; i < kTries; ++i) {
    auto fd = open_file(live, O_RDONLY);
    if (!fd && !fd.error().is(Error::not_found)) return fd.error();
    out.paths = log_files(live);
    out.live = fd ? std::move(*fd) : Fd();
    if (!out.live || is_file(out.live.get(), live)) break;  // else it was rotated amid this
  }
  struct stat info {};
  if (out.live && fstat(out.live.get(), &info) != 0) return system_error("logs", "fstat", live, errno);
  out.live_bytes = static_cast<std::uint64_t>(info.st_size);
  return out;
}

LogPosition tail_position(const LogFiles& files, std::int64_t lines) {
  std::int64_t left = lines;
  for (std::size_t i = files.paths.size(); i-- > 0;) {
    std::uint64_t offset = 0;
    if (i + 1 == files.paths.size()) {
      if (files.live) offset = tail_of_file(files.live.get(), files.live_bytes, left);
    } else {
      auto fd = open_log_file(files.paths[i]);
      struct stat info {};
      if (!fd || fstat(fd->get(), &info) != 0) continue;
      offset = tail_of_file(fd->get(), static_cast<std::uint64_t>(info.st_size), left);
    }
    if (left < 0) return {i, offset};
  }
  return {};
}

namespace {
class LogStream final : public ByteStream, public std::enable_shared_from_this<LogStream> {
 public:
  LogStream(Engine& engine, LogStreamOptions options)
      : engine_(engine), options_(std::move(options)), filter_(options_.filter) {}

  Result<void> open() {
    ORC_ASSIGN(LogFiles files, open_log_files(options_.live_path));
    if (options_.tail_lines) {
      const LogPosition from = tail_position(files, *options_.tail_lines);
      files.paths.erase(files.paths.begin(), files.paths.begin() + static_cast<long>(from.file));
      offset_ = from.offset;
    }
    files_ = std::move(files.paths);
    first_live_ = std::move(files.live);
    first_live_bytes_ = files.live_bytes;
    return {};
  }

  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> promise;
    auto pending = promise.pending();
    attempt(promise, std::max<std::size_t>(1, bytes_max));
    return pending;
  }

  void close() override {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  void attempt(Promise<std::string> promise, std::size_t bytes_max) {
    auto queued = engine_.post_blocking(
        [self = shared_from_this(), promise, bytes_max] { self->work(promise, bytes_max); });
    if (!queued) promise.set(queued.error());
  }

  void work(const Promise<std::string>& promise, std::size_t bytes_max) {
    auto answer = take(bytes_max);
    // Outside the lock: the reader may call close() from its callback.
    if (answer) return promise.set(std::move(*answer));
    engine_.after(kFollowPause,
                  [self = shared_from_this(), promise, bytes_max] { self->attempt(promise, bytes_max); });
  }

  /// The next bytes, empty at the end; nullopt: nothing is there yet, look again.
  std::optional<Result<std::string>> take(std::size_t bytes_max) {
    std::lock_guard lock(mutex_);
    if (closed_) return Error(Error::cancelled, "logs", "the log stream was closed");
    while (out_.size() < bytes_max && !filter_.limit_reached()) {
      // "ended" is asked before reading: what was written before the end is then surely read.
      const bool ended = !options_.follow || !options_.ended || options_.ended();
      auto got = read_some();
      if (!got) return got.error();
      if (*got) continue;
      if (!out_.empty()) break;
      if (ended) return std::string();
      return std::nullopt;
    }
    std::string chunk = out_.substr(0, bytes_max);
    out_.erase(0, chunk.size());
    return chunk;
  }

  /// Feeds the next raw bytes; false when nothing more is there at the moment.
  Result<bool> read_some() {
    if (!fd_) {
      if (files_.empty()) return false;
      live_ = files_.front() == options_.live_path;
      if (live_ && first_live_) {
        fd_ = std::move(first_live_);  // whatever its name is by now
      } else if (live_ && !options_.follow) {
        return false;  // it was not there at the call
      } else {
        auto fd = open_log_file(files_.front());
        if (!fd) {
          if (!fd.error().is(Error::not_found)) return fd.error();
          if (files_.size() == 1) return false;  // the live file is not there yet
          files_.erase(files_.begin());
          return true;
        }
        fd_ = std::move(*fd);
      }
    }
    char buffer[kReadBytes];
    std::size_t most = sizeof buffer;
    // Without following, what there was at the call: else "the last 5 lines" are 6 now and then.
    if (live_ && !options_.follow)
      most = std::min<std::uint64_t>(most, first_live_bytes_ - std::min(first_live_bytes_, offset_));
    const ssize_t got = pread(fd_.get(), buffer, most, static_cast<off_t>(offset_));
    if (got < 0) return system_error("logs", "pread", options_.live_path, errno);
    if (got > 0) {
      offset_ += static_cast<std::uint64_t>(got);
      filter_.feed({buffer, static_cast<std::size_t>(got)}, out_);
      return true;
    }
    if (live_ && (!options_.follow || !rotated())) return false;
    // This file is complete: go on with the one that follows it.
    if (live_) {
      files_ = younger_files();
    } else {
      files_.erase(files_.begin());
    }
    fd_.reset();
    offset_ = 0;
    return true;
  }

  /// The live name belongs to another file now, and this one has nothing more.
  bool rotated() const {
    if (access(options_.live_path.c_str(), F_OK) != 0 || is_file(fd_.get(), options_.live_path)) return false;
    char buffer[1];
    return pread(fd_.get(), buffer, 1, static_cast<off_t>(offset_)) == 0;
  }
  /// Those after the one that is open: there may have been several rotations since.
  std::vector<std::string> younger_files() const {
    std::vector<std::string> files = log_files(options_.live_path);
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (is_file(fd_.get(), files[i])) return {files.begin() + static_cast<long>(i) + 1, files.end()};
    }
    return {options_.live_path};
  }

  Engine& engine_;
  LogStreamOptions options_;
  std::mutex mutex_;
  CriFilter filter_;
  std::vector<std::string> files_;
  std::uint64_t offset_ = 0;
  Fd fd_, first_live_;
  std::uint64_t first_live_bytes_ = 0;
  bool live_ = false, closed_ = false;
  std::string out_;
};
}  // namespace

Result<std::shared_ptr<ByteStream>> open_log_stream(Engine& engine, LogStreamOptions options) {
  auto stream = std::make_shared<LogStream>(engine, std::move(options));
  ORC_TRY(stream->open());
  return std::shared_ptr<ByteStream>(stream);
}

}  // namespace orchestra::logs
