#include "base/exit_status.hpp"

namespace orchestra {

int exit_status(const Error& error) {
  switch (error.code()) {
    case Error::invalid:
      return 2;
    case Error::not_found:
      return 3;
    case Error::already_exists:
    case Error::conflict:
    case Error::busy:  // somebody else has it: a folder, an address
      return 4;
    case Error::unavailable:
    case Error::not_leader:
    case Error::overloaded:
    case Error::deadline_exceeded:
      return 5;
    case Error::unknown_outcome:
      return 6;
    case Error::compacted:
    case Error::expired:
    case Error::future:
      return 7;
    case Error::no_space:
    case Error::too_large:
    case Error::resource_exhausted:
      return 8;
    case Error::corrupt:
      return 9;
    case Error::denied:
    case Error::unauthenticated:
      return 10;
    default:
      return 1;
  }
}

}  // namespace orchestra
