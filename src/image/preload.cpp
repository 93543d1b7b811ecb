// Images that come with the program: every archive and layout in the preload folders, imported at start.
//
// DIR/preloads.json remembers path, size and modification time of what was imported, so that the next
// start looks at each file once and reads none. A file that changed, or whose images were removed, is
// imported again. A broken file is logged by name; the start goes on.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.hpp"
#include "image/import.hpp"
#include "image/policy.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kRecordBytesMax = 4 << 20;

struct Candidate {
  std::string path;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  std::string stamp() const { return std::to_string(size) + " " + std::to_string(mtime_ns); }
};

std::optional<Candidate> candidate(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  if (S_ISDIR(status.st_mode) && ::stat((path + "/index.json").c_str(), &status) != 0) return std::nullopt;
  if (!S_ISREG(status.st_mode)) return std::nullopt;
  Candidate out{path, static_cast<std::uint64_t>(status.st_size),
                static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
  return out;
}

/// What one preload path stands for: itself (archive, layout) or what lies in the folder; hidden files and
/// those still being written (.part, .tmp) are not meant.
std::vector<Candidate> candidates(const std::string& place) {
  std::vector<Candidate> out;
  if (auto self = candidate(place)) {
    out.push_back(std::move(*self));
    return out;
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(place.c_str()), ::closedir);
  if (!stream) return out;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name.starts_with('.') || name.ends_with(".part") || name.ends_with(".tmp")) continue;
    if (auto one = candidate(place + "/" + name)) out.push_back(std::move(*one));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return out;
}

/// True if every image of this record still has its pinned name.
bool still_there(const Store& store, const json::value& record) {
  const json::array* digests = array_at(record, "/images");
  if (digests == nullptr || digests->empty()) return false;
  const auto names = store.names();
  return std::all_of(digests->begin(), digests->end(), [&](const json::value& digest) {
    return std::any_of(names.begin(), names.end(), [&](const NameRecord& name) {
      return digest.is_string() && name.pinned && name.manifest == digest.as_string();
    });
  });
}

}  // namespace

void import_preloads(Store& store) {
  Engine& engine = store.engine();
  const std::string record_path = store.directory() + "/preloads.json";
  json::value records = json::object();
  if (auto text = read_file(record_path, kRecordBytesMax)) {
    if (auto parsed = parse_json(*text); parsed && parsed->is_object()) records = std::move(*parsed);
  }
  json::object next;
  for (const std::string& place : store.options().preload_dirs) {
    for (const Candidate& file : candidates(place)) {
      const json::value* known = records.as_object().if_contains(file.path);
      if (known != nullptr && string_at(*known, "/stamp") == file.stamp() && still_there(store, *known)) {
        next[file.path] = *known;
        continue;
      }
      ImportOptions options;
      options.pinned = true;
      auto report = import_archive(store, file.path, options);
      if (!report) {
        tell(store, true, "PreloadFailed",
             "preloaded image " + file.path + " left out: " + report.error().to_string());
        continue;
      }
      json::array digests;
      std::string names;
      for (const ImageInfo& image : report->images) {
        digests.push_back(json::value(image.digest));
        names += (names.empty() ? "" : " ") + (image.reference.empty() ? image.digest : image.reference);
      }
      engine.log(LogLevel::info, "image", "preloaded", {{"file", file.path}, {"images", names}});
      next[file.path] = json::object{{"stamp", file.stamp()}, {"images", std::move(digests)}};
    }
  }
  if (json::value(next) == records) return;
  if (auto written = replace_file(record_path, to_json(next), 0600, false); !written) {
    engine.log(LogLevel::warning, "image", "cannot remember preloads",
               {{"error", written.error().to_string()}});
  }
}

}  // namespace orchestra::image
