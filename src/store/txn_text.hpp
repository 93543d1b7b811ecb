#pragma once
// A transaction as text, a line each (`orchestra store txn`). Pure.
//
//     # what must hold; without any: always
//     if mod KEY = 7            version, create, mod, lease: = != < > with a number
//     if value KEY = "text"     also < and >, by bytes
//     if missing KEY            or: exists
//     put KEY VALUE [lease=ID]
//     get KEY [--prefix]
//     del KEY [--prefix]
//     else                      what follows runs when a condition does not hold
//     get KEY
//     txn                       in either branch: a transaction of its own, of the same lines ...
//     if exists OTHER           ... whose conditions are decided before anything is written
//     put OTHER VALUE
//     end                       ... up to here
//
// `--prefix` after a key of `if`, `get` or `del` means all keys that begin with it. Words are separated by
// blanks;
// "..." holds blanks, with \" \\ \n \t and \xHH inside.
#include <string_view>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

/// `invalid` names the line and what is wrong with it; what the store itself refuses (a key put twice, too
/// many operations) is its matter.
Result<Txn> parse_txn(std::string_view text);

}  // namespace orchestra::store
