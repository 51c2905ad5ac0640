#include "proto/registry.h"

#include "proto/tuple.h"

// The column of this name, looked for first at the place where it most likely stands.
static const struct column *find_name(const struct relation *r, const char *name, size_t hint)
{
    if (hint < r->column_count && strcmp(r->columns[hint].name, name) == 0)
        return &r->columns[hint];
    for (size_t i = 0; i < r->column_count; i++) {
        if (strcmp(r->columns[i].name, name) == 0)
            return &r->columns[i];
    }
    return NULL;
}

// What stands in the row: of a masked column its mask, a text.
static enum kind seen_kind(const struct seen_column *c)
{
    return c->masked ? KIND_STRING : c->kind;
}

bool registry_knows(const struct relation *latest, const struct seen_relation *seen)
{
    if (!latest || latest->oid != seen->oid)
        return false;
    for (size_t i = 0; i < seen->n; i++) {
        const struct column *old = find_name(latest, seen->columns[i].name, i);
        if (!old || !kind_compatible(old->kind, seen_kind(&seen->columns[i])))
            return false;
    }
    return true;
}

struct numbering {
    const struct relation *latest; // or NULL
    const struct seen_relation *seen;
    struct relation *r;                    // being made
    const struct column *old[COLUMNS_MAX]; // by place in `seen`: whose number it keeps, or NULL
    bool kept[COLUMNS_MAX];                // by place in `latest`
};

static void keep(struct numbering *n, size_t i, const struct column *old)
{
    n->old[i] = old;
    n->kept[old - n->latest->columns] = true;
    n->r->columns[i].number = old->number;
}

static void keep_by_name(struct numbering *n)
{
    for (size_t i = 0; i < n->seen->n; i++) {
        const struct seen_column *c = &n->seen->columns[i];
        const struct column *old = find_name(n->latest, c->name, i);
        if (old && !n->kept[old - n->latest->columns] && kind_compatible(old->kind, seen_kind(c)))
            keep(n, i, old);
    }
}

static bool name_seen(const struct seen_relation *seen, const char *name)
{
    for (size_t i = 0; i < seen->n; i++) {
        if (strcmp(seen->columns[i].name, name) == 0)
            return true;
    }
    return false;
}

// The attnum of a seen column; 0 when it is not known, cannot be, or another column claims it too.
static int16_t sure_attnum(const struct seen_relation *seen, size_t i)
{
    int16_t attnum = seen->columns[i].attnum;
    if (attnum < 1 || attnum > COLUMNS_MAX)
        return 0;
    for (size_t j = 0; j < seen->n; j++) {
        if (j != i && seen->columns[j].attnum == attnum)
            return 0;
    }
    return attnum;
}

// A new name with the attnum of a column that is gone: renamed. Attnums of two tables of one name
// (dropped and created again: another oid) have nothing to do with each other.
static void keep_renamed(struct numbering *n)
{
    if (n->latest->oid != n->seen->oid)
        return;
    for (size_t i = 0; i < n->seen->n; i++) {
        const struct seen_column *c = &n->seen->columns[i];
        int16_t attnum =
            n->old[i] || find_name(n->latest, c->name, i) ? 0 : sure_attnum(n->seen, i);
        for (size_t k = 0; attnum && k < n->latest->column_count; k++) {
            const struct column *old = &n->latest->columns[k];
            if (old->attnum == attnum && !n->kept[k] && !name_seen(n->seen, old->name) &&
                kind_compatible(old->kind, seen_kind(c))) {
                keep(n, i, old);
                break;
            }
        }
    }
}

static bool used_in(const struct relation *r, uint32_t number)
{
    for (size_t i = 0; i < r->reserved_count; i++) {
        if (r->reserved[i].number == number)
            return true;
    }
    return relation_column(r, number) != NULL;
}

// The first of our own numbers that nothing in this table ever had.
static uint32_t own_number(const struct numbering *n)
{
    uint32_t last = NUMBER_OWN_FIRST - 1;
    for (size_t i = 0; n->latest && i < n->latest->column_count; i++)
        last = (uint32_t)u64_max(last, n->latest->columns[i].number);
    for (size_t i = 0; n->latest && i < n->latest->reserved_count; i++)
        last = (uint32_t)u64_max(last, n->latest->reserved[i].number);
    for (size_t i = 0; i < n->r->column_count; i++)
        last = (uint32_t)u64_max(last, n->r->columns[i].number);
    if (last + 1 == 19000)
        return 20000;
    return last + 1;
}

// False when there is no number left.
static bool give_new(struct numbering *n)
{
    for (size_t i = 0; i < n->seen->n; i++) {
        if (n->old[i])
            continue;
        int16_t attnum = sure_attnum(n->seen, i);
        bool taken = attnum == 0 || (n->latest && used_in(n->latest, (uint32_t)attnum));
        uint32_t number = taken ? own_number(n) : (uint32_t)attnum;
        if (!number_usable(number))
            return false;
        n->r->columns[i].number = number;
    }
    return true;
}

// What was reserved stays so; what nobody kept is reserved from now on. False when it is too much.
static bool reserve(struct numbering *n)
{
    const struct relation *latest = n->latest;
    size_t count = latest->reserved_count;
    for (size_t k = 0; k < latest->column_count; k++)
        count += !n->kept[k];
    if (count > RESERVED_MAX)
        return false;
    n->r->reserved = xcalloc(count + 1, sizeof *n->r->reserved);
    for (size_t i = 0; i < latest->reserved_count; i++) {
        const struct reserved_number *v = &latest->reserved[i];
        n->r->reserved[n->r->reserved_count++] =
            (struct reserved_number){v->number, v->kind, xstrdup(v->name)};
    }
    for (size_t k = 0; k < latest->column_count; k++) {
        const struct column *old = &latest->columns[k];
        if (!n->kept[k])
            n->r->reserved[n->r->reserved_count++] =
                (struct reserved_number){old->number, old->kind, xstrdup(old->name)};
    }
    return true;
}

// All but the numbers.
static struct relation *relation_of(const struct seen_relation *seen, uint32_t id)
{
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = id;
    r->oid = seen->oid;
    r->schema = xstrdup(seen->schema);
    r->name = xstrdup(seen->name);
    r->root = seen->root ? xstrdup(seen->root) : NULL;
    relation_hide(r, seen->hidden, seen->hidden_count);
    r->replica_identity = seen->replica_identity;
    r->column_count = seen->n;
    r->columns = xcalloc(seen->n + 1u, sizeof *r->columns);
    for (size_t i = 0; i < seen->n; i++) {
        const struct seen_column *c = &seen->columns[i];
        r->columns[i] = (struct column){
            .name = xstrdup(c->name),
            .type = xstrdup(c->type),
            .base_type = xstrdup(c->base_type),
            .type_oid = c->type_oid,
            .typmod = c->typmod,
            .attnum = sure_attnum(seen, i),
            .kind = seen_kind(c),
            .json_class = c->masked ? JSON_CLASS_TEXT : c->json_class,
            .key = c->key,
            .masked = c->masked,
        };
    }
    return r;
}

// A look-up that gave no answer does not make us forget what an earlier one said of this table.
static void remember_attnums(struct numbering *n)
{
    if (n->latest->oid != n->seen->oid)
        return;
    for (size_t i = 0; i < n->seen->n; i++) {
        if (n->old[i] && n->seen->columns[i].attnum == 0)
            n->r->columns[i].attnum = n->old[i]->attnum;
    }
}

struct relation *registry_number(const struct relation *latest, const struct seen_relation *seen,
                                 uint32_t id)
{
    CHECK(seen->n <= COLUMNS_MAX && (!latest || latest->column_count <= COLUMNS_MAX));
    struct numbering n = {.latest = latest, .seen = seen, .r = relation_of(seen, id)};
    if (latest) {
        keep_by_name(&n);
        keep_renamed(&n);
        remember_attnums(&n);
    }
    if (!give_new(&n) || (latest && !reserve(&n))) {
        relation_free(n.r);
        return NULL;
    }
    relation_seal(n.r);
    return n.r;
}
