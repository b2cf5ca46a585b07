/* An index of safetensors, and two shards, a.safetensors and b.safetensors, beside it. */
static const char *const names[] = {"model.safetensors.index.json", "a.safetensors",
                                    "b.safetensors"};

#include "tests/fuzz/sharded.h"
