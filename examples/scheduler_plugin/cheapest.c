/* A rule of the host in C: among the nodes that will do, the cheapest is the best.
 *   cheapest            places jobs on machines of its own, without a cluster
 * In a cluster the same orc_scheduler_plugin goes into orc_scheduler_new. */
#include <orchestra/orchestra.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The label example.com/price of the node, in cents; unknown prices are no bargain. */
static int64_t cheapest(void* context, const char* pod, const char* node) {
  static const char key[] = "\"example.com/price\":\"";
  const char* price = strstr(node, key);
  (void)context;
  (void)pod;
  if (price == NULL) return 0;
  long cents = strtol(price + sizeof key - 1, NULL, 10);
  return cents > 100 ? 0 : 100 - cents;
}

static int fail(orc_error* error) {
  fprintf(stderr, "cheapest: %s\n", orc_error_message(error));
  orc_error_free(error);
  return 1;
}

int main(void) {
  static const char* machines[][3] = {{"on-demand", "40", "4"}, {"spot", "9", "1"}, {"reserved", "20", "2"}};
  orc_scheduler_plugin plugin = {sizeof plugin, "Cheapest", 5, NULL, NULL, cheapest};
  orc_snapshot* snapshot = NULL;
  orc_error* error = NULL;
  char text[512];
  if (orc_snapshot_new(&snapshot, &error) != ORC_OK) return fail(error);
  for (size_t i = 0; i < 3; ++i) {
    snprintf(text, sizeof text,
             "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\",\"labels\":"
             "{\"example.com/price\":\"%s\"}},\"status\":{\"allocatable\":{\"cpu\":\"%s\","
             "\"memory\":\"8Gi\",\"pods\":\"10\"}}}",
             machines[i][0], machines[i][1], machines[i][2]);
    if (orc_snapshot_set(snapshot, text, strlen(text), &error) != ORC_OK) return fail(error);
  }
  for (int i = 0; i < 8; ++i) {
    orc_bytes answer;
    snprintf(text, sizeof text,
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"farm\",\"name\":"
             "\"job-%d\",\"uid\":\"job-%d\"},\"spec\":{\"containers\":[{\"name\":\"main\","
             "\"resources\":{\"requests\":{\"cpu\":\"1\"}}}]}}",
             i, i);
    if (orc_snapshot_place(snapshot, text, strlen(text), &plugin, 1, 1, &answer, &error) != ORC_OK)
      return fail(error);
    printf("job-%d: %s\n", i, answer.data);
    orc_bytes_free(&answer);
  }
  orc_snapshot_free(snapshot);
  return 0;
}
