// Array messages (BoolArray .. TimestampArray of rowcast.proto) as JSON and as PostgreSQL's text.
#include "proto/json_value.h"

#include "proto/array.h"
#include "proto/scalar.h"
#include "proto/types.h"

#include <strings.h>

struct array {
    enum kind element;
    struct reader values; // packed: the elements; else the whole message
    struct reader nulls;  // indexes still to come
    uint64_t next_null;   // UINT64_MAX: no more
    uint64_t index;       // of the element that comes next
    uint64_t count;
    size_t dimensions; // 1 of all elements, from 1, where the message names none; 0: empty
    uint64_t length[ARRAY_DIMENSIONS_MAX];
    int32_t lower[ARRAY_DIMENSIONS_MAX];
    bool shifted; // a lower bound is not 1
};

static bool is_packed(enum kind element)
{
    return kind_wire_type(element) != WIRE_LEN;
}

static void next_null(struct array *a)
{
    a->next_null = reader_left(&a->nulls) ? reader_varint(&a->nulls) : UINT64_MAX;
}

static bool add_dimension(struct array *a, struct slice message)
{
    struct reader in = reader_of(message.p, message.n);
    struct wire_field f;
    uint64_t length = 0;
    int32_t lower = 0;
    while (wire_next(&in, &f)) {
        if (f.number == 1)
            length = f.v;
        else if (f.number == 2)
            lower = (int32_t)f.v;
    }
    if (!reader_done(&in) || a->dimensions == ARRAY_DIMENSIONS_MAX || length == 0 ||
        length > INT32_MAX)
        return false;
    a->length[a->dimensions] = length;
    a->lower[a->dimensions++] = lower;
    a->shifted |= lower != 1;
    return true;
}

static bool count_packed(struct array *a, struct slice packed)
{
    if (a->count) // our own encoder writes one run
        return false;
    a->values = reader_of(packed.p, packed.n);
    switch (kind_wire_type(a->element)) {
    case WIRE_I32:
        a->count = packed.n / 4;
        return packed.n % 4 == 0;
    case WIRE_I64:
        a->count = packed.n / 8;
        return packed.n % 8 == 0;
    default:
        for (size_t i = 0; i < packed.n; i++)
            a->count += packed.p[i] < 0x80;
        return true;
    }
}

// As many elements as the dimensions say.
static bool dimensions_fit(struct array *a)
{
    uint64_t product = 1;
    if (a->dimensions == 0 && a->count > 0) {
        a->dimensions = 1;
        a->length[0] = a->count;
        a->lower[0] = 1;
        return true;
    }
    for (size_t i = 0; i < a->dimensions; i++) {
        product *= a->length[i];
        if (product > a->count)
            return false;
    }
    return a->dimensions == 0 || product == a->count;
}

static bool array_field(struct array *a, const struct wire_field *f)
{
    if (f->number > 3) // of a later version
        return true;
    if (f->type != WIRE_LEN)
        return false;
    switch (f->number) {
    case 1:
        if (is_packed(a->element))
            return count_packed(a, f->bytes);
        a->count++;
        return true;
    case 2:
        a->nulls = reader_of(f->bytes.p, f->bytes.n);
        return true;
    default:
        return add_dimension(a, f->bytes);
    }
}

static bool array_open(struct array *a, enum kind kind, struct slice message)
{
    *a = (struct array){.element = (enum kind)(kind - KIND_ARRAY)};
    struct reader in = reader_of(message.p, message.n);
    if (!is_packed(a->element))
        a->values = in;
    struct wire_field f;
    while (wire_next(&in, &f)) {
        if (!array_field(a, &f))
            return false;
    }
    next_null(a);
    return reader_done(&in) && dimensions_fit(a);
}

// The next of `count` elements. False: malformed.
static bool array_next(struct array *a, struct scalar *ret_s, bool *ret_null)
{
    struct scalar s = {0};
    struct wire_field f;
    switch (kind_wire_type(a->element)) {
    case WIRE_I32:
        s.v = reader_le32(&a->values);
        break;
    case WIRE_I64:
        s.v = reader_le64(&a->values);
        break;
    case WIRE_VARINT:
        s.v = reader_varint(&a->values);
        break;
    default:
        do {
            if (!wire_next(&a->values, &f))
                return false;
        } while (f.number != 1);
        s.bytes = f.bytes;
    }
    *ret_null = a->index == a->next_null;
    if (*ret_null)
        next_null(a);
    a->index++;
    *ret_s = s;
    return !a->values.failed && !a->nulls.failed;
}

// How many levels of brackets open before element i (or, with i the count of elements so far, have
// just been filled).
static size_t levels_at(const struct array *a, uint64_t i)
{
    uint64_t size = 1;
    size_t levels = 0;
    for (size_t d = a->dimensions; d > 0; d--) {
        size *= a->length[d - 1];
        if (i % size != 0)
            break;
        levels++;
    }
    return levels;
}

static void repeat(struct buf *out, char c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_putc(out, c);
}

int json_array(struct buf *out, const struct column *c, struct slice message, bool *ret_exact)
{
    struct array a;
    if (!array_open(&a, c->kind, message))
        return -1;
    *ret_exact = a.shifted;
    if (a.count == 0)
        buf_puts(out, "[]");
    for (uint64_t i = 0; i < a.count; i++) {
        struct scalar s;
        bool null;
        if (!array_next(&a, &s, &null))
            return -1;
        if (i)
            buf_putc(out, ',');
        repeat(out, '[', levels_at(&a, i));
        if (null)
            buf_puts(out, "null");
        else if (json_scalar(out, a.element, c->json_class, &s) != 0)
            return -1;
        if (c->json_class == JSON_CLASS_JSON && !null && json_is_null(s.bytes))
            *ret_exact = true;
        repeat(out, ']', levels_at(&a, i + 1));
    }
    return a.next_null == UINT64_MAX ? 0 : -1;
}

// ---- PostgreSQL's text ----

static bool needs_quotes(struct slice text, char delimiter)
{
    if (text.n == 0 || (text.n == 4 && strncasecmp((const char *)text.p, "null", 4) == 0))
        return true;
    for (size_t i = 0; i < text.n; i++) {
        char c = (char)text.p[i];
        if (c == delimiter || (c && strchr("\"\\{} \t\n\r\v\f", c)))
            return true;
    }
    return false;
}

static void put_element(struct buf *out, struct slice text, char delimiter)
{
    if (!needs_quotes(text, delimiter)) {
        buf_put(out, text.p, text.n);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, (char)text.p[i]);
    }
    buf_putc(out, '"');
}

static void put_bounds(struct buf *out, const struct array *a)
{
    for (size_t d = 0; d < a->dimensions; d++)
        buf_printf(out, "[%d:%lld]", a->lower[d],
                   (long long)a->lower[d] + (long long)a->length[d] - 1);
    buf_putc(out, '=');
}

int array_text(struct buf *out, const struct column *c, struct slice message)
{
    AUTO_BUF struct buf text = {0};
    struct array a;
    if (!array_open(&a, c->kind, message))
        return -1;
    char delimiter = type_array_delimiter(c->base_type);
    if (a.shifted)
        put_bounds(out, &a);
    if (a.count == 0)
        buf_puts(out, "{}");
    for (uint64_t i = 0; i < a.count; i++) {
        struct scalar s;
        bool null;
        if (!array_next(&a, &s, &null))
            return -1;
        if (i)
            buf_putc(out, delimiter);
        repeat(out, '{', levels_at(&a, i));
        buf_clear(&text);
        if (null)
            buf_puts(out, "NULL");
        else if (scalar_text(&text, a.element, &s) != 0)
            return -1;
        else
            put_element(out, buf_slice(&text), delimiter);
        repeat(out, '}', levels_at(&a, i + 1));
    }
    return 0;
}
