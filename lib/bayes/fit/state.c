/* How far a run is, and what is saved of it: see state.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bayes/fit/lanczos.h"
#include "bayes/fit/state.h"
#include "bayes/transfer.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/ranks.h"

enum { SAVING_SHARE = 20, HASHED = 1 << 18 /* elements at a time */ };

/* Stages. */

enum fit_stage fit_first_stage(const struct ivon_fit *fit)
{
    bool rotated = fit->options.gram;
    for (size_t i = 0; i < fit->layer_count; i++)
        rotated |= fit->layers[i].factors[FIT_INPUT].rotated ||
                   fit->layers[i].factors[FIT_OUTPUT].rotated;
    return rotated ? FIT_FACTORS : FIT_MOMENTS;
}

size_t fit_passes_before(const struct ivon_fit *fit, enum fit_stage stage)
{
    size_t factors = fit_first_stage(fit) == FIT_FACTORS, moments = !fit->options.gram;
    return stage == FIT_CORRECTION ? factors + moments : stage == FIT_FACTORS ? 0 : factors;
}

/* Time. */

static double state_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void fit_state_start(struct ivon_fit *fit)
{
    fit->saved = state_now();
    fit->saving = 0;
    fit->stopping = false;
}

static bool time_has_come(const struct ivon_fit *fit)
{
    double seconds = fit->options.save_seconds, least = SAVING_SHARE * fit->saving;
    return !seconds || state_now() - fit->saved >= fmax(seconds, least);
}

bool fit_state_due(struct ivon_fit *fit)
{
    bool first = !ivon_ranks_rank(fit->options.resources.ranks);
    return fit->options.save && (fit->stopping || (first && time_has_come(fit)));
}

/* The run that a state is of. */

/* Digests a tensor, by name and elements. */
static int digest_tensor(struct ivon_source *source, size_t index, uint64_t *digest,
                         struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    unsigned char *block = NULL;
    const unsigned char *at;
    int code = 0;
    *digest = digest_add(*digest, tensor->name, strlen(tensor->name));
    for (size_t first = 0; first < tensor->count && !code; first += HASHED) {
        size_t count = tensor->count - first < HASHED ? tensor->count - first : HASHED;
        code = transfer_fetch(source, index, first, count, HASHED, &block, &at, error);
        if (!code)
            *digest = digest_add(*digest, at, count * ivon_dtype_size(tensor->dtype));
    }
    free(block);
    return code;
}

static int digest_source(const struct ivon_fit *fit, uint64_t *digest, struct ivon_error *error)
{
    bool own = fit->options.structure == IVON_FIT_POSTERIOR;
    int code = 0;
    *digest = DIGEST_START;
    for (size_t i = 0; i < ivon_source_tensor_count(fit->source) && !code; i++) {
        enum ivon_part part = ivon_source_tensor(fit->source, i)->part;
        if (part == IVON_MEAN || part == IVON_BUFFER || (part == IVON_HESSIAN && own))
            code = digest_tensor(fit->source, i, digest, error);
    }
    return code;
}

static int describe_options(const struct ivon_fit *fit, char *text, size_t size)
{
    const struct ivon_fit_options *options = &fit->options;
    const struct ivon_task *task = &options->task;
    return snprintf(
        text, size,
        "version %s\nlikelihood %s\nnoise_std %.17g\nignored label %" PRId64
        "\nstructure %d\nrank %zu\ncurvature %d\nfisher_samples %zu\nseed %" PRIu64
        "\nshared %d\nmoments %d\ngram %d\nmax_factor %zu\ness %.17g\n"
        "weight_decay %.17g\none for each Hessian %d\ntiles of %zu examples\n"
        "%d tiles at a time\n%zu examples in memory\n%" PRIu64 " examples\n%.17g targets\n",
        ivon_version(), ivon_likelihood_traits(task->likelihood)->name, task->noise_std,
        task->ignored, (int)options->structure, options->rank, (int)options->curvature,
        options->draws, options->seed, options->reduce, options->factor_moments, options->gram,
        options->factor_rows, options->ess, options->weight_decay, options->each, fit->runner.tile,
        fit->lanes, fit->block, fit->data.count, fit->n_train);
}

int state_describe_run(struct ivon_fit *fit, struct ivon_error *error)
{
    uint64_t weights;
    if (fit->description)
        return 0;
    int code = digest_source(fit, &weights, error);
    char *text = code ? NULL : malloc(STATE_RUN_SIZE);
    if (!text)
        return code ? code : ivon_error_memory(error);
    int length = describe_options(fit, text, STATE_RUN_SIZE);
    snprintf(text + length, STATE_RUN_SIZE - (size_t)length,
             "parameters %016" PRIx64 "\nweights %016" PRIx64 "\nnetwork %016" PRIx64 "\n",
             digest_add(DIGEST_START, fit->random, fit->network->parameter_count), weights,
             digest_add(DIGEST_START, fit->options.run, fit->options.run_size));
    fit->description = text;
    return 0;
}

/* Example by example, whatever blocks they were read in. */
static void digest_examples(struct ivon_fit *fit, uint64_t first, uint64_t end)
{
    const struct labelled *data = &fit->data;
    size_t targets = outputs_targets(&fit->outputs);
    uint64_t digest = fit->chunk_digest;
    for (size_t e = (size_t)(first - data->first); e < (size_t)(end - data->first); e++) {
        for (size_t i = 0; i < fit->network->input_count; i++) {
            const struct feed_field *input = &data->feed.inputs[i];
            size_t size = input->count * net_type_size(input->type);
            digest = digest_add(digest, (const char *)input->data + e * size, size);
        }
        if (data->labels)
            digest = digest_add(digest, data->labels + e * targets, targets * sizeof *data->labels);
        if (data->numbers)
            digest = digest_add(digest, data->numbers + e * targets,
                                targets * sizeof *data->numbers);
    }
    fit->chunk_digest = digest;
}

void fit_state_read(struct ivon_fit *fit, uint64_t first, uint64_t end)
{
    if (fit->options.save && fit->stage == fit_first_stage(fit))
        digest_examples(fit, first, end);
}

int fit_digest_range(struct ivon_fit *fit, uint64_t first, uint64_t end, struct ivon_error *error)
{
    int code = 0;
    for (; first < end && !code; first += fit->block) {
        uint64_t left = end - first;
        fit->data.limit = left < fit->block ? (size_t)left : fit->block;
        code = labelled_load(&fit->data, &fit->runner, first, error);
        if (!code)
            digest_examples(fit, first, first + fit->data.present);
        if (!code)
            code = progress_ask(&fit->options.resources.progress, error);
    }
    fit->data.limit = fit->data.capacity;
    return code;
}

uint64_t state_digest(const struct ivon_fit *fit)
{
    return fit->stage == fit_first_stage(fit)
               ? digest_add(fit->digest, &fit->chunk_digest, sizeof fit->chunk_digest)
               : fit->digest;
}

/* The list. */

static void state_add(struct state *state, const char *kind, const char *name,
                      enum ivon_dtype dtype, size_t count, void *data)
{
    if (state->count == state->capacity) {
        size_t capacity = 2 * state->capacity + 16;
        struct state_array *arrays = realloc(state->arrays, capacity * sizeof *arrays);
        if (!arrays) {
            state->failed = true;
            return;
        }
        state->arrays = arrays;
        state->capacity = capacity;
    }
    if (state->failed || !count)
        return;
    struct state_array *array = &state->arrays[state->count];
    size_t size = strlen(kind) + strlen(name) + 2;
    *array = (struct state_array){.dtype = dtype, .count = count, .data = data};
    array->name = malloc(size);
    if (!array->name) {
        state->failed = true;
        return;
    }
    snprintf(array->name, size, "%s%s%s", kind, *name ? "/" : "", name);
    state->count++;
}

static void list_curvature(struct state *state)
{
    static const char *const factors[] = {"factor_input", "factor_output"};
    static const char *const spectra[] = {"spectrum_input", "spectrum_output"};
    const struct ivon_fit *fit = state->fit;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        const char *name = fit_name(fit, layer->weight);
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++) {
            const struct fit_factor *factor = &layer->factors[side];
            if (!factor->rotated)
                continue;
            state_add(state, factors[side], name, IVON_F32, factor->rows * factor->rows,
                      factor->matrix);
            if (fit->stage >= FIT_BASES)
                state_add(state, spectra[side], name, IVON_F32, factor->rows, factor->spectrum);
        }
        if (fit->stage >= FIT_MOMENTS) {
            state_add(state, "moment", name, IVON_F32, layer->outputs * layer->columns, layer->h);
            state_add(state, "gradient", name, IVON_F32, layer->outputs * layer->columns,
                      layer->gradient);
        }
    }
    for (size_t p = 0; p < fit->network->parameter_count && fit->stage >= FIT_MOMENTS; p++)
        if (fit->diagonal[p])
            state_add(state, "moment", fit_name(fit, p), IVON_F32, fit->parameter_counts[p],
                      fit->diagonal[p]);
    if (fit->stage >= FIT_MOMENTS)
        state_add(state, "diagonal_gradient", "", IVON_F32, fit->diagonal_count,
                  fit->diagonal_gradient);
}

/* The sums of the chunk under way, by the numbers that they have. */
static void list_chunk(struct state *state)
{
    const struct ivon_fit *fit = state->fit;
    char number[24];
    for (size_t i = 0; i < fit->sum_count; i++) {
        snprintf(number, sizeof number, "%zu", i);
        state_add(state, "chunk", number, IVON_F32, fit->sums[i].count, *fit->sums[i].part);
    }
}

void state_list_correction(struct state *state)
{
    struct lanczos *lanczos = state->fit->lanczos;
    const struct whitened *product = &lanczos->product;
    bool alone = !state->fit->options.resources.ranks;
    state->vectors = state->count;
    state_add(state, "lanczos/vectors", "", IVON_F32, (lanczos->have + 1) * lanczos->size,
              alone ? lanczos->basis : NULL);
    state_add(state, "lanczos/alpha", "", IVON_F64, lanczos->have * lanczos->steps, lanczos->alpha);
    state_add(state, "lanczos/sums", "", IVON_F64, product->direction.size / sizeof(float),
              product->sums);
}

void state_release(struct state *state)
{
    for (size_t i = 0; i < state->count; i++)
        free(state->arrays[i].name);
    free(state->arrays);
    free(state->decays);
    free(state->decomposed);
}

int state_init(struct state *state, struct ivon_fit *fit, struct ivon_error *error)
{
    size_t layers = fit->layer_count;
    *state = (struct state){.fit = fit};
    state->decomposed = calloc(layers + 1, FIT_SIDES);
    state->decays = calloc(layers + fit->network->parameter_count + 1, sizeof *state->decays);
    return state->decomposed && state->decays ? 0 : ivon_error_memory(error);
}

size_t state_parts(const struct ivon_fit *fit)
{
    size_t count = fit->layer_count;
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        count += fit->diagonal[p] != NULL;
    return count;
}

void state_list(struct state *state)
{
    const struct ivon_fit *fit = state->fit;
    state_add(state, "numbers", "", IVON_F64, STATE_NUMBERS, state->numbers);
    state_add(state, "decomposed", "", IVON_U8, FIT_SIDES * fit->layer_count, state->decomposed);
    list_curvature(state);
    list_chunk(state);
    if (fit->stage == FIT_CORRECTION)
        state_add(state, "decays", "", IVON_F64, state_parts(fit), state->decays);
}

/* Saving. */

static void state_gather(struct state *state)
{
    const struct ivon_fit *fit = state->fit;
    int64_t *counts = state->counts;
    counts[STATE_STAGE] = (int64_t)fit->stage;
    counts[STATE_POSITION] = (int64_t)fit->position;
    counts[STATE_SUMMED] = (int64_t)fit->summed;
    uint64_t digest = state_digest(fit);
    memcpy(&counts[STATE_DIGEST], &digest, sizeof digest);
    counts[STATE_STEPS] = (int64_t)lanczos_done(fit);
    state->numbers[STATE_LOSS] = fit->loss;
    state->numbers[STATE_CHUNK_LOSS] = fit->chunk_loss;
    state->numbers[STATE_TUNED_LOSS] = fit->evidence.loss;
    state->numbers[STATE_NOISE] = fit->evidence.noise;
    for (size_t l = 0; l < fit->layer_count; l++)
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            state->decomposed[FIT_SIDES * l + side] = fit->layers[l].factors[side].decomposed;
    for (size_t i = 0; i < fit->evidence.count; i++)
        state->decays[i] = fit->evidence.parts[i].decay;
}

static int state_source(const struct state *state, struct ivon_source **source,
                        struct ivon_error *error)
{
    const struct ivon_header header = ivon_header_empty();
    struct ivon_tensor *tensors = calloc(state->count + 1, sizeof *tensors);
    const void **data = calloc(state->count + 1, sizeof *data);
    int code = tensors && data ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < state->count && !code; i++) {
        const struct state_array *array = &state->arrays[i];
        data[i] = array->data;
        tensors[i] = (struct ivon_tensor){.name = array->name,
                                          .part = IVON_BUFFER,
                                          .dtype = array->dtype,
                                          .rank = 1,
                                          .shape = {(int64_t)array->count},
                                          .count = array->count,
                                          .ess = NAN,
                                          .weight_decay = NAN};
    }
    if (!code)
        code = ivon_source_from_memory(source, ivon_source_path(state->fit->source), &header,
                                       tensors, data, state->count, error);
    free(tensors);
    free(data);
    return code;
}

/* Makes a source of a correction's state, whose vectors all ranks hold: they call this together. */
static int state_open_vectors(struct ivon_fit *fit, size_t index, struct ivon_source *memory,
                              struct ivon_source **source, struct ivon_error *error)
{
    struct vectors_tensor vectors = lanczos_tensor(fit->lanczos);
    const struct vectors_set set = {fit->options.resources.ranks, fit->lanczos->size, &vectors, 1};
    vectors.index = index;
    return vectors_open(source, &set, memory, 0, error);
}

/* Makes the source of rank 0. */
static int state_open(struct state *state, struct ivon_source **source, struct ivon_error *error)
{
    struct ivon_fit *fit = state->fit;
    int code = state_describe_run(fit, error);
    if (code)
        return code;
    state_gather(state);
    state_add(state, "run", "", IVON_U8, strlen(fit->description), fit->description);
    state_add(state, "counts", "", IVON_I64, STATE_COUNTS, state->counts);
    state_list(state);
    if (fit->stage == FIT_CORRECTION)
        state_list_correction(state);
    code = state->failed ? ivon_error_memory(error) : state_source(state, source, error);
    return code || fit->stage != FIT_CORRECTION
               ? code
               : state_open_vectors(fit, state->vectors, *source, source, error);
}

static int state_save(struct ivon_fit *fit, struct ivon_error *error)
{
    struct state state;
    struct ivon_source *source = NULL;
    double begun = state_now();
    if (fit->stage == fit_first_stage(fit) && !fit->position)
        return 0;                                      /* nothing was done yet */
    if (ivon_ranks_rank(fit->options.resources.ranks)) /* rank 0 has all else */
        return fit->stage == FIT_CORRECTION ? state_open_vectors(fit, 0, NULL, &source, error) : 0;
    int code = state_init(&state, fit, error);
    if (!code)
        code = state_open(&state, &source, error);
    if (!code)
        code = fit->options.save(fit->options.save_context, source, error);
    ivon_source_close(source);
    state_release(&state);
    fit->saved = state_now();
    fit->saving = fit->saved - begun;
    return code;
}

int fit_state_ask(struct ivon_fit *fit, struct ivon_error *error)
{
    if (!fit->options.save)
        return progress_ask(&fit->options.resources.progress, error);
    if (progress_ask(&fit->options.resources.progress, NULL))
        fit->stopping = true;
    return 0;
}

/* Saves the state if that is due, and ends the run if it is stopped. */
static int state_settle(struct ivon_fit *fit, bool due, struct ivon_error *error)
{
    int code = due ? state_save(fit, error) : 0;
    return code            ? code
           : fit->stopping ? ivon_error_set(error, IVON_ERROR_CANCELLED, "interrupted")
                           : 0;
}

int fit_state_offer(struct ivon_fit *fit, struct ivon_error *error)
{
    if (!fit->options.save)
        return 0;
    fit_state_ask(fit, error);
    return state_settle(fit, fit_state_due(fit), error);
}

int fit_state_leave(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    if (code != IVON_ERROR_CANCELLED || !fit->options.save)
        return code;
    int saved = state_save(fit, error);
    return saved ? saved : code;
}

/* The report of a rank to all. */
struct state_report {
    bool left;     /* its step was stopped, and added to no sum */
    bool stopping; /* it was asked to stop */
    bool due;      /* the state is to be saved */
};

int fit_state_meet(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    struct state_report report = {0}, all;
    struct ranks_bytes reports;
    if (!ranks)
        return fit_state_leave(fit, code, error);
    if (!code)
        code = fit_state_ask(fit, error);
    if (code && code != IVON_ERROR_CANCELLED)
        return ivon_ranks_agree(ranks, code, error);
    report.left = code;
    report.stopping = fit->stopping;
    report.due = fit_state_due(fit);
    code = ranks_gather_all(ranks, &report, sizeof report, &reports, error);
    if (code)
        return code;
    fit->due = false;
    for (int r = 0; r < ivon_ranks_count(ranks); r++) {
        memcpy(&all, reports.data + (size_t)r * sizeof all, sizeof all);
        report.left |= all.left;
        fit->stopping |= all.stopping;
        fit->due |= all.due;
    }
    ranks_bytes_release(&reports);
    return !report.left
               ? 0
               : fit_state_leave(fit, ivon_error_set(error, IVON_ERROR_CANCELLED, "interrupted"),
                                 error);
}

int fit_state_pass(struct ivon_fit *fit, struct ivon_error *error)
{
    return fit->options.resources.ranks ? state_settle(fit, fit->due, error)
                                        : fit_state_offer(fit, error);
}
