# SPDY header blocks are zlib streams with a preset dictionary; log and list answers may be gzip.
find_package(ZLIB REQUIRED)
set(ORCHESTRA_AREA_LINK ZLIB::ZLIB)
