#pragma once
// Snapshots from short JSON, questions from short text, answers as readable lines.
#include <string>
#include <vector>

#include "net/dns/cluster_zone.hpp"
#include "net/dns/message.hpp"
#include "orchestra/network_snapshot.hpp"

namespace orchestra::test {

/// The cluster that most DNS tests ask about (see support.cpp).
std::shared_ptr<const NetworkSnapshot> shop_snapshot();

dns::Question question(const std::string& name, const std::string& type);
/// "web.shop.svc.cluster.local 5 A 10.96.0.10" for each record.
std::vector<std::string> lines(const std::vector<dns::Record>& records);
std::string line(const dns::Record& record);
/// "NOERROR | answers | authority types | additional", what scenario tests compare.
std::string summary(const dns::Answer& answer);

/// A query packet as a stub resolver sends it.
std::string query_packet(const std::string& name, const std::string& type, std::uint16_t id = 7,
                         bool edns = false);

}  // namespace orchestra::test
