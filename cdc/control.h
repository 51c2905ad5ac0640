// The control socket: how `rowcast status` and its like reach a process that runs. A Unix socket
// named `control` in the journal's directory, for that directory's owner alone.
//
// One connection is one question: a line "verb argument\n" of at most 4 KiB. The answer is "ok\n"
// and a text, or "error CLASS\n" (err_class_name) and why; the connection's end ends it.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define CONTROL_FILE        "control"
#define CONTROL_REQUEST_MAX 4096              // bytes with the newline; more is refused
#define CONTROL_REPLY_MAX   (4u << 20)        // bytes; an asker gives up behind that
#define CONTROL_CLIENTS_MAX 8                 // at once; one more ends the oldest
#define CONTROL_PATIENCE_US INT64_C(5000000)  // for a client to ask and to take its answer
#define CONTROL_ASK_US      INT64_C(10000000) // for an asker to get one

// What answers a verb. run is called on the control thread and must not block for long: others wait
// meanwhile. It puts a text to `out` (0), or fails (-1, e says why; out is dropped).
struct control_handler {
    const char *verb;
    int (*run)(void *arg, const char *argument, struct buf *out, struct err *e);
    void *arg;
};

struct control;

// Listens in directory `dir`, whose lock the caller holds (a socket that a killed process left is
// replaced), and starts the thread. The handlers are the caller's, until control_close.
// ERR_JOURNAL: no socket can be made there.
int control_open(const char *dir, const struct control_handler *handlers, size_t n,
                 struct control **ret_c, struct err *e) MUST_CHECK;
// Ends the thread, removes the socket. NULL is fine.
void control_close(struct control *c);

// Asks the process that holds the journal in `dir`; its text is appended to reply. Waits at most
// CONTROL_ASK_US. ERR_JOURNAL: nobody runs there, or it does not answer; else what it said.
int control_ask(const char *dir, const char *verb, const char *argument, struct buf *reply,
                struct err *e) MUST_CHECK;
