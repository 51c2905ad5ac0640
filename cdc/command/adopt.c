#include "command/command.h"
#include "journal/journal.h"

#include <unistd.h>

int command_adopt(const struct settings *s, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    struct journal *j = NULL;
    const struct journal_options o = {.dir = s->journal, .sync = true};
    if (command_need_source(s, "adopt", e) != 0)
        return -1;
    if (!command_given(s, "journal"))
        return err_set(e, ERR_USAGE, "adopt: say --journal DIR: whose history is continued");
    if (access(s->journal, F_OK) != 0) // else it would be made
        return err_errno(e, ERR_JOURNAL, "journal directory %s", s->journal);
    if (journal_open(&o, &j, e) != 0)
        return -1;
    struct source_options source = command_source_options(s);
    int r = source_adopt(&source, j, &out, e);
    struct err failed;
    if (r == 0 && journal_failed(j, &failed)) {
        *e = failed;
        r = -1;
    }
    journal_close(j); // writes what was appended
    if (r != 0)
        return -1;
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
