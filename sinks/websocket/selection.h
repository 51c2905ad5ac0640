// What a subscription wants: tables and operations, and in which form. Subscriptions of one context
// that want the same share one selection, and with it the rendered frames.
#pragma once

#include "proto/catalog.h"
#include "sinks/websocket/request.h"

struct selection {
    size_t refs;
    struct selection *next; // in the context's list
    bool text;              // JSON in text frames; else protobuf in binary ones
    bool everything;        // every table, every operation
    bool messages;          // logical messages, which belong to no table
    uint32_t ops;           // bits of enum op
    char id[REQUEST_ID_MAX + 1];
    char **tables;
    size_t table_count;
    uint8_t *verdicts; // by relation version: not known yet, wanted, not wanted
    uint32_t verdict_count;
};

// The selection of *list that is what q asks for, or a new one. Takes q's tables over.
struct selection *selection_get(struct selection **list, struct request *q, bool text);
// Gives it back; the last one frees it. NULL is fine.
void selection_put(struct selection **list, struct selection *sel);

// `relation` is a change's relation version (0: a logical message).
bool selection_wants_relation(struct selection *sel, const struct catalog *c, uint32_t relation);
// What is said of a table by its quoted name, with an operation that stands for it; OP_NONE: any.
bool selection_wants_table(const struct selection *sel, struct slice table, enum op op);
static inline bool selection_wants(struct selection *sel, const struct catalog *c,
                                   uint32_t relation, enum op op)
{
    return sel->everything || ((sel->ops >> op & 1) && selection_wants_relation(sel, c, relation));
}
