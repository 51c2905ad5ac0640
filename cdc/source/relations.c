#include "source/relations.h"

#include "base/log.h"
#include "source/hiding.h"
#include "source/publication.h"
#include "source/relation_map.h"
#include "source/table_names.h"

#include <poll.h>

#define INVISIBLE_MS_MAX 4 // pauses of 1, 2 and 4 ms for a transaction to become visible

struct relations {
    struct relations_options o;
    struct binary binary; // version 0: values come as text
    bool binary_given_up;
    struct relation_map map;
    uint32_t xid;                            // of the transaction at hand
    struct table_names *names;               // kept over connections
    struct pgoutput wire;                    // scratch for decoding a kept message again
    struct seen_column columns[COLUMNS_MAX]; // scratch
    char *type_texts[COLUMNS_MAX];
    const struct pgoutput_column *source[COLUMNS_MAX]; // of columns[i]
    enum hide hide[COLUMNS_MAX];                       // by place in the message
    struct hidden_column hidden[HIDDEN_MAX];
    size_t hidden_count;
};

// ---- what was said ----

static const struct type *find_type(void *arg, uint32_t oid)
{
    const struct relations *rs = arg;
    return rs->o.lookup ? lookup_type(rs->o.lookup, oid) : type_builtin(oid);
}

void relations_clear(struct relations *rs)
{
    relation_map_clear(&rs->map);
    if (rs->o.lookup)
        lookup_forget_types(rs->o.lookup);
}

struct relations *relations_new(const struct relations_options *o)
{
    struct relations *rs = xcalloc(1, sizeof *rs);
    rs->o = *o;
    rs->names = table_names_new(o->source, o->catalog);
    return rs;
}

void relations_free(struct relations *rs)
{
    if (!rs)
        return;
    relations_clear(rs);
    table_names_free(rs->names);
    for (size_t i = 0; i < COLUMNS_MAX; i++)
        free(rs->type_texts[i]);
    free(rs);
}

void relations_set_binary(struct relations *rs, int version)
{
    rs->binary = (struct binary){.find = find_type, .arg = rs, .version = version};
}

void relations_give_up_binary(struct relations *rs)
{
    rs->binary_given_up = true;
}

bool relations_binary_given_up(const struct relations *rs)
{
    return rs->binary_given_up;
}

const char *relations_name(struct relations *rs, uint32_t relid)
{
    const struct described *t = relation_map_find(&rs->map, relid);
    return t ? t->name : NULL;
}

void relations_see_type(struct relations *rs, uint32_t oid, const char *schema, const char *name,
                        uint32_t arrival)
{
    relation_map_see_type(&rs->map, oid, schema, name, arrival);
}

void relations_see(struct relations *rs, const struct pgoutput_relation *r, struct slice bytes,
                   uint32_t arrival)
{
    relation_map_see(&rs->map, r, bytes, arrival);
}

void relations_begin(struct relations *rs, uint32_t xid)
{
    rs->xid = xid;
}

void relations_replay(struct relations *rs)
{
    CHECK(!rs->map.streamed);
    rs->map.streamed = true;
}

void relations_replayed(struct relations *rs)
{
    relation_map_merge(&rs->map);
}

// ---- columns ----

static int refuse_key(const char *table, const char *column, const char *what, struct err *e)
{
    return err_set(e, ERR_USAGE,
                   "column %s of table %s is part of the key and cannot be %s; remedy: name other "
                   "columns, or give the table another replica identity",
                   column, table, what);
}

static const struct column *column_named(const struct relation *r, const char *name)
{
    for (size_t i = 0; r && i < r->column_count; i++) {
        if (strcmp(r->columns[i].name, name) == 0)
            return &r->columns[i];
    }
    return NULL;
}

// The name that the stream gave a type: that of then, it may have been renamed since. NULL: none;
// of a domain the stream says the base type's, and of an array none that SQL knows.
static const char *name_of_then(struct relations *rs, const struct type *type)
{
    if (type->form == FORM_ARRAY || strcmp(type->name, type->base_name) != 0)
        return NULL;
    return relation_map_type(&rs->map, type->oid);
}

// Fills type, base type and kind; false when the type is not known.
static bool fill_type(struct relations *rs, size_t i, const struct relation *latest)
{
    struct seen_column *c = &rs->columns[i];
    const struct type *type = find_type(rs, c->type_oid);
    AUTO_BUF struct buf text = {0};
    bool known = true;
    if (type) {
        const char *then = name_of_then(rs, type);
        type_format(&text, then ? then : type->name, c->type_oid, c->typmod);
        c->base_type = then ? then : type->base_name;
        c->kind = type->kind;
        c->json_class = type->json_class;
    } else {
        const struct column *old = column_named(latest, c->name);
        const char *name = relation_map_type(&rs->map, c->type_oid);
        known = old && old->type_oid == c->type_oid && !old->masked;
        buf_puts(&text, known ? old->type : name ? name : "unknown");
        c->kind = known ? old->kind : KIND_STRING;
        c->json_class = known ? old->json_class : JSON_CLASS_TEXT;
    }
    free(rs->type_texts[i]);
    rs->type_texts[i] = xstrdup(buf_cstr(&text));
    c->type = rs->type_texts[i];
    if (!type) {
        const struct column *old = known ? column_named(latest, c->name) : NULL;
        c->base_type = old ? old->base_type : c->type;
    }
    if (c->masked) {
        c->kind = KIND_STRING;
        c->json_class = JSON_CLASS_TEXT;
    }
    // What was known of it before says nothing of its binary form.
    return type || (known && !rs->binary.version);
}

static bool fill_types(struct relations *rs, size_t n, const struct relation *latest)
{
    bool all = true;
    for (size_t i = 0; i < n; i++)
        all &= fill_type(rs, i, latest);
    return all;
}

static int look_up_types(struct relations *rs, size_t n, struct err *e)
{
    AUTO_FREE uint32_t *oids = xmalloc((n + 1) * sizeof *oids);
    for (size_t i = 0; i < n; i++)
        oids[i] = rs->columns[i].type_oid;
    if (lookup_types(rs->o.lookup, oids, n, e) == 0)
        return 0;
    e->class = ERR_RETRY;
    return err_wrap(e, "no answer about types: ");
}

static const struct table_column *info_column(const struct table_info *info, const char *name)
{
    for (size_t i = 0; i < info->n; i++) {
        if (strcmp(info->columns[i].name, name) == 0)
            return &info->columns[i];
    }
    return NULL;
}

// What the look-up knows of columns that are as the stream says: attnum.
static void fill_attnums(struct relations *rs, size_t n, const struct table_info *info,
                         const struct relation *latest)
{
    for (size_t i = 0; i < n; i++) {
        struct seen_column *c = &rs->columns[i];
        const struct table_column *now = info_column(info, c->name);
        const struct column *old = column_named(latest, c->name);
        if (now && now->type_oid == c->type_oid)
            c->attnum = now->attnum;
        else if (info->oid == 0 && old)
            c->attnum = old->attnum;
    }
}

// The key under REPLICA IDENTITY FULL: the primary key, if all of it is published.
static void fill_full_key(struct relations *rs, size_t n, const struct table_info *info,
                          const struct relation *latest)
{
    size_t want = 0, have = 0;
    for (size_t i = 0; i < info->n; i++)
        want += info->columns[i].primary;
    for (size_t i = 0; info->oid == 0 && latest && i < latest->column_count; i++)
        want += latest->columns[i].key;
    for (size_t i = 0; i < n; i++) {
        const struct table_column *now = info_column(info, rs->columns[i].name);
        const struct column *old =
            info->oid == 0 ? column_named(latest, rs->columns[i].name) : NULL;
        rs->columns[i].key = (now && now->primary) || (old && old->key);
        have += rs->columns[i].key;
    }
    for (size_t i = 0; have != want && i < n; i++)
        rs->columns[i].key = false;
}

// The columns that are kept, from those of the stream; key as flagged there. *ret_ask: a look-up
// would tell more of what is hidden.
static size_t take_columns(struct relations *rs, const struct pgoutput_relation *r,
                           const struct hiding *h, const struct table_info *info, bool *ret_ask)
{
    for (uint16_t i = 0; i < r->n; i++) {
        const struct pgoutput_column *c = &r->columns[i];
        rs->columns[i] = (struct seen_column){
            .name = c->name,
            .type_oid = c->type_oid,
            .typmod = c->typmod,
            .key = c->identity && r->replica_identity != 'f',
        };
    }
    fill_attnums(rs, r->n, info, h->latest);
    *ret_ask = hiding_decide(h, rs->columns, r->n, rs->hide, rs->hidden, &rs->hidden_count);
    size_t n = 0;
    for (uint16_t i = 0; i < r->n; i++) {
        if (rs->hide[i] == HIDE_EXCLUDE)
            continue;
        rs->source[n] = &r->columns[i];
        rs->columns[n] = rs->columns[i];
        rs->columns[n++].masked = rs->hide[i] == HIDE_MASK;
    }
    return n;
}

static int check_keys(struct relations *rs, const struct pgoutput_relation *r, const char *table,
                      const struct table_info *info, size_t n, struct err *e)
{
    for (uint16_t i = 0; i < r->n; i++) {
        const struct pgoutput_column *c = &r->columns[i];
        const struct table_column *now = info_column(info, c->name);
        bool key = r->replica_identity == 'f' ? now && now->primary : c->identity;
        if (key && rs->hide[i] == HIDE_EXCLUDE)
            return refuse_key(table, c->name, "excluded", e);
    }
    for (size_t i = 0; i < n; i++) {
        if (rs->columns[i].key && rs->columns[i].masked)
            return refuse_key(table, rs->columns[i].name, "masked", e);
    }
    return 0;
}

// ---- relation versions ----

// Takes a version over.
static int add(struct relations *rs, struct relation *r, struct err *e)
{
    if (rs->o.add(rs->o.arg, r, e) != 0)
        return -1;
    CHECK(catalog_get(rs->o.catalog, r->id) == r);
    table_names_take(rs->names, r);
    return 0;
}

// The version that the n columns at hand are: the latest one if it is the same, else a new one.
static int make_version(struct relations *rs, const struct pgoutput_relation *r, const char *table,
                        size_t n, const struct relation **ret_r, struct err *e)
{
    const struct relation *latest = catalog_latest(rs->o.catalog, table);
    struct seen_relation seen = {
        .oid = r->relid,
        .schema = r->schema,
        .name = r->name,
        .root = table_names_root(rs->names, r->relid),
        .replica_identity = r->replica_identity,
        .n = (uint16_t)n,
        .columns = rs->columns,
        .hidden = rs->hidden,
        .hidden_count = rs->hidden_count,
    };
    uint32_t id = catalog_next_id(rs->o.catalog);
    struct relation *made = registry_number(latest, &seen, id);
    if (!made)
        return err_set(e, ERR_DATA,
                       "table %s has used up its field numbers; remedy: start with a new journal "
                       "directory",
                       table);
    if (latest && relation_same(latest, made)) {
        relation_free(made);
        *ret_r = latest;
        return 0;
    }
    if (add(rs, made, e) != 0)
        return -1;
    *ret_r = made;
    log_debug("new relation version", "table=%s version=%u columns=%zu", table, id, n);
    return 0;
}

// The catalog of now knows all columns of the message.
static bool agrees(const struct table_info *info, const struct pgoutput_relation *r)
{
    for (uint16_t i = 0; info->oid && i < r->n; i++) {
        const struct table_column *now = info_column(info, r->columns[i].name);
        if (!now || now->type_oid != r->columns[i].type_oid)
            return false;
    }
    return info->oid != 0;
}

// Asks for what the stream alone does not say. Without an answer nothing is guessed: the session
// ends, and the next one reads the transaction again. One that does not agree with the stream is
// asked for again: a transaction is sent before others can see what it did.
static int look_up(struct relations *rs, const struct pgoutput_relation *r, const char *table,
                   struct table_info *ret_info, struct err *e)
{
    for (int ms = 1;; ms *= 2) {
        if (lookup_table(rs->o.lookup, r->relid, ret_info, e) != 0) {
            e->class = ERR_RETRY;
            return err_wrap(e, "no answer about table %s: ", table);
        }
        if (agrees(ret_info, r) || ms > INVISIBLE_MS_MAX)
            break;
        table_info_fini(ret_info);
        *ret_info = (struct table_info){0};
        poll(NULL, 0, ms);
    }
    table_names_take_root(rs->names, r->relid, ret_info->root);
    return 0;
}

// A table that is published by itself and no partition now, but may have been one of a table that
// is wanted when the transaction at hand changed it: made and detached since.
static int was_partition(struct relations *rs, const struct described *t, bool *ret_was,
                         struct err *e)
{
    char **names;
    size_t n;
    if (lookup_former_roots(rs->o.lookup, t->table.relid, rs->xid, &names, &n, e) != 0) {
        e->class = ERR_RETRY;
        return err_wrap(e, "no answer about table %s: ", t->name);
    }
    *ret_was = false;
    for (size_t i = 0; i < n; i++) {
        *ret_was |= source_wants(rs->o.source, names[i], NULL);
        free(names[i]);
    }
    free(names);
    if (*ret_was)
        log_warn("a table that was never seen before may have been a partition of a table that is "
                 "wanted when it was changed, and is none now: its changes of then are kept",
                 "table=%s", log_quote(t->name));
    return 0;
}

// Whether the table globs want it, by one of its names; *ret_info is filled if asked for.
static int find_wanted(struct relations *rs, struct described *t, const struct pgoutput_relation *r,
                       struct table_info *ret_info, struct err *e)
{
    const struct source_options *o = rs->o.source;
    bool column_globs = o->exclude_column_count || o->mask_column_count;
    const char *root = table_names_root(rs->names, t->table.relid);
    t->table.kept = table_names_want(rs->names, t->table.relid, t->name);
    t->settled = t->table.kept && (root || !column_globs);
    t->unknown = false;
    if (t->settled || !rs->o.lookup)
        return 0;
    if (look_up(rs, r, t->name, ret_info, e) != 0)
        return -1;
    t->unknown = !root && !ret_info->root && !ret_info->published;
    if (!t->table.kept && t->unknown)
        log_warn("a table is gone, or published no more, and was never seen before: whether it "
                 "was a partition of a table that is wanted is not known, so its changes are kept",
                 "table=%s", log_quote(t->name));
    t->table.kept |= t->unknown || source_wants(o, t->name, ret_info->root);
    t->settled = t->table.kept && (t->unknown || ret_info->root || !column_globs);
    if (t->table.kept || root || ret_info->root)
        return 0;
    // Not settled: when it is described again, it was detached.
    if (was_partition(rs, t, &t->unknown, e) != 0)
        return -1;
    t->table.kept = t->unknown;
    return 0;
}

static void fill_map(struct relations *rs, struct described *t, const struct pgoutput_relation *r,
                     size_t n)
{
    described_free_map(&t->table);
    t->table.map = xcalloc(1, sizeof *t->table.map);
    t->table.map->n = r->n;
    t->table.map->binary = rs->binary.version ? &rs->binary : NULL;
    t->table.has_key = false;
    for (size_t i = 0; i < n; i++) { // registry_number keeps the order of the columns
        const struct column *c = &t->table.relation->columns[i];
        t->table.map->columns[rs->source[i] - r->columns] = c;
        t->table.has_key |= c->key;
    }
    row_map_init(t->table.map);
}

// The columns of a message, with what a look-up adds; *info is filled if it was not and had to be.
static int describe(struct relations *rs, const struct pgoutput_relation *r, const struct hiding *h,
                    struct table_info *info, size_t *ret_n, struct err *e)
{
    bool ask;
    const struct relation *latest = catalog_latest(rs->o.catalog, h->table);
    size_t n = take_columns(rs, r, h, info, &ask);
    bool known = fill_types(rs, n, latest);
    struct seen_relation seen = {.oid = r->relid, .n = (uint16_t)n, .columns = rs->columns};
    ask |= !known || r->replica_identity == 'f' || !registry_knows(latest, &seen);
    if (rs->o.lookup && ask && info->oid == 0) {
        if (look_up(rs, r, h->table, info, e) != 0)
            return -1;
        n = take_columns(rs, r, h, info, &ask);
        known = fill_types(rs, n, latest);
    }
    if (rs->o.lookup && !known) {
        if (look_up_types(rs, n, e) != 0)
            return -1;
        fill_types(rs, n, latest);
    }
    if (r->replica_identity == 'f')
        fill_full_key(rs, n, info, latest);
    *ret_n = n;
    return check_keys(rs, r, h->table, info, n, e);
}

static struct hiding hiding_of(struct relations *rs, const char *table, uint32_t oid)
{
    return (struct hiding){.o = rs->o.source,
                           .table = table,
                           .root = table_names_root(rs->names, oid),
                           .first = table_names_first(rs->names, oid),
                           .latest = table_names_latest(rs->names, oid)};
}

static int make_table(struct relations *rs, struct described *t, const struct pgoutput_relation *r,
                      struct table_info *info, struct err *e)
{
    size_t n;
    struct hiding h = hiding_of(rs, t->name, r->relid);
    h.unknown = t->unknown && !h.latest;
    if (describe(rs, r, &h, info, &n, e) != 0 ||
        make_version(rs, r, t->name, n, &t->table.relation, e) != 0)
        return -1;
    fill_map(rs, t, r, n);
    t->table.announced = false;
    if (rs->o.on_table)
        rs->o.on_table(rs->o.on_table_arg, t->name, h.root);
    return 0;
}

static int resolve(struct relations *rs, struct described *t, struct err *e)
{
    struct pgoutput_message m;
    if (pgoutput_decode(&rs->wire, buf_slice(&t->wire), &m, e) != 0)
        return -1;
    struct table_info info = {0};
    int r = find_wanted(rs, t, &m.relation, &info, e);
    if (r == 0 && t->table.kept)
        r = make_table(rs, t, &m.relation, &info, e);
    table_info_fini(&info);
    t->resolved = r == 0;
    return r;
}

int relations_table(struct relations *rs, uint32_t relid, struct table **ret_t, struct err *e)
{
    struct described *t = relation_map_find(&rs->map, relid);
    if (unlikely(!t))
        return err_set(e, ERR_DATA, "a change of table OID %u, which was not described before it",
                       relid);
    if (unlikely(!t->resolved) && resolve(rs, t, e) != 0)
        return -1;
    *ret_t = &t->table;
    return 0;
}

// ---- the published tables ----

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
        return add(rs, r, e);
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
    struct hiding h = hiding_of(rs, table, info->oid);
    if (describe(rs, &r, &h, info, &n, e) != 0)
        return -1;
    if (h.latest && strcmp(h.latest->table, table) == 0)
        return remember_kept(rs, &h, e);
    if (catalog_latest(rs->o.catalog, table)) // the stream will say what there is to say
        return 0;
    const struct relation *made;
    return make_version(rs, &r, table, n, &made, e);
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
    struct hiding h = hiding_of(rs, buf_cstr(&name), info->oid);
    size_t n;
    if (describe(rs, &r, &h, &now, &n, e) != 0)
        return -1;
    return make_version(rs, &r, h.table, n, ret_r, e);
}
