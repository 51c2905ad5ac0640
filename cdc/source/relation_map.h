// What the Relation and Type messages of this connection said, by OID; and, while a streamed
// transaction is replayed, what those inside of it said, laid over the rest. At its end the
// overlay is merged by arrival: messages inside of a streamed transaction arrived before others
// that are known already, and an older word must not replace a newer one.
#pragma once

#include "source/relations.h"

#include <uthash.h>

struct described { // a table
    struct table table;
    struct buf wire; // the Relation message
    char *name;      // quoted
    uint32_t arrival;
    bool resolved;
    bool settled; // the same message again changes nothing
    bool unknown; // whether it was a partition
    UT_hash_handle hh;
};

struct named { // what else is known by OID: a type's name, the root of a partition
    uint32_t oid;
    uint32_t arrival;
    char *text; // or NULL
    UT_hash_handle hh;
};

struct named *named_find(struct named *map, uint32_t oid);
void named_set(struct named **map, uint32_t oid, const char *text, uint32_t arrival);
void named_clear(struct named **map);

struct relation_map {
    struct described *tables, *overlay;
    struct named *types, *overlay_types;
    bool streamed; // a streamed transaction is being replayed
};

void relation_map_clear(struct relation_map *m);
// NULL: never described.
struct described *relation_map_find(struct relation_map *m, uint32_t relid);
// A Relation message, decoded and as bytes; it is to be resolved again if it changes anything.
void relation_map_see(struct relation_map *m, const struct pgoutput_relation *r, struct slice bytes,
                      uint32_t arrival);
void relation_map_see_type(struct relation_map *m, uint32_t oid, const char *schema,
                           const char *name, uint32_t arrival);
const char *relation_map_type(struct relation_map *m, uint32_t oid); // its name, or NULL
void relation_map_merge(struct relation_map *m);
void described_free_map(struct table *t);
