// Writing tar: ustar headers, with a PAX header in front where a field does not fit. No clock, no names of
// users, no leftovers: the same entries always make the same bytes.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/assert.hpp"
#include "image/tar.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kBlockBytes = 512;
constexpr std::uint64_t kOctalMax8 = 07777777;
constexpr std::uint64_t kOctalMax12 = 077777777777;

void put_text(char* field, std::size_t size, std::string_view text) {
  std::memcpy(field, text.data(), std::min(size, text.size()));
}
void put_octal(char* field, std::size_t size, std::uint64_t value) {
  std::snprintf(field, size, "%0*llo", static_cast<int>(size - 1), static_cast<unsigned long long>(value));
}

/// "LENGTH KEY=VALUE\n", where LENGTH counts itself.
std::string pax_record(const std::string& key, const std::string& value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + std::to_string(rest).size();
  length = rest + std::to_string(length).size();
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

std::string header_block(const std::string& path, const std::string& link, char type, const TarEntry& entry,
                         std::uint64_t size) {
  std::string block(kBlockBytes, '\0');
  char* at = block.data();
  put_text(at, 100, path);
  put_octal(at + 100, 8, entry.mode & 07777);
  put_octal(at + 108, 8, std::min<std::uint64_t>(entry.uid, kOctalMax8));
  put_octal(at + 116, 8, std::min<std::uint64_t>(entry.gid, kOctalMax8));
  put_octal(at + 124, 12, std::min(size, kOctalMax12));
  put_octal(at + 136, 12,
            static_cast<std::uint64_t>(std::clamp<std::int64_t>(entry.mtime_s, 0, kOctalMax12)));
  at[156] = type;
  put_text(at + 157, 100, link);
  std::memcpy(at + 257,
              "ustar\0"
              "00",
              8);
  if (type == '3' || type == '4') {
    put_octal(at + 329, 8, std::min<std::uint64_t>(entry.device_major, kOctalMax8));
    put_octal(at + 337, 8, std::min<std::uint64_t>(entry.device_minor, kOctalMax8));
  }
  std::memset(at + 148, ' ', 8);
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  std::snprintf(at + 148, 8, "%06llo", static_cast<unsigned long long>(sum));
  at[155] = ' ';
  return block;
}

std::string time_text(std::int64_t seconds, std::uint32_t nanoseconds) {
  const bool negative = seconds < 0;
  std::uint64_t whole = static_cast<std::uint64_t>(negative ? -seconds : seconds);
  std::uint32_t fraction = nanoseconds;
  if (negative && nanoseconds > 0) {
    whole -= 1;
    fraction = 1'000'000'000 - nanoseconds;
  }
  char digits[16];
  std::snprintf(digits, sizeof digits, ".%09u", fraction);
  return (negative ? "-" : "") + std::to_string(whole) + (fraction == 0 ? "" : digits);
}

}  // namespace

Result<void> TarWriter::header(const TarEntry& entry, char type, std::uint64_t size) {
  std::string path = entry.path;
  if (entry.type == TarType::directory && !path.ends_with('/')) path += '/';
  std::string records;
  if (path.size() > 100) records += pax_record("path", path);
  if (entry.link.size() > 100) records += pax_record("linkpath", entry.link);
  if (size > kOctalMax12) records += pax_record("size", std::to_string(size));
  if (entry.uid > kOctalMax8) records += pax_record("uid", std::to_string(entry.uid));
  if (entry.gid > kOctalMax8) records += pax_record("gid", std::to_string(entry.gid));
  const bool odd_time = entry.mtime_s < 0 || entry.mtime_s > static_cast<std::int64_t>(kOctalMax12);
  if (odd_time || entry.mtime_ns != 0)
    records += pax_record("mtime", time_text(entry.mtime_s, entry.mtime_ns));
  for (const auto& [name, value] : entry.xattrs) records += pax_record("SCHILY.xattr." + name, value);
  if (!records.empty()) {
    TarEntry plain;
    plain.mode = 0644;
    ORC_TRY(sink_(header_block("PaxHeaders.0", "", 'x', plain, records.size())));
    records.resize((records.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
    ORC_TRY(sink_(records));
  }
  return sink_(header_block(path, entry.link, type, entry, size));
}

Result<void> TarWriter::begin(const TarEntry& entry) {
  ORC_ASSERT(left_ == 0 && padding_ == 0);
  const std::uint64_t size = entry.type == TarType::file ? entry.size : 0;
  ORC_TRY(header(entry, static_cast<char>(entry.type), size));
  left_ = size;
  padding_ = (kBlockBytes - size % kBlockBytes) % kBlockBytes;
  return {};
}

Result<void> TarWriter::write(std::string_view bytes) {
  ORC_ASSERT(bytes.size() <= left_);
  left_ -= bytes.size();
  return sink_(bytes);
}

Result<void> TarWriter::end_entry() {
  ORC_ASSERT(left_ == 0);
  const std::string zeros(static_cast<std::size_t>(padding_), '\0');
  padding_ = 0;
  return zeros.empty() ? Result<void>() : sink_(zeros);
}

Result<void> TarWriter::add(const TarEntry& entry, std::string_view content) {
  TarEntry sized = entry;
  sized.size = content.size();
  ORC_TRY(begin(sized));
  if (sized.type == TarType::file) ORC_TRY(write(content));
  return end_entry();
}

Result<void> TarWriter::finish() { return sink_(std::string(2 * kBlockBytes, '\0')); }

}  // namespace orchestra::image
