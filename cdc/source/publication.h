// Publications: which tables they have, and making one.
#pragma once

#include "source/connect/connection.h"

// The table at the top of the tree that a partition pg_class c is in: schema, chr(1), name; or
// NULL.
#define SQL_ROOT_OF_C                                                                              \
    "(with recursive up(oid) as (select inhparent from pg_inherits where inhrelid = c.oid and "    \
    "c.relispartition union select i.inhparent from pg_inherits i join up on i.inhrelid = up.oid)" \
    " select rn.nspname || chr(1) || r.relname from up join pg_class r on r.oid = up.oid"          \
    " join pg_namespace rn on rn.oid = r.relnamespace where not r.relispartition limit 1)"
// Of a pg_index pk: the primary key of a pg_class c, as the stream means it. A deferrable one is no
// replica identity.
#define SQL_PRIMARY_KEY_OF_C "pk.indisprimary and (pk.indimmediate or c.relreplident = 'f')"
// What a pg_class c in pg_namespace n must be to be published.
#define SQL_CANDIDATE                                                                              \
    "c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> " \
    "'information_schema' and c.oid >= 16384"
// SQL_ROOT_OF_C's value as a quoted table name, allocated; NULL when it is none.
char *publication_root(const char *joined);

// A query of what the publications have: relid, pubupdate, attrs, qual; a table that several have
// stands there several times. `table`: of this one only (quoted), without listing all others.
void publication_members(struct buf *sql, const struct source_options *o, int version,
                         const char *table);

struct published_table {
    uint32_t oid;
    char *table;   // quoted
    char *root;    // of a partition: the table at the top; else NULL
    bool identity; // updates and deletes on it can be published
    bool partition, partitioned, owned;
};

struct table_list {
    struct published_table *tables;
    size_t n;
};
void table_list_fini(struct table_list *l);

// Whether the globs in o want it: by its own name or by that of the table it is a partition of.
bool source_wants(const struct source_options *o, const char *table, const char *root);

// Names of the publications asked for that do not exist, comma-separated; empty: none.
int publication_missing(struct connection *sql, const struct source_options *o, struct buf *ret,
                        struct err *e) MUST_CHECK;
// What the publications have; updates_only: only those that publish updates or deletes.
int publication_tables(struct connection *sql, const struct source_options *o, bool updates_only,
                       struct table_list *ret_l, struct err *e) MUST_CHECK;
// Every table that a publication could have.
int publication_candidates(struct connection *sql, struct table_list *ret_l,
                           struct err *e) MUST_CHECK;
// What making a publication comes to.
struct publication_plan {
    struct buf sql; // CREATE PUBLICATION name FOR TABLE .. with the candidates that are wanted
    size_t n;       // how many; 0: there is nothing to publish
    // Without replica identity, so left out, for publishing them would make the application's
    // updates fail; and those that belong to somebody else. Comma-separated.
    struct buf left_out, foreign;
};
void publication_plan(const struct source_options *o, const char *name,
                      const struct table_list *candidates, int version,
                      struct publication_plan *ret_plan);
void publication_plan_fini(struct publication_plan *plan);
