// What the parts of the relation map know of each other: relations.c (what the stream says, and the
// versions that come of it), relations_published.c (what the catalog says of published tables) and
// relations_foreseen.c (what a table will most likely be when an open transaction is committed).
#pragma once

#include "source/hiding.h"
#include "source/publication.h"
#include "source/relation_map.h"
#include "source/table_names.h"

#define FORESEEN_MAX 256 // a connection; rows of more tables are decoded after their commit

struct foreseen {
    struct table table; // with its map; its metrics stay unused
    struct buf wire;    // the Relation message
};

struct relations {
    struct relations_options o;
    struct binary binary; // version 0: values come as text
    bool binary_given_up;
    struct relation_map map;
    uint32_t xid;                            // of the transaction at hand
    struct table_names *names;               // kept over connections
    struct pgoutput wire;                    // scratch for decoding a kept message again
    struct seen_column columns[COLUMNS_MAX]; // scratch
    char *type_texts[COLUMNS_MAX];
    const struct pgoutput_column *source[COLUMNS_MAX]; // of columns[i]
    enum hide hide[COLUMNS_MAX];                       // by place in the message
    struct hidden_column hidden[HIDDEN_MAX];
    size_t hidden_count;
    struct foreseen *foreseen[FORESEEN_MAX];
    size_t foreseen_count;
};

// The columns that are kept, from those of the stream; key as flagged there. *ret_ask: a look-up
// would tell more of what is hidden.
size_t relations_take_columns(struct relations *rs, const struct pgoutput_relation *r,
                              const struct hiding *h, const struct table_info *info, bool *ret_ask);
// False: a type is not known.
bool relations_fill_types(struct relations *rs, size_t n, const struct relation *latest);
int relations_check_keys(struct relations *rs, const struct pgoutput_relation *r, const char *table,
                         const struct table_info *info, size_t n, struct err *e) MUST_CHECK;
struct hiding relations_hiding(struct relations *rs, const char *table, uint32_t oid);
// The columns of a message, with what a look-up adds; *info is filled if it was not and had to be.
int relations_describe(struct relations *rs, const struct pgoutput_relation *r,
                       const struct hiding *h, struct table_info *info, size_t *ret_n,
                       struct err *e) MUST_CHECK;
// What the n columns at hand are, behind `latest`: owned by the caller; NULL: no numbers are left.
struct relation *relations_number(struct relations *rs, const struct pgoutput_relation *r,
                                  const struct relation *latest, size_t n);
// Takes a version over.
int relations_add(struct relations *rs, struct relation *r, struct err *e) MUST_CHECK;
// The version that the n columns at hand are: the latest one if it is the same, else a new one.
int relations_make_version(struct relations *rs, const struct pgoutput_relation *r,
                           const char *table, size_t n, const struct relation **ret_r,
                           struct err *e) MUST_CHECK;
// How rows of the n columns at hand become those of t->relation.
void relations_fill_table(struct relations *rs, struct table *t, const struct pgoutput_relation *r,
                          size_t n);
void relations_forget_foreseen(struct relations *rs);
