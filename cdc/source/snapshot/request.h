// The tables that can be read, by name, and those that somebody asks for: the one part of snapshots
// that other threads see.
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct requests;

struct requests *requests_new(void);
void requests_free(struct requests *r);
// Source thread: a wanted table; root: of a partition, or NULL. True: it was not known.
bool requests_know(struct requests *r, const char *table, const char *root);
// Source thread: it is being read, or waits for its turn; or it is not any more.
void requests_set_busy(struct requests *r, const char *table, bool busy);
// Source thread: why nothing can be read; NULL: it can.
void requests_refuse(struct requests *r, const char *why);
// Source thread: each known table.
void requests_each(struct requests *r, void (*each)(void *arg, const char *table), void *arg);
// Source thread: the next one asked for, allocated; NULL: none.
char *requests_take(struct requests *r);
// Any thread: somebody asks, and nobody has taken it.
bool requests_waiting(const struct requests *r);
// Any thread: asks for the tables that the glob matches by their names or their roots'; a line for
// each into out. ERR_USAGE: it matches none, or all of them are being read.
int requests_add(struct requests *r, const char *glob, struct buf *out, struct err *e) MUST_CHECK;
