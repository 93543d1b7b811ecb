# Compressed snapshots.
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
list(APPEND ORCHESTRA_AREA_LINK PkgConfig::ZSTD)
