#include "source/snapshot/chunk_sql.h"

#include "source/publication.h"
#include "source/snapshot/chunk_key.h"

void chunk_sql_publications(struct buf *out, const struct source_options *o)
{
    for (size_t i = 0; i < o->publication_count; i++) {
        if (i)
            buf_putc(out, ',');
        sql_literal(out, o->publications[i]);
    }
}

void chunk_sql_terms(struct buf *out, const struct source_options *o, int version, const char *oid)
{
    buf_puts(out, "(select string_agg(concat_ws(' ', p.oid, p.puballtables, p.pubinsert, "
                  "p.pubupdate, p.pubdelete, r.prrelid");
    if (version >= 130000)
        buf_puts(out, ", p.pubviaroot");
    if (version >= 150000)
        buf_puts(out, ", r.prattrs, pg_get_expr(r.prqual, r.prrelid)");
    if (version >= 180000)
        buf_puts(out, ", p.pubgencols");
    buf_printf(out,
               "), ';' order by p.oid) from pg_publication p left join pg_publication_rel r on "
               "r.prpubid = p.oid and r.prrelid = %s where p.pubname in (",
               oid);
    chunk_sql_publications(out, o);
    buf_puts(out, "))");
}

// ---- what the rows stand on ----

static void put_about(struct buf *out, const struct source_options *o, int version,
                      const struct chunk_order *order)
{
    uint32_t part = order->part->oid, table = order->table->info.oid;
    buf_printf(out, "select n.nspname, c.relname, pg_relation_filenode(c.oid), %s::text, ",
               version >= 130000 ? "pg_current_snapshot()" : "txid_current_snapshot()");
    if (part == table)
        buf_puts(out, "true");
    else
        buf_printf(out,
                   "exists (with recursive up(oid) as (select inhparent from pg_inherits where "
                   "inhrelid = %u union select i.inhparent from pg_inherits i join up on "
                   "i.inhrelid = up.oid) select 1 from up where up.oid = %u)",
                   part, table);
    buf_puts(out, ", t.relreplident, ");
    AUTO_FREE char *oid = xasprintf("%u", table);
    chunk_sql_terms(out, o, version, oid);
    buf_printf(out,
               ", pg_is_in_recovery(), "
               "txid_snapshot_xmax(txid_current_snapshot()) + "
               "age((txid_snapshot_xmax(txid_current_snapshot()) & 4294967295)::text::xid), "
               "current_setting('synchronous_standby_names') <> '' from pg_class c join "
               "pg_namespace n on n.oid = "
               "c.relnamespace join pg_class t on t.oid = %u where c.oid = %u; ",
               table, part);
}

// Which columns are published: a list (of any publication that has one: they must be the same), or
// all but generated ones; 18 may publish stored ones too.
static void put_published(struct buf *out, const struct source_options *o, int version,
                          uint32_t table)
{
    if (version < 120000) {
        buf_puts(out, "true");
        return;
    }
    AUTO_BUF struct buf names = {0};
    chunk_sql_publications(&names, o);
    if (version >= 150000)
        buf_printf(out,
                   "coalesce((select a.attnum = any(r.prattrs::int2[]) from pg_publication_rel r "
                   "join pg_publication p on p.oid = r.prpubid where r.prrelid = %u and "
                   "p.pubname in (%s) and r.prattrs is not null limit 1), ",
                   table, buf_cstr(&names));
    buf_puts(out, "a.attgenerated = ''");
    if (version >= 180000)
        buf_printf(out,
                   " or (a.attgenerated = 's' and exists (select 1 from pg_publication p where "
                   "p.pubname in (%s) and p.pubgencols = 's'))",
                   buf_cstr(&names));
    if (version >= 150000)
        buf_putc(out, ')');
}

static void put_shape(struct buf *out, const struct source_options *o, int version, uint32_t table)
{
    buf_puts(out, "select a.attname, a.attnum, a.atttypid, a.atttypmod, ");
    put_published(out, o, version, table);
    // Columns of INCLUDE (11+) stand in indkey too, behind the key's.
    const char *own = version >= 110000 ? "indnkeyatts" : "indnatts";
    const char *const index[] = {"pk", "ri"};
    for (size_t i = 0; i < ARRAY_LEN(index); i++)
        buf_printf(out, ", coalesce(a.attnum = any((%s.indkey::int2[])[0:%s.%s - 1]), false)",
                   index[i], index[i], own);
    buf_printf(
        out,
        " from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_index pk on "
        "pk.indrelid = a.attrelid and " SQL_PRIMARY_KEY_OF_C
        " left join pg_index ri on ri.indrelid = a.attrelid and "
        "ri.indisreplident where a.attrelid = %u and a.attnum > 0 and not a.attisdropped "
        "order by a.attnum; ",
        table);
}

// ---- conditions ----

static void put_literal(struct buf *out, struct slice text)
{
    buf_putc(out, '\'');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\'')
            buf_putc(out, '\'');
        buf_putc(out, (char)text.p[i]);
    }
    buf_putc(out, '\'');
}

static void put_key_column(struct buf *out, const struct chunk_key *k)
{
    sql_identifier(out, k->column);
    if (k->collation)
        buf_printf(out, " collate %s", k->collation);
}

static void put_compare(struct buf *out, const struct chunk_key *k, enum chunk_comparison c,
                        struct slice text)
{
    put_key_column(out, k);
    buf_printf(out, " operator(%s) ", k->operators[c]);
    put_literal(out, text);
}

static bool is_plain(const struct chunk_part *p)
{
    for (size_t i = 0; i < p->key_count; i++) {
        if (strcmp(p->keys[i].operators[COMPARE_GT], "pg_catalog.>") != 0 ||
            strcmp(p->keys[i].operators[COMPARE_LE], "pg_catalog.<=") != 0)
            return false;
    }
    return true;
}

// (a, b) > ('1', '2'): an index finds its place by it. Where the columns have operators of their
// own, SQL has no such comparison: a >= '1' and (a > '1' or (b > '2')).
static void put_bound(struct buf *out, const struct chunk_part *p, struct slice bound, bool upper)
{
    struct slice text[COLUMNS_MAX];
    struct reader in = reader_of(bound.p, bound.n);
    for (size_t i = 0; i < p->key_count; i++)
        CHECK(chunk_key_next(&in, &text[i]));
    buf_puts(out, " and ");
    if (is_plain(p)) {
        buf_puts(out, "row(");
        for (size_t i = 0; i < p->key_count; i++) {
            buf_puts(out, i ? ", " : "");
            put_key_column(out, &p->keys[i]);
        }
        buf_printf(out, ") operator(pg_catalog.%s) row(", upper ? "<=" : ">");
        for (size_t i = 0; i < p->key_count; i++) {
            buf_puts(out, i ? ", " : "");
            put_literal(out, text[i]);
        }
        buf_putc(out, ')');
        return;
    }
    size_t last = p->key_count - 1;
    for (size_t i = 0; i < last; i++) {
        put_compare(out, &p->keys[i], upper ? COMPARE_LE : COMPARE_GE, text[i]);
        buf_puts(out, " and (");
        put_compare(out, &p->keys[i], upper ? COMPARE_LT : COMPARE_GT, text[i]);
        buf_puts(out, " or (");
    }
    put_compare(out, &p->keys[last], upper ? COMPARE_LE : COMPARE_GT, text[last]);
    for (size_t i = 0; i < last; i++)
        buf_puts(out, "))");
}

static void put_list(struct buf *out, const struct chunk_order *order)
{
    const struct relation *r = order->relation;
    struct reader in = reader_of(order->keys.p, order->keys.n);
    buf_puts(out, " and (");
    for (size_t n = 0; n < order->key_n; n++) {
        const char *between = n ? " or (" : "(";
        for (size_t i = 0; i < r->column_count; i++) {
            if (!r->columns[i].key)
                continue;
            struct slice text;
            const struct chunk_key *k = chunk_part_key(order->part, r->columns[i].name);
            CHECK(chunk_key_next(&in, &text) && k);
            buf_puts(out, between);
            put_compare(out, k, COMPARE_EQ, text);
            between = " and ";
        }
        buf_putc(out, ')');
    }
    buf_putc(out, ')');
}

static void put_place(struct buf *out, const char *comparison, uint64_t place)
{
    buf_printf(out, " and ctid %s '(%llu,%u)'", comparison, (unsigned long long)(place >> 16),
               (unsigned)(place & UINT16_MAX));
}

static void put_order(struct buf *out, const struct chunk_part *p)
{
    buf_puts(out, " order by ");
    for (size_t i = 0; i < p->key_count; i++) {
        buf_puts(out, i ? ", " : "");
        put_key_column(out, &p->keys[i]);
        buf_printf(out, " using operator(%s)", p->keys[i].operators[COMPARE_LT]);
    }
}

// ---- the rows ----

// Masked values do not leave the server; that they are no NULL does.
static void put_columns(struct buf *out, const struct relation *r)
{
    for (size_t i = 0; i < r->column_count; i++) {
        const struct column *c = &r->columns[i];
        buf_puts(out, i ? ", " : "");
        if (c->masked)
            buf_puts(out, "case num_nulls(");
        sql_identifier(out, c->name);
        if (c->masked)
            buf_puts(out, ") when 0 then '' end");
    }
}

static void put_rows(struct buf *out, const struct chunk_order *order, bool places)
{
    const struct chunk_part *p = order->part;
    buf_puts(out, "copy (select ");
    put_columns(out, order->relation);
    if (places)
        buf_puts(out, order->relation->column_count ? ", ctid" : "ctid");
    buf_printf(out, " from only %s where ", p->table);
    if (order->table->filter)
        buf_printf(out, "(%s)", order->table->filter);
    else
        buf_puts(out, "true");
    switch (order->kind) {
    case CHUNK_PAGES:
        put_place(out, ">=", order->place_from);
        put_place(out, "<", order->place_to);
        break;
    case CHUNK_KEYS:
        if (order->key_from.n)
            put_bound(out, p, buf_slice(&order->key_from), false);
        if (order->key_to.n)
            put_bound(out, p, buf_slice(&order->key_to), true);
        put_order(out, p);
        buf_printf(out, " limit %llu", (unsigned long long)p->limit);
        break;
    case CHUNK_LIST:
        put_list(out, order);
        if (order->key_from.n)
            put_bound(out, p, buf_slice(&order->key_from), false);
        put_order(out, p);
        break;
    case CHUNK_WHOLE:
    case CHUNK_PLAN:
        break;
    }
    buf_puts(out, ") to stdout; ");
}

// The way that is meant, whatever the statistics say: a range of places is read in their order, and
// one of keys by the index.
static const char *settings(enum chunk_kind kind)
{
    switch (kind) {
    case CHUNK_PAGES:
        return "set local enable_seqscan = off; set local enable_indexscan = off; "
               "set local enable_indexonlyscan = off; set local enable_bitmapscan = off; ";
    case CHUNK_KEYS:
        return "set local enable_seqscan = off; set local enable_bitmapscan = off; "
               "set local enable_sort = off; ";
    case CHUNK_LIST:
        return "set local enable_seqscan = off; ";
    default:
        return "";
    }
}

void chunk_sql_read(struct buf *out, const struct source_options *o, int version,
                    const struct chunk_order *order, bool places)
{
    buf_printf(out,
               "begin isolation level repeatable read read only; %slock table only %s in access "
               "share mode; ",
               settings(order->kind), order->part->table);
    put_about(out, o, version, order);
    put_shape(out, o, version, order->table->info.oid);
    put_rows(out, order, places);
    buf_puts(out, "select pg_current_wal_insert_lsn(); commit");
}
