/* Taking up the state of a run: see state.h. What is read comes from a file that anyone wrote. Rank
   0 alone reads it, and shares it array by array. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/lanczos.h"
#include "bayes/fit/state.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/ranks.h"

static const char NUMBERS[] = "its numbers are not those of a fit";

/* Adds a hint to an error that is the state's, and returns it. */
static int refuse_state(struct ivon_error *error, int code)
{
    return code == IVON_ERROR_DATA ? ivon_error_hint(error, IVON_HINT_START_ANEW, code) : code;
}

/* Of the only rank that has the source. */
static int refuse_as(const struct ivon_source *source, const char *why, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s",
                          source ? ivon_source_path(source) : "the state", why);
}

static int expect_array(struct ivon_source *source, const struct state_array *array, size_t *index,
                        struct ivon_error *error)
{
    ptrdiff_t found = ivon_source_find(source, IVON_BUFFER, array->name);
    const struct ivon_tensor *tensor = found < 0 ? NULL : ivon_source_tensor(source, (size_t)found);
    *index = (size_t)found;
    if (!tensor)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is no whole state of a fit: no '%s'",
                              ivon_source_path(source), array->name);
    if (tensor->dtype != array->dtype || tensor->count != array->count)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: '%s' has %zu elements of type %s, expected %zu of type %s",
            ivon_source_path(source), array->name, tensor->count, ivon_dtype_name(tensor->dtype),
            array->count, ivon_dtype_name(array->dtype));
    return 0;
}

static int read_array(const struct ivon_fit *fit, struct ivon_source *source,
                      const struct state_array *array, struct ivon_error *error)
{
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    size_t index;
    int code = source ? expect_array(source, array, &index, error) : 0;
    if (!code && source)
        code = ivon_source_read(source, index, 0, array->count, array->data, error);
    return code ? code
                : ivon_ranks_share(ranks, array->data, array->count * ivon_dtype_size(array->dtype),
                                   error);
}

/* Lanczos' vectors, one after the other, of which each rank keeps what it holds. */
static int read_basis(const struct state *state, struct ivon_source *source,
                      struct ivon_error *error)
{
    const struct state_array *array = &state->arrays[state->vectors];
    struct ivon_ranks *ranks = state->fit->options.resources.ranks;
    struct lanczos *lanczos = state->fit->lanczos;
    size_t index, size = lanczos->size;
    int code = source ? expect_array(source, array, &index, error) : 0;
    for (size_t k = 0; k <= lanczos->have && !code; k++) {
        float *whole = lanczos_whole(lanczos, k);
        if (source)
            code = ivon_source_read(source, index, k * size, size, whole, error);
        if (!code)
            code = ivon_ranks_share(ranks, whole, size * sizeof *whole, error);
        if (!code)
            lanczos_take(lanczos, k);
    }
    return code;
}

/* The first line in which two texts differ. */
static int refuse_run(const char *path, const char *found, const char *expected,
                      struct ivon_error *error)
{
    size_t at = 0;
    for (size_t i = 0; found[i] && found[i] == expected[i]; i++)
        at = found[i] == '\n' ? i + 1 : at;
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: is of a fit with '%.*s', expected '%.*s'",
                          path, (int)strcspn(found + at, "\n"), found + at,
                          (int)strcspn(expected + at, "\n"), expected + at);
}

static int check_run(struct ivon_fit *fit, struct ivon_source *source, struct ivon_error *error)
{
    ptrdiff_t index = ivon_source_find(source, IVON_BUFFER, "run");
    const struct ivon_tensor *tensor = index < 0 ? NULL : ivon_source_tensor(source, (size_t)index);
    char found[STATE_RUN_SIZE] = "";
    if (!tensor || tensor->dtype != IVON_U8 || tensor->count >= STATE_RUN_SIZE)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is no state of a fit",
                              ivon_source_path(source));
    int code = state_describe_run(fit, error);
    if (!code)
        code = ivon_source_read(source, (size_t)index, 0, tensor->count, found, error);
    return code || strcmp(found, fit->description) == 0
               ? code
               : refuse_run(ivon_source_path(source), found, fit->description, error);
}

/* Returns whether a run is ever at its position: behind a wave, or of a product behind a tile of a
   block. */
static bool is_boundary(const struct ivon_fit *fit)
{
    const struct lanczos *lanczos = fit->lanczos;
    uint64_t within = lanczos ? fit->position % fit->block % lanczos->product.runner.tile
                              : fit->position % fit->wave;
    return fit->position == fit->data.count || !within;
}

static bool counts_agree(const struct ivon_fit *fit, const int64_t *counts)
{
    for (enum state_count i = 0; i < STATE_COUNTS; i++)
        if (i != STATE_DIGEST && counts[i] < 0)
            return false;
    int64_t stage = counts[STATE_STAGE];
    int64_t last = fit->options.gram   ? FIT_FACTORS
                   : fit->options.rank ? FIT_CORRECTION
                                       : FIT_MOMENTS;
    uint64_t position = (uint64_t)counts[STATE_POSITION];
    uint64_t summed = (uint64_t)counts[STATE_SUMMED];
    bool pass = stage == FIT_FACTORS || stage == FIT_MOMENTS;
    bool chunk = summed % fit->chunk == 0 && summed <= position && position - summed <= fit->chunk;
    uint64_t steps = stage == FIT_CORRECTION ? fit_lanczos_steps(fit) : 1;
    return stage >= (int64_t)fit_first_stage(fit) && stage <= last && position <= fit->data.count &&
           (pass ? chunk : !summed) && (stage != FIT_BASES || !position) &&
           (uint64_t)counts[STATE_STEPS] < steps;
}

static int read_counts(struct state *state, struct ivon_source *source, struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    char name[] = "counts";
    const struct state_array array = {name, IVON_I64, STATE_COUNTS, state->counts};
    int code = read_array(fit, source, &array, error);
    if (!code && !counts_agree(fit, state->counts))
        code = refuse_as(source, "its counts are not those of a fit", error);
    if (code)
        return code;
    fit->stage = (enum fit_stage)state->counts[STATE_STAGE];
    fit->position = (uint64_t)state->counts[STATE_POSITION];
    fit->summed = (uint64_t)state->counts[STATE_SUMMED];
    return 0;
}

/* The digest of the examples that the state was made from: rank 0 goes on with that of the chunk
   that is under way. */
static int check_examples(const struct state *state, struct ivon_source *source,
                          struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    bool under_way = fit->stage == fit_first_stage(fit);
    uint64_t expected, end = under_way ? fit->position : fit->data.count, summed = fit->summed;
    memcpy(&expected, &state->counts[STATE_DIGEST], sizeof expected);
    uint64_t chunks = under_way ? summed / fit->chunk : (end + fit->chunk - 1) / fit->chunk;
    int code = fit_digest_chunks(fit, chunks, error);
    fit->summed = summed;
    if (!code && under_way && source)
        code = fit_digest_range(fit, summed, end, error);
    if (!code && source && state_digest(fit) != expected)
        code = refuse_state(error, ivon_error_set(error, IVON_ERROR_DATA,
                                                  "%s: is of a fit with other examples than the "
                                                  "first %" PRIu64 " of %s",
                                                  ivon_source_path(source), end,
                                                  ivon_examples_path(fit->data.examples)));
    return code;
}

static int read_arrays(struct state *state, struct ivon_source *source, size_t first,
                       struct ivon_error *error)
{
    int code = state->failed ? ivon_error_memory(error) : 0;
    for (size_t i = first; i < state->count && !code; i++)
        code = read_array(state->fit, source, &state->arrays[i], error);
    return code;
}

static bool numbers_agree(const struct state *state)
{
    const struct ivon_fit *fit = state->fit;
    double noise = state->numbers[STATE_NOISE];
    bool tuned = fit->stage == FIT_CORRECTION;
    bool regression = ivon_likelihood_traits(fit->options.task.likelihood)->noise;
    bool fine = !tuned || !regression || (noise > 0 && isfinite(noise));
    for (size_t i = 0; i < state_parts(fit) && tuned; i++)
        fine &= state->decays[i] >= 0 && isfinite(state->decays[i]);
    for (size_t i = 0; i < FIT_SIDES * fit->layer_count; i++)
        fine &= state->decomposed[i] <= 1;
    return fine;
}

/* Sets what is in no array of the fit's own. */
static void state_scatter(const struct state *state)
{
    struct ivon_fit *fit = state->fit;
    fit->loss = state->numbers[STATE_LOSS];
    fit->chunk_loss = state->numbers[STATE_CHUNK_LOSS];
    for (size_t l = 0; l < fit->layer_count; l++)
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            fit->layers[l].factors[side].decomposed = state->decomposed[FIT_SIDES * l + side];
}

/* Reads the correction, once its base is there. */
static int read_correction(struct state *state, struct ivon_source *source,
                           struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    const struct fit_tuned tuned = {state->numbers[STATE_TUNED_LOSS], state->numbers[STATE_NOISE],
                                    state->decays};
    size_t first = state->count;
    int code = fit_tune_restore(fit, &tuned, error);
    if (code == IVON_ERROR_DATA)
        return refuse_as(source, NUMBERS, error);
    if (!code)
        code = fit_lanczos_open(fit, error);
    if (code)
        return code;
    fit->lanczos->have = (size_t)state->counts[STATE_STEPS];
    fit->lanczos->begun = true;
    state_list_correction(state);
    code = state->failed ? ivon_error_memory(error) : read_basis(state, source, error);
    return code ? code : read_arrays(state, source, first + 1, error);
}

static int check_position(const struct ivon_fit *fit, struct ivon_source *source,
                          struct ivon_error *error)
{
    return is_boundary(fit) || !source
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: its sums end with example %" PRIu64 ", expected whole tiles",
                                ivon_source_path(source), fit->position);
}

/* Within a pass there are sums of a chunk. */
static int open_chunk(struct ivon_fit *fit, struct ivon_error *error)
{
    bool pass = fit->stage == FIT_FACTORS || fit->stage == FIT_MOMENTS;
    return pass && fit->position ? fit_chunks_open(fit, error) : 0;
}

static int state_read(struct state *state, struct ivon_source *source, struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    int code = source ? check_run(fit, source, error) : 0;
    if (!code)
        code = read_counts(state, source, error);
    if (!code)
        code = open_chunk(fit, error);
    if (code)
        return code;
    state_list(state);
    code = read_arrays(state, source, 0, error);
    if (!code && !numbers_agree(state))
        code = refuse_as(source, NUMBERS, error);
    if (code)
        return code;
    state_scatter(state);
    if (!source)
        fit_chunks_clear(fit); /* rank 0 goes on with the chunk, others begin theirs */
    if (fit->stage == FIT_CORRECTION)
        code = read_correction(state, source, error);
    if (!code)
        code = check_position(fit, source, error);
    return code;
}

int ivon_fit_resume(struct ivon_fit *fit, struct ivon_source *source, struct ivon_error *error)
{
    struct state state;
    if (!ivon_ranks_rank(fit->options.resources.ranks) != (source != NULL))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "rank 0 alone has the state of a run");
    if (fit->done || fit->position || fit->lanczos)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a run was begun: its state cannot be another's");
    int code = state_init(&state, fit, error);
    if (!code)
        code = refuse_state(error, state_read(&state, source, error));
    if (!code)
        code = check_examples(&state, source, error);
    state_release(&state);
    return code;
}
