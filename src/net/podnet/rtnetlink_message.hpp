#pragma once
// One rtnetlink request that is being written, and the attributes of an answer; for the files of RouteSocket
// only.
#include <libmnl/libmnl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/snapshot.hpp"

namespace orchestra::net {

constexpr std::size_t kRequestBytes = 4096;  // our largest request has two names, two MACs and an alias

struct Message {
  alignas(nlmsghdr) char bytes[kRequestBytes] = {};
  nlmsghdr* header = nullptr;
  explicit Message(std::uint16_t type, std::uint16_t flags) {
    header = ::mnl_nlmsg_put_header(bytes);
    header->nlmsg_type = type;
    header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  }
  template <class T>
  T* extra() {
    return static_cast<T*>(::mnl_nlmsg_put_extra_header(header, sizeof(T)));
  }
};

inline void put_address(nlmsghdr* header, std::uint16_t type, const IpAddress& address) {
  ::mnl_attr_put(header, type, address.is_v4() ? 4 : 16, address.bytes.data());
}

inline IpAddress read_address(const nlattr* attribute) {
  IpAddress address;
  const auto size = ::mnl_attr_get_payload_len(attribute);
  address.family = size == 4 ? 4 : 6;
  std::memcpy(address.bytes.data(), ::mnl_attr_get_payload(attribute), std::min<std::size_t>(size, 16));
  return address;
}

/// Calls `each` for every attribute between two addresses (libmnl's own loop macros are C only).
template <class F>
void walk_attributes(const void* first, const void* end, F each) {
  const auto left = [&](const nlattr* at) {
    return static_cast<int>(static_cast<const char*>(end) - reinterpret_cast<const char*>(at));
  };
  for (const auto* at = static_cast<const nlattr*>(first); ::mnl_attr_ok(at, left(at));
       at = ::mnl_attr_next(at)) {
    each(at);
  }
}

template <class F>
void for_each_attribute(const nlmsghdr* header, std::size_t skip, F each) {
  walk_attributes(::mnl_nlmsg_get_payload_offset(header, skip), ::mnl_nlmsg_get_payload_tail(header), each);
}

}  // namespace orchestra::net
