# rtnetlink by libmnl, base tables and transactions by libnftables.
find_library(ORCHESTRA_MNL mnl REQUIRED)
find_library(ORCHESTRA_NFTABLES nftables REQUIRED)
list(APPEND ORCHESTRA_AREA_LINK ${ORCHESTRA_MNL} ${ORCHESTRA_NFTABLES})
