// `rowcast adopt`: the operator states that this server continues the journal's history, as after
// pg_upgrade, which keeps LSNs and attnums but not the system id. What can be checked is: the
// database's name, the slot, where WAL ends, and the tables' attnums. What lies between the
// journal's end and the slot's place cannot: that is the operator's word.
#include "base/clock.h"
#include "base/log.h"
#include "source/history.h"
#include "source/lookup.h"
#include "source/offline/offline.h"

#include <stdio.h>

#define QUERY_US INT64_C(60000000)

struct adoption {
    const struct source_options *o;
    struct journal *journal;
    struct connection *sql;
    struct history history;
    struct slot slot;
    char database[64];
    lsn_t had; // where the journal ends
};

static int look_at_database(struct adoption *a, struct err *e)
{
    struct journal_identity id;
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(a->sql, clock_mono_us() + QUERY_US, &r, e,
                         "select datname, oid, pg_is_in_recovery() from pg_database "
                         "where datname = current_database()") != 0)
        return -1;
    snprintf(a->database, sizeof a->database, "%s", result_text(r, 0, 0));
    a->history.database = a->database;
    a->history.database_oid = result_u32(r, 0, 1);
    if (result_bool(r, 0, 2))
        return err_set(e, ERR_SOURCE, "server: it is a standby; remedy: connect to the primary");
    if (!journal_identity(a->journal, &id) || a->had == 0)
        return err_set(e, ERR_USAGE,
                       "journal: it holds nothing that could be continued; remedy: name the "
                       "journal of the old server");
    if (id.database[0] && strcmp(id.database, a->database) != 0)
        return err_set(e, ERR_USAGE,
                       "database %s: the journal's is called %s; remedy: connect to that one",
                       a->database, id.database);
    if (strcmp(id.name, a->o->slot) != 0)
        return err_set(e, ERR_USAGE, "slot %s: the journal's is called %s; remedy: --slot %s",
                       a->o->slot, id.name, id.name);
    return 0;
}

static int look_at_slot(struct adoption *a, struct err *e)
{
    const struct slot *s = &a->slot;
    const char *name = a->o->slot;
    if (slot_read(a->sql, name, &a->slot, e) != 0)
        return -1;
    if (!s->exists)
        return err_set(e, ERR_SLOT_LOST,
                       "slot %s: it does not exist; remedy: before anything is written, SELECT "
                       "pg_create_logical_replication_slot('%s', 'pgoutput'), then adopt again",
                       name, name);
    if (slot_validate(s, name, a->database, e) != 0)
        return -1;
    if (s->lost) {
        slot_why_lost(s, name, e);
        return -1;
    }
    if (s->active)
        return err_set(e, ERR_SOURCE, "slot %s: process %d reads it; remedy: stop its reader", name,
                       s->pid);
    return 0;
}

static int look_at_server(struct adoption *a, struct waiter *w, struct err *e)
{
    struct conninfo ci;
    struct connection *stream = NULL;
    if (conninfo_make(a->o, CONNINFO_STREAM, &ci, e) != 0)
        return -1;
    connection_same_server(a->sql, &ci);
    int r = connection_open(&ci, w, &stream, e);
    conninfo_fini(&ci);
    if (r == 0)
        r = history_read(stream, &a->history, e);
    connection_close(stream);
    if (r != 0)
        return -1;
    if (a->history.end < a->had)
        return err_set(e, ERR_RESTORED,
                       "server: its WAL ends at " LSN_FMT ", the journal at " LSN_FMT
                       ": it cannot continue that; remedy: start with a new journal directory",
                       LSN_ARG(a->history.end), LSN_ARG(a->had));
    return 0;
}

// A table that is gone is no fault; one whose columns have other attnums was dumped and restored.
static int look_at_table(struct adoption *a, const struct relation *t, int *ret_seen, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    AUTO_BUF struct buf sql = {0};
    buf_puts(&sql, "select a.attname, a.attnum from pg_attribute a join pg_class c on c.oid = "
                   "a.attrelid join pg_namespace n on n.oid = c.relnamespace where a.attnum > 0 "
                   "and not a.attisdropped and n.nspname = ");
    sql_literal(&sql, t->schema);
    buf_puts(&sql, " and c.relname = ");
    sql_literal(&sql, t->name);
    if (connection_query(a->sql, clock_mono_us() + QUERY_US, &r, e, "%s", buf_cstr(&sql)) != 0)
        return -1;
    *ret_seen += PQntuples(r) > 0;
    for (int i = 0; i < PQntuples(r); i++) {
        for (uint16_t k = 0; k < t->column_count; k++) {
            const struct column *c = &t->columns[k];
            int attnum = (int)result_u32(r, i, 1);
            if (strcmp(c->name, result_text(r, i, 0)) != 0 || c->attnum == 0 || c->attnum == attnum)
                continue;
            return err_set(e, ERR_USAGE,
                           "table %s: its column %s has attnum %d there, %d in the journal: this "
                           "is no upgraded server, but a dump restored; remedy: start with a new "
                           "journal directory",
                           t->table, c->name, attnum, c->attnum);
        }
    }
    return 0;
}

static int look_at_tables(struct adoption *a, int *ret_seen, struct err *e)
{
    const struct catalog *catalog = journal_catalog(a->journal);
    for (uint32_t id = 1; id <= catalog_count(catalog); id++) {
        const struct relation *t = catalog_get(catalog, id);
        if (catalog_latest(catalog, t->table) == t && look_at_table(a, t, ret_seen, e) != 0)
            return -1;
    }
    return 0;
}

static int adopt(struct adoption *a, struct waiter *w, struct buf *out, struct err *e)
{
    int seen = 0;
    if (look_at_database(a, e) != 0 || look_at_slot(a, e) != 0 || look_at_server(a, w, e) != 0 ||
        look_at_tables(a, &seen, e) != 0)
        return -1;
    a->history.slot = &a->slot;
    a->history.slot_name = a->o->slot;
    struct journal_identity before, now = history_identity(&a->history);
    CHECK(journal_identity(a->journal, &before)); // look_at_database has asked
    if (journal_adopt(a->journal, &now, a->slot.confirmed, e) != 0)
        return -1;
    buf_printf(out,
               "adopted: system %lu, database %s (oid %u), timeline %u\n"
               "before:  system %lu, database oid %u, timeline %u\n"
               "stream:  %016lx, as before; %d tables compared\n",
               (unsigned long)now.system_id, now.database, now.database_oid, now.timeline,
               (unsigned long)before.system_id, before.database_oid, before.timeline,
               (unsigned long)before.stream_id, seen);
    if (a->slot.confirmed > a->had)
        buf_printf(out,
                   "taken on your word: nothing was committed between " LSN_FMT
                   ", where the journal ends, and " LSN_FMT ", where the slot stands\n",
                   LSN_ARG(a->had), LSN_ARG(a->slot.confirmed));
    return 0;
}

int source_adopt(const struct source_options *o, struct journal *j, struct buf *out, struct err *e)
{
    struct offline offline;
    offline_init(&offline);
    struct lookup *l = lookup_new(o, &offline.waiter);
    int r = lookup_connect(l, e);
    if (r == 0) {
        struct adoption *a = xcalloc(1, sizeof *a);
        a->o = o;
        a->journal = j;
        a->sql = lookup_connection(l);
        a->had = journal_appended(j);
        r = adopt(a, &offline.waiter, out, e);
        free(a);
    }
    lookup_free(l);
    offline_fini(&offline);
    return r;
}
