#pragma once
// Planted bugs: mistakes that tests switch on to see that the simulator finds them (docs/simulation.md).
//
// Only the objects of test_sim_bugs are compiled with ORCHESTRA_PLANT_BUGS; everywhere else planted() is a
// constant false and leaves no code behind.
namespace orchestra::store {

enum class Bug {
  none,
  acknowledge_before_sync,  ///< a follower answers an append before its sync
  count_own_log_unstored,   ///< the leader counts itself before its sync
  ask_votes_unstored,       ///< a candidate asks for votes before its own one is stored
  vote_before_sync,         ///< a vote leaves before it is stored
  vote_not_stored,          ///< the vote is not written at all
  vote_twice,               ///< two candidates of one term get the same vote
  vote_for_stale_log,       ///< no election restriction
  commit_old_term,          ///< counting replicas commits entries of older terms
  commit_beyond_match,      ///< a follower commits entries that it did not compare
  skip_log_check,           ///< an append is taken whatever lies before it
  keep_conflicts,           ///< entries of a deposed leader stay
  accept_stale_term,        ///< messages of older terms are believed
  receipt_of_later,         ///< a sync report tells of entries that came while the sync ran
  no_check_quorum,          ///< a leader without majority goes on leading
  read_without_round,       ///< a leader answers reads unasked
  two_changes,              ///< a second change of members before the first is applied
  no_joint,                 ///< voters change in one step
  lose_hard_state,          ///< the hard state record is not written
  skip_sync,                ///< the log answers before fdatasync
  skip_folder_sync,         ///< a new segment's name is not made durable
  skip_snapshot_sync,       ///< a snapshot counts before its bytes are durable
  trim_too_much,            ///< segments go that no snapshot covers
  install_keeps_state,      ///< a received snapshot is recorded, but its state is not taken
  reply_by_index,           ///< answers are matched by index alone
  drop_watch_event,         ///< a watch that catches up skips a change
  serve_stale_after_pause,  ///< a follower serves linearizable reads from its own state
  retry_unknown,            ///< an unknown outcome is sent again
  leases_not_restarted,     ///< a new leader ends leases by what it knew as a follower
  keep_alive_unrecorded,    ///< a kept lease stays recorded as nearly ended
  forget_sessions,          ///< a snapshot does not say which requests were done
  store_commit_early,       ///< the hard state on disk calls entries committed that are not there yet
  revive_ending_lease,      ///< a lease whose end is under way is kept alive
  break_promise,            ///< a leader reads under its lease for longer than anybody promised
  state_rots,               ///< one peer does not apply what it should
  cut_damage,               ///< damage amid the log is cut as a crash's torn tail is
  trust_payloads,           ///< what a log record holds is not compared with its checksum
  accept_empty_disk,        ///< one whose disk was replaced gets its old id again
  enrol_unasked,            ///< whoever is asked tells a new peer its id, by what its own log says
  count_votes_twice,        ///< the same vote, heard twice, counts as two
  skip_unknown_command,     ///< a command of a later release is skipped
  last
};

#ifdef ORCHESTRA_PLANT_BUGS
inline namespace planting {  // another name than the constant one: both may be in one program
extern Bug planted_bug;
/// How often the switched-on mistake was passed: a switch that is never passed proves nothing.
extern unsigned long planted_hits;
inline bool planted(Bug bug) {
  if (planted_bug != bug) return false;
  ++planted_hits;
  return true;
}
}  // namespace planting
#else
constexpr bool planted(Bug) { return false; }
#endif

}  // namespace orchestra::store
