#include "source/lookup.h"

#include "base/clock.h"
#include "source/publication.h"

#include <poll.h>
#include <uthash.h>

#define TYPE_DEPTH_MAX 32 // domains over domains
#define TABLES_AT_ONCE 200
#define LIST_US        INT64_C(60000000) // for a question about all tables

struct known_type {
    struct type type;
    UT_hash_handle hh;
};

struct lookup {
    const struct source_options *o;
    struct waiter *waiter;
    struct connection *c;           // being opened only in the background
    const struct connection *other; // to whose server we connect, or NULL
    bool asked;                     // an answer is due to what was asked in the background
    const char *question;           // .. which is sent when the connection is open
    enum lookup_end end;            // not yet told
    struct known_type *types;
};

void table_info_fini(struct table_info *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->columns[i].name);
    free(t->columns);
    free(t->schema);
    free(t->name);
    free(t->root);
    *t = (struct table_info){0};
}

struct lookup *lookup_new(const struct source_options *o, struct waiter *w)
{
    struct lookup *l = xcalloc(1, sizeof *l);
    l->o = o;
    l->waiter = w;
    return l;
}

void lookup_forget_types(struct lookup *l)
{
    struct known_type *t, *next;
    HASH_ITER (hh, l->types, t, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        HASH_DEL(l->types, t);
        free(t);
    }
}

void lookup_disconnect(struct lookup *l)
{
    connection_close(l->c);
    l->c = NULL;
    l->asked = false;
}

void lookup_free(struct lookup *l)
{
    if (!l)
        return;
    lookup_disconnect(l);
    lookup_forget_types(l);
    free(l);
}

void lookup_lend(struct lookup *l, struct connection *c)
{
    lookup_disconnect(l);
    l->c = c;
}

struct connection *lookup_take_back(struct lookup *l, const struct connection *c)
{
    struct connection *own = l->c;
    if (own != c)
        lookup_disconnect(l);
    l->c = NULL;
    return own == c ? own : NULL;
}

struct connection *lookup_connection(struct lookup *l)
{
    return l->c && !l->c->opening ? l->c : NULL;
}

void lookup_follow(struct lookup *l, const struct connection *c)
{
    l->other = c;
}

static int make_conninfo(const struct lookup *l, struct conninfo *ci, struct err *e)
{
    if (conninfo_make(l->o, CONNINFO_SQL, ci, e) != 0)
        return -1;
    if (l->other)
        connection_same_server(l->other, ci);
    return 0;
}

// What a new connection is told first. A name of its own, or this session could be counted as a
// synchronous standby. Compiling our questions (jit) takes a hundred times longer than they do.
static char *settings(const struct lookup *l)
{
    const char *encoding = connection_encoding(l->c);
    return xasprintf("set application_name = 'rowcast_lookup'; set lock_timeout = '1s'; %s%s%s; ",
                     l->c->version >= 110000 ? "set jit = off; " : "",
                     l->c->version >= 140000 ? "set idle_session_timeout = 0; " : "",
                     encoding ? encoding : "");
}

int lookup_connect(struct lookup *l, struct err *e)
{
    if (lookup_connection(l))
        return 0;
    lookup_disconnect(l);
    struct conninfo ci;
    if (make_conninfo(l, &ci, e) != 0)
        return -1;
    int r = connection_open(&ci, l->waiter, &l->c, e);
    conninfo_fini(&ci);
    if (r != 0)
        return -1;
    AUTO_RESULT PGresult *done = NULL;
    AUTO_FREE char *first = settings(l);
    int64_t deadline = clock_mono_us() + LOOKUP_PATIENCE_US;
    if (connection_query(l->c, deadline, &done, e, "%s", first) != 0) {
        lookup_disconnect(l);
        return -1;
    }
    return 0;
}

static void note_end(struct lookup *l, const char *sqlstate)
{
    if (sqlstate && strcmp(sqlstate, "57P01") == 0)
        l->end = LOOKUP_ENDED;
}

static int ask_once(struct lookup *l, const char *sql, int64_t patience_us, PGresult **ret_r,
                    struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    int64_t deadline = clock_mono_us() + patience_us;
    if (l->asked) { // what was asked before comes first
        PGresult *before = NULL;
        if (connection_result(l->c, deadline, &before, e) == 0)
            PQclear(before);
        l->asked = false;
    }
    int r = connection_send(l->c, sql, e);
    if (r == 0)
        r = connection_result(l->c, deadline, ret_r, e);
    if (r != 0) {
        note_end(l, l->c->sqlstate);
        lookup_disconnect(l);
    }
    return r;
}

// A query within the patience. A connection that failed or did not answer is given up, and a fresh
// one asked once: this one may have been dead for hours.
static int ask_for(struct lookup *l, const char *sql, int64_t patience_us, PGresult **ret_r,
                   struct err *e)
{
    return ask_once(l, sql, patience_us, ret_r, e) == 0 ? 0
                                                        : ask_once(l, sql, patience_us, ret_r, e);
}

static int ask(struct lookup *l, const char *sql, PGresult **ret_r, struct err *e)
{
    return ask_for(l, sql, LOOKUP_PATIENCE_US, ret_r, e);
}

// ---- tables ----

static void put_select(const struct lookup *l, const char *root, struct buf *sql)
{
    buf_printf(sql,
               "select c.oid, n.nspname, c.relname, c.relreplident, %s, a.attname, a.attnum, "
               "a.atttypid, a.atttypmod",
               root);
    const char *const index[] = {"pk", "ri"};
    for (size_t i = 0; i < ARRAY_LEN(index); i++) {
        // Columns of INCLUDE (11+) stand in indkey too, behind the key's.
        const char *own = l->c->version >= 110000 ? "indnkeyatts" : "indnatts";
        buf_printf(sql, ", coalesce(a.attnum = any((%s.indkey::int2[])[0:%s.%s - 1]), false)",
                   index[i], index[i], own);
    }
}

static void put_from(struct buf *sql)
{
    buf_puts(sql,
             " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
             " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not "
             "a.attisdropped left join pg_index pk on pk.indrelid = c.oid and " SQL_PRIMARY_KEY_OF_C
             " left join pg_index ri on ri.indrelid = c.oid and ri.indisreplident");
}

// The rows from `*row` on that belong to one table.
static void read_table(const PGresult *r, int *row, struct table_info *ret_t)
{
    int first = *row, end = first;
    uint32_t oid = result_u32(r, first, 0);
    while (end < PQntuples(r) && result_u32(r, end, 0) == oid)
        end++;
    struct table_info t = {.oid = oid,
                           .schema = xstrdup(result_text(r, first, 1)),
                           .name = xstrdup(result_text(r, first, 2)),
                           .replica_identity = result_text(r, first, 3)[0],
                           .root = publication_root(result_text(r, first, 4)),
                           .n = (size_t)(end - first)};
    t.columns = xcalloc(t.n, sizeof *t.columns);
    for (int i = first; i < end; i++) {
        t.columns[i - first] = (struct table_column){
            .name = xstrdup(result_text(r, i, 5)),
            .attnum = (int16_t)strtol(result_text(r, i, 6), NULL, 10),
            .type_oid = result_u32(r, i, 7),
            .typmod = (int32_t)strtol(result_text(r, i, 8), NULL, 10),
            .primary = result_bool(r, i, 9),
            .identity = result_bool(r, i, 10),
        };
    }
    *row = end;
    *ret_t = t;
}

static void put_names(const struct lookup *l, struct buf *out)
{
    for (size_t i = 0; i < l->o->publication_count; i++) {
        if (i)
            buf_putc(out, ',');
        sql_literal(out, l->o->publications[i]);
    }
}

// What a publication says of table c itself. Not by pg_publication_tables: that view makes the list
// of all tables first.
static void put_published(const struct lookup *l, struct buf *sql)
{
    AUTO_BUF struct buf names = {0};
    put_names(l, &names);
    if (!names.n) {
        buf_puts(sql, ", true");
        return;
    }
    buf_printf(sql,
               ", exists (select 1 from pg_publication p where p.pubname in (%s) and "
               "(p.puballtables or exists (select 1 from pg_publication_rel r where r.prpubid = "
               "p.oid and r.prrelid = c.oid)%s))",
               buf_cstr(&names),
               l->c->version < 150000
                   ? ""
                   : " or exists (select 1 from pg_publication_namespace s where "
                     "s.pnpubid = p.oid and s.pnnspid = c.relnamespace)");
}

int lookup_table(struct lookup *l, uint32_t oid, struct table_info *ret_t, struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    AUTO_BUF struct buf sql = {0};
    put_select(l, SQL_ROOT_OF_C, &sql);
    put_published(l, &sql);
    put_from(&sql);
    buf_printf(&sql, " where c.oid = %u order by a.attnum", oid);
    AUTO_RESULT PGresult *r = NULL;
    if (ask(l, buf_cstr(&sql), &r, e) != 0)
        return -1;
    *ret_t = (struct table_info){0};
    int row = 0;
    if (PQntuples(r)) {
        read_table(r, &row, ret_t);
        ret_t->published = result_bool(r, 0, 11);
    }
    return 0;
}

#define SQL_COLUMNS(table)                                                                         \
    "(select array_agg(a.attname || ' ' || a.atttypid order by a.attname) from pg_attribute a "    \
    "where a.attrelid = " table ".oid and a.attnum > 0 and not a.attisdropped)"

int lookup_former_roots(struct lookup *l, uint32_t oid, uint32_t xid, char ***ret_names,
                        size_t *ret_n, struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    AUTO_BUF struct buf sql = {0};
    AUTO_RESULT PGresult *r = NULL;
    // xids are compared by their distance from this one, as they wrap.
    buf_printf(&sql,
               "select n.nspname || chr(1) || p.relname from pg_class c, pg_class p join "
               "pg_namespace n on n.oid = p.relnamespace where c.oid = %u and not c.relispartition "
               "and p.relkind = 'p' and not p.relispartition and ((c.xmin::text::bigint - %u) & "
               "4294967295) <= ((txid_snapshot_xmax(txid_current_snapshot()) - %u) & 4294967295) "
               "and " SQL_COLUMNS("c") " = " SQL_COLUMNS("p"),
               oid, xid, xid);
    if (ask(l, buf_cstr(&sql), &r, e) != 0)
        return -1;
    size_t n = 0;
    char **names = xcalloc((size_t)PQntuples(r) + 1, sizeof *names);
    for (int i = 0; i < PQntuples(r); i++) {
        names[n] = publication_root(result_text(r, i, 0));
        n += names[n] != NULL;
    }
    *ret_names = names;
    *ret_n = n;
    return 0;
}

int lookup_wal_lsn(struct lookup *l, lsn_t *ret_lsn, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    if (lookup_connect(l, e) != 0 || ask(l, "select pg_current_wal_insert_lsn()", &r, e) != 0)
        return -1;
    *ret_lsn = result_lsn(r, 0, 0);
    return 0;
}

// OIDs and column lists. only: of this table, quoted; NULL: all of them are listed.
static int list_published(struct lookup *l, const char *only, PGresult **ret_r, struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    AUTO_BUF struct buf sql = {0};
    if (l->o->publication_count) {
        buf_puts(&sql, "select relid, min(attrs::text) from (");
        publication_members(&sql, l->o, l->c->version, only);
        buf_puts(&sql, ") m group by 1 order by 1");
    } else {
        buf_puts(&sql, "select c.oid, null from pg_class c join pg_namespace n on n.oid = "
                       "c.relnamespace where " SQL_CANDIDATE " and c.relkind = 'r'");
        if (only) {
            buf_puts(&sql, " and c.oid = to_regclass(");
            sql_literal(&sql, only);
            buf_putc(&sql, ')');
        }
        buf_puts(&sql, " order by 1");
    }
    return ask_for(l, buf_cstr(&sql), LIST_US, ret_r, e);
}

// The rows from `first` on of such a list, with all that there is to know.
static int look_up_listed(struct lookup *l, const PGresult *list, int first, PGresult **ret_r,
                          struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    AUTO_BUF struct buf sql = {0};
    put_select(l, "v.root", &sql);
    put_from(&sql);
    // Of each table once, not with each of its columns.
    buf_puts(&sql, " join (select c.oid, w.attnums, case when c.relispartition then " SQL_ROOT_OF_C
                   " end as root from pg_class c join (values ");
    for (int i = first; i < PQntuples(list) && i < first + TABLES_AT_ONCE; i++) {
        buf_printf(&sql, "%s(%s::oid, ", i > first ? "," : "", result_text(list, i, 0));
        if (PQgetisnull(list, i, 1))
            buf_puts(&sql, "null::int2vector)");
        else
            buf_printf(&sql, "'%s'::int2vector)", result_text(list, i, 1));
    }
    buf_puts(&sql, ") w(oid, attnums) on w.oid = c.oid offset 0) v on v.oid = c.oid where ");
    buf_puts(&sql, l->c->version >= 120000
                       ? "case when v.attnums is null then a.attgenerated = '' else a.attnum = "
                         "any(v.attnums) end"
                       : "true");
    buf_puts(&sql, " order by c.oid, a.attnum");
    return ask_for(l, buf_cstr(&sql), LIST_US, ret_r, e);
}

int lookup_published(struct lookup *l, const char *only,
                     int (*each)(void *arg, struct table_info *t, struct err *e), void *arg,
                     struct err *e)
{
    AUTO_RESULT PGresult *list = NULL;
    if (list_published(l, only, &list, e) != 0)
        return -1;
    for (int first = 0; first < PQntuples(list); first += TABLES_AT_ONCE) {
        AUTO_RESULT PGresult *r = NULL;
        if (look_up_listed(l, list, first, &r, e) != 0)
            return -1;
        for (int row = 0; row < PQntuples(r);) {
            struct table_info t;
            read_table(r, &row, &t);
            int done = each(arg, &t, e);
            table_info_fini(&t);
            if (done != 0)
                return -1;
        }
    }
    return 0;
}

// ---- types ----

const struct type *lookup_type(const struct lookup *l, uint32_t oid)
{
    const struct type *builtin = type_builtin(oid);
    if (builtin)
        return builtin;
    struct known_type *t;
    HASH_FIND(hh, l->types, &oid, sizeof oid, t);
    return t ? &t->type : NULL;
}

// How a base type or a range is read in its binary form.
static void set_form(struct type *t, const PGresult *r, int row)
{
    char typtype = result_text(r, row, 3)[0];
    if (typtype == 'b')
        t->form = type_form(result_text(r, row, 8), result_text(r, row, 9));
    else if (typtype == 'r' || typtype == 'm')
        t->form = typtype == 'r' ? FORM_RANGE : FORM_MULTIRANGE;
    t->inner = result_u32(r, row, 10);
}

static const struct type *resolve(struct lookup *l, const PGresult *r, uint32_t oid, int depth)
{
    const struct type *known = lookup_type(l, oid);
    if (known || oid == 0 || depth > TYPE_DEPTH_MAX)
        return known;
    for (int i = 0; i < PQntuples(r); i++) {
        if (result_u32(r, i, 0) != oid)
            continue;
        bool array = result_bool(r, i, 4);
        uint32_t inner = result_u32(r, i, array ? 5 : 6);
        const struct type *of = resolve(l, r, inner, depth + 1);
        struct known_type *t = xcalloc(1, sizeof *t);
        t->type = type_resolve(oid, result_text(r, i, 1), result_text(r, i, 2),
                               result_text(r, i, 3)[0], array ? of : NULL, array ? NULL : of);
        if (!array)
            t->type.delimiter = result_text(r, i, 7)[0];
        if (!array && !of)
            set_form(&t->type, r, i);
        HASH_ADD(hh, l->types, type.oid, sizeof t->type.oid, t);
        return &t->type;
    }
    return NULL;
}

// Types that a binary value of type p may hold: fields, bounds, the ranges of a multirange.
#define SQL_TYPES_INSIDE                                                                           \
    " union all select a.atttypid from pg_attribute a where a.attrelid = p.typrelid and "          \
    "a.attnum > 0 and not a.attisdropped union all select g.rngsubtype from pg_range g where "     \
    "g.rngtypid = p.oid union all select g.rngtypid from pg_range g where g.rngmultitypid = p.oid"

int lookup_types(struct lookup *l, const uint32_t *oids, size_t n, struct err *e)
{
    if (lookup_connect(l, e) != 0)
        return -1;
    bool binary = l->o->binary && l->c->version >= 140000;
    AUTO_BUF struct buf sql = {0};
    buf_puts(&sql, "with recursive t(oid) as (select unnest('{");
    size_t unknown = 0;
    for (size_t i = 0; i < n; i++) {
        if (!lookup_type(l, oids[i]))
            buf_printf(&sql, "%s%u", unknown++ ? "," : "", oids[i]);
    }
    if (unknown == 0)
        return 0;
    buf_printf(
        &sql,
        "}'::oid[]) union select v.x from t join pg_type p on p.oid = t.oid cross join lateral"
        " (select p.typelem union all select p.typbasetype%s) v(x) where v.x <> 0)"
        " select p.oid, n.nspname, p.typname, p.typtype, p.typcategory = 'A' and p.typelem <> "
        "0, p.typelem, p.typbasetype, p.typdelim, "
        "(select prosrc from pg_proc where oid = p.typoutput), "
        "(select prosrc from pg_proc where oid = p.typsend), %s from t join pg_type p on "
        "p.oid = t.oid join pg_namespace n on n.oid = p.typnamespace",
        binary ? SQL_TYPES_INSIDE : "",
        binary ? "(select case p.oid when g.rngtypid then g.rngsubtype else g.rngtypid end from "
                 "pg_range g where p.oid in (g.rngtypid, g.rngmultitypid))"
               : "null");
    AUTO_RESULT PGresult *r = NULL;
    if (ask(l, buf_cstr(&sql), &r, e) != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        (void)resolve(l, r, oids[i], 0); // one that does not exist stays unknown
    for (int i = 0; binary && i < PQntuples(r); i++)
        (void)resolve(l, r, result_u32(r, i, 0), 0);
    return 0;
}

// ---- in the background ----

static void send_question(struct lookup *l, const char *first)
{
    struct err ignored; // the next look-up connects again, or says why it cannot
    AUTO_FREE char *sql = xasprintf("%s%s", first, l->question);
    if (connection_send(l->c, sql, &ignored) != 0 || PQflush(l->c->pg) < 0)
        lookup_disconnect(l);
    else
        l->asked = true;
}

void lookup_ask(struct lookup *l, const char *question)
{
    struct err ignored;
    if (l->asked)
        return;
    l->question = question;
    if (lookup_connection(l)) {
        send_question(l, "");
        return;
    }
    lookup_disconnect(l); // it was not open in all the time since the last call
    struct conninfo ci;
    if (make_conninfo(l, &ci, &ignored) != 0)
        return;
    if (connection_begin(&ci, l->waiter, &l->c, &ignored) != 0) {
        l->c = NULL;
        l->end = LOOKUP_FAILED;
    }
    conninfo_fini(&ci);
}

int lookup_fd(const struct lookup *l, short *ret_events)
{
    if (!l->c)
        return -1;
    *ret_events = l->c->opening ? l->c->opening : POLLIN;
    return PQsocket(l->c->pg);
}

// Goes on with a connection that is being opened; when it is open, asks.
static void go_on_opening(struct lookup *l)
{
    struct err ignored;
    struct pollfd p = {.fd = PQsocket(l->c->pg), .events = l->c->opening};
    if (poll(&p, 1, 0) <= 0)
        return;
    if (connection_proceed(l->c, &ignored) != 0) {
        l->end = strcmp(l->c->sqlstate, "57P03") == 0 ? LOOKUP_REFUSED : LOOKUP_FAILED;
        lookup_disconnect(l);
    } else if (!l->c->opening) {
        AUTO_FREE char *first = settings(l);
        send_question(l, first);
    }
}

// The results that are there. False: the connection is not worth keeping.
static bool take_results(struct lookup *l, PGresult **ret_r)
{
    while (!PQisBusy(l->c->pg)) {
        AUTO_RESULT PGresult *r = PQgetResult(l->c->pg);
        ExecStatusType status = PQresultStatus(r);
        if (!r) {
            l->asked = false;
            break;
        }
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
            note_end(l, PQresultErrorField(r, PG_DIAG_SQLSTATE));
            return false; // its settings may not hold
        }
        if (status == PGRES_TUPLES_OK) {
            PQclear(*ret_r);
            *ret_r = r;
            r = NULL;
        }
    }
    return true;
}

bool lookup_answer(struct lookup *l, PGresult **ret_r)
{
    if (l->c && l->c->opening)
        go_on_opening(l);
    if (!l->c || l->c->opening)
        return false;
    bool there = PQconsumeInput(l->c->pg) != 0;
    PGresult *got = NULL;
    bool good = take_results(l, &got); // also what came before the end
    if (l->c->ended)
        l->end = LOOKUP_ENDED;
    if (!there || !good || l->c->ended)
        lookup_disconnect(l);
    if (got)
        *ret_r = got;
    return got != NULL;
}

enum lookup_end lookup_end(struct lookup *l)
{
    enum lookup_end end = l->end;
    l->end = LOOKUP_GOES_ON;
    return end;
}
