// Does the source's history go on from where the journal ends? The server's system id, timeline and
// its history, end of WAL and slot are compared with the journal's identity and watermark before
// every start. What does not fit has a name, and an exit status, of its own.
#pragma once

#include "source/slot.h"

struct history { // the server's
    uint64_t system_id;
    uint32_t timeline;
    struct timelines before; // where each ancestor was left
    lsn_t end;               // of its WAL
    // filled in by the caller:
    bool standby;
    uint32_t database_oid;
    const char *database;
    const char *slot_name; // borrowed, as the slot
    const struct slot *slot;
};

enum history_verdict {
    HISTORY_NEW,      // the journal holds nothing yet
    HISTORY_GOES_ON,  //
    HISTORY_WAITS,    // cannot be said yet: a standby that has not replayed as far
    HISTORY_DIFFERS,  // another source, or the old primary: never to be mixed into this journal
    HISTORY_GAP,      // something is missing behind what the journal holds
    HISTORY_BROKEN,   // what the journal holds is not in this history
    HISTORY_UNTOLD,   // a gap was declared and is to be told yet
    HISTORY_FORGOTTEN // a gap, but the journal holds nothing that anybody could miss it by
};

// Asks the walsender: IDENTIFY_SYSTEM, TIMELINE_HISTORY.
int history_read(struct connection *walsender, struct history *h, struct err *e) MUST_CHECK;
// `id` NULL: the journal has none. From HISTORY_WAITS on *ret_why is set: the named error.
enum history_verdict history_judge(const struct history *h, const struct journal_identity *id,
                                   lsn_t watermark, struct err *ret_why);
// The same of a journal.
int history_compare(const struct history *h, struct journal *j, enum history_verdict *ret_verdict,
                    struct err *ret_why, struct err *e) MUST_CHECK;
// Whose history the journal's becomes.
struct journal_identity history_identity(const struct history *h);
// Tells the journal's readers what the verdict means to them; changes are read from `start` on.
// Nothing to do for HISTORY_GOES_ON.
int history_declare(const struct history *h, struct journal *j, enum history_verdict verdict,
                    const struct err *why, lsn_t start, struct err *e) MUST_CHECK;
// Fills *t from the content of a timeline history file.
void history_parse(const char *text, struct timelines *t);
