#include "core/random.h"

#include <Random123/philox.h>

#include "core/box_muller.h"
#include "core/dispatch.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the halves of a word: low, then high");

enum {
    WORDS = 4,           /* of a block */
    NORMALS = 2 * WORDS, /* of a block */
    BATCH = 64,          /* blocks at once: they stay in the first-level cache */
};

union words {
    uint64_t whole[BATCH * WORDS];
    uint32_t halves[BATCH * NORMALS];
};

struct random_stream random_stream_of(uint64_t seed, uint64_t sample, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (const unsigned char *byte = (const unsigned char *)name; *byte; byte++)
        hash = (hash ^ *byte) * 0x100000001b3;
    return (struct random_stream){.key = {seed, hash}, .sample = sample};
}

void random_words(const struct random_stream *stream, uint64_t first, size_t count, uint64_t *out)
{
    philox4x64_key_t key = {{stream->key[0], stream->key[1]}};
    for (size_t i = 0; i < count; i++) {
        philox4x64_ctr_t counter = {{first + i, stream->sample, 0, 0}};
        philox4x64_ctr_t words = philox4x64_R(10, counter, key);
        memcpy(out + i * WORDS, words.v, sizeof words.v);
    }
}

IVON_DISPATCH static void box_muller(float *restrict out, const uint32_t *restrict bits,
                                     size_t pairs)
{
    for (size_t i = 0; i < pairs; i++) {
        float cosine, sine, exponential = box_muller_exponential(bits[2 * i]);
        float radius = __builtin_sqrtf(exponential + exponential);
        box_muller_direction(bits[2 * i + 1], &cosine, &sine);
        out[2 * i] = radius * cosine;
        out[2 * i + 1] = radius * sine;
    }
}

void random_normal(const struct random_stream *stream, uint64_t first, size_t count, float *out)
{
    union words words;
    float normals[BATCH * NORMALS];
    uint64_t block = first / NORMALS;
    size_t skip = first % NORMALS;
    while (count) {
        size_t available = (size_t)BATCH * NORMALS - skip;
        size_t chunk = count < available ? count : available;
        size_t blocks = (skip + chunk + NORMALS - 1) / NORMALS;
        random_words(stream, block, blocks, words.whole);
        box_muller(normals, words.halves, blocks * WORDS);
        memcpy(out, normals + skip, chunk * sizeof *out);
        block += blocks;
        skip = 0;
        out += chunk;
        count -= chunk;
    }
}
