#pragma once
// Writes the flat block of wire/plan_format.hpp: texts and tables behind a header.
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"
#include "runtime/wire/plan_format.hpp"

namespace orchestra::runtime {

class PlanBuilder {
 public:
  PlanBuilder() : block_(sizeof(wire::Plan), '\0') {}

  wire::Plan plan;  ///< the header; its offsets come from the functions below

  /// Empty = absent, unless `keep_empty` (an empty argument is an argument).
  wire::Text text(std::string_view value, bool keep_empty = false) {
    if (value.empty() && !keep_empty) return 0;
    const auto offset = static_cast<wire::Text>(block_.size());
    block_.append(value);
    block_.push_back('\0');
    return offset;
  }
  wire::Table texts(const std::vector<std::string>& values) {
    std::vector<wire::Text> offsets;
    offsets.reserve(values.size());
    for (const std::string& value : values) offsets.push_back(text(value, true));
    return table(offsets);
  }
  template <class T>
  wire::Table table(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (values.empty()) return {};
    block_.resize((block_.size() + 7) / 8 * 8, '\0');
    const wire::Table at{static_cast<std::uint32_t>(block_.size()),
                         static_cast<std::uint32_t>(values.size())};
    block_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    return at;
  }
  wire::Table bytes_table(std::string_view bytes, std::size_t element) {
    if (bytes.empty()) return {};
    block_.resize((block_.size() + 7) / 8 * 8, '\0');
    const wire::Table at{static_cast<std::uint32_t>(block_.size()),
                         static_cast<std::uint32_t>(bytes.size() / element)};
    block_.append(bytes);
    return at;
  }
  /// The finished block; `too_large` past kPlanBytesMax.
  Result<std::string> finish() {
    block_.push_back('\0');
    if (block_.size() > wire::kPlanBytesMax) {
      return Error(Error::too_large, "runtime",
                   "the plan of the container has " + std::to_string(block_.size()) + " bytes; at most " +
                       std::to_string(wire::kPlanBytesMax) +
                       " are taken: shorten arguments, environment or mounts");
    }
    plan.size = static_cast<std::uint32_t>(block_.size());
    std::memcpy(block_.data(), &plan, sizeof plan);
    return std::move(block_);
  }

 private:
  std::string block_;
};

}  // namespace orchestra::runtime
