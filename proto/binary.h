// PostgreSQL's binary form of a value (what a type's send function writes) to the text that its
// output function writes, byte for byte, under the settings that our sessions pin (ISO, UTC,
// postgres intervals, shortest floats, hex).
#pragma once

#include "base/buf.h"
#include "proto/types.h"

// What decoding depends on besides the type.
struct binary {
    // The type of an OID that a value names (of an element, of a field); NULL: not known. Lives as
    // long as the decoding.
    const struct type *(*find)(void *arg, uint32_t oid);
    void *arg;
    int version;     // the server's, as PQserverVersion gives it; forms are those of 14 and newer
    size_t text_max; // a value whose text is longer is refused; 0: PostgreSQL's own limit
};

// A text may be very much longer than the form: quotes double with each composite around them.
static inline size_t binary_text_max(const struct binary *b)
{
    return b->text_max ? b->text_max : (size_t)1 << 30;
}

// Appends the value's text. False, and nothing appended: the bytes are not of the type's form,
// something inside is of a type without a decoder, or the text is too long.
bool binary_text(const struct binary *b, const struct type *t, struct slice bytes,
                 struct buf *out) MUST_CHECK;
// A value that is text already, where that is all its form is: *ret_text is borrowed from bytes.
// False: it is not of such a form.
bool binary_plain(const struct type *t, struct slice bytes, struct slice *ret_text) MUST_CHECK;
