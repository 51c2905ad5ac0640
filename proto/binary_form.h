// The decoders of the binary forms, one a form: each reads one whole value and appends its text.
// Inside proto/binary*.c only.
#pragma once

#include "base/reader.h"
#include "proto/binary.h"
#include "proto/binary_array.h"

#define BINARY_DEPTH_MAX 64 // arrays in composites in ranges ..; deeper is taken for broken

struct decoding {
    const struct binary *b;
    struct buf *out;
    int depth;
    size_t end; // of out, at most
};

// Appends the text of a value of type t (NULL: not known). What was appended by one that failed is
// the caller's to take back.
bool binary_put(struct decoding *d, const struct type *t, struct slice bytes) MUST_CHECK;
// With zeros in front.
void binary_put_digits(struct buf *out, uint64_t v, int width);
// What the macros of ctype.h say in the "C" locale.
static inline bool binary_is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// They look at r->failed, and leave it to the caller to see that all was read.
#define FORM(name)                                                                                 \
    bool binary_##name(struct decoding *d, const struct type *t, struct reader *r) MUST_CHECK
FORM(numeric);
FORM(float);
FORM(point);
FORM(lseg);
FORM(path);
FORM(polygon);
FORM(box);
FORM(line);
FORM(circle);
FORM(date);
FORM(time);
FORM(timetz);
FORM(timestamp);
FORM(timestamptz);
FORM(interval);
FORM(tsvector);
FORM(tsquery);
FORM(hstore);
FORM(vector);
FORM(array);
FORM(range);
FORM(multirange);
FORM(composite);
#undef FORM
