#pragma once
// Helpers on ObjectMeta in JSON trees, and the small formats that all of the API shares: names, times, ages.
// Pure: the time and the randomness are arguments.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/field_error.hpp"
#include "api/types.hpp"
#include "orchestra/env.hpp"

namespace orchestra::api {

// --- names -------------------------------------------------------------------------------------------------
/// Empty if valid, else upstream's sentence ("a lowercase RFC 1123 subdomain must consist of ...").
ORC_API std::string check_dns1123_subdomain(std::string_view name);
ORC_API std::string check_dns1123_label(std::string_view name);
ORC_API std::string check_dns1035_label(std::string_view name);
ORC_API std::string check_path_segment(std::string_view name);
ORC_API std::string check_name(NameRule rule, std::string_view name);
/// "app.kubernetes.io/name": optional DNS prefix, 63 characters.
ORC_API std::string check_qualified_name(std::string_view key);
ORC_API std::string check_label_value(std::string_view value);
/// IANA service name: 15 characters, at least one letter ("http").
ORC_API std::string check_port_name(std::string_view name);
ORC_API std::string check_env_var_name(std::string_view name);
ORC_API std::string check_config_map_key(std::string_view key);
/// generateName: base cut to 58 characters and five of bcdfghjklmnpqrstvwxz2456789.
ORC_API std::string generate_name(std::string_view base, Random& random);

// --- metadata ----------------------------------------------------------------------------------------------
ORC_API void validate_metadata(const TypeRecord& record, const json::object& object, FieldErrors& errors);
/// Of an object within a custom one (x-kubernetes-embedded-resource): apiVersion, kind and metadata.
ORC_API void validate_embedded_resource(const json::object& object, const FieldPath& path,
                                        FieldErrors& errors);
ORC_API void validate_metadata_update(const json::object& object, const json::object& old,
                                      FieldErrors& errors);
/// Of an object or of a template.
ORC_API void validate_annotations(const json::value* annotations, const FieldPath& path, FieldErrors& errors);
ORC_API void validate_labels(const json::value* labels, const FieldPath& path, FieldErrors& errors);

/// metadata of the object, made if absent.
ORC_API json::object& metadata(json::value& object);
ORC_API const json::object* metadata(const json::value& object);
ORC_API std::string_view meta_string(const json::value& object, std::string_view field);

/// Namespace on create: label kubernetes.io/metadata.name and spec.finalizers [kubernetes].
ORC_API void prepare_namespace(json::object& object);

// --- times -------------------------------------------------------------------------------------------------
inline constexpr std::int64_t kSecond = 1'000'000'000;
/// A time of the years 0 to 9999, as objects bear it; 64-bit nanoseconds hold 1677 to 2262 only.
struct WallTime {
  std::int64_t seconds = 0;  ///< since 1970
  std::int64_t nanos = 0;    ///< 0 to 999,999,999
  ORC_API static WallTime of(std::int64_t wall_ns);
  ORC_API bool in_range() const;
};
ORC_API std::string format_time(WallTime time);  ///< 2026-11-23T15:04:05Z
ORC_API std::string format_time(std::int64_t wall_ns);
ORC_API std::string format_micro_time(WallTime time);  ///< 2026-11-23T15:04:05.000000Z
ORC_API std::string format_micro_time(std::int64_t wall_ns);
/// RFC 3339 with any offset and fraction.
ORC_API std::optional<WallTime> parse_wall_time(std::string_view text);
/// The same as nanoseconds since 1970, for computing: the ends stand for all that is beyond them.
ORC_API std::optional<std::int64_t> parse_time(std::string_view text);
/// kubectl's short duration: "5m3s", "2d", "3h", "<invalid>" for negative ones.
ORC_API std::string human_duration(std::int64_t ns);
/// Age of an RFC 3339 text: "<unknown>" where absent.
ORC_API std::string age(std::string_view time, Now now);

}  // namespace orchestra::api
