#pragma once
// The watches of the in-process Client.
//
// Objects that are stored as they are sent are handed out on the reader's thread, shared with all other
// readers. Where a webhook converts them, a worker thread does it ahead of the reader: one batch at a time,
// and the next only when that was taken, so a slow reader holds nothing but its place in the store's ring.
#include <memory>

#include "apiserver/audit/audit.hpp"
#include "apiserver/watch_cursor.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

/// `record` (may be null) is complete when the watch ends; `handle` lives as long as it.
std::shared_ptr<ObjectWatch::Impl> in_process_watch(std::shared_ptr<ApiCore> core,
                                                    std::unique_ptr<WatchCursor> cursor,
                                                    std::shared_ptr<AuditRecord> record,
                                                    std::shared_ptr<void> handle);

}  // namespace orchestra::apiserver
