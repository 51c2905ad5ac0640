// Three questions, whatever the number of tables: what the publications say of each, its columns
// (the look-up's question), and what each heap and each key is like.
#include "source/snapshot/chunk_plan.h"

#include "base/clock.h"
#include "source/publication.h"
#include "source/snapshot/chunk_sql.h"

#define PATIENCE_US   INT64_C(120000000)
#define PAGE_BYTES    8192
#define PAGES_MAX     UINT32_MAX // of a heap
#define ROW_BYTES     100        // of a table that was never analyzed
#define LIMIT_MIN     50
#define LIMIT_MAX     50000
#define CHUNKS_A_TICK 4 // with a rate: so many chunks a second at least

struct planner {
    struct connection *sql;
    const struct source_options *o;
    struct chunk_plan *plan;
    const char *wanted;
    size_t cap;
};

static int ask(struct planner *p, PGresult **ret_r, struct err *e, const char *text)
{
    return connection_query(p->sql, clock_mono_us() + PATIENCE_US, ret_r, e, "%s", text);
}

// ---- how a part is read ----

static double within(double v, double min, double max)
{
    return v < min ? min : v > max ? max : v;
}

void chunk_plan_part(struct chunk_part *p, int version, bool updates, bool heap, int64_t rate)
{
    double target = CHUNK_BYTES;
    if (rate > 0)
        target = within((double)rate / CHUNKS_A_TICK, PAGE_BYTES, target);
    double a_row = p->rows >= 1 ? (double)p->bytes / p->rows : ROW_BYTES;
    p->limit = (uint64_t)within(target / within(a_row, 1, 1e9), LIMIT_MIN, LIMIT_MAX);
    // A heap has its rows' headers and gaps too, which are not sent.
    double a_page = p->pages ? (double)p->bytes / (double)p->pages : PAGE_BYTES;
    p->step = (uint64_t)within(target * 3 / 2 / within(a_page, PAGE_BYTES, 1e12), 1, PAGES_MAX);
    p->kind = p->key_count == 0                      ? CHUNK_WHOLE
              : version >= 140000 && updates && heap ? CHUNK_PAGES
                                                     : CHUNK_KEYS;
}

// ---- tables ----

static int by_oid(const void *a, const void *b)
{
    const struct chunk_table *x = a, *y = b;
    return (x->info.oid > y->info.oid) - (x->info.oid < y->info.oid);
}

static int each_table(void *arg, struct table_info *info, struct err *e)
{
    (void)e;
    struct planner *p = arg;
    AUTO_BUF struct buf name = {0};
    table_quote(&name, info->schema, info->name);
    if (p->wanted ? strcmp(p->wanted, buf_cstr(&name)) != 0
                  : !source_wants(p->o, buf_cstr(&name), info->root))
        return 0;
    if (p->plan->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->plan->tables = xrealloc(p->plan->tables, p->cap * sizeof p->plan->tables[0]);
    }
    p->plan->tables[p->plan->n++] =
        (struct chunk_table){.info = *info, .table = xstrdup(buf_cstr(&name))};
    *info = (struct table_info){0};
    return 0;
}

static int list_tables(struct planner *p, struct waiter *w, struct err *e)
{
    struct lookup *l = lookup_new(p->o, w);
    lookup_lend(l, p->sql);
    int r = lookup_published(l, p->wanted, each_table, p, e);
    p->sql = lookup_take_back(l, p->sql);
    lookup_free(l);
    if (r == 0 && !p->sql)
        r = err_set(e, ERR_RETRY, "the connection was lost while tables were listed");
    if (p->plan->n)
        qsort(p->plan->tables, p->plan->n, sizeof p->plan->tables[0], by_oid);
    return r;
}

static struct chunk_table *find(struct chunk_plan *plan, uint32_t oid)
{
    struct chunk_table wanted = {.info.oid = oid};
    return plan->n ? bsearch(&wanted, plan->tables, plan->n, sizeof wanted, by_oid) : NULL;
}

static void put_oids(struct buf *sql, const struct planner *p)
{
    buf_puts(sql, "'{");
    for (size_t i = 0; i < p->plan->n; i++)
        buf_printf(sql, "%s%u", i ? "," : "", p->plan->tables[i].info.oid);
    buf_puts(sql, "}'::oid[]");
}

// ---- what the publications say ----

// Whether table l.relid is published under the name of a table above it.
static void put_below_a_root(struct buf *sql, const struct planner *p, int version)
{
    if (version < 130000) {
        buf_puts(sql, "false");
        return;
    }
    buf_puts(sql, "exists (select 1 from pg_partition_ancestors(l.relid) a join ");
    if (p->wanted) {
        buf_puts(sql,
                 "(select g.relid from pg_publication p, lateral "
                 "pg_get_publication_tables(p.pubname) g where p.pubviaroot and p.pubname in (");
        chunk_sql_publications(sql, p->o);
        buf_puts(sql, "))");
    } else {
        buf_puts(sql, "l");
    }
    buf_puts(sql, " b on b.relid = a.relid where a.relid <> l.relid)");
}

// A table that several publications have is read with the filters of all, each or the other; one
// without a filter takes all rows. A leaf whose root is published as itself is a part of it only.
static int ask_terms(struct planner *p, struct err *e)
{
    int version = p->sql->version;
    AUTO_BUF struct buf sql = {0};
    buf_puts(&sql, "with m as (");
    publication_members(&sql, p->o, version, p->wanted);
    buf_puts(&sql, "), l as (select relid, bool_and(pubupdate) as updates, ");
    if (version >= 150000)
        buf_puts(&sql, "case when bool_and(qual is not null) then string_agg(distinct '(' || "
                       "pg_get_expr(qual, relid) || ')', ' or ') end");
    else
        buf_puts(&sql, "null::text");
    buf_puts(&sql, " as filter from m group by 1) select l.relid, l.updates, l.filter, ");
    chunk_sql_terms(&sql, p->o, version, "l.relid");
    buf_puts(&sql, ", ");
    put_below_a_root(&sql, p, version);
    buf_puts(&sql, " from l where l.relid = any(");
    put_oids(&sql, p);
    buf_putc(&sql, ')');
    AUTO_RESULT PGresult *r = NULL;
    if (ask(p, &r, e, buf_cstr(&sql)) != 0)
        return -1;
    for (int i = 0; i < PQntuples(r); i++) {
        struct chunk_table *t = find(p->plan, result_u32(r, i, 0));
        if (!t || result_bool(r, i, 4))
            continue;
        t->updates = result_bool(r, i, 1);
        t->filter = PQgetisnull(r, i, 2) ? NULL : xstrdup(result_text(r, i, 2));
        t->terms = xstrdup(result_text(r, i, 3));
    }
    return 0;
}

static void drop_unlisted(struct chunk_plan *plan)
{
    size_t kept = 0;
    for (size_t i = 0; i < plan->n; i++) {
        struct chunk_table *t = &plan->tables[i];
        if (t->terms) {
            plan->tables[kept++] = *t;
            continue;
        }
        table_info_fini(&t->info);
        free(t->table);
    }
    plan->n = kept;
}

// ---- heaps ----

enum part_field {
    PART_TABLE,
    PART_OID,
    PART_SCHEMA,
    PART_NAME,
    PART_FILENODE,
    PART_PAGES,
    PART_BYTES,
    PART_ROWS,
    PART_HEAP,
    PART_USAGE,
    PART_SELECT,
    PART_SECURITY,
};

static void refuse(struct planner *p, struct chunk_table *t, const PGresult *r, int row)
{
    const char *table = t->parts[t->part_count - 1].table;
    AUTO_BUF struct buf role = {0}, schema = {0};
    sql_identifier(&role, PQuser(p->sql->pg));
    sql_identifier(&schema, result_text(r, row, PART_SCHEMA));
    if (!result_bool(r, row, PART_USAGE))
        err_set(&t->refused, ERR_SOURCE,
                "existing rows of table %s: the role may not use its schema; remedy: GRANT USAGE "
                "ON SCHEMA %s TO %s",
                table, buf_cstr(&schema), buf_cstr(&role));
    else if (!result_bool(r, row, PART_SELECT))
        err_set(&t->refused, ERR_SOURCE,
                "existing rows of table %s: the role may not read it; remedy: GRANT SELECT ON %s "
                "TO %s",
                table, table, buf_cstr(&role));
    else if (result_bool(r, row, PART_SECURITY))
        err_set(&t->refused, ERR_SOURCE,
                "existing rows of table %s: row-level security would hide some of them from the "
                "role; remedy: ALTER ROLE %s BYPASSRLS",
                table, buf_cstr(&role));
}

static void add_part(struct planner *p, struct chunk_table *t, const PGresult *r, int row)
{
    t->parts = xrealloc(t->parts, (t->part_count + 1) * sizeof t->parts[0]);
    struct chunk_part *part = &t->parts[t->part_count++];
    AUTO_BUF struct buf name = {0};
    table_quote(&name, result_text(r, row, PART_SCHEMA), result_text(r, row, PART_NAME));
    *part = (struct chunk_part){
        .oid = result_u32(r, row, PART_OID),
        .table = xstrdup(buf_cstr(&name)),
        .filenode = strtoull(result_text(r, row, PART_FILENODE), NULL, 10),
        .pages = strtoull(result_text(r, row, PART_PAGES), NULL, 10),
        .bytes = strtoull(result_text(r, row, PART_BYTES), NULL, 10),
        .rows = strtod(result_text(r, row, PART_ROWS), NULL),
        .kind = result_bool(r, row, PART_HEAP) ? CHUNK_PAGES : CHUNK_KEYS, // until it has its keys
    };
    if (part->pages > PAGES_MAX)
        part->pages = PAGES_MAX;
    if (t->refused.class == ERR_NONE)
        refuse(p, t, r, row);
}

// The tables' own heaps, or those of their leaves. What is not permanent is in no stream.
static int ask_parts(struct planner *p, struct err *e)
{
    int version = p->sql->version;
    AUTO_BUF struct buf sql = {0};
    buf_puts(&sql, "select v.t, c.oid, n.nspname, c.relname, pg_relation_filenode(c.oid), "
                   "pg_relation_size(c.oid) / current_setting('block_size')::int8, "
                   "pg_table_size(c.oid), c.reltuples, ");
    buf_puts(&sql, version >= 120000 ? "(select m.amname = 'heap' from pg_am m where m.oid = "
                                       "c.relam), "
                                     : "true, ");
    // A grant on each column does as well; whether all have one is for the query to say.
    buf_puts(&sql, "has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, "
                   "'SELECT'), row_security_active(c.oid) from ");
    if (version >= 130000) {
        buf_puts(&sql, "(select x as t, f.relid as oid from unnest(");
        put_oids(&sql, p);
        buf_puts(&sql, ") x, lateral pg_partition_tree(x) f where f.isleaf union select x, x from "
                       "unnest(");
        put_oids(&sql, p);
        buf_puts(&sql, ") x) v");
    } else {
        buf_puts(&sql, "(select x as t, x as oid from unnest(");
        put_oids(&sql, p);
        buf_puts(&sql, ") x) v");
    }
    buf_puts(&sql, " join pg_class c on c.oid = v.oid join pg_namespace n on n.oid = "
                   "c.relnamespace where c.relkind = 'r' and c.relpersistence = 'p' order by 1, 2");
    AUTO_RESULT PGresult *r = NULL;
    if (ask(p, &r, e, buf_cstr(&sql)) != 0)
        return -1;
    for (int i = 0; i < PQntuples(r); i++) {
        struct chunk_table *t = find(p->plan, result_u32(r, i, PART_TABLE));
        if (t)
            add_part(p, t, r, i);
    }
    return 0;
}

// ---- keys ----

static bool is_key(const struct table_info *info, const struct table_column *c)
{
    return info->replica_identity == 'i' ? c->identity
                                         : info->replica_identity != 'n' && c->primary;
}

// Whether the index of these rows has just the columns of the key.
static bool index_fits(const struct table_info *info, const PGresult *r, int first, int end)
{
    int keys = 0, found = 0;
    for (size_t i = 0; i < info->n; i++) {
        if (!is_key(info, &info->columns[i]))
            continue;
        keys++;
        for (int row = first; row < end; row++)
            found += strcmp(result_text(r, row, 2), info->columns[i].name) == 0;
    }
    return keys == found && keys == end - first;
}

static void take_keys(struct chunk_part *part, const PGresult *r, int first, int end)
{
    for (int row = first; row < end; row++) {
        for (int c = 0; c < COMPARE_COUNT; c++) {
            if (PQgetisnull(r, row, 4 + c)) // an index that does not say how: not by key then
                return;
        }
    }
    part->keys = xcalloc((size_t)(end - first), sizeof part->keys[0]);
    for (int row = first; row < end; row++) {
        struct chunk_key *k = &part->keys[part->key_count++];
        k->column = xstrdup(result_text(r, row, 2));
        k->collation = PQgetisnull(r, row, 3) ? NULL : xstrdup(result_text(r, row, 3));
        for (int c = 0; c < COMPARE_COUNT; c++)
            k->operators[c] = xstrdup(result_text(r, row, 4 + c));
    }
}

static void find_keys(const struct chunk_table *t, struct chunk_part *part, const PGresult *r)
{
    int rows = PQntuples(r);
    for (int first = 0, end; first < rows && part->key_count == 0; first = end) {
        end = first + 1;
        while (end < rows && result_u32(r, end, 1) == result_u32(r, first, 1))
            end++;
        if (result_u32(r, first, 0) == part->oid && index_fits(&t->info, r, first, end))
            take_keys(part, r, first, end);
    }
}

static void put_parts(struct buf *sql, const struct planner *p)
{
    const char *between = "'{";
    for (size_t i = 0; i < p->plan->n; i++) {
        for (size_t k = 0; k < p->plan->tables[i].part_count; k++) {
            buf_printf(sql, "%s%u", between, p->plan->tables[i].parts[k].oid);
            between = ",";
        }
    }
    buf_puts(sql, *between == ',' ? "}'::oid[]" : "'{}'::oid[]");
}

// The unique indexes, column by column, with their operators: uniqueness and order are the index's,
// which may have another collation than the column.
static int ask_keys(struct planner *p, struct err *e)
{
    AUTO_BUF struct buf sql = {0};
    const char *own = p->sql->version >= 110000 ? "indnkeyatts" : "indnatts";
    buf_puts(&sql, "select i.indrelid, i.indexrelid, a.attname, (select quote_ident(x.nspname) || "
                   "'.' || quote_ident(y.collname) from pg_collation y join pg_namespace x on "
                   "x.oid = y.collnamespace where y.oid = i.indcollation[k.i])");
    for (int c = 0; c < COMPARE_COUNT; c++)
        buf_printf(&sql,
                   ", (select quote_ident(x.nspname) || '.' || y.oprname from pg_amop z join "
                   "pg_operator y on y.oid = z.amopopr join pg_namespace x on x.oid = "
                   "y.oprnamespace where z.amopfamily = o.opcfamily and z.amoplefttype = "
                   "o.opcintype and z.amoprighttype = o.opcintype and z.amopstrategy = %d)",
                   c + 1);
    buf_printf(&sql,
               " from pg_index i cross join lateral generate_series(0, i.%s - 1) k(i) join "
               "pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.i] join "
               "pg_opclass o on o.oid = i.indclass[k.i] where i.indrelid = any(",
               own);
    put_parts(&sql, p);
    buf_puts(&sql, ") and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null "
                   "and i.indexprs is null order by i.indrelid, i.indisreplident desc, "
                   "i.indisprimary desc, i.indexrelid, k.i");
    AUTO_RESULT PGresult *r = NULL;
    if (ask(p, &r, e, buf_cstr(&sql)) != 0)
        return -1;
    for (size_t i = 0; i < p->plan->n; i++) {
        struct chunk_table *t = &p->plan->tables[i];
        for (size_t k = 0; k < t->part_count; k++) {
            struct chunk_part *part = &t->parts[k];
            find_keys(t, part, r);
            chunk_plan_part(part, p->sql->version, t->updates, part->kind == CHUNK_PAGES,
                            p->o->snapshot_rate);
        }
    }
    return 0;
}

// ---- the plan ----

static int refuse_standby(struct planner *p, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    if (ask(p, &r, e, "select pg_is_in_recovery()") != 0)
        return -1;
    if (!result_bool(r, 0, 0))
        return 0;
    return err_set(e, ERR_SOURCE,
                   "existing rows: the server is a standby, which does not tell what transactions "
                   "run on its primary; remedy: connect to the primary, or use --snapshot never");
}

static int make(struct planner *p, struct waiter *w, struct err *e)
{
    if (refuse_standby(p, e) != 0 || list_tables(p, w, e) != 0)
        return -1;
    if (p->plan->n == 0)
        return 0;
    if (ask_terms(p, e) != 0)
        return -1;
    drop_unlisted(p->plan);
    return p->plan->n && (ask_parts(p, e) != 0 || ask_keys(p, e) != 0) ? -1 : 0;
}

int chunk_plan_make(struct connection **sql, const struct source_options *o, struct waiter *w,
                    struct chunk *c)
{
    struct planner p = {
        .sql = *sql, .o = o, .plan = xcalloc(1, sizeof *p.plan), .wanted = c->order.wanted};
    int r = make(&p, w, &c->err);
    *sql = p.sql;
    if (r != 0) {
        chunk_plan_free(p.plan);
        return -1;
    }
    c->plan = p.plan;
    if (p.wanted && p.plan->n == 0)
        c->status = CHUNK_GONE;
    return 0;
}
