/*
 * BatchBALD: see ivon/acquire.h for its formulas. For each configuration there is its weight w_c
 * and the samples' posterior W_c given it, from which the gain of any row follows by a product of
 * matrices, W p: so much is kept of the batch, and of configurations that are drawn nothing of
 * their joint probabilities, which underflow.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/random.h"
#include "ivon/acquire.h"
#include "metrics/likelihood/probabilities.h"

enum {
    CONFIGURATIONS = 10000,
    DEFAULT_MEMORY = 256 << 20,
    LOOKED_AT = 64,   /* rows before the best gain is compared with the bounds of the others */
    CONFIGS_TILE = 64 /* configurations whose predictions are computed at a time */
};

struct ivon_batchbald {
    size_t outputs, classes, samples, configurations;
    uint64_t rows, added, seed;
    double *weights; /* ω */
    float *p;        /* rows × samples × classes */
    int threads;
    struct ivon_progress progress;
};

/* The knowledge of the targets of a batch's rows. */
struct configurations {
    const struct ivon_batchbald *of;
    bool exact;
    size_t count;
    double *weights;    /* w */
    double *posteriors; /* W, count × samples */
    size_t *drawn_from; /* of one that is drawn: its sample */
    const struct ivon_batchbald_choice *batch;
    size_t batch_count;
};

/* A row that may be chosen, and the gain that it cannot exceed. */
struct candidate {
    double gain;
    uint64_t row;
};

static const struct options_kind batchbald_options = {
    .defaults = "ivon_batchbald_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_batchbald_options, resources.reserved)}};

void ivon_batchbald_options_init(struct ivon_batchbald_options *options, size_t size)
{
    const struct ivon_batchbald_options defaults = {.size = sizeof defaults,
                                                    .configurations = CONFIGURATIONS};
    options_init(options, size, &defaults);
}

static int batchbald_check(const struct ivon_batchbald_options *options, struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->likelihood);
    if (!traits || traits->regression || !options->outputs ||
        (!traits->classes && options->outputs > 1))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "BatchBALD of %zu outputs, expected classes or a single event",
                              options->outputs);
    if (!options->samples)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "BatchBALD without samples");
    for (size_t s = 0; s < options->samples && options->weights; s++)
        if (!(options->weights[s] > 0) || isinf(options->weights[s]))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "BatchBALD: sample %zu has weight %g, expected a positive number",
                                  s, options->weights[s]);
    return 0;
}

/* Allocates what the memory has to hold. */
static int batchbald_allocate(struct ivon_batchbald *made, size_t memory, struct ivon_error *error)
{
    size_t p, states, bytes;
    if (__builtin_mul_overflow(made->samples, made->classes * sizeof *made->p, &p) ||
        __builtin_mul_overflow(made->rows, p, &p) ||
        __builtin_mul_overflow(made->samples, 2 * sizeof(double), &states) ||
        __builtin_mul_overflow(made->configurations, states, &states) ||
        __builtin_add_overflow(p, states, &bytes))
        return ivon_error_memory(error);
    if (bytes > memory)
        return ivon_error_set(
            error, IVON_ERROR_MEMORY,
            "BatchBALD: %" PRIu64 " rows of %zu classes by %zu samples, and %zu configurations, "
            "take %zu bytes of memory, which may be %zu",
            made->rows, made->classes, made->samples, made->configurations, bytes, memory);
    made->p = malloc(p + 1);
    made->weights = calloc(made->samples, sizeof *made->weights);
    return made->p && made->weights ? 0 : ivon_error_memory(error);
}

int ivon_batchbald_new(struct ivon_batchbald **out, const struct ivon_batchbald_options *given,
                       struct ivon_error *error)
{
    struct ivon_batchbald_options own = ivon_batchbald_defaults();
    double total = 0;
    *out = NULL;
    int code = options_read(&batchbald_options, &own, given, error);
    if (!code)
        code = batchbald_check(&own, error);
    if (code)
        return code;
    struct ivon_batchbald *made = calloc(1, sizeof *made);
    if (!made)
        return ivon_error_memory(error);
    made->outputs = own.outputs;
    made->classes = ivon_likelihood_traits(own.likelihood)->classes ? own.outputs : 2;
    made->samples = own.samples;
    made->configurations = own.configurations ? own.configurations : CONFIGURATIONS;
    made->rows = own.rows;
    made->seed = own.seed;
    made->threads = own.resources.threads;
    made->progress = own.resources.progress;
    code = batchbald_allocate(made, own.resources.memory ? own.resources.memory : DEFAULT_MEMORY,
                              error);
    if (code) {
        ivon_batchbald_free(made);
        return code;
    }
    for (size_t s = 0; s < own.samples; s++)
        total += own.weights ? own.weights[s] : 1;
    for (size_t s = 0; s < own.samples; s++)
        made->weights[s] = (own.weights ? own.weights[s] : 1) / total;
    *out = made;
    return 0;
}

void ivon_batchbald_free(struct ivon_batchbald *batchbald)
{
    if (!batchbald)
        return;
    free(batchbald->p);
    free(batchbald->weights);
    free(batchbald);
}

/* Sets p of one row and sample; false: an output is not finite. */
static bool batchbald_predict(const struct ivon_batchbald *batchbald, const float *outputs,
                              float *p)
{
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < batchbald->outputs; k++) {
        if (!isfinite(outputs[k]))
            return false;
        most = fmax(most, (double)outputs[k]);
    }
    if (batchbald->outputs < batchbald->classes) { /* an event */
        p[0] = (float)(1 / (1 + exp((double)outputs[0])));
        p[1] = (float)(1 / (1 + exp(-(double)outputs[0])));
        return true;
    }
    for (size_t k = 0; k < batchbald->classes; k++)
        sum += exp((double)outputs[k] - most);
    for (size_t k = 0; k < batchbald->classes; k++)
        p[k] = (float)(exp((double)outputs[k] - most) / sum);
    return true;
}

int ivon_batchbald_add(struct ivon_batchbald *batchbald, size_t count, const float *outputs,
                       struct ivon_error *error)
{
    size_t samples = batchbald->samples, k = batchbald->outputs;
    if (count > batchbald->rows - batchbald->added)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "BatchBALD: more rows are added than the %" PRIu64 " that were said",
                              batchbald->rows);
    float *p = batchbald->p + batchbald->added * samples * batchbald->classes;
    for (size_t i = 0; i < count; i++)
        for (size_t s = 0; s < samples; s++, p += batchbald->classes)
            if (!batchbald_predict(batchbald, outputs + (s * count + i) * k, p))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "row %" PRIu64 ": an output of sample %zu is not finite",
                                      batchbald->added + i, s);
    batchbald->added += count;
    return 0;
}

static const float *batchbald_row(const struct ivon_batchbald *batchbald, uint64_t row)
{
    return batchbald->p + row * batchbald->samples * batchbald->classes;
}

static double entropy_of(const double *p, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += probability_entropy_term(p[i]);
    return sum;
}

/* Returns Σ_c w_c H[Σ_s W_cs p_s] − Σ_s ω_s H[p_s]. `p`: samples × classes. */
static double gain_of(const struct configurations *known, const double *p, double *predictions)
{
    const struct ivon_batchbald *of = known->of;
    size_t samples = of->samples, classes = of->classes;
    double joint = 0, own = 0;
    for (size_t at = 0; at < known->count; at += CONFIGS_TILE) {
        size_t piece = known->count - at < CONFIGS_TILE ? known->count - at : CONFIGS_TILE;
        blas_product_double(false, false, (int64_t)piece, (int64_t)classes, (int64_t)samples, 1,
                            known->posteriors + at * samples, (int64_t)samples, p, (int64_t)classes,
                            0, predictions, (int64_t)classes);
        for (size_t c = 0; c < piece; c++)
            joint += known->weights[at + c] * entropy_of(predictions + c * classes, classes);
    }
    for (size_t s = 0; s < samples; s++)
        own += of->weights[s] * entropy_of(p + s * classes, classes);
    return joint > own ? joint - own : 0; /* never negative (Jensen), but for rounding */
}

struct looking {
    const struct configurations *known;
    struct candidate *candidates;
};

static int look_at(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct looking *looking = context;
    const struct ivon_batchbald *of = looking->known->of;
    size_t count = of->samples * of->classes;
    const float *p = batchbald_row(of, looking->candidates[i].row);
    int code = progress_ask(&of->progress, error);
    if (code)
        return code;
    double *own = calloc(count + CONFIGS_TILE * of->classes, sizeof *own);
    if (!own)
        return ivon_error_memory(error);
    for (size_t j = 0; j < count; j++)
        own[j] = (double)p[j];
    looking->candidates[i].gain = gain_of(looking->known, own, own + count);
    free(own);
    return 0;
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->gain != y->gain)
        return x->gain > y->gain ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Moves the best of the candidates, which stand in the order of their last gains, to the front. */
static int find_best(const struct configurations *known, struct candidate *candidates, size_t count,
                     struct ivon_error *error)
{
    double best = -INFINITY;
    size_t at = 0;
    int code = 0;
    while (at < count && candidates[at].gain >= best && !code) {
        size_t piece = count - at < LOOKED_AT ? count - at : LOOKED_AT;
        struct looking looking = {known, candidates + at};
        code = ivon_parallel_run(known->of->threads, piece, look_at, &looking, error);
        for (size_t i = at; i < at + piece; i++)
            best = fmax(best, candidates[i].gain);
        at += piece;
    }
    if (!code)
        qsort(candidates, count, sizeof *candidates, compare_candidates);
    return code;
}

/* Sets W to the posterior after one more target, y, of a row, and returns how probable that was. */
static double batchbald_update(const struct ivon_batchbald *of, const float *p, size_t y,
                               const double *before, double *after)
{
    double sum = 0;
    for (size_t s = 0; s < of->samples; s++) {
        after[s] = before[s] * (double)p[s * of->classes + y];
        sum += after[s];
    }
    for (size_t s = 0; s < of->samples && sum > 0; s++)
        after[s] /= sum;
    return sum;
}

/* Extends all configurations by all targets of a row; those that cannot be are left out. */
static int extend_exactly(struct configurations *known, const float *p, struct ivon_error *error)
{
    const struct ivon_batchbald *of = known->of;
    size_t count = 0, most = known->count * of->classes;
    double *weights = calloc(most, sizeof *weights);
    double *posteriors = calloc(most, of->samples * sizeof *posteriors);
    if (!weights || !posteriors) {
        free(weights);
        free(posteriors);
        return ivon_error_memory(error);
    }
    for (size_t c = 0; c < known->count; c++)
        for (size_t y = 0; y < of->classes; y++) {
            double share = batchbald_update(of, p, y, known->posteriors + c * of->samples,
                                            posteriors + count * of->samples);
            weights[count] = known->weights[c] * share;
            count += weights[count] > 0;
        }
    free(known->weights);
    free(known->posteriors);
    known->weights = weights;
    known->posteriors = posteriors;
    known->count = count;
    return 0;
}

static double uniform_of(uint64_t word)
{
    return (double)(word >> 11) * 0x1p-53;
}

/* The class whose share of the cumulated probabilities has u, from 0 to 1. */
static size_t batchbald_draw(const float *p, size_t count, double u)
{
    double sum = 0;
    size_t last = 0;
    for (size_t k = 0; k < count; k++) {
        sum += (double)p[k];
        last = p[k] > 0 ? k : last;
        if (u < sum && p[k] > 0)
            return k;
    }
    return last;
}

/* Extends each configuration by a target that its sample predicts of the batch's row `at`. */
static int extend_by_draws(struct configurations *known, size_t at, struct ivon_error *error)
{
    const struct ivon_batchbald *of = known->of;
    const float *p = batchbald_row(of, known->batch[at].row);
    const struct random_stream stream = random_stream_of(of->seed, at, "batchbald");
    size_t blocks = known->count / 4 + 1;
    uint64_t *words = calloc(blocks, 4 * sizeof *words);
    if (!words)
        return ivon_error_memory(error);
    random_words(&stream, 0, blocks, words);
    for (size_t c = 0; c < known->count; c++) {
        double *posterior = known->posteriors + c * of->samples;
        size_t y = batchbald_draw(p + known->drawn_from[c] * of->classes, of->classes,
                                  uniform_of(words[c]));
        batchbald_update(of, p, y, posterior, posterior);
    }
    free(words);
    return 0;
}

/* Draws configurations of the whole batch: their samples systematically, so that each has its share
   of them, then the targets. */
static int start_drawing(struct configurations *known, struct ivon_error *error)
{
    const struct ivon_batchbald *of = known->of;
    const struct random_stream stream = random_stream_of(of->seed, UINT64_MAX, "batchbald");
    uint64_t words[4];
    double sum = of->weights[0];
    int code = 0;
    free(known->weights);
    free(known->posteriors);
    known->exact = false;
    known->count = of->configurations;
    known->weights = calloc(known->count, sizeof *known->weights);
    known->posteriors = calloc(known->count, of->samples * sizeof *known->posteriors);
    known->drawn_from = calloc(known->count, sizeof *known->drawn_from);
    if (!known->weights || !known->posteriors || !known->drawn_from)
        return ivon_error_memory(error);
    random_words(&stream, 0, 1, words);
    for (size_t c = 0, s = 0; c < known->count; c++) {
        double at = ((double)c + uniform_of(words[0])) / (double)known->count;
        while (s + 1 < of->samples && at >= sum)
            sum += of->weights[++s];
        known->drawn_from[c] = s;
        known->weights[c] = 1 / (double)known->count;
        memcpy(known->posteriors + c * of->samples, of->weights, of->samples * sizeof *of->weights);
    }
    for (size_t i = 0; i < known->batch_count && !code; i++)
        code = extend_by_draws(known, i, error);
    return code;
}

/* Makes known the last row of the batch. */
static int extend(struct configurations *known, struct ivon_error *error)
{
    const struct ivon_batchbald *of = known->of;
    size_t last = known->batch_count - 1;
    if (!known->exact)
        return extend_by_draws(known, last, error);
    if (known->count <= of->configurations / of->classes)
        return extend_exactly(known, batchbald_row(of, known->batch[last].row), error);
    return start_drawing(known, error);
}

/* Before the first row there is one configuration, which says nothing. */
static int configurations_init(struct configurations *known, const struct ivon_batchbald *of,
                               const struct ivon_batchbald_choice *batch, struct ivon_error *error)
{
    *known = (struct configurations){.of = of, .exact = true, .count = 1, .batch = batch};
    known->weights = calloc(1, sizeof *known->weights);
    known->posteriors = calloc(of->samples, sizeof *known->posteriors);
    if (!known->weights || !known->posteriors)
        return ivon_error_memory(error);
    known->weights[0] = 1;
    memcpy(known->posteriors, of->weights, of->samples * sizeof *of->weights);
    return 0;
}

int ivon_batchbald_choose(const struct ivon_batchbald *batchbald, size_t most,
                          struct ivon_batchbald_choice **choices, size_t *count,
                          struct ivon_error *error)
{
    size_t rows = (size_t)batchbald->added, wanted = most < rows ? most : rows;
    struct candidate *candidates = calloc(rows + 1, sizeof *candidates);
    struct ivon_batchbald_choice *batch = calloc(wanted + 1, sizeof *batch);
    struct configurations known = {0};
    int code = candidates && batch ? configurations_init(&known, batchbald, batch, error)
                                   : ivon_error_memory(error);
    if (!code)
        code = blas_reserve(ivon_parallel_threads(batchbald->threads), error);
    for (size_t i = 0; i < rows && !code; i++)
        candidates[i] = (struct candidate){INFINITY, i};
    while (known.batch_count < wanted && !code) {
        struct candidate *left = candidates + known.batch_count;
        code = find_best(&known, left, rows - known.batch_count, error);
        if (code)
            break;
        batch[known.batch_count++] = (struct ivon_batchbald_choice){left->row, left->gain,
                                                                    known.exact};
        if (known.batch_count < wanted)
            code = extend(&known, error);
    }
    free(candidates);
    free(known.weights);
    free(known.posteriors);
    free(known.drawn_from);
    *count = code ? 0 : wanted;
    *choices = code ? NULL : batch;
    if (code)
        free(batch);
    return code;
}
