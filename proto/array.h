// PostgreSQL's text of an array, to the message of its values (Int32Array and so on):
//
//   {1,NULL,3}   {{1,2},{3,4}}   [0:1]={a,"b,c"}   {}
//
// https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO; only what array_out writes is
// taken, so that what is taken can be written again as the same text.
#pragma once

#include "proto/relation.h"

#define ARRAY_DIMENSIONS_MAX 6 // PostgreSQL's own limit (MAXDIM)

struct binary;
struct type;

// Memory used again from array to array.
struct array_scratch {
    struct buf values;
    struct buf nulls;
    struct buf text; // an element without its escapes
};
void array_scratch_fini(struct array_scratch *s);

// Appends the message with its length in front. False, and nothing appended: the text is not of
// this form, or an element is nothing that `element` (not an array's kind) can hold.
bool array_encode(struct buf *out, struct array_scratch *s, enum kind element, char delimiter,
                  const char *text, size_t n) MUST_CHECK;
// The same from the binary form of a type of arrays. *ret_broken: it is nothing
// that can be read; else false means, as above, that it has to be kept as text.
bool array_encode_binary(struct buf *out, struct array_scratch *s, enum kind element,
                         const struct binary *b, const struct type *of, struct slice bytes,
                         bool *ret_broken) MUST_CHECK;
