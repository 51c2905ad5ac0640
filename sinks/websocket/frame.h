// Frames of entries, made of the journal's batches for a selection, and shared by all subscriptions
// that stand at the same place and want the same: at the tail a batch is rendered once, whatever
// the number of subscribers. A subscription to everything in the protobuf form gets the batch's own
// bytes.
//
// A frame is as much as one WebSocket message carries: one batch, a part of a large one, or several
// small ones. One thread (a context's) owns a maker and all its frames.
#pragma once

#include "base/metrics.h"
#include "proto/json.h"
#include "sinks/websocket/selection.h"

#define FRAME_HEADROOM    64          // for a WebSocket header, as in front of a batch
#define FRAME_SMALL_BYTES (64 << 10)  // below it a frame takes another batch in
#define FRAME_LARGE_BYTES (256 << 10) // above it a batch is cut into several frames
#define FRAME_BATCHES_MAX 128         // in one frame
#define FRAME_VIEWS_MAX   8192        // batches that are kept with their frames, at most
#define FRAME_KEPT_BYTES  (16 << 20)  // and how many bytes all that may hold

// What a frame depends on besides the batches.
struct frame_key {
    struct selection *sel;
    uint32_t entry; // of the first batch, where the frame starts
    bool got;       // the subscriber got something of the transaction that is open there
};

struct frame {
    uint32_t refs;
    struct frame_key key;
    struct frame *next; // of the same view
    struct batch *borrowed;
    struct buf own; // with FRAME_HEADROOM
    uint8_t *data;  // payload; FRAME_HEADROOM bytes of room before it; NULL: nothing to send
    size_t n;
    // the batches that went in after the first one, and where it ends
    struct batch **more;
    uint32_t more_count;
    uint32_t next_entry; // of the last batch; 0: all of it
    bool got;            // as key.got, behind the frame
    bool open;           // it ends inside a transaction
    lsn_t passed;        // everything before this LSN is in it or was not wanted; 0: no news
    lsn_t told;          // as the subscriber can see from it; 0: no news
    struct position last;
    uint32_t changes;
    int64_t commit_time_us; // of the first live batch's last transaction; 0: none, or not live
    uint32_t use_count;     // relation versions that must be known before it
    uint32_t *uses;
};

struct frame_view; // a batch and what was made of it

struct frame_maker {
    const struct catalog *catalog;
    struct json_context json;   // stream and timeline kept up to date by the owner
    bool borrow;                // the batch's headroom is ours to write: there is one context
    size_t frame_bytes_max;     // a change above it loses its large columns
    struct metric *omitted;     // changes that did
    struct position omitted_at; // the newest of them
    struct frame_view *views[FRAME_VIEWS_MAX]; // by the batch's seq
    struct frame_view *oldest, *newest;
    size_t kept_bytes;
};

void frame_maker_init(struct frame_maker *fm, const struct catalog *c, size_t frame_bytes_max);
void frame_maker_fini(struct frame_maker *fm);
// Drops what was made for a selection that is about to be freed.
void frame_maker_forget(struct frame_maker *fm, const struct selection *sel);

struct frame *frame_ref(struct frame *f);
struct frame *frame_unref(struct frame *f); // NULL

// True when the batch surely has nothing for this selection but the passage of positions, which
// then stands in *ret_passed (0: no news).
bool frame_nothing(struct frame_maker *fm, struct selection *sel, struct batch *b,
                   lsn_t *ret_passed);
// A frame of batches[0..count) from key->entry on that is there already, or NULL. It may have taken
// fewer of them: 1 + more_count.
struct frame *frame_find(struct frame_maker *fm, const struct frame_key *key,
                         struct batch *const *batches, size_t count);
// Makes one; `skip`: leave out what is at or below it. -1: a batch is corrupt.
int frame_make(struct frame_maker *fm, const struct frame_key *key, struct batch *const *batches,
               size_t count, struct position skip, struct frame **ret_f, struct err *e) MUST_CHECK;
// A frame of relation entries, of a restart, of a progress.
struct frame *frame_relations(struct frame_maker *fm, const struct selection *sel,
                              const uint32_t *ids, size_t count);
struct frame *frame_restart(const struct selection *sel, lsn_t lsn);
// Everything before `lsn`; and where `at`, the last place passed, stands behind that among what is
// not of WAL, all up to there: a progress never takes a cursor back.
struct frame *frame_progress(struct frame_maker *fm, const struct selection *sel, lsn_t lsn,
                             struct position at);
