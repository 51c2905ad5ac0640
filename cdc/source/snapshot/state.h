// How far the reading of existing rows has come, so that a crash does not begin it again: the file
// `snapshot` of the journal's directory. A line is added with everything that is emitted, with the
// position of what it vouches for, and counts only if the journal has that position when it is
// read again: what the journal lost is read again, what it kept is not.
//
// That a table begins is synced before the mark is seen: who reads it waits for the end, and a
// table that nothing else would have read, or read again, must not be forgotten. Other lines are
// not synced. A killed process leaves them to the kernel; after a power cut (another boot id)
// tables that were being read begin again, for rows that they still had to ask for by key may be
// forgotten. An end that is lost has its table begin again, too.
#pragma once

#include "journal/journal.h"
#include "source/snapshot/want.h"

#include <uthash.h>

#define STATE_FILE "snapshot"

enum state_step {
    STATE_NONE,
    STATE_KNOWN, // was there when snapshots were switched on: it is not read
    STATE_BEGUN,
    STATE_DONE,
};

struct state_range { // of places of the heap
    uint64_t from, to;
};

struct state_part { // what is emitted of it
    uint32_t oid;
    uint64_t origin;            // what the ranges stand on
    struct state_range *ranges; // ascending, apart from each other
    size_t n;
    struct buf key_end; // all rows up to this key; empty: none
    bool whole;         // all rows by key
};

struct state_table {
    char *table;
    enum state_step step;     // as of the journal's newest position, durable or not
    uint32_t round;           // how often it was begun
    struct position begun_at; // in this process
    bool lost;                // begun, but not to be gone on with: begin again
    // As loaded, and kept for writing the file anew:
    enum state_step kept;
    uint32_t kept_round;
    uint32_t shape;
    uint64_t rows;
    struct state_part *parts;
    size_t part_count;
    struct want_set *wants;
    UT_hash_handle hh;
};

struct state;

// Loads what the journal vouches for. ERR_JOURNAL: the file cannot be read, or is damaged.
int state_open(struct journal *j, struct state **ret_s, struct err *e) MUST_CHECK;
// clean: everything is said and the journal is about to be closed; the next one goes on, also after
// a reboot.
void state_close(struct state *s, bool clean);
// False: snapshots were never switched on here.
bool state_ready(const struct state *s, uint32_t *ret_generation);
// Snapshots are switched on: a table without a record is to be read. Durable when it returns.
int state_switch_on(struct state *s, uint32_t generation, struct err *e) MUST_CHECK;
// Continuity was broken. forget: all records go; else tables that were being read begin again.
// Durable when it returns.
int state_break(struct state *s, uint32_t generation, bool forget, struct err *e) MUST_CHECK;
struct state_table *state_find(struct state *s, const char *table);         // NULL: no record
struct state_table *state_each(struct state *s, struct state_table *after); // NULL: the first

void state_known(struct state *s, const char *table);
// A begin or restart mark is emitted there next; shape: the relation version, 0: not known. Durable
// when it returns, if the disk has room.
struct state_table *state_begin(struct state *s, const char *table, uint32_t shape,
                                struct position at);
// Rows of a part, up to this position: a range of places, or of keys (all of them: to is empty).
void state_places(struct state *s, struct state_table *t, uint32_t part, uint64_t origin,
                  struct state_range range, uint64_t rows, struct position at);
void state_keys(struct state *s, struct state_table *t, uint32_t part, uint64_t origin,
                struct slice from, struct slice to, uint64_t rows, struct position at);
void state_want(struct state *s, struct state_table *t, struct row_key key);
void state_end(struct state *s, struct state_table *t, uint64_t rows, struct position at);
// From time to time: what could not be written is written; a long file is written anew.
void state_settle(struct state *s);
// What is durable of a part, of the present round; NULL: nothing.
const struct state_part *state_part_of(const struct state_table *t, uint32_t oid, uint64_t origin);
