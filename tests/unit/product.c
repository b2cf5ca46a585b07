/* Gemm and MatMul against sums in double over random shapes, their derivatives, hostile shapes. */
#include "operator.h"

#include "net/ops/product/panel.h"
#include "net/ops/product/panel_product.h"
#include "net/ops/product/product.h"

/*
 * A sum of k products in float, whatever the order, is within (k + 1) 2^-24 of the sum of the
 * products' sizes (Higham, Accuracy and Stability, 2002, eq. 3.5, to first order); alpha, beta and
 * the last sum add three roundings more.
 */
static double bound(int64_t k)
{
    return (double)(k + 4) * ldexp(1, -24);
}

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

/* Element (row, column) of a matrix as it is used. */
static double element(const float *data, bool transposed, int64_t rows, int64_t columns,
                      int64_t row, int64_t column)
{
    return (double)data[transposed ? column * rows + row : row * columns + column];
}

/* Which of c's shapes: 0 none, 1 scalar, 2 n, 3 1 x n, 4 m x 1, 5 m x n. */
static struct net_tensor *add_c(struct trial *trial, int kind, int64_t m, int64_t n)
{
    static const int ranks[] = {0, 0, 1, 2, 2, 2};
    int64_t shapes[][2] = {{0}, {0}, {n}, {1, n}, {m, 1}, {m, n}};
    return kind ? trial_floats(trial, ranks[kind], shapes[kind], NULL, -1, 1) : NULL;
}

static void check_gemm(uint64_t seed)
{
    struct trial trial;
    trial_begin(&trial, "Gemm", 1);
    trial.state += seed * 7919;
    int64_t m = seed % 5 ? pick(&trial, 1, 20) : 1, n = pick(&trial, 1, 20),
            k = pick(&trial, 0, 70);
    bool ta = seed & 1, tb = seed & 2;
    int kind = (int)(seed % 6);
    double alpha = seed % 4 ? 1 : (double)0.7F, beta = seed % 5 ? 1 : (double)-0.3F;
    trial_int(&trial, "transA", ta);
    trial_int(&trial, "transB", tb);
    trial_number(&trial, "alpha", alpha);
    trial_number(&trial, "beta", beta);
    int64_t shape_a[] = {ta ? k : m, ta ? m : k}, shape_b[] = {tb ? n : k, tb ? k : n};
    float *a = trial_floats(&trial, 2, shape_a, NULL, -1, 1)->data;
    float *b = trial_floats(&trial, 2, shape_b, NULL, -1, 1)->data;
    struct net_tensor *tensor = add_c(&trial, kind, m, n);
    const float *c = tensor ? tensor->data : NULL;
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(trial.outputs[0].rank, 2);
    assert_int_equal(trial.outputs[0].shape[0], m);
    assert_int_equal(trial.outputs[0].shape[1], n);
    const float *y = trial.outputs[0].data;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (int64_t l = 0; l < k; l++) {
                double term = alpha * element(a, ta, m, k, i, l) * element(b, tb, k, n, l, j);
                sum += term;
                size += fabs(term);
            }
            int64_t at[] = {0, 0, j, j, i, i * n + j};
            double added = c ? beta * (double)c[at[kind]] : 0;
            if (!(fabs((double)y[i * n + j] - sum - added) <= bound(k) * (size + fabs(added))))
                fail_msg("seed %zu: %lld, %lld: %.9g, expected %.9g", (size_t)seed, (long long)i,
                         (long long)j, (double)y[i * n + j], sum + added);
        }
    /* Outputs of up to sqrt(70): the difference rounds to about 8 * 2^-24 / step; the function is
       bilinear, so central differences have no other error. The identity: bound(70) with margin for
       its own three sums. */
    trial_check_derivatives(&trial, 7, 0.25, 1e-4, 4 * bound(70));
    trial_end(&trial);
}

static void gemm(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++)
        check_gemm(seed);
}

/* A random batch shape, and what of it an operand has: extents of 1, or fewer axes. */
static int batch_shape(struct trial *trial, const int64_t *batch, int rank, int64_t *shape)
{
    int own = (int)pick(trial, 0, rank);
    for (int i = 0; i < own; i++)
        shape[i] = pick(trial, 0, 2) ? batch[rank - own + i] : 1;
    return own;
}

static size_t batch_offset(const struct net_tensor *tensor, int own, const int64_t *index, int rank)
{
    size_t at = 0;
    for (int i = 0; i < own; i++)
        at = at * (size_t)tensor->shape[i] +
             (size_t)(tensor->shape[i] == 1 ? 0 : index[rank - own + i]);
    return at;
}

static void check_matmul(uint64_t seed, bool ta, bool tb)
{
    struct trial trial;
    trial_begin(&trial, "MatMul", 1);
    trial.state += seed * 104729;
    int64_t m = pick(&trial, 1, 9), n = pick(&trial, 1, 9), k = pick(&trial, 1, 40);
    int64_t batch[3], shape_a[5], shape_b[5], expected[5];
    int rank = (int)(seed % 4);
    for (int i = 0; i < rank; i++)
        batch[i] = pick(&trial, 1, 4);
    int own_a = batch_shape(&trial, batch, rank, shape_a);
    int own_b = batch_shape(&trial, batch, rank, shape_b);
    bool vector_a = !ta && own_a == 0 && seed % 3 == 0;
    bool vector_b = !tb && own_b == 0 && seed % 5 == 0;
    int rank_a = own_a, rank_b = own_b;
    if (vector_a)
        m = 1;
    else
        shape_a[rank_a++] = ta ? k : m;
    shape_a[rank_a++] = ta ? m : k;
    if (vector_b)
        n = 1;
    shape_b[rank_b++] = tb ? n : k;
    if (!vector_b)
        shape_b[rank_b++] = tb ? k : n;
    const struct net_tensor *a = trial_floats(&trial, rank_a, shape_a, NULL, -1, 1);
    const struct net_tensor *b = trial_floats(&trial, rank_b, shape_b, NULL, -1, 1);

    assert_int_equal(trial.call.node->op->infer_transposed(&trial.call, ta, tb, NULL), 0);
    assert_int_equal(net_tensor_allocate(&trial.outputs[0], NULL), 0);
    assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);

    const struct net_tensor *y = &trial.outputs[0];
    int most = own_a > own_b ? own_a : own_b;
    int64_t index[3] = {0};
    size_t total = (size_t)(m * n);
    for (int i = 0; i < most; i++) {
        int64_t left = i >= most - own_a ? shape_a[i - most + own_a] : 1;
        int64_t right = i >= most - own_b ? shape_b[i - most + own_b] : 1;
        expected[i] = left > right ? left : right;
        assert_int_equal(y->shape[i], expected[i]);
        total *= (size_t)expected[i];
    }
    assert_int_equal(y->rank, most + !vector_a + !vector_b);
    assert_int_equal(y->count, total);
    for (size_t at = 0; at < total / (size_t)(m * n); at++) {
        size_t rest = at;
        for (int i = most - 1; i >= 0; i--) {
            index[i] = (int64_t)(rest % (size_t)expected[i]);
            rest /= (size_t)expected[i];
        }
        const float *left = (const float *)a->data +
                            batch_offset(a, own_a, index, most) * (size_t)(m * k);
        const float *right = (const float *)b->data +
                             batch_offset(b, own_b, index, most) * (size_t)(k * n);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, size = 0;
                for (int64_t l = 0; l < k; l++) {
                    double term = element(left, ta, m, k, i, l) * element(right, tb, k, n, l, j);
                    sum += term;
                    size += fabs(term);
                }
                double found =
                    (double)((float *)y->data)[at * (size_t)(m * n) + (size_t)(i * n + j)];
                if (!(fabs(found - sum) <= bound(k) * size))
                    fail_msg("seed %zu: %.9g, expected %.9g", (size_t)seed, found, sum);
            }
    }
    /* As for Gemm; adjoints of operands that are broadcast sum over up to 64 entries more. */
    trial_check_derivatives(&trial, 3, 0.25, 1e-4, 4 * bound(40 + 64));
    trial_end(&trial);
}

static void matmul(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++)
        check_matmul(seed, false, false);
    for (uint64_t seed = 0; seed < 90; seed++)
        check_matmul(seed, seed % 3 == 0, seed % 3 != 2);
}

/* Parameters on the right, and the bias, or on the left alone; the other operand has the examples
   along its first axis. */
static void check_examples(const char *name, int rank_a, const int64_t *shape_a, int rank_b,
                           const int64_t *shape_b, bool tb, int rank_c, const int64_t *shape_c,
                           size_t input, size_t examples)
{
    struct trial trial;
    trial_begin(&trial, name, 1);
    if (tb)
        trial_int(&trial, "transB", 1);
    trial_floats(&trial, rank_a, shape_a, NULL, -1, 1);
    trial_floats(&trial, rank_b, shape_b, NULL, -1, 1);
    if (rank_c)
        trial_floats(&trial, rank_c, shape_c, NULL, -1, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial_check_examples(&trial, input, input ? 6 : 1, examples, 4 * bound(64));
    trial_end(&trial);
}

static void examples(void **state)
{
    (void)state;
    check_examples("MatMul", 2, (int64_t[]){12, 5}, 2, (int64_t[]){5, 7}, false, 0, NULL, 1, 4);
    check_examples("MatMul", 3, (int64_t[]){6, 3, 5}, 2, (int64_t[]){5, 7}, false, 0, NULL, 1, 3);
    check_examples("MatMul", 3, (int64_t[]){6, 3, 5}, 1, (int64_t[]){5}, false, 0, NULL, 1, 6);
    check_examples("MatMul", 4, (int64_t[]){6, 2, 3, 5}, 3, (int64_t[]){2, 5, 7}, false, 0, NULL, 1,
                   3);
    check_examples("MatMul", 2, (int64_t[]){4, 5}, 3, (int64_t[]){6, 5, 7}, false, 0, NULL, 0, 6);
    check_examples("MatMul", 1, (int64_t[]){5}, 3, (int64_t[]){6, 5, 7}, false, 0, NULL, 0, 2);
    for (int tb = 0; tb < 2; tb++) {
        const int64_t *b = tb ? (int64_t[]){7, 5} : (int64_t[]){5, 7};
        check_examples("Gemm", 2, (int64_t[]){12, 5}, 2, b, tb, 1, (int64_t[]){7}, 1, 4);
        check_examples("Gemm", 2, (int64_t[]){12, 5}, 2, b, tb, 1, (int64_t[]){7}, 1, 12);
        check_examples("Gemm", 2, (int64_t[]){12, 5}, 2, b, tb, 1, (int64_t[]){7}, 2, 4);
        check_examples("Gemm", 2, (int64_t[]){12, 5}, 2, b, tb, 2, (int64_t[]){1, 1}, 2, 12);
    }
}

/* Shapes that infer must refuse; the elements are never touched, so there are none. */
static void refuse(const char *name, size_t count, const struct net_tensor *inputs,
                   const char *expected)
{
    struct trial trial;
    struct ivon_error error;
    trial_begin(&trial, name, 1);
    for (size_t i = 0; i < count; i++) {
        trial.inputs[i] = inputs[i];
        trial.input_list[i] = &trial.inputs[i];
    }
    trial.node.input_count = count;
    assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(&trial);
}

#define F(rank_, ...)                                                                              \
    {                                                                                              \
        .type = NET_FLOAT, .rank = (rank_), .shape = { __VA_ARGS__ }                               \
    }

static void refuses(void **state)
{
    (void)state;
    const int64_t huge = (int64_t)1 << 33;
    const struct {
        const char *op, *expected;
        struct net_tensor inputs[3];
    } cases[] = {
        {"MatMul", "2x3 by 4x5", {F(2, 2, 3), F(2, 4, 5)}},
        {"MatMul", "scalar", {F(0, 0), F(1, 4)}},
        {"MatMul", "scalar", {F(1, 4), F(0, 0)}},
        {"MatMul", "cannot be broadcast: 2x2x3 by 3x3x5", {F(3, 2, 2, 3), F(3, 3, 3, 5)}},
        {"MatMul", "too large", {F(2, huge, 1), F(2, 1, 1)}},
        {"MatMul", "too large", {F(2, 1, huge), F(2, huge, 1)}},
        {"MatMul", "too large", {F(4, huge, 1, INT32_MAX, 1), F(4, 1, huge, 1, INT32_MAX)}},
        {"MatMul",
         "integer, expected float",
         {F(2, 1, 1), {.type = NET_INTEGER, .rank = 2, .shape = {1, 1}}}},
        {"Gemm", "3 dimensions", {F(3, 1, 2, 3), F(2, 3, 5)}},
        {"Gemm",
         "C of shape 4 cannot be broadcast to the product's 2x5",
         {F(2, 2, 3), F(2, 3, 5), F(1, 4)}},
        {"Gemm", "C of shape 2x5", {F(2, 1, 3), F(2, 3, 5), F(2, 2, 5)}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(cases[i].op, cases[i].op[0] == 'G' && i > 7 ? 3 : 2, cases[i].inputs,
               cases[i].expected);
}

/* Extents of 0 give sums of nothing: zeros, and never what was in memory before. */
static void empty(void **state)
{
    (void)state;
    static const int64_t shapes[][2][3] = {{{2, 3, 0}, {2, 0, 4}},
                                           {{2, 0, 3}, {2, 3, 4}},
                                           {{0, 2, 3}, {0, 3, 4}},
                                           {{2, 3, 4}, {2, 4, 0}}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "MatMul", 1);
        trial_floats(&trial, 3, shapes[i][0], NULL, -1, 1);
        trial_floats(&trial, 3, shapes[i][1], NULL, -1, 1);
        assert_int_equal(trial_run(&trial, NULL), 0);
        float *y = trial.outputs[0].data;
        for (size_t j = 0; j < trial.outputs[0].count; j++)
            y[j] = NAN;
        assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
        for (size_t j = 0; j < trial.outputs[0].count; j++)
            assert_true(y[j] == 0.0F);
        trial_check_derivatives(&trial, 3, 0.25, 0, 0);
        trial_end(&trial);
    }
}

/* Panels: widths that overlap, several spans of terms, rows apart from each other. */

enum { PANEL_M = 61, PANEL_N = 200, PANEL_K = 800, PANEL_GAP = 3 };

struct panel_case {
    float a[PANEL_M * (PANEL_K + PANEL_GAP)], b[PANEL_K * (PANEL_N + PANEL_GAP)], bias[PANEL_N];
    float y[PANEL_M * (PANEL_N + PANEL_GAP)], rows[PANEL_M * (PANEL_N + PANEL_GAP)];
};

static void panel_fill(struct trial *trial, float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = trial_random(trial, -1, 1);
}

static void panel_check_sums(const struct panel_product *p, const struct panel_case *values,
                             const float *before)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double start = p->bias  ? (double)p->bias[j]
                           : p->add ? (double)before[i * p->ldy + j]
                                    : 0;
            double sum = 0, size = fabs(start);
            for (int64_t l = 0; l < p->k; l++) {
                size_t at = (size_t)(p->transpose_b ? j * p->ldb + l : l * p->ldb + j);
                double term = (double)values->a[i * p->lda + l] * (double)values->b[at];
                sum += (double)p->alpha * term;
                size += fabs((double)p->alpha * term);
            }
            if (!(fabs((double)values->y[i * p->ldy + j] - start - sum) <= bound(p->k) * size))
                fail_msg("%lld x %lld x %lld: row %lld, column %lld: %.9g, expected %.9g",
                         (long long)p->m, (long long)p->n, (long long)p->k, (long long)i,
                         (long long)j, (double)values->y[i * p->ldy + j], start + sum);
        }
}

/* Rows one at a time have the bits that they have together. */
static void panel_check_rows(const struct panel_product *p, struct panel_case *values,
                             const float *before)
{
    struct panel_product row = *p;
    row.m = 1;
    memcpy(values->rows, before, sizeof values->rows);
    for (int64_t i = 0; i < p->m; i++)
        panel_product_run(&row, values->a + i * p->lda, values->b, values->rows + i * p->ldy);
    assert_memory_equal(values->rows, values->y, sizeof values->y);
}

static void panels(void **state)
{
    (void)state;
    static const int64_t widths[] = {16, 17, 40, 64, 65, 79, 80, 130, 200}, terms[] = {1, 384, 800};
    struct trial trial;
    trial_begin(&trial, "MatMul", 1);
    struct panel_case *values = calloc(2, sizeof *values);
    assert_non_null(values);
    panel_fill(&trial, values->a, sizeof *values / sizeof(float));
    for (size_t i = 0; i < sizeof widths / sizeof widths[0] * 3 * 8; i++) {
        int64_t n = widths[i / 24], k = terms[i / 8 % 3];
        bool transposed = i & 1, scaled = (i & 6) == 6;
        struct panel_product p = {.transpose_b = transposed,
                                  .m = PANEL_M,
                                  .n = n,
                                  .k = k,
                                  .lda = k + PANEL_GAP,
                                  .ldb = (transposed ? k : n) + PANEL_GAP,
                                  .ldy = n + PANEL_GAP,
                                  .alpha = scaled ? 0.3F : 1,
                                  .bias = (i & 6) == 2 ? values->bias : NULL,
                                  .add = (i & 6) == 4};
        const float *before = values[1].y;
        memcpy(values->y, before, sizeof values->y);
        panel_product_run(&p, values->a, values->b, values->y);
        panel_check_sums(&p, values, before);
        if (!transposed && !(p.add && n % PANEL_STEP) && net_panel_is_fast())
            panel_check_rows(&p, values, before);
    }
    free(values);
    trial_end(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm),    cmocka_unit_test(matmul), cmocka_unit_test(examples),
        cmocka_unit_test(refuses), cmocka_unit_test(empty),  cmocka_unit_test(panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
