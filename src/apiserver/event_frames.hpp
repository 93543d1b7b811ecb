#pragma once
// The watch event that was made last, as it is sent.
//
// An event goes to all its watchers one after another, and nearly all of them want the same bytes: one entry
// is enough for them, where a table of many would be asked for its bounds. Rows of Tables are never kept,
// they say how old an object is.
#include "api/types.hpp"
#include "apiserver/call.hpp"
#include "base/shared_slot.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class EventFrames {
 public:
  using Text = std::shared_ptr<const std::string>;
  /// What the bytes depend on; only looked at.
  struct Wanted {
    std::string_view event;  ///< "ADDED"
    const Value& stored;
    Revision revision;
    const api::TypePtr& type;
    const std::string& version;
    const Representation& want;
  };
  static bool keeps(const Representation& want) { return want.form != Form::table; }
  /// Null: somebody has to make it.
  Text find(const Wanted& wanted) const {
    const auto last = last_.load();
    return last && last->fits(wanted) ? last->text : nullptr;
  }
  void keep(const Wanted& wanted, Text text) {
    last_.store(
        std::make_shared<const Frame>(Frame{std::string(wanted.event), wanted.stored, wanted.revision,
                                            wanted.type, wanted.version, wanted.want, std::move(text)}));
  }

 private:
  struct Frame {
    std::string event;
    Value stored;  // this and the type keep the addresses that are compared
    Revision revision;
    api::TypePtr type;
    std::string version;
    Representation want;
    Text text;
    bool fits(const Wanted& wanted) const {
      return revision == wanted.revision && stored.bytes().data() == wanted.stored.bytes().data() &&
             event == wanted.event && type == wanted.type && version == wanted.version && want == wanted.want;
    }
  };
  SharedSlot<const Frame> last_;
};

}  // namespace orchestra::apiserver
