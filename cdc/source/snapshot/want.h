// Rows that a consumer cannot have whole: an update came without a large value that did not
// change, and no chunk was seen to have the row. Asked for by key in the end.
#pragma once

#include "source/snapshot/identity.h"

#define WANT_BYTES_MAX (16u << 20) // beyond it the table is read again from its beginning

struct want_set;

struct want_set *want_new(void);
void want_free(struct want_set *w);
// True: it was not there. A key that was there is as if added now.
bool want_add(struct want_set *w, struct row_key key);
// The row is whole at the consumer, or gone.
void want_remove(struct want_set *w, struct row_key key);
void want_clear(struct want_set *w);
size_t want_count(const struct want_set *w);
size_t want_bytes(const struct want_set *w);
// Each one that is not being asked for, oldest first, until `each` gives false. From now on it is.
// Returns the stamp for want_answered.
uint64_t want_ask(struct want_set *w, bool (*each)(void *arg, struct row_key key), void *arg);
// What was asked for under this stamp has been answered: those that were not removed or added
// again meanwhile are gone. all false: it has not, they are to be asked for again.
void want_answered(struct want_set *w, uint64_t stamp, bool all);
void want_ask_again(struct want_set *w); // all: no answer will come
// Each one, asked for or not.
void want_each(const struct want_set *w, void (*each)(void *arg, struct row_key key), void *arg);
