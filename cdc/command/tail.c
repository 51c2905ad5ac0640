#include "command/command.h"
#include "sinks/websocket/websocket.h"

#include <signal.h>

static volatile int stop;

static void on_signal(int signal)
{
    (void)signal;
    stop = 1;
}

int command_tail(const struct settings *s, int *ret_status, struct err *e)
{
    struct websocket_tail_options o = {
        .url = s->args.n > 0 ? s->args.items[0] : DEFAULT_ADDRESS,
        .tables = s->tables.items,
        .table_count = s->tables.n,
        .from = s->from ? s->from : "now",
        .json = s->json,
    };
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    *ret_status = 0;
    return websocket_tail(&o, &stop, e);
}
