// The reader of txn_text.hpp.
#include "store/txn_text.hpp"

#include <charconv>

#include "store/mvcc/command.hpp"

namespace orchestra::store {
namespace {

constexpr std::size_t kTextMax = 16u << 20;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class LineReader {
 public:
  LineReader(std::string_view line, std::size_t number) : line_(line), number_(number) {}

  Error wrong(const std::string& what) const {
    return Error(Error::invalid, "store", "line " + std::to_string(number_) + " of the transaction: " + what);
  }

  Result<std::vector<std::string>> words() {
    std::vector<std::string> all;
    while (true) {
      while (at_ < line_.size() && (line_[at_] == ' ' || line_[at_] == '\t' || line_[at_] == '\r')) ++at_;
      if (at_ == line_.size() || (line_[at_] == '#' && all.empty())) return all;
      ORC_ASSIGN(std::string word, line_[at_] == '"' ? quoted() : plain());
      all.push_back(std::move(word));
    }
  }

  Result<std::int64_t> number(const std::string& word) const {
    std::int64_t value = 0;
    const auto end = std::from_chars(word.data(), word.data() + word.size(), value);
    if (end.ec != std::errc() || end.ptr != word.data() + word.size() || value < 0)
      return wrong("\"" + word + "\" is not a whole number");
    return value;
  }

 private:
  Result<std::string> plain() {
    const std::size_t from = at_;
    while (at_ < line_.size() && line_[at_] != ' ' && line_[at_] != '\t' && line_[at_] != '\r') ++at_;
    return std::string(line_.substr(from, at_ - from));
  }
  Result<std::string> quoted() {
    std::string word;
    for (++at_; at_ < line_.size(); ++at_) {
      const char c = line_[at_];
      if (c == '"') {
        ++at_;
        return word;
      }
      if (c != '\\') {
        word += c;
        continue;
      }
      if (++at_ == line_.size()) break;
      switch (line_[at_]) {
        case 'n':
          word += '\n';
          break;
        case 't':
          word += '\t';
          break;
        case '"':
        case '\\':
          word += line_[at_];
          break;
        case 'x': {
          const int high = at_ + 2 < line_.size() ? hex_digit(line_[at_ + 1]) : -1;
          const int low = high >= 0 ? hex_digit(line_[at_ + 2]) : -1;
          if (low < 0) return wrong("\\x needs two hexadecimal digits");
          word += static_cast<char>(high * 16 + low);
          at_ += 2;
          break;
        }
        default:
          return wrong(std::string("there is no escape \\") + line_[at_]);
      }
    }
    return wrong("a quotation mark is missing");
  }

  const std::string_view line_;
  const std::size_t number_;
  std::size_t at_ = 0;
};

/// Takes a last `--prefix` away.
KeyRange range_of(std::vector<std::string>& words, std::size_t key, std::size_t least) {
  if (words.size() > least && words.back() == "--prefix") {
    words.pop_back();
    return KeyPrefix(words[key]);
  }
  return Key(words[key]);
}

Result<Compare> parse_compare(std::vector<std::string> words, const LineReader& line) {
  Compare compare;
  const std::string usage =
      "a condition is `if exists|missing KEY` or `if version|create|mod|lease|value KEY "
      "=|!=|<|> WHAT`, with --prefix at its end for all keys that begin with KEY";
  if (words.size() < 3) return line.wrong(usage);
  const std::string target = words[1];
  if (target == "exists" || target == "missing") {
    compare.range = range_of(words, 2, 3);
    compare.target = Compare::Target::version;
    compare.op = target == "missing" ? Compare::Op::equal : Compare::Op::greater;
    if (words.size() != 3) return line.wrong(usage);
    return compare;
  }
  if (words.size() < 5) return line.wrong(usage);
  compare.range = range_of(words, 2, 5);
  if (words.size() != 5) return line.wrong(usage);
  bool known = false;
  for (const auto& [name, value] : {std::pair("version", Compare::Target::version),
                                    {"create", Compare::Target::create},
                                    {"mod", Compare::Target::mod},
                                    {"lease", Compare::Target::lease},
                                    {"value", Compare::Target::value}}) {
    if (target != name) continue;
    compare.target = value;
    known = true;
  }
  if (!known) return line.wrong("there is no \"" + target + "\" to compare; " + usage);
  known = false;
  for (const auto& [name, value] : {std::pair("=", Compare::Op::equal),
                                    {"!=", Compare::Op::not_equal},
                                    {"<", Compare::Op::less},
                                    {">", Compare::Op::greater}}) {
    if (words[3] != name) continue;
    compare.op = value;
    known = true;
  }
  if (!known) return line.wrong("\"" + words[3] + "\" is none of = != < >");
  if (compare.target == Compare::Target::value) {
    compare.value = std::move(words[4]);
    return compare;
  }
  ORC_ASSIGN(compare.number, line.number(words[4]));
  return compare;
}

Result<TxnOp> parse_op(std::vector<std::string> words, const LineReader& line) {
  TxnOp op;
  const std::string name = words[0];
  if (name == "put") {
    if (words.size() < 3 || words.size() > 4) return line.wrong("it is `put KEY VALUE [lease=ID]`");
    op.range = Key(words[1]);
    op.value = Value(words[2]);
    if (words.size() == 4) {
      if (words[3].compare(0, 6, "lease=") != 0) return line.wrong("it is `put KEY VALUE [lease=ID]`");
      ORC_ASSIGN(op.lease, line.number(words[3].substr(6)));
    }
    return op;
  }
  if (name != "get" && name != "del")
    return line.wrong("there is no \"" + name + "\"; a line begins with if, put, get, del, txn, end or else");
  if (words.size() < 2) return line.wrong("it is `" + name + " KEY [--prefix]`");
  op.type = name == "get" ? TxnOp::Type::range : TxnOp::Type::remove;
  op.range = range_of(words, 1, 2);
  if (words.size() != 2) return line.wrong("it is `" + name + " KEY [--prefix]`");
  return op;
}

}  // namespace

Result<Txn> parse_txn(std::string_view text) {
  if (text.size() > kTextMax)
    return Error(Error::too_large, "store", "a transaction of more than 16 MiB of text");
  // The transactions that are open, the outermost first.
  struct Open {
    Txn txn;
    bool otherwise = false;
    std::vector<TxnOp>& ops() { return otherwise ? txn.otherwise : txn.then; }
  };
  std::vector<Open> open(1);
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    LineReader line(text.substr(0, end), ++number);
    text.remove_prefix(std::min(text.size(), end + 1));
    ORC_ASSIGN(auto words, line.words());
    if (words.empty()) continue;
    Open& here = open.back();
    if (words[0] == "if") {
      if (here.otherwise || !here.txn.then.empty()) return line.wrong("conditions come first");
      ORC_ASSIGN(auto compare, parse_compare(std::move(words), line));
      here.txn.compares.push_back(std::move(compare));
    } else if (words[0] == "else") {
      if (words.size() != 1 || here.otherwise) return line.wrong("`else` stands alone, once");
      here.otherwise = true;
    } else if (words[0] == "txn") {
      if (words.size() != 1) return line.wrong("`txn` stands alone; its lines follow, up to `end`");
      if (open.size() == kTxnDepthMax)
        return line.wrong("transactions within one another are at most " + std::to_string(kTxnDepthMax) +
                          " deep");
      open.emplace_back();
    } else if (words[0] == "end") {
      if (words.size() != 1 || open.size() == 1) return line.wrong("`end` stands alone and ends a `txn`");
      TxnOp op;
      op.type = TxnOp::Type::txn;
      op.nested.push_back(std::move(here.txn));
      open.pop_back();
      open.back().ops().push_back(std::move(op));
    } else {
      ORC_ASSIGN(auto op, parse_op(std::move(words), line));
      here.ops().push_back(std::move(op));
    }
  }
  if (open.size() > 1) return Error(Error::invalid, "store", "the transaction has a `txn` without its `end`");
  Txn& txn = open.front().txn;
  if (txn.compares.empty() && txn.then.empty() && txn.otherwise.empty())
    return Error(Error::invalid, "store", "the transaction is empty");
  return std::move(txn);
}

}  // namespace orchestra::store
