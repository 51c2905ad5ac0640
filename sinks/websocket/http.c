#include "sinks/websocket/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/json.h"
#include "proto/schema.h"
#include "sinks/websocket/page.h"
#include "sinks/websocket/tables.h"

#include <libwebsockets.h>
#include <stdio.h>
#include <strings.h>

#define HEADER_MAX 512

static const char text_plain[] = "text/plain; charset=utf-8";
static const char text_json[] = "application/json";

// ---- writing an answer ----

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 426:
        return "Upgrade Required";
    default:
        return "Service Unavailable";
    }
}

// Sends the whole answer and ends the transaction. We write it ourselves: libwebsockets answers a
// refused upgrade with HTTP/1.0, which clients of WebSockets do not accept.
static int http_send(struct lws *wsi, const struct http_answer *a, bool head)
{
    AUTO_BUF struct buf out = {0};
    buf_room(&out, LWS_PRE + HEADER_MAX + a->body.n);
    out.n = LWS_PRE;
    buf_printf(&out,
               "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Cache-Control: %s\r\nX-Content-Type-Options: nosniff\r\n",
               a->status, reason(a->status), a->type, a->body.n, a->page ? "no-cache" : "no-store");
    if (a->page)
        buf_puts(&out, "Content-Security-Policy: default-src 'none'; script-src 'self'; "
                       "style-src 'self'; img-src data:; connect-src 'self' ws: wss:; "
                       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n");
    if (a->status == 405)
        buf_puts(&out, "Allow: GET, HEAD\r\n");
    if (a->status == 426)
        buf_puts(&out, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n");
    if (a->status == 503)
        buf_puts(&out, "Retry-After: 1\r\n");
    buf_puts(&out, "\r\n");
    if (!head)
        buf_put(&out, a->body.p, a->body.n);
    size_t n = out.n - LWS_PRE;
    if (lws_write(wsi, out.p + LWS_PRE, n, LWS_WRITE_HTTP_FINAL) < (int)n)
        return -1;
    return 0;
}

static void refuse(struct http_answer *a, int status, const char *why)
{
    a->status = status;
    a->type = text_plain;
    buf_clear(&a->body);
    buf_printf(&a->body, "%s\n", why);
}

// ---- reading a request ----

// A header's value, or NULL when there is none (or it is absurdly long: then *ret_long).
static const char *header(struct lws *wsi, enum lws_token_indexes token, char text[HEADER_MAX],
                          bool *ret_long)
{
    int n = lws_hdr_total_length(wsi, token);
    if (n <= 0)
        return NULL;
    if (lws_hdr_copy(wsi, text, HEADER_MAX, token) < 0) {
        *ret_long = true;
        return NULL;
    }
    return text;
}

void http_refused(const char *why)
{
    AUTO_BUF struct buf labels = {0};
    metrics_label(&labels, "reason", why);
    metric_add(metric_new(METRIC_COUNTER, "rowcast_websocket_refused_total",
                          "Requests refused, by reason.", buf_cstr(&labels), 1),
               1);
}

// Host and Origin. False: the answer says why.
static bool admitted(struct context *c, struct lws *wsi, struct http_answer *a)
{
    const struct guard *g = &c->server->guard;
    char host_text[HEADER_MAX], origin_text[HEADER_MAX], local[ADDRESS_TEXT_MAX];
    bool too_long = false;
    const char *host = header(wsi, WSI_TOKEN_HOST, host_text, &too_long);
    const char *origin = header(wsi, WSI_TOKEN_ORIGIN, origin_text, &too_long);
    listen_local(lws_get_socket_fd(wsi), local);
    if (too_long || !guard_host(g, host, local)) {
        http_refused("host");
        refuse(a, 403,
               "this Host is not one that rowcast answers to; if it is yours, name it with "
               "--allow-host");
        return false;
    }
    if (!guard_origin(g, origin, host)) {
        http_refused("origin");
        refuse(a, 403,
               "pages of this Origin may not read from rowcast; if they should, name it with "
               "--allow-origin");
        return false;
    }
    return true;
}

static bool is_path(struct lws *wsi, const char *path)
{
    char text[HEADER_MAX];
    bool too_long = false;
    const char *uri = header(wsi, WSI_TOKEN_GET_URI, text, &too_long);
    return uri && strcmp(uri, path) == 0;
}

// ---- what is served ----

static void put_cursor(struct buf *out, const char *key, const struct cursor *cursor)
{
    char text[CURSOR_TEXT_MAX];
    cursor_text(cursor, text);
    buf_printf(out, ",\"%s\":\"%s\"", key, text);
}

static void put_health(struct context *c, struct buf *out)
{
    char text[512], since[CLOCK_TEXT_MAX];
    int64_t since_us;
    enum health_state state = health_get(c->server->o.health, &since_us, text, sizeof text);
    clock_text(since_us, since);
    buf_printf(out, "\"state\":\"%s\",\"since\":\"%s\",\"text\":", health_state_name(state), since);
    json_string(out, text, strlen(text));
    char warning[1024];
    health_warning(c->server->o.health, warning, sizeof warning);
    if (!*warning)
        return;
    buf_puts(out, ",\"warning\":");
    json_string(out, warning, strlen(warning));
}

static void get_ready(struct context *c, struct http_answer *a)
{
    enum health_state state = health_get(c->server->o.health, NULL, NULL, 0);
    if (state != HEALTH_LIVE && state != HEALTH_DETACHED) // all is as it is meant to be
        a->status = 503;
    a->type = text_json;
    buf_putc(&a->body, '{');
    put_health(c, &a->body);
    buf_puts(&a->body, "}\n");
}

static void get_status(struct context *c, struct http_answer *a)
{
    struct buf *out = &a->body;
    struct journal *j = c->server->journal;
    struct journal_identity id;
    a->type = text_json;
    buf_puts(out, "{\"server\":\"rowcast/" ROWCAST_VERSION "\",");
    put_health(c, out);
    if (journal_identity(j, &id)) {
        struct cursor earliest = journal_earliest(j), latest = journal_latest(j);
        buf_printf(out,
                   ",\"stream\":\"%016lx\",\"timeline\":%u,\"slot\":", (unsigned long)id.stream_id,
                   id.timeline);
        json_string(out, id.name, strlen(id.name));
        put_cursor(out, "earliest", &earliest);
        put_cursor(out, "latest", &latest);
    }
    size_t n;
    const struct relation **tables = tables_newest(journal_catalog(j), NULL, 0, &n);
    buf_puts(out, ",\"tables\":[");
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_putc(out, ',');
        json_string(out, tables[i]->table, strlen(tables[i]->table));
    }
    buf_puts(out, "]}\n");
    free(tables);
}

static void get_schema(struct context *c, char *const *globs, size_t glob_count,
                       struct http_answer *a)
{
    size_t n;
    const struct relation **tables =
        tables_newest(journal_catalog(c->server->journal), globs, glob_count, &n);
    a->type = text_plain;
    schema_render(&a->body, tables, n, false);
    free(tables);
}

void http_get(struct context *c, const char *path, char *const *tables, size_t table_count,
              struct http_answer *a)
{
    const struct page_file *file = c->server->o.test_page ? page_find(path) : NULL;
    a->status = 200;
    a->type = text_plain;
    if (file) {
        a->type = file->type;
        a->page = true;
        buf_put(&a->body, file->p, file->n);
    } else if (strcmp(path, "/healthz") == 0) {
        buf_puts(&a->body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        get_ready(c, a);
    } else if (strcmp(path, "/metrics") == 0) {
        a->type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_render(&a->body);
    } else if (strcmp(path, "/v1/status") == 0) {
        get_status(c, a);
    } else if (strcmp(path, "/v1/schema") == 0) {
        get_schema(c, tables, table_count, a);
    } else if (strcmp(path, "/v1/stream") == 0) {
        refuse(a, 426, "this is a WebSocket: ws://HOST:PORT/v1/stream?table=public.*&from=now");
    } else {
        refuse(a, 404,
               "there are /, /v1/stream (WebSocket), /v1/status, /v1/schema, /healthz, /readyz "
               "and /metrics");
    }
}

int http_request(struct context *c, struct lws *wsi)
{
    struct http_answer a = {.status = 200, .type = text_plain};
    struct request q;
    char *uri, path[HEADER_MAX];
    int n, method = lws_http_get_uri_and_method(wsi, &uri, &n);
    bool head = method == LWSHUMETH_HEAD;
    if (method < 0 || n < 0)
        return -1;
    snprintf(path, sizeof path, "%.*s", n, uri);
    request_init(&q);
    enum request_fault fault;
    struct err e;
    if (strcmp(path, "/healthz") != 0 && !admitted(c, wsi, &a))
        ;
    else if (method != LWSHUMETH_GET && !head)
        refuse(&a, 405, "only GET is served");
    else if (http_query(wsi, &q, &fault, &e) && fault != REQUEST_OK)
        refuse(&a, 400, e.text);
    else
        http_get(c, path, q.tables, q.table_count, &a);
    int r = http_send(wsi, &a, head);
    request_fini(&q);
    buf_free(&a.body);
    if (r != 0 || lws_http_transaction_completed(wsi))
        return -1;
    return 0;
}

bool http_query(struct lws *wsi, struct request *q, enum request_fault *ret_fault, struct err *e)
{
    char argument[REQUEST_HEADERS_MAX]; // as large as any: one that is cut would be ignored
    bool any = false;
    *ret_fault = REQUEST_OK;
    for (int i = 0, n; (n = lws_hdr_copy_fragment(wsi, argument, sizeof argument,
                                                  WSI_TOKEN_HTTP_URI_ARGS, i)) >= 0;
         i++) {
        if (n == 0)
            continue;
        any = true;
        enum request_fault fault = request_argument(q, argument, e);
        if (fault != REQUEST_OK)
            *ret_fault = fault;
        if (fault == REQUEST_BAD)
            break;
    }
    return any;
}

// ---- upgrades ----

// Whether a comma-separated list has the item.
static bool list_has(const char *list, const char *item)
{
    size_t n = strlen(item);
    while (*list) {
        list += strspn(list, ", \t");
        size_t length = strcspn(list, ", \t");
        if (length == n && strncasecmp(list, item, n) == 0)
            return true;
        list += length;
    }
    return false;
}

static bool well_formed(struct lws *wsi, const char *to, struct http_answer *a)
{
    char text[HEADER_MAX];
    bool too_long = false;
    const char *version, *protocols, *connection;
    if (strcasecmp(to, "websocket") != 0) {
        refuse(a, 400, "only an upgrade to websocket is served");
        return false;
    }
    connection = header(wsi, WSI_TOKEN_CONNECTION, text, &too_long);
    // libwebsockets looks at the first 127 bytes only.
    if (!connection || strlen(connection) > 120 || !list_has(connection, "upgrade") ||
        !header(wsi, WSI_TOKEN_KEY, text, &too_long)) {
        refuse(a, 400,
               "not a WebSocket handshake: Connection: Upgrade or Sec-WebSocket-Key is "
               "missing");
        return false;
    }
    version = header(wsi, WSI_TOKEN_VERSION, text, &too_long);
    if (!version || strcmp(version, "13") != 0) {
        refuse(a, 426, "WebSocket version 13 is served");
        return false;
    }
    protocols = header(wsi, WSI_TOKEN_PROTOCOL, text, &too_long);
    if (too_long ||
        (protocols && (strlen(protocols) > 120 || (!list_has(protocols, "rowcast.v1.json") &&
                                                   !list_has(protocols, "rowcast.v1.proto"))))) {
        refuse(a, 400, "the subprotocols are rowcast.v1.json and rowcast.v1.proto");
        return false;
    }
    return true;
}

static bool has_room(struct context *c, struct http_answer *a)
{
    int64_t open = metric_get(c->server->metrics.connections);
    if (open < (int64_t)c->server->o.connections_max)
        return true;
    http_refused("connections");
    refuse(a, 503, "rowcast has as many connections as it may: see --connections-max");
    return false;
}

static bool claimed(struct context *c, struct http_answer *a)
{
    struct journal_identity id;
    if (context_identify(c, &id))
        return true;
    http_refused("no_stream");
    refuse(a, 503,
           "rowcast has never reached its PostgreSQL server: there is no stream yet; /readyz says "
           "how it stands");
    return false;
}

static bool well_asked(struct lws *wsi, struct http_answer *a)
{
    struct request q;
    struct err e;
    enum request_fault fault;
    request_init(&q);
    bool bad = http_query(wsi, &q, &fault, &e) && fault == REQUEST_BAD;
    request_fini(&q);
    if (bad)
        refuse(a, 400, e.text);
    return !bad;
}

int http_upgrade(struct context *c, struct lws *wsi, const char *to)
{
    struct http_answer a = {.status = 400, .type = text_plain};
    if (!is_path(wsi, "/v1/stream"))
        refuse(&a, 404, "WebSockets are served at /v1/stream");
    else if (admitted(c, wsi, &a) && well_formed(wsi, to, &a) && has_room(c, &a) &&
             claimed(c, &a) && well_asked(wsi, &a))
        return 0;
    int r = http_send(wsi, &a, false);
    buf_free(&a.body);
    return r != 0 ? -1 : 1;
}
