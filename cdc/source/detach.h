// Letting a database sleep: after a quiet time the connection is let go, and made again on a
// schedule or on demand. Nothing of ours touches the server in between, so nobody sees then how
// much WAL gathers for the slot: each time it is connected to it is seen how much has, and where
// that is more than the budget the next time comes sooner. Pure; times are clock_mono_us.
#pragma once

#include "base/position.h"

#define DETACH_EVERY_MIN_US INT64_C(10000000) // however much WAL gathers
#define DETACH_LINGER_US    INT64_C(2000000)  // after an attach by schedule that found nothing

struct detach_options {
    int64_t idle_us;      // quiet for so long; 0: only when asked
    int64_t every_us;     // the schedule
    int64_t budget_bytes; // of WAL gathered meanwhile; 0: no limit
};

struct detach {
    struct detach_options o;
    int64_t every_us;    // in use: shortened by the budget and by the server's own limit
    int64_t attached_at; // of this connection
    int64_t busy_at;     // since when it is quiet
    bool scheduled;      // this connection was made by the schedule, and nothing came yet
    lsn_t left_at;       // where WAL ended when it was let go; 0: it never was
    int64_t attach_at;   // when the schedule connects again
};

enum detach_finding {
    DETACH_FINE,
    DETACH_OVER,     // more WAL had gathered than the budget allows: every_us is shorter now
    DETACH_OVER_MIN, // .. and cannot become shorter
};

void detach_init(struct detach *d, const struct detach_options *o);
// Connected, and the server's WAL ends at wal_lsn. on_demand: not by the schedule.
// *ret_gathered: bytes of WAL since it was let go.
enum detach_finding detach_attached(struct detach *d, lsn_t wal_lsn, bool on_demand, int64_t now,
                                    int64_t *ret_gathered);
// Something came that is no mere sign of life.
void detach_busy(struct detach *d, int64_t now);
// The server gives up slots that nobody reads for so long; 0: never.
void detach_cap(struct detach *d, int64_t idle_slot_timeout_us);
// When the connection may be let go, if nothing is in work; INT64_MAX: never.
int64_t detach_due(const struct detach *d);
void detach_left(struct detach *d, lsn_t wal_lsn, int64_t now);
