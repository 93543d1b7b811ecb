// EtcdStoreImpl: how commands become final, and who compacts.
#include <algorithm>
#include <charconv>

#include "orchestra/env.hpp"
#include "store/etcd/etcd_store.hpp"

namespace orchestra::store::etcd {
namespace {
/// As the Kubernetes API server names it: whoever shares an etcd shares this key, too.
constexpr const char* kCompactionKey = "compact_rev_key";
constexpr std::size_t kTellMax = 8;

Outcome done_at(Revision revision) {
  TxnResult result;
  result.succeeded = true;
  result.revision = revision;
  return result;
}
}  // namespace

void EtcdStoreImpl::propose(Command&& command, Answer answer) {
  if (auto* txn = std::get_if<Txn>(&command)) return propose_txn(std::move(*txn), std::move(answer));
  if (auto* grant = std::get_if<LeaseGrant>(&command)) return propose_grant(*grant, std::move(answer));
  if (auto* revoke = std::get_if<LeaseRevoke>(&command)) return propose_revoke(*revoke, std::move(answer));
  propose_compact(std::get<Compact>(command), std::move(answer));
}

bool EtcdStoreImpl::changed_mirror(const Txn& txn, const TxnResult& result) const {
  const auto& ops = result.succeeded ? txn.then : txn.otherwise;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].type == TxnOp::Type::put && mirrored_.contains(ops[i].range.begin)) return true;
    if (ops[i].type == TxnOp::Type::txn &&
        changed_mirror(ops[i].nested.front(), result.ops[i].nested.front()))
      return true;
    if (ops[i].type == TxnOp::Type::remove && result.ops[i].removed > 0 && mirrors(ops[i].range)) return true;
  }
  return false;
}

void EtcdStoreImpl::settle(TxnResult result, bool visible, const Answer& answer) {
  if (!visible || revision() >= result.revision) return answer(std::move(result));
  const Revision wanted = result.revision;
  catch_up(wanted, [result = std::move(result), answer](bool) { answer(result); });
}

void EtcdStoreImpl::propose_txn(Txn txn, Answer answer) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  const bool write = any_op(txn, [](const TxnOp& op) { return op.type != TxnOp::Type::range; });
  std::string body = encode_txn(txn);
  call("/v3/kv/txn", std::move(body), write, true,
       [self, txn = std::move(txn), answer = std::move(answer)](Result<json::object> said) {
         if (!said) return answer(self->with_revisions(said.error(), 0));
         auto result = read_txn_answer(*said, txn);
         if (!result) {
           return answer(Error(Error::unknown_outcome, "store", "etcd's answer to a txn is malformed")
                             .because(result.error()));
         }
         const bool visible = self->changed_mirror(txn, *result);
         self->settle(std::move(*result), visible, answer);
       });
}

void EtcdStoreImpl::propose_grant(const LeaseGrant& grant, Answer answer) {
  const json::object request{{"TTL", std::to_string(grant.ttl.count())}, {"ID", std::to_string(grant.id)}};
  call("/v3/lease/grant", to_json(request), true, false,
       [answer = std::move(answer)](Result<json::object> said) {
         answer(said ? done_at(0) : Outcome(said.error()));
       });
}

void EtcdStoreImpl::propose_revoke(const LeaseRevoke& revoke, Answer answer) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/lease/revoke", to_json(json::object{{"ID", std::to_string(revoke.id)}}), true, false,
       [self, answer = std::move(answer)](Result<json::object> said) {
         if (!said) return answer(said.error());
         auto header = read_header(*said);
         self->settle(*done_at(header ? header->revision : 0), true, answer);
       });
}

void EtcdStoreImpl::propose_compact(const Compact& compact, Answer answer) {
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/kv/compaction", to_json(json::object{{"revision", std::to_string(compact.revision)}}), true, true,
       [self, revision = compact.revision, answer = std::move(answer)](Result<json::object> said) {
         if (!said) return answer(self->with_revisions(said.error(), revision));
         self->catch_up(revision, [self, revision, answer](bool) {
           self->follow_compaction(revision);
           answer(done_at(self->revision()));
         });
       });
}

// ---- one of all clients compacts
//
// Each round (compact_age) every client tries to count `compact_rev_key` one up from the version it knows;
// whoever succeeds compacts to the revision that was the newest one round ago. The losers learn the version.

void EtcdStoreImpl::schedule_compaction() {
  if (options_.compact_age <= Duration::zero()) return;
  std::lock_guard lock(etcd_mutex_);
  if (core_->stopped) return;
  compaction_timer_ = engine_.after(options_.compact_age, [weak = weak_from_this()] {
    if (auto self = std::static_pointer_cast<EtcdStoreImpl>(weak.lock())) self->compete_to_compact();
  });
}

void EtcdStoreImpl::compete_to_compact() {
  Txn txn;
  {
    std::lock_guard lock(etcd_mutex_);
    txn.compares = {{Key(kCompactionKey), Compare::Target::version, Compare::Op::equal, compaction_version_}};
    TxnOp put, get;
    put.range = get.range = Key(kCompactionKey);
    put.value = std::to_string(compaction_revision_);
    get.type = TxnOp::Type::range;
    txn.then = {put};
    txn.otherwise = {get};
  }
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  call("/v3/kv/txn", encode_txn(txn), true, true, [self, txn](Result<json::object> said) {
    auto result = said ? read_txn_answer(*said, txn) : Result<TxnResult>(said.error());
    if (!result) return self->schedule_compaction();
    std::int64_t version = 0;
    if (!result->succeeded && !result->ops[0].range.items.empty())
      version = result->ops[0].range.items[0].version;
    self->compacted_by(result->succeeded, result->revision, version);
  });
}

void EtcdStoreImpl::compacted_by(bool us, Revision now, std::int64_t version) {
  Revision target = 0;
  {
    std::lock_guard lock(etcd_mutex_);
    if (us) target = compaction_revision_;
    compaction_version_ = us ? compaction_version_ + 1 : version;
    compaction_revision_ = now;
  }
  if (target == 0) return schedule_compaction();
  const auto self = std::static_pointer_cast<EtcdStoreImpl>(shared_from_this());
  propose_compact(Compact{target}, [self, target](Outcome outcome) {
    if (outcome) {
      std::lock_guard lock(self->etcd_mutex_);
      self->notes_.push_back("compacted etcd to revision " + std::to_string(target));
      if (self->notes_.size() > kTellMax) self->notes_.erase(self->notes_.begin());
    }
    self->schedule_compaction();
  });
}

}  // namespace orchestra::store::etcd
