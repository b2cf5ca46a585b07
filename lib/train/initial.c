#include "train/initial.h"

#include <math.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"

static double fan_in(int rank, const int64_t *shape)
{
    double product = 1;
    for (int i = 1; i < rank; i++)
        product *= (double)shape[i];
    return product;
}

static double fan_out(int rank, const int64_t *shape)
{
    return rank > 1 ? fan_in(rank, shape) / (double)shape[1] * (double)shape[0] : (double)shape[0];
}

struct initial initial_kaiming(int rank, const int64_t *shape)
{
    return (struct initial){.kind = INITIAL_NORMAL, .scale = sqrt(2 / fan_in(rank, shape))};
}

struct initial initial_xavier(int rank, const int64_t *shape)
{
    double fans = fan_in(rank, shape) + fan_out(rank, shape);
    return (struct initial){.kind = INITIAL_UNIFORM, .scale = sqrt(6 / fans)};
}

struct initial initial_linear(int rank, const int64_t *shape)
{
    return (struct initial){.kind = INITIAL_UNIFORM, .scale = 1 / sqrt(fan_in(rank, shape))};
}

const char *ivon_initial_name(enum ivon_initial initial)
{
    static const char *const names[] = {[IVON_INITIAL_KEEP] = "keep",
                                        [IVON_INITIAL_KAIMING] = "kaiming",
                                        [IVON_INITIAL_XAVIER] = "xavier",
                                        [IVON_INITIAL_NORMAL] = "normal"};
    return (size_t)initial < sizeof names / sizeof *names ? names[initial] : NULL;
}

struct initial initial_apply_scheme(enum ivon_initial scheme, struct initial own, int rank,
                                    const int64_t *shape)
{
    if (scheme == IVON_INITIAL_KEEP || own.kind == INITIAL_ZEROS || own.kind == INITIAL_ONES ||
        own.table)
        return own;
    if (rank < 2)
        return (struct initial){.kind = INITIAL_ZEROS};
    if (scheme == IVON_INITIAL_KAIMING)
        return initial_kaiming(rank, shape);
    if (scheme == IVON_INITIAL_XAVIER)
        return initial_xavier(rank, shape);
    return (struct initial){.kind = INITIAL_NORMAL, .scale = 0.02};
}

static void fill_uniform(const struct random_stream *stream, float scale, uint64_t first,
                         size_t count, float *out)
{
    enum { WORDS = 4, BLOCKS = 32, HALVES = 2 * WORDS * BLOCKS };
    uint64_t words[BLOCKS * WORDS];
    uint64_t block = UINT64_MAX; /* the first block in `words`; none yet */
    for (size_t i = 0; i < count; i++) {
        uint64_t at = first + i, wanted = at / HALVES * BLOCKS;
        if (wanted != block)
            random_words(stream, block = wanted, BLOCKS, words);
        uint64_t word = words[at % HALVES / 2];
        uint32_t half = (uint32_t)(at % 2 ? word >> 32 : word);
        out[i] = scale * ((float)(half >> 8) * 0x1p-23F - 1); /* exact up to the product */
    }
}

void initial_fill(const struct initial *rule, uint64_t seed, const char *name, uint64_t first,
                  size_t count, float *out)
{
    struct random_stream stream = random_stream_of(seed, UINT64_MAX, name);
    float scale = (float)rule->scale;
    if (rule->kind == INITIAL_UNIFORM)
        fill_uniform(&stream, scale, first, count, out);
    else if (rule->kind == INITIAL_NORMAL)
        random_normal(&stream, first, count, out);
    for (size_t i = 0; rule->kind == INITIAL_NORMAL && i < count; i++)
        out[i] *= scale;
    for (size_t i = 0; rule->kind <= INITIAL_ONES && i < count; i++)
        out[i] = rule->kind == INITIAL_ONES ? 1 : 0;
}
