#pragma once
// `orchestra store` in this process: arguments in, exit status and text out.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "orchestra/store_command.hpp"

namespace orchestra::store::test {

struct Ran {
  int status = 0;
  std::string out, err;
};

inline Ran run(std::vector<std::string> args, const std::string& input = {}) {
  Ran ran;
  char* out_bytes = nullptr;
  char* err_bytes = nullptr;
  std::size_t out_size = 0;
  std::size_t err_size = 0;
  std::FILE* out = open_memstream(&out_bytes, &out_size);
  std::FILE* err = open_memstream(&err_bytes, &err_size);
  StoreCommandOptions options;
  std::string bytes = input.empty() ? std::string(1, '\n') : input;
  options.in = fmemopen(bytes.data(), bytes.size(), "r");
  ran.status = run_store_command(args, out, err, options);
  std::fclose(out);
  std::fclose(err);
  std::fclose(options.in);
  ran.out.assign(out_bytes, out_size);
  ran.err.assign(err_bytes, err_size);
  std::free(out_bytes);
  std::free(err_bytes);
  return ran;
}

}  // namespace orchestra::store::test
