#include "source/snapshot/chunk_read.h"

#include "base/clock.h"
#include "source/snapshot/chunk_key.h"
#include "source/snapshot/chunk_line.h"
#include "source/snapshot/chunk_shape.h"
#include "source/snapshot/chunk_sql.h"

#define PATIENCE_US       INT64_C(60000000)
#define KEEP_BUFFER_BYTES (1u << 20) // larger scratch buffers are given back after use

static enum chunk_read_result failed(struct chunk *c, enum chunk_status status)
{
    c->status = status;
    c->n = 0;
    buf_clear(&c->data);
    return CHUNK_READ_DONE;
}

// An error of the server, or of the connection; e is c->err.
static enum chunk_read_result refused(struct chunk_read *r, struct chunk *c)
{
    const char *state = r->c->sqlstate;
    if (c->err.class == ERR_RETRY && !c->err.text[0])
        return CHUNK_READ_STOPPED;
    if (strcmp(state, "42P01") == 0 || strcmp(state, "3F000") == 0)
        return failed(c, CHUNK_GONE);
    if (strcmp(state, "42703") == 0)
        return failed(c, CHUNK_SHAPE);
    err_wrap(&c->err, "existing rows of table %s: ", c->order.part->table);
    return failed(c, CHUNK_FAILED);
}

// ---- what the rows stand on ----

// CHUNK_OK, or why these rows are not wanted.
static enum chunk_status check_about(const PGresult *q, struct chunk *c)
{
    const struct chunk_order *o = &c->order;
    if (PQntuples(q) != 1)
        return CHUNK_GONE;
    if (result_bool(q, 0, ABOUT_STANDBY)) {
        err_set(&c->err, ERR_SOURCE,
                "existing rows of table %s: the server is a standby, which does not tell what "
                "transactions run on its primary; remedy: connect to the primary",
                o->part->table);
        return CHUNK_FAILED;
    }
    c->next_xid = strtoull(result_text(q, 0, ABOUT_NEXT_XID), NULL, 10);
    c->synchronous = result_bool(q, 0, ABOUT_SYNCHRONOUS);
    AUTO_BUF struct buf name = {0};
    table_quote(&name, result_text(q, 0, ABOUT_SCHEMA), result_text(q, 0, ABOUT_NAME));
    const char *filenode = result_text(q, 0, ABOUT_FILENODE);
    if (strcmp(buf_cstr(&name), o->part->table) != 0 || !result_bool(q, 0, ABOUT_BELOW) ||
        strcmp(result_text(q, 0, ABOUT_TERMS), o->table->terms) != 0 ||
        (o->kind == CHUNK_PAGES && strtoull(filenode, NULL, 10) != o->part->filenode))
        return CHUNK_STALE;
    if (o->relation->replica_identity != result_text(q, 0, ABOUT_IDENTITY)[0])
        return CHUNK_SHAPE;
    if (chunk_set_snapshot(c, result_text(q, 0, ABOUT_SNAPSHOT)) != 0) {
        err_set(&c->err, ERR_SOURCE, "server: not a snapshot: %.100s",
                result_text(q, 0, ABOUT_SNAPSHOT));
        return CHUNK_FAILED;
    }
    return CHUNK_OK;
}

static enum chunk_status check_shape(const PGresult *q, const struct chunk *c)
{
    size_t n = (size_t)PQntuples(q);
    AUTO_FREE struct shape_column *columns = xcalloc(n + 1, sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        int row = (int)i;
        columns[i] = (struct shape_column){
            .name = result_text(q, row, SHAPE_NAME),
            .attnum = (int16_t)strtol(result_text(q, row, SHAPE_ATTNUM), NULL, 10),
            .type_oid = result_u32(q, row, SHAPE_TYPE),
            .typmod = (int32_t)strtol(result_text(q, row, SHAPE_TYPMOD), NULL, 10),
            .published = result_bool(q, row, SHAPE_PUBLISHED),
            .primary = result_bool(q, row, SHAPE_PRIMARY),
            .identity = result_bool(q, row, SHAPE_IDENTITY),
        };
    }
    const struct relation *r = c->order.relation;
    return chunk_shape_fits(r, r->replica_identity, columns, n) ? CHUNK_OK : CHUNK_SHAPE;
}

// ---- rows ----

static void use_relation(struct chunk_read *r, const struct relation *relation)
{
    if (r->relation == relation)
        return;
    chunk_read_fini(r);
    uint16_t n = relation->column_count;
    r->map = xcalloc(1, sizeof *r->map); // one a thread: as large as it may get
    r->map->n = n;
    for (uint16_t i = 0; i < n; i++) {
        r->map->columns[i] = &relation->columns[i];
        r->has_key |= relation->columns[i].key;
    }
    row_map_init(r->map);
    r->relation = relation;
}

void chunk_read_fini(struct chunk_read *r)
{
    row_out_fini(&r->out);
    r->out = (struct row_out){0};
    if (r->map)
        row_map_fini(r->map);
    free(r->map);
    r->map = NULL;
    r->relation = NULL;
    r->has_key = false;
}

static struct chunk_row *next_row(struct chunk *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 256;
        c->rows = xrealloc(c->rows, c->cap * sizeof c->rows[0]);
    }
    return &c->rows[c->n];
}

// Encodes a part of the row behind what is there; its exact values behind it.
static int encode_part(struct chunk_read *r, struct chunk *c, const struct tuple *t,
                       enum row_part part, uint32_t *ret_n, uint32_t *ret_exact_n)
{
    struct row_out *out = &r->out;
    size_t before = out->row.n;
    buf_clear(&out->exact);
    if (row_encode(out, r->map, t, NULL, part, &c->err) != 0)
        return -1;
    *ret_n = (uint32_t)(out->row.n - before);
    *ret_exact_n = (uint32_t)out->exact.n;
    buf_put(&out->row, out->exact.p, out->exact.n);
    return 0;
}

static int add_row(struct chunk_read *r, struct chunk *c)
{
    struct tuple t = {.n = r->map->n, .values = r->values};
    struct chunk_row *row = next_row(c);
    CHECK(r->out.row.n <= UINT32_MAX);
    *row = (struct chunk_row){.at = (uint32_t)r->out.row.n};
    if (r->has_key && encode_part(r, c, &t, ROW_KEY, &row->key_n, &row->exact_key_n) != 0)
        return -1;
    if (encode_part(r, c, &t, ROW_AFTER, &row->after_n, &row->exact_n) != 0)
        return -1;
    c->n++;
    return 0;
}

// What the next chunk goes on behind, from the last row's values.
static void note_end(struct chunk_read *r, struct chunk *c)
{
    const struct chunk_part *p = c->order.part;
    const struct relation *relation = c->order.relation;
    buf_clear(&c->key_end);
    for (size_t k = 0; k < p->key_count; k++) {
        for (uint16_t i = 0; i < relation->column_count; i++) {
            if (strcmp(relation->columns[i].name, p->keys[k].column) == 0)
                chunk_key_put(&c->key_end, r->values[i].text, r->values[i].n);
        }
    }
}

static bool by_key(const struct chunk *c)
{
    return c->order.kind == CHUNK_KEYS || c->order.kind == CHUNK_LIST;
}

// It is held for a while: without the room that was left to grow.
static void fit(struct chunk *c)
{
    if (c->data.n && c->data.cap > c->data.n) {
        c->data.cap = c->data.n;
        c->data.p = xrealloc(c->data.p, c->data.cap);
    }
    if (c->n && c->cap > c->n) {
        c->cap = c->n;
        c->rows = xrealloc(c->rows, c->cap * sizeof c->rows[0]);
    }
}

static int deliver_part(struct chunk_read *r, struct chunk *c)
{
    struct chunk *part = xcalloc(1, sizeof *part);
    *part = *c;
    part->status = CHUNK_MORE;
    part->data = r->out.row;
    fit(part);
    part->xip = xcalloc(c->xip_n + 1, sizeof *c->xip);
    if (c->xip_n)
        memcpy(part->xip, c->xip, c->xip_n * sizeof *c->xip);
    r->out.row = (struct buf){0};
    c->rows = NULL;
    c->n = c->cap = 0;
    return r->deliver(r->arg, part);
}

// Takes a row of the COPY; 1: no more of them belong into this chunk.
static int take_row(struct chunk_read *r, struct chunk *c, char *line, size_t n, bool places)
{
    const char *table = c->order.part->table;
    if ((int64_t)n > r->source->row_bytes_max)
        return err_set(&c->err, ERR_DATA,
                       "a row of %zu bytes is larger than row_bytes_max (%lld); remedy: raise it, "
                       "or exclude the large column",
                       n, (long long)r->source->row_bytes_max);
    size_t columns = r->map->n;
    if (!chunk_line_split(line, n, r->values, columns + places))
        return err_set(&c->err, ERR_DATA, "COPY sent a row of %zu bytes that is none of table %s",
                       n, table);
    if (add_row(r, c) != 0)
        return -1;
    if (places) {
        uint64_t place = chunk_line_place(&r->values[columns]);
        if (place < c->place_end || place == 0)
            return err_set(&c->err, ERR_INTERNAL, "rows came in another order than their places");
        c->place_end = place + 1;
    }
    if (c->order.kind == CHUNK_WHOLE)
        return r->out.row.n >= CHUNK_BYTES ? deliver_part(r, c) : 0;
    if (by_key(c) && (c->n == c->order.part->limit || r->out.row.n > CHUNK_BYTES_MAX))
        note_end(r, c);
    return r->out.row.n > CHUNK_BYTES_MAX;
}

static enum chunk_read_result data_error(struct chunk *c)
{
    err_wrap(&c->err, "existing rows of table %s: ", c->order.part->table);
    return failed(c, CHUNK_FAILED);
}

static enum chunk_read_result copy_rows(struct chunk_read *r, struct chunk *c, bool places)
{
    for (;;) {
        char *line;
        int n = connection_copy_row(r->c, &line, &c->err);
        if (n < 0)
            return refused(r, c);
        if (n == 0) {
            c->end = c->order.kind != CHUNK_KEYS || c->n < c->order.part->limit;
            return CHUNK_READ_DONE;
        }
        int done = take_row(r, c, line, (size_t)n, places);
        PQfreemem(line);
        if (done < 0)
            return c->err.class ? data_error(c) : CHUNK_READ_STOPPED;
        if (done == 0)
            continue;
        if (c->order.kind == CHUNK_PAGES && !places) {
            r->wide = c->order.part->oid;
            return CHUNK_READ_AGAIN;
        }
        return CHUNK_READ_CUT;
    }
}

// ---- the whole ----

static enum chunk_read_result unexpected(struct chunk_read *r, struct chunk *c)
{
    r->keep = false;
    err_set(&c->err, ERR_RETRY, "existing rows of table %s: the server's answer is incomplete",
            c->order.part->table);
    return failed(c, CHUNK_FAILED);
}

static enum chunk_read_result read_results(struct chunk_read *r, struct chunk *c, bool places)
{
    for (int queries = 0;;) {
        AUTO_RESULT PGresult *q = NULL;
        if (connection_next_result(r->c, INT64_MAX, &q, &c->err) != 0)
            return refused(r, c);
        if (!q) {
            r->keep = true;
            if (queries == 3 && c->insert_lsn)
                return CHUNK_READ_DONE;
            return unexpected(r, c);
        }
        enum chunk_status status = CHUNK_OK;
        switch (PQresultStatus(q)) {
        case PGRES_COMMAND_OK:
            break;
        case PGRES_TUPLES_OK:
            queries++;
            if (queries == 1)
                status = check_about(q, c);
            else if (queries == 2)
                status = check_shape(q, c);
            else
                c->insert_lsn = result_lsn(q, 0, 0);
            if (status != CHUNK_OK)
                return failed(c, status);
            break;
        case PGRES_COPY_OUT: {
            if (queries != 2) // what rows stand on comes before them
                return unexpected(r, c);
            enum chunk_read_result result = copy_rows(r, c, places);
            if (result != CHUNK_READ_DONE || c->status != CHUNK_OK)
                return result;
            break;
        }
        default:
            connection_error(r->c, q, &c->err);
            return refused(r, c);
        }
    }
}

// A list has the values of the relation version's key, which may not be the table's any more.
static bool has_keys(const struct chunk_order *o)
{
    for (size_t i = 0; i < o->relation->column_count; i++) {
        const struct column *c = &o->relation->columns[i];
        if (c->key && !chunk_part_key(o->part, c->name))
            return false;
    }
    return true;
}

enum chunk_read_result chunk_read_run(struct chunk_read *r, struct chunk *c)
{
    int64_t begun = clock_mono_us();
    const struct chunk_order *o = &c->order;
    bool places = o->kind == CHUNK_PAGES && r->wide == o->part->oid;
    AUTO_BUF struct buf sql = {0};
    r->keep = false;
    c->status = CHUNK_OK;
    c->n = 0;
    c->place_end = 0;
    c->err = (struct err){0};
    for (size_t i = 0; i < 2; i++) {
        const struct buf *bound = i ? &o->key_to : &o->key_from;
        if (bound->n && !chunk_key_valid(buf_slice(bound), o->part->key_count))
            return failed(c, CHUNK_STALE);
    }
    if (o->kind == CHUNK_LIST && !has_keys(o))
        return failed(c, CHUNK_SHAPE);
    use_relation(r, o->relation);
    chunk_sql_read(&sql, r->source, r->c->version, o, places);
    if (connection_send(r->c, buf_cstr(&sql), &c->err) != 0)
        return refused(r, c);
    buf_clear(&c->data);
    r->out.row = c->data;
    c->data = (struct buf){0};
    enum chunk_read_result result = read_results(r, c, places);
    if (c->status == CHUNK_OK) {
        c->data = r->out.row;
        fit(c);
    } else {
        buf_free(&r->out.row);
    }
    r->out.row = (struct buf){0};
    if (r->out.exact.cap > KEEP_BUFFER_BYTES)
        buf_free(&r->out.exact);
    c->took_us = clock_mono_us() - begun;
    return result;
}

int chunk_read_insert_lsn(struct connection *c, lsn_t *ret_lsn, struct err *e)
{
    AUTO_RESULT PGresult *q = NULL;
    if (connection_query(c, clock_mono_us() + PATIENCE_US, &q, e,
                         "select pg_current_wal_insert_lsn()") != 0)
        return -1;
    *ret_lsn = result_lsn(q, 0, 0);
    return 0;
}
