/* What every fuzz target defines, under the name that libFuzzer looks for. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0 when the input was accepted, -1 when it was refused. Anything else that happens to be
   wrong ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
