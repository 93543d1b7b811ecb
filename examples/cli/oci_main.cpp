// orchestra-oci: `orchestra oci` as a small program of its own, because other tools start an OCI runtime
// several times per container. Also answers under the names runc and crun.
#include "orchestra/runtime.hpp"

int main(int argc, char** argv) { return orchestra::run_oci_command({argv + 1, argv + argc}, 0, 1, 2); }
