#include "core/random.h"

#include <Random123/philox.h>
#include <Random123/threefry.h>

#include "core/box_muller.h"
#include "core/dispatch.h"

enum {
    WORDS = 4,               /* of a block, of either generator */
    ROUNDS = 13,             /* of Threefry4x32 */
    TOGETHER = 16,           /* blocks, whose normals are interleaved */
    GROUP = WORDS * TOGETHER /* normals of these */
};

/* Block `block` of Philox; `purpose` is 0 for words, and 1 for the key of normals. */
static philox4x64_ctr_t random_block(const struct random_stream *stream, uint64_t block,
                                     uint64_t purpose)
{
    philox4x64_key_t key = {{stream->key[0], stream->key[1]}};
    philox4x64_ctr_t counter = {{block, stream->sample, purpose, 0}};
    return philox4x64_R(10, counter, key);
}

struct random_stream random_stream_of(uint64_t seed, uint64_t sample, const char *name)
{
    struct random_stream stream = {.key = {seed, 0xcbf29ce484222325}, .sample = sample};
    for (const unsigned char *byte = (const unsigned char *)name; *byte; byte++)
        stream.key[1] = (stream.key[1] ^ *byte) * 0x100000001b3;
    philox4x64_ctr_t words = random_block(&stream, 0, 1);
    for (int half = 0; half < 4; half++)
        stream.normal_key[half] = (uint32_t)(words.v[half / 2] >> 32 * (half % 2));
    return stream;
}

void random_words(const struct random_stream *stream, uint64_t first, size_t count, uint64_t *out)
{
    for (size_t i = 0; i < count; i++) {
        philox4x64_ctr_t words = random_block(stream, first + i, 0);
        memcpy(out + i * WORDS, words.v, sizeof words.v);
    }
}

static inline void random_pair(uint32_t a, uint32_t b, float *x, float *y)
{
    float cosine, sine, exponential = box_muller_exponential(a);
    float radius = __builtin_sqrtf(exponential + exponential);
    box_muller_direction(b, &cosine, &sine);
    *x = radius * cosine;
    *y = radius * sine;
}

/* The normals of groups [first, first + count). A group's blocks differ in the low half alone. */
IVON_DISPATCH static void random_groups(const uint32_t *restrict given, uint64_t first,
                                        size_t count, float *restrict out)
{
    const threefry4x32_key_t key = {{given[0], given[1], given[2], given[3]}};
    for (uint64_t block = first * TOGETHER; count; count--, block += TOGETHER, out += GROUP)
        for (uint32_t j = 0; j < TOGETHER; j++) {
            threefry4x32_ctr_t counter = {{(uint32_t)block + j, (uint32_t)(block >> 32), 0, 0}};
            threefry4x32_ctr_t words = threefry4x32_R(ROUNDS, counter, key);
            random_pair(words.v[0], words.v[1], &out[j], &out[TOGETHER + j]);
            random_pair(words.v[2], words.v[3], &out[2 * TOGETHER + j], &out[3 * TOGETHER + j]);
        }
}

void random_normal(const struct random_stream *stream, uint64_t first, size_t count, float *out)
{
    float group[GROUP]; /* of which only a part is wanted */
    while (count) {
        size_t skip = first % GROUP, taken = count / GROUP * GROUP;
        if (!skip && taken) {
            random_groups(stream->normal_key, first / GROUP, taken / GROUP, out);
        } else {
            taken = count < GROUP - skip ? count : GROUP - skip;
            random_groups(stream->normal_key, first / GROUP, 1, group);
            memcpy(out, group + skip, taken * sizeof *out);
        }
        first += taken;
        out += taken;
        count -= taken;
    }
}
