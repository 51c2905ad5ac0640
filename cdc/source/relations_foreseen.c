// What a table will be when a transaction that is still open is committed. Rows may be encoded
// before their commit for such a table: nearly always it comes true, and whether it did is seen at
// the commit, when the same Relation message goes its usual way in the order of commits. A row
// depends on that message, on the relation version that it became, and on the form of values of the
// connection: where the first two are the same, so are its bytes, whatever else was said meanwhile.
//
// Nothing is asked and nothing is made here: what aborts leaves no version behind, and no answer of
// now is taken for one of then.
#include "source/relations_inside.h"

void relations_forget_foreseen(struct relations *rs)
{
    for (size_t i = 0; i < rs->foreseen_count; i++) {
        described_free_map(&rs->foreseen[i]->table);
        buf_free(&rs->foreseen[i]->wire);
        free(rs->foreseen[i]);
    }
    rs->foreseen_count = 0;
}

static bool same(const struct foreseen *f, const struct relation *relation, struct slice wire)
{
    return f->table.relation == relation && f->wire.n == wire.n &&
           memcmp(f->wire.p, wire.p, wire.n) == 0;
}

// The version that the message is without a look-up, and its n columns; NULL: none that exists.
static const struct relation *version_of(struct relations *rs, const struct pgoutput_relation *r,
                                         const char *table, size_t *ret_n)
{
    const struct source_options *o = rs->o.source;
    const struct hiding h = relations_hiding(rs, table, r->relid);
    const struct relation *latest = catalog_latest(rs->o.catalog, table);
    const struct table_info none = {0};
    struct err e;
    bool ask;
    if (!latest || r->replica_identity == 'f' || !table_names_want(rs->names, r->relid, table) ||
        (!h.root && (o->exclude_column_count || o->mask_column_count)))
        return NULL;
    size_t n = relations_take_columns(rs, r, &h, &none, &ask);
    if (ask || !relations_fill_types(rs, n, latest) ||
        relations_check_keys(rs, r, table, &none, n, &e) != 0)
        return NULL;
    struct seen_relation seen = {.oid = r->relid, .n = (uint16_t)n, .columns = rs->columns};
    if (!registry_knows(latest, &seen))
        return NULL;
    struct relation *made = relations_number(rs, r, latest, n);
    bool known = made && relation_same(latest, made);
    if (made)
        relation_free(made);
    *ret_n = n;
    return known ? latest : NULL;
}

const struct table *relations_foresee(struct relations *rs, struct slice message)
{
    struct pgoutput_message m;
    struct err e;
    size_t n;
    if (pgoutput_decode(&rs->wire, message, &m, &e) != 0 || m.kind != PGOUTPUT_RELATION)
        return NULL;
    AUTO_BUF struct buf name = {0};
    table_quote(&name, m.relation.schema, m.relation.name);
    const struct relation *relation = version_of(rs, &m.relation, buf_cstr(&name), &n);
    if (!relation)
        return NULL;
    for (size_t i = 0; i < rs->foreseen_count; i++) {
        if (same(rs->foreseen[i], relation, message))
            return &rs->foreseen[i]->table;
    }
    if (rs->foreseen_count == FORESEEN_MAX)
        return NULL;
    struct foreseen *f = xcalloc(1, sizeof *f);
    f->table = (struct table){.relid = m.relation.relid, .kept = true, .relation = relation};
    relations_fill_table(rs, &f->table, &m.relation, n);
    buf_put(&f->wire, message.p, message.n);
    rs->foreseen[rs->foreseen_count++] = f;
    f->table.foreseen = (uint32_t)rs->foreseen_count;
    return &f->table;
}

bool relations_as_foreseen(struct relations *rs, struct table *t, uint32_t number)
{
    CHECK(number > 0 && number <= rs->foreseen_count);
    if (likely(t->kept && t->foreseen == number))
        return true;
    const struct described *d = relation_map_find(&rs->map, t->relid);
    CHECK(d && &d->table == t && d->resolved);
    if (!t->kept || !same(rs->foreseen[number - 1], t->relation, buf_slice(&d->wire)))
        return false;
    t->foreseen = number;
    return true;
}
