// Which columns are excluded or masked. A glob over schema.table.column holds under the table's
// name, of now and when it was first seen, and under that of its root; and for a column that was
// renamed since, under the name that it had when a glob took it: that is remembered with the
// relation version. Pure.
//
// In doubt a column is hidden: one that may be a hidden one under a new name, and one of a table
// whose root nobody can tell any more, when the last part of a glob matches it.
#pragma once

#include "proto/registry.h"
#include "source/source.h"

enum hide { HIDE_NOT, HIDE_MASK, HIDE_EXCLUDE };

struct hiding { // of a table
    const struct source_options *o;
    const char *table, *root;      // quoted; root: or NULL
    const char *first;             // the table's name when it was first seen; or NULL
    bool unknown;                  // whether it has a root
    const struct relation *latest; // its latest version, of the same OID; or NULL
};

// fnmatch over schema.table.column, quoted where needed; with one dot only: in schema public.
bool hiding_glob_matches(const char *glob, const char *table, const char *column);
// Says of each column what becomes of it. What is to be remembered goes to ret_hidden, which has
// room for HIDDEN_MAX and borrows its texts. True: an attnum that is not known would help.
bool hiding_decide(const struct hiding *h, const struct seen_column *columns, size_t n,
                   enum hide *ret_hide, struct hidden_column *ret_hidden, size_t *ret_hidden_count);
