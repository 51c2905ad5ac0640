// One error, with a class that tells its caller what to do about it. Filled by the function that
// fails (which returns -1), wrapped on the way up, logged once where the decision is taken.
#pragma once

#include "base/base.h"

enum err_class {
    ERR_NONE = 0,
    ERR_RETRY,  // passes by itself: a lost connection, a slot in use, a full disk
    ERR_USAGE,  // the command line or the configuration
    ERR_SOURCE, // the server refuses until somebody changes something there
    // Continuity cannot be kept:
    ERR_SLOT_LOST,     // the slot, or what follows a position, is gone
    ERR_SLOT_INVALID,  // the server has invalidated the slot
    ERR_SLOT_CONSUMED, // somebody else consumed it
    ERR_PROMOTED,      // the server was promoted without the slot
    ERR_RESTORED,      // the server is an older copy: its WAL ends before what the journal has
    ERR_DIVERGED,      // the server's timeline left the journal's before what that has
    ERR_OTHER_SYSTEM,  // it is another server, or a database that was made anew

    ERR_DATA,     // the same input fails again and again
    ERR_JOURNAL,  // the journal directory: unwritable, corrupt, foreign
    ERR_IN_USE,   // another process has it
    ERR_LISTEN,   // the port is in use, or the address is not ours
    ERR_KAFKA,    // Kafka refuses until somebody changes something there
    ERR_INTERNAL, // ours
};

struct err {
    enum err_class class;
    char text[1024]; // object, cause, remedy; one line, no secret
};

// Sets class and text; returns -1.
int err_set(struct err *e, enum err_class class, const char *fmt, ...) PRINTF_LIKE(3, 4);
// As err_set, with ": strerror(errno)" behind it.
int err_errno(struct err *e, enum err_class class, const char *fmt, ...) PRINTF_LIKE(3, 4);
// Puts context in front ("open segment 0001.seg: "); returns -1.
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
// The process's exit status for an error of this class; README.md lists them.
int err_exit_code(enum err_class class);
const char *err_class_name(enum err_class class);
