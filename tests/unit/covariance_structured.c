/*
 * Covariances with blocks and a low-rank correction, as derivatives meet them, against the dense
 * matrix and Jacobians written out in double.
 *
 * Rounding: numbers are sums of at most a hundred products of floats, nested five deep, of errors
 * below 64 · 2^-24 of the largest of their kind, as in sensitivity_dense.h; beside them bases and
 * vectors are orthonormal to 2^-22 only, times a condition of M below 25: 100 · 2^-24 more.
 */
#include "structured_network.h"

#include "bayes/covariance.h"

enum { TILE = 5 };

static const double BOUND = 164 * 0x1p-24, N_TRAIN = 50;

static void expect(const char *what, size_t i, double found, double expected, double most)
{
    if (!(fabs(found - expected) <= BOUND * most))
        fail_msg("%s %zu: %.9g, expected %.9g", what, i, found, expected);
}

static void check_product(const struct structured *structured, const struct covariance *covariance,
                          const struct dense *dense, double rho)
{
    struct weights product;
    double x[RANDOM], vector[DENSE_MOST], expected[DENSE_MOST], most = 0;
    const struct ivon_network *network = structured->model.network;
    assert_int_equal(weights_init(&product, network, NULL), 0);
    double *given = calloc(product.size / sizeof(float), sizeof *given);
    assert_non_null(given);
    for (size_t i = 0; i < RANDOM; i++)
        x[i] = (double)(i % 7) - 2.5;
    for (size_t p = 0; p < network->parameter_count; p++) {
        size_t mean = network->parameters[p], at = 0;
        for (size_t t = 0; t < mean; t++)
            at += ivon_source_tensor(dense->source, t)->count;
        for (size_t i = 0; i < ivon_source_tensor(dense->source, mean)->count; i++)
            given[(size_t)(product.arrays[p] - product.data) + i] = x[at + i];
    }
    structured_to_dense(dense, x, vector);
    dense_multiply(dense, vector, expected);
    for (size_t i = 0; i < dense->size; i++)
        most = fmax(most, fabs(rho * expected[i]));
    assert_int_equal(covariance_apply(covariance, given, &product, NULL), 0);
    for (size_t p = 0; p < network->parameter_count; p++)
        for (size_t i = 0; i < ivon_source_tensor(dense->source, network->parameters[p])->count;
             i++) {
            size_t at = dense_index(dense, network->parameters[p], i);
            expect("product", i, (double)product.arrays[p][i],
                   at < DENSE_MOST ? rho * expected[at] : 0, most);
        }
    free(given);
    weights_release(&product);
}

/* A derivative that has run on a tile of examples. */
static struct net_derivative *derivative_at(const struct structured *structured,
                                            const struct covariance *covariance, const float *x)
{
    const struct ivon_network *network = structured->model.network;
    struct net_derivative *derivative = NULL;
    struct net_tensor shape = {0}, unit = {0};
    const float *values[MODEL_TENSORS];
    size_t tile = TILE;
    for (size_t p = 0; p < network->parameter_count; p++)
        values[p] = structured->model.data[network->parameters[p]];
    net_tensor_set(&shape, NET_FLOAT, 2, (const int64_t[]){TILE, IN}, NULL);
    net_tensor_set(&unit, NET_FLOAT, 2, (const int64_t[]){1, IN}, NULL);
    assert_int_equal(net_derivative_new(&derivative, network, &shape, &unit, &tile,
                                        covariance->random, covariance->block_of, 0, NULL),
                     0);
    assert_int_equal(tile, TILE);
    assert_int_equal(net_derivative_set_parameters(derivative, values, NULL), 0);
    assert_int_equal(net_derivative_run(derivative, (const void *const[]){x}, NULL), 0);
    return derivative;
}

/* q and J Σ g of all examples of a tile, from adjoints that are given. */
static void check_examples(struct structured *structured, const struct covariance *covariance,
                           const struct dense *dense, double rho)
{
    struct covariance_worker *worker = NULL;
    struct model *model = &structured->model;
    float x[TILE * IN], adjoints[TILE * OUT], moved[TILE * OUT];
    double q[TILE], f[OUT], jacobian[OUT][RANDOM], vectors[OUT][DENSE_MOST];
    for (size_t i = 0; i < TILE * IN; i++)
        x[i] = model_random(model, -1, 1);
    for (size_t i = 0; i < TILE * OUT; i++)
        adjoints[i] = model_random(model, -1, 1);
    struct net_derivative *derivative = derivative_at(structured, covariance, x);
    assert_int_equal(covariance_worker_new(&worker, covariance, derivative, TILE, OUT, NULL), 0);
    covariance_worker_begin(worker);
    net_derivative_backward(derivative, adjoints, NULL);
    memcpy(moved, covariance_tangent(worker, TILE), sizeof moved);
    covariance_quadratic(worker, TILE, q);
    for (size_t e = 0; e < TILE; e++) {
        double g[DENSE_MOST] = {0}, image[DENSE_MOST];
        structured_run(structured, x + e * IN, f, jacobian);
        for (size_t c = 0; c < OUT; c++) {
            structured_to_dense(dense, jacobian[c], vectors[c]);
            for (size_t i = 0; i < dense->size; i++)
                g[i] += (double)adjoints[e * OUT + c] * vectors[c][i];
        }
        double expected = rho * dense_quadratic(dense, g);
        expect("quadratic form", e, q[e], expected, expected);
        dense_multiply(dense, g, image);
        double change[OUT] = {0}, most = 0;
        for (size_t c = 0; c < OUT; c++) {
            for (size_t i = 0; i < dense->size; i++)
                change[c] += rho * vectors[c][i] * image[i];
            most = fmax(most, fabs(change[c]));
        }
        for (size_t c = 0; c < OUT; c++)
            expect("tangent", e * OUT + c, (double)moved[e * OUT + c], change[c], most);
    }
    covariance_worker_free(worker);
    net_derivative_free(derivative);
}

/* Of all means it is what the structure says, a loaded one as one that is yet to be. */
static void check_memory(const struct covariance *covariance, const struct dense *dense)
{
    size_t random = 0;
    for (size_t p = 0; p < covariance->network->parameter_count; p++)
        random += covariance->random[p];
    size_t all = covariance_memory_of(dense->source, dense->structure);
    if (random == covariance->network->parameter_count)
        assert_int_equal(covariance_memory(covariance), all);
    else
        assert_true(covariance_memory(covariance) <= all);
}

static void check_covariance(struct structured *structured, bool (*selected)(void *, const char *))
{
    const struct covariance_scale scales[] = {{.rho = 0.75, .n_train = N_TRAIN},
                                              {.rho = NAN, .n_train = N_TRAIN}};
    struct ivon_sample_options options = ivon_sample_defaults();
    struct covariance *covariance = NULL;
    options.selected = selected;
    struct dense *dense = dense_new(structured->model.source, selected);
    assert_int_equal(covariance_new(&covariance, structured->model.network,
                                    structured->model.source, &options, NULL),
                     0);
    for (size_t i = 0; i < 2; i++) {
        double rho = i ? structured->model.ess / N_TRAIN : 0.75;
        assert_int_equal(covariance_load(covariance, &scales[i], 2 - (int)i, NULL), 0);
        check_product(structured, covariance, dense, rho);
        check_examples(structured, covariance, dense, rho);
        double expected = dense->log_determinant + (double)dense->size * log(rho);
        expect("log determinant", 0, covariance_log_determinant(covariance), expected,
               (double)dense->size);
        assert_true(covariance_memory(covariance) >= dense->size * sizeof(float));
        check_memory(covariance, dense);
    }
    covariance_free(covariance);
    dense_free(dense);
}

static void all_that_is_asked_is_of_the_dense_matrix(void **state)
{
    (void)state;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        structured_begin(&structured, low_rank);
        check_covariance(&structured, NULL);
        check_covariance(&structured, all_but_b2);
        check_covariance(&structured, only_w2);
        structured_end(&structured);
    }
}

/* Bits are those of a draw from the checkpoint, on any number of threads. */
static void draws_are_those_of_the_checkpoint(void **state)
{
    (void)state;
    struct structured structured;
    struct covariance *covariance = NULL;
    struct weights weights;
    float expected[RANDOM];
    struct ivon_sample_options options = ivon_sample_defaults();
    options.selected = all_but_b2;
    structured_begin(&structured, true);
    const struct ivon_network *network = structured.model.network;
    assert_int_equal(weights_init(&weights, network, NULL), 0);
    assert_int_equal(covariance_new(&covariance, network, structured.model.source, &options, NULL),
                     0);
    for (uint64_t sample = 0; sample < 4; sample++) {
        options.temperature = sample == 3 ? 0 : 0.5;
        assert_int_equal(
            covariance_draw(covariance, &weights, &options, sample, 1 + (int)sample, NULL), 0);
        for (size_t p = 0; p < network->parameter_count; p++) {
            size_t mean = network->parameters[p];
            size_t count = ivon_source_tensor(structured.model.source, mean)->count;
            assert_int_equal(ivon_sample_draw(structured.model.source, mean, &options, sample, 0,
                                              count, expected, NULL),
                             0);
            assert_memory_equal(weights.arrays[p], expected, count * sizeof *expected);
        }
    }
    covariance_free(covariance);
    weights_release(&weights);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_asked_is_of_the_dense_matrix),
        cmocka_unit_test(draws_are_those_of_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
