#include "sinks/kafka/kafka.h"
