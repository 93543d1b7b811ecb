#pragma once
// linux.resources of config.json; also what `update --resources` reads by itself.
#include <string_view>

#include "orchestra/container_spec.hpp"
#include "runtime/spec/json_reader.hpp"

namespace orchestra::runtime {

void parse_resources(const JsonReader& r, ContainerSpec::Resources& resources);
/// "c", "b", .. of a device, or of a rule about devices.
char device_type(const JsonReader& reader, bool rule);
/// A document that is nothing but resources.
Result<ContainerSpec::Resources> resources_from_json(std::string_view text);

}  // namespace orchestra::runtime
