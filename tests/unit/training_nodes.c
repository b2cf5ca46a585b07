/* Which nodes are in training, whose running statistics are whose, and what is refused. */
#include "graph_builder.h"

#include "net/derivative/derivative.h"

/* Two normalizations of x, N × 3, one after the other. */
static struct ivon_network *pair(const char *first, const char *second,
                                 struct net_attribute *of_second, bool identity)
{
    static const int64_t x[] = {-1, 3};
    state = 5;
    struct ivon_network *network = begin(2, x);
    static const char *const names[] = {"s1", "b1", "m", "v", "s2", "b2", "v2"};
    for (size_t i = 0; i < 7; i++)
        give(network, names[i], *names[i] != 'm' && *names[i] != 'v', 1, 1, x + 1);
    if (identity) {
        node(network, "Identity", "m i", NULL);
        node(network, "Identity", "i m2", NULL);
    }
    node(network, "BatchNormalization", first, NULL);
    node(network, "BatchNormalization", second, of_second);
    finish(network);
    return network;
}

/* Exporters store equal buffers once; they must not stay one. */
static void separated(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct ivon_network *network = pair("x s1 b1 m v h", "h s2 b2 m2 v2 y", NULL, true);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 2);
    const struct net_value *first = &network->values[net_training_node(training, 0)->mean];
    const struct net_value *second = &network->values[net_training_node(training, 1)->mean];
    assert_string_equal(second->name, "m2");
    assert_int_equal(second->role, NET_CONSTANT);
    assert_memory_equal(first->tensor.data, second->tensor.data, 3 * sizeof(float));
    double statistics[12];
    for (size_t i = 0; i < 12; i++)
        statistics[i] = (double)i;
    net_training_update(training, statistics, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_true(((float *)first->tensor.data)[i] == (float)i);
        assert_true(((float *)second->tensor.data)[i] == (float)(6 + i));
    }
    net_training_free(training);
    ivon_network_free(network);

    /* One module, used twice, is one all through: moved twice. */
    network = pair("x s1 b1 m v h", "h s1 b1 m v y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 2);
    net_training_update(training, statistics, 0.5);
    const struct net_value *mean = &network->values[graph_find(network, "m")];
    state = 5;
    for (size_t i = 0; i < 6; i++) /* s1, b1 */
        uniform();
    for (size_t i = 0; i < 3; i++) {
        float begun = (float)(1 + 0.5 * uniform());
        float once = (float)(0.5 * (double)begun + 0.5 * (double)i);
        assert_true(((float *)mean->tensor.data)[i] == 0.5F * once + 0.5F * (float)(6 + i));
    }
    net_training_free(training);
    ivon_network_free(network);
}

/* By parameters: as in evaluation. Of what no run needs, the running statistics stay. */
static void unchanged(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct ivon_network *network = pair("x s1 b1 m b2 h", "h s2 b2 b1 v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 0);
    assert_int_equal(net_training_size(training), 0);
    net_training_free(training);
    ivon_network_free(network);

    static const int64_t x[] = {-1, 3};
    network = begin(2, x);
    for (size_t i = 0; i < 4; i++)
        give(network, (const char *[]){"s", "b", "m", "v"}[i], i < 2, 1, 1, x + 1);
    node(network, "BatchNormalization", "x s b m v h", NULL);
    node(network, "Shape", "h n", NULL);
    node(network, "Reshape", "x n r", NULL);
    node(network, "Mul", "r s y", NULL);
    finish(network);
    struct net_derivative *derivative = NULL;
    struct parameters parameters = {0};
    struct net_tensor input = shape_of(2, 4, x + 1);
    float data[12] = {1};
    const void *inputs[] = {data};
    double statistics[6];
    parameters_begin(&parameters, network);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_derivative_new_summed(&derivative, network, training, &input,
                                               parameters.wanted, 0, NULL),
                     0);
    assert_int_equal(
        net_derivative_set_parameters(derivative, (const float *const *)parameters.arrays, NULL),
        0);
    assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
    net_derivative_statistics(derivative, statistics);
    const struct net_running *bn = net_training_node(training, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_true(statistics[i] == (double)((float *)network->values[bn->mean].tensor.data)[i]);
        assert_true(statistics[3 + i] ==
                    (double)((float *)network->values[bn->variance].tensor.data)[i]);
    }
    net_derivative_free(derivative);
    parameters_end(&parameters);
    net_training_free(training);
    ivon_network_free(network);
}

static void refuses(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct net_derivative *derivative = NULL;
    struct ivon_error error;
    static const int64_t x[] = {-1, 3};
    struct net_tensor input = shape_of(2, 4, x + 1), unit = shape_of(2, 1, x + 1);
    bool wanted[PARAMETERS_MAX] = {true};
    size_t tile = 4;
    static const char itself[] = "network: node 'y' (BatchNormalization): normalizes by the "
                                 "statistics of each batch; export the network in evaluation mode";
    struct ivon_network *network = pair("x s1 b1 m v h", "h s2 b2 m v2 y",
                                        integer("training_mode", 1), false);
    assert_int_equal(net_training_new(&training, network, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, itself);
    assert_int_equal(
        net_derivative_new(&derivative, network, &input, &unit, &tile, wanted, NULL, 0, &error),
        IVON_ERROR_DATA);
    assert_string_equal(error.message, itself);
    ivon_network_free(network);

    network = pair("x s1 b1 m v h", "h s2 b2 m v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "network: nodes 'h' and 'y' (BatchNormalization) have "
                                       "different scales and the same running statistics 'm'");
    ivon_network_free(network);

    network = pair("x s1 b1 m v h", "h s2 b2 v2 v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(
        net_derivative_new_summed(&derivative, network, training, &unit, wanted, 0, &error),
        IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "a batch has 1 element of each channel"));
    net_training_free(training);
    ivon_network_free(network);
}

/* Examples must not be mixed: statistics of each image are fine, those over images are not. */
static void statistics_over_examples(void **unused)
{
    (void)unused;
    static const int64_t x[] = {-1, 3, 4, 4}, lists[][3] = {{1, 2, 3}, {2, 3, 3}, {0, 2, 3}};
    for (size_t i = 0; i < 4; i++) {
        struct ivon_error error = {0};
        struct ivon_network *network = begin(4, x);
        struct net_attribute *axes = i < 3 ? attribute("axes", NET_INTS) : NULL;
        if (axes) {
            axes->integers = malloc(sizeof lists[i]);
            memcpy(axes->integers, lists[i], sizeof lists[i]);
            axes->count = 3;
        }
        node(network, "MeanVarianceNormalization", "x y", axes);
        finish(network);
        assert_int_equal(net_expect_evaluation(network, &error), i < 2 ? 0 : IVON_ERROR_DATA);
        assert_true(i < 2 || strstr(error.message, "(MeanVarianceNormalization): normalizes over "
                                                   "axis 0"));
        ivon_network_free(network);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(separated),
        cmocka_unit_test(unchanged),
        cmocka_unit_test(refuses),
        cmocka_unit_test(statistics_over_examples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
