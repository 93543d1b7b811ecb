#include "net/dns/dns_zone.hpp"

#include <algorithm>

#include "base/fd.hpp"
#include "net/dns/master_file.hpp"
#include "net/dns/static_zone.hpp"

namespace orchestra {
namespace {

using dns::Name;

constexpr std::uint32_t kCallbackTtl = 5;          // seconds, of the SOA of a "no", and where a line has none
constexpr std::size_t kCallbackRecordsMax = 1024;  // of one answer

class FileZone final : public dns::AnyZone {
 public:
  explicit FileZone(dns::StaticZone zone) : zone_(std::move(zone)) {}
  const Name& wire_name() const override { return zone_.name(); }
  std::size_t record_count() const override { return zone_.record_count(); }
  dns::Answer answer(const dns::Question& question, std::uint32_t rotation) const override {
    return zone_.answer(question, rotation);
  }

 private:
  const dns::StaticZone zone_;
};

class CallbackZone final : public dns::AnyZone {
 public:
  CallbackZone(Name name, Answerer answerer) : name_(std::move(name)), answerer_(std::move(answerer)) {}
  const Name& wire_name() const override { return name_; }
  std::size_t record_count() const override { return 0; }

  dns::Answer answer(const dns::Question& question, std::uint32_t) const override {
    dns::Answer out;
    try {
      out = convert(question, answerer_({dns::to_text(question.name), dns::type_text(question.type)}));
    } catch (...) {
      out = {.rcode = dns::Rcode::server_failure};
    }
    out.keep = false;
    return out;
  }

 private:
  dns::Answer convert(const dns::Question& question, const DnsReply& reply) const {
    dns::Answer out{.rcode = static_cast<dns::Rcode>(reply.code)};
    if (reply.records.size() > kCallbackRecordsMax) return {.rcode = dns::Rcode::server_failure};
    for (const std::string& line : reply.records) {
      auto records = dns::parse_master_file(
          line, {.origin = question.name, .owner = question.name, .ttl = kCallbackTtl, .has_ttl = true});
      if (!records) return {.rcode = dns::Rcode::server_failure};
      for (dns::Record& record : *records) {
        const bool asked = record.type == question.type || record.type == dns::Type::cname;
        auto& section = record.name == question.name && asked ? out.answers : out.additional;
        section.push_back(std::move(record));
      }
    }
    const bool no = out.rcode == dns::Rcode::name_error || out.rcode == dns::Rcode::no_error;
    if (no && out.answers.empty()) {
      out.authority = {{name_, dns::Type::soa, kCallbackTtl,
                        dns::soa_data(name_, "\12hostmaster" + name_, 1, kCallbackTtl)}};
    }
    const bool alias = out.answers.size() == 1 && out.answers[0].type == dns::Type::cname;
    if (alias && question.type != dns::Type::cname) out.chase = out.answers[0].data;
    return out;
  }

  const Name name_;
  const Answerer answerer_;
};

Result<std::string> read_zone_file(const std::string& path) {
  auto text = read_file(path, dns::kZoneFileBytesMax);
  if (!text) return text.error().with_context("zone file " + path + " cannot be read");
  return text;
}

Result<Name> zone_name(const std::string& name) {
  const auto wire = dns::make_name(name);
  if (!wire) return Error(Error::invalid, "dns", "\"" + name + "\" is no domain name");
  return *wire;
}

Result<std::shared_ptr<const DnsZone>> make_zone(std::string_view text, const std::string& name,
                                                 dns::MasterFileOptions options) {
  ORC_ASSIGN(options.origin, zone_name(name));
  const std::string file = options.file;
  Name origin = options.origin;
  ORC_ASSIGN(const auto records, dns::parse_master_file(text, std::move(options)));
  if (name.empty()) {
    const auto soa = std::find_if(records.begin(), records.end(),
                                  [](const dns::Record& record) { return record.type == dns::Type::soa; });
    if (soa != records.end()) origin = soa->name;
    if (soa != records.end() && origin.size() == 1) {
      // "@ SOA .." without $ORIGIN: we would take every name there is, and answer nearly all with NXDOMAIN.
      return Error(Error::invalid, "dns",
                   file + ": the SOA record is of the root; name the zone, or \".\" if the root is meant");
    }
  }
  auto zone = dns::StaticZone::build(std::move(origin), records);
  if (!zone) return zone.error().with_context(file);
  return std::shared_ptr<const DnsZone>(std::make_shared<FileZone>(std::move(*zone)));
}

}  // namespace

Result<std::shared_ptr<const DnsZone>> DnsZone::from_master_file(const std::string& path,
                                                                 const std::string& name) {
  ORC_ASSIGN(const std::string text, read_zone_file(path));
  return make_zone(text, name, {.file = path, .include = read_zone_file});
}

Result<std::shared_ptr<const DnsZone>> DnsZone::from_text(std::string_view text, const std::string& name,
                                                          const std::string& file) {
  return make_zone(text, name, {.file = file});
}

Result<std::shared_ptr<const DnsZone>> DnsZone::from_callback(const std::string& name, Answerer answerer) {
  ORC_ASSIGN(Name wire, zone_name(name));
  if (!answerer) return Error(Error::invalid, "dns", "zone " + name + " has no function to answer it");
  return std::shared_ptr<const DnsZone>(std::make_shared<CallbackZone>(std::move(wire), std::move(answerer)));
}

}  // namespace orchestra
