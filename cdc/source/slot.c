#include "source/slot.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

#define CREATE_PATIENCE_US INT64_C(3000000)

bool slot_name_valid(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

int slot_read(struct connection *sql, const char *name, struct slot *ret_slot, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    // to_jsonb hides what an older server does not have.
    if (connection_query(sql, clock_mono_us() + 30000000, &r, e,
                         "select slot_type = 'logical', plugin, database, temporary, active,"
                         " coalesce(to_jsonb(s)->>'two_phase', 'f') in ('true', 't'),"
                         // On a promoted server the flag is a leftover without a meaning.
                         " coalesce(to_jsonb(s)->>'synced', 'f') in ('true', 't') and"
                         " pg_is_in_recovery(), restart_lsn,"
                         " confirmed_flush_lsn, coalesce(to_jsonb(s)->>'wal_status', ''),"
                         " coalesce(to_jsonb(s)->>'invalidation_reason', ''),"
                         " coalesce(active_pid, 0),"
                         " coalesce(to_jsonb(s)->>'failover', 'f') in ('true', 't')"
                         " from pg_replication_slots s where slot_name = '%s'",
                         name) != 0)
        return -1;
    struct slot s = {.exists = PQntuples(r) == 1};
    if (s.exists) {
        s.logical = result_bool(r, 0, 0);
        snprintf(s.plugin, sizeof s.plugin, "%s", result_text(r, 0, 1));
        snprintf(s.database, sizeof s.database, "%s", result_text(r, 0, 2));
        s.temporary = result_bool(r, 0, 3);
        s.active = result_bool(r, 0, 4);
        s.two_phase = result_bool(r, 0, 5);
        s.synced = result_bool(r, 0, 6);
        s.restart = result_lsn(r, 0, 7);
        s.confirmed = result_lsn(r, 0, 8);
        const char *reason = result_text(r, 0, 10);
        s.lost = strcmp(result_text(r, 0, 9), "lost") == 0 || *reason;
        bool removed = !*reason || strcmp(reason, "wal_removed") == 0;
        s.pid = (int)result_u32(r, 0, 11);
        s.failover = result_bool(r, 0, 12);
        snprintf(s.reason, sizeof s.reason, "%s",
                 removed ? "wal_removed: it lagged by more than max_slot_wal_keep_size" : reason);
    }
    *ret_slot = s;
    return 0;
}

int slot_validate(const struct slot *s, const char *name, const char *database, struct err *e)
{
    if (!s->logical)
        return err_set(e, ERR_SOURCE, "slot %s: it is a physical slot; remedy: name another slot",
                       name);
    if (strcmp(s->plugin, "pgoutput") != 0)
        return err_set(e, ERR_SOURCE,
                       "slot %s: its output plugin is %s, not pgoutput; remedy: name another slot",
                       name, s->plugin);
    if (strcmp(s->database, database) != 0)
        return err_set(e, ERR_SOURCE,
                       "slot %s: it belongs to database %s, this is %s; remedy: connect to "
                       "database %s, or name another slot",
                       name, s->database, database, s->database);
    if (s->temporary)
        return err_set(e, ERR_SOURCE,
                       "slot %s: it is temporary and goes with its session; remedy: name another "
                       "slot",
                       name);
    if (s->synced)
        return err_set(e, ERR_RETRY,
                       "slot %s: it is synchronized from a primary and cannot be read before this "
                       "standby is promoted; remedy: connect to the primary; waiting until it is",
                       name);
    if (s->two_phase)
        return err_set(e, ERR_SOURCE,
                       "slot %s: it has two_phase set, which would send prepared transactions "
                       "before their commit; remedy: name another slot",
                       name);
    return 0;
}

void slot_why_lost(const struct slot *s, const char *name, struct err *ret_why)
{
    err_set(ret_why, ERR_SLOT_INVALID,
            "slot %s: the server has invalidated it (%s): changes since %X/%X are lost; remedy: go "
            "on with a gap that is told in the stream (--on-gap mark); or SELECT "
            "pg_drop_replication_slot('%s'), then start with a new journal directory",
            name, s->reason, LSN_ARG(s->confirmed), name);
}

int slot_drop_lost(struct connection *sql, const char *name, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(sql, clock_mono_us() + 30000000, &r, e,
                         "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                         " where slot_name = '%s'",
                         name) != 0)
        return err_wrap(e, "slot %s cannot be dropped: ", name);
    log_warn("dropped the slot that the server had invalidated", "slot=%s", name);
    return 0;
}

static int try_create(struct connection *stream, const char *name, const char *options,
                      PGresult **ret_r, struct err *e)
{
    AUTO_FREE char *sql =
        xasprintf("CREATE_REPLICATION_SLOT \"%s\" LOGICAL pgoutput %s", name, options);
    if (connection_send(stream, sql, e) != 0)
        return -1;
    int got = connection_result(stream, clock_mono_us() + CREATE_PATIENCE_US, ret_r, e);
    if (got != 0 && strcmp(stream->sqlstate, "wait") == 0) {
        log_warn("the slot is created when all transactions that are open now have ended; see "
                 "pg_stat_activity; waiting",
                 "slot=%s", name);
        got = connection_result(stream, INT64_MAX, ret_r, e);
    }
    return got;
}

int slot_create(struct connection *stream, const char *name, struct err *e)
{
    const char *plain = stream->version >= 150000 ? "(SNAPSHOT 'nothing')" : "NOEXPORT_SNAPSHOT";
    bool failover = stream->version >= 170000;
    AUTO_RESULT PGresult *r = NULL;
    int got =
        try_create(stream, name, failover ? "(SNAPSHOT 'nothing', FAILOVER true)" : plain, &r, e);
    if (failover && got != 0 && strcmp(stream->sqlstate, "0A000") == 0) { // a standby has none
        failover = false;
        got = try_create(stream, name, plain, &r, e);
    }
    if (got == 0) {
        log_info("slot created", "slot=%s lsn=%s%s", name, result_text(r, 0, 1),
                 failover ? " failover=on" : "");
        return 0;
    }
    if (strcmp(stream->sqlstate, "42710") == 0) // somebody else made it; the caller validates it
        return 0;
    return err_wrap(e, "slot %s cannot be created: ", name);
}
