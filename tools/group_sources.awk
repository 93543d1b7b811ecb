# Which sources are compiled together: prints `GROUP<tab>FILE`, so that no two files of a group define the same
# name in an anonymous namespace, as a static or as a macro, all have the same using directives, and no group
# passes LINES lines.
#   awk -v LINES=2000 -f tools/group_sources.awk FILE..
# A file that holds the words `compile: alone` in a comment gets a group of its own. First fit, in the order of
# the arguments. Read by CMakeLists.txt; names are taken from lines that begin in the first column, which the
# format check ensures.
function flush_file(   g, name, fits) {
  if (file == "") return
  for (g = 0; g < groups; g++) {
    if (closed[g] || alone || size[g] + lines > LINES || opened[g] != opens) continue
    fits = 1
    for (name in names) if ((g, name) in taken) { fits = 0; break }
    if (fits) break
  }
  if (g == groups) groups++
  closed[g] = alone
  opened[g] = opens
  size[g] += lines
  for (name in names) taken[g, name] = 1
  print g "\t" file
  for (name in names) delete names[name]
}
function note(line,   text) {
  text = line
  if (text ~ /^(struct|class|union|enum class|enum) [A-Za-z_]/) {
    sub(/^(struct|class|union|enum class|enum) /, "", text)
    match(text, /^[A-Za-z_0-9]+/)
    names[substr(text, 1, RLENGTH)] = 1
    return
  }
  sub(/^using /, "", text)
  sub(/[(={;\[].*/, "", text)
  sub(/[^A-Za-z0-9_]+$/, "", text)
  if (match(text, /[A-Za-z_][A-Za-z0-9_]*$/)) names[substr(text, RSTART)] = 1
}
FNR == 1 { flush_file(); file = FILENAME; lines = 0; inside = 0; alone = 0; opens = "" }
{ lines++ }
/^using namespace / { opens = opens $0; next }
/^\/\/.*compile: alone/ { alone = 1 }
/^namespace \{/ { inside = 1; next }
/^\}  \/\/ namespace$/ { inside = 0; next }
/^#define / { split($2, macro, "("); names[macro[1]] = 1; next }
inside && /^[A-Za-z_\[]/ && !/^(namespace|template|public|private|return)/ { note($0); next }
/^static / { note($0) }
END { flush_file() }
