# Rotated log files are gzip.
find_package(ZLIB REQUIRED)
list(APPEND ORCHESTRA_AREA_LINK ZLIB::ZLIB)
