// What the server pays for our slot, against thresholds: WAL that it keeps, room before it drops
// the slot, catalog rows that it cannot clean up, commits that wait for us. Each is said once when
// it passes and once when it is over, with what holds it back: we and which sink, or a transaction
// elsewhere, or another slot. Pure.
#pragma once

#include "base/position.h"

// What the server says of itself and of the slot. Numbers are -1 where it does not say.
struct slot_figures {
    lsn_t wal_lsn, restart, confirmed;
    int64_t safe_wal_size; // bytes that may be written before the slot is lost
    int64_t xmin_age;      // transactions since the slot's catalog_xmin
    int active_pid;        // the walsender that has the slot; 0: none
    bool lost;
    bool waiting;            // that walsender waits for WAL, or for us
    int64_t idle_timeout_us; // the server gives up slots that nobody reads for so long; 0: never
    bool synchronous;        // commits wait for that walsender
    struct {                 // the oldest transaction that may still write; age 0: there is none
        int64_t age;         // in transactions
        int64_t seconds;     // -1: not for us to see
        int pid;             // 0: it is prepared, and `name` its identifier
        char name[64], user[64], application[64];
    } transaction;
    struct { // the slot that keeps most WAL, where that is another one; bytes 0: there is none
        int64_t bytes;
        bool active;
        char name[64];
    } other;
};

enum watch_kind {
    WATCH_RETAINED, // WAL kept for our slot
    WATCH_SAFE,     // room before it is lost
    WATCH_XMIN,     // catalog rows kept
    WATCH_OTHER,    // WAL kept for another slot
    WATCH_SYNC,     // we are a synchronous standby
};
#define WATCH_KINDS (WATCH_SYNC + 1)

struct watch_limits { // 0: not watched
    int64_t retained_bytes, safe_bytes, xmin_age;
};

struct watch {
    struct watch_limits limits;
    bool passed[WATCH_KINDS];
};

// Takes new figures; a bit (1 << kind) for each that has now passed its threshold, or is over:
// below nine tenths of it.
unsigned watch_look(struct watch *w, const struct slot_figures *f);
// What it is and what holds it back, in words. behind: what of ours holds acknowledgement back
// ("sink kafka"), or NULL.
void watch_describe(enum watch_kind kind, const struct slot_figures *f, const char *behind,
                    struct buf *out);
const char *watch_name(enum watch_kind kind); // "retained_wal"
// Whether synchronous_standby_names lists this application_name, or everybody.
bool watch_listed(const char *standby_names, const char *name);
