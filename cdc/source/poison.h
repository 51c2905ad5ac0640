// Poison: what fails at the same place each time that it is read. A lost connection may end
// anywhere; the same error at the same place, three times in a row, is no accident, and a fourth
// time would only load the server. Then the error says where, in which table if that is known, and
// what can be done: mend the cause, or give the place up by `--skip-to`.
#pragma once

#include "source/session.h"

#define POISON_TIMES 3

struct poison {
    lsn_t at;
    char sqlstate[6];
    int times;
};

// A session that had come as far as streaming ended with an error of this class; `appended` is how
// far the journal is. True: it is one of its place and has come POISON_TIMES.
bool poison_met(struct poison *p, const struct session_end *end, enum err_class class,
                lsn_t appended);
// Turns *e, the error as it came, into the final one (ERR_DATA).
void poison_explain(const struct poison *p, const struct session_end *end, const char *slot,
                    struct err *e);
