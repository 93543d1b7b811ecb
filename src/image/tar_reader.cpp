// Reading tar: POSIX.1-2017 pax, the GNU extensions, and no trust in any field.
//
// Sparse files: the old GNU form has its map in the header, PAX 0.0 repeats two keywords, 0.1 has one
// list, 1.0 puts the map in front of the data. All end as TarEntry::extents.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/assert.hpp"
#include "image/tar.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kBlockBytes = 512;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 50;

std::string_view text_field(const char* field, std::size_t size) {
  return {field, static_cast<std::size_t>(std::find(field, field + size, '\0') - field)};
}

/// Octal with blanks around it, or base-256 when the first bit is set.
std::optional<std::int64_t> number_field(const char* field, std::size_t size) {
  const auto first = static_cast<unsigned char>(field[0]);
  if ((first & 0x80) != 0) {
    // Two's complement, big endian, the top bit being the mark. More than 63 bits cannot be meant.
    const bool negative = (first & 0x40) != 0;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < size; ++i) {
      auto byte = static_cast<unsigned char>(field[i]);
      if (i == 0) byte = static_cast<unsigned char>(negative ? byte | 0x80 : byte & 0x7f);
      const auto lost = value >> 55;
      if (lost != (negative ? 0x1ffU : 0U)) return std::nullopt;
      value = value << 8 | byte;
    }
    return static_cast<std::int64_t>(value);
  }
  std::uint64_t value = 0;
  std::size_t i = 0;
  while (i < size && (field[i] == ' ' || field[i] == '\0')) ++i;
  for (; i < size && field[i] >= '0' && field[i] <= '7'; ++i) {
    if (value >> 60 != 0) return std::nullopt;
    value = value << 3 | static_cast<std::uint64_t>(field[i] - '0');
  }
  for (; i < size; ++i) {
    if (field[i] != ' ' && field[i] != '\0') return std::nullopt;
  }
  return static_cast<std::int64_t>(value);
}

std::optional<std::uint64_t> decimal(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "-1.25" -> -2 s and 750,000,000 ns: nanoseconds always count up.
bool parse_time(std::string_view text, std::int64_t& seconds, std::uint32_t& nanoseconds) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const std::size_t dot = std::min(text.find('.'), text.size());
  const auto whole = decimal(text.substr(0, dot));
  if (!whole || *whole > (std::uint64_t{1} << 40)) return false;
  std::uint32_t fraction = 0;
  std::string digits(text.substr(std::min(dot + 1, text.size())));
  digits.resize(9, '0');
  for (const char c : digits) {
    if (c < '0' || c > '9') return false;
    fraction = fraction * 10 + static_cast<std::uint32_t>(c - '0');
  }
  seconds = static_cast<std::int64_t>(*whole);
  if (negative) {
    seconds = fraction == 0 ? -seconds : -seconds - 1;
    fraction = fraction == 0 ? 0 : 1'000'000'000 - fraction;
  }
  nanoseconds = fraction;
  return true;
}

}  // namespace

struct TarReader::Block {
  char bytes[kBlockBytes];
  bool empty() const {
    return std::all_of(bytes, bytes + kBlockBytes, [](char c) { return c == 0; });
  }
  std::optional<std::int64_t> number(std::size_t offset, std::size_t size) const {
    return number_field(bytes + offset, size);
  }
  std::string_view text(std::size_t offset, std::size_t size) const {
    return text_field(bytes + offset, size);
  }
  char type() const { return bytes[156]; }
  bool is_gnu() const { return std::memcmp(bytes + 257, "ustar  ", 8) == 0; }
  bool is_ustar() const { return std::memcmp(bytes + 257, "ustar\0", 6) == 0; }
  /// The sum of all bytes with the checksum field as blanks; old tars summed signed characters.
  bool checksum_fits() const {
    std::int64_t plain = 0, with_sign = 0;
    for (std::size_t i = 0; i < kBlockBytes; ++i) {
      const char c = i >= 148 && i < 156 ? ' ' : bytes[i];
      plain += static_cast<unsigned char>(c);
      with_sign += static_cast<signed char>(c);
    }
    const auto stored = number(148, 8);
    return stored && (*stored == plain || *stored == with_sign);
  }
};

TarReader::TarReader(ByteSource& source, TarLimits limits) : source_(source), limits_(limits) {}

Error TarReader::bad(const std::string& why) const {
  return Error(Error::corrupt, "image",
               "tar at byte " + std::to_string(position_) + (current_.empty() ? "" : " (" + current_ + ")") +
                   ": " + why);
}

/// False if the input ends before the first byte; an end in the middle is an error.
Result<bool> TarReader::read_exact(char* bytes, std::size_t size) {
  std::size_t filled = 0;
  while (filled < size) {
    ORC_ASSIGN(const std::size_t got, source_.read(bytes + filled, size - filled));
    if (got == 0) {
      if (filled == 0) return false;
      return bad("the archive is cut short");
    }
    filled += got;
    position_ += got;
  }
  return true;
}

Result<void> TarReader::skip_data() {
  char buffer[16 << 10];
  std::uint64_t left = data_left_ + padding_;
  while (left > 0) {
    const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(left, sizeof buffer));
    ORC_ASSIGN(const bool more, read_exact(buffer, step));
    if (!more) return bad("the archive is cut short");
    left -= step;
  }
  data_left_ = padding_ = 0;
  return {};
}

Result<std::string> TarReader::read_metadata(std::uint64_t size, std::string_view what) {
  if (size > limits_.pax_bytes_max) {
    return Error(Error::too_large, "image",
                 std::string(what) + " of " + std::to_string(size) + " bytes; the limit is " +
                     std::to_string(limits_.pax_bytes_max));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  ORC_ASSIGN(const bool more, read_exact(text.data(), text.size()));
  if (!more && size > 0) return bad("the archive is cut short");
  data_left_ = 0;
  padding_ = (kBlockBytes - size % kBlockBytes) % kBlockBytes;
  ORC_TRY(skip_data());
  return text;
}

namespace {
/// "LENGTH KEY=VALUE\n" records. Calls `record` for each; false if malformed.
template <class Call>
bool parse_records(std::string_view text, Call record) {
  while (!text.empty()) {
    // Some writers pad with zeros.
    if (text.front() == '\0') return text.find_first_not_of('\0') == std::string_view::npos;
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return false;
    const auto length = decimal(text.substr(0, space));
    if (!length || *length > text.size() || *length < space + 3) return false;
    const std::string_view line = text.substr(space + 1, *length - space - 1);
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0 || line.back() != '\n') return false;
    record(std::string(line.substr(0, equals)),
           std::string(line.substr(equals + 1, line.size() - equals - 2)));
    text.remove_prefix(static_cast<std::size_t>(*length));
  }
  return true;
}
}  // namespace

Result<std::optional<TarEntry>> TarReader::next() {
  if (ended_) return std::optional<TarEntry>();
  ORC_TRY(skip_data());
  records_ = global_;
  sparse_numbers_.clear();
  long_path_.clear();
  long_link_.clear();
  current_.clear();
  for (std::size_t headers = 0; headers < 64; ++headers) {
    Block block;
    ORC_ASSIGN(const bool more, read_exact(block.bytes, kBlockBytes));
    if (!more || block.empty()) {
      ended_ = true;
      return std::optional<TarEntry>();
    }
    if (!block.checksum_fits()) return bad("the header's checksum is wrong");
    const auto size = block.number(124, 12);
    if (!size || *size < 0 || static_cast<std::uint64_t>(*size) > kFileBytesMax)
      return bad("the size field is no size");
    const auto bytes = static_cast<std::uint64_t>(*size);
    switch (block.type()) {
      case 'x':
      case 'g': {
        ORC_ASSIGN(const std::string text, read_metadata(bytes, "a PAX header"));
        Records& into = block.type() == 'g' ? global_ : records_;
        const bool good = parse_records(text, [&](std::string key, std::string value) {
          if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
            sparse_numbers_.push_back(std::move(value));
          } else {
            into[std::move(key)] = std::move(value);
          }
        });
        if (!good) return bad("the PAX header is malformed");
        if (block.type() == 'g') records_.insert(global_.begin(), global_.end());
        break;
      }
      case 'L': {
        ORC_ASSIGN(const std::string text, read_metadata(bytes, "a long name"));
        long_path_ = text_field(text.data(), text.size());
        break;
      }
      case 'K': {
        ORC_ASSIGN(const std::string text, read_metadata(bytes, "a long link"));
        long_link_ = text_field(text.data(), text.size());
        break;
      }
      default: {
        if (++entries_ > limits_.entries_max) {
          return Error(Error::too_large, "image",
                       "more than " + std::to_string(limits_.entries_max) + " entries");
        }
        ORC_ASSIGN(TarEntry entry, entry_of(block, bytes));
        return std::optional<TarEntry>(std::move(entry));
      }
    }
  }
  return bad("more than 64 headers for one entry");
}

Result<TarEntry> TarReader::entry_of(const Block& block, std::uint64_t size) {
  TarEntry entry;
  entry.path = block.text(0, 100);
  if (block.is_ustar()) {
    if (const auto prefix = block.text(345, 155); !prefix.empty())
      entry.path = std::string(prefix) + "/" + entry.path;
  }
  if (!long_path_.empty()) entry.path = long_path_;
  entry.link = long_link_.empty() ? std::string(block.text(157, 100)) : long_link_;
  current_ = entry.path.substr(0, 200);

  const auto mode = block.number(100, 8), uid = block.number(108, 8), gid = block.number(116, 8);
  const auto mtime = block.number(136, 12);
  const auto major = block.number(329, 8), minor = block.number(337, 8);
  if (!mode || !uid || !gid || !mtime) return bad("a numeric field of the header is damaged");
  entry.mode = static_cast<std::uint32_t>(*mode) & 07777;
  entry.uid = static_cast<std::uint32_t>(*uid);
  entry.gid = static_cast<std::uint32_t>(*gid);
  entry.mtime_s = *mtime;
  entry.size = size;

  switch (block.type()) {
    case '\0':
    case '0':
    case '7':
    case 'S':
      // Before POSIX a directory was a file whose name ended in a slash.
      entry.type = entry.path.ends_with('/') ? TarType::directory : TarType::file;
      break;
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
      entry.type = static_cast<TarType>(block.type());
      break;
    default:
      return Error(Error::unsupported, "image",
                   "tar entry " + current_ + " has type '" + std::string(1, block.type()) + "'");
  }
  if (entry.type == TarType::character_device || entry.type == TarType::block_device) {
    if (!major || !minor || *major < 0 || *minor < 0) return bad("the device number is damaged");
    entry.device_major = static_cast<std::uint32_t>(*major);
    entry.device_minor = static_cast<std::uint32_t>(*minor);
  }
  // Only files have a body, whatever the size field of others says (as Go's archive/tar reads them).
  data_left_ = size;
  ORC_TRY(apply_pax(records_, entry));
  if (entry.type != TarType::file) entry.size = data_left_ = 0;
  padding_ = (kBlockBytes - data_left_ % kBlockBytes) % kBlockBytes;
  if (block.type() == 'S') ORC_TRY(read_old_gnu_sparse(block, entry));
  if (records_.contains("GNU.sparse.major") || !sparse_numbers_.empty() ||
      records_.contains("GNU.sparse.map")) {
    ORC_TRY(read_sparse_map(entry));
  }
  ORC_TRY(check(entry));
  data_offset_ = position_;
  return entry;
}

Result<void> TarReader::apply_pax(const Records& records, TarEntry& entry) {
  std::size_t xattr_bytes = 0;
  for (const auto& [key, value] : records) {
    if (key == "path") {
      if (!value.empty()) entry.path = value;
    } else if (key == "linkpath") {
      if (!value.empty()) entry.link = value;
    } else if (key == "size") {
      const auto size = decimal(value);
      if (!size || *size > kFileBytesMax) return bad("the PAX size is no size");
      entry.size = data_left_ = *size;
    } else if (key == "uid" || key == "gid") {
      const auto id = decimal(value);
      if (!id || *id > 0xfffffffeU) return bad("the PAX " + key + " is no id");
      (key == "uid" ? entry.uid : entry.gid) = static_cast<std::uint32_t>(*id);
    } else if (key == "mtime") {
      if (!parse_time(value, entry.mtime_s, entry.mtime_ns)) return bad("the PAX mtime is no time");
    } else if (key.starts_with("SCHILY.xattr.")) {
      const std::string name = key.substr(13);
      xattr_bytes += name.size() + value.size();
      if (xattr_bytes > limits_.xattr_bytes_max) {
        return Error(Error::too_large, "image", entry.path + " has more than 64 KiB of extended attributes");
      }
      entry.xattrs[name] = value;
    }
  }
  current_ = entry.path.substr(0, 200);
  return {};
}

Result<void> TarReader::read_old_gnu_sparse(const Block& block, TarEntry& entry) {
  entry.sparse = true;
  const auto take = [&](const Block& from, std::size_t offset, int count) {
    for (int i = 0; i < count; ++i, offset += 24) {
      if (from.bytes[offset] == 0 && from.bytes[offset + 12] == 0) continue;
      const auto start = from.number(offset, 12), size = from.number(offset + 12, 12);
      if (!start || !size || *start < 0 || *size < 0) return false;
      entry.extents.push_back({static_cast<std::uint64_t>(*start), static_cast<std::uint64_t>(*size)});
    }
    return true;
  };
  const auto real_size = block.number(483, 12);
  if (!real_size || *real_size < 0 || !take(block, 386, 4)) return bad("the sparse map is damaged");
  entry.size = static_cast<std::uint64_t>(*real_size);
  for (bool more = block.bytes[482] != 0; more;) {
    Block next_block;
    ORC_ASSIGN(const bool got, read_exact(next_block.bytes, kBlockBytes));
    if (!got || !take(next_block, 0, 21)) return bad("the sparse map is damaged");
    if (entry.extents.size() > limits_.extents_max) return bad("the sparse map is too long");
    more = next_block.bytes[504] != 0;
  }
  return {};
}

Result<void> TarReader::read_sparse_map(TarEntry& entry) {
  entry.sparse = true;
  const auto record = [&](const char* key) {
    const auto found = records_.find(key);
    return found == records_.end() ? std::string() : found->second;
  };
  if (const std::string name = record("GNU.sparse.name"); !name.empty()) entry.path = name;
  std::string size = record("GNU.sparse.realsize");
  if (size.empty()) size = record("GNU.sparse.size");
  const auto real_size = decimal(size);
  if (!real_size || *real_size > kFileBytesMax) return bad("a sparse file has no size");
  entry.size = *real_size;

  std::vector<std::uint64_t> numbers;
  if (record("GNU.sparse.major") == "1") {
    // Decimal lines in front of the data, padded to a block: count, then offset and size of each.
    std::string line;
    std::uint64_t want = 1;
    while (numbers.size() < want) {
      Block block;
      if (data_left_ < kBlockBytes) return bad("the sparse map is cut short");
      ORC_ASSIGN(const bool got, read_exact(block.bytes, kBlockBytes));
      if (!got) return bad("the archive is cut short");
      data_left_ -= kBlockBytes;
      for (const char c : block.bytes) {
        if (numbers.size() >= want) break;
        if (c != '\n') {
          line += c;
          if (line.size() > 20) return bad("the sparse map is damaged");
          continue;
        }
        const auto number = decimal(line);
        if (!number) return bad("the sparse map is damaged");
        if (numbers.empty()) {
          if (*number > limits_.extents_max) return bad("the sparse map is too long");
          want = 1 + 2 * *number;
        }
        numbers.push_back(*number);
        line.clear();
      }
    }
    numbers.erase(numbers.begin());
  } else {
    std::vector<std::string> texts = sparse_numbers_;
    if (const std::string list = record("GNU.sparse.map"); !list.empty()) {
      texts.clear();
      for (std::size_t start = 0; start <= list.size();) {
        const std::size_t comma = std::min(list.find(',', start), list.size());
        texts.push_back(list.substr(start, comma - start));
        start = comma + 1;
      }
    }
    for (const std::string& text : texts) {
      const auto number = decimal(text);
      if (!number || numbers.size() > 2 * limits_.extents_max) return bad("the sparse map is damaged");
      numbers.push_back(*number);
    }
  }
  if (numbers.size() % 2 != 0) return bad("the sparse map is damaged");
  for (std::size_t i = 0; i < numbers.size(); i += 2) entry.extents.push_back({numbers[i], numbers[i + 1]});
  return {};
}

Result<void> TarReader::check(TarEntry& entry) const {
  if (entry.path.size() > limits_.path_bytes_max || entry.link.size() > limits_.path_bytes_max) {
    return Error(Error::too_large, "image",
                 "a path of more than 4096 bytes: " + entry.path.substr(0, 80) + "...");
  }
  if (entry.path.find('\0') != std::string::npos || entry.link.find('\0') != std::string::npos) {
    return bad("a name holds a zero byte");
  }
  for (std::size_t start = 0; start <= entry.path.size();) {
    const std::size_t slash = std::min(entry.path.find('/', start), entry.path.size());
    if (slash - start > limits_.name_bytes_max) {
      return Error(Error::too_large, "image",
                   "a name of more than 255 bytes: " + entry.path.substr(start, 80) + "...");
    }
    start = slash + 1;
  }
  if (!entry.sparse) return {};
  std::uint64_t end = 0, covered = 0;
  for (const TarEntry::Extent& extent : entry.extents) {
    if (extent.offset < end || extent.size > kFileBytesMax || extent.offset > kFileBytesMax) {
      return bad("the sparse map goes backwards");
    }
    end = extent.offset + extent.size;
    covered += extent.size;
  }
  if (end > entry.size || covered != data_left_) return bad("the sparse map does not fit the data");
  return {};
}

Result<std::size_t> TarReader::read(char* bytes, std::size_t size) {
  const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(size, data_left_));
  if (want == 0) return std::size_t{0};
  ORC_ASSIGN(const std::size_t got, source_.read(bytes, want));
  if (got == 0) return bad("the archive is cut short");
  position_ += got;
  data_left_ -= got;
  return got;
}

}  // namespace orchestra::image
