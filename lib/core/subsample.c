/* A subset of examples, chosen or random, as a set of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/examples.h"

enum { BLOCK = 256 /* blocks of random words drawn at a time */, WORDS = 4 * BLOCK };

struct subsample {
    struct ivon_examples *all;
    uint64_t *chosen; /* ascending */
};

static int subsample_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                          struct ivon_error *error)
{
    const struct subsample *subsample = self;
    const uint64_t *chosen = subsample->chosen + first;
    const struct ivon_field *stored = ivon_examples_field(subsample->all, field);
    size_t size = stored->count * ivon_dtype_size(stored->dtype);
    int code = 0;
    for (size_t done = 0, run; done < count && !code; done += run) {
        for (run = 1; done + run < count && chosen[done + run] == chosen[done] + run;)
            run++;
        code = examples_read_stored(subsample->all, field, chosen[done], run,
                                    (char *)buffer + done * size, error);
    }
    return code;
}

static uint64_t subsample_number(const void *self, uint64_t example)
{
    const struct subsample *subsample = self;
    return ivon_examples_number(subsample->all, subsample->chosen[example]);
}

static const char *const *subsample_characters(const void *self, size_t *count)
{
    const struct subsample *subsample = self;
    return ivon_examples_characters(subsample->all, count);
}

static void subsample_close(void *self)
{
    struct subsample *subsample = self;
    free(subsample->chosen);
    free(subsample);
}

/*
 * Selection sampling (Knuth, TAOCP vol. 2, algorithm 3.4.2 S): of `left` examples, `wanted` are
 * still to be taken, so the next is with probability wanted/left. Decided by a 64-bit word, whose
 * remainder favours low values by less than left/2^64.
 */
void examples_choose(uint64_t *chosen, uint64_t wanted, uint64_t total,
                     const struct random_stream *stream)
{
    uint64_t words[WORDS];
    for (uint64_t i = 0; i < total && wanted; i++) {
        if (i % WORDS == 0)
            random_words(stream, i / 4, BLOCK, words);
        if (words[i % WORDS] % (total - i) < wanted) {
            *chosen++ = i;
            wanted--;
        }
    }
}

/* Makes the set of those chosen, which it takes over in any case. */
static int subsample_new(struct ivon_examples **out, struct ivon_examples *all, const char *path,
                         uint64_t *chosen, uint64_t count, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {.read = subsample_read,
                                                     .close = subsample_close,
                                                     .number = subsample_number,
                                                     .characters = subsample_characters};
    struct subsample *subsample = calloc(1, sizeof *subsample);
    int code = subsample ? 0 : ivon_error_memory(error);
    if (!code) {
        *subsample = (struct subsample){all, chosen};
        code = examples_new_like(out, &class, subsample, path, all, count, -1, error);
    }
    if (code) {
        free(subsample);
        free(chosen);
    }
    return code;
}

int ivon_examples_subsample(struct ivon_examples **out, struct ivon_examples *all, uint64_t count,
                            uint64_t seed, struct ivon_error *error)
{
    uint64_t total = ivon_examples_count(all);
    char path[256];
    snprintf(path, sizeof path, "%.200s (subsample)", ivon_examples_path(all));
    if (count > total || !count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: has %llu examples, not %llu",
                              ivon_examples_path(all), (unsigned long long)total,
                              (unsigned long long)count);
    uint64_t *chosen = calloc(count, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    const struct random_stream stream = random_stream_of(seed, 0, "subsample");
    examples_choose(chosen, count, total, &stream);
    return subsample_new(out, all, path, chosen, count, error);
}

int ivon_examples_select(struct ivon_examples **out, struct ivon_examples *all,
                         const uint64_t *rows, uint64_t count, struct ivon_error *error)
{
    uint64_t total = ivon_examples_count(all);
    for (uint64_t i = 0; i < count; i++)
        if (rows[i] >= total || (i && rows[i] <= rows[i - 1]))
            return ivon_error_set(
                error, IVON_ERROR_ARGUMENT,
                "%s: example %llu is selected, expected rising numbers below %llu",
                ivon_examples_path(all), (unsigned long long)rows[i], (unsigned long long)total);
    if (!count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no example is selected",
                              ivon_examples_path(all));
    uint64_t *chosen = calloc(count, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    memcpy(chosen, rows, count * sizeof *chosen);
    return subsample_new(out, all, ivon_examples_path(all), chosen, count, error);
}
