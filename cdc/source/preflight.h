// What has to be right on the server before anything is streamed. The same findings stop `run` and
// make up `check`.
#pragma once

#include "proto/catalog.h"
#include "source/publication.h"
#include "source/slot.h"

enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct preflight {
    const struct source_options *o;
    struct connection *sql;
    const struct catalog *catalog; // NULL: no journal is at hand
    bool history;                  // the journal holds something: what became of the slot is told
                                   // by history.h, not here
    // One finding: the object, what is (wrong) with it, and what mends it ("": nothing to mend).
    // class: what a FINDING_FAIL means to `run`.
    void (*report)(void *arg, enum finding level, enum err_class class, const char *object,
                   const char *cause, const char *remedy);
    void *arg;
    bool as_text; // values are sent as text in spite of --binary; may be set before
    // What it learned:
    struct slot slot;
    char database[64];
    uint32_t database_oid;
    bool standby, has_standby; // is one; one streams from it
    bool may_create;           // objects in the database
    int64_t sender_timeout_us; // 0: none
    bool create_publication;   // it is missing, and may be made before the slot
};

// -1: a question got no answer (the connection was lost). Findings do not make it fail.
int preflight_run(struct preflight *p, struct err *e) MUST_CHECK;
// Makes the (first) publication, as announced by create_publication.
int preflight_create_publication(struct preflight *p, struct err *e) MUST_CHECK;
