// A relation version and a change of its table as a file or a peer might give them. Input: the
// relation's length (two bytes, little-endian), the Relation message, the Change message.
#include "proto/json.h"
#include "proto/json_value.h"
#include "proto/registry.h"
#include "proto/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What comes out is one JSON value, already compact.
static void check_json(const struct buf *out)
{
    AUTO_BUF struct buf copy = {0};
    CHECK(json_document(&copy, buf_slice(out)));
    CHECK(copy.n == out->n && memcmp(copy.p, out->p, out->n) == 0);
}

static void render_change(const struct catalog *catalog, struct slice body)
{
    struct change c;
    if (change_decode(body, &c) != 0)
        return;
    struct json_context x = {.catalog = catalog, .stream_id = 1, .timeline = 1, .begin.lsn = 1};
    struct batch b = {.data = (uint8_t *)body.p, .n = body.n};
    struct entry e = {.end = (uint32_t)body.n, .kind = ENTRY_CHANGE};
    AUTO_BUF struct buf out = {0};
    struct err err;
    if (json_change(&out, &x, &b, &e, &err) == 0)
        check_json(&out);
    else
        CHECK(out.n == 0);
}

static void render_relation(const struct relation *r)
{
    AUTO_BUF struct buf out = {0}, schema = {0};
    const struct relation *all[] = {r};
    json_relation(&out, r);
    check_json(&out);
    schema_render(&schema, all, 1, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct relation *r, *again;
    struct err e;
    size_t n = size < 2 ? 0 : data[0] | (size_t)data[1] << 8;
    if (size < 2 || n > size - 2)
        return 0;
    if (relation_decode((struct slice){data + 2, n}, &r, &e) != 0)
        return 0;
    // What was taken is written the same again.
    CHECK(relation_decode(r->stored, &again, &e) == 0 && relation_same(r, again));
    CHECK(r->encoded.n == again->encoded.n && r->stored.n == again->stored.n);
    relation_free(again);
    render_relation(r);
    r->id = 1;
    relation_seal(r);
    struct catalog *catalog = catalog_new();
    catalog_add(catalog, r);
    render_change(catalog, (struct slice){data + 2 + n, size - 2 - n});
    catalog_free(catalog);
    return 0;
}
