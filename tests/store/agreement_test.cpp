// Whose state is wrong (src/store/raft/agreement.hpp).
#include "store/raft/agreement.hpp"

#include "tests/support/test.hpp"

namespace orchestra::store::test {
namespace {

Configuration voters(std::size_t count, std::size_t learners = 0) {
  Configuration made;
  for (std::size_t i = 0; i < count + learners; ++i)
    made.members.push_back({PeerId{i + 1}, std::string(1, static_cast<char>('a' + i)), "", i < count});
  return made;
}
std::string judged(const Configuration& configuration, const std::vector<std::uint64_t>& hashes) {
  std::map<PeerId, std::uint64_t> told;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (hashes[i] != 0) told[PeerId{i + 1}] = hashes[i];
  }
  const Agreement found = judge(configuration, told);
  std::string text = found.split ? "split" : "";
  for (const PeerId peer : found.wrong) text += std::to_string(peer.value);
  return text;
}

TEST_CASE("a minority that differs is wrong, a split names nobody, and who is silent does not count") {
  CHECK(judged(voters(3), {7, 7, 7}).empty());
  CHECK(judged(voters(3), {7, 8, 7}) == "2");
  CHECK(judged(voters(3), {8, 7, 7}) == "1");
  CHECK(judged(voters(3), {7, 8, 9}) == "split");
  CHECK(judged(voters(3), {7, 0, 8}) == "split");
  CHECK(judged(voters(3), {7, 0, 0}).empty());
  CHECK(judged(voters(2), {7, 8}) == "split");
  CHECK(judged(voters(5), {7, 8, 7, 7, 9}) == "25");
  CHECK(judged(voters(5), {7, 7, 8, 8, 0}) == "split");
  CHECK(judged(voters(1, 1), {7, 8}) == "2");  // a learner differs from the only voter
  CHECK(judged(voters(3, 1), {7, 7, 0, 8}) == "4");
}

}  // namespace
}  // namespace orchestra::store::test
