// Dockerfiles: structure, words, ignore patterns.
#include "image/build/dockerfile.hpp"

#include "image/build/ignore.hpp"
#include "image/build/run_mounts.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image;

namespace {

/// The whole parse as text: what a changed behaviour would change.
std::string printed(const std::string& text) {
  const auto parsed = parse_dockerfile(text);
  if (!parsed) return parsed.error().message();
  std::string out;
  for (const Instruction& arg : parsed->global_args) out += "global " + arg.text() + "\n";
  for (const Stage& stage : parsed->stages) {
    out += "stage " + stage.base + (stage.name.empty() ? "" : " as " + stage.name) +
           (stage.platform.empty() ? "" : " on " + stage.platform) + "\n";
    for (const Instruction& one : stage.instructions) {
      out += std::to_string(one.line) + " " + one.name;
      for (const auto& [name, value] : one.flags) out += " {" + name + "=" + value + "}";
      if (one.exec) {
        for (const std::string& word : *one.exec) out += " [" + word + "]";
      } else {
        out += " " + one.rest;
      }
      out += "\n";
    }
  }
  for (const std::string& warning : parsed->warnings) out += "warning " + warning + "\n";
  return out;
}

struct Row {
  const char* text;
  const char* want;
};

}  // namespace

TEST_CASE("Dockerfiles are read as written") {
  const Row rows[] = {
      {"FROM scratch\n", "stage scratch\n"},
      {"from scratch\ncopy a b\n", "stage scratch\n2 COPY a b\n"},
      {"FROM a AS One\nFROM one as two\n", "stage a as one\nstage one as two\n"},
      {"ARG V=1\nFROM a:$V\n", "global ARG V=1\nstage a:$V\n"},
      {"FROM --platform=linux/arm64 a\n", "stage a on linux/arm64\n"},
      {"FROM a\nRUN one && \\\n  two\n", "stage a\n2 RUN one &&   two\n"},
      {"FROM a\nRUN one \\\n# a comment\n  && two\n", "stage a\n2 RUN one   && two\n"},
      {"FROM a\nRUN one \\\n\n  && two\n", "stage a\n2 RUN one   && two\n"},
      {"FROM a\nRUN one \\  \n  two\n", "stage a\n2 RUN one   two\n"},
      {"# escape=`\nFROM a\nRUN one `\n two\n", "stage a\n3 RUN one  two\n"},
      {"# syntax=docker/dockerfile:1.4\nFROM a\n", "stage a\n"},
      {"# a comment\n# escape=`\nFROM a\nRUN a \\\nb\n", "stage a\n4 RUN a b\n"},
      {"FROM a\r\nRUN x\r\n", "stage a\n2 RUN x\n"},
      {"\xef\xbb\xbf"
       "FROM a\n",
       "stage a\n"},
      {"FROM a\nRUN [\"a\", \"b c\"]\n", "stage a\n2 RUN [a] [b c]\n"},
      {"FROM a\nRUN ['a']\n", "stage a\n2 RUN ['a']\n"},
      {"FROM a\nCMD [\"a\", 1]\n", "stage a\n2 CMD [\"a\", 1]\n"},
      {"FROM a\nCMD\n", "stage a\n2 CMD \n"},
      {"FROM a\nCOPY --from=b --chown=1:2 --chmod=0644 x y /z/\n",
       "stage a\n2 COPY {from=b} {chown=1:2} {chmod=0644} x y /z/\n"},
      {"FROM a\nCOPY [\"a b\", \"/c/\"]\n", "stage a\n2 COPY [a b] [/c/]\n"},
      {"FROM a\nHEALTHCHECK --interval=5s CMD curl localhost\n",
       "stage a\n2 HEALTHCHECK {interval=5s} CMD curl localhost\n"},
      {"FROM a\nMAINTAINER me\n",
       "stage a\n2 MAINTAINER me\nwarning line 2: MAINTAINER is deprecated; use LABEL "
       "org.opencontainers.image.authors=\n"},
      {"FROM a\nRUN cat <<< word\n", "stage a\n2 RUN cat <<< word\n"},
      {"FROM a\nRUN echo $((1<<2))\n", "stage a\n2 RUN echo $((1<<2))\n"},
      // what is wrong, where, and what was probably meant
      {"", "line 1: no FROM: a Dockerfile begins with FROM IMAGE or FROM scratch"},
      {"RUN x\n", "line 1: RUN before the first FROM"},
      {"FROM a\n\nCOPPY a b\n", "line 3: unknown instruction COPPY; did you mean COPY?"},
      {"FROM a\nFOOBARBAZ x\n", "line 2: unknown instruction FOOBARBAZ"},
      {"FROM\n", "line 1: FROM needs an argument"},
      {"FROM a b c d\n", "line 1: write FROM IMAGE or FROM IMAGE AS NAME"},
      {"FROM a AS 1x\n", "line 1: \"1x\" cannot name a stage"},
      {"FROM a AS b\nFROM c AS B\n", "line 2: the stage name \"b\" was used on line 1"},
      {"FROM a\nCOPY x\n", "line 2: COPY needs a source and a destination"},
      {"FROM a\nCOPY --link x y\n", "stage a\n2 COPY {link=} x y\n"},
      {"FROM a\nCOPY --checksum=x x y\n", "line 2: COPY does not support --checksum"},
      {"FROM a\nCOPY --from x y\n", "line 2: COPY --from needs a value"},
      {"FROM a\nRUN --mount=type=cache,target=/x y\n", "stage a\n2 RUN {mount=type=cache,target=/x} y\n"},
      {"FROM a\nRUN --device=x y\n", "line 2: RUN does not support --device"},
      {"FROM a\nRUN <<EOF\nx\n", "line 2: the heredoc <<EOF has no line \"EOF\" that ends it"},
      {"FROM a\nCOPY --link=x a b\n", "line 2: COPY --link=x is neither true nor false"},
      {"FROM a\nSHELL sh -c\n", "line 2: SHELL needs the JSON form: SHELL [\"/bin/sh\", \"-c\"]"},
      {"FROM a\nUSER a b\n", "line 2: USER takes one argument"},
      {"FROM a\nONBUILD FROM b\n", "line 2: ONBUILD FROM is not allowed"},
      {"# escape=x\nFROM a\n", "line 1: escape must be \\ or `"},
      {"# escape=\\\n# escape=`\nFROM a\n", "line 2: the directive escape was given twice"},
      {"# syntax=other/frontend\nFROM a\n",
       "line 1: syntax other/frontend is another frontend; only docker/dockerfile is known"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(printed(row.text) == row.want);
  }
}

TEST_CASE("variables are expanded as in a shell word") {
  const Variables variables{{"a", "1"}, {"empty", ""}, {"path", "/x/y"}};
  const Row rows[] = {
      {"$a", "1"},
      {"${a}", "1"},
      {"x${a}y", "x1y"},
      {"$a$a", "11"},
      {"$missing", ""},
      {"${missing:-other}", "other"},
      {"${empty:-other}", "other"},
      {"${a:-other}", "1"},
      {"${a:+other}", "other"},
      {"${empty:+other}", ""},
      {"${missing:-${a}}", "1"},
      {"${missing:-a b}", "a b"},
      {"'$a'", "$a"},
      {"\"$a b\"", "1 b"},
      {"\\$a", "$a"},
      {"\"\\$a\"", "$a"},
      {"\"\\n\"", "\\n"},
      {"a\\ b", "a b"},
      {"$", "$"},
      {"$$", "$$"},
      {"${path}/z", "/x/y/z"},
      {"\"a\"'b'c", "abc"},
      {"${a", "!malformed"},
      {"${missing:-x", "!without its }"},
      {"${a@x}", "!only - + ?"},
      {"${missing-other}", "other"},
      {"${empty-other}", ""},
      {"${empty+other}", "other"},
      {"${missing+other}", ""},
      {"${a:?no}", "1"},
      {"${missing?is needed}", "!missing: is needed"},
      {"${path#*/}", "x/y"},
      {"${path##*/}", "y"},
      {"${path%/*}", "/x"},
      {"${path%%/*}", ""},
      {"${path/x/z}", "/z/y"},
      {"${path//\\//-}", "-x-y"},
      {"${path/nothing/z}", "/x/y"},
      {"'a", "!without its end"},
      {"\"a", "!without its end"},
      {"${}", "!malformed"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto value = expand_word(row.text, variables, '\\');
    const std::string want = row.want;
    if (want.starts_with('!')) {
      REQUIRE_FALSE(value);
      CHECK(value.error().message().find(want.substr(1)) != std::string::npos);
    } else {
      REQUIRE(value);
      CHECK(*value == want);
    }
  }
}

TEST_CASE("heredocs belong to their instruction, and the next line is the next instruction") {
  const auto file = parse_dockerfile(
      "FROM a\nRUN <<EOF\n  one $x\nRUN no\nEOF\nCOPY <<-\"A\" <<B /to/\n\ttab\n\tA\nb\nB\nRUN cat <<X > "
      "f\nx\nX\nENV a=b\n");
  REQUIRE_MESSAGE(file, (file ? "" : file.error().message()));
  const auto& all = file->stages[0].instructions;
  REQUIRE(all.size() == 4);
  REQUIRE(all[0].heredocs.size() == 1);
  CHECK(all[0].heredocs[0].content == "  one $x\nRUN no\n");
  CHECK(all[0].heredocs[0].expand);
  REQUIRE(all[1].heredocs.size() == 2);
  CHECK(all[1].heredocs[0].content == "tab\n");
  CHECK_FALSE(all[1].heredocs[0].expand);
  CHECK(all[1].heredocs[1].content == "b\n");
  CHECK(all[2].shell_text() == "cat <<X > f\nx\nX");
  CHECK(all[3].name == "ENV");
  CHECK(all[3].line == 14);
}

TEST_CASE("mounts of RUN are read, defaults filled in, and unknown keys named") {
  const auto good = parse_mount("type=cache,target=/c,sharing=locked,uid=5,mode=0700").value();
  CHECK(good.id == "/c");
  CHECK(good.sharing == "locked");
  CHECK(good.uid == 5);
  CHECK(good.mode == 0700);
  CHECK(parse_mount("target=/b").value().read_only);
  CHECK_FALSE(parse_mount("target=/b,rw").value().read_only);
  CHECK(parse_mount("type=secret,id=key").value().target == "/run/secrets/key");
  CHECK(parse_mount("type=secret,id=key,env=KEY").value().target.empty());
  CHECK(parse_mount("type=ssh").value().target == "/run/buildkit/ssh_agent.0");
  const auto why = [](const char* text) { return parse_mount(text).error().message(); };
  CHECK(why("type=disk,target=/x").find("type=disk is not") != std::string::npos);
  CHECK(why("target=/x,colour=red").find("\"colour\" is not known") != std::string::npos);
  CHECK(why("type=cache").find("needs target=") != std::string::npos);
  CHECK(why("type=cache,target=/x,sharing=all").find("sharing=all") != std::string::npos);
}

TEST_CASE("assignments keep quotes until they are expanded") {
  const auto split = [](const std::string& rest) {
    Instruction instruction;
    instruction.name = "ENV";
    instruction.rest = rest;
    const auto pairs = split_assignments(instruction, '\\');
    if (!pairs) return "!" + pairs.error().message();
    std::string out;
    for (const auto& [name, value] : *pairs) out += name + "|" + value + ";";
    return out;
  };
  CHECK(split("A=1 B=2") == "A|1;B|2;");
  CHECK(split("A=\"1 2\" B='3 4'") == "A|\"1 2\";B|'3 4';");
  CHECK(split("A=1\\ 2") == "A|1\\ 2;");
  CHECK(split("A all of it") == "A|all of it;");
  CHECK(split("A=1 B") == "!line 0: ENV \"B\" is not NAME=VALUE");
  CHECK(split("A") == "!line 0: ENV needs NAME=VALUE");
  CHECK(split("=x") == "!line 0: ENV has a value without a name: =x");
}

TEST_CASE(".dockerignore: the last match wins, parents count, ** crosses directories") {
  const IgnoreList list("# comment\n*.log\n**/node_modules\nbuild/\n!build/keep.txt\ndocs/**/*.md\n/top\n");
  const auto ignored = [&](const char* path) { return list.ignores(path); };
  CHECK(ignored("a.log"));
  CHECK_FALSE(ignored("sub/a.log"));
  CHECK(ignored("node_modules"));
  CHECK(ignored("a/b/node_modules/x.js"));
  CHECK(ignored("build"));
  CHECK(ignored("build/out.o"));
  CHECK_FALSE(ignored("build/keep.txt"));
  CHECK(ignored("docs/a.md"));
  CHECK(ignored("docs/x/y/a.md"));
  CHECK_FALSE(ignored("docs/a.txt"));
  CHECK(ignored("top"));
  CHECK_FALSE(ignored("a/top"));
  CHECK(list.may_take_back());
}

TEST_CASE("path patterns follow filepath.Match") {
  CHECK(match_path("*", "abc"));
  CHECK_FALSE(match_path("*", "a/b"));
  CHECK(match_path("a?c", "abc"));
  CHECK(match_path("[a-c]x", "bx"));
  CHECK_FALSE(match_path("[^a-c]x", "bx"));
  CHECK(match_path("a\\*b", "a*b"));
  CHECK(match_path("**", "a/b/c"));
  CHECK(match_path("**/c", "c"));
  CHECK(match_path("a/**/c", "a/c"));
  CHECK(match_path("a*b*c", "aXbYbZc"));
  CHECK_FALSE(match_path("a*b*c", "aXbYbZ"));
  CHECK_FALSE(match_path("[", "a"));
}
