// Which range of pod addresses each node gets (kubernetes/pkg/controller/nodeipam/ipam/range_allocator.go).
//
// The lowest free range of the cluster's; what a Node has stays, also when it was not given here. A Node
// object that goes gives its range back. There is one key, "all": ranges are one table, and one decision at a
// time with its own writes seen before the next one means that no range is given twice.
#include "controllers/nodeipam/decide.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <map>
#include <optional>

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {
namespace {
constexpr const char* kKey = "all";

struct Range {
  std::uint32_t base = 0;
  int prefix = 0;
  std::uint64_t size() const { return std::uint64_t{1} << (32 - prefix); }
  bool overlaps(const Range& other) const {
    return base < other.base + other.size() && other.base < base + size();
  }
};

std::optional<Range> parse(const std::string& text) {
  const std::size_t slash = text.find('/');
  in_addr address{};
  if (slash == std::string::npos || inet_pton(AF_INET, text.substr(0, slash).c_str(), &address) != 1)
    return std::nullopt;
  const std::string digits = text.substr(slash + 1);
  if (digits.empty() || digits.size() > 2 || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  Range range{ntohl(address.s_addr), std::atoi(digits.c_str())};
  if (range.prefix < 1 || range.prefix > 32) return std::nullopt;
  range.base &= ~static_cast<std::uint32_t>(range.size() - 1);
  return range;
}

std::string text_of(const Range& range) {
  in_addr address{htonl(range.base)};
  char text[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address, text, sizeof text);
  return std::string(text) + "/" + std::to_string(range.prefix);
}

/// The node's range of IPv6, "fd00:10:244::/96" and 10.244.1.0/24 -> "fd00:10:244::af4:100/120".
std::optional<std::string> text6_of(const std::string& cluster6, const Range& range) {
  in6_addr address{};
  if (inet_pton(AF_INET6, cluster6.substr(0, cluster6.find('/')).c_str(), &address) != 1) return std::nullopt;
  for (int i = 0; i < 4; ++i) address.s6_addr[12 + i] = static_cast<std::uint8_t>(range.base >> (24 - 8 * i));
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &address, text, sizeof text);
  return std::string(text) + "/" + std::to_string(96 + range.prefix);
}

/// The other way: the numbers of a range of IPv6.
std::optional<Range> parse6(const std::string& text) {
  const std::size_t slash = text.find('/');
  in6_addr address{};
  if (slash == std::string::npos || inet_pton(AF_INET6, text.substr(0, slash).c_str(), &address) != 1)
    return std::nullopt;
  Range range{0, std::atoi(text.c_str() + slash + 1) - 96};
  if (range.prefix < 1 || range.prefix > 32) return std::nullopt;
  for (int i = 0; i < 4; ++i) range.base = range.base << 8 | address.s6_addr[12 + i];
  range.base &= ~static_cast<std::uint32_t>(range.size() - 1);
  return range;
}

std::vector<std::string> ranges_of(const Object& node) {
  std::vector<std::string> out;
  const json::array* all = array_at(tree(node), "/spec/podCIDRs");
  if (all != nullptr) {
    for (const json::value& one : *all) {
      if (one.is_string()) out.emplace_back(one.get_string());
    }
  }
  const std::string single = string_at(tree(node), "/spec/podCIDR");
  if (out.empty() && !single.empty()) out.push_back(single);
  return out;
}

bool is_six(const std::string& range) { return range.find(':') != std::string::npos; }

class NodeIpam final : public Reconciler {
 public:
  explicit NodeIpam(NodeIpamOptions options)
      : options_(std::move(options)),
        first_(options_.cluster_cidr.substr(0, options_.cluster_cidr.find(','))),
        second_(options_.cluster_cidr.substr(std::min(first_.size() + 1, options_.cluster_cidr.size()))),
        six_first_(is_six(first_)),
        cidr6_(six_first_ ? first_ : second_),
        alone_(six_first_ && second_.empty()),
        cluster_(parse(alone_       ? kNumbersAlone
                       : six_first_ ? second_
                                    : first_)) {}
  std::string name() const override { return "node-ipam"; }

  std::vector<Source> sources() const override {
    return {{nodes(), false, [](const View&, const Object& old, const Object& now, const KeySink& wake) {
               if (!old || !now || ranges_of(old) != ranges_of(now)) wake(kKey);
             }}};
  }

  Actions decide(const std::string&, const View& view, Now) const override {
    Actions actions;
    if (!cluster_) {
      actions.reason = "the cluster has no range of pod addresses";
      return actions;
    }
    std::vector<Range> used;
    std::vector<Object> without;
    std::map<std::string, std::string> owners;
    for (const Object& node : view.list(nodes())) {
      const std::vector<std::string> ranges = ranges_of(node);
      if (ranges.empty() && !node.deleting()) without.push_back(node);
      for (const std::string& text : ranges) {
        if (const auto range = alone_ ? parse6(text) : parse(text)) used.push_back(*range);
        const auto [owner, fresh] = owners.emplace(text, node.name());
        if (fresh) continue;
        actions.event(node, "Warning", "CIDRAssignmentConflict",
                      "range " + text + " of pod addresses is that of node " + owner->second +
                          " too; run `orchestra down` on one of the two and let it join again");
      }
    }
    for (const Object& node : without) give(node, used, actions);
    return actions;
  }

 private:
  void give(const Object& node, std::vector<Range>& used, Actions& actions) const {
    Range range{cluster_->base, std::max(options_.node_prefix, cluster_->prefix)};
    const std::uint64_t count = cluster_->size() / range.size();
    for (std::uint64_t i = 0; i < count; ++i) {
      range.base = static_cast<std::uint32_t>(cluster_->base + i * range.size());
      const bool taken =
          std::any_of(used.begin(), used.end(), [&](const Range& one) { return one.overlaps(range); });
      if (taken) continue;
      used.push_back(range);
      json::array all;
      if (!alone_) all.emplace_back(text_of(range));
      if (const auto six = text6_of(cidr6_, range))
        all.insert(six_first_ ? all.begin() : all.end(), json::value(*six));
      const std::string first(all.front().get_string());
      json::value object = tree(node);
      set_at(object, "/spec/podCIDR", json::value(first));
      set_at(object, "/spec/podCIDRs", std::move(all));
      actions.update(nodes(), object_from_tree(std::move(object)), "its pods get " + first);
      return;
    }
    actions.event(node, "Warning", "CIDRNotAvailable",
                  "all " + std::to_string(count) + " ranges of pod addresses in " + options_.cluster_cidr +
                      " are in use; remove Node objects of nodes that are gone");
  }

  const NodeIpamOptions options_;
  const std::string first_, second_;
  const bool six_first_;
  const std::string cidr6_;
  const bool alone_;
  const std::optional<Range> cluster_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_node_ipam_reconciler(NodeIpamOptions options) {
  return std::make_shared<NodeIpam>(std::move(options));
}

}  // namespace orchestra::controllers
