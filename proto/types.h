// PostgreSQL's built-in types: what kind each becomes, what SQL calls it.
#pragma once

#include "proto/relation.h"

struct type {
    uint32_t oid;
    char name[64];      // "int4"; user types as SQL would quote them: shop.mood
    char base_name[64]; // of a domain: its base type's; else the same
    enum kind kind;
    enum json_class json_class;
};

// A built-in type by OID, NULL when it is none of them.
const struct type *type_builtin(uint32_t oid);
// What a type looked up in pg_type becomes. typtype as there ('b','c','d','e','r','m');
// `element` for arrays and `base` for domains are the resolved types, or NULL.
struct type type_resolve(uint32_t oid, const char *schema, const char *name, char typtype,
                         const struct type *element, const struct type *base);
// "numeric(10,2)" from a name and a typmod (-1: none), as format_type would.
void type_format(struct buf *out, const char *name, uint32_t base_oid, int32_t typmod);
