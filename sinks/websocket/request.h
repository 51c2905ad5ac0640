// What a client asks for, out of a JSON text frame, a protobuf binary frame or the query of a URL.
// Pure: bytes in, struct out.
#pragma once

#include "base/buf.h"
#include "journal/journal.h"

#define REQUEST_TABLES_MAX 1000 // globs in a subscription
#define REQUEST_GLOB_MAX   256  // bytes of one
#define REQUEST_ID_MAX     64   // bytes of a subscription's id

enum request_kind { REQUEST_SUBSCRIBE, REQUEST_UNSUBSCRIBE, REQUEST_ASK };

struct request {
    enum request_kind kind;
    char id[REQUEST_ID_MAX + 1]; // subscribe, unsubscribe; "" is the nameless one
    char **tables;               // owned; none: every table
    size_t table_count;
    uint32_t ops; // bits of enum op; 0: every operation
    enum journal_from from;
    struct cursor cursor; // FROM_POSITION
};

enum request_fault {
    REQUEST_OK,
    REQUEST_MALFORMED, // not JSON, not protobuf: the connection ends
    REQUEST_BAD,       // well-formed, but not a message of ours
    REQUEST_CURSOR,    // the cursor is not one of ours
};

void request_init(struct request *q); // an empty subscription to everything, from now
void request_fini(struct request *q);

// On a fault the text in *e says what was wrong, and *ret_q has nothing but the id, as far as it
// was understood, for the answer to say what it is about. The caller finishes it.
enum request_fault request_json(struct slice text, struct request *ret_q, struct err *e);
enum request_fault request_proto(struct slice bytes, struct request *ret_q, struct err *e);

// One decoded "name=value" of the URL's query into a subscription (table, op, from).
enum request_fault request_argument(struct request *q, const char *argument, struct err *e);
