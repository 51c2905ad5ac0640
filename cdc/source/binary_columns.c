#include "source/binary_columns.h"

#include "base/clock.h"
#include "proto/types.h"
#include "source/hiding.h"

#define QUERY_US  INT64_C(60000000)
#define NAMED_MAX 5 // so many columns are named one by one

// Which tables and columns: as a publication has them, or every table that one could have.
static void put_columns(const struct preflight *p, struct buf *sql)
{
    buf_puts(sql, "select n.nspname, c.relname, " SQL_ROOT_OF_C
                  ", a.attname, a.attnum, a.atttypid, c.oid from pg_class c join pg_namespace n on "
                  "n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum > "
                  "0 and not a.attisdropped where ");
    if (p->create_publication) {
        buf_puts(sql, SQL_CANDIDATE);
        return;
    }
    buf_printf(sql,
               "exists (select 1 from pg_publication p, lateral "
               "pg_get_publication_tables(p.pubname) g where g.relid = c.oid%s and p.pubname in (",
               p->sql->version >= 150000 ? " and (g.attrs is null or a.attnum = any(g.attrs))"
                                         : "");
    for (size_t i = 0; i < p->o->publication_count; i++) {
        if (i)
            buf_putc(sql, ',');
        sql_literal(sql, p->o->publications[i]);
    }
    buf_puts(sql, "))");
}

// Each column with each of the base types that its values are made of; `inside`: of an array, a
// composite or a range.
static int ask(struct preflight *p, PGresult **ret_r, struct err *e)
{
    AUTO_BUF struct buf columns = {0};
    put_columns(p, &columns);
    return connection_query(
        p->sql, clock_mono_us() + QUERY_US, ret_r, e,
        "with recursive c(schema, name, root, col, num, typ, rel) as (%s), "
        "u(top, oid, inside) as (select distinct typ, typ, false from c union "
        "select u.top, v.oid, v.inside from u join pg_type p on p.oid = u.oid cross join lateral ("
        "select p.typelem, true where p.typcategory = 'A' "
        "union all select p.typbasetype, u.inside where p.typtype = 'd' "
        "union all select a.atttypid, true from pg_attribute a where p.typtype = 'c' and "
        "a.attrelid = p.typrelid and a.attnum > 0 and not a.attisdropped "
        "union all select g.rngsubtype, true from pg_range g where g.rngtypid = p.oid "
        "union all select g.rngtypid, true from pg_range g where g.rngmultitypid = p.oid"
        ") v(oid, inside) where v.oid <> 0) "
        "select c.schema, c.name, c.root, c.col, format_type(u.oid, null), u.oid, u.inside, "
        "t.typsend = 0, (select prosrc from pg_proc where oid = t.typoutput), "
        "(select prosrc from pg_proc where oid = t.typsend) from c join u on u.top = c.typ "
        "join pg_type t on t.oid = u.oid where t.typtype = 'b' and t.typcategory <> 'A' "
        "order by 1, 2, c.num, 5",
        buf_cstr(&columns));
}

static bool readable(const PGresult *r, int row)
{
    const struct type *t = type_builtin(result_u32(r, row, 5));
    enum form form = t ? t->form : type_form(result_text(r, row, 8), result_text(r, row, 9));
    return form != FORM_NONE;
}

// Excluded and masked columns are not read.
static bool hidden(const struct source_options *o, const char *table, const char *root,
                   const char *column)
{
    for (size_t i = 0; i < o->exclude_column_count + o->mask_column_count; i++) {
        const char *glob = i < o->exclude_column_count
                               ? o->exclude_columns[i]
                               : o->mask_columns[i - o->exclude_column_count];
        if (hiding_glob_matches(glob, table, column) ||
            (root && hiding_glob_matches(glob, root, column)))
            return true;
    }
    return false;
}

static void report_fatal(struct preflight *p, const char *table, const char *column,
                         const char *type)
{
    AUTO_FREE char *object = xasprintf("column %s of table %s", column, table);
    AUTO_FREE char *cause = xasprintf("holds values of type %s inside of others, which the server "
                                      "cannot send in binary form: its rows would end the stream",
                                      type);
    p->report(p->arg, FINDING_FAIL, ERR_SOURCE, object, cause,
              p->sql->version >= 150000
                  ? "set binary = off; or publish the table with a column list without it"
                  : "set binary = off; or take the table out of the publication");
}

static void report_text(struct preflight *p, const char *table, const char *column,
                        const char *type)
{
    AUTO_FREE char *object = xasprintf("column %s of table %s", column, table);
    AUTO_FREE char *cause = xasprintf("values of type %s can be read as text only, so that all "
                                      "values of this connection are sent as text",
                                      type);
    p->report(p->arg, FINDING_WARN, ERR_NONE, object, cause,
              "exclude the column, or set binary = off");
}

int binary_columns_check(struct preflight *p, struct err *e)
{
    if (!p->o->binary || p->as_text || p->sql->version < 140000)
        return 0;
    AUTO_RESULT PGresult *r = NULL;
    if (ask(p, &r, e) != 0)
        return -1;
    int named = 0;
    for (int i = 0; i < PQntuples(r); i++) {
        AUTO_BUF struct buf name = {0};
        table_quote(&name, result_text(r, i, 0), result_text(r, i, 1));
        AUTO_FREE char *root = publication_root(result_text(r, i, 2));
        const char *table = buf_cstr(&name), *column = result_text(r, i, 3);
        bool wanted = source_wants(p->o, table, root), cannot_send = result_bool(r, i, 7);
        if (cannot_send) {
            // The server sends the rows of all published tables, whether we want them or not. By
            // itself such a value comes as text.
            if (result_bool(r, i, 6) && (wanted || !p->create_publication))
                report_fatal(p, table, column, result_text(r, i, 4));
        } else if (wanted && !readable(r, i) && !hidden(p->o, table, root, column)) {
            p->as_text = true;
            if (named++ < NAMED_MAX)
                report_text(p, table, column, result_text(r, i, 4));
        }
    }
    return 0;
}
