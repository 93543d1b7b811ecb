#include "support.hpp"

#include <map>

namespace orchestra::test {
namespace {

const std::map<std::string, dns::Type> kTypes = {
    {"A", dns::Type::a},     {"AAAA", dns::Type::aaaa},   {"SRV", dns::Type::srv},
    {"PTR", dns::Type::ptr}, {"TXT", dns::Type::txt},     {"CNAME", dns::Type::cname},
    {"SOA", dns::Type::soa}, {"NS", dns::Type::ns},       {"MX", dns::Type::mx},
    {"ANY", dns::Type::any}, {"HINFO", dns::Type::hinfo}, {"AXFR", dns::Type::axfr}};

std::string type_name(dns::Type type) {
  for (const auto& [name, value] : kTypes) {
    if (value == type) return name;
  }
  return "TYPE" + std::to_string(static_cast<int>(type));
}

Object object(const std::string& json) { return Object::from_json(json).value(); }

std::string service(const std::string& name, const std::string& spec, const std::string& ns = "shop") {
  return R"({"apiVersion":"v1","kind":"Service","metadata":{"name":")" + name + R"(","namespace":")" + ns +
         R"(","uid":"uid-)" + name + R"(","resourceVersion":"1"},"spec":)" + spec + "}";
}

std::string slice(const std::string& service, const std::string& ports, const std::string& endpoints) {
  return R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"name":")" +
         service +
         R"(-1","namespace":"shop","resourceVersion":"1","labels":{"kubernetes.io/service-name":")" +
         service + R"("}},"ports":)" + ports + R"(,"endpoints":)" + endpoints + "}";
}

std::string ns(const std::string& name) {
  return R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":")" + name +
         R"(","resourceVersion":"1"}})";
}

std::string pod(const std::string& name, const std::string& address) {
  return R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
         R"(","namespace":"shop","uid":"u","resourceVersion":"1"},"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":")" +
         address + R"(","podIPs":[{"ip":")" + address + R"("}]}})";
}

}  // namespace

std::shared_ptr<const NetworkSnapshot> shop_snapshot() {
  NetworkInputs in;
  in.revision = 42;
  in.services.objects = {
      object(service("web",
                     R"({"type":"ClusterIP","clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10","fd00::10"],
        "ports":[{"name":"http","port":80,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}]})")),
      object(service(
          "plain",
          R"({"clusterIP":"10.96.0.11","clusterIPs":["10.96.0.11"],"ports":[{"port":80,"protocol":"TCP"}]})")),
      object(service(
          "db",
          R"({"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]})")),
      object(service("eager", R"({"clusterIP":"None","clusterIPs":["None"],"publishNotReadyAddresses":true,
        "ports":[{"name":"pg","port":5432,"protocol":"TCP"}]})")),
      object(service("empty", R"({"clusterIP":"None","clusterIPs":["None"],"ports":[]})")),
      object(service("out", R"({"type":"ExternalName","externalName":"Example.COM"})")),
      object(service("alias", R"({"type":"ExternalName","externalName":"web.shop.svc.cluster.local"})")),
      object(service("loop", R"({"type":"ExternalName","externalName":"loop.shop.svc.cluster.local"})")),
      object(service("kube-dns", R"({"clusterIP":"10.96.0.2","clusterIPs":["10.96.0.2"],
        "ports":[{"name":"dns","port":53,"protocol":"UDP"}]})",
                     "kube-system")),
  };
  in.endpoint_slices.objects = {
      object(slice("db", R"([{"name":"pg","port":5433,"protocol":"TCP"}])",
                   R"([{"addresses":["10.244.1.5"],"hostname":"db-0","conditions":{"ready":true}},
                       {"addresses":["10.244.1.6"],"conditions":{"ready":true}},
                       {"addresses":["10.244.1.7"],"hostname":"db-2","conditions":{"ready":false}}])")),
      object(slice("eager", R"([{"name":"pg","port":5432,"protocol":"TCP"}])",
                   R"([{"addresses":["10.244.1.8"],"hostname":"eager-0","conditions":{"ready":false}}])")),
      object(slice("web", R"([{"name":"http","port":8080,"protocol":"TCP"}])",
                   R"([{"addresses":["10.244.1.9"],"hostname":"web-0","conditions":{"ready":true}}])")),
  };
  in.namespaces.objects = {object(ns("shop")), object(ns("kube-system")), object(ns("bare"))};
  in.pods.objects = {object(pod("web-0", "10.244.1.9"))};
  for (NetworkInput* input : {&in.services, &in.endpoint_slices, &in.pods, &in.nodes, &in.namespaces,
                              &in.ingresses, &in.ingress_classes, &in.secrets, &in.network_policies}) {
    input->synced = true;
  }
  return NetworkSnapshot::build(in);
}

dns::Question question(const std::string& name, const std::string& type) {
  const dns::Name wire = dns::make_name(name).value();
  return {.sent = wire, .name = wire, .type = kTypes.at(type)};
}

std::string line(const dns::Record& record) {
  std::string out =
      dns::to_text(record.name) + " " + std::to_string(record.ttl) + " " + type_name(record.type) + " ";
  net::IpAddress address;
  const auto number = [&](std::size_t at) {
    return std::to_string(static_cast<unsigned char>(record.data[at]) << 8 |
                          static_cast<unsigned char>(record.data[at + 1]));
  };
  switch (record.type) {
    case dns::Type::a:
    case dns::Type::aaaa:
      address.family = record.type == dns::Type::a ? 4 : 6;
      std::copy(record.data.begin(), record.data.end(), address.bytes.begin());
      return out + address.to_string();
    case dns::Type::cname:
    case dns::Type::ptr:
    case dns::Type::ns:
      return out + dns::to_text(record.data);
    case dns::Type::srv:
      return out + number(0) + " " + number(2) + " " + number(4) + " " + dns::to_text(record.data.substr(6));
    case dns::Type::soa:
      return out + dns::to_text(record.data);
    default:
      return out + record.data.substr(1);
  }
}

std::vector<std::string> lines(const std::vector<dns::Record>& records) {
  std::vector<std::string> out;
  for (const dns::Record& record : records) out.push_back(line(record));
  return out;
}

std::string summary(const dns::Answer& answer) {
  if (!answer.ours) return "NOT OURS";
  static const std::map<dns::Rcode, std::string> kNames = {{dns::Rcode::no_error, "NOERROR"},
                                                           {dns::Rcode::name_error, "NXDOMAIN"},
                                                           {dns::Rcode::server_failure, "SERVFAIL"}};
  std::string out = kNames.at(answer.rcode);
  for (const std::string& one : lines(answer.answers)) out += "\n" + one;
  for (const dns::Record& one : answer.authority)
    out += "\nauthority " + dns::to_text(one.name) + " " + type_name(one.type);
  for (const std::string& one : lines(answer.additional)) out += "\nadditional " + one;
  if (answer.chase) out += "\nchase " + dns::to_text(*answer.chase);
  return out;
}

std::string query_packet(const std::string& name, const std::string& type, std::uint16_t id, bool edns) {
  dns::Question asked = question(name, type);
  std::string packet = dns::write_query(id, asked, false, false);
  if (edns) return packet;
  packet.resize(packet.size() - 11);  // the OPT record at the end
  packet[11] = 0;
  return packet;
}

}  // namespace orchestra::test
