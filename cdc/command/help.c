#include "config/help.h"

#include "command/command.h"

int command_help(const struct settings *s, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    const char *topic = s->args.n > 0 ? s->args.items[0] : NULL;
    const struct command_info *c = topic ? command_find(topic) : NULL;
    if (!topic)
        help_overview(&out);
    else if (c)
        help_command(&out, c);
    else if (strcmp(topic, "config") == 0)
        help_example_file(&out);
    else if (strcmp(topic, "options") == 0)
        help_markdown(&out);
    else
        return err_set(e, ERR_USAGE, "help: \"%.100s\" is no command; rowcast help lists them",
                       topic);
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
