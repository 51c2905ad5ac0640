#include "proto/array.h"

#include "proto/scalar.h"

#include <strings.h>

enum { FIELD_VALUE = 1, FIELD_NULL = 2, FIELD_DIMENSION = 3 }; // of the array messages

struct parse {
    const char *at, *end;
    char delimiter;
    enum kind element;
    struct array_scratch *scratch;
    uint64_t count;                       // of elements
    int dimensions;                       // 0: not known yet
    int depth;                            // of open braces
    int32_t length[ARRAY_DIMENSIONS_MAX]; // -1: not known yet
    int32_t lower[ARRAY_DIMENSIONS_MAX];
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
        if (p->dimensions == ARRAY_DIMENSIONS_MAX || !parse_bound(p, ':', &lower) ||
            !parse_bound(p, ']', &upper))
            return false;
        int64_t length = (int64_t)upper - lower + 1;
        if (length < 1 || length > INT32_MAX)
            return false;
        p->lower[p->dimensions] = lower;
        p->length[p->dimensions++] = (int32_t)length;
    }
    return p->dimensions == 0 || take(p, '=');
}

static bool put_element(struct parse *p, const char *text, size_t n)
{
    if (kind_wire_type(p->element) == WIRE_LEN)
        buf_putc(&p->scratch->values, FIELD_VALUE << 3 | WIRE_LEN);
    return scalar_encode(&p->scratch->values, p->element, text, n);
}

static void put_null(struct parse *p)
{
    if (kind_wire_type(p->element) == WIRE_LEN)
        buf_putc(&p->scratch->values, FIELD_VALUE << 3 | WIRE_LEN);
    scalar_encode_zero(&p->scratch->values, p->element);
    wire_varint(&p->scratch->nulls, p->count);
}

// Behind the opening quote.
static bool parse_quoted(struct parse *p)
{
    const char *first = p->at;
    while (p->at < p->end && *p->at != '"' && *p->at != '\\')
        p->at++;
    if (take(p, '"'))
        return put_element(p, first, (size_t)(p->at - 1 - first));
    struct buf *text = &p->scratch->text;
    buf_clear(text);
    for (;;) {
        buf_put(text, first, (size_t)(p->at - first));
        if (take(p, '"'))
            return put_element(p, (const char *)text->p, text->n);
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
        put_null(p);
        return true;
    }
    return n > 0 && !(n == 4 && strncasecmp(first, "NULL", 4) == 0) && put_element(p, first, n);
}

static bool parse_element(struct parse *p)
{
    if (p->dimensions == 0)
        p->dimensions = p->depth;
    bool ok = p->depth == p->dimensions && p->count < INT32_MAX &&
              (take(p, '"') ? parse_quoted(p) : parse_unquoted(p));
    p->in_brace[p->depth - 1]++;
    p->count++;
    return ok;
}

static bool open_brace(struct parse *p)
{
    if (p->depth == ARRAY_DIMENSIONS_MAX || (p->dimensions && p->depth == p->dimensions))
        return false;
    p->in_brace[p->depth++] = 0;
    return true;
}

// Every brace of one depth holds the same number of elements.
static bool close_brace(struct parse *p)
{
    int d = --p->depth;
    if (p->length[d] < 0)
        p->length[d] = p->in_brace[d];
    if (p->length[d] != p->in_brace[d])
        return false;
    if (d > 0)
        p->in_brace[d - 1]++;
    return true;
}

static bool parse_array(struct parse *p)
{
    for (int d = 0; d < ARRAY_DIMENSIONS_MAX; d++) {
        p->length[d] = -1;
        p->lower[d] = 1;
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

static void put_message(struct buf *out, const struct parse *p)
{
    const struct buf *values = &p->scratch->values, *nulls = &p->scratch->nulls;
    bool packed = kind_wire_type(p->element) != WIRE_LEN;
    int dimensions = p->dimensions > 1 || p->lower[0] != 1 ? p->dimensions : 0;
    size_t size = (packed ? field_size(values->n) : values->n) + field_size(nulls->n);
    for (int d = 0; d < dimensions; d++)
        size += field_size(dimension_size(p->length[d], p->lower[d]));
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
        wire_varint(out, dimension_size(p->length[d], p->lower[d]));
        wire_uint(out, 1, (uint64_t)p->length[d]);
        wire_uint(out, 2, (uint64_t)(int64_t)p->lower[d]);
    }
}

bool array_encode(struct buf *out, struct array_scratch *s, enum kind element, char delimiter,
                  const char *text, size_t n)
{
    struct parse p = {text, text + n, delimiter, element, s, .count = 0};
    buf_clear(&s->values);
    buf_clear(&s->nulls);
    if (!parse_array(&p))
        return false;
    put_message(out, &p);
    return true;
}
