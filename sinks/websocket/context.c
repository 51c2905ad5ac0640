#include "sinks/websocket/context.h"

#include "base/clock.h"
#include "base/log.h"
#include "sinks/websocket/http.h"
#include "sinks/websocket/session.h"

#include <libwebsockets.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HEADER_SECONDS    15  // for a client to finish its request's headers
#define KEEPALIVE_SECONDS 10  // between two requests on one connection
#define RECEIVE_BYTES     256 // a read; allocated for each connection

struct ticker { // the clock of one second
    lws_sorted_usec_list_t timer;
    struct context *c;
};

// ---- the journal's identity, the health ----

bool context_identify(struct context *c, struct journal_identity *ret_id)
{
    if (!journal_identity(c->server->journal, ret_id))
        return false;
    c->frames.json.stream_id = ret_id->stream_id;
    c->frames.json.timeline = ret_id->timeline;
    return true;
}

void context_look_at_identity(struct context *c)
{
    struct journal_identity id;
    uint32_t version = journal_identity_version(c->server->journal);
    if (likely(version == c->identity_version) || !context_identify(c, &id))
        return;
    c->identity_version = version;
    c->observed = (struct position){0, 0}; // positions may have gone back
}

static void look_at_health(struct context *c)
{
    char text[sizeof c->health_text] = "";
    int64_t since_us;
    enum health_state state = health_get(c->server->o.health, &since_us, text, sizeof text);
    if (state == c->health && since_us == c->health_since_us && strcmp(text, c->health_text) == 0)
        return;
    c->health = state;
    c->health_since_us = since_us;
    memcpy(c->health_text, text, sizeof text);
    c->health_version++;
}

// ---- from other threads ----

void context_wake(void *context)
{
    struct context *c = context;
    if (!atomic_exchange(&c->woken, true))
        lws_cancel_service(c->lws);
}

void context_give(struct context *c, int fd)
{
    pthread_mutex_lock(&c->lock);
    buf_put(&c->given, &fd, sizeof fd);
    pthread_mutex_unlock(&c->lock);
    context_wake(c);
}

void context_stop(struct context *c)
{
    c->stopping = true;
    context_wake(c);
}

// ---- the thread ----

static void adopt_given(struct context *c)
{
    pthread_mutex_lock(&c->lock);
    struct buf given = c->given;
    c->given = (struct buf){0};
    pthread_mutex_unlock(&c->lock);
    for (size_t at = 0; at < given.n; at += sizeof(int)) {
        int fd;
        memcpy(&fd, given.p + at, sizeof fd);
        if (!lws_adopt_socket_vhost(c->vhost, fd)) // closes it when it fails
            c->server->sockets--;
    }
    buf_free(&given);
}

static void close_sessions(struct context *c)
{
    if (c->closing)
        return;
    c->closing = true;
    for (struct session *s = c->sessions; s; s = s->next)
        session_close(s, LWS_CLOSE_STATUS_GOINGAWAY, "rowcast is stopping: come again");
}

static void woken(struct context *c)
{
    c->woken = false; // before looking: what comes now wakes again
    adopt_given(c);
    if (c->stopping) {
        close_sessions(c);
        return;
    }
    look_at_health(c);
    context_look_at_identity(c);
    for (struct session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        session_wake(s);
    }
}

// How far the last subscription was at this moment: compared now, for the journal moves on, and a
// client that has everything would seem to be behind by as long as nothing was committed.
static void tell_position(struct context *c, uint64_t newest)
{
    uint64_t position = newest;
    int64_t had_us = 0, now_us = clock_wall_us();
    for (struct session *s = c->sessions; s; s = s->next) {
        for (struct subscription *sub = s->subscriptions; sub; sub = sub->next) {
            if (sub->passed >= newest)
                sub->had_us = now_us;
            if (sub->passed < position) {
                position = sub->passed;
                had_us = sub->had_us;
            }
        }
    }
    c->position = position;
    c->behind = newest - position;
    c->had_us = had_us;
}

static void tick(lws_sorted_usec_list_t *timer)
{
    struct context *c = lws_container_of(timer, struct ticker, timer)->c;
    struct journal_identity id;
    int64_t now = clock_mono_us();
    int slow = 0;
    uint64_t newest =
        context_identify(c, &id) ? journal_latest(c->server->journal).at.lsn : UINT64_MAX;
    for (struct session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        for (struct subscription *sub = s->subscriptions; sub; sub = sub->next)
            slow += sub->slow || s->stalled;
        if (session_tick(s, now))
            lws_set_timeout(s->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
    }
    c->slow = slow;
    tell_position(c, newest); // behind session_tick, which took what there was
    lws_sul_schedule(c->lws, 0, timer, tick, LWS_US_PER_SEC);
}

static void *serve(void *arg)
{
    struct context *c = arg;
    tick(&c->ticker->timer);
    while (!c->stopped && !(c->stopping && c->closing && !c->sessions)) {
        if (lws_service(c->lws, 0) < 0)
            break;
    }
    // No reader may wake a context that is being destroyed.
    for (struct session *s = c->sessions; s; s = s->next)
        session_end(s);
    uint64_t one = 1;
    (void)!write(c->done, &one, sizeof one);
    return NULL;
}

// ---- libwebsockets' callback: only hands on ----

static struct session *session_of(struct lws *wsi)
{
    return lws_get_opaque_user_data(wsi);
}

static int established(struct context *c, struct lws *wsi)
{
    struct request q;
    struct err e = {0};
    enum request_fault fault;
    request_init(&q);
    bool asked = http_query(wsi, &q, &fault, &e);
    bool text = strcmp(lws_get_protocol(wsi)->name, "rowcast.v1.json") == 0;
    struct session *s = session_new(c, wsi, text, asked ? &q : NULL, fault, e.text);
    lws_set_opaque_user_data(wsi, s);
    request_fini(&q);
    if (c->closing)
        session_close(s, LWS_CLOSE_STATUS_GOINGAWAY, "rowcast is stopping: come again");
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in, size_t n)
{
    (void)user;
    struct context *c = lws_context_user(lws_get_context(wsi));
    switch (why) {
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        // Comes once a protocol.
        if (strcmp(lws_get_protocol(wsi)->name, "rowcast.v1.json") == 0)
            woken(c);
        return 0;
    case LWS_CALLBACK_HTTP:
        return http_request(c, wsi);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return http_upgrade(c, wsi, in);
    case LWS_CALLBACK_ESTABLISHED:
        return established(c, wsi);
    case LWS_CALLBACK_RECEIVE:
        return session_received(session_of(wsi), in, n, lws_frame_is_binary(wsi),
                                lws_is_final_fragment(wsi) &&
                                    lws_remaining_packet_payload(wsi) == 0);
    case LWS_CALLBACK_RECEIVE_PONG:
        session_heard(session_of(wsi));
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return session_writeable(session_of(wsi));
    case LWS_CALLBACK_CLOSED:
        session_free(session_of(wsi));
        lws_set_opaque_user_data(wsi, NULL);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        c->server->sockets--;
        return 0;
    case LWS_CALLBACK_RAW_ADOPT: // CONNECT, or what is no HTTP at all
        return -1;
    default:
        return 0;
    }
}

// ---- life ----

static struct lws_context *create(struct context *c)
{
    // Room for the largest frame, else libwebsockets sends 4 KiB a turn and copies the rest.
    static const struct lws_protocols protocols[] = {
        {"rowcast.v1.json", callback, 0, RECEIVE_BYTES, 0, NULL, INT32_MAX / 2},
        {"rowcast.v1.proto", callback, 0, RECEIVE_BYTES, 0, NULL, INT32_MAX / 2},
        {0},
    };
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .user = c,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .alpn = "http/1.1",
        .server_string = "rowcast",
        .options = LWS_SERVER_OPTION_DISABLE_IPV6 | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES,
        .keepalive_timeout = KEEPALIVE_SECONDS,
        .timeout_secs = HEADER_SECONDS,
        .timeout_secs_ah_idle = HEADER_SECONDS,
        .max_http_header_data = REQUEST_HEADERS_MAX,
    };
    struct lws_context *lws = lws_create_context(&info);
    if (!lws)
        return NULL;
    c->vhost = lws_create_vhost(lws, &info);
    if (!c->vhost) {
        lws_context_destroy(lws);
        return NULL;
    }
    return lws;
}

int context_new(struct server *server, struct context **ret_c, struct err *e)
{
    struct context *c = xcalloc(1, sizeof *c);
    c->server = server;
    pthread_mutex_init(&c->lock, NULL);
    c->position = UINT64_MAX;
    c->done = eventfd(0, EFD_CLOEXEC);
    c->scratch = xmalloc(SCRATCH_HEADROOM + SCRATCH_BYTES);
    frame_maker_init(&c->frames, journal_catalog(server->journal), server->o.frame_bytes_max);
    c->frames.borrow = server->context_count == 1;
    look_at_health(c);
    c->ticker = xcalloc(1, sizeof *c->ticker);
    c->ticker->c = c;
    c->lws = create(c);
    if (!c->lws) {
        context_free(c);
        return err_set(e, ERR_INTERNAL,
                       "libwebsockets cannot make a context: out of memory or "
                       "file descriptors");
    }
    health_watch(server->o.health, context_wake, c);
    CHECK(pthread_create(&c->thread, NULL, serve, c) == 0);
    c->running = true;
    *ret_c = c;
    return 0;
}

static void join(struct context *c)
{
    health_unwatch(c->server->o.health, context_wake, c);
    CHECK(pthread_join(c->thread, NULL) == 0);
    c->running = false;
}

void context_wait(struct context *c, int64_t deadline_us)
{
    int64_t left_us = deadline_us - clock_mono_us();
    struct pollfd done = {.fd = c->done, .events = POLLIN};
    if (poll(&done, 1, left_us > 0 ? (int)(left_us / 1000) : 0) > 0)
        join(c);
}

void context_free(struct context *c)
{
    if (!c)
        return;
    if (c->running) {
        c->stopped = true;
        c->woken = false;
        context_wake(c);
        join(c);
    }
    if (c->lws)
        lws_context_destroy(c->lws); // closes what is open
    CHECK(!c->sessions);
    frame_maker_fini(&c->frames);
    for (size_t at = 0; at < c->given.n; at += sizeof(int)) {
        int fd;
        memcpy(&fd, c->given.p + at, sizeof fd);
        close(fd);
    }
    buf_free(&c->given);
    if (c->done >= 0)
        close(c->done);
    pthread_mutex_destroy(&c->lock);
    free(c->ticker);
    free(c->scratch);
    free(c);
}
