/*
 * Random numbers by address: a number is a function of seed, sample, tensor name and element alone.
 * Nothing depends on threads, order, ranges or the instruction set.
 *
 * Words are those of Philox4x64-10 (Salmon et al., SC 2011), four of 64 bits in block b:
 *   key     = (seed, 64-bit FNV-1a of the name's bytes)
 *   counter = (b, sample, 0, 0)
 *
 * Normals are those of Threefry4x32 with 13 rounds (the same paper, whose authors know of no flaw
 * from 12 rounds on): additions, rotations and exclusive-ors of 32 bits, of which compilers make
 * vectors. A block has four words:
 *   key     = words 0 and 1 of Philox4x64-10 at counter (0, sample, 1, 0), low halves first
 *   counter = (low half of b, high half of b, 0, 0)
 * Two samples of a seed and a name share their 128 bits of key with a probability of 2^-128, so any
 * two of 2^40 streams with 2^-49, and no other overlap is possible; names collide as above, by
 * their hash. Words 0 and 1 give two normals, and words 2 and 3 likewise (Box & Muller 1958):
 *   r = sqrt(−2 log(1 − w0/2^32)),  φ = 2π w1/2^32,  normals r cos φ, r sin φ
 * so |x| is at most 6.67. Sixteen blocks stand together, so that vectors are stored as they are:
 * normal 64 g + 16 k + j (j < 16, k < 4) is number k of the four of block 16 g + j. Computed in
 * binary32 with a relative error below 2^-21.
 */
#ifndef CORE_RANDOM_H
#define CORE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random_stream {
    uint64_t key[2];
    uint64_t sample;
    uint32_t normal_key[4]; /* of Threefry4x32 */
};

struct random_stream random_stream_of(uint64_t seed, uint64_t sample, const char *name);

/* The words of blocks [first, first + count), four of each. */
void random_words(const struct random_stream *stream, uint64_t first, size_t count, uint64_t *out);

/* out[i] = standard normal number `first + i` of the stream. */
void random_normal(const struct random_stream *stream, uint64_t first, size_t count, float *out);

#endif
