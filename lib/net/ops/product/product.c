/* Matrix products: Gemm, MatMul, and ONNX Runtime's FusedMatMul. */
#include "net/ops/product/product.h"

#include <string.h>

#include "core/blas.h"
#include "core/dispatch.h"
#include "net/ops/product/panel_product.h"
#include "net/ops/sum.h"

/* The BLAS library uses 32-bit sizes. */
static bool product_fits(int64_t extent)
{
    return extent <= INT32_MAX;
}

static int64_t row_length(bool transposed, int64_t rows, int64_t columns)
{
    int64_t length = transposed ? rows : columns;
    return length ? length : 1;
}

static int64_t lda(const struct net_matmul *p)
{
    return p->lda ? p->lda : row_length(p->transpose_a, p->m, p->k);
}

static int64_t ldb(const struct net_matmul *p)
{
    return p->ldb ? p->ldb : row_length(p->transpose_b, p->k, p->n);
}

/* Returns the index in an operand at which batch entry `index` starts. */
static size_t product_start(const struct net_matmul *p, const size_t *steps, size_t index)
{
    size_t at = 0;
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        size_t extent = (size_t)p->batch[i];
        at += index % extent * steps[i];
        index /= extent;
    }
    return at;
}

static size_t output_step(const struct net_matmul *p)
{
    return (size_t)p->m * (size_t)p->n;
}

/* y = alpha op(a) op(b), + bias or, with `add`, y; a bias only where alpha is 1. */
static void product_multiply(const struct net_matmul *p, float alpha, const float *a,
                             const float *b, const float *bias, bool add, float *y)
{
    const struct panel_product panels = {.transpose_b = p->transpose_b,
                                         .m = p->m,
                                         .n = p->n,
                                         .k = p->k,
                                         .lda = lda(p),
                                         .ldb = ldb(p),
                                         .ldy = p->n ? p->n : 1,
                                         .alpha = alpha,
                                         .bias = bias,
                                         .add = add};
    for (size_t i = 0; i < p->batch_count; i++, y += output_step(p)) {
        const float *left = a + product_start(p, p->step_a, i);
        const float *right = b + product_start(p, p->step_b, i);
        if (p->transpose_a)
            blas_product(true, p->transpose_b, p->m, p->n, p->k, alpha, left, lda(p), right, ldb(p),
                         add, y, panels.ldy);
        else
            panel_product_run(&panels, left, right, y);
    }
}

void net_matmul_add(const struct net_matmul *p, float alpha, const float *a, const float *b,
                    float *y)
{
    product_multiply(p, alpha, a, b, NULL, true, y);
}

/* Adds one batch entry's part of the adjoint of a: da += alpha dy op(b)ᵀ, stored like a. */
static void add_left(const struct net_matmul *p, float alpha, const float *dy, const float *b,
                     float *da)
{
    int64_t ldy = p->n ? p->n : 1;
    if (p->transpose_a)
        blas_product(p->transpose_b, true, p->k, p->m, p->n, alpha, b, ldb(p), dy, ldy, 1, da,
                     lda(p));
    else
        blas_product(false, !p->transpose_b, p->m, p->k, p->n, alpha, dy, ldy, b, ldb(p), 1, da,
                     lda(p));
}

/* out += alpha a bᵀ: one row for each element of a. */
IVON_DISPATCH static void add_outer(float *restrict out, float alpha, const float *restrict a,
                                    int64_t rows, const float *restrict b, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++, out += columns)
        for (int64_t j = 0; j < columns; j++)
            out[j] += alpha * a[i] * b[j];
}

/* The same for b: db += alpha op(a)ᵀ dy. For a single row, as of one example, BLAS is slower. */
static void add_right(const struct net_matmul *p, float alpha, const float *dy, const float *a,
                      float *db)
{
    int64_t ldy = p->n ? p->n : 1;
    if (p->m == 1 && p->transpose_b)
        add_outer(db, alpha, dy, p->n, a, p->k);
    else if (p->m == 1)
        add_outer(db, alpha, a, p->k, dy, p->n);
    else if (p->transpose_b)
        blas_product(true, p->transpose_a, p->n, p->k, p->m, alpha, dy, ldy, a, lda(p), 1, db,
                     ldb(p));
    else
        blas_product(!p->transpose_a, false, p->k, p->n, p->m, alpha, a, lda(p), dy, ldy, 1, db,
                     ldb(p));
}

void net_matmul_adjoints(const struct net_matmul *p, float alpha, const float *a, const float *b,
                         const float *dy, float *da, float *db)
{
    for (size_t i = 0; i < p->batch_count; i++, dy += output_step(p)) {
        size_t at_a = product_start(p, p->step_a, i), at_b = product_start(p, p->step_b, i);
        if (da)
            add_left(p, alpha, dy, b + at_b, da + at_a);
        if (db)
            add_right(p, alpha, dy, a + at_a, db + at_b);
    }
}

void net_matmul_vectors(const struct net_matmul *p, bool right, float alpha, const float *operand,
                        size_t count, size_t stride, float *vectors)
{
    size_t matrix = (size_t)(right ? p->n : p->m), k = (size_t)p->k;
    size_t length = (size_t)(right ? ldb(p) : lda(p));
    bool rows = right ? p->transpose_b : !p->transpose_a;
    for (size_t i = 0; i < count; i++, vectors += stride) {
        const float *from = operand + product_start(p, right ? p->step_b : p->step_a, i / matrix) +
                            i % matrix * (rows ? length : 1);
        for (size_t j = 0; j < k; j++)
            vectors[j] = alpha * from[rows ? j : j * length];
    }
}

static void adjoints(const struct net_call *call, float alpha, const float *dy,
                     float *const *input_adjoints)
{
    net_matmul_adjoints(call->prepared, alpha, call->inputs[0]->data, call->inputs[1]->data, dy,
                        input_adjoints[0], input_adjoints[1]);
}

/* y = alpha (op(ȧ) op(b) + op(a) op(ḃ)), + y with `add` */
static void tangents(const struct net_matmul *p, float alpha, const struct net_call *call,
                     const float *const *input_tangents, bool add, float *y)
{
    if (input_tangents[0]) {
        product_multiply(p, alpha, input_tangents[0], call->inputs[1]->data, NULL, add, y);
        add = true;
    }
    if (input_tangents[1]) {
        product_multiply(p, alpha, call->inputs[0]->data, input_tangents[1], NULL, add, y);
        add = true;
    }
    if (!add)
        memset(y, 0, call->outputs[0]->count * sizeof *y);
}

/* MatMul: y = a b over the last two axes; the others are broadcast. A vector is a row on the left
   and a column on the right, and that axis is not in y. FusedMatMul: y = alpha op(a) op(b). */

/* How the axes of an operand are stored. */
struct operand_form {
    bool transposed;  /* the last two exchanged */
    bool batch_first; /* the matrix's first axis before the batch axes: r × batch × c */
};

static float product_alpha(const struct net_call *call)
{
    return (float)net_attribute_number(call->node, "alpha", 1);
}

/* The operand with its batch axes first. */
static struct net_tensor operand_ordered(const struct net_tensor *tensor, struct operand_form form)
{
    struct net_tensor ordered = *tensor;
    if (form.batch_first)
        for (int i = 0; i < tensor->rank - 1; i++)
            ordered.shape[i] = tensor->shape[i + 2 < tensor->rank ? i + 1 : 0];
    return ordered;
}

/* Elements from one index of an operand's batch axis to the next, aligned at the last; `ordered` is
   the operand with its batch axes first. Returns the distance of a matrix's rows, 0 if they lie one
   behind the other. */
static int64_t batch_steps(const struct net_tensor *ordered, struct operand_form form,
                           int batch_rank, size_t *steps)
{
    int batch_axes = ordered->rank > 2 ? ordered->rank - 2 : 0;
    size_t step = 1;
    for (int i = form.batch_first ? ordered->rank - 1 : batch_axes; i < ordered->rank; i++)
        step *= (size_t)ordered->shape[i];
    for (int i = 1; i <= batch_rank; i++) {
        int64_t extent = i <= batch_axes ? ordered->shape[batch_axes - i] : 1;
        steps[batch_rank - i] = extent == 1 ? 0 : step;
        step *= (size_t)extent;
    }
    return form.batch_first ? (int64_t)step : 0;
}

/* Replaces the batch by one product, if b is the same for all and the rows of a are contiguous. */
static void collapse_batch(struct net_matmul *p, const struct net_tensor *a)
{
    if (p->transpose_a || p->lda || p->batch_rank == 0 || a->rank != p->batch_rank + 2)
        return;
    int64_t rows = p->m;
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        if (p->step_b[i] || a->shape[i] != p->batch[i] || !p->batch[i] ||
            rows > INT32_MAX / p->batch[i])
            return;
        rows *= p->batch[i];
    }
    p->m = rows;
    p->batch_rank = 0;
    p->batch_count = 1;
}

static int shape_mismatch(const struct net_call *call, const char *what, struct ivon_error *error)
{
    char left[256], right[256];
    return net_fail(call, error, "%s: %s by %s", what, net_shape_text(call->inputs[0], left),
                    net_shape_text(call->inputs[1], right));
}

/* Sets the matrices' extents. `a` and `b` have their batch axes first. */
static int product_extents(const struct net_call *call, struct net_matmul *p,
                           const struct net_tensor *a, const struct net_tensor *b,
                           struct ivon_error *error)
{
    const int64_t *last_a = a->shape + a->rank - 1, *last_b = b->shape + b->rank - 1;
    p->m = a->rank == 1 ? 1 : p->transpose_a ? last_a[0] : last_a[-1];
    p->k = p->transpose_a ? last_a[-1] : last_a[0];
    p->n = b->rank == 1 ? 1 : p->transpose_b ? last_b[-1] : last_b[0];
    int64_t inner = b->rank == 1 || p->transpose_b ? last_b[0] : last_b[-1];
    if (inner != p->k)
        return shape_mismatch(call, "inner extents differ", error);
    if (!product_fits(p->m) || !product_fits(p->n) || !product_fits(p->k))
        return shape_mismatch(call, "matrices are too large", error);
    struct net_tensor axes_a = *a, axes_b = *b;
    axes_a.rank = a->rank > 2 ? a->rank - 2 : 0;
    axes_b.rank = b->rank > 2 ? b->rank - 2 : 0;
    if (!net_broadcast(&axes_a, &axes_b, &p->batch_rank, p->batch))
        return shape_mismatch(call, "batch axes cannot be broadcast", error);
    int64_t shape[IVON_RANK_MAX + 2];
    int rank = p->batch_rank;
    memcpy(shape, p->batch, (size_t)rank * sizeof *shape);
    if (a->rank > 1)
        shape[rank++] = p->m;
    if (b->rank > 1)
        shape[rank++] = p->n;
    return net_tensor_set(call->outputs[0], NET_FLOAT, rank, shape, error);
}

static int product_infer(struct net_call *call, struct operand_form form_a,
                         struct operand_form form_b, struct ivon_error *error)
{
    int code = net_expect_float(call, 0, error);
    if (!code)
        code = net_expect_float(call, 1, error);
    if (code)
        return code;
    int rank_a = call->inputs[0]->rank, rank_b = call->inputs[1]->rank;
    if (rank_a < 1 || rank_b < 1 || (rank_a < 2 && (form_a.transposed || form_a.batch_first)) ||
        (rank_b < 2 && (form_b.transposed || form_b.batch_first)))
        return shape_mismatch(call, "cannot multiply scalars", error);
    struct net_matmul *p = net_prepare(call, sizeof *p, error);
    if (!p)
        return IVON_ERROR_MEMORY;
    p->transpose_a = form_a.transposed;
    p->transpose_b = form_b.transposed;
    struct net_tensor a = operand_ordered(call->inputs[0], form_a);
    struct net_tensor b = operand_ordered(call->inputs[1], form_b);
    code = product_extents(call, p, &a, &b, error);
    if (code)
        return code;
    p->lda = batch_steps(&a, form_a, p->batch_rank, p->step_a);
    p->ldb = batch_steps(&b, form_b, p->batch_rank, p->step_b);
    if (!product_fits(p->lda) || !product_fits(p->ldb))
        return shape_mismatch(call, "matrices are too large", error);
    p->batch_count = 1;
    for (int i = 0; i < p->batch_rank; i++)
        p->batch_count *= (size_t)p->batch[i];
    if (call->outputs[0]->count == 0)
        p->batch_count = 0; /* even if the other extents have a nonzero product */
    else
        collapse_batch(p, &a);
    return 0;
}

static int infer_transposed(struct net_call *call, bool transpose_a, bool transpose_b,
                            struct ivon_error *error)
{
    const struct operand_form a = {.transposed = transpose_a}, b = {.transposed = transpose_b};
    return product_infer(call, a, b, error);
}

static int infer_matmul(struct net_call *call, struct ivon_error *error)
{
    return infer_transposed(call, false, false, error);
}

static int infer_fused_matmul(struct net_call *call, struct ivon_error *error)
{
    const struct net_node *node = call->node;
    struct operand_form a = {net_attribute_integer(node, "transA", 0) != 0,
                             net_attribute_integer(node, "transBatchA", 0) != 0};
    struct operand_form b = {net_attribute_integer(node, "transB", 0) != 0,
                             net_attribute_integer(node, "transBatchB", 0) != 0};
    return product_infer(call, a, b, error);
}

static int forward_matmul(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_matmul *p = call->prepared;
    product_multiply(p, product_alpha(call), call->inputs[0]->data, call->inputs[1]->data,
                     p->bias ? p->bias->data : NULL, false, call->outputs[0]->data);
    return 0;
}

static void backward_matmul(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    if (output_adjoints[0])
        adjoints(call, product_alpha(call), output_adjoints[0], input_adjoints);
}

static const struct net_matmul *product_matmul(const struct net_call *call)
{
    const struct net_matmul *product = call->prepared;
    return product->lda || product->ldb ? NULL : product;
}

static void tangent_matmul(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    tangents(call->prepared, product_alpha(call), call, input_tangents, false, output_tangents[0]);
}

/* Gemm: y = alpha op(a) op(b) + beta c, c broadcast to y. */

/* 0 without c */
static float gemm_beta(const struct net_call *call)
{
    bool has_c = call->node->input_count > 2 && call->inputs[2];
    return has_c ? (float)net_attribute_number(call->node, "beta", 1) : 0;
}

static int check_c(const struct net_call *call, const struct net_tensor *output,
                   struct ivon_error *error)
{
    int code = net_expect_float(call, 2, error);
    int rank;
    int64_t shape[IVON_RANK_MAX];
    const struct net_tensor *c = call->inputs[2];
    if (code)
        return code;
    if (c->rank <= 2 && net_broadcast(output, c, &rank, shape) &&
        memcmp(shape, output->shape, 2 * sizeof *shape) == 0)
        return 0;
    char found[256], expected[256];
    return net_fail(call, error, "C of shape %s cannot be broadcast to the product's %s",
                    net_shape_text(c, found), net_shape_text(output, expected));
}

int net_gemm_infer(struct net_call *call, struct ivon_error *error)
{
    for (size_t i = 0; i < 2; i++) {
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
        if (call->inputs[i]->rank != 2)
            return net_fail(call, error, "input %zu has %d dimensions, expected 2", i,
                            call->inputs[i]->rank);
    }
    int code = infer_transposed(call, net_attribute_integer(call->node, "transA", 0) != 0,
                                net_attribute_integer(call->node, "transB", 0) != 0, error);
    if (!code && call->node->input_count > 2 && call->inputs[2])
        code = check_c(call, call->outputs[0], error);
    return code;
}

/* y = beta c */
static void product_fill(const struct net_call *call, float beta, const float *c, float *y)
{
    const struct net_tensor *tensor = call->inputs[2];
    int64_t m = call->outputs[0]->shape[0], n = call->outputs[0]->shape[1];
    bool per_row = tensor->rank == 2 && tensor->shape[0] != 1;
    bool per_column = tensor->rank >= 1 && tensor->shape[tensor->rank - 1] != 1;
    for (int64_t i = 0; i < m; i++, y += n) {
        const float *row = per_row ? c + i * (per_column ? n : 1) : c;
        for (int64_t j = 0; j < n; j++)
            y[j] = beta * row[per_column ? j : 0];
    }
}

/* Returns whether c is a row that is added as it is. */
static bool gemm_has_bias(const struct net_call *call, float beta)
{
    const struct net_matmul *p = call->prepared;
    const struct net_tensor *c = beta == 1.0F ? call->inputs[2] : NULL;
    return c && c->rank && c->shape[c->rank - 1] == p->n && c->count == (size_t)p->n &&
           !p->transpose_a && product_alpha(call) == 1.0F;
}

int net_gemm_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    float beta = gemm_beta(call);
    bool bias = gemm_has_bias(call, beta), add = beta != 0.0F && !bias;
    if (add)
        product_fill(call, beta, call->inputs[2]->data, call->outputs[0]->data);
    product_multiply(call->prepared, product_alpha(call), call->inputs[0]->data,
                     call->inputs[1]->data, bias ? call->inputs[2]->data : NULL, add,
                     call->outputs[0]->data);
    return 0;
}

/* dc += beta dy, summed over what c was broadcast over. */
static void add_c(const struct net_call *call, const float *dy, float *dc)
{
    const struct net_tensor *tensor = call->inputs[2], *output = call->outputs[0];
    size_t m = (size_t)output->shape[0], n = (size_t)output->shape[1];
    bool per_row = tensor->rank == 2 && tensor->shape[0] != 1;
    bool per_column = tensor->rank >= 1 && tensor->shape[tensor->rank - 1] != 1;
    float beta = gemm_beta(call);
    if (per_row && per_column)
        for (size_t i = 0; i < m * n; i++)
            dc[i] += beta * dy[i];
    else if (per_row)
        for (size_t i = 0; i < m; i++)
            dc[i] += beta * (float)net_sum(dy + i * n, n);
    else if (!per_column)
        *dc += beta * (float)net_sum(dy, m * n);
    else
        net_add_column_sums(dy, m, n, n, beta, dc);
}

void net_gemm_backward(const struct net_call *call, const float *const *output_adjoints,
                       float *const *input_adjoints)
{
    if (!output_adjoints[0])
        return;
    adjoints(call, product_alpha(call), output_adjoints[0], input_adjoints);
    if (gemm_beta(call) != 0.0F && input_adjoints[2])
        add_c(call, output_adjoints[0], input_adjoints[2]);
}

void net_gemm_tangent(const struct net_call *call, const float *const *input_tangents,
                      float *const *output_tangents)
{
    float beta = gemm_beta(call);
    bool has_c_tangent = beta != 0.0F && input_tangents[2];
    if (has_c_tangent)
        product_fill(call, beta, input_tangents[2], output_tangents[0]);
    tangents(call->prepared, product_alpha(call), call, input_tangents, has_c_tangent,
             output_tangents[0]);
}

#define GEMM                                                                                       \
    .weights = 1U << 1 | 1U << 2, .outputs_max = 1, .infer = net_gemm_infer,                       \
    .forward = net_gemm_forward, .backward = net_gemm_backward, .tangent = net_gemm_tangent,       \
    .product = product_matmul,                                                                     \
    .attributes = {                                                                                \
        {"alpha", NET_FLT}, {"beta", NET_FLT}, {"transA", NET_INT}, {"transB", NET_INT}}

#define MATMUL                                                                                     \
    .inputs_min = 2, .inputs_max = 2, .outputs_max = 1, .weights = 1U << 1,                        \
    .forward = forward_matmul, .backward = backward_matmul, .tangent = tangent_matmul,             \
    .product = product_matmul

const struct net_operator net_product_operators[] = {
    {.name = "Gemm", .since = 1, .inputs_min = 3, .inputs_max = 3, GEMM},
    {.name = "Gemm", .since = 11, .inputs_min = 2, .inputs_max = 3, GEMM}, /* C may be left out */
    {.name = "MatMul",
     .since = 1,
     .infer = infer_matmul,
     .infer_transposed = infer_transposed,
     MATMUL},
    {.domain = "com.microsoft",
     .name = "FusedMatMul",
     .since = 1,
     .attributes = {{"alpha", NET_FLT},
                    {"transA", NET_INT},
                    {"transB", NET_INT},
                    {"transBatchA", NET_INT},
                    {"transBatchB", NET_INT}},
     .infer = infer_fused_matmul,
     MATMUL},
    {0}};
