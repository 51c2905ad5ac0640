// Whether rows of now can be encoded with a relation version: the published columns are its own,
// or excluded ones, and the key is the same. Pure.
#pragma once

#include "source/snapshot/chunk.h"

struct shape_column {
    const char *name;
    int16_t attnum;
    uint32_t type_oid;
    int32_t typmod;
    bool published;
    bool primary, identity; // part of the primary key, of the index that is the replica identity
};

bool chunk_shape_fits(const struct relation *r, char replica_identity,
                      const struct shape_column *columns, size_t n);
