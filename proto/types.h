// PostgreSQL's types: what kind each becomes, what SQL calls it.
#pragma once

#include "proto/relation.h"

// Schema and name, each of 63 bytes and twice as long in quotes, the dot, "[]" and the NUL.
#define TYPE_NAME_MAX 264

struct type {
    uint32_t oid;
    char name[TYPE_NAME_MAX];      // as SQL names it: integer, integer[], shop.mood
    char base_name[TYPE_NAME_MAX]; // of a domain: its base type's; else the same
    enum kind kind;
    enum json_class json_class;
    char delimiter; // between the elements of its arrays: pg_type.typdelim
};

// A built-in type by OID, NULL when it is none of them.
const struct type *type_builtin(uint32_t oid);
// What a type looked up in pg_type becomes. typtype as there ('b','c','d','e','r','m');
// `element` for true arrays (typcategory 'A') and `base` for domains are the resolved types, or
// NULL. The delimiter is the base's, ':' for PostGIS's types and ',' for others: a caller who has
// read typdelim sets it before he resolves the array, for arrays with any delimiter but ',' and
// box's ';' stay text.
struct type type_resolve(uint32_t oid, const char *schema, const char *name, char typtype,
                         const struct type *element, const struct type *base);
// "numeric(10,2)" from a name and a typmod (-1: none), as format_type would. `base_oid`: the
// built-in type (or array of it) that `name` stands for; with any other OID it is the name alone.
void type_format(struct buf *out, const char *name, uint32_t base_oid, int32_t typmod);
// What separates the elements in an array's text, from the base_type of its column.
char type_array_delimiter(const char *base_name);
