// EtcdStore::open: where the store meets the HTTP client.
#include "net/http/http_server.hpp"
#include "orchestra/etcd_store.hpp"
#include "store/etcd/etcd_store.hpp"

namespace orchestra {
namespace store::etcd {

Result<std::shared_ptr<StateStore>> open_etcd_store(Engine& engine, std::shared_ptr<HttpClient> http,
                                                    EtcdStoreOptions options) {
  if (options.endpoints.empty())
    return Error(Error::invalid, "store",
                 "an EtcdStore needs at least one endpoint, e.g. http://127.0.0.1:2379");
  if (options.call_deadline <= Duration::zero())
    return Error(Error::invalid, "store", "call_deadline must be more than 0");
  auto store = std::make_shared<EtcdStoreImpl>(engine, std::move(http), std::move(options));
  auto started = store->start();
  if (started) return std::shared_ptr<StateStore>(std::move(store));
  store->stop();
  return started.error();
}

}  // namespace store::etcd

Result<std::shared_ptr<StateStore>> EtcdStore::open(Engine& engine, EtcdStoreOptions options) {
  return store::etcd::open_etcd_store(engine, make_http_client(engine), std::move(options));
}

}  // namespace orchestra
