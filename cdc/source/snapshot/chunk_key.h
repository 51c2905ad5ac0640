// Keys by value: bounds of a range, and lists of keys to read again. Both are the texts of a key's
// columns, each with its length in front. Pure.
#pragma once

#include "base/reader.h"
#include "source/snapshot/chunk.h"

// One text more.
void chunk_key_put(struct buf *out, const void *text, size_t n);
// The next one; false at the end. A bound may come from a file: one that is damaged is refused.
bool chunk_key_next(struct reader *in, struct slice *ret_text);
// Whether a bound has so many texts, of which none is longer than it says, has a NUL, or is one too
// many for a table.
bool chunk_key_valid(struct slice bound, size_t columns);
