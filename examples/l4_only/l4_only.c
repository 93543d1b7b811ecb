/* A load balancer in one's own program: one address, one backend, no privilege. Serves until its input ends.
 *   l4_only ADDRESS PORT BACKEND BACKEND_PORT       l4_only 127.96.0.1 8080 127.0.0.1 9001 */
#include <stdio.h>

#include <orchestra/orchestra.h>

/* 1 and the reason on stderr, unless ORC_OK. */
static int failed(orc_code code, orc_error* error) {
  if (code == ORC_OK) return 0;
  fprintf(stderr, "l4_only: %s\n", error != NULL ? orc_error_message(error) : orc_code_name(code));
  orc_error_free(error);
  return 1;
}

static int serve(orc_engine* engine, char** argv) {
  orc_lb* lb = NULL;
  orc_error* error = NULL;
  orc_bytes explained = {NULL, 0};
  char objects[1024], target[128];
  /* What a cluster would have: a Service with this address, and its endpoints. */
  const int size = snprintf(
      objects, sizeof objects,
      "[{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":\"own\"},"
      "\"spec\":{\"clusterIP\":\"%s\",\"clusterIPs\":[\"%s\"],\"ports\":[{\"name\":\"p\",\"port\":%s}]}},"
      "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"addressType\":\"IPv4\","
      "\"metadata\":{\"name\":\"web-1\",\"namespace\":\"own\",\"labels\":{\"kubernetes.io/"
      "service-name\":\"web\"}},"
      "\"ports\":[{\"name\":\"p\",\"port\":%s}],\"endpoints\":[{\"addresses\":[\"%s\"]}]}]",
      argv[1], argv[1], argv[2], argv[4], argv[3]);
  snprintf(target, sizeof target, "%s:%s/tcp", argv[1], argv[2]);
  int status = failed(orc_lb_new(engine, "{\"mode\": \"userspace\", \"loopback_ranges\": [\"127.0.0.0/8\"]}",
                                 &lb, &error),
                      error) ||
               failed(orc_lb_apply(lb, objects, (size_t)size, 10000, NULL, &error), error) ||
               failed(orc_lb_explain(lb, target, &explained, &error), error);
  if (status == 0) {
    printf("%s\n", explained.data);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    status = failed(orc_lb_teardown(lb, 10000, &error), error);
  }
  orc_bytes_free(&explained);
  orc_lb_free(lb);
  return status;
}

int main(int argc, char** argv) {
  orc_engine* engine = NULL;
  orc_error* error = NULL;
  if (argc != 5) return fprintf(stderr, "usage: l4_only ADDRESS PORT BACKEND BACKEND_PORT\n"), 2;
  if (failed(orc_engine_new(NULL, &engine, &error), error)) return 1;
  const int status = serve(engine, argv);
  orc_engine_free(engine);
  return status;
}
