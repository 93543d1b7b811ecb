// The line structure of Dockerfiles, then each instruction's own checks.
#include "image/build/dockerfile.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/json.hpp"

namespace orchestra::image {
namespace {

constexpr std::array<std::string_view, 18> kNames{
    "ADD",   "ARG",        "CMD",     "COPY", "ENTRYPOINT", "ENV",        "EXPOSE", "FROM",   "HEALTHCHECK",
    "LABEL", "MAINTAINER", "ONBUILD", "RUN",  "SHELL",      "STOPSIGNAL", "USER",   "VOLUME", "WORKDIR"};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}
std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }
std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

Error bad(int line, const std::string& why) {
  return Error(Error::invalid, "image", "line " + std::to_string(line) + ": " + why);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

Error unknown_instruction(int line, const std::string& name) {
  std::string_view nearest;
  std::size_t distance = 3;
  for (const std::string_view known : kNames) {
    const std::size_t now = edit_distance(name.substr(0, 20), known);
    if (now < distance) {
      distance = now;
      nearest = known;
    }
  }
  return bad(line, "unknown instruction " + name.substr(0, 40) +
                       (nearest.empty() ? "" : "; did you mean " + std::string(nearest) + "?"));
}

/// Joined lines of one instruction.
struct LogicalLine {
  int line = 0;
  std::string text;
  std::vector<Heredoc> heredocs;
};

/// The heredocs that a RUN, COPY or ADD line opens: `<<WORD`, `<<-WORD`, `<<"WORD"` outside of quotes.
std::vector<Heredoc> find_heredocs(std::string_view text) {
  std::vector<Heredoc> out;
  const std::string name = upper(text.substr(0, text.find_first_of(" \t")));
  if (name != "RUN" && name != "COPY" && name != "ADD") return out;
  char quote = 0;
  for (std::size_t i = 0; i + 2 < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++i;
      if (c == quote) quote = 0;
      continue;
    }
    if (c == '"' || c == '\'') quote = c;
    if (c == '\\') ++i;
    if (c != '<' || text[i + 1] != '<') continue;
    if (text[i + 2] == '<' || (i > 0 && text[i - 1] == '<')) continue;  // a here-string
    Heredoc one;
    std::size_t at = i + 2;
    if (text[at] == '-') one.strip_tabs = true, ++at;
    const char mark = at < text.size() ? text[at] : '\0';
    if (mark == '"' || mark == '\'') one.expand = false, ++at;
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_' ||
                                text[at] == '.' || text[at] == '-'))
      one.name += text[at++];
    const bool one_quoted = !one.expand;
    const bool closed = one.expand || (at < text.size() && text[at] == mark);
    const bool good = !one.name.empty() && closed &&
                      (std::isalpha(static_cast<unsigned char>(one.name[0])) != 0 || one.name[0] == '_');
    if (good) out.push_back(std::move(one));
    i = one_quoted && at < text.size() ? at : at - 1;  // also behind the closing quote
  }
  return out;
}

struct Lines {
  char escape = '\\';
  std::vector<LogicalLine> lines;
};

/// `# name=value` at the very top. True if it was a directive.
Result<bool> take_directive(std::string_view line, int number, std::map<std::string, std::string>& seen) {
  std::string_view text = trim(line);
  if (!text.starts_with('#')) return false;
  text = trim(text.substr(1));
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string name = lower(trim(text.substr(0, equals)));
  const std::string value(trim(text.substr(equals + 1)));
  if (name != "escape" && name != "syntax" && name != "check") return false;
  if (!seen.emplace(name, value).second) return bad(number, "the directive " + name + " was given twice");
  return true;
}

/// The lines of one document; `start` and `number` go on behind its end.
Result<void> read_heredoc(std::string_view text, std::size_t& start, int& number, Heredoc& document) {
  const int begun = number;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = text.substr(start, end - start);
    start = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    std::string_view stripped = line;
    while (stripped.starts_with('\t')) stripped.remove_prefix(1);
    if ((document.strip_tabs ? stripped : line) == document.name) return {};
    document.content += std::string(document.strip_tabs ? stripped : line) + "\n";
  }
  return bad(begun, "the heredoc <<" + document.name + " has no line \"" + document.name + "\" that ends it");
}

Result<Lines> join_lines(std::string_view text) {
  Lines out;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::map<std::string, std::string> directives;
  bool at_top = true, open = false;
  LogicalLine current;
  int number = 0;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = text.substr(start, end - start);
    start = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find('\0') != std::string_view::npos) return bad(number, "a zero byte");
    if (at_top) {
      ORC_ASSIGN(const bool directive, take_directive(line, number, directives));
      if (directive) continue;
      at_top = false;
      if (const auto escape = directives.find("escape"); escape != directives.end()) {
        if (escape->second != "\\" && escape->second != "`") return bad(1, "escape must be \\ or `");
        out.escape = escape->second[0];
      }
      if (const auto syntax = directives.find("syntax"); syntax != directives.end()) {
        if (syntax->second.find("docker/dockerfile") == std::string::npos) {
          return Error(
              Error::unsupported, "image",
              "line 1: syntax " + syntax->second + " is another frontend; only docker/dockerfile is known");
        }
      }
    }
    const std::string_view trimmed = trim(line);
    if (trimmed.empty() || trimmed.front() == '#') continue;  // also between continued lines
    std::string_view body = open ? line : trimmed;
    while (!body.empty() && is_blank(body.back())) body.remove_suffix(1);
    const bool continues = body.ends_with(out.escape);
    if (continues) body.remove_suffix(1);
    if (!open) current = {number, {}};
    current.text += body;
    open = continues;
    if (open) continue;
    current.heredocs = find_heredocs(current.text);
    for (Heredoc& document : current.heredocs) ORC_TRY(read_heredoc(text, start, number, document));
    out.lines.push_back(std::move(current));
  }
  if (open && !trim(current.text).empty()) out.lines.push_back(std::move(current));
  return out;
}

/// Flags are words `--name[=value]` before the first other word.
void take_flags(Instruction& instruction) {
  std::string_view text = trim(instruction.rest);
  while (text.starts_with("--")) {
    std::size_t end = 0;
    while (end < text.size() && !is_blank(text[end])) ++end;
    const std::string_view word = text.substr(2, end - 2);
    if (word.empty()) {  // a lone "--" ends the flags
      text = trim(text.substr(end));
      break;
    }
    const std::size_t equals = word.find('=');
    instruction.flags.emplace_back(lower(word.substr(0, equals)), equals == std::string_view::npos
                                                                      ? ""
                                                                      : std::string(word.substr(equals + 1)));
    text = trim(text.substr(end));
  }
  instruction.rest = text;
}

/// The exec form, if it is a JSON list of strings.
std::optional<std::vector<std::string>> exec_form(std::string_view text) {
  text = trim(text);
  if (!text.starts_with('[')) return std::nullopt;
  const auto parsed = parse_json(text);
  if (!parsed || !parsed->is_array()) return std::nullopt;
  std::vector<std::string> out;
  for (const json::value& item : parsed->as_array()) {
    if (!item.is_string()) return std::nullopt;
    out.emplace_back(item.as_string());
  }
  return out;
}

Result<void> check_flags(const Instruction& instruction) {
  static const std::map<std::string, std::vector<std::string>> kAllowed{
      {"COPY", {"from", "chown", "chmod", "link", "parents", "exclude"}},
      {"ADD", {"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"}},
      {"RUN", {"mount", "network", "security"}},
      {"FROM", {"platform"}},
      {"HEALTHCHECK", {"interval", "timeout", "start-period", "start-interval", "retries"}},
  };
  for (const auto& [name, value] : instruction.flags) {
    const auto allowed = kAllowed.find(instruction.name);
    const bool known = allowed != kAllowed.end() && std::find(allowed->second.begin(), allowed->second.end(),
                                                              name) != allowed->second.end();
    const bool is_switch = name == "link" || name == "parents" || name == "keep-git-dir" || name == "unpack";
    if (known && is_switch && !value.empty() && value != "true" && value != "false")
      return bad(instruction.line,
                 instruction.name + " --" + name + "=" + value + " is neither true nor false");
    if (known && (is_switch || !value.empty())) continue;
    if (known) return bad(instruction.line, instruction.name + " --" + name + " needs a value");
    return Error(
        Error::unsupported, "image",
        "line " + std::to_string(instruction.line) + ": " + instruction.name + " does not support --" + name);
  }
  return {};
}

Result<void> check_instruction(const Instruction& instruction) {
  ORC_TRY(check_flags(instruction));
  const std::string& name = instruction.name;
  const bool is_empty = trim(instruction.rest).empty();
  if (is_empty && name != "CMD" && name != "ENTRYPOINT") {
    return bad(instruction.line, name + " needs an argument");
  }
  if (name == "SHELL" && (!instruction.exec || instruction.exec->empty())) {
    return bad(instruction.line, "SHELL needs the JSON form: SHELL [\"/bin/sh\", \"-c\"]");
  }
  if (name == "COPY" || name == "ADD") {
    const std::size_t words =
        instruction.exec ? instruction.exec->size() : split_words(instruction.rest, '\\').size();
    if (words < 2) return bad(instruction.line, name + " needs a source and a destination");
  }
  if (name == "STOPSIGNAL" || name == "USER") {
    if (split_words(instruction.rest, '\\').size() != 1)
      return bad(instruction.line, name + " takes one argument");
  }
  if (name == "ONBUILD") {
    const std::string inner = upper(trim(instruction.rest).substr(0, trim(instruction.rest).find(' ')));
    if (inner == "ONBUILD" || inner == "FROM" || inner == "MAINTAINER") {
      return bad(instruction.line, "ONBUILD " + inner + " is not allowed");
    }
  }
  return {};
}

Result<Stage> parse_from(const Instruction& instruction) {
  Stage stage;
  stage.line = instruction.line;
  if (const std::string* platform = instruction.flag("platform")) stage.platform = *platform;
  const auto words = split_words(instruction.rest, '\\');
  const bool named = words.size() == 3 && lower(words[1]) == "as";
  if (words.size() != 1 && !named) return bad(instruction.line, "write FROM IMAGE or FROM IMAGE AS NAME");
  stage.base = words[0];
  if (named) {
    stage.name = lower(words[2]);
    const bool good = std::isalpha(static_cast<unsigned char>(stage.name[0])) != 0 &&
                      std::all_of(stage.name.begin(), stage.name.end(), [](unsigned char c) {
                        return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
                      });
    if (!good) return bad(instruction.line, "\"" + words[2] + "\" cannot name a stage");
  }
  return stage;
}

Result<Instruction> parse_instruction(const LogicalLine& line) {
  std::string_view text = trim(line.text);
  std::size_t end = 0;
  while (end < text.size() && !is_blank(text[end])) ++end;
  Instruction out;
  out.line = line.line;
  out.name = upper(text.substr(0, end));
  out.rest = trim(text.substr(end));
  out.heredocs = line.heredocs;
  if (std::find(kNames.begin(), kNames.end(), out.name) == kNames.end())
    return unknown_instruction(line.line, out.name);
  const bool takes_flags = out.name == "COPY" || out.name == "ADD" || out.name == "FROM" ||
                           out.name == "RUN" || out.name == "HEALTHCHECK";
  if (takes_flags) take_flags(out);
  const bool takes_exec = out.name == "RUN" || out.name == "CMD" || out.name == "ENTRYPOINT" ||
                          out.name == "SHELL" || out.name == "COPY" || out.name == "ADD" ||
                          out.name == "VOLUME";
  if (takes_exec) out.exec = exec_form(out.rest);
  ORC_TRY(check_instruction(out));
  return out;
}

}  // namespace

std::string Instruction::text() const {
  std::string out = name;
  for (const auto& [flag_name, value] : flags) out += " --" + flag_name + (value.empty() ? "" : "=" + value);
  if (!rest.empty()) out += " " + rest;
  return out;
}

std::string Instruction::shell_text() const {
  std::string out = rest;
  for (const Heredoc& document : heredocs) out += "\n" + document.content + document.name;
  return out;
}

std::vector<std::string> Instruction::flags_of(std::string_view wanted) const {
  std::vector<std::string> out;
  for (const auto& [flag_name, value] : flags) {
    if (flag_name == wanted) out.push_back(value);
  }
  return out;
}

const std::string* Instruction::flag(std::string_view wanted) const {
  for (const auto& [flag_name, value] : flags) {
    if (flag_name == wanted) return &value;
  }
  return nullptr;
}

Result<Dockerfile> parse_dockerfile(std::string_view text) {
  if (text.size() > kDockerfileBytesMax)
    return Error(Error::too_large, "image", "a Dockerfile of more than 1 MiB");
  ORC_ASSIGN(const Lines lines, join_lines(text));
  Dockerfile out;
  out.escape = lines.escape;
  if (lines.lines.size() > kInstructionsMax)
    return Error(Error::too_large, "image", "more than 10,000 instructions");
  for (const LogicalLine& line : lines.lines) {
    ORC_ASSIGN(Instruction instruction, parse_instruction(line));
    if (instruction.name == "FROM") {
      ORC_ASSIGN(Stage stage, parse_from(instruction));
      for (const Stage& other : out.stages) {
        if (!stage.name.empty() && other.name == stage.name) {
          return bad(stage.line,
                     "the stage name \"" + stage.name + "\" was used on line " + std::to_string(other.line));
        }
      }
      out.stages.push_back(std::move(stage));
    } else if (out.stages.empty()) {
      if (instruction.name != "ARG")
        return bad(instruction.line, instruction.name + " before the first FROM");
      out.global_args.push_back(std::move(instruction));
    } else {
      if (instruction.name == "MAINTAINER") {
        out.warnings.push_back("line " + std::to_string(instruction.line) +
                               ": MAINTAINER is deprecated; use LABEL org.opencontainers.image.authors=");
      }
      out.stages.back().instructions.push_back(std::move(instruction));
    }
  }
  if (out.stages.empty()) return bad(1, "no FROM: a Dockerfile begins with FROM IMAGE or FROM scratch");
  return out;
}

}  // namespace orchestra::image
