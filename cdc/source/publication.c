#include "source/publication.h"

#include "base/clock.h"

#define QUERY_US INT64_C(60000000)

#define TABLE_COLUMNS                                                                              \
    "c.oid, n.nspname, c.relname, " SQL_ROOT_OF_C ", "                                             \
    "c.relreplident = 'f' or exists (select 1 from pg_index i where i.indrelid = c.oid and "       \
    "case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false "  \
    "end), c.relispartition, c.relkind = 'p', pg_has_role(c.relowner, 'USAGE')"

void table_list_fini(struct table_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->tables[i].table);
        free(l->tables[i].root);
    }
    free(l->tables);
    *l = (struct table_list){0};
}

bool source_wants(const struct source_options *o, const char *table, const char *root)
{
    return table_match_any(o->tables, o->table_count, table) ||
           (root && table_match_any(o->tables, o->table_count, root));
}

static char *quoted_table(const char *schema, const char *name)
{
    AUTO_BUF struct buf b = {0};
    table_quote(&b, schema, name);
    return xstrdup(buf_cstr(&b));
}

char *publication_root(const char *joined)
{
    AUTO_FREE char *schema = xstrdup(joined);
    char *middle = strchr(schema, 1);
    if (!middle)
        return NULL;
    *middle = 0;
    return quoted_table(schema, middle + 1);
}

static void read_tables(const PGresult *r, struct table_list *ret_l)
{
    struct table_list l = {.n = (size_t)PQntuples(r)};
    l.tables = xcalloc(l.n + 1, sizeof *l.tables);
    for (size_t i = 0; i < l.n; i++) {
        int row = (int)i;
        struct published_table *t = &l.tables[i];
        t->oid = result_u32(r, row, 0);
        t->table = quoted_table(result_text(r, row, 1), result_text(r, row, 2));
        t->root = publication_root(result_text(r, row, 3));
        t->identity = result_bool(r, row, 4);
        t->partition = result_bool(r, row, 5);
        t->partitioned = result_bool(r, row, 6);
        t->owned = result_bool(r, row, 7);
    }
    *ret_l = l;
}

static void put_names(struct buf *out, const struct source_options *o)
{
    for (size_t i = 0; i < o->publication_count; i++) {
        if (i)
            buf_putc(out, ',');
        sql_literal(out, o->publications[i]);
    }
}

// Without listing all that a publication has, which takes long where that is all tables: as itself
// a table is published when it, its schema or (13+) one that it is a partition of is named. With
// publish_via_partition_root that depends on the others, and the function has to say.
static void put_member(struct buf *sql, const char *names, int version, const char *table)
{
    AUTO_BUF struct buf name = {0};
    sql_literal(&name, table);
    // 18 may publish stored generated columns of a table without a column list.
    const char *attrs =
        version >= 180000
            ? "case when r.prattrs is null and p.pubgencols = 's' then (select "
              "string_agg(a.attnum::text, ' ' order by a.attnum)::int2vector from pg_attribute a "
              "where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and "
              "a.attgenerated in ('', 's')) else r.prattrs end as attrs, r.prqual as qual"
        : version >= 150000 ? "r.prattrs as attrs, r.prqual as qual"
                            : "null::int2vector as attrs, null as qual";
    buf_printf(sql, "select c.oid as relid, p.pubupdate, %s from pg_class c cross join ", attrs);
    buf_printf(sql,
               "pg_publication p left join pg_publication_rel r on r.prpubid = p.oid and "
               "r.prrelid = c.oid where c.oid = to_regclass(%s) and c.relkind = 'r' and "
               "c.relpersistence = 'p' and c.oid >= 16384 and p.pubname "
               "in (%s) and (p.puballtables or r.oid is not null",
               buf_cstr(&name), names);
    if (version >= 150000)
        buf_puts(sql, " or exists (select 1 from pg_publication_namespace s where s.pnpubid = "
                      "p.oid and s.pnnspid = c.relnamespace)");
    if (version >= 130000)
        buf_puts(sql, " or exists (select 1 from pg_partition_ancestors(c.oid) a join "
                      "pg_publication_rel ar on ar.prrelid = a.relid where ar.prpubid = p.oid)");
    if (version >= 150000)
        buf_puts(sql, " or exists (select 1 from pg_partition_ancestors(c.oid) a join pg_class ac "
                      "on ac.oid = a.relid join pg_publication_namespace s on s.pnnspid = "
                      "ac.relnamespace where s.pnpubid = p.oid)");
    buf_putc(sql, ')');
    if (version < 130000)
        return;
    buf_printf(sql,
               " and not p.pubviaroot union all select g.relid, p.pubupdate, %s from "
               "pg_publication p, lateral pg_get_publication_tables(p.pubname) g where p.pubname "
               "in (%s) and p.pubviaroot and g.relid = to_regclass(%s)",
               version >= 150000 ? "g.attrs, g.qual" : "null::int2vector as attrs, null as qual",
               names, buf_cstr(&name));
}

void publication_members(struct buf *sql, const struct source_options *o, int version,
                         const char *table)
{
    AUTO_BUF struct buf names = {0};
    put_names(&names, o);
    if (table)
        put_member(sql, buf_cstr(&names), version, table);
    else
        buf_printf(sql,
                   "select g.relid, p.pubupdate, %s from pg_publication p, lateral "
                   "pg_get_publication_tables(p.pubname) g where p.pubname in (%s)",
                   version >= 150000 ? "g.attrs, g.qual"
                                     : "null::int2vector as attrs, null as qual",
                   buf_cstr(&names));
}

int publication_missing(struct connection *sql, const struct source_options *o, struct buf *ret,
                        struct err *e)
{
    AUTO_BUF struct buf names = {0};
    put_names(&names, o);
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(sql, clock_mono_us() + QUERY_US, &r, e,
                         "select x from unnest(array[%s]::text[]) x where not exists"
                         " (select 1 from pg_publication p where p.pubname = x)",
                         buf_cstr(&names)) != 0)
        return -1;
    for (int i = 0; i < PQntuples(r); i++)
        buf_printf(ret, "%s%s", i ? ", " : "", result_text(r, i, 0));
    return 0;
}

int publication_tables(struct connection *sql, const struct source_options *o, bool updates_only,
                       struct table_list *ret_l, struct err *e)
{
    AUTO_BUF struct buf names = {0};
    put_names(&names, o);
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(
            sql, clock_mono_us() + QUERY_US, &r, e,
            "select " TABLE_COLUMNS " from pg_class c join pg_namespace n on n.oid = "
            "c.relnamespace where c.oid in (select g.relid from pg_publication p, lateral "
            "pg_get_publication_tables(p.pubname) g where p.pubname in (%s)%s) order by 2, 3",
            buf_cstr(&names), updates_only ? " and (p.pubupdate or p.pubdelete)" : "") != 0)
        return -1;
    read_tables(r, ret_l);
    return 0;
}

int publication_candidates(struct connection *sql, struct table_list *ret_l, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(sql, clock_mono_us() + QUERY_US, &r, e,
                         "select " TABLE_COLUMNS " from pg_class c join pg_namespace n on n.oid = "
                         "c.relnamespace where " SQL_CANDIDATE " order by 2, 3") != 0)
        return -1;
    read_tables(r, ret_l);
    return 0;
}

static void put_table(struct buf *list, const char *table)
{
    buf_printf(list, "%s%s", list->n ? ", " : "", table);
}

void publication_plan(const struct source_options *o, const char *name,
                      const struct table_list *candidates, int version,
                      struct publication_plan *ret_plan)
{
    struct publication_plan plan = {0};
    buf_puts(&plan.sql, "CREATE PUBLICATION ");
    sql_identifier(&plan.sql, name);
    buf_puts(&plan.sql, " FOR TABLE ");
    for (size_t i = 0; i < candidates->n; i++) {
        const struct published_table *t = &candidates->tables[i];
        bool with_root = t->root && table_match_any(o->tables, o->table_count, t->root);
        // From 13 on a partitioned table stands for its partitions; before it cannot be published.
        if (version >= 130000 ? with_root : t->partitioned)
            continue;
        if (!source_wants(o, t->table, t->root))
            continue;
        if (!t->identity) {
            put_table(&plan.left_out, t->table);
            continue;
        }
        if (!t->owned)
            put_table(&plan.foreign, t->table);
        // ONLY: descendants by plain inheritance are tables of their own.
        buf_printf(&plan.sql, "%s%s%s", plan.n++ ? ", " : "", t->partitioned ? "" : "ONLY ",
                   t->table);
    }
    *ret_plan = plan;
}

void publication_plan_fini(struct publication_plan *plan)
{
    buf_free(&plan->sql);
    buf_free(&plan->left_out);
    buf_free(&plan->foreign);
}
