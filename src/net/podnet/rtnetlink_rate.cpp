// RouteSocket: limits of rate, by the kernel's traffic control (tc-tbf(8), tc-u32(8), tc-mirred(8)).
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "net/podnet/rtnetlink.hpp"
#include "net/podnet/rtnetlink_message.hpp"

namespace orchestra::net {
namespace {

// The bucket holds what comes in 10 ms, so that a timer that is late costs nothing; at least one segment of
// the largest size that offloading makes.
constexpr std::uint64_t kBurstBytesMin = 64 << 10, kBurstBytesMax = 64 << 20;
constexpr std::uint64_t kBurstsPerSecond = 100;
// What waits: 25 ms, as upstream's plugin does; then senders are told by loss.
constexpr std::uint64_t kQueuesPerSecond = 40;
constexpr std::uint64_t kRate32Max = 0xffffffff;

tcmsg* put_head(Message& message, int link, std::uint32_t parent, std::uint32_t handle) {
  auto* body = message.extra<tcmsg>();
  body->tcm_family = AF_UNSPEC;
  body->tcm_ifindex = link;
  body->tcm_parent = parent;
  body->tcm_handle = handle;
  return body;
}

}  // namespace

Result<void> RouteSocket::set_rate(int link, std::uint64_t bits_per_second) {
  const std::uint64_t rate = std::max<std::uint64_t>(bits_per_second / 8, 1);  // bytes per second
  const std::uint64_t burst = std::clamp(rate / kBurstsPerSecond, kBurstBytesMin, kBurstBytesMax);
  Message message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE);
  put_head(message, link, TC_H_ROOT, TC_H_MAKE(1u << 16, 0));
  ::mnl_attr_put_strz(message.header, TCA_KIND, "tbf");
  auto* options = ::mnl_attr_nest_start(message.header, TCA_OPTIONS);
  tc_tbf_qopt parameters{};
  parameters.rate.linklayer = TC_LINKLAYER_ETHERNET;
  parameters.rate.rate = static_cast<std::uint32_t>(std::min(rate, kRate32Max));
  parameters.limit = static_cast<std::uint32_t>(std::min(burst + rate / kQueuesPerSecond, kRate32Max));
  ::mnl_attr_put(message.header, TCA_TBF_PARMS, sizeof parameters, &parameters);
  ::mnl_attr_put_u32(message.header, TCA_TBF_BURST, static_cast<std::uint32_t>(burst));
  if (rate > kRate32Max) ::mnl_attr_put_u64(message.header, TCA_TBF_RATE64, rate);
  ::mnl_attr_nest_end(message.header, options);
  return request(message.header, "rate of link " + std::to_string(link));
}

Result<void> RouteSocket::redirect_arrivals(int link, int rate_link) {
  const std::string what = "redirection of link " + std::to_string(link);
  Message removal(RTM_DELQDISC, 0);  // an earlier attach may have been cut off: begin anew
  put_head(removal, link, TC_H_INGRESS, TC_H_MAKE(TC_H_INGRESS, 0));
  (void)request(removal.header, what);  // there is none: as wanted
  Message queue(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
  put_head(queue, link, TC_H_INGRESS, TC_H_MAKE(TC_H_INGRESS, 0));
  ::mnl_attr_put_strz(queue.header, TCA_KIND, "ingress");
  ORC_TRY(request(queue.header, what));

  Message filter(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = put_head(filter, link, TC_H_MAKE(TC_H_INGRESS, 0), 0);
  body->tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL));
  ::mnl_attr_put_strz(filter.header, TCA_KIND, "u32");
  auto* options = ::mnl_attr_nest_start(filter.header, TCA_OPTIONS);
  alignas(tc_u32_sel) char selector[sizeof(tc_u32_sel) + sizeof(tc_u32_key)] = {};  // mask 0: every packet
  tc_u32_sel head{};
  head.flags = TC_U32_TERMINAL;
  head.nkeys = 1;
  std::memcpy(selector, &head, sizeof head);
  ::mnl_attr_put(filter.header, TCA_U32_SEL, sizeof selector, selector);
  auto* actions = ::mnl_attr_nest_start(filter.header, TCA_U32_ACT);
  auto* first = ::mnl_attr_nest_start(filter.header, 1);
  ::mnl_attr_put_strz(filter.header, TCA_ACT_KIND, "mirred");
  auto* action = ::mnl_attr_nest_start(filter.header, TCA_ACT_OPTIONS);
  tc_mirred mirror{};
  mirror.action = TC_ACT_STOLEN;
  mirror.eaction = TCA_EGRESS_REDIR;
  mirror.ifindex = static_cast<std::uint32_t>(rate_link);
  ::mnl_attr_put(filter.header, TCA_MIRRED_PARMS, sizeof mirror, &mirror);
  ::mnl_attr_nest_end(filter.header, action);
  ::mnl_attr_nest_end(filter.header, first);
  ::mnl_attr_nest_end(filter.header, actions);
  ::mnl_attr_nest_end(filter.header, options);
  return request(filter.header, what);
}

}  // namespace orchestra::net
