// The relation map: what the Relation messages of this connection said, and the relation version
// that each of them became. Always the stream's word; the look-up only adds to it.
#pragma once

#include "base/metrics.h"
#include "proto/batch.h"
#include "proto/row.h"
#include "source/lookup.h"
#include "source/pgoutput.h"

struct relations_options {
    const struct source_options *source;
    struct lookup *lookup; // NULL: no look-ups
    struct catalog *catalog;
    // Keeps a new relation version (takes it over): the journal's, or catalog_add.
    int (*add)(void *arg, struct relation *r, struct err *e);
    void *arg;
    // A wanted table was listed, or described by the stream; or NULL. root: of a partition.
    void (*on_table)(void *arg, const char *table, const char *root);
    void *on_table_arg;
};

#define OP_COUNT (OP_MESSAGE + 1)

struct table {
    uint32_t relid;
    bool kept;      // wanted by the table globs; what follows only then
    bool announced; // its relation version stands in the stream since it was last resolved
    bool has_key;
    const struct relation *relation;
    struct row_map *map;
    struct metric *changes[OP_COUNT], *bytes[OP_COUNT]; // NULL before table_find_metrics
};

struct relations;

struct relations *relations_new(const struct relations_options *o);
void relations_free(struct relations *rs);
// A new connection: nothing that was said before holds.
void relations_clear(struct relations *rs);
// The form in which the connection to come has its values: binary, of a server of this version; 0:
// text. Holds for what is made from now on.
void relations_set_binary(struct relations *rs, int version);
// A binary value could not be read, or not be sent: from now on values are asked for as text.
void relations_give_up_binary(struct relations *rs);
bool relations_binary_given_up(const struct relations *rs);
// A Relation message, decoded and as bytes. arrival: counts these and Type messages on the
// connection.
void relations_see(struct relations *rs, const struct pgoutput_relation *r, struct slice bytes,
                   uint32_t arrival);
void relations_see_type(struct relations *rs, uint32_t oid, const char *schema, const char *name,
                        uint32_t arrival);
// What is seen from here on was said inside of a streamed transaction, whose changes come now; up
// to relations_replayed, or relations_clear.
void relations_replay(struct relations *rs);
void relations_replayed(struct relations *rs);
// The transaction whose changes come now.
void relations_begin(struct relations *rs, uint32_t xid);
// The table of a change; its relation version is made, with a look-up if need be, at first use.
// ERR_DATA: the stream never described this relid. ERR_USAGE: a key column is excluded or masked.
int relations_table(struct relations *rs, uint32_t relid, struct table **ret_t,
                    struct err *e) MUST_CHECK;
// The quoted name, of any relid described so far; NULL otherwise.
const char *relations_name(struct relations *rs, uint32_t relid);
// Fills in the metrics of a kept table.
void table_find_metrics(struct table *t);
// Asks for all published tables and makes a relation version of each that is wanted and new.
int relations_seed(struct relations *rs, struct err *e) MUST_CHECK;
// The version of a table as the catalog has it: made when the newest is another. The stream has
// nothing to say of it any more (what it does say of it later counts).
int relations_renew(struct relations *rs, const struct table_info *info,
                    const struct relation **ret_r, struct err *e) MUST_CHECK;
