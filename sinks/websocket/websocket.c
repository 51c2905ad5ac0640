#include "sinks/websocket/websocket.h"
