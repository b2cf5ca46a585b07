/*
 * Mutations that know a format: what they make is well-formed further in than mutated bytes are,
 * with lengths and checksums that agree, so that it reaches what lies behind the first checks.
 *
 * A target with such mutations links common.c and one file that defines mutate_structure. libFuzzer
 * finds them under the name LLVMFuzzerCustomMutator, and so does driver.c.
 */
#ifndef TESTS_FUZZ_MUTATORS_H
#define TESTS_FUZZ_MUTATORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of mutated bytes, in the driver's or libFuzzer's own ways; returns their new size, at most
   `room`. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);

/* A random number below a bound; 0 for a bound of 0. */
size_t pick(size_t bound);
/* Once in `times`. */
bool once_in(size_t times);
/* A number near to another, or one at which something changes. */
uint64_t other_number(uint64_t number);

/* Bytes that grow; what does not fit is left out, and makes it overflow. */
struct buffer {
    uint8_t *data;
    size_t size, room;
    bool overflows;
};

void put(struct buffer *buffer, const void *data, size_t size);
/* A little-endian integer of some bytes. */
void put_number(struct buffer *buffer, uint64_t number, size_t size);
/* Bytes, mutated on the way in libFuzzer's own ways. */
void put_mutated(struct buffer *buffer, const uint8_t *data, size_t size);
/* Room for `size` bytes; to be freed. */
struct buffer new_buffer(size_t size);

/* Changes something of `data` into `out`; false where `data` does not have the format. */
bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size);

/* The same for parts of files. */
bool mutate_pickle(struct buffer *out, const uint8_t *data, size_t size);
bool mutate_json(struct buffer *out, const uint8_t *data, size_t size);
bool mutate_npy(struct buffer *out, const uint8_t *data, size_t size);

#endif
