#pragma once
// The side of DnsZone that the server sees.
#include "net/dns/zone.hpp"
#include "orchestra/dns_zone.hpp"

namespace orchestra::dns {

class AnyZone : public DnsZone {
 public:
  virtual const Name& wire_name() const = 0;
  /// For a question below or at the zone's name.
  virtual Answer answer(const Question& question, std::uint32_t rotation) const = 0;
  std::string name() const override { return to_text(wire_name()); }
};

}  // namespace orchestra::dns
