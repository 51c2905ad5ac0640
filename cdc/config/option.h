// The one table of options: it feeds the command line, the environment, the configuration file,
// --help, the example file and the README's reference.
#pragma once

#include "config/settings.h"

enum command {
    COMMAND_RUN = 1,
    COMMAND_TAIL = 2,
    COMMAND_CHECK = 4,
    COMMAND_SCHEMA = 8,
    COMMAND_JOURNAL = 16,
    COMMAND_VERSION = 32,
    COMMAND_HELP = 64,
    COMMAND_STATUS = 128,
    COMMAND_SLOT = 256,
    COMMAND_SNAPSHOT = 512,
    COMMAND_ATTACH = 1024,
    COMMAND_DETACH = 2048,
    COMMAND_ADOPT = 4096,
};
#define COMMAND_ALL 8191

// What a command is called and takes; what it does stands in cdc/command.
struct command_info {
    enum command id;
    const char *name;
    const char *usage;     // lines behind "rowcast NAME "
    const char *summary;   // one line
    const char *text;      // paragraphs of its help
    unsigned args_max;     // words without an option's name
    bool words_are_tables; // a word behind --table is a further table
};

extern const struct command_info commands[];
extern const size_t command_count;
const struct command_info *command_find(const char *name); // NULL: there is none
const struct command_info *command_get(enum command id);

enum option_type {
    OPTION_SWITCH,   // bool; on the command line the name alone switches it on
    OPTION_BOOLEAN,  // bool
    OPTION_INTEGER,  // int64_t
    OPTION_BYTES,    // int64_t
    OPTION_DURATION, // int64_t, microseconds
    OPTION_ENUM,     // int, the index in `choices`
    OPTION_STRING,   // char *
    OPTION_FILE,     // char *
    OPTION_LIST,     // struct strings
};

struct option_info {
    const char *group; // heading in the help
    const char *name;  // "journal-size"; ROWCAST_JOURNAL_SIZE; journal-size = ..
    const char *value; // its name in the usage; NULL: a switch
    enum option_type type;
    unsigned commands;           // enum command
    size_t field;                // offset in struct settings
    const char *fallback;        // default, as one would write it; NULL: none (list: empty)
    const char *const *choices;  // OPTION_ENUM: NULL-terminated
    int64_t min, max;            // numbers
    const char *none;            // a number: the word that means 0
    char separator;              // OPTION_LIST: between items in the environment
    bool split;                  // .. and on the command line too
    bool secret;                 // the value is never shown
    bool no_file;                // not a matter of the configuration file
    bool (*valid)(const char *); // NULL: any text but an empty one
    const char *accepts;         // in words, what `valid` takes
    const char *example;         // in the example file, where there is no default
    const char *help;
};

extern const struct option_info options[];
extern const size_t option_count;
const struct option_info *option_find(const char *name); // NULL: there is none
// "ROWCAST_JOURNAL_SIZE"
#define OPTION_ENV_MAX 64
const char *option_env(const struct option_info *o, char buf[OPTION_ENV_MAX]);
