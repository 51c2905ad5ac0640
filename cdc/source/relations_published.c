// The published tables, from the catalog: what is known of them before the stream speaks, and what
// a table is now.
#include "source/relations_inside.h"

// As a Relation message would describe it.
static struct pgoutput_relation described(struct relations *rs, const struct table_info *info)
{
    struct pgoutput_relation r = {
        .relid = info->oid,
        .schema = info->schema,
        .name = info->name,
        .replica_identity = info->replica_identity,
        .n = (uint16_t)size_min(info->n, COLUMNS_MAX),
        .columns = rs->wire.columns,
    };
    for (uint16_t i = 0; i < r.n; i++) {
        const struct table_column *c = &info->columns[i];
        rs->wire.columns[i] = (struct pgoutput_column){
            .name = c->name,
            .type_oid = c->type_oid,
            .typmod = c->typmod,
            .identity = info->replica_identity == 'f' ||
                        (info->replica_identity == 'd' && c->primary) ||
                        (info->replica_identity == 'i' && c->identity),
        };
    }
    return r;
}

// The shape is the stream's matter; but what a new glob takes must be known before a column is
// renamed.
static int remember_kept(struct relations *rs, const struct hiding *h, struct err *e)
{
    struct relation *r;
    if (relation_decode(h->latest->stored, &r, e) != 0)
        return -1;
    r->id = catalog_next_id(rs->o.catalog);
    free(r->root);
    r->root = h->root ? xstrdup(h->root) : NULL;
    relation_hide(r, rs->hidden, rs->hidden_count);
    relation_seal(r);
    if (!relation_same(r, h->latest))
        return relations_add(rs, r, e);
    relation_free(r);
    return 0;
}

static int seed(void *arg, struct table_info *info, struct err *e)
{
    struct relations *rs = arg;
    table_names_take_root(rs->names, info->oid, info->root);
    AUTO_BUF struct buf name = {0};
    table_quote(&name, info->schema, info->name);
    const char *table = buf_cstr(&name);
    if (!table_names_want(rs->names, info->oid, table) &&
        !source_wants(rs->o.source, table, info->root))
        return 0;
    if (rs->o.on_table)
        rs->o.on_table(rs->o.on_table_arg, table, info->root);
    size_t n;
    struct pgoutput_relation r = described(rs, info);
    struct hiding h = relations_hiding(rs, table, info->oid);
    if (relations_describe(rs, &r, &h, info, &n, e) != 0)
        return -1;
    if (h.latest && strcmp(h.latest->table, table) == 0)
        return remember_kept(rs, &h, e);
    if (catalog_latest(rs->o.catalog, table)) // the stream will say what there is to say
        return 0;
    const struct relation *made;
    return relations_make_version(rs, &r, table, n, &made, e);
}

int relations_seed(struct relations *rs, struct err *e)
{
    CHECK(rs->o.lookup);
    return lookup_published(rs->o.lookup, NULL, seed, rs, e);
}

int relations_renew(struct relations *rs, const struct table_info *info,
                    const struct relation **ret_r, struct err *e)
{
    AUTO_BUF struct buf name = {0};
    table_quote(&name, info->schema, info->name);
    table_names_take_root(rs->names, info->oid, info->root);
    struct table_info now = *info; // nothing of it is changed but where it was not filled
    struct pgoutput_relation r = described(rs, info);
    struct hiding h = relations_hiding(rs, buf_cstr(&name), info->oid);
    size_t n;
    if (relations_describe(rs, &r, &h, &now, &n, e) != 0)
        return -1;
    return relations_make_version(rs, &r, h.table, n, ret_r, e);
}
