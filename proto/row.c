#include "proto/row.h"
