/* A whole cluster inside this process: starts it, applies a manifest, watches pods until one runs, and takes
 * everything off the machine again.
 *   watch_pods DATA_DIR MANIFEST [IMAGES] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <orchestra/orchestra.h>

enum { kBatchesMax = 60, kManifestMax = 64 * 1024 }; /* batches of at most a second each */

/* 0 for ORC_OK; else prints the error, frees it, and answers 1. */
static int failed(const char* what, orc_code code, orc_error* error) {
  if (code == ORC_OK) return 0;
  fprintf(stderr, "watch_pods: %s: %s\n", what,
          error != NULL ? orc_error_message(error) : orc_code_name(code));
  orc_error_free(error);
  return 1;
}

static int apply_file(orc_client* client, const char* path) {
  static char text[kManifestMax];
  orc_error* error = NULL;
  FILE* file = fopen(path, "r");
  if (file == NULL) return perror(path), 1;
  size_t size = fread(text, 1, sizeof text, file), applied = 0;
  fclose(file);
  if (failed("apply", orc_client_apply_manifest(client, text, size, 10000, &applied, &error), error))
    return 1;
  printf("applied %zu objects\n", applied);
  return 0;
}

static int watch_until_running(orc_client* client) {
  orc_request pods = {.size = sizeof pods, .api_version = "v1", .resource = "pods"};
  orc_watch* watch = NULL;
  orc_error* error = NULL;
  if (failed("watch", orc_client_watch(client, &pods, &watch, &error), error)) return 1;
  int status = 1;
  for (int i = 0; i < kBatchesMax && status == 1; ++i) {
    orc_bytes events;
    orc_code code = orc_watch_next(watch, 1000, &events, &error);
    if (code == ORC_EDEADLINEEXCEEDED) continue;
    if (failed("watch", code, error)) break;
    printf("%zu bytes of events\n", events.size);
    if (strstr(events.data, "\"phase\":\"Running\"") != NULL) status = 0; /* a JSON library would be better */
    orc_bytes_free(&events);
  }
  orc_watch_free(watch);
  puts(status == 0 ? "a pod is Running" : "no pod was running in time");
  return status;
}

int main(int argc, char** argv) {
  if (argc < 3) return fputs("usage: watch_pods DATA_DIR MANIFEST [IMAGES]\n", stderr), 2;
  char options[4096];
  snprintf(options, sizeof options,
           "{\"data_dir\": \"%s\", \"listen\": \"127.0.0.1:0\", \"ingress\": \"127.0.0.1:0\", \"preload\": "
           "[%s%s%s]}",
           argv[1], argc > 3 ? "\"" : "", argc > 3 ? argv[3] : "", argc > 3 ? "\"" : "");

  orc_engine* engine = NULL;
  orc_cluster* cluster = NULL;
  orc_client* client = NULL;
  orc_error* error = NULL;
  int status = failed("engine", orc_engine_new(NULL, &engine, &error), error) ||
               failed("cluster", orc_cluster_new(engine, options, &cluster, &error), error) ||
               failed("start", orc_cluster_start(cluster, &error), error);
  if (status == 0) {
    status = failed("client", orc_cluster_client(cluster, &client, &error), error) ||
             apply_file(client, argv[2]) || watch_until_running(client);
    status |= failed("down", orc_cluster_down(cluster, 30000, &error), error);
  }
  orc_client_free(client);
  orc_cluster_free(cluster);
  orc_engine_free(engine);
  return status;
}
