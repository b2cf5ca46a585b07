/* Flax's trees in msgpack. */
#include "tests/fuzz/open.h"
