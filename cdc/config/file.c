// libConfuse parses, we set: its value callback (one call a value) hands each text to value_set and
// keeps what went wrong, for libConfuse itself only prints. The file is read by us, not by
// libConfuse: with a limit, without its expansion of ~, and without the comments, which throw its
// count of lines off.
#include "config/file.h"

#include "config/value.h"

#include <confuse.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// libConfuse's callbacks have no argument of ours.
static struct {
    struct settings *s;
    const char *path;
    bool above[64]; // given on the command line or in the environment: checked, then dropped
    unsigned line[64];
    unsigned values[64];
    size_t last; // option that a value was read for last, once there is one
    bool failed;
    struct err *e;
} load;

static size_t index_of(const cfg_opt_t *opt)
{
    const struct option_info *o = option_find(opt->name);
    CHECK(o);
    return (size_t)(o - options);
}

static void on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    if (load.failed) // what follows from the first one
        return;
    load.failed = true;
    char text[512];
    // libConfuse's own literals, by way of its interface.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    vsnprintf(text, sizeof text, fmt, ap);
#pragma GCC diagnostic pop
    // A misquoted secret: the token that was not understood may be a part of it.
    const struct option_info *last = &options[load.last];
    if (load.values[load.last] > 0 && last->secret &&
        (load.line[load.last] == (unsigned)cfg->line || strstr(text, "unexpected token"))) {
        (void)err_set(
            load.e, ERR_USAGE,
            "%s:%d: not understood after \"%s\" (not shown here): put its value in double "
            "quotes, with a comma between the values of a list",
            load.path, cfg->line, last->name);
        return;
    }
    const char *hint = strstr(text, "no such option")
                           ? "; `rowcast help config` prints every option there is"
                           : "";
    (void)err_set(load.e, ERR_USAGE, "%s:%d: %s%s", load.path, cfg->line, text, hint);
}

// Called by libConfuse with each value; -1 ends its parsing.
static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    size_t i = index_of(opt);
    const struct option_info *o = &options[i];
    // An assignment empties a list first: a first value again is a key again.
    if (load.values[i] > 0 && (o->type != OPTION_LIST || opt->nvalues == 1)) {
        load.failed = true;
        return err_set(load.e, ERR_USAGE, "%s:%d: \"%s\" was already set in line %u: remove one",
                       load.path, cfg->line, o->name, load.line[i]);
    }
    load.values[i]++;
    load.last = i;
    load.line[i] = (unsigned)cfg->line;

    struct settings dropped = {0};
    AUTO_FREE char *where = xasprintf("%s:%d: %s", load.path, cfg->line, o->name);
    int r = value_set(load.above[i] ? &dropped : load.s, o, value, where, load.e);
    settings_free(&dropped);
    load.failed |= r != 0;
    load.s->given[i] |= r == 0;
    *(const char **)result = value;
    return r;
}

// A list that was set and then set to {}: the one repetition that on_value does not see.
static int emptied(cfg_t *cfg, struct err *e)
{
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].type == OPTION_LIST && !options[i].no_file &&
            cfg_size(cfg, options[i].name) != load.values[i])
            return err_set(e, ERR_USAGE, "%s:%u: \"%s\" is set again further down: remove one",
                           load.path, load.line[i], options[i].name);
    }
    return 0;
}

// Overwrites # comments with spaces. libConfuse would take // for one too, also in a URL without
// quotes.
static int blank_comments(char *text, struct err *e)
{
    unsigned line = 1;
    for (char *at = text, quote = 0; *at; at++) {
        line += *at == '\n';
        if (quote && *at == '\\' && at[1]) {
            line += *++at == '\n';
        } else if (*at == quote) {
            quote = 0;
        } else if (quote) {
            continue;
        } else if (*at == '"' || *at == '\'') {
            quote = *at;
        } else if (*at == '#') {
            memset(at, ' ', strcspn(at, "\n"));
        } else if (*at == '/' && (at[1] == '/' || at[1] == '*')) {
            return err_set(e, ERR_USAGE,
                           "%s:%u: %.2s outside of quotes: put a value that has it in double "
                           "quotes; comments begin with #",
                           load.path, line, at);
        }
    }
    return 0;
}

int config_text_load(struct settings *s, const char *path, const char *text, struct err *e)
{
    cfg_opt_t opts[64];
    size_t n = 0;
    CHECK(option_count < ARRAY_LEN(opts));
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        if (o->no_file)
            continue;
        if (o->type == OPTION_LIST)
            opts[n++] = (cfg_opt_t)CFG_STR_LIST_CB(o->name, NULL, CFGF_NODEFAULT, on_value);
        else
            opts[n++] = (cfg_opt_t)CFG_STR_CB(o->name, NULL, CFGF_NODEFAULT, on_value);
    }
    opts[n] = (cfg_opt_t)CFG_END();

    memset(&load, 0, sizeof load);
    load.s = s;
    load.path = path;
    load.e = e;
    memcpy(load.above, s->given, sizeof load.above);
    AUTO_FREE char *plain = xstrdup(text);
    if (blank_comments(plain, e) != 0)
        return -1;
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    CHECK(cfg);
    cfg_set_error_function(cfg, on_error);
    int r = plain[0] ? cfg_parse_buf(cfg, plain) : CFG_SUCCESS;
    if (r != CFG_SUCCESS && !load.failed)
        (void)err_set(e, ERR_USAGE, "%s:%d: not understood", path, cfg->line);
    else if (r == CFG_SUCCESS && emptied(cfg, e) != 0)
        r = CFG_PARSE_ERROR;
    cfg_free(cfg);
    return r == CFG_SUCCESS ? 0 : -1;
}

int config_file_load(struct settings *s, const char *path, struct err *e)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_USAGE, "configuration file %s", path);
    AUTO_FREE char *text = xmalloc(CONFIG_FILE_BYTES_MAX + 1);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n <= CONFIG_FILE_BYTES_MAX;) {
        got = read(fd, text + n, CONFIG_FILE_BYTES_MAX + 1 - n);
        if (got < 0)
            return err_errno(e, ERR_USAGE, "configuration file %s", path);
        n += (size_t)got;
    }
    if (n > CONFIG_FILE_BYTES_MAX)
        return err_set(e, ERR_USAGE, "configuration file %s: larger than 1 MiB", path);
    text[n] = 0;
    if (strlen(text) != n)
        return err_set(e, ERR_USAGE, "configuration file %s: holds a NUL byte: not a text", path);
    return config_text_load(s, path, text, e);
}
