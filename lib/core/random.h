/*
 * Random numbers by address (Philox4x64-10; Salmon et al., SC 2011): a number is a function of
 * seed, sample, tensor name and element alone. Nothing depends on threads, order, ranges or the
 * instruction set.
 *
 * Normals 8b … 8b + 7 of a stream come from one block of Philox4x64-10, four 64-bit words:
 *   key     = (seed, 64-bit FNV-1a of the name's bytes)
 *   counter = (b, sample, 0, 0)
 * Word w, whose low half is the number lo and whose high half is hi, gives two (Box & Muller 1958):
 *   r = sqrt(−2 log(1 − lo/2^32)),  φ = 2π hi/2^32
 *   normal 8b + 2w = r cos φ,  normal 8b + 2w + 1 = r sin φ
 * so |x| is at most 6.67. Computed in binary32 with a relative error below 2^-21.
 */
#ifndef CORE_RANDOM_H
#define CORE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random_stream {
    uint64_t key[2];
    uint64_t sample;
};

struct random_stream random_stream_of(uint64_t seed, uint64_t sample, const char *name);

/* The words of blocks [first, first + count), four of each. */
void random_words(const struct random_stream *stream, uint64_t first, size_t count, uint64_t *out);

/* out[i] = standard normal number `first + i` of the stream. */
void random_normal(const struct random_stream *stream, uint64_t first, size_t count, float *out);

#endif
