/* A DNS server in one's own program: a zone from a file, one that the program answers itself. Serves until
 * its input ends. dns_only ZONE_FILE LISTEN */
#include <stdio.h>
#include <string.h>

#include <orchestra/orchestra.h>

/* "anything.count.example" has a TXT record with the length of its name. */
static int answer(void* user, const char* name, const char* type, orc_dns_reply* reply) {
  char record[64];
  (void)user;
  if (strcmp(type, "TXT") != 0) return 0;
  snprintf(record, sizeof record, "@ 5 TXT \"%zu octets\"", strlen(name));
  orc_dns_reply_add(reply, record);
  return 0;
}

/* 1 and the reason on stderr, unless ORC_OK. */
static int failed(orc_code code, orc_error* error) {
  if (code == ORC_OK) return 0;
  fprintf(stderr, "dns_only: %s\n", error != NULL ? orc_error_message(error) : orc_code_name(code));
  orc_error_free(error);
  return 1;
}

static int serve(orc_engine* engine, const char* zone_file, const char* listen) {
  orc_dns* dns = NULL;
  orc_error* error = NULL;
  orc_bytes address = {NULL, 0};
  char options[256];
  snprintf(options, sizeof options, "{\"listen\": [\"%s\"]}", listen);
  int status = failed(orc_dns_new(engine, options, &dns, &error), error) ||
               failed(orc_dns_zone_file(dns, zone_file, "shop.example", &error), error) ||
               failed(orc_dns_zone_callback(dns, "count.example", answer, NULL, &error), error) ||
               failed(orc_dns_address(dns, 0, &address, &error), error);
  if (status == 0) {
    printf("dns %s\n", address.data);
    fflush(stdout);
    while (getchar() != EOF) {
    }
  }
  orc_bytes_free(&address);
  orc_dns_free(dns);
  return status;
}

int main(int argc, char** argv) {
  orc_engine* engine = NULL;
  orc_error* error = NULL;
  if (argc != 3) return fprintf(stderr, "usage: dns_only ZONE_FILE LISTEN\n"), 2;
  if (failed(orc_engine_new(NULL, &engine, &error), error)) return 1;
  const int status = serve(engine, argv[1], argv[2]);
  orc_engine_free(engine);
  return status;
}
