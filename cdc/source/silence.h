// Whether the server is still there. TCP notices a machine that is gone; a process that stands
// still, or a box in between that swallows what it is given, keeps the connection open for ever.
// So the server is asked for a word where it has none to say, and given up when none comes: unless
// the look-up connection shows that it works, for before 16 a walsender answers nobody while it
// goes through a large transaction that has nothing for us. Pure; times are clock_mono_us.
#pragma once

#include "base/base.h"

#define SILENCE_DEFAULT_US INT64_C(60000000) // where the server has no wal_sender_timeout

struct silence {
    int64_t limit_us;
    int64_t heard_at; // anything came
    int64_t asked_at; // the first question since then; 0: none
};

// What the look-up connection showed, last.
struct silence_witness {
    int64_t asked_at, answered_at; // 0: never
    bool ours;                     // the slot is in our walsender's hands
    bool waiting;                  // that one waits: it has nothing to do but to answer
};

enum silence_verdict {
    SILENCE_FINE,
    SILENCE_LOOK,  // it is time to ask over the look-up connection
    SILENCE_BUSY,  // silent, and at work
    SILENCE_ENDED, // the server has given the stream up, and we did not hear of it
    SILENCE_DEAF,  // its walsender waits, and does not answer
    SILENCE_GONE,  // nobody answers, on no connection
};

// limit_us: as configured, 0: by the server's wal_sender_timeout (0: it has none).
void silence_init(struct silence *s, int64_t limit_us, int64_t sender_timeout_us, int64_t now);
void silence_heard(struct silence *s, int64_t now);
// The server is asked for an answer now.
void silence_asked(struct silence *s, int64_t now);
enum silence_verdict silence_judge(const struct silence *s, const struct silence_witness *w,
                                   int64_t now);
// When the verdict may change by itself; INT64_MAX: not before something happens.
int64_t silence_deadline(const struct silence *s, const struct silence_witness *w, int64_t now);
