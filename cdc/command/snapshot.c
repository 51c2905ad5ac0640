#include "command/command.h"
#include "control.h"

int command_snapshot(const struct settings *s, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    if (s->args.n != 1)
        return err_set(e, ERR_USAGE, "snapshot: say which table");
    if (control_ask(s->journal, "snapshot", s->args.items[0], &out, e) != 0)
        return -1;
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
