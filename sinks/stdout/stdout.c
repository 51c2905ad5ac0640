#include "sinks/stdout/stdout.h"
