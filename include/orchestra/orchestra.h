/* orchestra.h: the library for C, and for every language that can call C.
 *
 * Conventions: constructors put the new handle into *out and return ORC_OK, else a code; if `error` is not
 * NULL it then receives an orc_error that the caller frees. Every handle has one X_free; free children
 * before the engine. Texts are UTF-8; results of type orc_bytes are owned by the caller and freed with
 * orc_bytes_free. API objects are JSON. All functions may be called from any thread of the host but not
 * from callbacks of the library; free a handle only when no other call on it runs. None blocks longer than its
 * timeout; start, stop and free take what their work takes. A missing argument (NULL where none is allowed) or a
 * malformed one is ORC_EINVAL; stop and free take NULL. On failure *out is not written. Since 0.1. */
#ifndef ORCHESTRA_H
#define ORCHESTRA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ORC_CAPI __attribute__((visibility("default")))

typedef enum orc_code {
  ORC_OK = 0,
  ORC_EINVAL = 1,
  ORC_ENOTFOUND,
  ORC_EALREADYEXISTS,
  ORC_ECONFLICT,
  ORC_EBUSY,
  ORC_EUNAUTHENTICATED,
  ORC_EDENIED,
  ORC_EUNAVAILABLE,
  ORC_EUNKNOWNOUTCOME,
  ORC_ENOTLEADER,
  ORC_EDEADLINEEXCEEDED,
  ORC_ECANCELLED,
  ORC_EOVERLOADED,
  ORC_ERESOURCEEXHAUSTED,
  ORC_ENOSPACE,
  ORC_ETOOLARGE,
  ORC_EEXPIRED,
  ORC_ECOMPACTED,
  ORC_EFUTURE,
  ORC_ECORRUPT,
  ORC_EIO,
  ORC_EUNSUPPORTED,
  ORC_EWOULDDEADLOCK,
  ORC_EINTERNAL
} orc_code;

typedef struct orc_error orc_error;
typedef struct orc_engine orc_engine;
typedef struct orc_cluster orc_cluster;
typedef struct orc_store orc_store;
typedef struct orc_api_server orc_api_server;
typedef struct orc_client orc_client;
typedef struct orc_watch orc_watch;
typedef struct orc_store_watch orc_store_watch;
typedef struct orc_informer orc_informer;
typedef struct orc_stream orc_stream;
typedef struct orc_node orc_node;

typedef struct orc_bytes {
  const char* data; /* followed by a NUL that does not count */
  size_t size;
} orc_bytes;

/* "0.1.0" */
ORC_CAPI const char* orc_version(void);
ORC_CAPI const char* orc_code_name(orc_code code);
ORC_CAPI void orc_bytes_free(orc_bytes* bytes);

/* --- errors ------------------------------------------------------------------------------------------- */
ORC_CAPI orc_code orc_error_code(const orc_error* error);
/* One sentence that names object, value and remedy; valid as long as the error. */
ORC_CAPI const char* orc_error_message(const orc_error* error);
/* HTTP status and Status object of an API error; 0 and "" for others. */
ORC_CAPI int orc_error_http_code(const orc_error* error);
ORC_CAPI const char* orc_error_status_json(const orc_error* error);
/* Milliseconds before which the same call will most likely be refused again; 0: nothing is known. Since 0.2. */
ORC_CAPI int64_t orc_error_retry_after_ms(const orc_error* error);
ORC_CAPI void orc_error_free(orc_error* error);

/* --- engine: threads, declared first, freed last ------------------------------------------------------- */
typedef void (*orc_log_sink)(void* user, int level, const char* line);
typedef struct orc_engine_options {
  size_t size;          /* sizeof(orc_engine_options) */
  int event_threads;    /* 0 = 2 */
  orc_log_sink log;     /* NULL: silent. Called from any thread, one call at a time */
  void* log_user;
} orc_engine_options;
ORC_CAPI orc_code orc_engine_new(const orc_engine_options* options, orc_engine** out, orc_error** error);
/* Joins all threads. Everything made with the engine must be freed before. */
ORC_CAPI void orc_engine_free(orc_engine* engine);

/* --- cluster: what `orchestra up` runs ------------------------------------------------------------------ */
/* `options_json`: an object with any of data_dir, listen, insecure_http, dns, ingress, ingress_tls, node_name,
 * node (bool), isolation, pod_cidr, service_cidr, pod_network, preload (array), dns_forward (array),
 * memory_store (bool), serve_http (bool), as in cluster.hpp; an unknown name or a value of another type is ORC_EINVAL. */
ORC_CAPI orc_code orc_cluster_new(orc_engine* engine, const char* options_json, orc_cluster** out, orc_error** error);
/* Returns when the cluster is ready. A failed start leaves nothing running. */
ORC_CAPI orc_code orc_cluster_start(orc_cluster* cluster, orc_error** error);
/* Ends the servers; pods run on and are adopted by the next start. */
ORC_CAPI void orc_cluster_stop(orc_cluster* cluster);
/* Ends the pods and takes everything of the instance off the machine. */
ORC_CAPI orc_code orc_cluster_down(orc_cluster* cluster, int64_t timeout_ms, orc_error** error);
/* {"api_address", "kubeconfig", "ingress_address", "isolation", "ready_ms", ...} */
ORC_CAPI orc_code orc_cluster_info(orc_cluster* cluster, orc_bytes* out, orc_error** error);
/* The page of /metrics, as the value of an Accept header asks: OpenMetrics or Prometheus text (also for NULL). Since
 * 0.2. */
ORC_CAPI orc_code orc_cluster_metrics(orc_cluster* cluster, const char* accept, orc_bytes* out, orc_error** error);
ORC_CAPI orc_code orc_cluster_client(orc_cluster* cluster, orc_client** out, orc_error** error);
ORC_CAPI void orc_cluster_free(orc_cluster* cluster);

/* --- store --------------------------------------------------------------------------------------------- */
ORC_CAPI orc_code orc_store_memory(orc_engine* engine, orc_store** out, orc_error** error);
/* One peer on disk. ORC_EBUSY names the process that holds the folder, ORC_ECORRUPT file and offset. */
ORC_CAPI orc_code orc_store_open(orc_engine* engine, const char* data_dir, orc_store** out, orc_error** error);
ORC_CAPI void orc_store_free(orc_store* store);
/* if_mod_revision: -1 unconditional, 0 the key must not exist. ORC_ECONFLICT otherwise. */
ORC_CAPI orc_code orc_store_put(orc_store* store, const void* key, size_t key_size, const void* value, size_t value_size,
                                int64_t if_mod_revision, int64_t timeout_ms, int64_t* revision, orc_error** error);
/* A missing key is ORC_ENOTFOUND. mod_revision may be NULL. */
ORC_CAPI orc_code orc_store_get(orc_store* store, const void* key, size_t key_size, int64_t timeout_ms, orc_bytes* value,
                                int64_t* mod_revision, orc_error** error);
ORC_CAPI orc_code orc_store_remove(orc_store* store, const void* key, size_t key_size, int64_t timeout_ms, uint64_t* removed,
                                   orc_error** error);
/* A transaction: one line for each condition and operation, as `orchestra store txn` reads them; all or nothing, in one
 * revision.
 *     if mod KEY = 7 | if value KEY = "text" | if missing KEY     none: always
 *     put KEY VALUE [lease=ID] | get KEY [--prefix] | del KEY [--prefix]
 *     else                                                         what follows runs when a condition does not hold
 *     txn ... end                                                  a transaction within it, of such lines; all conditions
 *                                                                  are decided before anything is written
 * "..." holds blanks, with \" \\ \n \t and \xHH inside. The answer is JSON: {"succeeded": true, "revision": 9, "ops": [
 * {"op": "put"} | {"op": "del", "removed": 1} | {"op": "get", "kvs": [{"key", "value", "mod", ..}]} | {"op":
 * "txn", "succeeded", "ops"}]}, keys and values in base64. A line that is wrong is ORC_EINVAL with its number. Since 0.2. */
ORC_CAPI orc_code orc_store_txn(orc_store* store, const char* text, int64_t timeout_ms, orc_bytes* out, orc_error** error);
/* Keys put with a lease go when it ends: revoked, or not kept alive for ttl_s seconds (1 to 86,400). Since 0.2. */
ORC_CAPI orc_code orc_store_lease_grant(orc_store* store, int64_t ttl_s, int64_t timeout_ms, int64_t* lease, orc_error** error);
ORC_CAPI orc_code orc_store_lease_keep_alive(orc_store* store, int64_t lease, int64_t timeout_ms, orc_error** error);
ORC_CAPI orc_code orc_store_lease_revoke(orc_store* store, int64_t lease, int64_t timeout_ms, orc_error** error);
/* Called once per key in order; a return other than 0 ends the listing. */
typedef int (*orc_store_each)(void* user, const void* key, size_t key_size, const void* value, size_t value_size, int64_t mod_revision);
ORC_CAPI orc_code orc_store_range(orc_store* store, const void* prefix, size_t prefix_size, size_t limit, int64_t timeout_ms,
                                  orc_store_each each, void* user, orc_error** error);
typedef struct orc_store_event {
  int removed; /* 0: put */
  const void* key;
  size_t key_size;
  const void* value;
  size_t value_size;
  int64_t revision;
} orc_store_event;
typedef void (*orc_store_on_event)(void* user, const orc_store_event* event);
/* Changes after revision `after` (0: from now on). */
ORC_CAPI orc_code orc_store_watch_new(orc_store* store, const void* prefix, size_t prefix_size, int64_t after, orc_store_watch** out,
                                      orc_error** error);
/* Calls `call` for each event of the next batch on this thread (none for a progress notice). ORC_EDEADLINEEXCEEDED,
 * without an orc_error, when nothing came in time; timeout_ms 0 only looks. ORC_ECOMPACTED: `after` is too old. */
ORC_CAPI orc_code orc_store_watch_next(orc_store_watch* watch, int64_t timeout_ms, orc_store_on_event call, void* user, orc_error** error);
/* For poll(2): readable when next(0) has something, or the end, to tell; seldom also when it has not. Owned by the
 * watch; never read it. */
ORC_CAPI int orc_store_watch_fd(orc_store_watch* watch);
ORC_CAPI void orc_store_watch_free(orc_store_watch* watch);

/* --- API server: over a store, with or without sockets --------------------------------------------------- */
/* `options_json`: listen, insecure_http, data_directory, service_cidr, encryption_config. The store is shared, not
 * taken over. */
ORC_CAPI orc_code orc_api_server_new(orc_engine* engine, orc_store* store, const char* options_json, orc_api_server** out, orc_error** error);
/* Where the host keeps the key that seals what is stored, as KMS v2 of Kubernetes: an EncryptionConfiguration names it by
 * `kms: {apiVersion: v2, name: NAME}`. Both functions may be called from any thread of the library and may block for some
 * seconds; they return ORC_OK, or a code and a sentence in `why`. What they write must fit: `key_id` is text and ends
 * with 0. `context` has to live until orc_api_server_free has returned. */
typedef struct orc_kms_plugin {
  size_t size; /* sizeof(orc_kms_plugin) */
  void* context;
  /* Wraps a data key: at most 1024 bytes into `wrapped` (its size in *wrapped_size, in and out), the name of the
   * wrapping key into `key_id`. */
  orc_code (*encrypt)(void* context, const void* plain, size_t plain_size, void* wrapped, size_t* wrapped_size, char key_id[257], char why[256]);
  /* Unwraps it again. */
  orc_code (*decrypt)(void* context, const void* wrapped, size_t wrapped_size, const char* key_id, void* plain, size_t* plain_size, char why[256]);
} orc_kms_plugin;
/* Before orc_api_server_start. */
ORC_CAPI orc_code orc_api_server_add_kms(orc_api_server* server, const char* name, const orc_kms_plugin* plugin, orc_error** error);
ORC_CAPI orc_code orc_api_server_start(orc_api_server* server, orc_error** error);
ORC_CAPI void orc_api_server_stop(orc_api_server* server);
ORC_CAPI orc_code orc_api_server_client(orc_api_server* server, orc_client** out, orc_error** error);
ORC_CAPI orc_code orc_api_server_kubeconfig(orc_api_server* server, orc_bytes* out, orc_error** error);
/* As orc_cluster_metrics. Since 0.2. */
ORC_CAPI orc_code orc_api_server_metrics(orc_api_server* server, const char* accept, orc_bytes* out, orc_error** error);
ORC_CAPI void orc_api_server_free(orc_api_server* server);

/* --- node: runs the pods that a control plane gives it ---------------------------------------------------- */
/* `options_json`: data_dir (an absolute path), node_name, isolation, pod_cidr, service_cidr, pod_network, dns, ingress,
 * preload, dns_forward. */
ORC_CAPI orc_code orc_node_new(orc_engine* engine, orc_client* client, const char* options_json, orc_node** out, orc_error** error);
ORC_CAPI orc_code orc_node_start(orc_node* node, orc_error** error);
ORC_CAPI void orc_node_stop(orc_node* node);
ORC_CAPI orc_code orc_node_down(orc_node* node, int64_t timeout_ms, orc_error** error);
ORC_CAPI void orc_node_free(orc_node* node);

/* --- the scheduler: decisions on own data, and one for a cluster ---------------------------------------------- */
typedef struct orc_snapshot orc_snapshot;
typedef struct orc_scheduler orc_scheduler;

/* A rule of the host beside the builtin ones. Callbacks run one at a time, on a thread of the library (those of
 * orc_snapshot_place on the caller's); texts that they are given are valid during the call. `node` is a JSON object with
 * name, labels, allocatable and used. A callback that fails answers below: the pod is then tried again later. */
typedef struct orc_scheduler_plugin {
  size_t size;      /* sizeof(orc_scheduler_plugin) */
  const char* name;
  int64_t weight;   /* of the score; 0 = 1 */
  void* context;
  /* NULL: filters nothing. 0: the node will do; 1: it will not, and `reason` says why (UTF-8, NUL at the end); other: failed. */
  int (*filter)(void* context, const char* pod, const char* node, char* reason, size_t reason_size);
  /* NULL: scores nothing. 0..100, the best is 100; anything else: failed. */
  int64_t (*score)(void* context, const char* pod, const char* node);
} orc_scheduler_plugin;

/* Nodes and pods as values: no engine, no store. One thread at a time. */
ORC_CAPI orc_code orc_snapshot_new(orc_snapshot** out, orc_error** error);
/* Adds or replaces: a Node, a Pod with spec.nodeName, a Namespace, PersistentVolume, PersistentVolumeClaim, StorageClass, CSINode,
 * CSIDriver or CSIStorageCapacity. */
ORC_CAPI orc_code orc_snapshot_set(orc_snapshot* snapshot, const char* object_json, size_t size, orc_error** error);
ORC_CAPI orc_code orc_snapshot_remove_node(orc_snapshot* snapshot, const char* name, orc_error** error);
ORC_CAPI orc_code orc_snapshot_remove_pod(orc_snapshot* snapshot, const char* uid, orc_error** error);
/* Decides on a Pod. `answer` is {"node", "score", "feasible"} or {"unschedulable": message, "counts": {reason: nodes}}.
 * With `assume` the pod counts on its node from now on (it needs a metadata.uid then). `plugins` may be NULL. */
ORC_CAPI orc_code orc_snapshot_place(orc_snapshot* snapshot, const char* pod_json, size_t size, const orc_scheduler_plugin* plugins, size_t plugin_count, int assume, orc_bytes* answer, orc_error** error);
/* [{"node", "reasons": []} or {"node", "total", "scores": [{"plugin", "raw", "normalised", "weight"}]}] */
ORC_CAPI orc_code orc_snapshot_explain(orc_snapshot* snapshot, const char* pod_json, size_t size, orc_bytes* answer, orc_error** error);
ORC_CAPI void orc_snapshot_free(orc_snapshot* snapshot);

/* A scheduler for the API that `client` reaches. `configuration`: a KubeSchedulerConfiguration or NULL. The
 * plugins' contexts have to live until orc_scheduler_free has returned. */
ORC_CAPI orc_code orc_scheduler_new(orc_engine* engine, orc_client* client, const char* configuration, const orc_scheduler_plugin* plugins, size_t plugin_count, orc_scheduler** out, orc_error** error);
ORC_CAPI orc_code orc_scheduler_start(orc_scheduler* scheduler, orc_error** error);
ORC_CAPI void orc_scheduler_stop(orc_scheduler* scheduler);
ORC_CAPI void orc_scheduler_free(orc_scheduler* scheduler);

/* --- names and services alone: a DNS server, a load balancer ------------------------------------------------- */
typedef struct orc_dns orc_dns;
typedef struct orc_lb orc_lb;

/* Listens at once. `options_json`: an object with any of listen, listen_tls, listen_https, forward, allow_from,
 * reverse_ranges, namespaces, fallthrough (arrays), zone, forward_policy, forward_ca_pem, certificate_pem, key_pem,
 * pods, namespace_labels, labels (texts), autopath, endpoint_pod_names, no_endpoints, ignore_empty_services, zonal
 * (bool), as in dns_server.hpp; without `zone` there is no cluster's zone.
 * ORC_EBUSY names who has the port. Since 0.1. */
ORC_CAPI orc_code orc_dns_new(orc_engine* engine, const char* options_json, orc_dns** out, orc_error** error);
/* "ip:port", with the real port, of the index-th `listen`, then of listen_tls and listen_https ("tls://ip:port",
 * "https://ip:port/dns-query"); ORC_ENOTFOUND behind the last. */
ORC_CAPI orc_code orc_dns_address(orc_dns* dns, size_t index, orc_bytes* out, orc_error** error);
/* Serves a zone file; again with the same name: in the place of the old one, which stays when the new one is wrong
 * (ORC_EINVAL names file, line and reason). `name` may be NULL: that of the SOA record. */
ORC_CAPI orc_code orc_dns_zone_file(orc_dns* dns, const char* path, const char* name, orc_error** error);
ORC_CAPI orc_code orc_dns_zone_text(orc_dns* dns, const char* text, size_t size, const char* name, orc_error** error);
/* The host answers a zone itself. The callback runs on the library's threads, several at a time, and must not block.
 * It answers an RCODE: 0, 2 (SERVFAIL), 3 (NXDOMAIN) or 5 (REFUSED), and adds records to `reply`: lines of a zone file,
 * "@ 60 A 10.0.0.1" is about the asked name. Questions that came before orc_dns_free, orc_dns_remove_zone or a zone in
 * this one's place may still be with the callback when that returns: `user` has to live until orc_engine_free has
 * returned, after which it is not called any more. */
typedef struct orc_dns_reply orc_dns_reply;
typedef int (*orc_dns_answer)(void* user, const char* name, const char* type, orc_dns_reply* reply);
ORC_CAPI void orc_dns_reply_add(orc_dns_reply* reply, const char* record);
ORC_CAPI orc_code orc_dns_zone_callback(orc_dns* dns, const char* name, orc_dns_answer answer, void* user, orc_error** error);
ORC_CAPI orc_code orc_dns_remove_zone(orc_dns* dns, const char* name, orc_error** error);
/* The names of a cluster: all its Services, EndpointSlices, Pods and Namespaces as a JSON array (or a List). */
ORC_CAPI orc_code orc_dns_publish(orc_dns* dns, const char* objects_json, size_t size, orc_error** error);
ORC_CAPI void orc_dns_free(orc_dns* dns);

/* `options_json`: an object with any of node, instance (8 hex digits), cluster_cidr, service_cidr, node_gateway, mode
 * ("automatic", "nftables", "userspace") and loopback_ranges (array: ranges of 127/8 that Services and endpoints may
 * have), as in service_proxy.hpp and network_snapshot.hpp. Blocks for the look at what an earlier process left. */
ORC_CAPI orc_code orc_lb_new(orc_engine* engine, const char* options_json, orc_lb** out, orc_error** error);
/* Makes these Services and EndpointSlices true: a JSON array (or a List) with all of them. Any thread; of several calls
 * the one that began last wins. `result` may be NULL; else {"revision" (what is in force now: 1 for the first call, 2 for
 * the second, ..), "services", "changes", "rejected": [{"kind", "namespace", "name", "reason", "message"}]}. */
ORC_CAPI orc_code orc_lb_apply(orc_lb* lb, const char* objects_json, size_t size, int64_t timeout_ms, orc_bytes* result, orc_error** error);
/* "10.96.0.1:80/tcp": the Service, the chosen endpoints, why the others are not. */
ORC_CAPI orc_code orc_lb_explain(orc_lb* lb, const char* target, orc_bytes* out, orc_error** error);
/* Takes every rule, route and listener away; without it the kernel's rules serve on when the program is gone. */
ORC_CAPI orc_code orc_lb_teardown(orc_lb* lb, int64_t timeout_ms, orc_error** error);
ORC_CAPI void orc_lb_free(orc_lb* lb);

/* --- client: requests and watches --------------------------------------------------------------------------- */
typedef struct orc_request {
  size_t size;              /* sizeof(orc_request) */
  const char* verb;         /* get list create update patch delete deletecollection; NULL for orc_client_watch */
  const char* api_version;  /* "v1" (also NULL), "apps/v1" */
  const char* resource;     /* "pods"; NULL where a body has a kind: it, api_version and ns are then the body's */
  const char* subresource;  /* NULL or "status", "scale", ... */
  const char* ns;           /* NULL: cluster scope, or all namespaces */
  const char* name;
  const char* query;        /* "labelSelector=app%3Dweb&limit=5" or NULL */
  const char* content_type; /* NULL: application/json; patches name theirs */
  const char* body;
  size_t body_size;
  int64_t timeout_ms;       /* 0 = 30 s */
} orc_request;
/* On success `body` is the object or list as JSON. */
ORC_CAPI orc_code orc_client_request(orc_client* client, const orc_request* request, orc_bytes* body, orc_error** error);
/* All documents of a YAML or JSON text, each created, or patched by merge where it exists. Ends at
 * the first failure; `applied` (may be NULL) counts what was done. timeout_ms is of each object, 0 = 30 s. */
ORC_CAPI orc_code orc_client_apply_manifest(orc_client* client, const char* text, size_t size, int64_t timeout_ms, size_t* applied, orc_error** error);
typedef struct orc_apply_options {
  size_t size;         /* sizeof(orc_apply_options) */
  const char* manager; /* who will own the fields; has to be given */
  int force;           /* takes fields that others own, instead of ORC_ECONFLICT */
  int dry_run;
  int64_t timeout_ms;  /* of each object, 0 = 30 s */
} orc_apply_options;
/* Server-side apply of all documents of a YAML or JSON text. `out` is the array of the objects as they are now. Ends at
 * the first failure: what is in front of it was applied, and its count is in `applied` (may be NULL). Since 0.2. */
ORC_CAPI orc_code orc_client_apply(orc_client* client, const char* text, size_t size, const orc_apply_options* options,
                                   orc_bytes* out, size_t* applied, orc_error** error);
ORC_CAPI orc_code orc_client_watch(orc_client* client, const orc_request* request, orc_watch** out, orc_error** error);
/* The next batch as a JSON array of {"type": "ADDED", "object": {...}}; ORC_EDEADLINEEXCEEDED, without an orc_error,
 * when none came in time (timeout_ms 0 only looks); ORC_EEXPIRED: list again. */
ORC_CAPI orc_code orc_watch_next(orc_watch* watch, int64_t timeout_ms, orc_bytes* events, orc_error** error);
/* As orc_store_watch_fd. */
ORC_CAPI int orc_watch_fd(orc_watch* watch);
ORC_CAPI void orc_watch_free(orc_watch* watch);
ORC_CAPI void orc_client_free(orc_client* client);
/* A client over HTTPS, of any Kubernetes. `context` NULL: the current one of the file. Nothing is sent yet. */
ORC_CAPI orc_code orc_client_connect(orc_engine* engine, const char* kubeconfig_path, const char* context, orc_client** out, orc_error** error);

/* --- informers: a current copy of the objects of one resource, in this process --------------------------------
 * An informer lists once, then follows a watch; it goes on where it was when the connection breaks, and lists again and
 * compares when the server has forgotten that, so no object and no removal is missed. In process the objects are those
 * of the server, not copies. It needs its engine, and the server or cluster whose client it was given, until it is
 * freed; the client itself may go before. Since 0.2. */
typedef enum orc_informer_change {
  ORC_INFORMER_ADDED = 1,
  ORC_INFORMER_MODIFIED = 2,
  ORC_INFORMER_DELETED = 3
} orc_informer_change;
typedef struct orc_informer_event {
  orc_informer_change type;
  const char* old_json; /* NULL when added; the same as now_json: told again by a resync */
  size_t old_size;
  const char* now_json; /* NULL when deleted */
  size_t now_size;
} orc_informer_event;
/* On an event thread of the engine, one call at a time, in the order of revisions; the informer has the change already.
 * It must not block; the event is valid during the call. Of all functions only orc_informer_get, _list and _find may be
 * called from it. */
typedef void (*orc_informer_on_event)(void* user, const orc_informer_event* event);
typedef struct orc_informer_options {
  size_t size;             /* sizeof(orc_informer_options) */
  const char* api_version; /* NULL: "v1" */
  const char* resource;    /* "pods" */
  const char* ns;          /* NULL: all */
  const char* labels;      /* selectors, or NULL */
  const char* fields;
  int64_t resync_ms;       /* every so often all objects are told once more; 0: never */
  orc_informer_on_event call; /* NULL: changes wait for orc_informer_next */
  void* user;              /* has to live until orc_informer_stop or _free has returned */
} orc_informer_options;
/* Begins to list. Errors of the server do not end an informer: it tries again with growing pauses. */
ORC_CAPI orc_code orc_informer_new(orc_engine* engine, orc_client* client, const orc_informer_options* options, orc_informer** out, orc_error** error);
/* Returns when the first list is there. ORC_EDEADLINEEXCEEDED says what hindered it. */
ORC_CAPI orc_code orc_informer_wait_synced(orc_informer* informer, int64_t timeout_ms, orc_error** error);
/* Returns when everything up to that version is there: what you wrote, you read. */
ORC_CAPI orc_code orc_informer_wait_for(orc_informer* informer, const char* resource_version, int64_t timeout_ms, orc_error** error);
/* ORC_ENOTFOUND: there is none. `ns` NULL: cluster scope. */
ORC_CAPI orc_code orc_informer_get(orc_informer* informer, const char* ns, const char* name, orc_bytes* out, orc_error** error);
/* Called once per object, in the order of namespace and name; a return other than 0 ends the listing. */
typedef int (*orc_informer_each)(void* user, const char* object_json, size_t size);
/* `ns` NULL: all namespaces; `labels`: a selector, or NULL. */
ORC_CAPI orc_code orc_informer_list(orc_informer* informer, const char* ns, const char* labels, orc_informer_each each, void* user, orc_error** error);
/* By an index: "owner" (the UID of an owner) or "node" (spec.nodeName). */
ORC_CAPI orc_code orc_informer_find(orc_informer* informer, const char* index, const char* value, orc_informer_each each, void* user, orc_error** error);
/* Without a callback: the next changes as a JSON array of {"type": "ADDED" | "MODIFIED" | "DELETED", "object": {...},
 * "old": {...} when modified}. What happened to an object between two calls is one change. ORC_EDEADLINEEXCEEDED, without an
 * orc_error, when none came in time (timeout_ms 0 only looks); ORC_ECANCELLED when it was stopped and all is told. */
ORC_CAPI orc_code orc_informer_next(orc_informer* informer, int64_t timeout_ms, orc_bytes* events, orc_error** error);
/* As orc_store_watch_fd; -1 with a callback. */
ORC_CAPI int orc_informer_fd(orc_informer* informer);
/* Tells all objects once more, soon. */
ORC_CAPI orc_code orc_informer_resync(orc_informer* informer, orc_error** error);
/* Why list or watch fail at present; empty when all is well. */
ORC_CAPI orc_code orc_informer_last_error(orc_informer* informer, orc_bytes* out, orc_error** error);
/* No callback runs when this has returned. From its own callback: ORC_EWOULDDEADLOCK. */
ORC_CAPI orc_code orc_informer_stop(orc_informer* informer, orc_error** error);
/* Stops, then frees. */
ORC_CAPI void orc_informer_free(orc_informer* informer);

/* --- streams of pods: logs, commands, connections ------------------------------------------------------------ */
/* `request`: verb "log", "exec", "attach" or "portforward", ns and name of the pod; resource may be NULL. Its body
 * holds the options as JSON: of a log {"container", "follow", "previous", "timestamps", "sinceSeconds", "sinceTime",
 * "tailLines", "limitBytes"}, of exec and attach {"container", "command": ["ls", "-l"], "stdin", "stdout", "stderr",
 * "tty"} (what is left out is false), of portforward {"ports": [8080]}, one port. */
ORC_CAPI orc_code orc_client_stream(orc_client* client, const orc_request* request, orc_stream** out, orc_error** error);
typedef enum orc_stream_channel {
  ORC_STREAM_OUT = 1,  /* standard output, a log, or what came through a connection */
  ORC_STREAM_ERR = 2,
  ORC_STREAM_END = 3   /* nothing follows; exit_code is that of the command */
} orc_stream_channel;
/* The next piece, at most 64 KiB; `bytes` is empty at the end. ORC_EDEADLINEEXCEEDED, without an orc_error, when none came
 * in time (timeout_ms 0 only looks). The command or the connection waits while nobody takes what it wrote. */
ORC_CAPI orc_code orc_stream_next(orc_stream* stream, int64_t timeout_ms, int* channel, int* exit_code, orc_bytes* bytes, orc_error** error);
/* As orc_store_watch_fd. */
ORC_CAPI int orc_stream_fd(orc_stream* stream);
/* Input of a command that was started with "stdin", or bytes for a connection. Returns when they were taken; on
 * ORC_EDEADLINEEXCEEDED some may have been. timeout_ms 0 = 30 s. */
ORC_CAPI orc_code orc_stream_write(orc_stream* stream, const void* data, size_t size, int64_t timeout_ms, orc_error** error);
/* No more input. */
ORC_CAPI orc_code orc_stream_close_write(orc_stream* stream, orc_error** error);
/* The size of the terminal of a command with "tty". */
ORC_CAPI orc_code orc_stream_resize(orc_stream* stream, uint16_t columns, uint16_t rows, orc_error** error);
/* Ends a command that still runs, leaves a process that was attached, closes a connection. */
ORC_CAPI void orc_stream_free(orc_stream* stream);

#ifdef __cplusplus
}
#endif
#endif
