// The decoder and what stands behind it: messages in a row (each two bytes of length and its
// bytes), so that the relation map is filled, replaced and used.
#include "proto/row.h"
#include "source/relations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int keep(void *arg, struct relation *r, struct err *e)
{
    (void)e;
    catalog_add(arg, r);
    return 0;
}

static void encode(const struct table *t, const struct tuple *tuple, const struct tuple *old,
                   enum row_part part)
{
    struct row_out out = {0};
    struct err e;
    if (tuple->values && row_encode(&out, t->map, tuple, old, part, &e) == 0)
        CHECK(part != ROW_KEY || out.unchanged.n == 0);
    row_out_fini(&out);
}

static void on_row(struct relations *rs, const struct pgoutput_row *row)
{
    struct table *t;
    struct err e;
    if (relations_table(rs, row->relid, &t, &e) != 0)
        return;
    const struct tuple *old = row->old_kind == PGOUTPUT_OLD_FULL ? &row->old : NULL;
    encode(t, row->old_kind ? &row->old : &row->new, NULL, ROW_KEY);
    encode(t, &row->old, NULL, ROW_BEFORE);
    encode(t, &row->new, old, ROW_AFTER);
}

static void on_message(struct relations *rs, const struct pgoutput_message *m, struct slice bytes)
{
    switch (m->kind) {
    case PGOUTPUT_RELATION:
        if (m->subxid == 0) // a kept message is decoded outside of any segment
            relations_see(rs, &m->relation, bytes, 0);
        break;
    case PGOUTPUT_TYPE:
        relations_see_type(rs, m->type.oid, m->type.schema, m->type.name, 0);
        break;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        on_row(rs, &m->row);
        break;
    case PGOUTPUT_TRUNCATE:
        for (uint32_t i = 0; i < m->truncate.n; i++)
            (void)relations_name(rs, pgoutput_truncate_relid(&m->truncate, i));
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pgoutput decoder;
    decoder.in_segment = false;
    struct source_options source = {0};
    struct catalog *catalog = catalog_new();
    struct relations *rs = relations_new(&(struct relations_options){
        .source = &source, .catalog = catalog, .add = keep, .arg = catalog});
    relations_set_binary(rs, 180000); // text is taken all the same
    while (size >= 2) {
        size_t n = size_min((size_t)data[0] << 8 | data[1], size - 2);
        // In memory of its own size, so that reading on is noticed.
        AUTO_FREE uint8_t *copy = xmalloc(n ? n : 1);
        memcpy(copy, data + 2, n);
        struct slice bytes = {copy, n};
        struct pgoutput_message m;
        struct err e;
        bool segment = decoder.in_segment;
        if (pgoutput_decode(&decoder, bytes, &m, &e) == 0 && !segment)
            on_message(rs, &m, bytes);
        data += 2 + n;
        size -= 2 + n;
    }
    relations_free(rs);
    catalog_free(catalog);
    return 0;
}
