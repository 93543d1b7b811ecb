// The rules of the house, read from the sources: layers, clocks, compiler traps, unfinished marks.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;

namespace {
const fs::path kRoot = ORCHESTRA_SOURCE_DIR;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<fs::path> sources(const std::vector<std::string>& folders) {
  std::vector<fs::path> out;
  for (const std::string& folder : folders) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      const std::string extension = entry.path().extension();
      if (extension == ".cpp" || extension == ".hpp" || extension == ".h" || extension == ".c")
        out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// Comments, strings and character literals blanked, line breaks kept.
std::string code_of(const std::string& text) {
  std::string out = text;
  enum { code, line_comment, comment, string, character, raw } state = code;
  std::string delimiter;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (state == code) {
      if (c == '/' && next == '/')
        state = line_comment;
      else if (c == '/' && next == '*')
        state = comment;
      else if (c == 'R' && next == '"') {
        delimiter = ")" + text.substr(i + 2, text.find('(', i) - i - 2) + "\"";
        state = raw;
      } else if (c == '"') {
        state = string;
        continue;
      } else if (c == '\'' && (i == 0 || !std::isxdigit(static_cast<unsigned char>(text[i - 1])))) {
        state = character;
        continue;
      }
    } else if (state == line_comment && c == '\n')
      state = code;
    else if (state == comment && c == '/' && i > 0 && text[i - 1] == '*') {
      out[i] = ' ';
      state = code;
      continue;
    } else if (state == string && c == '\\') {
      out[i] = out[i + 1] = ' ';
      ++i;
      continue;
    } else if (state == character && c == '\\') {
      out[i] = out[i + 1] = ' ';
      ++i;
      continue;
    } else if (state == string && c == '"') {
      state = code;
      continue;
    } else if (state == character && c == '\'') {
      state = code;
      continue;
    } else if (state == raw && text.compare(i, delimiter.size(), delimiter) == 0) {
      for (std::size_t k = 0; k < delimiter.size(); ++k) out[i + k] = ' ';
      i += delimiter.size() - 1;
      state = code;
      continue;
    }
    if (state != code && c != '\n') out[i] = ' ';
  }
  return out;
}

std::string shown(const fs::path& path) { return fs::relative(path, kRoot).string(); }
std::size_t line_of(const std::string& text, std::size_t at) {
  return static_cast<std::size_t>(std::count(text.begin(), text.begin() + static_cast<long>(at), '\n')) + 1;
}
}  // namespace

TEST_CASE("every #include goes down the layer table, and the table has no circle") {
  // FOLDER or "FOLDER (shell)" -> folders it may include besides itself and base.
  std::map<std::string, std::set<std::string>> table;
  std::istringstream lines(read(kRoot / "tools/layers.txt"));
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t colon = line.find(':');
    REQUIRE(colon != std::string::npos);
    std::istringstream words(line.substr(colon + 1));
    auto& allowed = table[line.substr(0, colon)];
    for (std::string word; words >> word;) allowed.insert(word);
  }
  const auto folder_of = [&](const std::string& path) {  // below src/
    std::string best;
    for (const auto& [name, allowed] : table) {
      const std::string folder = name.substr(0, name.find(' '));
      if (path.compare(0, folder.size() + 1, folder + "/") == 0 && folder.size() > best.size()) best = folder;
    }
    return best;
  };
  const std::regex include(R"(^\s*#\s*include\s*\"([^\"]+)\")");
  std::size_t seen = 0;
  for (const fs::path& path : sources({"src"})) {
    const std::string relative = fs::relative(path, kRoot / "src").string();
    const std::string folder = folder_of(relative);
    CAPTURE(relative);
    if (folder.empty()) {
      FAIL_CHECK("this folder is not in tools/layers.txt");
      continue;
    }
    const bool shell =
        relative.find("/shell/") != std::string::npos || path.filename().string().rfind("wire.", 0) == 0;
    const std::string key = shell && table.count(folder + " (shell)") != 0 ? folder + " (shell)" : folder;
    std::istringstream text(read(path));
    for (std::string line; std::getline(text, line);) {
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string target = match[1];
      if (target.rfind("orchestra/", 0) == 0 || !fs::exists(kRoot / "src" / target)) continue;
      ++seen;
      const std::string other = folder_of(target);
      const bool fine = other == folder || other == "base" || table[key].count(other) != 0;
      CAPTURE(target);
      CHECK_MESSAGE(fine, "an edge that tools/layers.txt does not list");
    }
  }
  CHECK(seen > 100);
  // No circle among folders.
  for (const auto& [start, ignored] : table) {
    std::set<std::string> reached;
    std::vector<std::string> open{start.substr(0, start.find(' '))};
    while (!open.empty()) {
      const std::string at = open.back();
      open.pop_back();
      for (const std::string& key : {at, at + " (shell)"}) {
        const auto it = table.find(key);
        if (it == table.end()) continue;
        for (const std::string& next : it->second) {
          if (next != at && reached.insert(next).second) open.push_back(next);
        }
      }
    }
    CHECK_MESSAGE(reached.count(start.substr(0, start.find(' '))) == 0, "circle through " << start);
  }
}

TEST_CASE("public headers include only the standard library and orchestra/") {
  const std::regex include(R"(^\s*#\s*include\s*[<\"]([^>\"]+)[>\"])");
  for (const fs::path& path : sources({"include"})) {
    std::istringstream text(read(path));
    for (std::string line; std::getline(text, line);) {
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string target = match[1];
      const bool fine = target.rfind("orchestra/", 0) == 0 || target.find('/') == std::string::npos;
      CHECK_MESSAGE(fine, shown(path) << " includes " << target);
    }
  }
}

TEST_CASE("Beast is included in src/net/http only") {
  for (const fs::path& path : sources({"src", "include", "bindings", "examples"})) {
    if (shown(path).rfind("src/net/http/", 0) == 0) continue;
    CHECK_MESSAGE(read(path).find("boost/beast") == std::string::npos, shown(path));
  }
}

TEST_CASE("clocks, random devices and sleeps occur in src/base/os_*.cpp only") {
  const std::regex forbidden(
      R"((system_clock|steady_clock|high_resolution_clock)::now|std::random_device|\brand\(\)|sleep_for|sleep_until|\busleep\(|[^_:]\bsleep\()");
  for (const fs::path& path : sources({"src"})) {
    const std::string name = shown(path);
    if (name.rfind("src/base/os_", 0) == 0 || name.find("/freestanding/") != std::string::npos) continue;
    const std::string code = code_of(read(path));
    std::smatch match;
    if (std::regex_search(code, match, forbidden)) {
      FAIL_CHECK(name << ":" << line_of(code, static_cast<std::size_t>(match.position())) << " has "
                      << match.str());
    }
  }
  CHECK(std::regex_search(std::string("auto t = std::chrono::steady_clock::now();"), forbidden));
}

namespace {
/// Lines where co_await shares a full expression with a braced temporary or a capturing lambda: g++ 12 then
/// destroys some temporaries twice (STYLE.md section 10).
std::vector<std::size_t> coawait_traps(const std::string& text) {
  const std::string code = code_of(text);
  std::vector<std::size_t> lines;
  for (std::size_t at = code.find("co_await"); at != std::string::npos; at = code.find("co_await", at + 8)) {
    bool bad = false;
    // Backwards to the start of the statement: an open brace that is no block means an initialiser.
    int depth = 0;
    for (std::size_t i = at; i-- > 0;) {
      const char c = code[i];
      if (c == ')' || c == '}') ++depth;
      if (c == '(' && depth > 0) --depth;
      if (c == ';' && depth == 0) break;
      if (c != '{') continue;
      if (depth > 0) {
        --depth;
        continue;
      }
      std::size_t before = i;
      while (before > 0 && std::isspace(static_cast<unsigned char>(code[before - 1]))) --before;
      const char last = before > 0 ? code[before - 1] : ';';
      bad = std::isalnum(static_cast<unsigned char>(last)) || last == '=' || last == ',' || last == '(' ||
            last == '>';
      for (const char* word : {"else", "do", "try", "const", "noexcept", "mutable"}) {
        const std::string w = word;
        if (before >= w.size() && code.compare(before - w.size(), w.size(), w) == 0) bad = false;
      }
      break;
    }
    // Forwards to its end.
    for (std::size_t i = at + 8; i < code.size() && code[i] != ';' && !bad; ++i) {
      if (code[i] == '{') bad = true;
      if (code[i] == '[' && i + 1 < code.size() && code[i + 1] != ']') {
        std::size_t before = i;
        while (before > 0 && std::isspace(static_cast<unsigned char>(code[before - 1]))) --before;
        const char last = before > 0 ? code[before - 1] : ' ';
        bad = last == '(' || last == ',' || last == '=';
      }
    }
    if (bad) lines.push_back(line_of(code, at));
  }
  return lines;
}
}  // namespace

TEST_CASE("no co_await stands beside a braced temporary or a capturing lambda") {
  CHECK(coawait_traps("void f() {\n  auto a = co_await store.list({.ns = x});\n}").size() == 1);
  CHECK(coawait_traps("void f() { co_await retry([self] { return 1; }); }").size() == 1);
  CHECK(coawait_traps("void f() { Pod pod{.image = co_await images.resolve(ref)}; }").size() == 1);
  CHECK(coawait_traps("void f() { if (x) { auto page = co_await store.list(options); } }").empty());
  CHECK(coawait_traps("// co_await f({1});\nvoid f() { const char* s = \"co_await g({1})\"; }").empty());
  for (const fs::path& path : sources({"src", "include", "examples", "bindings"})) {
    for (const std::size_t line : coawait_traps(read(path)))
      FAIL_CHECK(shown(path) << ":" << line << ": name the value first");
  }
}

TEST_CASE("no unfinished marks are left in the code") {
  const std::regex mark(R"(\b(TODO|FIXME|XXX|HACK)\b|not (yet )?implemented|unimplemented|for now\b)");
  for (const fs::path& path : sources({"src", "include", "bindings", "examples", "bench"})) {
    std::istringstream text(read(path));
    std::size_t number = 0;
    for (std::string line; std::getline(text, line);) {
      ++number;
      if (std::regex_search(line, mark)) FAIL_CHECK(shown(path) << ":" << number << ": " << line);
    }
  }
}

TEST_CASE("no package registry is named anywhere") {
  // Assembled here, so that this file does not name one either.
  const std::vector<std::string> hosts{std::string("registry.npm") + "js.org", std::string("py") + "pi.org",
                                       std::string("proxy.go") + "lang.org",
                                       std::string("deb.deb") + "ian.org"};
  for (const char* folder : {"src", "include", "tests", "examples", "tools", "docs", "bench", "bindings"}) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (!entry.is_regular_file() || entry.file_size() > 4 << 20) continue;
      const std::string text = read(entry.path());
      for (const std::string& host : hosts)
        CHECK_MESSAGE(text.find(host) == std::string::npos, shown(entry.path()) << " names " << host);
    }
  }
}
