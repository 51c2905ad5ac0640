#include "proto/array.h"

#include "proto/binary.h"
#include "proto/binary_array.h"
#include "proto/scalar.h"

#include <strings.h>

enum { FIELD_VALUE = 1, FIELD_NULL = 2, FIELD_DIMENSION = 3 }; // of the array messages

// What the message is made from, besides the values and NULLs in the scratch memory.
struct shape {
    enum kind element;
    struct array_scratch *scratch;
    uint64_t count;                       // of elements
    int dimensions;                       // 0: not known yet
    int32_t length[ARRAY_DIMENSIONS_MAX]; // -1: not known yet
    int32_t lower[ARRAY_DIMENSIONS_MAX];
};

struct parse {
    const char *at, *end;
    char delimiter;
    struct shape shape;
    int depth;                              // of open braces
    int32_t in_brace[ARRAY_DIMENSIONS_MAX]; // elements so far in the open brace of this depth
};

void array_scratch_fini(struct array_scratch *s)
{
    buf_free(&s->values);
    buf_free(&s->nulls);
    buf_free(&s->text);
}

static bool take(struct parse *p, char c)
{
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

// An integer up to `stop`, which is taken too.
static bool parse_bound(struct parse *p, char stop, int32_t *ret_v)
{
    const char *close = memchr(p->at, stop, (size_t)(p->end - p->at));
    int64_t v;
    if (!close || !integer_parse(p->at, (size_t)(close - p->at), &v) || v != (int32_t)v)
        return false;
    p->at = close + 1;
    *ret_v = (int32_t)v;
    return true;
}

// "[0:2][1:3]=", which array_out writes when a lower bound is not 1.
static bool parse_bounds(struct parse *p)
{
    int32_t lower, upper;
    while (take(p, '[')) {
        if (p->shape.dimensions == ARRAY_DIMENSIONS_MAX || !parse_bound(p, ':', &lower) ||
            !parse_bound(p, ']', &upper))
            return false;
        int64_t length = (int64_t)upper - lower + 1;
        if (length < 1 || length > INT32_MAX)
            return false;
        p->shape.lower[p->shape.dimensions] = lower;
        p->shape.length[p->shape.dimensions++] = (int32_t)length;
    }
    return p->shape.dimensions == 0 || take(p, '=');
}

static void put_tag(struct shape *s)
{
    if (kind_wire_type(s->element) == WIRE_LEN)
        buf_putc(&s->scratch->values, FIELD_VALUE << 3 | WIRE_LEN);
}

static bool put_element(struct shape *s, const char *text, size_t n)
{
    put_tag(s);
    return scalar_encode(&s->scratch->values, s->element, text, n);
}

static void put_null(struct shape *s)
{
    put_tag(s);
    scalar_encode_zero(&s->scratch->values, s->element);
    wire_varint(&s->scratch->nulls, s->count);
}

// Behind the opening quote.
static bool parse_quoted(struct parse *p)
{
    const char *first = p->at;
    while (p->at < p->end && *p->at != '"' && *p->at != '\\')
        p->at++;
    if (take(p, '"'))
        return put_element(&p->shape, first, (size_t)(p->at - 1 - first));
    struct buf *text = &p->shape.scratch->text;
    buf_clear(text);
    for (;;) {
        buf_put(text, first, (size_t)(p->at - first));
        if (take(p, '"'))
            return put_element(&p->shape, (const char *)text->p, text->n);
        if (!take(p, '\\') || p->at == p->end)
            return false;
        first = p->at++; // the escaped character, and what follows
        while (p->at < p->end && *p->at != '"' && *p->at != '\\')
            p->at++;
    }
}

static bool parse_unquoted(struct parse *p)
{
    const char *first = p->at;
    while (p->at < p->end && *p->at != p->delimiter && *p->at != '}')
        if (*p->at == '{' || *p->at == '"' || *p->at == '\\' || *p->at == ' ' ||
            (*p->at >= '\t' && *p->at <= '\r'))
            return false;
        else
            p->at++;
    size_t n = (size_t)(p->at - first);
    if (n == 4 && memcmp(first, "NULL", 4) == 0) {
        put_null(&p->shape);
        return true;
    }
    return n > 0 && !(n == 4 && strncasecmp(first, "NULL", 4) == 0) &&
           put_element(&p->shape, first, n);
}

static bool parse_element(struct parse *p)
{
    if (p->shape.dimensions == 0)
        p->shape.dimensions = p->depth;
    bool ok = p->depth == p->shape.dimensions && p->shape.count < INT32_MAX &&
              (take(p, '"') ? parse_quoted(p) : parse_unquoted(p));
    p->in_brace[p->depth - 1]++;
    p->shape.count++;
    return ok;
}

static bool open_brace(struct parse *p)
{
    if (p->depth == ARRAY_DIMENSIONS_MAX ||
        (p->shape.dimensions && p->depth == p->shape.dimensions))
        return false;
    p->in_brace[p->depth++] = 0;
    return true;
}

// Every brace of one depth holds the same number of elements.
static bool close_brace(struct parse *p)
{
    int d = --p->depth;
    if (p->shape.length[d] < 0)
        p->shape.length[d] = p->in_brace[d];
    if (p->shape.length[d] != p->in_brace[d])
        return false;
    if (d > 0)
        p->in_brace[d - 1]++;
    return true;
}

static bool parse_array(struct parse *p)
{
    for (int d = 0; d < ARRAY_DIMENSIONS_MAX; d++) {
        p->shape.length[d] = -1;
        p->shape.lower[d] = 1;
    }
    if (p->end - p->at == 2 && memcmp(p->at, "{}", 2) == 0)
        return true;
    if (!parse_bounds(p) || !take(p, '{') || !open_brace(p))
        return false;
    while (p->depth) { // here an element or a brace begins
        if (take(p, '{')) {
            if (!open_brace(p))
                return false;
            continue;
        }
        if (!parse_element(p))
            return false;
        while (take(p, '}')) {
            if (!close_brace(p))
                return false;
            if (p->depth == 0)
                return p->at == p->end;
        }
        if (!take(p, p->delimiter))
            return false;
    }
    return false;
}

static size_t field_size(size_t n)
{
    return n ? 1 + varint_size(n) + n : 0;
}

// A Dimension's fields; int32s, so a negative lower bound takes ten bytes.
static size_t dimension_size(int32_t length, int32_t lower)
{
    return 2 + varint_size((uint64_t)length) + varint_size((uint64_t)(int64_t)lower);
}

static void put_message(struct buf *out, const struct shape *s)
{
    const struct buf *values = &s->scratch->values, *nulls = &s->scratch->nulls;
    bool packed = kind_wire_type(s->element) != WIRE_LEN;
    int dimensions = s->dimensions > 1 || s->lower[0] != 1 ? s->dimensions : 0;
    size_t size = (packed ? field_size(values->n) : values->n) + field_size(nulls->n);
    for (int d = 0; d < dimensions; d++)
        size += field_size(dimension_size(s->length[d], s->lower[d]));
    wire_varint(out, size);
    buf_room(out, size);
    if (packed && values->n)
        wire_bytes(out, FIELD_VALUE, values->p, values->n);
    else
        buf_put(out, values->p, values->n);
    if (nulls->n)
        wire_bytes(out, FIELD_NULL, nulls->p, nulls->n);
    for (int d = 0; d < dimensions; d++) {
        wire_tag(out, FIELD_DIMENSION, WIRE_LEN);
        wire_varint(out, dimension_size(s->length[d], s->lower[d]));
        wire_uint(out, 1, (uint64_t)s->length[d]);
        wire_uint(out, 2, (uint64_t)(int64_t)s->lower[d]);
    }
}

bool array_encode(struct buf *out, struct array_scratch *s, enum kind element, char delimiter,
                  const char *text, size_t n)
{
    struct parse p = {text, text + n, delimiter, .shape = {.element = element, .scratch = s}};
    buf_clear(&s->values);
    buf_clear(&s->nulls);
    if (!parse_array(&p))
        return false;
    put_message(out, &p.shape);
    return true;
}

// ---- from binary ----

// What became of an element.
enum outcome { PUT, NOT_HELD, BROKEN };

static enum outcome put_binary(struct shape *s, const struct binary *b, const struct type *t,
                               struct slice bytes)
{
    if (s->element != KIND_STRING) {
        put_tag(s);
        // Whether it is of the type's form shows when its text is made.
        return scalar_encode_binary(&s->scratch->values, s->element, bytes) ? PUT : NOT_HELD;
    }
    struct slice text;
    struct buf *scratch = &s->scratch->text;
    if (!binary_plain(t, bytes, &text)) {
        buf_clear(scratch);
        if (!binary_text(b, t, bytes, scratch))
            return BROKEN;
        text = buf_slice(scratch);
    }
    return put_element(s, text.n ? (const char *)text.p : "", text.n) ? PUT : NOT_HELD;
}

bool array_encode_binary(struct buf *out, struct array_scratch *scratch, enum kind element,
                         const struct binary *b, const struct type *of, struct slice bytes,
                         bool *ret_broken)
{
    struct shape s = {.element = element, .scratch = scratch, .lower = {1}};
    struct reader r = reader_of(bytes.p, bytes.n);
    struct binary_array a;
    const struct type *t;
    buf_clear(&scratch->values);
    buf_clear(&scratch->nulls);
    *ret_broken = true;
    if (!binary_array_read(&r, &a) || a.element != of->inner || !(t = b->find(b->arg, a.element)) ||
        (element != KIND_STRING && t->kind != element))
        return false;
    for (; s.count < a.count; s.count++) {
        bool null;
        struct slice value = binary_sized(&r, &null);
        enum outcome o = PUT;
        if (r.failed)
            return false;
        if (unlikely(scratch->values.n > binary_text_max(b))) { // so is its text, then
            *ret_broken = false;
            return false;
        }
        if (null)
            put_null(&s);
        else
            o = put_binary(&s, b, t, value);
        if (o != PUT) {
            *ret_broken = o == BROKEN;
            return false;
        }
    }
    *ret_broken = !reader_done(&r);
    if (*ret_broken)
        return false;
    s.dimensions = a.dimensions;
    if (a.dimensions) {
        memcpy(s.length, a.length, sizeof s.length);
        memcpy(s.lower, a.lower, sizeof s.lower);
    }
    put_message(out, &s);
    return true;
}
