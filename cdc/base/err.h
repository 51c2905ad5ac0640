// One error, with a class that tells its caller what to do about it. Filled by the function that
// fails (which returns -1), wrapped on the way up, logged once where the decision is taken.
#pragma once

#include "base/base.h"

enum err_class {
    ERR_NONE = 0,
    ERR_RETRY,     // passes by itself: a lost connection, a slot in use, a full disk
    ERR_USAGE,     // the command line or the configuration
    ERR_SOURCE,    // the server refuses until somebody changes something there
    ERR_SLOT_LOST, // continuity cannot be kept: slot lost, or consumed by somebody else
    ERR_DATA,      // the same input fails again and again
    ERR_JOURNAL,   // the journal directory: unwritable, corrupt, foreign, in use
    ERR_LISTEN,    // the port is in use, or the address is not ours
    ERR_KAFKA,     // Kafka refuses until somebody changes something there
    ERR_INTERNAL,  // ours
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
