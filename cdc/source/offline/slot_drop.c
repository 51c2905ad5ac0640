// `rowcast slot drop`: the server keeps nothing for us from then on. A slot that somebody reads is
// left alone (one whose reader has just ended is free within moments), and so is one that cannot be
// rowcast's.
#include "base/clock.h"
#include "source/lookup.h"
#include "source/offline/offline.h"
#include "source/slot.h"

#define FREE_US  INT64_C(3000000) // the walsender of a reader that has just ended ends too
#define AGAIN_US INT64_C(100000)
#define DROP_US  INT64_C(30000000)

struct dropping {
    const char *name;
    struct connection *sql;
    struct waiter *waiter;
    PGresult *row; // of the last look
};

static int look(struct dropping *d, struct err *e)
{
    PQclear(d->row);
    d->row = NULL;
    return connection_query(
        d->sql, clock_mono_us() + DROP_US, &d->row, e,
        "select coalesce(s.plugin, ''), coalesce(s.database, ''), current_database(), "
        "coalesce(s.active_pid, 0), a.usename, a.application_name, s.confirmed_flush_lsn, "
        "coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else "
        "pg_current_wal_lsn() end, s.restart_lsn), 0)::bigint / 1048576 from pg_replication_slots "
        "s left join pg_stat_activity a on a.pid = s.active_pid where s.slot_name = '%s'",
        d->name);
}

static int check_ours(const struct dropping *d, struct err *e)
{
    if (PQntuples(d->row) == 0)
        return err_set(e, ERR_SOURCE, "slot %s: it does not exist; see pg_replication_slots",
                       d->name);
    if (strcmp(result_text(d->row, 0, 0), "pgoutput") != 0)
        return err_set(e, ERR_SOURCE,
                       "slot %s: not dropped: it is no slot of rowcast's (plugin %s)", d->name,
                       PQgetlength(d->row, 0, 0) ? result_text(d->row, 0, 0) : "none");
    if (strcmp(result_text(d->row, 0, 1), result_text(d->row, 0, 2)) != 0)
        return err_set(e, ERR_SOURCE,
                       "slot %s: not dropped: it belongs to database %s; remedy: connect to that "
                       "one, if it is meant",
                       d->name, result_text(d->row, 0, 1));
    return 0;
}

static int wait_free(struct dropping *d, struct err *e)
{
    int64_t until = clock_mono_us() + FREE_US;
    for (;;) {
        if (look(d, e) != 0 || check_ours(d, e) != 0)
            return -1;
        if (result_u32(d->row, 0, 3) == 0)
            return 0;
        if (clock_mono_us() >= until)
            return err_set(e, ERR_SOURCE,
                           "slot %s: not dropped: it is in use by pid %s, user %s, application "
                           "\"%s\"; remedy: stop that reader first",
                           d->name, result_text(d->row, 0, 3), result_text(d->row, 0, 4),
                           result_text(d->row, 0, 5));
        (void)waiter_wait(d->waiter, -1, 0, clock_mono_us() + AGAIN_US);
    }
}

static int drop(struct dropping *d, struct buf *out, struct err *e)
{
    AUTO_RESULT PGresult *done = NULL;
    if (wait_free(d, e) != 0)
        return -1;
    if (connection_query(d->sql, clock_mono_us() + DROP_US, &done, e,
                         "select pg_drop_replication_slot('%s')", d->name) != 0)
        return err_wrap(e, "slot %s: not dropped: ", d->name);
    buf_printf(out,
               "dropped slot %s of database %s: it stood at %s, and the server kept %s MiB of WAL "
               "for it\n",
               d->name, result_text(d->row, 0, 1), result_text(d->row, 0, 6),
               result_text(d->row, 0, 7));
    return 0;
}

int source_drop_slot(const struct source_options *o, struct buf *out, struct err *e)
{
    if (!slot_name_valid(o->slot))
        return err_set(e, ERR_USAGE, "slot %s: not a slot's name", o->slot);
    struct offline offline;
    offline_init(&offline);
    struct lookup *l = lookup_new(o, &offline.waiter);
    int r = lookup_connect(l, e);
    if (r == 0) {
        struct dropping d = {o->slot, lookup_connection(l), &offline.waiter, NULL};
        r = drop(&d, out, e);
        PQclear(d.row);
    }
    lookup_free(l);
    offline_fini(&offline);
    return r;
}
