#pragma once
// Dockerfiles as values: stages of instructions with their line numbers. Pure.
//
// Follows the Dockerfile reference: parser directives only at the top, comments also inside of
// continuations, shell and exec form (bad JSON is shell form), flags before the arguments. Nothing is
// expanded here: words and values keep their quotes and dollars until the build knows the variables.
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::image {

inline constexpr std::size_t kDockerfileBytesMax = 1 << 20;
inline constexpr std::size_t kInstructionsMax = 10'000;

/// `<<WORD` of RUN, COPY and ADD, with the lines up to WORD.
struct Heredoc {
  std::string name, content;
  bool expand = true;       ///< WORD was not quoted
  bool strip_tabs = false;  ///< `<<-`
};

struct Instruction {
  std::string name;                                        ///< upper case
  int line = 0;                                            ///< of its first line, from 1
  std::vector<std::pair<std::string, std::string>> flags;  ///< --chown=a:b -> {"chown", "a:b"}
  std::string rest;                                        ///< what follows the flags, lines joined
  std::optional<std::vector<std::string>> exec;            ///< the JSON form, where one was given
  std::vector<Heredoc> heredocs;                           ///< in the order in which they are named
  std::string text() const;                                ///< for messages and history
  /// RUN with heredocs, as a shell reads it: the line, then the documents.
  std::string shell_text() const;

  const std::string* flag(std::string_view name) const;
  std::vector<std::string> flags_of(std::string_view name) const;  ///< repeated ones
};

struct Stage {
  std::string base;  ///< as written, variables not expanded
  std::string name;  ///< lower case, or empty
  std::string platform;
  int line = 0;
  std::vector<Instruction> instructions;
};

struct Dockerfile {
  char escape = '\\';
  std::vector<Instruction> global_args;  ///< ARG before the first FROM
  std::vector<Stage> stages;
  std::vector<std::string> warnings;
};

/// Errors begin with "line N: " and name the instruction.
Result<Dockerfile> parse_dockerfile(std::string_view text);

/// Splits at blanks outside of quotes; quotes and escapes stay in the words.
std::vector<std::string> split_words(std::string_view text, char escape);
/// The values of ENV, LABEL, ARG: `A=1 B="two words"`, or the old form `A all of the rest`.
Result<std::vector<std::pair<std::string, std::string>>> split_assignments(const Instruction& instruction,
                                                                           char escape);

using Variables = std::map<std::string, std::string>;
/// Expands $x ${x} ${x:-default} ${x:+other} and takes quotes and escapes away, as a shell would for one
/// word. Unknown variables are empty. `used` collects the names that were looked up.
Result<std::string> expand_word(std::string_view word, const Variables& variables, char escape,
                                std::vector<std::string>* used = nullptr);
/// The same for the text of a heredoc: variables and escaped dollars only, quotes stay.
Result<std::string> expand_text(std::string_view text, const Variables& variables, char escape);

}  // namespace orchestra::image
