// The network snapshot and the rule plan under arbitrary objects: whatever the API tree holds, building never
// fails, no forbidden address gets through, and the plan's element keys are unique.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "net/lb/rule_plan.hpp"
#include "net/snapshot.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  // Documents are separated by NUL bytes and go to an input by their kind.
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  NetworkInputs inputs;
  while (!rest.empty()) {
    const auto end = rest.find('\0');
    auto object = Object::from_json(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (!object) continue;
    for (auto* input : {&inputs.services, &inputs.endpoint_slices, &inputs.pods, &inputs.nodes,
                        &inputs.ingresses, &inputs.ingress_classes, &inputs.secrets, &inputs.namespaces}) {
      input->objects.push_back(*object);  // every parser must stand every kind
    }
  }
  const auto snapshot = NetworkSnapshot::build(inputs);
  for (const auto& [name, service] : snapshot->services) {
    for (const auto& endpoint : service->endpoints) {
      const auto address = net::IpAddress::parse(endpoint.address);
      if (!address || net::endpoint_address_refusal(*address) != nullptr) std::abort();
    }
    const auto rules = net::compile_service(*service, "n1");
    for (std::size_t i = 1; i < rules.elements.size(); ++i) {
      if (!(rules.elements[i - 1].key() < rules.elements[i].key())) std::abort();
    }
  }
  // Told again, and taken away again.
  const std::pair<NetworkKind, const NetworkInput*> all[] = {
      {NetworkKind::service, &inputs.services},
      {NetworkKind::endpoint_slice, &inputs.endpoint_slices},
      {NetworkKind::pod, &inputs.pods},
      {NetworkKind::ingress, &inputs.ingresses},
      {NetworkKind::secret, &inputs.secrets}};
  NetworkModel model;
  for (int round = 0; round < 2; ++round) {
    for (const auto& [kind, input] : all) {
      for (const Object& object : input->objects) model.put(kind, object);
    }
    if (model.snapshot(round)->rejected.size() != snapshot->rejected.size()) std::abort();
  }
  for (const auto& [kind, input] : all) {
    for (const Object& object : input->objects) model.remove(kind, object);
  }
  const auto empty = model.snapshot(2);
  if (!empty->rejected.empty() || !empty->services.empty() || !empty->pods.empty()) std::abort();
  return 0;
}
