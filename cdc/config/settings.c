#include "config/settings.h"

#include "config/file.h"
#include "config/option.h"
#include "config/value.h"

#include <getopt.h>
#include <stdio.h>

// ps must not show it.
static void overwrite(char *text)
{
    memset(text, 'x', strlen(text));
}

// ---- the command line ----

struct words { // what getopt_long is given
    char short_options[8];
    struct option long_options[64];
    const struct option_info *infos[64];
};

static void words_make(struct words *w, enum command command)
{
    size_t n = 0;
    // '-': other words in their order, as option 1; ':': a missing value is told apart.
    snprintf(w->short_options, sizeof w->short_options, "-:h");
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        if (!(o->commands & command))
            continue;
        w->infos[n] = o;
        w->long_options[n++] =
            (struct option){o->name, o->value ? required_argument : optional_argument, NULL, 0};
    }
    w->long_options[n] = (struct option){0};
}

static int option_take(struct settings *s, const struct option_info *o, char *text, struct err *e)
{
    char where[OPTION_ENV_MAX];
    size_t i = (size_t)(o - options);
    snprintf(where, sizeof where, "--%s", o->name);
    if (s->given[i] && o->type != OPTION_LIST)
        return err_set(e, ERR_USAGE, "%s: given twice on the command line", where);
    s->given[i] = true;
    int r = o->split ? value_set_list(s, o, text ? text : "on", where, e)
                     : value_set(s, o, text ? text : "on", where, e);
    if (text && o->secret)
        overwrite(text);
    return r;
}

static int word_take(struct settings *s, const struct command_info *c,
                     const struct option_info *before, const char *word, struct err *e)
{
    bool address = strstr(word, "://") != NULL;
    // Perhaps a part of a connection string: no more than its first name is shown.
    int shown = (int)size_min(strcspn(word, address ? ":" : "="), 200);
    if (c->words_are_tables && !address && before && strcmp(before->name, "table") == 0)
        return value_set(s, before, word, "--table", e);
    if (s->args.n == c->args_max)
        return err_set(e, ERR_USAGE, "%s: \"%.*s\" is not expected here; see rowcast help %s",
                       c->name, shown, word, c->name);
    strings_add(&s->args, word, strlen(word));
    return 0;
}

static int command_line(struct settings *s, const struct command_info *c, int argc, char **argv,
                        struct err *e)
{
    struct words w;
    words_make(&w, c->id);
    const struct option_info *before = NULL; // the option that stands before this word
    optind = 0;                              // glibc: begin anew
    opterr = 0;
    for (;;) {
        int index = -1;
        int at = optind ? optind : 1;
        int r = getopt_long(argc, argv, w.short_options, w.long_options, &index);
        if (r == -1)
            break;
        if (r == 'h') {
            s->help = true;
        } else if (r == 1) {
            if (word_take(s, c, before, optarg, e) != 0)
                return -1;
        } else if (r == 0) {
            before = w.infos[index];
            if (option_take(s, before, optarg, e) != 0)
                return -1;
        } else if (r == ':') {
            return err_set(e, ERR_USAGE, "%.100s: needs a value; see rowcast help %s", argv[at],
                           c->name);
        } else {
            // Up to =, for what follows may be a secret.
            return err_set(e, ERR_USAGE,
                           "%.*s: no such option of %s, or not whole; see rowcast help %s",
                           (int)size_min(strcspn(argv[at], "="), 100), argv[at], c->name, c->name);
        }
    }
    for (; optind < argc; optind++) { // behind "--"
        if (word_take(s, c, NULL, argv[optind], e) != 0)
            return -1;
    }
    return 0;
}

// ---- the environment ----

static int environment(struct settings *s, enum command command, struct err *e)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        char name[OPTION_ENV_MAX];
        char *text = getenv(option_env(o, name));
        if (!text || !*text || !(o->commands & command) || strcmp(o->name, "help") == 0)
            continue;
        if (s->given[i]) { // on the command line
            if (o->secret)
                overwrite(text);
            continue;
        }
        s->given[i] = true;
        int r = o->type == OPTION_LIST ? value_set_list(s, o, text, name, e)
                                       : value_set(s, o, text, name, e);
        if (o->secret)
            overwrite(text);
        if (r != 0)
            return -1;
    }
    return 0;
}

// ---- all of it ----

static void defaults(struct settings *s)
{
    for (size_t i = 0; i < option_count; i++) {
        struct err e;
        if (!s->given[i] && options[i].fallback)
            CHECK(value_set(s, &options[i], options[i].fallback, "default", &e) == 0);
    }
}

int settings_load(struct settings *s, enum command command, int argc, char **argv, struct err *e)
{
    *s = (struct settings){0};
    int r = command_line(s, command_get(command), argc, argv, e);
    if (r == 0 && s->help)
        return 0;
    s->source_on_command_line = s->source;
    if (r == 0)
        r = environment(s, command, e);
    if (r == 0 && s->config)
        r = config_file_load(s, s->config, e);
    if (r != 0) {
        settings_free(s);
        return -1;
    }
    defaults(s);
    return 0;
}

void settings_free(struct settings *s)
{
    for (size_t i = 0; i < option_count; i++) {
        void *field = (char *)s + options[i].field;
        if (options[i].type == OPTION_LIST)
            strings_free(field);
        else if (options[i].type == OPTION_STRING || options[i].type == OPTION_FILE)
            free(*(char **)field);
    }
    strings_free(&s->args);
    *s = (struct settings){0};
}
