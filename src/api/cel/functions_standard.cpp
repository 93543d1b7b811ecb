// Operators, conversions, times: the standard definitions of cel-spec, and the dispatch of all libraries.
#include <charconv>
#include <cmath>
#include <ctime>

#include "api/cel/functions.hpp"
#include "api/meta.hpp"

namespace orchestra::api::cel {
namespace {
constexpr const char* kOverflow = "integer overflow";

bool is_no_overload(const Value& value) {
  const Failure* failed = value.as<Failure>();
  return failed != nullptr && failed->message.starts_with("no such overload");
}

Value sum(Context& context, Arguments& a) {
  if (a.size() != 2) return no_overload("_+_");
  if (const auto* x = argument<std::int64_t>(a, 0)) {
    const auto* y = argument<std::int64_t>(a, 1);
    std::int64_t out = 0;
    if (y == nullptr) return no_overload("_+_");
    if (__builtin_add_overflow(*x, *y, &out)) return failure(kOverflow);
    return out;
  }
  if (const auto* x = argument<std::uint64_t>(a, 0)) {
    const auto* y = argument<std::uint64_t>(a, 1);
    std::uint64_t out = 0;
    if (y == nullptr) return no_overload("_+_");
    if (__builtin_add_overflow(*x, *y, &out)) return failure("unsigned integer overflow");
    return out;
  }
  if (const auto* x = argument<double>(a, 0); x != nullptr && argument<double>(a, 1) != nullptr)
    return *x + *argument<double>(a, 1);
  if (const auto* x = argument<std::string>(a, 0); x != nullptr && argument<std::string>(a, 1) != nullptr) {
    const std::string& y = *argument<std::string>(a, 1);
    (void)context.spend((x->size() + y.size()) / 10);
    return context.cost > context.budget ? failure("over budget") : Value(*x + y);
  }
  if (const auto* x = argument<Bytes>(a, 0); x != nullptr && argument<Bytes>(a, 1) != nullptr)
    return Bytes{x->bytes + argument<Bytes>(a, 1)->bytes};
  if (is_list(a[0]) && is_list(a[1])) {
    if (!context.spend((size_of(a[0]) + size_of(a[1])) / 10)) return failure("over budget");
    std::vector<Value> items;
    for (const Value& list : a) {
      for (std::size_t i = 0; i < size_of(list); ++i) items.push_back(item(list, i));
    }
    return make_list(std::move(items));
  }
  const auto* d = argument<DurationValue>(a, 0);
  const auto* e = argument<DurationValue>(a, 1);
  const auto* t = argument<Timestamp>(a, 0);
  const auto* u = argument<Timestamp>(a, 1);
  std::int64_t out = 0;
  if (d != nullptr && e != nullptr)
    return __builtin_add_overflow(d->ns, e->ns, &out) ? failure(kOverflow) : Value(DurationValue{out});
  if (t != nullptr && e != nullptr)
    return __builtin_add_overflow(t->ns, e->ns, &out) ? failure(kOverflow) : Value(Timestamp{out});
  if (d != nullptr && u != nullptr)
    return __builtin_add_overflow(u->ns, d->ns, &out) ? failure(kOverflow) : Value(Timestamp{out});
  return no_overload("_+_");
}

Value difference(Context&, Arguments& a) {
  std::int64_t out = 0;
  if (argument<std::int64_t>(a, 0) != nullptr && argument<std::int64_t>(a, 1) != nullptr) {
    return __builtin_sub_overflow(*argument<std::int64_t>(a, 0), *argument<std::int64_t>(a, 1), &out)
               ? failure(kOverflow)
               : Value(out);
  }
  if (argument<std::uint64_t>(a, 0) != nullptr && argument<std::uint64_t>(a, 1) != nullptr) {
    std::uint64_t left = 0;
    return __builtin_sub_overflow(*argument<std::uint64_t>(a, 0), *argument<std::uint64_t>(a, 1), &left)
               ? failure("unsigned integer overflow")
               : Value(left);
  }
  if (argument<double>(a, 0) != nullptr && argument<double>(a, 1) != nullptr)
    return *argument<double>(a, 0) - *argument<double>(a, 1);
  const auto* d = argument<DurationValue>(a, 0);
  const auto* e = argument<DurationValue>(a, 1);
  const auto* t = argument<Timestamp>(a, 0);
  const auto* u = argument<Timestamp>(a, 1);
  if (d != nullptr && e != nullptr)
    return __builtin_sub_overflow(d->ns, e->ns, &out) ? failure(kOverflow) : Value(DurationValue{out});
  if (t != nullptr && e != nullptr)
    return __builtin_sub_overflow(t->ns, e->ns, &out) ? failure(kOverflow) : Value(Timestamp{out});
  if (t != nullptr && u != nullptr)
    return __builtin_sub_overflow(t->ns, u->ns, &out) ? failure(kOverflow) : Value(DurationValue{out});
  return no_overload("_-_");
}

Value product(Context&, Arguments& a) {
  std::int64_t out = 0;
  if (argument<std::int64_t>(a, 0) != nullptr && argument<std::int64_t>(a, 1) != nullptr) {
    return __builtin_mul_overflow(*argument<std::int64_t>(a, 0), *argument<std::int64_t>(a, 1), &out)
               ? failure(kOverflow)
               : Value(out);
  }
  if (argument<std::uint64_t>(a, 0) != nullptr && argument<std::uint64_t>(a, 1) != nullptr) {
    std::uint64_t big = 0;
    return __builtin_mul_overflow(*argument<std::uint64_t>(a, 0), *argument<std::uint64_t>(a, 1), &big)
               ? failure("unsigned integer overflow")
               : Value(big);
  }
  if (argument<double>(a, 0) != nullptr && argument<double>(a, 1) != nullptr)
    return *argument<double>(a, 0) * *argument<double>(a, 1);
  return no_overload("_*_");
}

Value quotient(Context&, Arguments& a) {
  if (argument<double>(a, 0) != nullptr && argument<double>(a, 1) != nullptr)
    return *argument<double>(a, 0) / *argument<double>(a, 1);
  if (argument<std::int64_t>(a, 0) != nullptr && argument<std::int64_t>(a, 1) != nullptr) {
    const std::int64_t x = *argument<std::int64_t>(a, 0);
    const std::int64_t y = *argument<std::int64_t>(a, 1);
    if (y == 0) return failure("division by zero");
    if (y == -1 && x == INT64_MIN) return failure(kOverflow);
    return x / y;
  }
  if (argument<std::uint64_t>(a, 0) != nullptr && argument<std::uint64_t>(a, 1) != nullptr) {
    if (*argument<std::uint64_t>(a, 1) == 0) return failure("division by zero");
    return *argument<std::uint64_t>(a, 0) / *argument<std::uint64_t>(a, 1);
  }
  return no_overload("_/_");
}
Value remainder_of(Context&, Arguments& a) {
  if (argument<std::int64_t>(a, 0) != nullptr && argument<std::int64_t>(a, 1) != nullptr) {
    const std::int64_t y = *argument<std::int64_t>(a, 1);
    if (y == 0) return failure("modulus by zero");
    if (y == -1) return std::int64_t{0};
    return *argument<std::int64_t>(a, 0) % y;
  }
  if (argument<std::uint64_t>(a, 0) != nullptr && argument<std::uint64_t>(a, 1) != nullptr) {
    if (*argument<std::uint64_t>(a, 1) == 0) return failure("modulus by zero");
    return *argument<std::uint64_t>(a, 0) % *argument<std::uint64_t>(a, 1);
  }
  return no_overload("_%_");
}
Value negation(Context&, Arguments& a) {
  if (const auto* x = argument<std::int64_t>(a, 0)) return *x == INT64_MIN ? failure(kOverflow) : Value(-*x);
  if (const auto* x = argument<double>(a, 0)) return -*x;
  if (const auto* x = argument<DurationValue>(a, 0)) return DurationValue{-x->ns};
  return no_overload("-_");
}
Value inversion(Context&, Arguments& a) {
  const bool* x = argument<bool>(a, 0);
  return x == nullptr ? no_overload("!_") : Value(!*x);
}

template <bool Same>
Value equality(Context& context, Arguments& a) {
  if (!context.spend(std::min(size_of(a[0]), size_of(a[1])) / 10)) return failure("over budget");
  return equal(a[0], a[1]) == Same;
}
template <class Test>
Value ordered(Arguments& a, const char* name, Test test) {
  const auto order = compare(a[0], a[1]);
  if (!order) {
    const bool numbers = argument<double>(a, 0) != nullptr || argument<double>(a, 1) != nullptr;
    return numbers && a[0].data.index() == a[1].data.index() ? Value(false) : no_overload(name);  // NaN
  }
  return test(*order);
}
Value less(Context&, Arguments& a) {
  return ordered(a, "_<_", [](int o) { return o < 0; });
}
Value less_equal(Context&, Arguments& a) {
  return ordered(a, "_<=_", [](int o) { return o <= 0; });
}
Value greater(Context&, Arguments& a) {
  return ordered(a, "_>_", [](int o) { return o > 0; });
}
Value greater_equal(Context&, Arguments& a) {
  return ordered(a, "_>=_", [](int o) { return o >= 0; });
}

Value in(Context& context, Arguments& a) {
  if (is_map(a[1])) return member(a[1], a[0]).has_value();
  if (!is_list(a[1])) return no_overload("@in");
  for (std::size_t i = 0; i < size_of(a[1]); ++i) {
    if (!context.spend(1)) return failure("over budget");
    if (equal(a[0], item(a[1], i))) return true;
  }
  return false;
}
Value size(Context&, Arguments& a) {
  const bool sized =
      a.size() == 1 && (is_list(a[0]) || is_map(a[0]) || argument<std::string>(a, 0) != nullptr ||
                        argument<Bytes>(a, 0) != nullptr);
  return sized ? Value(static_cast<std::int64_t>(size_of(a[0]))) : no_overload("size");
}

Value to_int(Context&, Arguments& a) {
  if (argument<std::int64_t>(a, 0) != nullptr) return a[0];
  if (const auto* x = argument<std::uint64_t>(a, 0))
    return *x > INT64_MAX ? failure(kOverflow) : Value(static_cast<std::int64_t>(*x));
  if (const auto* x = argument<double>(a, 0)) {
    if (!(*x > -9.223372036854775e18 && *x < 9.223372036854775e18)) return failure(kOverflow);
    return static_cast<std::int64_t>(*x);
  }
  if (const auto* x = argument<Timestamp>(a, 0)) {
    const std::int64_t part = x->ns % kSecond;
    return x->ns / kSecond - (part < 0 ? 1 : 0);
  }
  if (const auto* x = argument<std::string>(a, 0)) {
    std::int64_t out = 0;
    const char* begin = x->data() + (x->starts_with('+') ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, x->data() + x->size(), out);
    if (error != std::errc() || end != x->data() + x->size() || x->empty())
      return failure("strconv.ParseInt: parsing \"" + *x + "\": invalid syntax");
    return out;
  }
  return no_overload("int");
}
Value to_uint(Context&, Arguments& a) {
  if (argument<std::uint64_t>(a, 0) != nullptr) return a[0];
  if (const auto* x = argument<std::int64_t>(a, 0))
    return *x < 0 ? failure("unsigned integer overflow") : Value(static_cast<std::uint64_t>(*x));
  if (const auto* x = argument<double>(a, 0)) {
    if (!(*x >= 0 && *x < 1.8446744073709550e19)) return failure("unsigned integer overflow");
    return static_cast<std::uint64_t>(*x);
  }
  if (const auto* x = argument<std::string>(a, 0)) {
    std::uint64_t out = 0;
    const auto [end, error] = std::from_chars(x->data(), x->data() + x->size(), out);
    if (error != std::errc() || end != x->data() + x->size() || x->empty())
      return failure("strconv.ParseUint: parsing \"" + *x + "\": invalid syntax");
    return out;
  }
  return no_overload("uint");
}
Value to_double(Context&, Arguments& a) {
  if (argument<double>(a, 0) != nullptr) return a[0];
  if (const auto* x = argument<std::int64_t>(a, 0)) return static_cast<double>(*x);
  if (const auto* x = argument<std::uint64_t>(a, 0)) return static_cast<double>(*x);
  if (const auto* x = argument<std::string>(a, 0)) {
    double out = 0;
    const auto [end, error] = std::from_chars(x->data(), x->data() + x->size(), out);
    if (error != std::errc() || end != x->data() + x->size() || x->empty())
      return failure("strconv.ParseFloat: parsing \"" + *x + "\": invalid syntax");
    return out;
  }
  return no_overload("double");
}
Value to_text(Context&, Arguments& a) {
  if (argument<std::string>(a, 0) != nullptr) return a[0];
  if (const auto* x = argument<bool>(a, 0)) return *x ? "true" : "false";
  if (const auto* x = argument<std::int64_t>(a, 0)) return std::to_string(*x);
  if (const auto* x = argument<std::uint64_t>(a, 0)) return std::to_string(*x);
  if (const auto* x = argument<double>(a, 0)) {
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, *x);
    return std::string(text, end.ptr);
  }
  if (const auto* x = argument<Bytes>(a, 0))
    return utf8_decode(x->bytes) ? Value(x->bytes)
                                 : failure("invalid UTF-8 in bytes, cannot convert to string");
  if (const auto* x = argument<Timestamp>(a, 0)) {
    if (x->ns % kSecond == 0) return format_time(x->ns);
    std::string text = format_time(x->ns);
    std::string part = std::to_string(x->ns % kSecond);
    part.insert(0, 9 - part.size(), '0');
    while (part.ends_with('0')) part.pop_back();
    text.insert(text.size() - 1, "." + part);
    return text;
  }
  if (const auto* x = argument<DurationValue>(a, 0)) return duration_text(x->ns);
  if (const auto* x = argument<Ip>(a, 0)) return ip_text(*x);
  if (const auto* x = argument<Cidr>(a, 0)) return ip_text(x->ip) + "/" + std::to_string(x->prefix);
  return no_overload("string");
}
Value to_bytes(Context&, Arguments& a) {
  if (argument<Bytes>(a, 0) != nullptr) return a[0];
  const auto* x = argument<std::string>(a, 0);
  return x == nullptr ? no_overload("bytes") : Value(Bytes{*x});
}
Value to_bool(Context&, Arguments& a) {
  if (argument<bool>(a, 0) != nullptr) return a[0];
  const auto* x = argument<std::string>(a, 0);
  if (x == nullptr) return no_overload("bool");
  for (const char* yes : {"1", "t", "true", "TRUE", "True"}) {
    if (*x == yes) return true;
  }
  for (const char* no : {"0", "f", "false", "FALSE", "False"}) {
    if (*x == no) return false;
  }
  return failure("type conversion error from 'string' to 'bool'");
}
Value to_timestamp(Context&, Arguments& a) {
  if (argument<Timestamp>(a, 0) != nullptr) return a[0];
  if (const auto* x = argument<std::int64_t>(a, 0)) {
    return *x > 9'000'000'000 || *x < -9'000'000'000 ? failure("timestamp overflow")
                                                     : Value(Timestamp{*x * kSecond});
  }
  const auto* x = argument<std::string>(a, 0);
  if (x == nullptr) return no_overload("timestamp");
  const auto at = parse_time(*x);
  return at ? Value(Timestamp{*at}) : failure("parsing time \"" + *x + "\" failed");
}
Value to_duration(Context&, Arguments& a) {
  if (argument<DurationValue>(a, 0) != nullptr) return a[0];
  const auto* x = argument<std::string>(a, 0);
  if (x == nullptr) return no_overload("duration");
  const auto length = parse_duration(*x);
  return length ? Value(DurationValue{*length}) : failure("time: invalid duration \"" + *x + "\"");
}
Value type_of(Context&, Arguments& a) {
  return a.size() == 1 ? Value(TypeName{type_name(a[0])}) : no_overload("type");
}
Value dyn(Context&, Arguments& a) { return a.size() == 1 ? a[0] : no_overload("dyn"); }

/// A part of a time in UTC or in a fixed zone ("+02:00"); named zones are only UTC.
template <class Part>
Value time_part(Arguments& a, const char* name, Part part) {
  const auto* at = argument<Timestamp>(a, 0);
  if (at == nullptr || a.size() > 2) return no_overload(name);
  std::int64_t shift = 0;
  if (a.size() == 2) {
    const auto* zone = argument<std::string>(a, 1);
    if (zone == nullptr) return no_overload(name);
    int hours = 0;
    int minutes = 0;
    char sign = 0;
    if (*zone != "UTC" && !zone->empty()) {
      const bool signed_zone = (*zone)[0] == '+' || (*zone)[0] == '-';
      const std::string text = signed_zone ? *zone : "+" + *zone;
      if (std::sscanf(text.c_str(), "%c%2d:%2d", &sign, &hours, &minutes) != 3)
        return failure("unknown time zone " + *zone);
      shift = (hours * 60 + minutes) * 60 * (sign == '-' ? -1 : 1);
    }
  }
  std::int64_t seconds = at->ns / kSecond - (at->ns % kSecond < 0 ? 1 : 0) + shift;
  const time_t clock = seconds;
  std::tm broken{};
  gmtime_r(&clock, &broken);
  return static_cast<std::int64_t>(part(broken, at->ns));
}
Value full_year(Context&, Arguments& a) {
  return time_part(a, "getFullYear", [](const std::tm& t, auto) { return t.tm_year + 1900; });
}
Value month(Context&, Arguments& a) {
  return time_part(a, "getMonth", [](const std::tm& t, auto) { return t.tm_mon; });
}
Value date(Context&, Arguments& a) {
  return time_part(a, "getDate", [](const std::tm& t, auto) { return t.tm_mday; });
}
Value day_of_month(Context&, Arguments& a) {
  return time_part(a, "getDayOfMonth", [](const std::tm& t, auto) { return t.tm_mday - 1; });
}
Value day_of_week(Context&, Arguments& a) {
  return time_part(a, "getDayOfWeek", [](const std::tm& t, auto) { return t.tm_wday; });
}
Value day_of_year(Context&, Arguments& a) {
  return time_part(a, "getDayOfYear", [](const std::tm& t, auto) { return t.tm_yday; });
}
Value hours(Context&, Arguments& a) {
  if (const auto* d = argument<DurationValue>(a, 0)) return d->ns / (3600 * kSecond);
  return time_part(a, "getHours", [](const std::tm& t, auto) { return t.tm_hour; });
}
Value minutes(Context&, Arguments& a) {
  if (const auto* d = argument<DurationValue>(a, 0)) return d->ns / (60 * kSecond);
  return time_part(a, "getMinutes", [](const std::tm& t, auto) { return t.tm_min; });
}
Value seconds(Context&, Arguments& a) {
  if (const auto* d = argument<DurationValue>(a, 0)) return d->ns / kSecond;
  return time_part(a, "getSeconds", [](const std::tm& t, auto) { return t.tm_sec; });
}
Value milliseconds(Context&, Arguments& a) {
  if (const auto* d = argument<DurationValue>(a, 0)) return d->ns / 1'000'000 % 1000;
  return time_part(a, "getMilliseconds", [](const std::tm&, std::int64_t ns) {
    return (ns % kSecond + kSecond) % kSecond / 1'000'000;
  });
}

Value dispatch(Context& context, const std::string& name, Arguments& arguments, bool method) {
  bool known = false;
  for (const Library* library : {&standard_library(), &string_library(), &kubernetes_library()}) {
    const auto& table = method ? library->methods : library->functions;
    const auto [begin, end] = table.equal_range(name);
    for (auto it = begin; it != end; ++it) {
      known = true;
      Value out = it->second(context, arguments);
      if (!is_no_overload(out)) return out;
    }
  }
  return known ? no_overload(name) : failure("unknown function: " + name);
}
bool has(const std::string& name, bool method) {
  for (const Library* library : {&standard_library(), &string_library(), &kubernetes_library()}) {
    if ((method ? library->methods : library->functions).contains(name)) return true;
  }
  return false;
}
}  // namespace

const Library& standard_library() {
  static const Library kLibrary{{{"_+_", sum},
                                 {"_-_", difference},
                                 {"_*_", product},
                                 {"_/_", quotient},
                                 {"_%_", remainder_of},
                                 {"-_", negation},
                                 {"!_", inversion},
                                 {"_==_", equality<true>},
                                 {"_!=_", equality<false>},
                                 {"_<_", less},
                                 {"_<=_", less_equal},
                                 {"_>_", greater},
                                 {"_>=_", greater_equal},
                                 {"_in_", in},
                                 {"size", size},
                                 {"int", to_int},
                                 {"uint", to_uint},
                                 {"double", to_double},
                                 {"string", to_text},
                                 {"bytes", to_bytes},
                                 {"bool", to_bool},
                                 {"timestamp", to_timestamp},
                                 {"duration", to_duration},
                                 {"type", type_of},
                                 {"dyn", dyn}},
                                {{"size", size},
                                 {"getFullYear", full_year},
                                 {"getMonth", month},
                                 {"getDate", date},
                                 {"getDayOfMonth", day_of_month},
                                 {"getDayOfWeek", day_of_week},
                                 {"getDayOfYear", day_of_year},
                                 {"getHours", hours},
                                 {"getMinutes", minutes},
                                 {"getSeconds", seconds},
                                 {"getMilliseconds", milliseconds}}};
  return kLibrary;
}

bool is_function(const std::string& name) { return has(name, false); }
bool is_method(const std::string& name) { return has(name, true); }
Value call_function(Context& context, const std::string& name, Arguments& arguments) {
  return dispatch(context, name, arguments, false);
}
Value call_method(Context& context, const std::string& name, Arguments& arguments) {
  return dispatch(context, name, arguments, true);
}

}  // namespace orchestra::api::cel
