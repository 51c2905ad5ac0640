#include "source/poison.h"

#include <stdio.h>

// By SQLSTATE (or the beginning of one): what passes with the connection, not with its place.
static bool passes(const struct session_end *end, enum err_class class)
{
    static const char *const passing[] = {"08", "53", "57", "58", "55006", "wait"};
    if (class == ERR_DATA) // what we could not read
        return false;
    for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
        if (strncmp(end->sqlstate, passing[i], strlen(passing[i])) == 0)
            return true;
    }
    return !*end->sqlstate;
}

static lsn_t place(const struct session_end *end, lsn_t appended)
{
    return end->txn_lsn ? end->txn_lsn : end->error_lsn ? end->error_lsn : appended;
}

bool poison_met(struct poison *p, const struct session_end *end, enum err_class class,
                lsn_t appended)
{
    if (!end->streamed_at || passes(end, class))
        return false;
    lsn_t at = place(end, appended);
    if (p->at != at || strcmp(p->sqlstate, end->sqlstate) != 0) {
        p->at = at;
        memcpy(p->sqlstate, end->sqlstate, sizeof p->sqlstate);
        p->times = 0;
    }
    return ++p->times >= POISON_TIMES;
}

// What mends the cause, where the cause is known. A publication holds as it was at each place of
// WAL: altered now it helps only what is written from now on.
static const struct {
    const char *sqlstate; // or the beginning of one
    const char *said;     // in the message; NULL: anything
    const char *remedy;
} CURES[] = {
    {"XX000", "invalid memory alloc request size",
     "start with --binary on, in which a row of bytea takes half the room; and leave the large "
     "column out of the publication with a column list"},
    {"54000", NULL,
     "start with --binary on, in which a row of bytea takes half the room; and leave the large "
     "column out of the publication with a column list"},
    {"0A000", "column lists",
     "name fewer publications in --publication; and give the table the same columns in each"},
    {"42704", "publication",
     "this was written before the publication was created, and cannot be read with it"},
    {"22", NULL,
     "a row filter of the publication may fail on this row: correct it, for what comes"},
    {"", "row-max", "raise row-max"},
};

static const char *cure(const struct session_end *end, const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(CURES); i++) {
        const char *state = CURES[i].sqlstate;
        bool same = *state ? strncmp(end->sqlstate, state, strlen(state)) == 0 : !*end->sqlstate;
        if (same && (!CURES[i].said || strstr(text, CURES[i].said)))
            return CURES[i].remedy;
    }
    return "mend the cause on the server";
}

void poison_explain(const struct poison *p, const struct session_end *end, const char *slot,
                    struct err *e)
{
    struct err cause = *e;
    char what[64], skip[160];
    if (end->txn_lsn) {
        // A transaction is skipped when its commit begins before the place to start at.
        snprintf(what, sizeof what, "transaction %X/%X", LSN_ARG(end->txn_lsn));
        snprintf(skip, sizeof skip, "give this transaction up: --skip-to %X/%X",
                 LSN_ARG(end->txn_lsn + 1));
    } else {
        snprintf(what, sizeof what, "%s %X/%X", p->at == end->error_lsn ? "at" : "behind",
                 LSN_ARG(p->at));
        snprintf(skip, sizeof skip,
                 "give up everything up to now: --skip-to with what SELECT pg_current_wal_lsn() "
                 "says");
    }
    err_set(e, ERR_DATA,
            "slot %s: the same error %d times, %s%s%s: %.400s; remedy: %s; or %s (consumers get a "
            "gap marker)",
            slot, p->times, what, *end->table ? ", last seen table " : "", end->table, cause.text,
            cure(end, cause.text), skip);
}
