#include "source/watch.h"

#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

static int64_t kept(const struct slot_figures *f)
{
    return f->restart && f->wal_lsn > f->restart ? (int64_t)(f->wal_lsn - f->restart) : 0;
}

// `of` may fall to a tenth below its limit before it counts as over: no flutter at the limit.
static bool above(int64_t of, int64_t limit, bool before)
{
    return limit > 0 && of >= (before ? limit - limit / 10 : limit);
}

static bool below(int64_t of, int64_t limit, bool before)
{
    return limit > 0 && of != -1 && of < (before ? limit + limit / 10 : limit);
}

static bool passes(const struct watch *w, enum watch_kind kind, const struct slot_figures *f)
{
    const struct watch_limits *limits = &w->limits;
    bool before = w->passed[kind];
    switch (kind) {
    case WATCH_RETAINED:
        return above(kept(f), limits->retained_bytes, before);
    case WATCH_SAFE:
        return below(f->safe_wal_size, limits->safe_bytes, before);
    case WATCH_XMIN:
        return above(f->xmin_age, limits->xmin_age, before);
    case WATCH_OTHER:
        return above(f->other.bytes, limits->retained_bytes, before);
    case WATCH_SYNC:
        return f->synchronous;
    }
    return false;
}

unsigned watch_look(struct watch *w, const struct slot_figures *f)
{
    unsigned changed = 0;
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++) {
        bool now = passes(w, kind, f);
        changed |= now != w->passed[kind] ? 1u << kind : 0;
        w->passed[kind] = now;
    }
    return changed;
}

// ---- in words ----

static void put_bytes(struct buf *out, int64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 10240 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1024;
        unit++;
    }
    buf_printf(out, "%" PRId64 " %s", bytes, units[unit]);
}

static void put_age(struct buf *out, int64_t age, int64_t seconds)
{
    if (seconds >= 0)
        buf_printf(out, "open for %" PRId64 " s, ", seconds);
    buf_printf(out, "%" PRId64 " transactions old", age);
}

static void put_transaction(const struct slot_figures *f, struct buf *out)
{
    if (f->transaction.pid == 0) {
        buf_printf(out, "the prepared transaction '%s' of user %s (", f->transaction.name,
                   f->transaction.user);
        put_age(out, f->transaction.age, f->transaction.seconds);
        buf_puts(out, "); remedy: COMMIT PREPARED or ROLLBACK PREPARED it");
        return;
    }
    buf_printf(out, "a transaction of pid %d, user %s, application \"%s\", database %s (",
               f->transaction.pid, f->transaction.user, f->transaction.application,
               f->transaction.name);
    put_age(out, f->transaction.age, f->transaction.seconds);
    buf_printf(out, "); remedy: end it, or SELECT pg_terminate_backend(%d)", f->transaction.pid);
}

// The slot's place follows two things: what we acknowledge, and the oldest transaction that was
// open there.
static void put_holder(const struct slot_figures *f, const char *behind, struct buf *out)
{
    int64_t unacknowledged = f->wal_lsn > f->confirmed ? (int64_t)(f->wal_lsn - f->confirmed) : 0;
    if (unacknowledged > kept(f) / 2) {
        buf_puts(out, "; held back by rowcast, which has not acknowledged the last ");
        put_bytes(out, unacknowledged);
        buf_printf(out, ": %s", behind ? behind : "it is still reading them");
    } else if (f->transaction.age > 0) {
        buf_puts(out, "; held back by ");
        put_transaction(f, out);
    } else {
        buf_puts(out, "; nothing holds it back now: it moves with the server's next checkpoint");
    }
}

void watch_describe(enum watch_kind kind, const struct slot_figures *f, const char *behind,
                    struct buf *out)
{
    switch (kind) {
    case WATCH_RETAINED:
        buf_puts(out, "the server keeps ");
        put_bytes(out, kept(f));
        buf_puts(out, " of WAL for the slot");
        put_holder(f, behind, out);
        return;
    case WATCH_SAFE:
        buf_puts(out, "the slot is lost when ");
        put_bytes(out, f->safe_wal_size);
        buf_puts(out, " more of WAL are written (max_slot_wal_keep_size)");
        put_holder(f, behind, out);
        return;
    case WATCH_XMIN:
        buf_printf(out,
                   "the slot's catalog_xmin is %" PRId64 " transactions old: dead rows of the "
                   "system catalogs since then stay",
                   f->xmin_age);
        put_holder(f, behind, out);
        return;
    case WATCH_OTHER:
        buf_puts(out, "the server keeps ");
        put_bytes(out, f->other.bytes);
        buf_printf(out,
                   " of WAL for slot %s, which is not ours and is %s; remedy: look after its "
                   "reader, or drop it",
                   f->other.name, f->other.active ? "in use" : "not in use");
        return;
    case WATCH_SYNC:
        buf_puts(out, "synchronous_standby_names counts our connection as a standby: commits wait "
                      "for rowcast; remedy: name the standbys there, or give rowcast's connection "
                      "an application_name that does not match; if it is meant, ignore this");
        return;
    }
}

const char *watch_name(enum watch_kind kind)
{
    static const char *const names[WATCH_KINDS] = {"retained_wal", "safe_wal", "xmin_age",
                                                   "other_slot", "synchronous"};
    return names[kind];
}

// One name of the list, as SQL's identifiers are written; 0: there is none at *at.
static size_t take_name(const char **at, char *name, size_t size)
{
    const char *p = *at;
    bool quoted = *p == '"';
    size_t n = 0;
    for (p += quoted; *p; p++) {
        if (quoted && *p == '"' && *++p != '"')
            break;
        if (!quoted && !isalnum((unsigned char)*p) && *p != '_' && *p != '$' && !(*p & 0x80))
            break;
        if (n + 1 < size)
            name[n++] = *p;
    }
    name[n] = 0;
    *at = p;
    return n;
}

bool watch_listed(const char *standby_names, const char *name)
{
    char one[64]; // an identifier's most
    for (const char *at = standby_names; *at;) {
        if (*at == '*')
            return true;
        if (take_name(&at, one, sizeof one) == 0)
            at += *at != 0;
        else if (strcasecmp(one, name) == 0)
            return true;
    }
    return false;
}
