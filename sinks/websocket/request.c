// Strict on purpose: an unknown key is an error, for a filter that is misspelt and ignored would
// deliver what nobody asked for.
#include "sinks/websocket/request.h"

#include "rowcast.pb-c.h"

#include <jansson.h>

void request_init(struct request *q)
{
    *q = (struct request){.kind = REQUEST_SUBSCRIBE, .from = FROM_NOW};
}

void request_fini(struct request *q)
{
    for (size_t i = 0; i < q->table_count; i++)
        free(q->tables[i]);
    free(q->tables);
    request_init(q);
}

// What is left of a faulty one.
static void keep_only_id(struct request *q)
{
    char id[sizeof q->id];
    memcpy(id, q->id, sizeof id);
    request_fini(q);
    memcpy(q->id, id, sizeof id);
}

static enum request_fault bad(struct err *e, const char *what, const char *value)
{
    (void)err_set(e, ERR_DATA, "%s: %.100s", what, value);
    return REQUEST_BAD;
}

// ---- the parts, the same in all forms ----

static enum request_fault put_id(struct request *q, const char *id, struct err *e)
{
    if (strlen(id) > REQUEST_ID_MAX)
        return bad(e, "an id has at most 64 bytes", id);
    memcpy(q->id, id, strlen(id) + 1);
    return REQUEST_OK;
}

static enum request_fault put_table(struct request *q, const char *glob, struct err *e)
{
    if (!*glob || strlen(glob) > REQUEST_GLOB_MAX)
        return bad(e, "a table glob has 1 to 256 bytes", glob);
    if (q->table_count == REQUEST_TABLES_MAX)
        return bad(e, "a subscription has at most 1000 table globs", "use wildcards");
    q->tables = xrealloc(q->tables, (q->table_count + 1) * sizeof *q->tables);
    q->tables[q->table_count++] = xstrdup(glob);
    return REQUEST_OK;
}

static enum request_fault put_op(struct request *q, const char *name, struct err *e)
{
    for (enum op op = OP_INSERT; op <= OP_MESSAGE; op++) {
        if (strcmp(name, op_name(op)) == 0) {
            q->ops |= 1U << op;
            return REQUEST_OK;
        }
    }
    return bad(e, "an operation is insert, update, delete, truncate, read or message, not", name);
}

static enum request_fault put_from(struct request *q, const char *from, struct err *e)
{
    if (strcmp(from, "now") == 0) {
        q->from = FROM_NOW;
    } else if (strcmp(from, "earliest") == 0) {
        q->from = FROM_EARLIEST;
    } else if (cursor_parse(from, strlen(from), &q->cursor)) {
        q->from = FROM_POSITION;
    } else {
        (void)bad(e, "from is now, earliest or a cursor of this protocol, not", from);
        return REQUEST_CURSOR;
    }
    return REQUEST_OK;
}

// ---- JSON ----

static enum request_fault
json_texts(const json_t *list, struct request *q, const char *key,
           enum request_fault (*put)(struct request *, const char *, struct err *), struct err *e)
{
    if (!json_is_array(list))
        return bad(e, "a list of strings is wanted at", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_string(item))
            return bad(e, "a list of strings is wanted at", key);
        enum request_fault fault = put(q, json_string_value(item), e);
        if (fault != REQUEST_OK)
            return fault;
    }
    return REQUEST_OK;
}

static enum request_fault
json_text(const json_t *value, struct request *q, const char *key,
          enum request_fault (*put)(struct request *, const char *, struct err *), struct err *e)
{
    return json_is_string(value) ? put(q, json_string_value(value), e)
                                 : bad(e, "a string is wanted at", key);
}

static enum request_fault json_body(json_t *body, struct request *q, struct err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(body))
        return bad(e, "an object is wanted", "{\"subscribe\":{..}}");
    value = q->kind == REQUEST_ASK ? NULL : json_object_get(body, "id");
    if (value) { // before all else, which may be faulty
        enum request_fault fault = json_text(value, q, "id", put_id, e);
        if (fault != REQUEST_OK)
            return fault;
    }
    json_object_foreach(body, key, value)
    {
        enum request_fault fault = REQUEST_OK;
        bool subscribe = q->kind == REQUEST_SUBSCRIBE;
        if (q->kind != REQUEST_ASK && strcmp(key, "id") == 0)
            continue;
        if (subscribe && strcmp(key, "tables") == 0)
            fault = json_texts(value, q, key, put_table, e);
        else if (subscribe && strcmp(key, "ops") == 0)
            fault = json_texts(value, q, key, put_op, e);
        else if (subscribe && strcmp(key, "from") == 0)
            fault = json_text(value, q, key, put_from, e);
        else
            fault = bad(e, "unknown key", key);
        if (fault != REQUEST_OK)
            return fault;
    }
    return REQUEST_OK;
}

static enum request_fault json_request(json_t *root, struct request *q, struct err *e)
{
    static const struct {
        const char *key;
        enum request_kind kind;
    } kinds[] = {{"subscribe", REQUEST_SUBSCRIBE},
                 {"unsubscribe", REQUEST_UNSUBSCRIBE},
                 {"ask", REQUEST_ASK}};
    if (!json_is_object(root) || json_object_size(root) != 1)
        return bad(e, "a message is an object with one key", "subscribe, unsubscribe or ask");
    void *it = json_object_iter(root);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(json_object_iter_key(it), kinds[i].key) == 0) {
            q->kind = kinds[i].kind;
            return json_body(json_object_iter_value(it), q, e);
        }
    }
    return bad(e, "a message is subscribe, unsubscribe or ask, not", json_object_iter_key(it));
}

enum request_fault request_json(struct slice text, struct request *ret_q, struct err *e)
{
    json_error_t why;
    request_init(ret_q);
    json_t *root = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        (void)err_set(e, ERR_DATA, "not JSON: %.200s (byte %d)", why.text, why.position);
        return REQUEST_MALFORMED;
    }
    enum request_fault fault = json_request(root, ret_q, e);
    json_decref(root);
    if (fault != REQUEST_OK)
        keep_only_id(ret_q);
    return fault;
}

// ---- protobuf ----

static enum request_fault proto_subscribe(const Rowcast__V1__Subscribe *m, struct request *q,
                                          struct err *e)
{
    enum request_fault fault = put_id(q, m->id ? m->id : "", e);
    for (size_t i = 0; i < m->n_table && fault == REQUEST_OK; i++)
        fault = put_table(q, m->table[i], e);
    for (size_t i = 0; i < m->n_op && fault == REQUEST_OK; i++)
        fault = put_op(q, op_name((enum op)m->op[i]), e);
    if (m->from && fault == REQUEST_OK)
        fault = put_from(q, m->from, e);
    return fault;
}

static enum request_fault proto_request(const Rowcast__V1__ClientFrame *m, struct request *q,
                                        struct err *e)
{
    if (m->base.n_unknown_fields)
        return bad(e, "a ClientFrame has one of its fields", "subscribe, unsubscribe or ask");
    switch (m->kind_case) {
    case ROWCAST__V1__CLIENT_FRAME__KIND_SUBSCRIBE:
        if (m->subscribe->base.n_unknown_fields)
            return bad(e, "unknown field in", "Subscribe");
        q->kind = REQUEST_SUBSCRIBE;
        return proto_subscribe(m->subscribe, q, e);
    case ROWCAST__V1__CLIENT_FRAME__KIND_UNSUBSCRIBE:
        q->kind = REQUEST_UNSUBSCRIBE;
        return put_id(q, m->unsubscribe->id ? m->unsubscribe->id : "", e);
    case ROWCAST__V1__CLIENT_FRAME__KIND_ASK:
        q->kind = REQUEST_ASK;
        return REQUEST_OK;
    default:
        return bad(e, "a ClientFrame has one of its fields", "subscribe, unsubscribe or ask");
    }
}

enum request_fault request_proto(struct slice bytes, struct request *ret_q, struct err *e)
{
    Rowcast__V1__ClientFrame *m = rowcast__v1__client_frame__unpack(NULL, bytes.n, bytes.p);
    request_init(ret_q);
    if (!m) {
        (void)err_set(e, ERR_DATA, "not a ClientFrame of rowcast.proto");
        return REQUEST_MALFORMED;
    }
    enum request_fault fault = proto_request(m, ret_q, e);
    rowcast__v1__client_frame__free_unpacked(m, NULL);
    if (fault != REQUEST_OK)
        keep_only_id(ret_q);
    return fault;
}

// ---- a URL's query ----

enum request_fault request_argument(struct request *q, const char *argument, struct err *e)
{
    enum request_fault fault;
    if (strncmp(argument, "table=", 6) == 0)
        fault = put_table(q, argument + 6, e);
    else if (strncmp(argument, "op=", 3) == 0)
        fault = put_op(q, argument + 3, e);
    else if (strncmp(argument, "from=", 5) == 0)
        fault = put_from(q, argument + 5, e);
    else
        fault = bad(e, "a URL's query has table=, op= and from=, not", argument);
    return fault;
}
