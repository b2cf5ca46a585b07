/* What every fuzz target defines, for driver.c and for libFuzzer (led.c). */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0 when the input was accepted, -1 when it was refused. Anything else that happens to be
   wrong ends the process. */
int fuzz_one(const uint8_t *data, size_t size);

/* watch.c: before the first input, and after each: ends the process when a process that it started
   for the library met a sanitizer in the library's own code. */
void watch_begin(void);
void watch_check(void);
/* In such a process: a signal that our code raises counts as well. */
void watch_signals(void);

#endif
