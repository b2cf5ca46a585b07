/*
 * The rows by which weights are used: the gradient of each example is the sum of the products of
 * rows of adjoints and rows of inputs, over the positions of all uses. Both are sums of at most a
 * few hundred products: ROUNDING of derivative_checks.h holds.
 */
#include "derivative_checks.h"

#include "net/derivative/uses.h"

/* What is expected of a parameter's uses; one that is not listed has none. */
struct expected {
    const char *weight, *bias; /* bias: null where there is none */
    size_t uses, inputs, outputs;
    bool transposed, partial; /* partial: there are others, which are not in the list */
    size_t taps;              /* of its bands; 0: it has none */
};

static const struct expected *expected_of(const struct model *model, const struct expected *list,
                                          size_t count, size_t parameter)
{
    for (size_t i = 0; i < count; i++)
        if (model_number_of(model, list[i].weight) == parameter)
            return &list[i];
    return NULL;
}

static void check_list(struct trial *trial, struct net_derivative *derivative,
                       const struct expected *list, size_t count)
{
    size_t uses, found[MODEL_TENSORS] = {0};
    const struct net_use *use = net_derivative_uses(derivative, &uses);
    for (size_t i = 0; i < uses; i++, use++) {
        const struct expected *expected = expected_of(trial->model, list, count, use->weight);
        assert_non_null(expected);
        assert_true(use->bias ==
                    (expected->bias ? model_number_of(trial->model, expected->bias) : NET_NONE));
        assert_int_equal(use->inputs, expected->inputs);
        assert_int_equal(use->outputs, expected->outputs);
        assert_int_equal(use->transposed, expected->transposed);
        assert_int_equal(use->complete, !expected->partial);
        assert_int_equal(use->bands.taps, expected->taps);
        assert_true(i == 0 || use[-1].step < use->step);
        found[use->weight]++;
    }
    for (size_t p = 0; p < trial->parameters; p++) {
        const struct expected *expected = expected_of(trial->model, list, count, p);
        assert_int_equal(found[p], expected ? expected->uses : 0);
    }
}

/* Each plane is the part of a band that its tap says, and that of a bias is one of ones. */
static void check_bands(struct net_derivative *derivative, const struct net_use *use, size_t count,
                        const float *planes)
{
    const struct net_bands *layout = &use->bands;
    size_t biased = use->bias != NET_NONE, t = use->positions, size = layout->size;
    size_t taken = use->inputs / layout->taps, all = taken + biased;
    float *bands = model_allocate(count * all * size * sizeof *bands);
    net_derivative_use_bands(derivative, use, count, bands);
    for (size_t e = 0; e < count; e++) {
        for (size_t row = 0; row < use->inputs; row++) {
            size_t channel = row / layout->inner / layout->taps;
            size_t tap = row / layout->inner % layout->taps;
            size_t band = channel * layout->inner + row % layout->inner;
            assert_true(tap * layout->step + t <= size);
            assert_memory_equal(bands + (e * all + band) * size + tap * layout->step,
                                planes + (e * (use->inputs + biased) + row) * t,
                                t * sizeof *planes);
        }
        for (size_t i = 0; i < size && biased; i++)
            assert_true(bands[(e * all + taken) * size + i] == 1);
    }
    free(bands);
}

/* Adds a use's part of each example's gradient to that of the weight, and of the bias. */
static void add_use(struct trial *trial, struct net_derivative *derivative,
                    const struct net_use *use, size_t count, float *const *sums)
{
    bool biased = use->bias != NET_NONE;
    size_t rows = count * use->positions, columns = use->inputs + biased;
    float *a = model_allocate(rows * columns * sizeof *a);
    float *d = model_allocate(rows * use->outputs * sizeof *d);
    int64_t *places = model_allocate(rows * sizeof *places);
    net_derivative_use_inputs(derivative, use, count, use->lookup ? NULL : a, places);
    net_derivative_use_adjoints(derivative, use, count, 0, 1, d);
    if (use->bands.taps)
        check_bands(derivative, use, count, a);
    for (size_t row = 0; row < rows; row++)
        for (size_t r = 0; r < use->outputs; r++)
            for (size_t c = 0; c < columns; c++) {
                size_t e = row / use->positions;
                size_t t = row % use->positions;
                float part = d[net_use_place(use, e, t, r, use->outputs)];
                part *= use->lookup ? (float)(places[row] == (int64_t)c)
                                    : a[net_use_place(use, e, t, c, columns)];
                if (c == use->inputs)
                    sums[use->bias][e * trial->sizes[use->bias] + r] += part;
                else
                    sums[use->weight]
                        [e * trial->sizes[use->weight] +
                         (use->transposed ? c * use->outputs + r : r * use->inputs + c)] += part;
            }
    free(a);
    free(d);
    free(places);
}

/* Gradients of the examples alone: by a backward pass without the others. */
static void check_gradients(struct trial *trial, struct net_derivative *derivative, size_t tile,
                            const float *adjoints, float *const *found)
{
    size_t wide = trial->wide;
    float *single = model_allocate(tile * wide * sizeof *single);
    for (size_t e = 0; e < tile; e++) {
        float **expected = new_arrays(trial, 0, 0);
        memset(single, 0, tile * wide * sizeof *single);
        memcpy(single + e * wide, adjoints + e * wide, wide * sizeof *single);
        net_derivative_backward(derivative, single, expected);
        for (size_t p = 0; p < trial->parameters; p++)
            expect_close("a gradient", found[p] + e * trial->sizes[p], expected[p], trial->sizes[p],
                         largest(expected[p], trial->sizes[p]));
        free_arrays(trial, expected);
    }
    free(single);
}

static float **new_gradients(struct trial *trial, size_t count)
{
    float **arrays = calloc(trial->parameters + 1, sizeof *arrays);
    assert_non_null(arrays);
    for (size_t p = 0; p < trial->parameters; p++) {
        arrays[p] = model_allocate(count * trial->sizes[p] * sizeof **arrays);
        memset(arrays[p], 0, count * trial->sizes[p] * sizeof **arrays);
    }
    return arrays;
}

static void check_sums(struct trial *trial, struct net_derivative *derivative, size_t tile)
{
    size_t uses, wide = trial->wide;
    const struct net_use *use = net_derivative_uses(derivative, &uses);
    float *adjoints = model_allocate(tile * wide * sizeof *adjoints);
    float **found = new_gradients(trial, tile), **sums = new_gradients(trial, tile);
    const struct net_metric metric = {.diagonal = (const float *const *)trial->diagonal};
    double q[TILE];
    for (size_t i = 0; i < tile * wide; i++)
        adjoints[i] = model_random(trial->model, -1, 1);
    net_derivative_backward(derivative, adjoints, NULL);
    assert_memory_equal(net_derivative_output_adjoint(derivative), adjoints,
                        tile * wide * sizeof *adjoints);
    for (size_t p = 0; p < trial->parameters; p++) {
        net_derivative_gradients(derivative, p, tile, found[p]);
        if (p % 2) /* which multiplies the gradients that are kept by Σ */
            net_derivative_own_tangent(derivative, &metric, tile);
    }
    net_derivative_quadratic(derivative, &metric, tile, q);
    for (size_t i = 0; i < uses; i++)
        add_use(trial, derivative, &use[i], tile, sums);
    for (size_t i = 0; i < uses; i++)
        for (size_t j = 0; j < 2; j++) {
            size_t p = j ? use[i].bias : use[i].weight;
            if (p != NET_NONE && (j || use[i].complete))
                expect_close("a sum over positions", sums[p], found[p], tile * trial->sizes[p],
                             largest(found[p], tile * trial->sizes[p]));
        }
    check_gradients(trial, derivative, tile, adjoints, found);
    for (size_t e = 0; e < tile; e++) {
        double expected = 0;
        for (size_t p = 0; p < trial->parameters; p++)
            for (size_t i = 0; i < trial->sizes[p]; i++) {
                double g = (double)found[p][e * trial->sizes[p] + i];
                expected += g * g * (double)trial->diagonal[p][i];
            }
        assert_true(fabs(q[e] - expected) <= ROUNDING * expected);
    }
    free_arrays(trial, found);
    free_arrays(trial, sums);
    free(adjoints);
}

/* What a derivative for rows keeps is to the bit what the other has, and it tells nothing twice. */
static void check_rows(struct trial *trial, struct net_derivative *derivative, size_t tile)
{
    struct net_derivative *rows = NULL;
    struct ivon_error error = {0};
    size_t same = tile, uses, wide = trial->wide;
    int code = net_derivative_new_rows(&rows, trial->model->network,
                                       tile == 1 ? trial->unit_shapes : trial->shapes,
                                       trial->unit_shapes, &same, trial->wanted, 0, &error);
    if (!code)
        code = net_derivative_set_parameters(rows, (const float *const *)trial->values, &error);
    if (code)
        fail_msg("%s", error.message);
    assert_int_equal(same, tile);
    assert_true(net_derivative_memory(rows) < net_derivative_memory(derivative));
    float *adjoints = model_allocate(tile * wide * sizeof *adjoints);
    for (size_t i = 0; i < tile * wide; i++)
        adjoints[i] = model_random(trial->model, -1, 1);
    struct net_derivative *both[] = {derivative, rows};
    float **sums[2], **gradients[2];
    for (int d = 0; d < 2; d++) {
        const struct net_use *use = net_derivative_uses(both[d], &uses);
        sums[d] = new_gradients(trial, tile);
        gradients[d] = new_gradients(trial, tile);
        run(trial, both[d], 0);
        net_derivative_backward(both[d], adjoints, NULL);
        for (size_t i = 0; i < uses; i++)
            add_use(trial, both[d], &use[i], tile, sums[d]);
        for (size_t p = 0; p < trial->parameters; p++)
            net_derivative_gradients(both[d], p, tile, gradients[d][p]);
    }
    for (size_t p = 0; p < trial->parameters; p++) {
        const struct net_use *use = net_derivative_uses(rows, &uses);
        bool told = false;
        for (size_t i = 0; i < uses; i++)
            told |= use[i].weight == p && use[i].complete;
        size_t size = tile * trial->sizes[p] * sizeof(float);
        assert_memory_equal(sums[0][p], sums[1][p], size);
        for (size_t i = 0; i < tile * trial->sizes[p] && told; i++)
            assert_true(isnan(gradients[1][p][i]));
        if (!told)
            assert_memory_equal(gradients[0][p], gradients[1][p], size);
    }
    for (int d = 0; d < 2; d++) {
        free_arrays(trial, sums[d]);
        free_arrays(trial, gradients[d]);
    }
    free(adjoints);
    net_derivative_free(rows);
}

static void check_uses(struct model *model, size_t tile, const struct expected *list, size_t count)
{
    struct trial trial;
    size_t one = 1, found = TILE;
    model_output(model, "y");
    model_bind(model);
    trial_begin(&trial, model);
    struct net_derivative *derivatives[] = {make(&trial, &found), make(&trial, &one)};
    assert_int_equal(found, tile);
    for (int i = 0; i < 2; i++) {
        run(&trial, derivatives[i], 0);
        check_list(&trial, derivatives[i], list, count);
        check_sums(&trial, derivatives[i], i ? 1 : tile);
        check_rows(&trial, derivatives[i], i ? 1 : tile);
        net_derivative_free(derivatives[i]);
    }
    trial_end(&trial);
    model_end(model);
}

#define CHECK(model, tile, ...)                                                                    \
    check_uses(model, tile, (const struct expected[]){__VA_ARGS__},                                \
               sizeof((const struct expected[]){__VA_ARGS__}) / sizeof(struct expected))

static void rows_of_examples(void **state)
{
    (void)state;
    struct model m;
    add_perceptron(&m);
    CHECK(&m, TILE, {"w1", "b1", 1, 6, 8, false, false, 0}, {"w2", "b2", 1, 8, 4, true, false, 0});
}

/* With an Add of its own, a bias is none of the product's; a shared one is none. */
static void biases_elsewhere(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(6, 6), -1, 1);
    model_parameter(&m, "v", SHAPE(6, 6), -1, 1);
    model_parameter(&m, "u", SHAPE(6, 6), -1, 1);
    model_parameter(&m, "b", SHAPE(6), -1, 1);
    model_parameter(&m, "c", SHAPE(6), -1, 1);
    model_parameter(&m, "scalar", SHAPE(1), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w");
    model_node(&m, "Add", "hc", "h", "c");
    model_node(&m, "Tanh", "a", "hc");
    model_node(&m, "Gemm", "g", "a", "v", "b");
    model_node(&m, "Mul", "gb", "g", "b");
    model_node(&m, "Gemm", "y", "gb", "u", "scalar");
    CHECK(&m, TILE, {"w", NULL, 1, 6, 6, true, false, 0}, {"v", NULL, 1, 6, 6, true, false, 0},
          {"u", NULL, 1, 6, 6, true, false, 0});
}

/* Batches of matrices; as they are, transposed, and to the right of a weight. */
static void tokens(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 6));
    model_parameter(&m, "w", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "mixing", SHAPE(3, 4), -1, 1);
    model_parameter(&m, "left", SHAPE(2, 5), -1, 1);
    model_parameter(&m, "turned", SHAPE(5, 6), -1, 1);
    model_parameter(&m, "vector", SHAPE(6), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w"); /* 3 × 5 */
    model_ints(&m, "perm", LIST(0, 2, 1));
    model_node(&m, "Transpose", "ht", "h");
    model_node(&m, "MatMul", "mixed", "ht", "mixing"); /* 5 × 4 */
    model_node(&m, "Tanh", "a", "mixed");
    model_node(&m, "MatMul", "b", "left", "a"); /* 2 × 4 */
    model_node(&m, "Transpose", "transposed", "turned");
    model_node(&m, "MatMul", "c", "transposed", "a"); /* 6 × 4 */
    model_ints(&m, "perm", LIST(0, 2, 1));
    model_node(&m, "Transpose", "ct", "c"); /* 4 × 6 */
    model_node(&m, "MatMul", "d", "ct", "vector");
    model_integers(&m, "axes", LIST(1));
    model_node(&m, "Unsqueeze", "d1", "d", "axes");
    model_node(&m, "Mul", "y", "b", "d1");
    CHECK(&m, TILE, {"w", NULL, 1, 6, 5, true, false, 0}, {"mixing", NULL, 1, 3, 4, true, false, 0},
          {"left", NULL, 1, 5, 2, false, false, 0}, {"turned", NULL, 1, 5, 6, true, false, 0},
          {"vector", NULL, 1, 6, 1, true, false, 0});
}

static void images(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 7, 5));
    model_parameter(&m, "w1", SHAPE(4, 3, 3, 2), -0.5, 0.5);
    model_parameter(&m, "b1", SHAPE(4), -1, 1);
    model_parameter(&m, "grouped", SHAPE(4, 2, 1, 1), -0.5, 0.5);
    model_parameter(&m, "w2", SHAPE(2, 4, 3), -0.5, 0.5);
    model_parameter(&m, "dense", SHAPE(3, 2, 9), -0.5, 0.5);
    model_parameter(&m, "b2", SHAPE(3), -1, 1);
    model_integers(&m, "flat", LIST(0, 4, -1));
    model_ints(&m, "pads", LIST(2, 0, 1, 1));
    model_ints(&m, "dilations", LIST(2, 1));
    model_ints(&m, "strides", LIST(1, 2));
    model_node(&m, "Conv", "c1", "x", "w1", "b1"); /* 6 × 3 */
    model_node(&m, "Tanh", "a1", "c1");
    model_int(&m, "group", 2);
    model_node(&m, "Conv", "g1", "a1", "grouped");
    model_node(&m, "Reshape", "line", "g1", "flat");
    model_ints(&m, "strides", LIST(2));
    model_ints(&m, "pads", LIST(1, 0));
    model_node(&m, "Conv", "c2", "line", "w2"); /* 9 */
    model_node(&m, "Tanh", "a2", "c2");
    model_node(&m, "Conv", "y", "a2", "dense", "b2");
    CHECK(&m, TILE, {"w1", "b1", 1, 18, 4, false, false, 3},
          {"w2", NULL, 1, 12, 2, false, false, 0}, {"dense", "b2", 1, 18, 3, false, false, 0});
}

static void volumes(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 2, 4, 5, 3));
    model_parameter(&m, "w", SHAPE(3, 2, 2, 3, 2), -0.5, 0.5);
    model_parameter(&m, "b", SHAPE(3), -1, 1);
    model_parameter(&m, "once", SHAPE(2, 3, 1, 1, 1), -0.5, 0.5);
    model_ints(&m, "pads", LIST(1, 2, 0, 1, 0, 1));
    model_ints(&m, "strides", LIST(1, 2, 1));
    model_ints(&m, "dilations", LIST(1, 2, 1));
    model_node(&m, "Conv", "c", "x", "w", "b");
    model_node(&m, "Tanh", "a", "c");
    model_node(&m, "Conv", "y", "a", "once");
    CHECK(&m, TILE, {"w", "b", 1, 24, 3, false, false, 2},
          {"once", NULL, 1, 3, 2, false, false, 0});
}

/* Along the one axis of a line, and along the first of an image that has a stride along the other;
   with a stride along the first itself there are no bands. */
static void bands(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 2, 12));
    model_parameter(&m, "line", SHAPE(3, 2, 4), -0.5, 0.5);
    model_parameter(&m, "down", SHAPE(2, 3, 2, 3), -0.5, 0.5);
    model_parameter(&m, "across", SHAPE(2, 2, 2, 2), -0.5, 0.5);
    model_integers(&m, "image", LIST(0, 3, 4, 3));
    model_ints(&m, "pads", LIST(2, 1));
    model_node(&m, "Conv", "c", "x", "line"); /* 12 */
    model_node(&m, "Tanh", "a", "c");
    model_node(&m, "Reshape", "square", "a", "image");
    model_ints(&m, "pads", LIST(1, 1, 0, 1));
    model_ints(&m, "strides", LIST(2, 1));
    model_node(&m, "Conv", "d", "square", "down"); /* 2 × 3 */
    model_ints(&m, "strides", LIST(1, 2));
    model_ints(&m, "pads", LIST(1, 1, 0, 0));
    model_node(&m, "Conv", "y", "d", "across");
    CHECK(&m, TILE, {"line", NULL, 1, 8, 3, false, false, 4},
          {"down", NULL, 1, 18, 2, false, false, 0}, {"across", NULL, 1, 8, 2, false, false, 2});
}

/* A table that is the head, too; by a MatMul, which takes the transpose itself, and by a Gemm. */
static void tied_embedding(void **state)
{
    (void)state;
    for (int gemm = 0; gemm < 2; gemm++) {
        struct model m;
        model_begin(&m);
        model_input(&m, "ids", NET_INTEGER, SHAPE(-1, 4));
        model_parameter(&m, "table", SHAPE(VOCABULARY, 5), -1, 1);
        model_parameter(&m, "w", SHAPE(5, 5), -1, 1);
        model_integers(&m, "behind", LIST(-VOCABULARY));
        model_integers(&m, "rows", LIST(-1, 5));
        model_node(&m, "Add", "negative", "ids", "behind");
        model_node(&m, "Gather", "e", "table", "negative");
        model_node(&m, "MatMul", "h", "e", "w");
        model_node(&m, "Tanh", "a", "h");
        model_node(&m, "Transpose", "turned", "table");
        model_node(&m, "Reshape", "flat", "a", "rows");
        model_node(&m, gemm ? "Gemm" : "MatMul", "y", "flat", "turned");
        /* The table and the head see it from different sides: o is the embedding's width in the
           first, the vocabulary in the second. */
        struct trial trial;
        size_t tile = TILE, count;
        model_output(&m, "y");
        model_bind(&m);
        trial_begin(&trial, &m);
        struct net_derivative *derivative = make(&trial, &tile);
        assert_int_equal(tile, TILE);
        const struct net_use *uses = net_derivative_uses(derivative, &count);
        size_t table = model_number_of(&m, "table");
        assert_int_equal(count, 3);
        assert_true(uses[0].weight == table && uses[2].weight == table);
        assert_true(uses[0].lookup && !uses[1].lookup && !uses[2].lookup);
        assert_true(uses[0].transposed && uses[1].transposed && !uses[2].transposed);
        assert_true(uses[0].inputs == VOCABULARY && uses[0].outputs == 5);
        assert_true(uses[2].inputs == 5 && uses[2].outputs == VOCABULARY);
        for (size_t i = 0; i < 3; i++)
            assert_true(uses[i].positions == 4 && uses[i].complete && uses[i].bias == NET_NONE);
        run(&trial, derivative, 0);
        check_sums(&trial, derivative, tile);
        net_derivative_free(derivative);
        trial_end(&trial);
        model_end(&m);
    }
}

/* Weights in another form: the matrix is the parameter's own, or it is not listed. */
static void other_forms(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(3, 2, 4), -1, 1);
    model_parameter(&m, "cut", SHAPE(8, 2), -1, 1);
    model_parameter(&m, "turned", SHAPE(3, 4), -1, 1);
    model_parameter(&m, "bent", SHAPE(3, 3), -1, 1);
    model_parameter(&m, "partly", SHAPE(3, 3), -1, 1);
    model_integers(&m, "matrix", LIST(6, 4));
    model_integers(&m, "square", LIST(4, 4));
    model_node(&m, "Reshape", "w2", "w", "matrix");
    model_node(&m, "MatMul", "h", "x", "w2");
    model_node(&m, "Transpose", "cut2", "cut"); /* 2 × 8, then 4 × 4: other rows */
    model_node(&m, "Reshape", "cut3", "cut2", "square");
    model_node(&m, "MatMul", "h2", "h", "cut3");
    model_node(&m, "Tanh", "a", "h2");
    model_node(&m, "Transpose", "turned2", "turned");
    model_node(&m, "Gemm", "g", "a", "turned2");
    model_node(&m, "Tanh", "bent2", "bent");
    model_node(&m, "MatMul", "b", "g", "bent2");
    model_node(&m, "MatMul", "p", "b", "partly");
    model_node(&m, "Tanh", "partly2", "partly");
    model_node(&m, "MatMul", "y", "p", "partly2");
    CHECK(&m, TILE, {"w", NULL, 1, 6, 4, true, false, 0},
          {"turned", NULL, 1, 4, 3, false, false, 0}, {"partly", NULL, 1, 3, 3, true, true, 0});
}

/* What is not wanted is not listed; gradients of what output 0 does not need are zero. */
static void unwanted(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE, count;
    float adjoints[TILE * 4] = {1}, gradients[TILE * 48];
    const size_t elements = sizeof gradients / sizeof *gradients;
    add_perceptron(&m);
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    size_t first = model_number_of(&m, "w1"), second = model_number_of(&m, "w2");
    trial.wanted[first] = trial.wanted[model_number_of(&m, "b2")] = false;
    struct net_derivative *derivative = make(&trial, &tile);
    const struct net_use *use = net_derivative_uses(derivative, &count);
    assert_int_equal(count, 1);
    assert_true(use->weight == second && use->bias == NET_NONE);
    run(&trial, derivative, 0);
    net_derivative_backward(derivative, adjoints, NULL);
    net_derivative_gradients(derivative, first, TILE, gradients);
    assert_true(largest(gradients, elements) == 0);
    net_derivative_free(derivative);

    struct ivon_error error = {0};
    if (net_derivative_new_summed(&derivative, m.network, NULL, trial.shapes, trial.wanted, 0,
                                  &error))
        fail_msg("%s", error.message);
    net_derivative_uses(derivative, &count);
    assert_int_equal(count, 0);
    net_derivative_gradients(derivative, second, 1, gradients);
    assert_true(isnan(gradients[0]) && isnan(gradients[31]));
    net_derivative_free(derivative);
    trial_end(&trial);
    model_end(&m);
}

/* A parameter that only a comparison takes is active, but nothing comes back to it. */
static void compared(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4));
    model_parameter(&m, "w", SHAPE(4, 4), -1, 1);
    model_parameter(&m, "threshold", SHAPE(4), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w");
    model_node(&m, "Greater", "above", "h", "threshold");
    model_node(&m, "Where", "y", "above", "h", "x");
    CHECK(&m, TILE, {"w", NULL, 1, 4, 4, true, false, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_examples), cmocka_unit_test(biases_elsewhere),
        cmocka_unit_test(tokens),           cmocka_unit_test(images),
        cmocka_unit_test(volumes),          cmocka_unit_test(bands),
        cmocka_unit_test(tied_embedding),   cmocka_unit_test(other_forms),
        cmocka_unit_test(unwanted),         cmocka_unit_test(compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
