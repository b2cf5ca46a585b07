/* An index of Keras' weights, and two shards, a.weights.h5 and b.weights.h5, beside it. */
static const char *const names[] = {"model.weights.json", "a.weights.h5", "b.weights.h5"};

#include "tests/fuzz/sharded.h"
