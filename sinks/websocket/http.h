// The HTTP side: who may come in, and what is served besides /v1/stream.
#pragma once

#include "sinks/websocket/context.h"
#include "sinks/websocket/request.h"

struct lws;

// An answer; `body` is owned by whoever made it.
struct http_answer {
    int status;
    const char *type; // of the content
    bool page;        // a file of the page: a browser may ask again whether it changed
    struct buf body;
};

// GET of anything but the stream. Pure but for the journal, health and metrics that it shows.
void http_get(struct context *c, const char *path, char *const *tables, size_t table_count,
              struct http_answer *a);

// Counts a request that was refused.
void http_refused(const char *why);

// LWS_CALLBACK_HTTP: answers. Returns what the callback returns.
int http_request(struct context *c, struct lws *wsi);
// LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: 0 lets it through; else it was answered.
int http_upgrade(struct context *c, struct lws *wsi, const char *to);
// The query of an admitted upgrade. False when the URL asks for nothing.
bool http_query(struct lws *wsi, struct request *q, enum request_fault *ret_fault, struct err *e);
