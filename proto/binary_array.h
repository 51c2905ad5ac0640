// What the binary form of an array is made of: a head, then values behind their lengths.
#pragma once

#include "base/reader.h"
#include "proto/array.h"

struct binary_array {
    uint32_t element; // OID
    int dimensions;   // 0: it is empty
    int32_t length[ARRAY_DIMENSIONS_MAX], lower[ARRAY_DIMENSIONS_MAX];
    uint64_t count; // of elements, which follow
};
bool binary_array_read(struct reader *r, struct binary_array *ret_a) MUST_CHECK;
// A value behind its length in 32 bits. -1 stands for NULL: *ret_null, and an empty slice.
struct slice binary_sized(struct reader *r, bool *ret_null);
