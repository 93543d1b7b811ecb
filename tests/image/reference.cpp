// The grammar of image references, as a table. Left as typed, right the canonical form or "!" and a part of
// the error message.
#include <string>

#include "orchestra/image_reference.hpp"
#include "tests/support/test.hpp"

using orchestra::ImageReference;

namespace {

const std::string kHex(64, 'a');
const std::string kDigest = "sha256:" + kHex;

struct ReferenceRow {
  std::string text, want;
};

const ReferenceRow kRows[] = {
    // Docker Hub's short forms
    {"busybox", "docker.io/library/busybox:latest"},
    {"busybox:1.36", "docker.io/library/busybox:1.36"},
    {"busybox:latest", "docker.io/library/busybox:latest"},
    {"library/busybox", "docker.io/library/busybox:latest"},
    {"user/app", "docker.io/user/app:latest"},
    {"user/app:v1", "docker.io/user/app:v1"},
    {"user/deep/path", "docker.io/user/deep/path:latest"},
    {"user/deep/path:x", "docker.io/user/deep/path:x"},
    {"docker.io/busybox", "docker.io/library/busybox:latest"},
    {"docker.io/busybox:1", "docker.io/library/busybox:1"},
    {"docker.io/library/busybox", "docker.io/library/busybox:latest"},
    {"docker.io/user/app", "docker.io/user/app:latest"},
    {"index.docker.io/busybox", "docker.io/library/busybox:latest"},
    {"index.docker.io/library/busybox", "docker.io/library/busybox:latest"},
    {"index.docker.io/user/app:2", "docker.io/user/app:2"},
    {"a", "docker.io/library/a:latest"},
    {"a/b", "docker.io/a/b:latest"},
    {"a/b/c/d/e", "docker.io/a/b/c/d/e:latest"},
    {"0", "docker.io/library/0:latest"},
    {"0a/1b", "docker.io/0a/1b:latest"},
    // what makes a host
    {"localhost/app", "localhost/app:latest"},
    {"localhost:5000/app", "localhost:5000/app:latest"},
    {"localhost:5000/app:1", "localhost:5000/app:1"},
    {"localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1"},
    {"127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"},
    {"127.0.0.1/app", "127.0.0.1/app:latest"},
    {"example.com/app", "example.com/app:latest"},
    {"example.com/app:1", "example.com/app:1"},
    {"example.com:443/app", "example.com:443/app:latest"},
    {"example.com/a/b", "example.com/a/b:latest"},
    {"sub.example.com/a/b:t", "sub.example.com/a/b:t"},
    {"a.b/c", "a.b/c:latest"},
    {"a:1/c", "a:1/c:latest"},
    {"a:1/c:d", "a:1/c:d"},
    {"Uppercase/app", "Uppercase/app:latest"},
    {"MYHOST/app:1", "MYHOST/app:1"},
    {"my-host.example/app", "my-host.example/app:latest"},
    {"x--y.example/app", "x--y.example/app:latest"},
    {"[::1]/app", "[::1]/app:latest"},
    {"[::1]:5000/app", "[::1]:5000/app:latest"},
    {"[2001:db8::1]:5000/a/b:1", "[2001:db8::1]:5000/a/b:1"},
    {"[fe80::1]/a", "[fe80::1]/a:latest"},
    {"local/app", "docker.io/local/app:latest"},
    {"myhost/app", "docker.io/myhost/app:latest"},
    {"shop/web:dev", "docker.io/shop/web:dev"},
    // path components
    {"a.b", "docker.io/library/a.b:latest"},
    {"a_b", "docker.io/library/a_b:latest"},
    {"a__b", "docker.io/library/a__b:latest"},
    {"a-b", "docker.io/library/a-b:latest"},
    {"a--b", "docker.io/library/a--b:latest"},
    {"a---b", "docker.io/library/a---b:latest"},
    {"a.b-c_d__e", "docker.io/library/a.b-c_d__e:latest"},
    {"user/a.b_c", "docker.io/user/a.b_c:latest"},
    {"u-s/a", "docker.io/u-s/a:latest"},
    {"example.com/a_b/c-d/e.f", "example.com/a_b/c-d/e.f:latest"},
    {"a-", "!must be"},
    {"-a", "!must be"},
    {"a.", "!must be"},
    {".a", "!must be"},
    {"_a", "!must be"},
    {"a_", "!must be"},
    {"a___b", "!must be"},
    {"a..b", "!must be"},
    {"a._b", "!must be"},
    {"a-_b", "!must be"},
    {"a_.b", "!must be"},
    {"a-.b", "!must be"},
    {"user/-a", "!must be"},
    {"user/a-", "!must be"},
    {"user/.a", "!must be"},
    {"example.com/a..b", "!must be"},
    {"example.com/-", "!must be"},
    {"example.com/a$b", "!must be"},
    {"a*b", "!must be"},
    {"a!b", "!must be"},
    {"a+b", "!must be"},
    {"a,b", "!must be"},
    {"a~b", "!must be"},
    {"a\\b", "!must be"},
    {"\xc3\xa9", "!must be"},
    {"example.com/\xc3\xa9", "!must be"},
    {"a=b", "!must be"},
    {"a%b", "!must be"},
    {"a?b", "!must be"},
    {"a#b", "!must be"},
    // empty components
    {"", "!empty"},
    {"/", "!empty path component"},
    {"/a", "!empty path component"},
    {"a/", "!empty path component"},
    {"a//b", "!empty path component"},
    {"example.com/", "!empty path component"},
    {"example.com//a", "!empty path component"},
    {"localhost:5000/", "!empty path component"},
    {"///", "!empty path component"},
    {"user/app/", "!empty path component"},
    // upper case
    {"BusyBox", "!lower case: \"library/busybox\""},
    {"user/App", "!lower case: \"user/app\""},
    {"example.com/App", "!lower case: \"app\""},
    {"example.com/a/B/c", "!lower case: \"a/b/c\""},
    {"docker.io/Library/busybox", "!lower case"},
    {"localhost:5000/APP:1", "!lower case"},
    // tags
    {"a:b", "docker.io/library/a:b"},
    {"a:B", "docker.io/library/a:B"},
    {"a:1.2.3", "docker.io/library/a:1.2.3"},
    {"a:_x", "docker.io/library/a:_x"},
    {"a:x_y-z.1", "docker.io/library/a:x_y-z.1"},
    {"a:0", "docker.io/library/a:0"},
    {"a:v1.0-rc.1", "docker.io/library/a:v1.0-rc.1"},
    {"a:" + std::string(128, 'x'), "docker.io/library/a:" + std::string(128, 'x')},
    {"a:" + std::string(129, 'x'), "!longer than 128"},
    {"a:", "!tag after ':' is empty"},
    {"example.com/a:", "!tag after ':' is empty"},
    {"localhost:5000/a:", "!tag after ':' is empty"},
    {"a:.b", "!may hold only"},
    {"a:-b", "!may hold only"},
    {"a:b+c", "!may hold only"},
    {"a:b$", "!may hold only"},
    {"a:b:c", "!may hold only"},
    {"a:\xc3\xa9", "!may hold only"},
    {":b", "!name is empty"},
    {":", "!tag after ':' is empty"},
    // digests
    {"a@" + kDigest, "docker.io/library/a@" + kDigest},
    {"user/a@" + kDigest, "docker.io/user/a@" + kDigest},
    {"example.com/a@" + kDigest, "example.com/a@" + kDigest},
    {"localhost:5000/a@" + kDigest, "localhost:5000/a@" + kDigest},
    {"a:1@" + kDigest, "docker.io/library/a@" + kDigest},
    {"localhost:5000/a:1@" + kDigest, "localhost:5000/a@" + kDigest},
    {"a@sha512:" + std::string(128, '0'), "docker.io/library/a@sha512:" + std::string(128, '0')},
    {"a@", "!no algorithm"},
    {"a@sha256:", "!64 lower-case hex"},
    {"a@sha256:abc", "!64 lower-case hex"},
    {"a@sha256:" + std::string(63, 'a'), "!64 lower-case hex"},
    {"a@sha256:" + std::string(65, 'a'), "!64 lower-case hex"},
    {"a@sha256:" + std::string(64, 'A'), "!64 lower-case hex"},
    {"a@sha256:" + std::string(64, 'g'), "!64 lower-case hex"},
    {"a@sha512:" + kHex, "!128 lower-case hex"},
    {"a@md5:" + std::string(32, 'a'), "!unsupported digest algorithm md5"},
    {"a@sha1:" + std::string(40, 'a'), "!unsupported digest algorithm sha1"},
    {"a@" + kDigest + "@" + kDigest, "!lower-case hex"},
    {"@" + kDigest, "!name is empty"},
    {":1@" + kDigest, "!name is empty"},
    {"a:@" + kDigest, "!tag after ':' is empty"},
    {kHex, "!ambiguous"},
    {"library/" + kHex, "docker.io/library/" + kHex + ":latest"},
    {std::string(63, 'a'), "docker.io/library/" + std::string(63, 'a') + ":latest"},
    {std::string(64, 'z'), "docker.io/library/" + std::string(64, 'z') + ":latest"},
    {kHex + ":tag", "!ambiguous"},
    // hosts that are none
    {"-bad.example/a", "!no host"},
    {"bad-.example/a", "!no host"},
    {"bad..example/a", "!no host"},
    {".example/a", "!no host"},
    {"example./a", "!no host"},
    {"host:/a", "!no host"},
    {"host:port/a", "!no host"},
    {"host:80x/a", "!no host"},
    {"ho_st.example/a", "!no host"},
    {"[::1/a", "!no host"},
    {"[]/a", "!no host"},
    {"[zz]:1/a", "!no host"},
    {"[::1]x/a", "!no host"},
    {"[::1]:/a", "!no host"},
    {"ex*ample.com/a", "!no host"},
    // schemes and blanks
    {"http://example.com/a", "!leave out http://"},
    {"https://example.com/a:1", "!leave out https://"},
    {"docker://busybox", "!leave out docker://"},
    {"oci://x", "!leave out oci://"},
    {"a b", "!space"},
    {" a", "!space"},
    {"a ", "!space"},
    {"a\n", "!space"},
    {"a\tb", "!space"},
    {std::string("a\0b", 3), "!space"},
    {"example.com/" + std::string(244, 'a'), "!longer than 255"},
    {"example.com/" + std::string(243, 'a'), "example.com/" + std::string(243, 'a') + ":latest"},
};

}  // namespace

TEST_CASE("references are parsed and normalised as the table says") {
  static_assert(std::size(kRows) >= 150);
  for (const ReferenceRow& row : kRows) {
    CAPTURE(row.text);
    const auto parsed = ImageReference::parse(row.text);
    if (row.want.starts_with('!')) {
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().is(orchestra::Error::invalid));
      CHECK_MESSAGE(parsed.error().message().find(row.want.substr(1)) != std::string::npos,
                    parsed.error().message());
    } else {
      REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message()));
      CHECK(parsed->canonical() == row.want);
    }
  }
}

TEST_CASE("canonical and familiar forms parse back to the same reference") {
  for (const ReferenceRow& row : kRows) {
    if (row.want.starts_with('!')) continue;
    CAPTURE(row.text);
    const ImageReference first = ImageReference::parse(row.text).value();
    CHECK(ImageReference::parse(first.canonical()).value().canonical() == first.canonical());
    const auto again = ImageReference::parse(first.familiar());
    REQUIRE_MESSAGE(again, first.familiar());
    CHECK(*again == first);
  }
}

TEST_CASE("the familiar form is what a person would type") {
  CHECK(ImageReference::parse("docker.io/library/busybox:1").value().familiar() == "busybox:1");
  CHECK(ImageReference::parse("docker.io/user/app").value().familiar() == "user/app:latest");
  CHECK(ImageReference::parse("localhost:5000/app:1").value().familiar() == "localhost:5000/app:1");
  CHECK(ImageReference::parse("a:1@" + kDigest).value().familiar() == "a:1@" + kDigest);
}

TEST_CASE("with a tag and a digest the digest decides and the tag is kept") {
  const auto reference = ImageReference::parse("example.com/a:1@" + kDigest).value();
  CHECK(reference.tag() == "1");
  CHECK(reference.digest() == kDigest);
  CHECK(reference.pinned("sha256:x") == "example.com/a@sha256:x");
}
