#include "proto/types.h"
