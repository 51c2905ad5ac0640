#include "proto/batch.h"
