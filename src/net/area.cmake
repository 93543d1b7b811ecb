# rtnetlink by libmnl, base tables and transactions by libnftables.
find_library(ORCHESTRA_MNL mnl REQUIRED)
find_library(ORCHESTRA_NFTABLES nftables REQUIRED)
# HTTP/2: frames, header compression and flow control.
find_library(ORCHESTRA_NGHTTP2 nghttp2 REQUIRED)
list(APPEND ORCHESTRA_AREA_LINK ${ORCHESTRA_MNL} ${ORCHESTRA_NFTABLES} ${ORCHESTRA_NGHTTP2})
