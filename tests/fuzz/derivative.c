/*
 * Opens bytes as a network, gives it its own initializers as parameters, and differentiates what is
 * accepted, as predictions, sensitivities and training do. Where all numbers are moderate, what the
 * derivatives say must agree: tangents with gradients, quadratic forms with both, sums with their
 * parts.
 */
#include <stdio.h>

#include "ivon/onnx.h"
#include "net/derivative/private.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/trial.h"

enum { MEMORY = 1 << 22 }; /* of a derivative */

/*
 * Numbers up to LARGEST are moderate. Of values up to M, an operator's derivative is a sum of
 * products of two of them, each rounded to 2^-24; a few hundred such errors remain below 2^-15 M²,
 * and those of the sums that are compared below 2^-10 of their terms.
 */
static const double LARGEST = 64;

static double tolerance(double largest, double terms)
{
    return 0x1p-15 * largest * largest + 0x1p-10 * terms;
}

/* Numbers. */

/* The larger of `most` and what is largest among the numbers: infinite where one is none. */
static double larger(double most, const float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        most = isnan(a[i]) ? (double)INFINITY : fmax(most, fabs((double)a[i]));
    return most;
}

/* Of all that the output depends on, and all that was differentiated. */
static double largest_of(const struct net_derivative *derivative)
{
    double most = larger(1, derivative->memory, derivative->memory_count);
    for (size_t i = 0; i < derivative->network->value_count; i++) {
        const struct net_tensor *tensor = &derivative->plan->values[i].tensor;
        if (derivative->values[i].needed && tensor->type == NET_FLOAT && tensor->data)
            most = larger(most, tensor->data, tensor->count);
    }
    return most;
}

struct sum {
    double value, terms;
};

static void add_product(struct sum *sum, const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double term = (double)a[i] * (double)b[i];
        sum->value += term;
        sum->terms += fabs(term);
    }
}

static struct sum inner_product(const struct trial *trial, float *const *a, float *const *b)
{
    struct sum sum = {0};
    for (size_t p = 0; p < trial->parameters; p++)
        if (trial->wanted[p])
            add_product(&sum, a[p], b[p], size_of(trial, p));
    return sum;
}

static double largest_array(const struct trial *trial, float *const *a, double most)
{
    for (size_t p = 0; p < trial->parameters; p++)
        if (trial->wanted[p])
            most = larger(most, a[p], size_of(trial, p));
    return most;
}

static void expect_close(const char *what, double found, double expected, double largest,
                         double terms)
{
    if (!(largest <= LARGEST) || fabs(found - expected) <= tolerance(largest, terms))
        return;
    fprintf(stderr, "%s: %.9g, expected %.9g, to %.2g\n", what, found, expected,
            tolerance(largest, terms));
    abort();
}

/* Checks. */

/* <w, J v> = <Jᵀ w, v>; and gradients of parameters that are not wanted stay as they are. */
static double check_identity(struct trial *trial, struct net_derivative *derivative,
                             const float *weights, float **gradients)
{
    const struct net_tensor *output = net_derivative_output(derivative);
    struct sum left = {0};
    net_derivative_backward(derivative, weights, gradients);
    double most = fmax(largest_of(derivative), largest_array(trial, gradients, 1));
    struct sum right = inner_product(trial, gradients, trial->direction);
    const float *tangent = net_derivative_tangent(derivative,
                                                  (const float *const *)trial->direction);
    most = fmax(most, largest_of(derivative));
    if (tangent)
        add_product(&left, weights, tangent, output->count);
    expect_close("<w, Ju>, of <J'w, u>", left.value, right.value, most, left.terms + right.terms);
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < size_of(trial, p) && !trial->wanted[p]; i++)
            assert(gradients[p][i] == 0);
    return most;
}

/* Whether constants are the same for a tile as for one example: not where they are made of the
   number of examples. */
static bool same_constants(const struct net_derivative *derivative)
{
    for (size_t i = 0; i < derivative->network->value_count; i++) {
        const struct plan_value *value = &derivative->plan->values[i];
        const struct net_tensor *unit = &derivative->unit->values[i].tensor;
        const float *one = unit->data, *several = value->tensor.data;
        if (value->stage != PLAN_KNOWN || unit->type != NET_FLOAT || !one || !several)
            continue;
        for (size_t j = 0; unit->count && j < value->tensor.count; j++)
            if (one[j % unit->count] != several[j])
                return false;
    }
    return true;
}

/* Whether adjoints of one example, after backward, stay its own: not in a graph that makes one
   thing of several examples, which then have no parts of their own. */
static bool is_apart(const struct net_derivative *derivative, size_t example)
{
    for (size_t i = 0; i < derivative->network->value_count; i++) {
        const struct derivative_value *value = &derivative->values[i];
        for (size_t j = 0; value->adjoint && j < derivative->tile * value->size; j++)
            if (j / value->size != example && value->adjoint[j] != 0)
                return false;
    }
    return true;
}

/* One example's quadratic form by its own gradient; infinite where it has none of its own. */
static double own_quadratic(struct trial *trial, struct net_derivative *derivative,
                            const float *weights, size_t example, double *most)
{
    size_t count = net_derivative_output(derivative)->count, wide = count / trial->tile;
    float *alone = calloc(count + 1, sizeof *alone);
    float **gradients = new_arrays(trial, 0, 0);
    double sum = 0;
    assert(alone);
    memcpy(alone + example * wide, weights + example * wide, wide * sizeof *alone);
    net_derivative_backward(derivative, alone, gradients);
    *most = fmax(*most, fmax(largest_of(derivative), largest_array(trial, gradients, 1)));
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < size_of(trial, p) && trial->wanted[p]; i++)
            sum += (double)gradients[p][i] * (double)gradients[p][i] *
                   (double)trial->diagonal[p][i];
    free_arrays(trial, gradients);
    free(alone);
    return is_apart(derivative, example) ? sum : (double)INFINITY;
}

/* Each plane of the last example is the part of a band that its tap says. */
static void check_bands(struct net_derivative *derivative, const struct net_use *use, size_t tile,
                        const float *planes)
{
    const struct net_bands *layout = &use->bands;
    size_t taken = use->inputs / layout->taps, all = taken + (use->bias != NET_NONE);
    size_t columns = use->inputs + (use->bias != NET_NONE), size = layout->size;
    if (tile * all * size > MEMORY)
        return;
    float *bands = calloc(tile * all * size + 1, sizeof *bands);
    assert(bands);
    net_derivative_use_bands(derivative, use, tile, bands);
    for (size_t row = 0; row < use->inputs; row++) {
        size_t channel = row / layout->inner / layout->taps;
        size_t tap = row / layout->inner % layout->taps;
        size_t band = channel * layout->inner + row % layout->inner;
        const float *part = bands + ((tile - 1) * all + band) * size + tap * layout->step;
        const float *plane = planes + net_use_place(use, tile - 1, 0, row, columns);
        assert(tap * layout->step + use->positions <= size);
        assert(memcmp(part, plane, use->positions * sizeof *part) == 0);
    }
    free(bands);
}

/* The gradient of the last example, by the rows of one use of a weight, the weight's only one. */
static void check_use(struct trial *trial, struct net_derivative *derivative,
                      const struct net_use *use, size_t count)
{
    size_t tile = trial->tile, rows = tile * use->positions, size = use->inputs * use->outputs;
    size_t columns = use->inputs + (use->bias != NET_NONE);
    if (rows * (columns + use->outputs) > MEMORY)
        return;
    float *a = calloc(rows * columns + 1, sizeof *a),
          *d = calloc(rows * use->outputs + 1, sizeof *d);
    int64_t *places = calloc(rows + 1, sizeof *places);
    float *gradients = calloc(tile * size + 1, sizeof *gradients);
    assert(a && d && places && gradients && size == size_of(trial, use->weight));
    net_derivative_use_inputs(derivative, use, tile, a, places);
    if (use->bands.taps && rows)
        check_bands(derivative, use, tile, a);
    net_derivative_use_adjoints(derivative, use, tile, 0, 1, d);
    net_derivative_gradients(derivative, use->weight, tile, gradients);
    double most = larger(larger(largest_of(derivative), gradients, tile * size), a, rows * columns);
    for (size_t i = 0; i < size && use->complete && count == 1; i++) {
        size_t r = use->transposed ? i % use->outputs : i / use->inputs;
        size_t c = use->transposed ? i / use->outputs : i % use->inputs;
        struct sum sum = {0};
        for (size_t t = 0; t < use->positions; t++) {
            float input = use->lookup ? places[rows - use->positions + t] == (int64_t)c
                                      : a[net_use_place(use, tile - 1, t, c, columns)];
            add_product(&sum, &d[net_use_place(use, tile - 1, t, r, use->outputs)], &input, 1);
        }
        expect_close("a sum of rows", sum.value, (double)gradients[(tile - 1) * size + i], most,
                     sum.terms);
    }
    free(a);
    free(d);
    free(places);
    free(gradients);
}

static void check_uses(struct trial *trial, struct net_derivative *derivative, const float *weights)
{
    size_t count;
    const struct net_use *uses = net_derivative_uses(derivative, &count);
    net_derivative_backward(derivative, weights, NULL);
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;
        for (size_t j = 0; j < count; j++)
            same += uses[j].weight == uses[i].weight;
        check_use(trial, derivative, &uses[i], same);
    }
}

/* What a derivative for rows tells is what this one does, to the bit. */
static void check_rows(struct trial *trial, struct net_derivative *derivative, const float *weights)
{
    struct net_derivative *rows = NULL;
    struct ivon_error error = {0};
    size_t tile = trial->tile;
    int code = net_derivative_new_rows(&rows, trial->network,
                                       tile == 1 ? trial->unit_inputs : trial->inputs,
                                       trial->unit_inputs, &tile, trial->wanted, MEMORY, &error);
    if (!code)
        code = net_derivative_set_parameters(rows, (const float *const *)trial->values, &error);
    if (!code)
        code = net_derivative_run(rows, (const void *const *)trial->data, &error);
    assert(!code && tile == trial->tile);
    net_derivative_backward(derivative, weights, NULL);
    net_derivative_backward(rows, weights, NULL);
    for (size_t p = 0; p < trial->parameters; p++) {
        size_t i = rows->parameter_values[p], size = tile * size_of(trial, p) * sizeof(float);
        if (!trial->wanted[p] || i == NET_NONE || rows->values[i].told || size > MEMORY)
            continue;
        float *both[] = {allocate(size + 1), allocate(size + 1)};
        net_derivative_gradients(derivative, p, tile, both[0]);
        net_derivative_gradients(rows, p, tile, both[1]);
        assert(memcmp(both[0], both[1], size) == 0);
        free(both[0]);
        free(both[1]);
    }
    for (size_t i = 0; i < rows->network->value_count; i++) {
        size_t size = tile * rows->values[i].size * sizeof(float);
        if (rows->values[i].adjoint)
            assert(memcmp(rows->values[i].adjoint, derivative->values[i].adjoint, size) == 0);
    }
    net_derivative_free(rows);
}

/* Each example's quadratic form, by its own tangent and by its own gradient. */
static void check_examples(struct trial *trial, struct net_derivative *derivative,
                           const float *weights)
{
    size_t tile = trial->tile, wide = net_derivative_output(derivative)->count / tile;
    double *q = calloc(tile, sizeof *q);
    float *moved = calloc(tile * wide + 1, sizeof *moved);
    assert(q && moved);
    const struct net_metric metric = {.diagonal = (const float *const *)trial->diagonal,
                                      .blocks = trial->blocks};
    net_derivative_backward(derivative, weights, NULL);
    net_derivative_quadratic(derivative, &metric, tile, q);
    double most = largest_of(derivative);
    const float *tangent = net_derivative_own_tangent(derivative, &metric, tile);
    most = fmax(most, largest_of(derivative));
    if (tangent)
        memcpy(moved, tangent, tile * wide * sizeof *moved);
    for (size_t e = 0; e < tile; e++) {
        struct sum by_tangent = {0};
        double largest = most, expected = own_quadratic(trial, derivative, weights, e, &largest);
        assert(!(q[e] < 0));
        if (isinf(expected))
            continue;
        expect_close("a quadratic form, by its gradient", q[e], expected, largest, expected);
        add_product(&by_tangent, weights + e * wide, moved + e * wide, wide);
        expect_close("a quadratic form, by its tangent", q[e], by_tangent.value, largest,
                     by_tangent.terms + q[e]);
    }
    free(moved);
    free(q);
}

/* Fills with one byte what a run sets, and what a tangent sets. */
static void spoil(struct net_derivative *derivative, int byte)
{
    const struct net_plan *plan = derivative->plan;
    memset(plan->arena, byte, plan->arena_size);
    memset(plan->workspace, byte, plan->workspace_size);
    if (!derivative->whole)
        memset(derivative->memory + derivative->adjoint_count, byte,
               (derivative->shared_first - derivative->adjoint_count) * sizeof(float));
}

static void keep(unsigned char **kept, const void *data, size_t size)
{
    if (*kept)
        assert(memcmp(*kept, data, size) == 0);
    else if (size) {
        *kept = allocate(size);
        memcpy(*kept, data, size);
    }
}

/* Outputs and tangents do not depend on what memory held before. */
static int run_twice(struct trial *trial, struct net_derivative *derivative,
                     struct ivon_error *error)
{
    unsigned char *outputs = NULL, *tangents = NULL;
    int code = 0;
    for (int byte = 0; byte < 256 && !code; byte += 255) {
        spoil(derivative, byte);
        code = net_derivative_set_parameters(derivative, (const float *const *)trial->values,
                                             error);
        if (!code)
            code = net_derivative_run(derivative, (const void *const *)trial->data, error);
        if (code)
            break;
        const struct net_tensor *output = net_derivative_output(derivative);
        keep(&outputs, output->data, output->count * net_type_size(output->type));
        const float *tangent = net_derivative_tangent(derivative,
                                                      (const float *const *)trial->direction);
        if (tangent)
            keep(&tangents, tangent, output->count * sizeof *tangent);
    }
    free(outputs);
    free(tangents);
    return code;
}

static void run_and_check(struct trial *trial, struct net_derivative *derivative, float **gradients,
                          double *most, struct ivon_error *error)
{
    *most = (double)INFINITY;
    int code = run_twice(trial, derivative, error);
    if (code) {
        check_error(code, error);
        return;
    }
    const struct net_tensor *output = net_derivative_output(derivative);
    if (output->type != NET_FLOAT || !output->count || output->count % trial->tile)
        return;
    trial->state = 1; /* the same adjoints for each */
    float *weights = new_adjoints(trial, output->count);
    *most = check_identity(trial, derivative, weights, gradients);
    bool of_examples = output->rank && output->shape[0] == (int64_t)trial->tile;
    if (!derivative->whole && of_examples && same_constants(derivative)) {
        check_examples(trial, derivative, weights);
        check_uses(trial, derivative, weights);
        check_rows(trial, derivative, weights);
    }
    free(weights);
}

/* By a tile of examples; gradients and the largest number are left to compare. */
static void by_examples(struct trial *trial, float **gradients, double *most)
{
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    size_t tile = trial->tile;
    *most = (double)INFINITY;
    int code = net_derivative_new(&derivative, trial->network, trial->inputs, trial->unit_inputs,
                                  &tile, trial->wanted, trial->blocks, MEMORY, &error);
    if (code) {
        check_error(code, &error);
        return;
    }
    size_t whole = trial->tile;
    trial->tile = tile;
    assert(net_derivative_memory(derivative) <= MEMORY);
    run_and_check(trial, derivative, gradients, most, &error);
    if (tile != whole)
        *most = (double)INFINITY;
    trial->tile = whole;
    net_derivative_free(derivative);
}

static void by_sum(struct trial *trial, float **gradients, double *most)
{
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    *most = (double)INFINITY;
    int code = net_derivative_new_summed(&derivative, trial->network, trial->training,
                                         trial->inputs, trial->wanted, MEMORY, &error);
    if (code) {
        check_error(code, &error);
        return;
    }
    run_and_check(trial, derivative, gradients, most, &error);
    if (trial->training) {
        double *statistics = calloc(net_training_size(trial->training) + 1, sizeof *statistics);
        assert(statistics);
        net_derivative_statistics(derivative, statistics);
        net_training_update(trial->training, statistics, 0.5);
        free(statistics);
    }
    net_derivative_free(derivative);
}

/* Both ways agree. */
static void differentiate(struct trial *trial)
{
    float **gradients = new_arrays(trial, 0, 0), **sums = new_arrays(trial, 0, 0);
    double most, most_of_sum;
    by_examples(trial, gradients, &most);
    by_sum(trial, sums, &most_of_sum);
    most = fmax(most, most_of_sum);
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < size_of(trial, p) && trial->wanted[p]; i++)
            expect_close("a gradient of all examples", (double)gradients[p][i], (double)sums[p][i],
                         most, fabs((double)sums[p][i]));
    free_arrays(trial, gradients);
    free_arrays(trial, sums);
}

static void train(struct trial *trial, struct ivon_network *network)
{
    struct net_training *training = NULL;
    struct ivon_error error = {0};
    int code = net_training_new(&training, network, &error);
    if (code) {
        check_error(code, &error);
        return;
    }
    trial->training = training;
    for (int step = 0; step < 2; step++) {
        double most;
        float **gradients = new_arrays(trial, 0, 0);
        by_sum(trial, gradients, &most);
        free_arrays(trial, gradients);
    }
    trial->training = NULL;
    net_training_free(training);
}

/* With all parameters, then with every other one. */
static void try(struct ivon_network *network, const struct checkpoint *checkpoint, size_t seed)
{
    struct trial trial;
    if (trial_begin(&trial, network, checkpoint, seed)) {
        for (size_t round = 0; round < 2; round++) {
            for (size_t p = 0; p < trial.parameters; p++)
                trial.wanted[p] = !round || (p + seed) % 2;
            differentiate(&trial);
        }
        train(&trial, network);
    }
    trial_end(&trial);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    struct ivon_network *network = NULL;
    struct checkpoint checkpoint = {0};
    struct ivon_error error = {0};
    int code = ivon_onnx_from_memory(&network, "fuzz.onnx", data, size, &error);
    if (!code)
        code = checkpoint_bind(&checkpoint, network, &error);
    if (code)
        check_error(code, &error);
    else
        try(network, &checkpoint, size);
    ivon_network_free(network);
    checkpoint_end(&checkpoint);
    return code ? -1 : 0;
}
