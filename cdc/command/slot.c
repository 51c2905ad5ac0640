#include "command/command.h"

int command_slot(const struct settings *s, int *ret_status, struct err *e)
{
    const char *what = s->args.n > 0 ? s->args.items[0] : "";
    if (strcmp(what, "drop") != 0)
        return err_set(e, ERR_USAGE, "slot: say drop, and --slot NAME unless it is the default");
    if (command_need_source(s, "slot drop", e) != 0)
        return -1;
    AUTO_BUF struct buf out = {0};
    struct source_options source = command_source_options(s);
    if (source_drop_slot(&source, &out, e) != 0)
        return -1;
    buf_puts(&out, "left as they are: the publications, the journal's directory\n");
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
