#pragma once
// The fuzz targets of the one program that runs them as plain tests.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

struct FuzzTarget {
  using Function = int (*)(const std::uint8_t* data, std::size_t size);
  FuzzTarget(const char* name, Function function) { all().emplace(name, function); }
  /// By name.
  static std::map<std::string, Function>& all() {
    static std::map<std::string, Function> targets;
    return targets;
  }
};
