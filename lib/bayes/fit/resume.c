/* Taking up the state of a run: see state.h. What is read comes from a file that anyone wrote. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/lanczos.h"
#include "bayes/fit/state.h"
#include "core/digest.h"
#include "core/error.h"

/* Adds a hint to an error that is the state's, and returns it. */
static int refuse_state(struct ivon_error *error, int code)
{
    return code == IVON_ERROR_DATA ? ivon_error_hint(error, IVON_HINT_START_ANEW, code) : code;
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

static int read_array(struct ivon_source *source, const struct state_array *array,
                      struct ivon_error *error)
{
    size_t index;
    int code = expect_array(source, array, &index, error);
    return code ? code : ivon_source_read(source, index, 0, array->count, array->data, error);
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

/* Returns whether a run is ever at `position` within a block of whole waves. */
static bool is_boundary(const struct ivon_fit *fit, uint64_t position, size_t wave)
{
    return position == fit->data.count ||
           (position < fit->data.count && position % fit->block % wave == 0);
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
    uint64_t digested = (uint64_t)counts[STATE_DIGESTED], count = fit->data.count;
    bool passed = stage > (int64_t)fit_first_stage(fit); /* the data, once */
    bool read = passed ? digested == count : digested >= position && digested <= count;
    uint64_t steps = stage == FIT_CORRECTION ? fit_lanczos_steps(fit) : 1;
    return stage >= (int64_t)fit_first_stage(fit) && stage <= last && read &&
           (digested == count || digested % fit->block == 0) && position <= count &&
           (stage != FIT_BASES || !position) && (uint64_t)counts[STATE_STEPS] < steps;
}

static int read_counts(struct state *state, struct ivon_source *source, struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    char name[] = "counts";
    const struct state_array array = {name, IVON_I64, STATE_COUNTS, state->counts};
    int code = read_array(source, &array, error);
    if (!code && !counts_agree(fit, state->counts))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: its counts are not those of a fit",
                              ivon_source_path(source));
    if (code)
        return code;
    fit->stage = (enum fit_stage)state->counts[STATE_STAGE];
    fit->position = (uint64_t)state->counts[STATE_POSITION];
    return 0;
}

/* The digest of the examples that the state was made from. */
static int check_examples(const struct state *state, struct ivon_source *source,
                          struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    uint64_t expected, digested = (uint64_t)state->counts[STATE_DIGESTED];
    int code = 0;
    memcpy(&expected, &state->counts[STATE_DIGEST], sizeof expected);
    while (fit->digested < digested && !code) {
        code = labelled_load(&fit->data, &fit->runner, fit->digested, error);
        if (code)
            break;
        state_digest_block(fit);
        code = progress_ask(&fit->options.resources.progress, error);
    }
    if (!code && (fit->digest != expected || fit->digested != digested))
        code = refuse_state(error, ivon_error_set(error, IVON_ERROR_DATA,
                                                  "%s: is of a fit with other examples than the "
                                                  "first %" PRIu64 " of %s",
                                                  ivon_source_path(source), digested,
                                                  ivon_examples_path(fit->data.examples)));
    return code;
}

static int read_arrays(struct state *state, struct ivon_source *source, size_t first,
                       struct ivon_error *error)
{
    int code = state->failed ? ivon_error_memory(error) : 0;
    for (size_t i = first; i < state->count && !code; i++)
        code = read_array(source, &state->arrays[i], error);
    return code;
}

static int refuse_numbers(const struct ivon_source *source, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: its numbers are not those of a fit",
                          ivon_source_path(source));
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
    for (size_t l = 0; l < fit->layer_count; l++) {
        fit->layers[l].rows = state->rows[l];
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            fit->layers[l].factors[side].decomposed = state->decomposed[FIT_SIDES * l + side];
    }
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
        return refuse_numbers(source, error);
    if (!code)
        code = fit_lanczos_open(fit, error);
    if (code)
        return code;
    fit->lanczos->have = (size_t)state->counts[STATE_STEPS];
    fit->lanczos->begun = true;
    state_list_correction(state);
    return read_arrays(state, source, first, error);
}

static int check_position(const struct ivon_fit *fit, struct ivon_source *source,
                          struct ivon_error *error)
{
    const struct runner *runner = fit->lanczos ? &fit->lanczos->product.runner : &fit->runner;
    size_t wave = runner->tile * (fit->lanczos ? 1 : (size_t)fit->lanes);
    return is_boundary(fit, fit->position, wave)
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: its sums end with example %" PRIu64 ", expected whole tiles",
                                ivon_source_path(source), fit->position);
}

static int state_read(struct state *state, struct ivon_source *source, struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    int code = check_run(fit, source, error);
    if (!code)
        code = read_counts(state, source, error);
    if (code)
        return code;
    state_list(state);
    code = read_arrays(state, source, 0, error);
    if (!code && !numbers_agree(state))
        code = refuse_numbers(source, error);
    if (code)
        return code;
    state_scatter(state);
    if (fit->stage == FIT_CORRECTION)
        code = read_correction(state, source, error);
    if (!code)
        code = check_position(fit, source, error);
    return code;
}

int ivon_fit_resume(struct ivon_fit *fit, struct ivon_source *source, struct ivon_error *error)
{
    struct state state;
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
