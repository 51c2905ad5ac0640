#include "source/snapshot/chunk_shape.h"

static const struct column *column_named(const struct relation *r, const char *name)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (strcmp(r->columns[i].name, name) == 0)
            return &r->columns[i];
    }
    return NULL;
}

static bool is_hidden(const struct relation *r, const struct shape_column *c)
{
    for (size_t i = 0; i < r->hidden_count; i++) {
        const struct hidden_column *h = &r->hidden[i];
        if (h->attnum && c->attnum ? h->attnum == c->attnum : strcmp(h->name, c->name) == 0)
            return true;
    }
    return false;
}

// Under FULL the primary key is the key, if all of it is published.
static bool full_has_key(const struct shape_column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (columns[i].primary && !columns[i].published)
            return false;
    }
    return true;
}

bool chunk_shape_fits(const struct relation *r, char replica_identity,
                      const struct shape_column *columns, size_t n)
{
    size_t found = 0;
    bool full_key = replica_identity == 'f' && full_has_key(columns, n);
    if (r->replica_identity != replica_identity)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct shape_column *c = &columns[i];
        const struct column *own = column_named(r, c->name);
        if (!c->published)
            continue;
        if (!own && is_hidden(r, c))
            continue;
        bool key = replica_identity == 'd'   ? c->primary
                   : replica_identity == 'i' ? c->identity
                                             : full_key && c->primary;
        if (!own || own->type_oid != c->type_oid || own->typmod != c->typmod || own->key != key)
            return false;
        found++;
    }
    return found == r->column_count;
}
