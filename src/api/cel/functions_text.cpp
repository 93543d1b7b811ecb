// Strings, lists, sets, regular expressions, optionals: ext.Strings and ext.Sets of cel-go, and the list and
// regex libraries of apiserver/pkg/cel/library.
#include <re2/re2.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "api/cel/functions.hpp"

namespace orchestra::api::cel {
namespace {
constexpr std::size_t kResultBytesMax = 1 << 20;  // of one string that a function makes

/// Compiled patterns; RE2 is linear in the text whatever the pattern.
std::shared_ptr<const RE2> pattern_of(const std::string& text) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const RE2>> cache;
  constexpr std::size_t kCacheMax = 1024;
  std::lock_guard lock(mutex);
  if (const auto found = cache.find(text); found != cache.end()) return found->second;
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto made = std::make_shared<const RE2>(text, options);
  if (cache.size() >= kCacheMax) cache.clear();
  cache[text] = made;
  return made;
}
Value spend_text(Context& context, std::size_t bytes, Value value) {
  return context.spend(bytes / 10) ? std::move(value) : failure("over budget");
}
const std::string* text(const Arguments& a, std::size_t i) { return argument<std::string>(a, i); }
const std::int64_t* number(const Arguments& a, std::size_t i) { return argument<std::int64_t>(a, i); }

Value contains(Context& context, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("contains");
  return spend_text(context, text(a, 0)->size(), text(a, 0)->find(*text(a, 1)) != std::string::npos);
}
Value starts_with(Context&, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("startsWith");
  return text(a, 0)->starts_with(*text(a, 1));
}
Value ends_with(Context&, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("endsWith");
  return text(a, 0)->ends_with(*text(a, 1));
}
Value matches(Context& context, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("matches");
  const auto pattern = pattern_of(*text(a, 1));
  if (!pattern->ok()) return failure("error parsing regexp: " + pattern->error());
  return spend_text(context, text(a, 0)->size() * (text(a, 1)->size() / 4 + 1),
                    RE2::PartialMatch(*text(a, 0), *pattern));
}
Value find_one(Context& context, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("find");
  const auto pattern = pattern_of(*text(a, 1));
  if (!pattern->ok()) return failure("Illegal regex: " + pattern->error());
  re2::StringPiece found;
  const std::string& subject = *text(a, 0);
  if (!context.spend(subject.size() * (text(a, 1)->size() / 4 + 1) / 10)) return failure("over budget");
  if (!pattern->Match(subject, 0, subject.size(), RE2::UNANCHORED, &found, 1)) return "";
  return std::string(found.data(), found.size());
}
Value find_all(Context& context, Arguments& a) {
  if (a.size() < 2 || text(a, 0) == nullptr || text(a, 1) == nullptr) return no_overload("findAll");
  std::int64_t limit = -1;
  if (a.size() == 3) {
    if (number(a, 2) == nullptr) return no_overload("findAll");
    limit = *number(a, 2);
  }
  const auto pattern = pattern_of(*text(a, 1));
  if (!pattern->ok()) return failure("Illegal regex: " + pattern->error());
  const std::string& subject = *text(a, 0);
  if (!context.spend(subject.size() * (text(a, 1)->size() / 4 + 1) / 10)) return failure("over budget");
  std::vector<Value> out;
  re2::StringPiece found;
  for (std::size_t at = 0;
       at <= subject.size() && (limit < 0 || static_cast<std::int64_t>(out.size()) < limit);) {
    if (!pattern->Match(subject, at, subject.size(), RE2::UNANCHORED, &found, 1)) break;
    out.emplace_back(std::string(found.data(), found.size()));
    const auto end = static_cast<std::size_t>(found.data() - subject.data()) + found.size();
    at = found.empty() ? end + 1 : end;
    if (!context.spend(1)) return failure("over budget");
  }
  return make_list(std::move(out));
}

/// Positions are code points.
Value with_points(const Arguments& a, const char* name,
                  Value (*run)(const std::u32string&, const Arguments&)) {
  if (text(a, 0) == nullptr) return no_overload(name);
  const auto points = utf8_decode(*text(a, 0));
  return points ? run(*points, a) : failure("invalid UTF-8");
}
Value char_at(Context&, Arguments& a) {
  if (a.size() != 2 || number(a, 1) == nullptr) return no_overload("charAt");
  return with_points(a, "charAt", [](const std::u32string& s, const Arguments& args) -> Value {
    const std::int64_t at = *number(args, 1);
    if (at < 0 || at > static_cast<std::int64_t>(s.size()))
      return failure("index out of range: " + std::to_string(at));
    return utf8_encode(s.substr(static_cast<std::size_t>(at), 1));
  });
}
template <bool Last>
Value index_of(Context& context, Arguments& a) {
  const char* name = Last ? "lastIndexOf" : "indexOf";
  if (a.size() < 2) return no_overload(name);
  if (is_list(a[0])) {
    std::int64_t found = -1;
    for (std::size_t i = 0; i < size_of(a[0]); ++i) {
      if (!context.spend(1)) return failure("over budget");
      if (!equal(item(a[0], i), a[1])) continue;
      found = static_cast<std::int64_t>(i);
      if (!Last) break;
    }
    return found;
  }
  if (text(a, 1) == nullptr || (a.size() == 3 && number(a, 2) == nullptr)) return no_overload(name);
  if (!context.spend(text(a, 1)->size() / 10 + 1)) return failure("over budget");
  return with_points(a, name, [](const std::u32string& s, const Arguments& args) -> Value {
    const auto wanted = utf8_decode(*text(args, 1));
    if (!wanted) return failure("invalid UTF-8");
    std::size_t from = Last ? std::u32string::npos : 0;
    if (args.size() == 3) {
      const std::int64_t at = *number(args, 2);
      if (at < 0 || at > static_cast<std::int64_t>(s.size()))
        return failure("index out of range: " + std::to_string(at));
      from = static_cast<std::size_t>(at);
    }
    const std::size_t found = Last ? s.rfind(*wanted, from) : s.find(*wanted, from);
    return found == std::u32string::npos ? Value(std::int64_t{-1}) : Value(static_cast<std::int64_t>(found));
  });
}
template <bool Lower>
Value fold_case(Context& context, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload(Lower ? "lowerAscii" : "upperAscii");
  std::string out = *text(a, 0);
  for (char& c : out) {
    if (Lower && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    if (!Lower && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  }
  return spend_text(context, out.size(), out);
}
Value replace(Context& context, Arguments& a) {
  if (a.size() < 3 || a.size() > 4 || !text(a, 0) || !text(a, 1) || !text(a, 2))
    return no_overload("replace");
  std::int64_t left = -1;
  if (a.size() == 4) {
    if (number(a, 3) == nullptr) return no_overload("replace");
    left = *number(a, 3);
  }
  const std::string& subject = *text(a, 0);
  const std::string& from = *text(a, 1);
  const std::string& to = *text(a, 2);
  std::string out;
  std::size_t at = 0;
  while (at <= subject.size()) {
    const std::size_t found = left == 0 ? std::string::npos : subject.find(from, at);
    if (found == std::string::npos) break;
    out.append(subject, at, found - at);
    out += to;
    --left;
    if (out.size() > kResultBytesMax || !context.spend(to.size() / 10 + 1)) return failure("over budget");
    at = found + from.size();
    if (from.empty()) {
      if (at >= subject.size()) {
        at = subject.size();
        break;
      }
      out += subject[at++];
    }
  }
  if (at < subject.size()) out.append(subject, at);
  return spend_text(context, out.size(), out);
}
Value split_text(Context& context, Arguments& a) {
  if (a.size() < 2 || !text(a, 0) || !text(a, 1)) return no_overload("split");
  std::int64_t limit = -1;
  if (a.size() == 3) {
    if (number(a, 2) == nullptr) return no_overload("split");
    limit = *number(a, 2);
  }
  std::vector<Value> out;
  if (limit == 0) return make_list(std::move(out));
  const std::string& subject = *text(a, 0);
  const std::string& between = *text(a, 1);
  if (!context.spend(subject.size() / 10)) return failure("over budget");
  std::size_t at = 0;
  if (between.empty()) {
    const auto points = utf8_decode(subject);
    if (!points) return failure("invalid UTF-8");
    for (std::size_t i = 0; i < points->size(); ++i) {
      if (limit > 0 && static_cast<std::int64_t>(out.size()) + 1 == limit) {
        out.emplace_back(utf8_encode(std::u32string_view(*points).substr(i)));
        return make_list(std::move(out));
      }
      out.emplace_back(utf8_encode(std::u32string_view(*points).substr(i, 1)));
    }
    return make_list(std::move(out));
  }
  while (limit < 0 || static_cast<std::int64_t>(out.size()) + 1 < limit) {
    const std::size_t found = subject.find(between, at);
    if (found == std::string::npos) break;
    out.emplace_back(subject.substr(at, found - at));
    at = found + between.size();
    if (!context.spend(1)) return failure("over budget");
  }
  out.emplace_back(subject.substr(at));
  return make_list(std::move(out));
}
Value substring(Context&, Arguments& a) {
  if (a.size() < 2 || number(a, 1) == nullptr || (a.size() == 3 && number(a, 2) == nullptr))
    return no_overload("substring");
  return with_points(a, "substring", [](const std::u32string& s, const Arguments& args) -> Value {
    const std::int64_t from = *number(args, 1);
    const std::int64_t to = args.size() == 3 ? *number(args, 2) : static_cast<std::int64_t>(s.size());
    if (from < 0 || to > static_cast<std::int64_t>(s.size()))
      return failure("index out of range: " + std::to_string(from < 0 ? from : to));
    if (from > to)
      return failure("invalid substring range. start: " + std::to_string(from) +
                     ", end: " + std::to_string(to));
    return utf8_encode(
        std::u32string_view(s).substr(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from)));
  });
}
Value trim_text(Context&, Arguments& a) {
  if (a.size() != 1) return no_overload("trim");
  return with_points(a, "trim", [](const std::u32string& s, const Arguments&) -> Value {
    static const std::u32string kSpaces =
        U" \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
        U"\u2028\u2029\u202f\u205f\u3000";
    const std::size_t from = s.find_first_not_of(kSpaces);
    if (from == std::u32string::npos) return "";
    return utf8_encode(std::u32string_view(s).substr(from, s.find_last_not_of(kSpaces) - from + 1));
  });
}
Value join(Context& context, Arguments& a) {
  if (a.empty() || a.size() > 2 || !is_list(a[0]) || (a.size() == 2 && text(a, 1) == nullptr))
    return no_overload("join");
  std::string out;
  for (std::size_t i = 0; i < size_of(a[0]); ++i) {
    const Value one = item(a[0], i);
    const auto* part = one.as<std::string>();
    if (part == nullptr) return no_overload("join");
    if (i > 0 && a.size() == 2) out += *text(a, 1);
    out += *part;
    if (out.size() > kResultBytesMax || !context.spend(part->size() / 10 + 1)) return failure("over budget");
  }
  return out;
}
Value quote(Context& context, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("strings.quote");
  return spend_text(context, text(a, 0)->size(), json::serialize(json::value(*text(a, 0))));
}
Value reverse(Context& context, Arguments& a) {
  if (a.size() != 1) return no_overload("reverse");
  if (is_list(a[0])) {
    std::vector<Value> out;
    for (std::size_t i = size_of(a[0]); i > 0; --i) out.push_back(item(a[0], i - 1));
    return context.spend(out.size()) ? make_list(std::move(out)) : failure("over budget");
  }
  return with_points(a, "reverse", [](const std::u32string& s, const Arguments&) -> Value {
    return utf8_encode(std::u32string(s.rbegin(), s.rend()));
  });
}

std::string shown(Context& context, const Value& value);
std::string shown_all(Context& context, const Value& value) {
  std::string out;
  if (is_list(value)) {
    for (std::size_t i = 0; i < size_of(value); ++i)
      out += (i > 0 ? ", " : "") + shown(context, item(value, i));
    return "[" + out + "]";
  }
  std::vector<std::string> parts;
  for (const Value& key : keys_of(value))
    parts.push_back(shown(context, key) + ": " + shown(context, *member(value, key)));
  std::sort(parts.begin(), parts.end());
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return "{" + out + "}";
}
std::string shown(Context& context, const Value& value) {
  if (is_list(value) || is_map(value)) return shown_all(context, value);
  if (value.as<Null>() != nullptr) return "null";
  if (const auto* type = value.as<TypeName>()) return type->name;
  Arguments one{value};
  const Value out = call_function(context, "string", one);
  const auto* made = out.as<std::string>();
  return made == nullptr ? type_name(value) : *made;
}
// %s %d %f %e %x %X %o %b with an optional precision (cel-go ext/formatting.go).
Value format(Context& context, Arguments& a) {
  if (a.size() != 2 || text(a, 0) == nullptr || !is_list(a[1])) return no_overload("format");
  const std::string& pattern = *text(a, 0);
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      out += pattern[i];
      continue;
    }
    if (++i >= pattern.size())
      return failure("could not parse formatting clause: unexpected end of format string");
    if (pattern[i] == '%') {
      out += '%';
      continue;
    }
    int precision = 6;
    if (pattern[i] == '.') {
      precision = 0;
      for (++i; i < pattern.size() && pattern[i] >= '0' && pattern[i] <= '9' && precision < 1000; ++i)
        precision = precision * 10 + pattern[i] - '0';
    }
    if (i >= pattern.size() || precision > 100) return failure("could not parse formatting clause");
    if (next >= size_of(a[1])) return failure("index " + std::to_string(next) + " out of range");
    const Value value = item(a[1], next++);
    const auto* whole = value.as<std::int64_t>();
    const auto* natural = value.as<std::uint64_t>();
    const auto* real = value.as<double>();
    char buffer[512];
    const char verb = pattern[i];
    const auto magnitude = whole != nullptr     ? (*whole < 0 ? 0 - static_cast<std::uint64_t>(*whole)
                                                              : static_cast<std::uint64_t>(*whole))
                           : natural != nullptr ? *natural
                                                : 0;
    const char* sign = whole != nullptr && *whole < 0 ? "-" : "";
    if (verb == 's') {
      out += shown(context, value);
    } else if (verb == 'd' && (whole != nullptr || natural != nullptr)) {
      out += sign + std::to_string(magnitude);
    } else if ((verb == 'f' || verb == 'e') && (real != nullptr || whole != nullptr || natural != nullptr)) {
      const double amount = real != nullptr    ? *real
                            : whole != nullptr ? static_cast<double>(*whole)
                                               : static_cast<double>(*natural);
      std::snprintf(buffer, sizeof buffer, verb == 'f' ? "%.*f" : "%.*e", precision, amount);
      out += buffer;
    } else if ((verb == 'x' || verb == 'X' || verb == 'o') && (whole != nullptr || natural != nullptr)) {
      const char pattern_text[] = {'%', 'l', verb, '\0'};
      std::snprintf(buffer, sizeof buffer, pattern_text, static_cast<unsigned long>(magnitude));
      out += std::string(sign) + buffer;
    } else if ((verb == 'x' || verb == 'X') && value.as<std::string>() != nullptr) {
      for (const char c : *value.as<std::string>()) {
        std::snprintf(buffer, sizeof buffer, verb == 'x' ? "%02x" : "%02X", static_cast<unsigned char>(c));
        out += buffer;
      }
    } else if (verb == 'b' && (whole != nullptr || natural != nullptr || value.as<bool>() != nullptr)) {
      if (const auto* flag = value.as<bool>()) {
        out += *flag ? "1" : "0";
      } else {
        std::string bits;
        for (std::uint64_t rest = magnitude; rest != 0; rest >>= 1)
          bits.insert(bits.begin(), static_cast<char>('0' + (rest & 1)));
        out += sign + (bits.empty() ? "0" : bits);
      }
    } else {
      return failure(std::string("error during formatting: could not convert argument for clause %") + verb);
    }
    if (out.size() > kResultBytesMax || !context.spend(out.size() / 10)) return failure("over budget");
  }
  return out;
}

// --- lists ------------------------------------------------------------------------------------------------
Value is_sorted(Context& context, Arguments& a) {
  if (a.size() != 1 || !is_list(a[0])) return no_overload("isSorted");
  for (std::size_t i = 1; i < size_of(a[0]); ++i) {
    if (!context.spend(1)) return failure("over budget");
    const auto order = compare(item(a[0], i - 1), item(a[0], i));
    if (!order) return no_overload("isSorted");
    if (*order > 0) return false;
  }
  return true;
}
Value sum_of(Context& context, Arguments& a) {
  if (a.size() != 1 || !is_list(a[0])) return no_overload("sum");
  if (size_of(a[0]) == 0) return std::int64_t{0};
  Value total = item(a[0], 0);
  for (std::size_t i = 1; i < size_of(a[0]); ++i) {
    if (!context.spend(1)) return failure("over budget");
    Arguments two{total, item(a[0], i)};
    total = call_function(context, "_+_", two);
    if (total.failed()) return total;
  }
  return total;
}
template <int Sign>
Value extreme(Context& context, Arguments& a) {
  const char* name = Sign < 0 ? "min" : "max";
  if (a.size() != 1 || !is_list(a[0])) return no_overload(name);
  if (size_of(a[0]) == 0) return failure(std::string(name) + " called on empty list");
  Value best = item(a[0], 0);
  for (std::size_t i = 1; i < size_of(a[0]); ++i) {
    if (!context.spend(1)) return failure("over budget");
    const Value one = item(a[0], i);
    const auto order = compare(one, best);
    if (!order) return no_overload(name);
    if (*order * Sign > 0) best = one;
  }
  return best;
}
Value distinct(Context& context, Arguments& a) {
  if (a.size() != 1 || !is_list(a[0])) return no_overload("distinct");
  std::vector<Value> out;
  for (std::size_t i = 0; i < size_of(a[0]); ++i) {
    const Value one = item(a[0], i);
    if (!context.spend(out.size() + 1)) return failure("over budget");
    if (std::none_of(out.begin(), out.end(), [&](const Value& other) { return equal(other, one); }))
      out.push_back(one);
  }
  return make_list(std::move(out));
}
Value slice(Context& context, Arguments& a) {
  if (a.size() != 3 || !is_list(a[0]) || !number(a, 1) || !number(a, 2)) return no_overload("slice");
  const std::int64_t from = *number(a, 1);
  const std::int64_t to = *number(a, 2);
  if (from < 0 || to > static_cast<std::int64_t>(size_of(a[0])) || from > to)
    return failure("cannot slice(" + std::to_string(from) + ", " + std::to_string(to) + "), list is length " +
                   std::to_string(size_of(a[0])));
  std::vector<Value> out;
  for (std::int64_t i = from; i < to; ++i) out.push_back(item(a[0], static_cast<std::size_t>(i)));
  return context.spend(out.size()) ? make_list(std::move(out)) : failure("over budget");
}
Value sort(Context& context, Arguments& a) {
  if (a.size() != 1 || !is_list(a[0])) return no_overload("sort");
  std::vector<Value> out;
  for (std::size_t i = 0; i < size_of(a[0]); ++i) out.push_back(item(a[0], i));
  for (const Value& one : out) {
    if (!compare(out.front(), one)) return no_overload("sort");
  }
  if (!context.spend(out.size() * 8)) return failure("over budget");
  std::stable_sort(out.begin(), out.end(),
                   [](const Value& x, const Value& y) { return compare(x, y).value_or(0) < 0; });
  return make_list(std::move(out));
}
Value flatten(Context& context, Arguments& a) {
  if (a.size() != 1 || !is_list(a[0])) return no_overload("flatten");
  std::vector<Value> out;
  for (std::size_t i = 0; i < size_of(a[0]); ++i) {
    const Value one = item(a[0], i);
    if (!is_list(one)) {
      out.push_back(one);
    } else {
      for (std::size_t k = 0; k < size_of(one); ++k) out.push_back(item(one, k));
    }
    if (!context.spend(size_of(one) + 1)) return failure("over budget");
  }
  return make_list(std::move(out));
}
Value range(Context& context, Arguments& a) {
  if (a.size() != 1 || number(a, 0) == nullptr) return no_overload("lists.range");
  std::vector<Value> out;
  for (std::int64_t i = 0; i < *number(a, 0); ++i) {
    if (!context.spend(1)) return failure("over budget");
    out.emplace_back(i);
  }
  return make_list(std::move(out));
}

// --- sets -------------------------------------------------------------------------------------------------
bool within(Context& context, const Value& list, const Value& one) {
  (void)context.spend(size_of(list));
  for (std::size_t i = 0; i < size_of(list); ++i) {
    if (equal(item(list, i), one)) return true;
  }
  return false;
}
bool all_within(Context& context, const Value& outer, const Value& inner) {
  for (std::size_t i = 0; i < size_of(inner) && context.cost <= context.budget; ++i) {
    if (!within(context, outer, item(inner, i))) return false;
  }
  return true;
}
Value sets_contains(Context& context, Arguments& a) {
  if (a.size() != 2 || !is_list(a[0]) || !is_list(a[1])) return no_overload("sets.contains");
  return all_within(context, a[0], a[1]);
}
Value sets_equivalent(Context& context, Arguments& a) {
  if (a.size() != 2 || !is_list(a[0]) || !is_list(a[1])) return no_overload("sets.equivalent");
  return all_within(context, a[0], a[1]) && all_within(context, a[1], a[0]);
}
Value sets_intersects(Context& context, Arguments& a) {
  if (a.size() != 2 || !is_list(a[0]) || !is_list(a[1])) return no_overload("sets.intersects");
  for (std::size_t i = 0; i < size_of(a[1]) && context.cost <= context.budget; ++i) {
    if (within(context, a[0], item(a[1], i))) return true;
  }
  return false;
}

// --- optionals --------------------------------------------------------------------------------------------
Value optional_of(Context&, Arguments& a) {
  return a.size() == 1 ? Value(some(a[0])) : no_overload("optional.of");
}
Value optional_none(Context&, Arguments& a) {
  return a.empty() ? Value(none()) : no_overload("optional.none");
}
Value optional_non_zero(Context&, Arguments& a) {
  if (a.size() != 1) return no_overload("optional.ofNonZeroValue");
  const Value& v = a[0];
  const bool zero =
      v.as<Null>() != nullptr || equal(v, Value(false)) || equal(v, Value(std::int64_t{0})) ||
      ((is_list(v) || is_map(v) || v.as<std::string>() != nullptr || v.as<Bytes>() != nullptr) &&
       size_of(v) == 0);
  return zero ? none() : some(v);
}
Value has_value(Context&, Arguments& a) {
  const auto* optional = argument<Optional>(a, 0);
  return optional == nullptr ? no_overload("hasValue") : Value(optional->value != nullptr);
}
Value value_of(Context&, Arguments& a) {
  const auto* optional = argument<Optional>(a, 0);
  if (optional == nullptr) return no_overload("value");
  return optional->value == nullptr ? failure("optional.none() dereference") : *optional->value;
}
/// The evaluator looks at the left side first; these only give the names.
Value or_else(Context&, Arguments&) { return no_overload("or"); }
}  // namespace

const Library& string_library() {
  static const Library kLibrary{{{"matches", matches},
                                 {"strings.quote", quote},
                                 {"lists.range", range},
                                 {"sets.contains", sets_contains},
                                 {"sets.equivalent", sets_equivalent},
                                 {"sets.intersects", sets_intersects},
                                 {"optional.of", optional_of},
                                 {"optional.none", optional_none},
                                 {"optional.ofNonZeroValue", optional_non_zero}},
                                {{"contains", contains},
                                 {"startsWith", starts_with},
                                 {"endsWith", ends_with},
                                 {"matches", matches},
                                 {"find", find_one},
                                 {"findAll", find_all},
                                 {"charAt", char_at},
                                 {"indexOf", index_of<false>},
                                 {"lastIndexOf", index_of<true>},
                                 {"lowerAscii", fold_case<true>},
                                 {"upperAscii", fold_case<false>},
                                 {"replace", replace},
                                 {"split", split_text},
                                 {"substring", substring},
                                 {"trim", trim_text},
                                 {"join", join},
                                 {"format", format},
                                 {"reverse", reverse},
                                 {"isSorted", is_sorted},
                                 {"sum", sum_of},
                                 {"min", extreme<-1>},
                                 {"max", extreme<1>},
                                 {"distinct", distinct},
                                 {"slice", slice},
                                 {"sort", sort},
                                 {"flatten", flatten},
                                 {"hasValue", has_value},
                                 {"value", value_of},
                                 {"or", or_else},
                                 {"orValue", or_else}}};
  return kLibrary;
}

}  // namespace orchestra::api::cel
