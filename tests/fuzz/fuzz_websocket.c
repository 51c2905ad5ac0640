// What a WebSocket client may send, in both forms, and the headers that guard the door. The first
// byte chooses.
#include "sinks/websocket/guard.h"
#include "sinks/websocket/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(enum request_fault fault, struct request *q, const struct err *e)
{
    CHECK(strlen(q->id) <= REQUEST_ID_MAX);
    if (fault != REQUEST_OK) {
        CHECK(e->text[0] != 0 && !q->tables);
        return;
    }
    CHECK(q->kind <= REQUEST_ASK);
    CHECK(q->table_count <= REQUEST_TABLES_MAX);
    for (size_t i = 0; i < q->table_count; i++)
        CHECK(*q->tables[i] && strlen(q->tables[i]) <= REQUEST_GLOB_MAX);
    request_fini(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct request q;
    struct err e = {0};
    request_init(&q);
    struct slice rest = {data + 1, n - 1};
    char *text = xstrndup((const char *)rest.p, rest.n);
    char *names[] = {(char *)"db.example"};
    struct guard g = {names, 1, names, 1};
    switch (data[0] % 4) {
    case 0:
        use(request_json(rest, &q, &e), &q, &e);
        break;
    case 1:
        use(request_proto(rest, &q, &e), &q, &e);
        break;
    case 2:
        (void)request_argument(&q, text, &e);
        request_fini(&q);
        break;
    default:
        (void)guard_host(&g, text, "10.0.0.1");
        (void)guard_origin(&g, text, "localhost:7654");
        (void)guard_origin(&g, "http://localhost:7654", text);
    }
    free(text);
    return 0;
}
