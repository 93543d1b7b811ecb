#pragma once
// Reading container logs in CRI form: `TIME STREAM TAGS CONTENT\n`, tag F ends a line, P is a part of one.
//
// CriFilter is pure: it takes raw file bytes in order and gives the bytes a user sees (joined lines, times on
// request, since, limit). open_log_stream reads rotated files and then the live one, follows it across
// rotations, and ends when the container has ended and everything was read. Rules: spec/observability.md A.2.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/pod_streams.hpp"
#include "base/fd.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::logs {

struct CriRecord {
  std::string_view time, stream, content;
  bool full = true;  ///< F: ends a line
};
/// One record without its newline; nullopt if it is not one.
std::optional<CriRecord> parse_record(std::string_view line);
/// Nanoseconds since 1970 of a CRI or RFC 3339 time; nullopt if malformed.
std::optional<std::int64_t> parse_time(std::string_view text);

struct FilterOptions {
  bool timestamps = false;
  std::int64_t since_ns = 0;  ///< records before are left out
  std::optional<std::uint64_t> limit_bytes = std::nullopt;
};

class CriFilter {
 public:
  explicit CriFilter(FilterOptions options) : options_(options) {}
  /// Raw bytes in, user bytes appended to `out`. Incomplete records wait for the rest.
  void feed(std::string_view raw, std::string& out);
  bool limit_reached() const { return options_.limit_bytes && emitted_ >= *options_.limit_bytes; }

 private:
  void record(std::string_view line, std::string& out);
  void emit(std::string_view text, std::string& out);
  FilterOptions options_;
  std::string rest_;
  bool in_line_[2] = {false, false};  ///< stdout, stderr: a P record was the last one
  std::uint64_t emitted_ = 0;
};

/// The files of one attempt at one moment: names in reading order, the live one last and open.
struct LogFiles {
  std::vector<std::string> paths;
  Fd live;  ///< none: it is not there
  std::uint64_t live_bytes = 0;
};
Result<LogFiles> open_log_files(const std::string& live);

/// Index of the file and offset where the last `lines` whole lines of that moment begin.
struct LogPosition {
  std::size_t file = 0;
  std::uint64_t offset = 0;
};
LogPosition tail_position(const LogFiles& files, std::int64_t lines);

struct LogStreamOptions {
  std::string live_path;
  FilterOptions filter;
  std::optional<std::int64_t> tail_lines = std::nullopt;
  bool follow = false;
  std::function<bool()> ended;  ///< the container has ended and its log is complete
};
Result<std::shared_ptr<ByteStream>> open_log_stream(Engine& engine, LogStreamOptions options);

}  // namespace orchestra::logs
