/*
 * Covariances with blocks, against the dense product in double of each example's gradient: by a
 * backward pass in which the other examples have no adjoint, and J by tangents. What is compared
 * is a sum of at most a few hundred products more than in derivative_checks.h, with bases whose
 * columns have length 1, and numbers D of one magnitude: ROUNDING holds.
 */
#include "derivative_checks.h"

enum { BLOCKS = 4, ARRAYS = 3 * BLOCKS, WIDEST = 64 };

enum bases { BOTH, INPUT, OUTPUT, NEITHER, IDENTITY, BASES };

struct block_case {
    const char *weight, *bias; /* of parameters; bias: null, or no part of the block */
    size_t rows;
    bool transposed;
};

struct blocks {
    struct net_block list[BLOCKS];
    const struct net_block *of[MODEL_TENSORS];
    size_t count;
    float *memory[ARRAYS];
    size_t used;
};

static float *blocks_new(struct blocks *blocks, size_t count)
{
    assert_true(blocks->used < ARRAYS);
    return blocks->memory[blocks->used++] = model_allocate(count * sizeof(float));
}

/* A random basis, by Gram and Schmidt, twice. */
static float *new_basis(struct blocks *blocks, struct model *model, size_t size, bool identity)
{
    double vectors[WIDEST][WIDEST];
    float *basis = blocks_new(blocks, size * size);
    assert_true(size <= WIDEST);
    for (size_t i = 0; i < size; i++) {
        for (size_t j = 0; j < size; j++)
            vectors[i][j] = identity ? i == j : (double)model_random(model, -1, 1);
        for (size_t k = 0; k < 2 * i; k++) {
            double along = 0;
            for (size_t j = 0; j < size; j++)
                along += vectors[i][j] * vectors[k % i][j];
            for (size_t j = 0; j < size; j++)
                vectors[i][j] -= along * vectors[k % i][j];
        }
        double length = 0;
        for (size_t j = 0; j < size; j++)
            length += vectors[i][j] * vectors[i][j];
        for (size_t j = 0; j < size; j++)
            basis[j * size + i] = (float)(vectors[i][j] /= sqrt(length));
    }
    return basis;
}

static void blocks_begin(struct blocks *blocks, struct trial *trial, const struct block_case *cases,
                         size_t count, enum bases bases)
{
    *blocks = (struct blocks){.count = count};
    for (size_t i = 0; i < count; i++) {
        struct net_block *block = &blocks->list[i];
        *block = (struct net_block){.weight = model_number_of(trial->model, cases[i].weight),
                                    .bias = NET_NONE,
                                    .rows = cases[i].rows,
                                    .transposed = cases[i].transposed};
        block->columns = trial->sizes[block->weight] / block->rows;
        if (cases[i].bias) {
            block->bias = model_number_of(trial->model, cases[i].bias);
            block->columns++;
            blocks->of[block->bias] = block;
        }
        blocks->of[block->weight] = block;
        if (bases == BOTH || bases == INPUT || bases == IDENTITY)
            block->input_basis = new_basis(blocks, trial->model, block->columns, bases == IDENTITY);
        if (bases == BOTH || bases == OUTPUT || bases == IDENTITY)
            block->output_basis = new_basis(blocks, trial->model, block->rows, bases == IDENTITY);
        float *diagonal = blocks_new(blocks, block->rows * block->columns);
        for (size_t j = 0; j < block->rows * block->columns; j++)
            diagonal[j] = model_random(trial->model, 0.1, 1);
        block->diagonal = diagonal;
    }
    trial->blocks = blocks->of;
}

static void blocks_end(struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->used; i++)
        free(blocks->memory[i]);
}

/* The place of element (r, c) of X, in the weight or the bias. */
static float *element_of(const struct net_block *block, float *const *arrays, size_t r, size_t c)
{
    size_t inputs = block->columns - (block->bias != NET_NONE);
    if (c == inputs)
        return &arrays[block->bias][r];
    return &arrays[block->weight][block->transposed ? c * block->rows + r : r * inputs + c];
}

static double basis_element(const float *basis, size_t size, size_t row, size_t column)
{
    return basis ? (double)basis[row * size + column] : row == column;
}

/* g ← Σ g of a block; returns gᵀ Σ g. */
static double dense_block(const struct net_block *block, float *const *arrays)
{
    size_t o = block->rows, n = block->columns;
    double *turned = calloc(o * n + 1, sizeof *turned), q = 0;
    assert_non_null(turned);
    for (size_t r = 0; r < o; r++)
        for (size_t c = 0; c < n; c++) {
            for (size_t i = 0; i < o; i++)
                for (size_t j = 0; j < n; j++)
                    turned[r * n + c] += basis_element(block->output_basis, o, i, r) *
                                         (double)*element_of(block, arrays, i, j) *
                                         basis_element(block->input_basis, n, j, c);
            q += turned[r * n + c] * turned[r * n + c] * (double)block->diagonal[r * n + c];
            turned[r * n + c] *= (double)block->diagonal[r * n + c];
        }
    for (size_t r = 0; r < o; r++)
        for (size_t c = 0; c < n; c++) {
            double sum = 0;
            for (size_t i = 0; i < o; i++)
                for (size_t j = 0; j < n; j++)
                    sum += basis_element(block->output_basis, o, r, i) * turned[i * n + j] *
                           basis_element(block->input_basis, n, c, j);
            *element_of(block, arrays, r, c) = (float)sum;
        }
    free(turned);
    return q;
}

/* The quadratic form of one example, and J Σ g, for each of `wide` outputs. */
static double dense_example(struct trial *trial, struct net_derivative *derivative,
                            const struct blocks *blocks, const float *adjoints, size_t tile,
                            size_t e, float *moved)
{
    size_t wide = trial->wide;
    float **gradients = new_arrays(trial, 0, 0);
    float *single = model_allocate(tile * wide * sizeof *single);
    double q = 0;
    memset(single, 0, tile * wide * sizeof *single);
    memcpy(single + e * wide, adjoints + e * wide, wide * sizeof *single);
    net_derivative_backward(derivative, single, gradients);
    for (size_t i = 0; i < blocks->count; i++)
        q += dense_block(&blocks->list[i], gradients);
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < trial->sizes[p] && !blocks->of[p]; i++) {
            double g = (double)gradients[p][i], d = (double)trial->diagonal[p][i];
            q += g * g * d;
            gradients[p][i] = (float)(g * d);
        }
    const float *tangent = net_derivative_tangent(derivative, (const float *const *)gradients);
    memcpy(moved, tangent + e * wide, wide * sizeof *moved);
    free_arrays(trial, gradients);
    free(single);
    return q;
}

static void expect_same(const char *what, double found, double expected)
{
    if (!(fabs(found - expected) <= ROUNDING * fabs(expected)))
        fail_msg("%s: %.9g, expected %.9g", what, found, expected);
}

/* The first `count` examples of a tile; what each moves, and its quadratic form. */
static void check_blocks(struct trial *trial, struct net_derivative *derivative,
                         const struct blocks *blocks, const float *adjoints, size_t tile,
                         size_t count, float *moved, double *q)
{
    const float *none[MODEL_TENSORS] = {NULL}; /* nothing is asked of what is in a block */
    const struct net_metric metric = {.diagonal = none, .blocks = blocks->of};
    size_t wide = trial->wide;
    float *expected = model_allocate(wide * sizeof *expected);
    for (size_t p = 0; p < trial->parameters; p++)
        none[p] = blocks->of[p] ? NULL : trial->diagonal[p];
    net_derivative_backward(derivative, adjoints, NULL);
    memcpy(moved, net_derivative_own_tangent(derivative, &metric, count),
           count * wide * sizeof *moved);
    net_derivative_quadratic(derivative, &metric, count, q);
    const float *again = net_derivative_own_tangent(derivative, &metric, count);
    assert_memory_equal(again, moved, count * wide * sizeof *moved);
    for (size_t e = 0; e < count; e++) {
        double by_dense = dense_example(trial, derivative, blocks, adjoints, tile, e, expected);
        expect_close("an example's own tangent", moved + e * wide, expected, wide,
                     largest(expected, wide));
        assert_true(by_dense > 0);
        expect_same("a quadratic form", q[e], by_dense);
    }
    free(expected);
}

/* Bases that are the identity give what the diagonal gives. */
static void check_identity_bases(struct trial *trial, struct net_derivative *derivative,
                                 const struct blocks *blocks, const float *adjoints, size_t tile,
                                 const float *moved, const double *q)
{
    float **diagonal = new_arrays(trial, 0, 0);
    const struct net_metric metric = {.diagonal = (const float *const *)diagonal};
    double by_diagonal[TILE];
    for (size_t p = 0; p < trial->parameters; p++)
        if (!blocks->of[p])
            memcpy(diagonal[p], trial->diagonal[p], trial->sizes[p] * sizeof(float));
    for (size_t i = 0; i < blocks->count; i++) {
        const struct net_block *block = &blocks->list[i];
        for (size_t r = 0; r < block->rows; r++)
            for (size_t c = 0; c < block->columns; c++)
                *element_of(block, diagonal, r, c) = block->diagonal[r * block->columns + c];
    }
    struct net_derivative *plain = NULL;
    const struct net_block *const *of = trial->blocks;
    size_t same = tile;
    for (int made_for_blocks = 0; made_for_blocks < 2; made_for_blocks++) {
        trial->blocks = made_for_blocks ? of : NULL;
        plain = make(trial, &same);
        assert_int_equal(same, tile);
        run(trial, plain, 0);
        net_derivative_backward(plain, adjoints, NULL);
        net_derivative_quadratic(plain, &metric, tile, by_diagonal);
        for (size_t e = 0; e < tile; e++)
            expect_same("a quadratic form by its diagonal", by_diagonal[e], q[e]);
        expect_close("a tangent by its diagonal", net_derivative_own_tangent(plain, &metric, tile),
                     moved, tile * trial->wide, largest(moved, tile * trial->wide));
        net_derivative_free(plain);
    }
    /* Another metric of the same run. */
    net_derivative_backward(derivative, adjoints, NULL);
    net_derivative_quadratic(derivative, &metric, tile, by_diagonal);
    for (size_t e = 0; e < tile; e++)
        expect_same("a quadratic form by another metric", by_diagonal[e], q[e]);
    free_arrays(trial, diagonal);
}

/* A tile, a part of it, and single examples. */
static void check_bases(struct model *model, const struct block_case *cases, size_t count,
                        size_t expected, enum bases bases)
{
    struct trial trial;
    struct blocks blocks;
    size_t tile = TILE, one = 1;
    double q[TILE], part_q[TILE], unit_q;
    trial_begin(&trial, model);
    blocks_begin(&blocks, &trial, cases, count, bases);
    struct net_derivative *derivative = make(&trial, &tile), *unit = make(&trial, &one);
    assert_int_equal(tile, expected);
    size_t wide = trial.wide, present = tile == TILE ? PRESENT : 1;
    float *adjoints = model_allocate((size_t)3 * TILE * wide * sizeof *adjoints);
    float *moved = adjoints + TILE * wide, *part = moved + TILE * wide;
    for (size_t i = 0; i < TILE * wide; i++)
        adjoints[i] = model_random(model, -1, 1);
    run(&trial, derivative, 0);
    check_blocks(&trial, derivative, &blocks, adjoints, tile, tile, moved, q);
    if (bases == IDENTITY || bases == NEITHER)
        check_identity_bases(&trial, derivative, &blocks, adjoints, tile, moved, q);
    for (size_t e = 0; e < present; e++) {
        run(&trial, unit, e);
        check_blocks(&trial, unit, &blocks, adjoints + e * wide, 1, 1, part, &unit_q);
        expect_close("a tile of one", part, moved + e * wide, wide, largest(part, wide));
        expect_same("a quadratic form of a tile of one", unit_q, q[e]);
    }
    for (size_t i = present * wide; i < tile * wide; i++)
        adjoints[i] = 1e6F; /* examples that are not there */
    check_blocks(&trial, derivative, &blocks, adjoints, tile, present, part, part_q);
    assert_memory_equal(part, moved, present * wide * sizeof *part);
    assert_memory_equal(part_q, q, present * sizeof *q);
    net_derivative_free(derivative);
    net_derivative_free(unit);
    free(adjoints);
    blocks_end(&blocks);
    trial_end(&trial);
}

static void check_cases(struct model *model, const char *output, const struct block_case *cases,
                        size_t count, size_t expected)
{
    model_output(model, output);
    model_bind(model);
    for (enum bases bases = 0; bases < BASES; bases++)
        check_bases(model, cases, count, expected, bases);
    model_end(model);
}

#define CHECK(model, output, expected, ...)                                                        \
    check_cases(model, output, (const struct block_case[]){__VA_ARGS__},                           \
                sizeof((const struct block_case[]){__VA_ARGS__}) / sizeof(struct block_case),      \
                expected)

static void perceptron(void **state)
{
    (void)state;
    for (int biases = 0; biases < 2; biases++) {
        struct model m;
        add_perceptron(&m);
        CHECK(&m, "y", TILE, {"w1", biases ? "b1" : NULL, 8, false},
              {"w2", biases ? "b2" : NULL, 4, true});
    }
}

/* A block that is laid out the other way than the product sees the weight, one whose weight is a
   vector, and parameters in none. */
static void other_layouts(void **state)
{
    (void)state;
    struct model m;
    add_perceptron(&m);
    CHECK(&m, "y", TILE, {"w1", NULL, 6, true}, {"w2", NULL, 8, false}, {"b1", NULL, 8, false});
}

static void sums(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "b", SHAPE(5), -1, 1);
    model_parameter(&m, "scale", SHAPE(5), 0.5, 1);
    model_parameter(&m, "lone", SHAPE(5), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w");
    model_node(&m, "Add", "hb", "h", "b");
    model_node(&m, "Mul", "scaled", "hb", "scale");
    model_node(&m, "Tanh", "a", "scaled");
    model_node(&m, "Add", "y", "a", "lone");
    CHECK(&m, "y", TILE, {"w", "b", 5, true}, {"lone", NULL, 5, false});
}

static void tokens(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 6));
    model_parameter(&m, "w", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "b", SHAPE(5), -1, 1);
    model_parameter(&m, "gain", SHAPE(1), 0.5, 1);
    model_parameter(&m, "v", SHAPE(5, 4), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w");
    model_node(&m, "Add", "hb", "h", "b");
    model_node(&m, "Mul", "scaled", "hb", "gain");
    model_node(&m, "Tanh", "a", "scaled");
    model_node(&m, "MatMul", "y", "a", "v");
    CHECK(&m, "y", TILE, {"w", NULL, 5, true}, {"v", NULL, 4, true});
}

static void convolutions(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 6, 5));
    model_parameter(&m, "w1", SHAPE(4, 3, 3, 2), -0.5, 0.5);
    model_parameter(&m, "b1", SHAPE(4), -1, 1);
    model_parameter(&m, "w2", SHAPE(2, 4, 3), -0.5, 0.5);
    model_parameter(&m, "b2", SHAPE(2), -1, 1);
    model_integers(&m, "flat", LIST(0, 4, -1));
    model_ints(&m, "pads", LIST(1, 0, 1, 1));
    model_node(&m, "Conv", "c1", "x", "w1", "b1");
    model_node(&m, "Tanh", "a1", "c1");
    model_node(&m, "Reshape", "line", "a1", "flat");
    model_ints(&m, "strides", LIST(4));
    model_node(&m, "Conv", "c2", "line", "w2", "b2");
    model_node(&m, "Flatten", "y", "c2");
    CHECK(&m, "y", TILE, {"w1", "b1", 4, false}, {"w2", NULL, 2, false});
}

/* A weight that two nodes use, with a bias of one of them; a bias that two use. */
static void tied(void **state)
{
    (void)state;
    for (int part = 0; part < 3; part++) {
        struct model m;
        model_begin(&m);
        model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
        model_parameter(&m, "w", SHAPE(6, 6), -1, 1);
        model_parameter(&m, "v", SHAPE(6, 6), -1, 1);
        model_parameter(&m, "b", SHAPE(6), -1, 1);
        model_parameter(&m, "c", SHAPE(6), -1, 1);
        model_node(&m, "Gemm", "h", "x", "w", "b");
        model_node(&m, "Tanh", "a", "h");
        if (part == 0) /* the weight is tied */
            model_node(&m, "Gemm", "y", "a", "w", "c");
        else if (part == 1) /* the bias */
            model_node(&m, "Gemm", "y", "a", "v", "b");
        else /* the bias stands elsewhere */
            model_node(&m, "Add", "y", "a", "c");
        CHECK(&m, "y", TILE, {"w", part == 2 ? "c" : "b", 6, true});
    }
}

static void tied_embedding(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "ids", NET_INTEGER, SHAPE(-1, 4));
    model_parameter(&m, "table", SHAPE(VOCABULARY, 5), -1, 1);
    model_parameter(&m, "w", SHAPE(5, 5), -1, 1);
    model_node(&m, "Gather", "e", "table", "ids");
    model_node(&m, "MatMul", "h", "e", "w");
    model_node(&m, "Tanh", "a", "h");
    model_node(&m, "Transpose", "turned", "table");
    model_node(&m, "MatMul", "y", "a", "turned");
    CHECK(&m, "y", TILE, {"table", NULL, 5, true}, {"w", NULL, 5, true});
}

/* A block with a parameter that output 0 does not need. */
static void unused_parameter(void **state)
{
    (void)state;
    for (int weight = 0; weight < 2; weight++) {
        struct model m;
        add_perceptron(&m);
        model_parameter(&m, "other", SHAPE(6, 8), -1, 1);
        model_parameter(&m, "added", SHAPE(8), -1, 1);
        model_node(&m, "Gemm", "z", "x", "other", "added");
        model_output(&m, "y");
        model_output(&m, "z");
        m.network->chosen = true; /* both stay */
        model_bind(&m);
        const struct block_case block = {weight ? "w1" : "other", weight ? "added" : "b1", 8,
                                         !weight};
        for (enum bases bases = 0; bases < BASES; bases++)
            check_bases(&m, &block, 1, TILE, bases);
        model_end(&m);
    }
}

/* A batch on the second axis: single examples. */
static void single_examples(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 4));
    model_parameter(&m, "w", SHAPE(4, 4), -1, 1);
    model_parameter(&m, "b", SHAPE(4), -1, 1);
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "time", "x");
    model_node(&m, "MatMul", "h", "time", "w");
    model_node(&m, "Add", "hb", "h", "b");
    model_node(&m, "Tanh", "a", "hb");
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "y", "a");
    CHECK(&m, "y", 1, {"w", "b", 4, true});
}

/* Refusals: one of two parameters is not wanted, or the extents are others. */
static void bad_blocks(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    size_t tile = TILE;
    add_perceptron(&m);
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    size_t weight = model_number_of(&m, "w1"), bias = model_number_of(&m, "b1");
    const struct net_block good = {.weight = weight, .bias = bias, .rows = 8, .columns = 7};
    for (int fault = 0; fault < 6; fault++) {
        struct net_block block = good;
        const struct net_block *of[MODEL_TENSORS] = {NULL};
        of[weight] = of[bias] = &block;
        trial.wanted[weight] = trial.wanted[bias] = true;
        if (fault == 0)
            trial.wanted[bias] = false;
        if (fault == 1)
            trial.wanted[weight] = false;
        if (fault == 2)
            block.columns = 6;
        if (fault == 3)
            block.rows = 7;
        if (fault == 4)
            of[bias] = NULL;
        if (fault == 5)
            trial.wanted[weight] = trial.wanted[bias] = false; /* no fault */
        int code = net_derivative_new(&derivative, m.network, trial.shapes, trial.unit_shapes,
                                      &tile, trial.wanted, of, 0, &error);
        assert_int_equal(code, fault == 5 ? 0 : IVON_ERROR_ARGUMENT);
        if (code)
            assert_non_null(strstr(error.message, "which its parameters, all wanted, do not have"));
        else
            net_derivative_free(derivative);
    }
    trial_end(&trial);
    model_end(&m);
}

/* Arrays that are null, and matrices of no rows or columns. */
static void gather_and_scatter(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    for (size_t rows = 0; rows <= 40; rows += 20)
        for (size_t inputs = 0; inputs <= 70; inputs += 35)
            for (int form = 0; form < 4; form++) {
                struct net_block block = {.weight = 0,
                                          .bias = form & 1 ? 1 : NET_NONE,
                                          .rows = rows,
                                          .columns = inputs + (form & 1),
                                          .transposed = form & 2};
                size_t size = rows * block.columns;
                float *arrays[2] = {model_allocate(rows * inputs * sizeof(float)),
                                    model_allocate(rows * sizeof(float))};
                float *x = model_allocate(size * sizeof *x), *back[2];
                for (int i = 0; i < 2; i++) {
                    back[i] = model_allocate((i ? rows : rows * inputs) * sizeof(float));
                    for (size_t j = 0; j < (i ? rows : rows * inputs); j++)
                        arrays[i][j] = model_random(&m, -1, 1);
                }
                for (int null = 0; null < 3; null++) {
                    net_block_gather(&block, null == 1 ? NULL : arrays[0],
                                     null == 2 ? NULL : arrays[1], x);
                    for (size_t r = 0; r < rows; r++)
                        for (size_t c = 0; c < block.columns; c++) {
                            bool zero = null && (c == inputs) == (null == 2);
                            float expected = zero ? 0 : *element_of(&block, arrays, r, c);
                            assert_true(x[r * block.columns + c] == expected);
                        }
                    net_block_scatter(&block, x, null == 1 ? NULL : back[0],
                                      null == 2 ? NULL : back[1]);
                }
                if (size)
                    net_block_gather(&block, arrays[0], arrays[1], x);
                net_block_scatter(&block, x, back[0], back[1]);
                assert_memory_equal(back[0], arrays[0], rows * inputs * sizeof(float));
                if (block.bias != NET_NONE)
                    assert_memory_equal(back[1], arrays[1], rows * sizeof(float));
                for (int i = 0; i < 2; i++) {
                    free(arrays[i]);
                    free(back[i]);
                }
                free(x);
            }
    model_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perceptron),
        cmocka_unit_test(other_layouts),
        cmocka_unit_test(sums),
        cmocka_unit_test(tokens),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(tied),
        cmocka_unit_test(tied_embedding),
        cmocka_unit_test(unused_parameter),
        cmocka_unit_test(single_examples),
        cmocka_unit_test(bad_blocks),
        cmocka_unit_test(gather_and_scatter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
