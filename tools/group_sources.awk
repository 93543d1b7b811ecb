# Which sources are compiled together: prints `GROUP<tab>FILE`, so that no two files of a group define the same
# name in an anonymous namespace, as a static or as a macro, all have the same using directives (unless MIXED is
# set), and no group passes LINES lines.
#   awk -v LINES=1700 [-v MIXED=1] -v ROOT=/path/to/source/ -f tools/group_sources.awk FILE..
# A file asks the groups in an order of its own, made from its name below ROOT, and takes the first that has room
# for it: what is added, grown or removed elsewhere seldom moves it, so that most groups stay as they were and the
# compiler cache knows them. A file that holds the words `compile: alone` in a comment gets a group of its own.
# Read by CMakeLists.txt; names are taken from lines that begin in the first column, which the format check ensures.
function hash(text,   i, h) {
  h = 17
  for (i = 1; i <= length(text); i++) h = (h * 31 + code[substr(text, i, 1)]) % 1000003
  return h
}
# How much a file likes a group.
function liking(file, g) { return ((key[file] % 9973) * (g + 1) * 7919 + (key[file] + g * 104729) * 31) % 1000003 }
# As many groups as the lines fill, in steps of an eighth: the number changes seldom.
function group_count(   wanted, count) {
  wanted = total / LINES
  for (count = 1; count < wanted;) count += int(count / 8) + 1
  return count
}
function fits(f, g,   name) {
  if (size[g] + lines[f] > LINES && size[g] > 0) return 0
  if (!MIXED && (g in opened) && opened[g] != opens[f]) return 0
  for (name = 1; name <= named[f]; name++) if ((g, names[f, name]) in taken) return 0
  return 1
}
function place(f,   g, best, tried, name) {
  if (alone[f]) return "alone" key[f]
  for (;;) {
    best = -1
    for (g = 0; g < groups; g++) if (!(g in tried) && (best < 0 || liking(f, g) > liking(f, best))) best = g
    if (best < 0) best = groups++  # nowhere is room
    if (fits(f, best)) break
    tried[best] = 1
  }
  size[best] += lines[f]
  opened[best] = opens[f]
  for (name = 1; name <= named[f]; name++) taken[best, names[f, name]] = 1
  return best
}
function note(line,   text) {
  text = line
  if (text ~ /^(struct|class|union|enum class|enum) [A-Za-z_]/) {
    sub(/^(struct|class|union|enum class|enum) /, "", text)
    match(text, /^[A-Za-z_0-9]+/)
    names[files, ++named[files]] = substr(text, 1, RLENGTH)
    return
  }
  sub(/^using /, "", text)
  sub(/[(={;\[].*/, "", text)
  sub(/[^A-Za-z0-9_]+$/, "", text)
  if (match(text, /[A-Za-z_][A-Za-z0-9_]*$/)) names[files, ++named[files]] = substr(text, RSTART)
}
BEGIN { for (i = 32; i < 127; i++) code[sprintf("%c", i)] = i }
FNR == 1 { file[++files] = FILENAME; key[files] = hash(substr(FILENAME, length(ROOT) + 1)); inside = 0; raw = "" }
{ lines[files]++; total++ }
raw != "" { if (index($0, raw)) raw = ""; next }  # the inner lines of a raw string
match($0, /R"[A-Za-z_]*\(/) {
  end = ")" substr($0, RSTART + 2, RLENGTH - 3) "\""
  if (!index(substr($0, RSTART + RLENGTH), end)) raw = end
}
/^using namespace std::[a-z]*_literals;/ { next }  # brings no names that another file could mean otherwise
/^using namespace / { opens[files] = opens[files] $0; next }
/^\/\/.*compile: alone/ { alone[files] = 1 }
/^namespace \{/ { inside = 1; next }
/^\}  \/\/ namespace$/ { inside = 0; next }
/^#define / { split($2, macro, "("); names[files, ++named[files]] = macro[1]; next }
/^[A-Z_]+\(/ { next }  # TEST_CASE(..) and its like make names of their own
/^using [a-z_A-Z:]+::[a-z_A-Z]+;/ { next }  # may be said twice
inside && /^[A-Za-z_\[]/ && !/^(namespace|template|public|private|return)/ { note($0); next }
/^static / { note($0) }
END {
  groups = group_count()
  for (f = 1; f <= files; f++) print place(f) "\t" file[f]
}
