// The journal: an append-only log of batches on disk, its newest part in memory too.
//
// One thread appends (the source), one thread of the journal's own compresses, writes and syncs
// (group commit), any number of readers follow from wherever they like. A batch is visible to
// readers as soon as it is appended, before it is durable: what comes from WAL can be had again.
// What does not (BATCH_ASIDE) is synced first, and what is appended behind it waits.
#pragma once

#include "proto/batch.h"
#include "proto/catalog.h"

struct journal;

struct journal_options {
    const char *dir;        // made (0700) when missing
    uint64_t segment_bytes; // default 64 MiB
    uint64_t retain_bytes;  // size limit of the directory; at it whole old segments go, unless a
                            // gating reader still needs them: then journal_has_room is false
    int64_t retain_us;      // age limit; 0: none
    uint64_t memory_bytes;  // newest batches kept in memory for readers at the tail; default 16 MiB
    int compression;        // zstd level
    bool sync;              // fdatasync (false only for experiments)
    bool read_only;         // `rowcast journal ..`: no lock, no thread, no cut
};

// Timelines that ended, oldest first, each at the LSN where the next one left it. Beyond the limit
// the oldest are forgotten: a cursor on one is refused then.
#define TIMELINES_MAX 128
struct timelines {
    uint32_t n;
    struct {
        uint32_t timeline;
        lsn_t end;
    } items[TIMELINES_MAX];
};

// Whose history this is; kept in the directory, checked at each start.
struct journal_identity {
    uint64_t system_id;
    uint32_t database_oid;
    char name[64]; // the stream's name: the slot's
    // kept up to date, not compared by journal_claim:
    char database[64];       // "": not known
    uint32_t timeline;       // of the server
    struct timelines before; // its history
    // the journal's own:
    uint32_t generation; // rises with each declared break of continuity
    uint64_t stream_id;  // hash of system, database, name and generation
};

// Opens (lock, cut of a torn tail, newest segment only). ERR_JOURNAL: in use, unwritable, corrupt.
int journal_open(const struct journal_options *o, struct journal **ret_j, struct err *e) MUST_CHECK;
// Writes and syncs what was appended, ends the thread, frees. NULL is fine. No reader may be open.
void journal_close(struct journal *j);

// The identity on disk; false when the journal is new.
bool journal_identity(const struct journal *j, struct journal_identity *ret_id);
// Changes with the identity, before anything is appended under the new one. Any thread.
uint32_t journal_identity_version(const struct journal *j);
// A new journal: keeps it, durable. An old one: ERR_JOURNAL ("belongs to ..") unless it is the same
// system, database and name; then the timeline, its history and the database's name are brought up
// to date, and the generation stays what it is.
int journal_claim(struct journal *j, const struct journal_identity *id, struct err *e) MUST_CHECK;

// ---- breaks of continuity (gap.c; the appending thread, and no transaction open) ----

#define GAP_REASON_MAX 400 // bytes, with the NUL; a longer one is cut

// What lies between what was appended last and `to` cannot be had: says so in the stream, durable
// before anything behind it is shown. ERR_USAGE: `to` is not above what was appended.
int journal_gap(struct journal *j, lsn_t to, const char *reason, struct err *e) MUST_CHECK;
// The same where it is the source whose history was broken: a new generation begins, as `id` says
// (its generation and stream id are not looked at). Cursors from before the gap go on, and meet it.
// ERR_USAGE, and nothing done: as above.
int journal_break(struct journal *j, const struct journal_identity *id, lsn_t to,
                  const char *reason, struct err *e) MUST_CHECK;
// The same where what the journal holds is not in the source's history (a restored backup), so that
// positions may go back: its contents are removed, and open readers end with
// READ_OTHER_STREAM. The gap is the new contents' first entry.
int journal_start_over(struct journal *j, const struct journal_identity *id, lsn_t to,
                       const char *reason, struct err *e) MUST_CHECK;
// A gap that was declared, but is not in the journal: a crash came in between. Its generation has
// begun; journal_gap is to be called with the reason.
bool journal_gap_missing(struct journal *j, char ret_reason[GAP_REASON_MAX]);
// True when it holds nothing but progress.
int journal_blank(struct journal *j, bool *ret_blank, struct err *e) MUST_CHECK;
// Removes the contents of a blank one; open readers end with READ_EXPIRED. The stream stays.
int journal_forget(struct journal *j, struct err *e) MUST_CHECK;
// The operator's word that this source continues the journal's history: from now on it is the
// journal's, under the same stream id. `to`: nothing was committed between what was appended and
// there.
int journal_adopt(struct journal *j, const struct journal_identity *id, lsn_t to,
                  struct err *e) MUST_CHECK;
// Changes when positions go back (journal_start_over, journal_forget): before the identity does,
// and before anything is appended. Any thread.
uint32_t journal_era(const struct journal *j);

// Relation versions of this stream; the appending thread adds to it through journal_add_relation,
// which takes the version over and makes it durable. On a full disk that is made up for later:
// there is no room for more meanwhile, and batches appended since are neither written nor shown.
struct catalog *journal_catalog(struct journal *j);
int journal_add_relation(struct journal *j, struct relation *r, struct err *e) MUST_CHECK;

// Which version of a table the stream's consumers were told last: of this OID, else of this name;
// NULL: none. The appending thread's, as what follows.
const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table);
// They are told of another one, at a position that is about to be appended.
void journal_tell(struct journal *j, uint32_t id, struct position at);
// Whatever was told and did not get into the journal, or was cut off it, was not.
void journal_untell(struct journal *j);

// ---- appending (one thread) ----

// False: the source must stop reading (memory full of unwritten batches, size limit reached with a
// gating reader behind, disk full). `ret_why` says which, or NULL. Turns true without a restart.
bool journal_has_room(struct journal *j, const char **ret_why);
// Takes the reference. Gives it seq, makes it visible, wakes readers.
void journal_append(struct journal *j, struct batch *b);
// The position of the newest batch that was appended or was there; {0, 0}: none ever was.
struct position journal_last(struct journal *j);
// The highest LSN that the source need not send again: durable, ends at a whole transaction.
lsn_t journal_watermark(struct journal *j);
// The same counting what is appended but not durable yet.
lsn_t journal_appended(struct journal *j);
// Called from the journal's thread whenever the watermark moved or room came back; must not block.
void journal_on_durable(struct journal *j, void (*wake)(void *arg), void *arg);
// The journal's thread met an error that it cannot survive (fsync, write other than ENOSPC).
bool journal_failed(struct journal *j, struct err *ret_e);

// What was cut off an unfinished transaction at open or by journal_cut; lsn 0: nothing.
struct journal_cut {
    lsn_t lsn;        // its commit LSN
    uint64_t changes; // how many of its changes were cut
    uint64_t hash;    // their hash (batch_builder_txn_hash)
    uint32_t attempt; // the attempt they belonged to
};
// Cuts an unfinished transaction off the tail (the connection was lost inside it), durable before
// anything is appended again. Readers go back by themselves and drop what they had.
struct journal_cut journal_cut(struct journal *j);
// The cut that has not been answered yet; kept over restarts until the transaction is appended
// again up to `changes` and journal_cut_done is called.
struct journal_cut journal_pending_cut(struct journal *j);
void journal_cut_done(struct journal *j);
// From here on appended batches stay invisible to readers (the transaction that was cut is being
// decoded again, and its hash not yet known); journal_release makes them visible.
void journal_hold(struct journal *j);
void journal_release(struct journal *j);

// ---- reading (each reader by one thread at a time) ----

struct journal_reader;

enum journal_from { FROM_NOW, FROM_EARLIEST, FROM_POSITION };

enum read_result {
    READ_BATCH,   // a batch: the caller owns the reference
    READ_TAIL,    // nothing more now; `wake` is called when there is
    READ_RESTART, // the transaction that the reader stands in was decoded again with other content:
                  // tell the consumer to forget it; reading goes on with its first change
    READ_EXPIRED, // the position is older than what is kept
    READ_OTHER_STREAM, // the journal has started over (journal_start_over): what it held is not in
                       // the source's history
    READ_ERROR,        // a file could not be read: e says which
};

// `wake` is called from other threads, at least once after each READ_TAIL when there is more; it
// must not block. `gating`: retention never passes this reader's acknowledged position.
int journal_reader_open(struct journal *j, const char *name, enum journal_from from,
                        const struct cursor *c, bool gating, void (*wake)(void *arg), void *arg,
                        struct journal_reader **ret_r, struct err *e) MUST_CHECK;
void journal_reader_close(struct journal_reader *r);
// Where delivery is guaranteed from: everything after it will be read.
struct cursor journal_reader_start(const struct journal_reader *r);
// The first batch after opening at a position may hold entries at or below it: skip those with
// `journal_reader_skip`: entries up to (and with) this position were already had.
enum read_result journal_reader_next(struct journal_reader *r, struct batch **ret_b, struct err *e);
struct position journal_reader_skip(const struct journal_reader *r);
// The consumer has everything up to here: moves a gating reader's hold on retention.
void journal_reader_acknowledge(struct journal_reader *r, struct position upto);
bool journal_reader_at_tail(const struct journal_reader *r);

// Oldest and newest position that can be read; the stream's identity. Any thread.
struct cursor journal_earliest(struct journal *j);
struct cursor journal_latest(struct journal *j);
// Whether a cursor from a client can be continued. One of an earlier generation can when it stands
// before the gap that ended it, which it meets, or behind it (from another journal).
enum cursor_check { CURSOR_OK, CURSOR_OTHER_STREAM, CURSOR_OTHER_TIMELINE, CURSOR_EXPIRED };
enum cursor_check journal_check_cursor(struct journal *j, const struct cursor *c);
// Why a stream that this journal once held came to its end; false: it never did, or goes on.
bool journal_stream_ended(struct journal *j, uint64_t stream_id, char ret_reason[GAP_REASON_MAX]);

// ---- files beside the segments ----
// Kept for others, who see to their contents; by the appending thread.

#define JOURNAL_SIDE_MAX (UINT64_C(1) << 30) // bytes of such a file

// Appended to *ret; ret_found false: there is no such file.
int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e) MUST_CHECK;
// The new contents are durable when it returns. ERR_RETRY: the disk is full.
int journal_side_replace(struct journal *j, const char *name, struct slice bytes,
                         struct err *e) MUST_CHECK;
// Behind what is there. Not synced: it outlives the process, and a power cut may take it. On
// failure nothing was added.
int journal_side_append(struct journal *j, const char *name, struct slice bytes,
                        struct err *e) MUST_CHECK;
// What was appended is durable when it returns.
int journal_side_sync(struct journal *j, const char *name, struct err *e) MUST_CHECK;

// ---- looking in (rowcast journal list | verify | dump) ----

int journal_list(const char *dir, struct err *e) MUST_CHECK;
int journal_verify(const char *dir, struct err *e) MUST_CHECK;
