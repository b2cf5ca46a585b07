/*
 * Det: the determinants of matrices, the last two axes, by PAQ = LU in double, where rows and
 * columns are exchanged so that each pivot is the largest of what is left. The derivative in A is
 * the transpose of
 *
 *     adj A = ± Q adj(LU) P,    adj(LU) = adj(U) L⁻¹,
 *     adj [ V u ]  =  |V| [ d V⁻¹  −V⁻¹ u ]
 *         [ 0 d ]         [   0       1   ]
 *
 * which takes no division by the last pivot d: it holds for singular matrices, too. If a pivot
 * before the last is 0, the rank is below n − 1, and adj A = 0.
 */
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"

/* In the workspace. */
struct factors {
    size_t n, rank; /* pivots that are not 0 */
    double sign;    /* of P and Q */
    double *a;      /* n × n: U, and L below its diagonal of ones */
    double *column; /* n: of adj(LU) */
    size_t *rows, *columns;
};

static int determinant_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = net_input(call, 0);
    char text[256];
    int code = net_expect_float(call, 0, error);
    if (code)
        return code;
    if (x->rank < 2 || x->shape[x->rank - 1] != x->shape[x->rank - 2])
        return net_fail(call, error, "an input of shape %s, expected square matrices",
                        net_shape_text(x, text));
    code = net_output(call, 0, NET_FLOAT, x->rank - 2, x->shape, error);
    size_t n = (size_t)x->shape[x->rank - 1];
    if (!code && x->count &&
        __builtin_mul_overflow(n, (n + 1) * sizeof(double) + 2 * sizeof(size_t),
                               &call->workspace_size))
        return net_fail(call, error, "its matrices are too large");
    return code;
}

static void determinant_exchange(size_t *order, size_t i, size_t j, double *sign)
{
    size_t kept = order[i];
    order[i] = order[j];
    order[j] = kept;
    *sign *= i == j ? 1 : -1;
}

/* Brings the largest element of those from row and column k on to the diagonal. */
static void determinant_pivot(struct factors *f, size_t k)
{
    size_t n = f->n, row = k, column = k;
    for (size_t i = k; i < n; i++)
        for (size_t j = k; j < n; j++)
            if (fabs(f->a[i * n + j]) > fabs(f->a[row * n + column])) {
                row = i;
                column = j;
            }
    determinant_exchange(f->rows, k, row, &f->sign);
    determinant_exchange(f->columns, k, column, &f->sign);
    for (size_t j = 0; j < n; j++) {
        double kept = f->a[k * n + j];
        f->a[k * n + j] = f->a[row * n + j];
        f->a[row * n + j] = kept;
    }
    for (size_t i = 0; i < n; i++) {
        double kept = f->a[i * n + k];
        f->a[i * n + k] = f->a[i * n + column];
        f->a[i * n + column] = kept;
    }
}

static struct factors determinant_factor(const struct net_call *call, size_t matrix)
{
    const struct net_tensor *x = call->inputs[0];
    struct factors f = {.n = (size_t)x->shape[x->rank - 1], .sign = 1, .a = call->workspace};
    size_t n = f.n;
    f.column = f.a + n * n;
    f.rows = (size_t *)(f.column + n);
    f.columns = f.rows + n;
    for (size_t i = 0; i < n * n; i++)
        f.a[i] = (double)((const float *)x->data)[matrix * n * n + i];
    for (size_t i = 0; i < n; i++)
        f.rows[i] = f.columns[i] = i;
    for (; f.rank < n; f.rank++) {
        size_t k = f.rank;
        determinant_pivot(&f, k);
        if (f.a[k * n + k] == 0)
            break;
        for (size_t i = k + 1; i < n; i++) {
            double factor = f.a[i * n + k] /= f.a[k * n + k];
            for (size_t j = k + 1; j < n; j++)
                f.a[i * n + j] -= factor * f.a[k * n + j];
        }
    }
    return f;
}

/* The product of the first `count` pivots. */
static double determinant_of(const struct factors *f, size_t count)
{
    double product = 1;
    for (size_t i = 0; i < count; i++)
        product *= f->a[i * f->n + i];
    return product;
}

static int determinant_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    float *y = call->outputs[0]->data;
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        y[i] = 1; /* of a matrix without elements */
        if (!call->inputs[0]->count)
            continue;
        struct factors f = determinant_factor(call, i);
        y[i] = (float)(f.sign * determinant_of(&f, f.n));
    }
    return 0;
}

/* Column j of adj(LU) = adj(U) L⁻¹. */
static void determinant_adjugate(const struct factors *f, size_t j)
{
    size_t n = f->n, last = n - 1;
    double *y = f->column, size = determinant_of(f, last);
    for (size_t i = 0; i < n; i++) {
        y[i] = i == j;
        for (size_t k = j; k < i; k++)
            y[i] -= f->a[i * n + k] * y[k];
    }
    for (size_t i = 0; i < last; i++)
        y[i] = f->a[last * n + last] * y[i] - f->a[i * n + last] * y[last];
    for (size_t i = last; i-- > 0;) {
        for (size_t k = i + 1; k < last; k++)
            y[i] -= f->a[i * n + k] * y[k];
        y[i] /= f->a[i * n + i];
    }
    for (size_t i = 0; i < n; i++)
        y[i] *= f->sign * size;
}

/* Adds `weight` times the derivatives of a determinant to dx, and returns their product with
   x_tangent; either may be null. */
static double determinant_derive(const struct net_call *call, size_t matrix, double weight,
                                 float *dx, const float *x_tangent)
{
    struct factors f = determinant_factor(call, matrix);
    double sum = 0;
    for (size_t j = 0; j < f.n && f.rank + 1 >= f.n; j++) {
        determinant_adjugate(&f, j);
        for (size_t i = 0; i < f.n; i++) {
            size_t at = (matrix * f.n + f.rows[j]) * f.n + f.columns[i];
            if (dx)
                dx[at] += (float)(weight * f.column[i]);
            if (x_tangent)
                sum += f.column[i] * (double)x_tangent[at];
        }
    }
    return sum;
}

static void determinant_backward(const struct net_call *call, const float *const *output_adjoints,
                                 float *const *input_adjoints)
{
    const float *dy = output_adjoints[0];
    if (!dy || !input_adjoints[0] || !call->inputs[0]->count)
        return;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        determinant_derive(call, i, (double)dy[i], input_adjoints[0], NULL);
}

static void determinant_tangent(const struct net_call *call, const float *const *input_tangents,
                                float *const *output_tangents)
{
    const float *x_tangent = call->inputs[0]->count ? input_tangents[0] : NULL;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        output_tangents[0][i] = x_tangent ? (float)determinant_derive(call, i, 0, NULL, x_tangent)
                                          : 0;
}

const struct net_operator net_determinant_operators[] = {
    {.name = "Det",
     .since = 11,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .infer = determinant_infer,
     .forward = determinant_forward,
     .backward = determinant_backward,
     .tangent = determinant_tangent},
    {0},
};
