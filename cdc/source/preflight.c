#include "source/preflight.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/binary_columns.h"
#include "source/hiding.h"
#include "source/table_names.h"
#include "source/watch.h"

#include <fnmatch.h>
#include <stdio.h>

#define QUERY_US INT64_C(60000000)

static void report(struct preflight *p, enum finding level, enum err_class class,
                   const char *object, const char *cause, const char *remedy)
{
    p->report(p->arg, level, class, object, cause, remedy);
}

static int64_t deadline(void)
{
    return clock_mono_us() + QUERY_US;
}

// ---- the server ----

static void report_standbys(struct preflight *p, const char *standbys)
{
    struct conninfo ci;
    struct err ignored; // a password file that cannot be read: the connection will say so
    if (!*standbys || conninfo_make(p->o, CONNINFO_STREAM, &ci, &ignored) != 0)
        return;
    const char *name = conninfo_application(&ci);
    if (watch_listed(standbys, name)) {
        AUTO_FREE char *cause = xasprintf(
            "is %s, which counts our connection (application_name %s): commits will wait for "
            "rowcast",
            standbys, name);
        report(p, FINDING_WARN, ERR_NONE, "synchronous_standby_names", cause,
               "name the standbys there, or give rowcast's connection an application_name that "
               "does not match");
    }
    conninfo_fini(&ci);
}

static int check_server(struct preflight *p, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(
            p->sql, deadline(), &r, e,
            "select current_setting('wal_level'), current_database(), d.oid, "
            "pg_encoding_to_char(d.encoding), (select setting from pg_settings where name = "
            "'wal_sender_timeout'), current_setting('max_wal_senders')::int, "
            "current_setting('max_replication_slots')::int, (select count(*) from "
            "pg_replication_slots), current_setting('synchronous_standby_names'), "
            "current_setting('max_slot_wal_keep_size', true), pg_is_in_recovery(), "
            "has_database_privilege(d.oid, 'CREATE'), "
            // A standby has a slot, or only a walsender; without rights to see its state, nothing.
            "exists (select from pg_replication_slots where slot_type = 'physical' and active and "
            "not temporary) or exists (select from pg_stat_replication where state = 'streaming' "
            "and pid not in (select active_pid from pg_replication_slots where slot_type = "
            "'logical' and active)) from pg_database d "
            "where d.datname = current_database()") != 0)
        return -1;
    char version[64];
    snprintf(version, sizeof version, "version %d.%d", p->sql->version / 10000,
             p->sql->version % 10000);
    if (p->sql->version < 100000)
        report(p, FINDING_FAIL, ERR_SOURCE, "server", version, "upgrade to PostgreSQL 10 or newer");
    else
        report(p, FINDING_OK, ERR_NONE, "server", version, "");
    const char *wal_level = result_text(r, 0, 0);
    bool automatic = p->sql->version >= 190000 && strcmp(wal_level, "replica") == 0;
    if (strcmp(wal_level, "logical") != 0 && !automatic) {
        AUTO_FREE char *cause = xasprintf("is %s, not logical", wal_level);
        report(p, FINDING_FAIL, ERR_SOURCE, "wal_level", cause,
               "ALTER SYSTEM SET wal_level = logical; then restart the server");
    } else {
        report(p, FINDING_OK, ERR_NONE, "wal_level", wal_level, "");
    }
    snprintf(p->database, sizeof p->database, "%s", result_text(r, 0, 1));
    p->database_oid = result_u32(r, 0, 2);
    p->standby = result_bool(r, 0, 10);
    p->may_create = result_bool(r, 0, 11);
    p->has_standby = result_bool(r, 0, 12);
    if (strcmp(result_text(r, 0, 3), "SQL_ASCII") == 0)
        report(p, FINDING_WARN, ERR_NONE, "encoding",
               "the database is SQL_ASCII: text that is not UTF-8 is passed on as it is",
               "use a UTF8 database");
    else
        report(p, FINDING_OK, ERR_NONE, "encoding", result_text(r, 0, 3), "");
    p->sender_timeout_us = result_i64(r, 0, 4, INT32_MAX) * 1000; // milliseconds, a GUC's most
    if (result_u32(r, 0, 5) == 0)
        report(p, FINDING_FAIL, ERR_SOURCE, "max_wal_senders", "is 0",
               "ALTER SYSTEM SET max_wal_senders = 10; then restart the server");
    uint32_t slots = result_u32(r, 0, 6);
    if (!p->slot.exists && result_u32(r, 0, 7) >= slots) {
        AUTO_FREE char *cause = xasprintf("all %u replication slots are in use", slots);
        AUTO_FREE char *remedy = xasprintf("ALTER SYSTEM SET max_replication_slots = %u; then "
                                           "restart the server; or drop a slot that nobody uses",
                                           slots + 10);
        report(p, FINDING_FAIL, ERR_SOURCE, "max_replication_slots", cause, remedy);
    }
    report_standbys(p, result_text(r, 0, 8));
    if (strcmp(result_text(r, 0, 9), "-1") == 0)
        report(p, FINDING_WARN, ERR_NONE, "max_slot_wal_keep_size",
               "has no limit: a slot that nobody reads fills the server's disk",
               "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB', or as much as the disk has room "
               "for; SELECT pg_reload_conf()");
    return 0;
}

// ---- the slot ----

static int check_slot(struct preflight *p, struct err *e)
{
    const char *name = p->o->slot;
    AUTO_FREE char *object = xasprintf("slot %s", name);
    if (!slot_name_valid(name)) {
        report(p, FINDING_FAIL, ERR_USAGE, object, "not a slot's name",
               "use 1 to 63 of a-z, 0-9 and _");
        return err_set(e, ERR_USAGE,
                       "slot %s: not a slot's name; remedy: use 1 to 63 of a-z, 0-9 "
                       "and _",
                       name);
    }
    return slot_read(p->sql, name, &p->slot, e);
}

// Made by hand, by an older rowcast, or before an upgrade to 17: only rowcast's own have the flag.
static void report_failover(struct preflight *p, const char *object)
{
    if (p->sql->version < 170000 || p->standby || p->slot.failover || !p->has_standby)
        return;
    AUTO_FREE char *remedy = xasprintf("stop what reads it, then psql 'replication=database ..' -c "
                                       "'ALTER_REPLICATION_SLOT %s (FAILOVER true)'",
                                       p->o->slot);
    report(p, FINDING_WARN, ERR_NONE, object,
           "the server has a standby, but the slot is not marked for failover: a promoted standby "
           "would be without it, which is a gap",
           remedy);
}

static void report_slot(struct preflight *p)
{
    const char *name = p->o->slot;
    AUTO_FREE char *object = xasprintf("slot %s", name);
    struct err why;
    if (p->history && (!p->slot.exists || p->slot.lost))
        return;
    if (!p->slot.exists && p->o->create) {
        report(p, FINDING_OK, ERR_NONE, object, "does not exist, will be created", "");
    } else if (!p->slot.exists) {
        AUTO_FREE char *remedy =
            xasprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", name);
        report(p, FINDING_FAIL, ERR_SOURCE, object, "does not exist", remedy);
    } else if (slot_validate(&p->slot, name, p->database, &why) != 0) {
        // "slot x: cause; remedy: .."
        char *cause = why.text + strlen(object) + 2, *remedy = strstr(cause, "; remedy: ");
        if (remedy) {
            *remedy = 0;
            remedy += strlen("; remedy: ");
        }
        report(p, FINDING_FAIL, why.class, object, cause, remedy ? remedy : "");
    } else if (p->slot.lost) {
        AUTO_FREE char *cause = xasprintf("was invalidated by the server (%s)", p->slot.reason);
        AUTO_FREE char *remedy = xasprintf("SELECT pg_drop_replication_slot('%s')", name);
        bool mark = p->o->on_gap == ON_GAP_MARK;
        report(p, mark ? FINDING_WARN : FINDING_FAIL, ERR_SLOT_INVALID, object, cause,
               mark ? "it is made anew (on-gap is mark)" : remedy);
    } else {
        report(p, FINDING_OK, ERR_NONE, object,
               p->slot.active ? "exists, and is in use at the moment" : "exists", "");
        report_failover(p, object);
    }
}

// ---- publications and tables ----

static void put_globs(const struct preflight *p, struct buf *out)
{
    for (size_t i = 0; i < p->o->table_count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", p->o->tables[i]);
}

static bool glob_matches(const char *glob, const struct table_list *l,
                         const struct table_names *names)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct published_table *t = &l->tables[i];
        const char *first = table_names_first(names, t->oid);
        if (table_match(glob, t->table) || (t->root && table_match(glob, t->root)) ||
            (first && table_match(glob, first)))
            return true;
    }
    return false;
}

// Globs that match nothing, beside others that do.
static void report_idle_globs(struct preflight *p, const struct table_list *l, const char *cause,
                              const char *remedy)
{
    struct table_names *names = table_names_new(p->o, p->catalog);
    for (size_t i = 0; i < p->o->table_count; i++) {
        if (glob_matches(p->o->tables[i], l, names))
            continue;
        AUTO_FREE char *object = xasprintf("table glob %s", p->o->tables[i]);
        report(p, FINDING_WARN, ERR_NONE, object, cause, remedy);
    }
    table_names_free(names);
}

// How many of them are wanted, also by names that they had.
static size_t count_wanted(const struct preflight *p, const struct table_list *l)
{
    size_t n = 0;
    struct table_names *names = table_names_new(p->o, p->catalog);
    for (size_t i = 0; i < l->n; i++)
        n += table_names_want(names, l->tables[i].oid, l->tables[i].table) ||
             source_wants(p->o, l->tables[i].table, l->tables[i].root);
    table_names_free(names);
    return n;
}

static void report_left_out(struct preflight *p, const char *name, const char *tables)
{
    AUTO_FREE char *cause =
        xasprintf("without replica identity, publishing would make UPDATE and DELETE on them "
                  "fail, so they are left out: %s",
                  tables);
    AUTO_FREE char *remedy =
        xasprintf("ALTER TABLE .. ADD PRIMARY KEY .., or ALTER TABLE .. REPLICA IDENTITY FULL; "
                  "then ALTER PUBLICATION \"%s\" ADD TABLE ..",
                  name);
    report(p, FINDING_WARN, ERR_NONE, "tables", cause, remedy);
}

// Whether the server would let us; else why not.
static bool may_create(const struct preflight *p, struct publication_plan *plan,
                       struct buf *ret_why)
{
    if (p->standby) {
        buf_puts(ret_why, "on a standby it cannot be created");
        return false;
    }
    if (p->may_create && !plan->foreign.n)
        return true;
    buf_printf(ret_why, "role %s may not create it: ", PQuser(p->sql->pg));
    if (!p->may_create)
        buf_printf(ret_why, "it has no CREATE on database %s", p->database);
    if (plan->foreign.n)
        buf_printf(ret_why, "%sit does not own %.300s%s", p->may_create ? "" : ", and ",
                   buf_cstr(&plan->foreign), plan->foreign.n > 300 ? ".." : "");
    return false;
}

static void report_creation(struct preflight *p, const struct table_list *candidates)
{
    const char *name = p->o->publications[0];
    AUTO_FREE char *object = xasprintf("publication %s", name);
    AUTO_BUF struct buf why = {0};
    struct publication_plan plan;
    publication_plan(p->o, name, candidates, p->sql->version, &plan);
    if (plan.left_out.n)
        report_left_out(p, name, buf_cstr(&plan.left_out));
    if (plan.n == 0) {
        AUTO_BUF struct buf globs = {0};
        put_globs(p, &globs);
        AUTO_FREE char *cause = xasprintf("does not exist, and no table that matches %s can be "
                                          "published",
                                          buf_cstr(&globs));
        report(p, FINDING_FAIL, ERR_USAGE, object, cause, "name existing tables (schema.table)");
    } else if (!p->o->create) {
        report(p, FINDING_FAIL, ERR_SOURCE, object, "does not exist", buf_cstr(&plan.sql));
    } else if (!may_create(p, &plan, &why)) {
        AUTO_FREE char *cause = xasprintf("does not exist, and %s", buf_cstr(&why));
        AUTO_FREE char *remedy =
            xasprintf("as the owner of the tables or a superuser%s: %s",
                      p->standby ? ", on the primary" : "", buf_cstr(&plan.sql));
        report(p, FINDING_FAIL, ERR_SOURCE, object, cause, remedy);
    } else {
        AUTO_FREE char *cause = xasprintf("does not exist, will be created for %zu table%s", plan.n,
                                          plan.n == 1 ? "" : "s");
        report_idle_globs(p, candidates, "matches no table",
                          "correct it; or CREATE TABLE .., then ALTER PUBLICATION .. ADD TABLE ..");
        report(p, FINDING_OK, ERR_NONE, object, cause, "");
        p->create_publication = true;
    }
    publication_plan_fini(&plan);
}

static int check_missing(struct preflight *p, const char *missing, struct err *e)
{
    struct table_list candidates;
    AUTO_FREE char *object = xasprintf("publication %s", missing);
    if (p->slot.exists) {
        // Made now, it would not hold for changes that stand in WAL already.
        report(p, FINDING_FAIL, ERR_SOURCE, object,
               "does not exist though the slot does: changes from before its creation cannot be "
               "decoded",
               "name the publication that the slot was used with; or drop the slot, then CREATE "
               "PUBLICATION .. FOR TABLE .., and start with a new journal directory");
        return 0;
    }
    if (p->o->publication_count > 1 || (p->o->table_count == 0 && !p->o->create)) {
        report(p, FINDING_FAIL, ERR_SOURCE, object, "does not exist",
               "CREATE PUBLICATION .. FOR TABLE ..");
        return 0;
    }
    if (p->o->table_count == 0) { // never for all tables, unless that is said
        report(p, FINDING_FAIL, ERR_USAGE, object,
               "does not exist, and no table is named to create it for",
               "give --table, such as --table 'public.*'; or CREATE PUBLICATION .. FOR TABLE ..");
        return 0;
    }
    if (publication_candidates(p->sql, &candidates, e) != 0)
        return -1;
    report_creation(p, &candidates);
    table_list_fini(&candidates);
    return 0;
}

static void report_globs(struct preflight *p, const struct table_list *l)
{
    size_t matching = count_wanted(p, l);
    AUTO_FREE char *all = xasprintf("%zu of %zu published tables are wanted", matching, l->n);
    if (l->n == 0) {
        report(p, FINDING_FAIL, ERR_SOURCE, "publications", "have no tables",
               "ALTER PUBLICATION .. ADD TABLE ..");
        return;
    }
    if (matching == 0) {
        AUTO_BUF struct buf globs = {0};
        put_globs(p, &globs);
        AUTO_FREE char *cause = xasprintf("no published table matches %s", buf_cstr(&globs));
        report(p, FINDING_FAIL, ERR_USAGE, "tables", cause,
               "name published tables (see pg_publication_tables), or ALTER PUBLICATION .. ADD "
               "TABLE ..");
        return;
    }
    report_idle_globs(p, l, "matches no published table",
                      "ALTER PUBLICATION .. ADD TABLE .., or correct it");
    report(p, FINDING_OK, ERR_NONE, "tables", all, "");
}

static int check_tables(struct preflight *p, struct err *e)
{
    struct table_list l;
    if (publication_tables(p->sql, p->o, false, &l, e) != 0)
        return -1;
    report_globs(p, &l);
    table_list_fini(&l);
    if (publication_tables(p->sql, p->o, true, &l, e) != 0)
        return -1;
    for (size_t i = 0; i < l.n; i++) {
        const struct published_table *t = &l.tables[i];
        if (t->identity || t->partitioned || !source_wants(p->o, t->table, t->root))
            continue;
        AUTO_FREE char *object = xasprintf("table %s", t->table);
        AUTO_FREE char *remedy =
            xasprintf("ALTER TABLE %s ADD PRIMARY KEY .., or ALTER TABLE %s REPLICA IDENTITY FULL",
                      t->table, t->table);
        report(p, FINDING_WARN, ERR_NONE, object,
               "has no replica identity: the application's UPDATE and DELETE on it fail", remedy);
    }
    table_list_fini(&l);
    return 0;
}

static void report_version_options(struct preflight *p)
{
    if (p->o->messages && p->sql->version < 140000)
        report(p, FINDING_WARN, ERR_NONE, "messages",
               "are on, but the server does not send logical messages before PostgreSQL 14",
               "upgrade the server, or set messages = off");
    if (p->o->binary && p->sql->version < 140000)
        report(p, FINDING_WARN, ERR_NONE, "binary",
               "is on, but the server sends only text before PostgreSQL 14",
               "upgrade the server, or set binary = off");
    if (p->o->origin_none && p->sql->version < 160000)
        report(p, FINDING_FAIL, ERR_SOURCE, "origin",
               "is none, but the server cannot leave out what was replicated to it before "
               "PostgreSQL 16, so that consumers would get it",
               "upgrade the server, or set origin = any");
}

// By a name that a column had once.
static bool column_remembered(const struct preflight *p, const char *glob)
{
    for (uint32_t id = 1; p->catalog && id <= catalog_count(p->catalog); id++) {
        const struct relation *r = catalog_get(p->catalog, id);
        for (size_t i = 0; i < r->hidden_count; i++) {
            if (hiding_glob_matches(glob, r->table, r->hidden[i].as) ||
                (r->root && hiding_glob_matches(glob, r->root, r->hidden[i].as)))
                return true;
        }
    }
    return false;
}

static bool column_there(const PGresult *r, const char *glob)
{
    for (int i = 0; i < PQntuples(r); i++) {
        AUTO_BUF struct buf table = {0};
        table_quote(&table, result_text(r, i, 0), result_text(r, i, 1));
        if (hiding_glob_matches(glob, buf_cstr(&table), result_text(r, i, 2)))
            return true;
    }
    return false;
}

static void report_columns(struct preflight *p, const PGresult *r, const char *option,
                           char *const *globs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (column_there(r, globs[i]) || column_remembered(p, globs[i]))
            continue;
        AUTO_FREE char *object = xasprintf("%s %s", option, globs[i]);
        report(p, FINDING_FAIL, ERR_USAGE, object,
               "matches no column of any table, so that what it should hide would be stored",
               "write it as schema.table.column, or leave it out");
    }
}

// A glob that is misspelt hides nothing, and nobody would see it.
static int check_columns(struct preflight *p, struct err *e)
{
    const struct source_options *o = p->o;
    if (o->exclude_column_count + o->mask_column_count == 0)
        return 0;
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(p->sql, deadline(), &r, e,
                         "select n.nspname, c.relname, a.attname from pg_class c join pg_namespace "
                         "n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and"
                         " a.attnum > 0 and not a.attisdropped where " SQL_CANDIDATE) != 0)
        return -1;
    report_columns(p, r, "exclude-column", o->exclude_columns, o->exclude_column_count);
    report_columns(p, r, "mask-column", o->mask_columns, o->mask_column_count);
    return 0;
}

int preflight_run(struct preflight *p, struct err *e)
{
    if (check_slot(p, e) != 0 || check_server(p, e) != 0)
        return -1;
    report_version_options(p);
    report_slot(p);
    if (check_columns(p, e) != 0)
        return -1;
    AUTO_BUF struct buf missing = {0};
    if (publication_missing(p->sql, p->o, &missing, e) != 0)
        return -1;
    if ((missing.n ? check_missing(p, buf_cstr(&missing), e) : check_tables(p, e)) != 0)
        return -1;
    return missing.n && !p->create_publication ? 0 : binary_columns_check(p, e);
}

int preflight_create_publication(struct preflight *p, struct err *e)
{
    struct table_list candidates;
    if (publication_candidates(p->sql, &candidates, e) != 0)
        return -1;
    const char *name = p->o->publications[0];
    struct publication_plan plan;
    publication_plan(p->o, name, &candidates, p->sql->version, &plan);
    table_list_fini(&candidates);
    int r = -1;
    AUTO_RESULT PGresult *made = NULL;
    if (plan.n == 0) {
        err_set(e, ERR_USAGE, "publication %s: there is no table to publish", name);
    } else if (connection_query(p->sql, deadline(), &made, e, "%s", buf_cstr(&plan.sql)) == 0) {
        log_info("publication created", "publication=%s tables=%zu statement=%s", name, plan.n,
                 log_quote(buf_cstr(&plan.sql)));
        r = 0;
    } else if (strcmp(p->sql->sqlstate, "42710") == 0) { // somebody else made it
        r = 0;
    } else {
        struct err cause = *e;
        err_set(e, cause.class,
                "publication %s cannot be created: %.400s; or have it run by the owner of the "
                "tables: %.500s",
                name, cause.text, buf_cstr(&plan.sql));
    }
    publication_plan_fini(&plan);
    return r;
}
