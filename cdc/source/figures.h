// What the server says of itself while we stream, asked every ten seconds over the look-up
// connection: metrics, warnings (watch.h), a witness for a silent stream (silence.h), and the first
// sign of its shutdown.
//
// A server that stops ends ordinary sessions at once, and then waits for its walsenders until they
// have been read to the end and have acknowledged all. That may take long: a backlog, a sink that
// is away, a journal without room. So the end of the look-up connection (57P01) is what tells us,
// and a refused new one makes it certain.
#pragma once

#include "base/health.h"
#include "source/lookup.h"
#include "source/silence.h"
#include "source/watch.h"

#define FIGURES_INTERVAL_US INT64_C(10000000)
#define FIGURES_FIRST_US    INT64_C(3000000) // a slot that was just taken is behind: no news yet
#define FIGURES_WARNED_US   INT64_C(2000000) // while a warning stands: its end is told soon
#define FIGURES_LOOK_US     INT64_C(100000)  // the look-up connection is looked at this often
#define UNSURE_US           INT64_C(2000000) // for a new look-up connection to say that it does not
#define STOPPING_US         INT64_C(400000)  // left to a stopping server to end the stream itself

struct figures {
    struct lookup *lookup;
    const char *slot;
    struct watch *watch; // lives longer than a connection
    struct health *health;
    char *question;
    int pid; // our walsender's, as the server knows it
    int64_t due_at, look_at;
    struct slot_figures last;
    struct silence_witness witness;
    int64_t ended_at; // the server ended the look-up connection; 0: it did not
    bool refused;     // .. and makes no new one
    struct metric *lag_bytes, *retained, *safe, *xmin_age;
};

// What of ours the figures are held against.
struct figures_ours {
    lsn_t received;
    const char *behind; // what holds our acknowledgement back, or NULL
};

// Borrows all but the question.
void figures_init(struct figures *f, struct lookup *l, const char *slot, struct watch *watch,
                  struct health *h, int pid, int64_t now);
void figures_fini(struct figures *f);
// Does what is due; ready: the socket of lookup_fd is.
void figures_step(struct figures *f, bool ready, const struct figures_ours *ours, int64_t now);
// Asks at the next step, whenever the next time would be.
void figures_hurry(struct figures *f);
// When figures_step has something to do by itself.
int64_t figures_deadline(const struct figures *f);
// The server is stopping, and had its time to end the stream.
bool figures_stopping(const struct figures *f, int64_t now);

// `rowcast check`: asks once and waits for the answer. *ret_found: whether there is such a slot.
int figures_once(struct connection *sql, const char *slot, struct slot_figures *ret_f,
                 bool *ret_found, struct err *e) MUST_CHECK;
