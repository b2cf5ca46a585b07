#include "net/ops/einsum/contraction.h"

#include <string.h>

#include "core/blas.h"

typedef uint64_t axis_set;

struct axis_list {
    int count, axes[CONTRACTION_AXES_MAX];
};

static size_t list_count(const size_t *extent, const struct axis_list *list)
{
    size_t count = 1;
    for (int i = 0; i < list->count; i++)
        count *= extent[list->axes[i]];
    return count;
}

/* Appends a set's axes, those of the largest strides first. */
static void list_append(struct axis_list *list, axis_set set, const struct contraction_view *view)
{
    int first = list->count;
    for (int axis = 0; axis < CONTRACTION_AXES_MAX; axis++) {
        if (!(set >> axis & 1))
            continue;
        int at = list->count++;
        for (; at > first && view->stride[list->axes[at - 1]] < view->stride[axis]; at--)
            list->axes[at] = list->axes[at - 1];
        list->axes[at] = axis;
    }
}

bool contraction_dense(const size_t *extent, uint64_t axes, struct contraction_view *view,
                       size_t *count)
{
    *count = 1;
    *view = (struct contraction_view){.axes = axes};
    for (int axis = CONTRACTION_AXES_MAX - 1; axis >= 0; axis--)
        if (axes >> axis & 1) {
            view->stride[axis] = *count;
            if (__builtin_mul_overflow(*count, extent[axis], count))
                return false;
        }
    return *count <= PTRDIFF_MAX / sizeof(float);
}

/* A dense view whose axes are those of three lists, one after the other. */
static struct contraction_view view_in_order(const size_t *extent, const struct axis_list *first,
                                             const struct axis_list *second,
                                             const struct axis_list *third)
{
    const struct axis_list *lists[] = {third, second, first};
    struct contraction_view view = {0};
    size_t step = 1;
    for (int i = 0; i < 3; i++)
        for (int j = lists[i]->count - 1; j >= 0; j--) {
            int axis = lists[i]->axes[j];
            view.axes |= (axis_set)1 << axis;
            view.stride[axis] = step;
            step *= extent[axis];
        }
    return view;
}

static bool view_equals(const struct contraction_view *a, const struct contraction_view *b)
{
    bool same = a->axes == b->axes;
    for (int axis = 0; axis < CONTRACTION_AXES_MAX && same; axis++)
        same = !(a->axes >> axis & 1) || a->stride[axis] == b->stride[axis];
    return same;
}

/* Loops: for every element that is written to, over the axes that are summed. */

/* The offsets of three tensors at an index of some axes. */
struct odometer {
    const size_t *extent;
    const struct axis_list *list;
    const struct contraction_view *views[3]; /* null: no tensor */
    size_t index[CONTRACTION_AXES_MAX], offset[3];
};

/* Goes to the next index of the first `rank` axes; false after the last. */
static bool odometer_next(struct odometer *o, int rank)
{
    for (int i = rank - 1; i >= 0; i--) {
        int axis = o->list->axes[i];
        bool carry = ++o->index[i] == o->extent[axis];
        for (int k = 0; k < 3; k++)
            if (o->views[k]) {
                size_t stride = o->views[k]->stride[axis];
                o->offset[k] += stride;
                o->offset[k] -= carry ? stride * o->extent[axis] : 0;
            }
        if (!carry)
            return true;
        o->index[i] = 0;
    }
    return false;
}

/* Σ a b over the axes of a list from two offsets on; the last axis is a plain loop. */
static double contraction_sum(const size_t *extent, const struct axis_list *summed,
                              const struct contraction_view *a, const float *a_data,
                              const struct contraction_view *b, const float *b_data)
{
    struct odometer o = {.extent = extent, .list = summed, .views = {a, b, NULL}};
    int rank = summed->count - 1, last = summed->axes[rank];
    size_t count = extent[last], a_step = a->stride[last], b_step = b ? b->stride[last] : 0;
    double sum = 0;
    do {
        const float *x = a_data + o.offset[0], *y = b ? b_data + o.offset[1] : NULL;
        if (y)
            for (size_t i = 0; i < count; i++)
                sum += (double)x[i * a_step] * (double)y[i * b_step];
        else
            for (size_t i = 0; i < count; i++)
                sum += (double)x[i * a_step];
    } while (odometer_next(&o, rank));
    return sum;
}

/* Adds products that nothing is summed over; the last axis is a plain loop. */
static void contraction_products(struct odometer *o, const float *a_data, const float *b_data,
                                 float *to_data)
{
    int rank = o->list->count - 1, last = o->list->axes[rank];
    size_t count = o->extent[last], a_step = o->views[0]->stride[last];
    size_t b_step = b_data ? o->views[1]->stride[last] : 0, to_step = o->views[2]->stride[last];
    do {
        const float *x = a_data + o->offset[0], *y = b_data ? b_data + o->offset[1] : NULL;
        float *to = to_data + o->offset[2];
        if (y)
            for (size_t i = 0; i < count; i++)
                to[i * to_step] += x[i * a_step] * y[i * b_step];
        else
            for (size_t i = 0; i < count; i++)
                to[i * to_step] += x[i * a_step];
    } while (odometer_next(o, rank));
}

/* No extent is 0. */
static void contraction_loop(const size_t *extent, const struct contraction_view *a,
                             const float *a_data, const struct contraction_view *b,
                             const float *b_data, const struct contraction_view *to, float *to_data)
{
    struct axis_list written = {0}, summed = {0};
    list_append(&written, to->axes, to);
    list_append(&summed, (a->axes | (b ? b->axes : 0)) & ~to->axes, a);
    struct odometer o = {.extent = extent, .list = &written, .views = {a, b, to}};
    if (written.count && !summed.count) {
        contraction_products(&o, a_data, b_data, to_data);
        return;
    }
    do {
        const float *x = a_data + o.offset[0], *y = b ? b_data + o.offset[1] : NULL;
        double sum = summed.count ? contraction_sum(extent, &summed, a, x, b, y)
                                  : (double)*x * (y ? (double)*y : 1);
        to_data[o.offset[2]] += (float)sum;
    } while (odometer_next(&o, written.count));
}

/* As matrix products: of each batch, m × k by k × n. */

struct matrices {
    bool swapped; /* a is the right factor: then `to` has its rows first */
    bool transpose_a, transpose_b;
    bool pack_a, pack_b, pack_to; /* copied, since their elements are in another order */
    struct contraction_view a, b, to;
    size_t batch, m, n, k;
};

/* Finds whether a tensor is one of matrices, row by row or column by column; else it is packed. */
static void choose_layout(const size_t *extent, const struct contraction_view *view,
                          const struct axis_list *batch, const struct axis_list *rows,
                          const struct axis_list *columns, struct contraction_view *packed,
                          bool *transpose, bool *pack)
{
    struct contraction_view transposed = view_in_order(extent, batch, columns, rows);
    *packed = view_in_order(extent, batch, rows, columns);
    *transpose = !view_equals(view, packed) && view_equals(view, &transposed);
    *pack = !*transpose && !view_equals(view, packed);
}

/* False where matrix products do not pay, or BLAS cannot hold an extent. */
static bool matrices_find(const size_t *extent, const struct contraction_view *a,
                          const struct contraction_view *b, const struct contraction_view *to,
                          struct matrices *p)
{
    struct axis_list batch = {0}, m = {0}, n = {0}, k = {0};
    axis_set left = a->axes & ~b->axes & to->axes, right = b->axes & ~a->axes & to->axes;
    size_t a_first = 0, b_first = 0;
    for (int axis = 0; axis < CONTRACTION_AXES_MAX; axis++) {
        if (left >> axis & 1 && to->stride[axis] > a_first)
            a_first = to->stride[axis];
        if (right >> axis & 1 && to->stride[axis] > b_first)
            b_first = to->stride[axis];
    }
    p->swapped = b_first > a_first;
    if (p->swapped) {
        const struct contraction_view *kept = a;
        a = b;
        b = kept;
        axis_set side = left;
        left = right;
        right = side;
    }
    list_append(&batch, a->axes & b->axes & to->axes, to);
    list_append(&m, left, to);
    list_append(&n, right, to);
    list_append(&k, a->axes & b->axes & ~to->axes, a);
    p->batch = list_count(extent, &batch);
    p->m = list_count(extent, &m);
    p->n = list_count(extent, &n);
    p->k = list_count(extent, &k);
    if (p->k < 2 || (p->m < 2 && p->n < 2) || p->m > INT32_MAX || p->n > INT32_MAX ||
        p->k > INT32_MAX)
        return false;
    bool turned;
    choose_layout(extent, a, &batch, &m, &k, &p->a, &p->transpose_a, &p->pack_a);
    choose_layout(extent, b, &batch, &k, &n, &p->b, &p->transpose_b, &p->pack_b);
    choose_layout(extent, to, &batch, &m, &n, &p->to, &turned, &p->pack_to);
    p->pack_to |= turned;
    return true;
}

static size_t pack_size(bool pack, size_t batch, size_t rows, size_t columns)
{
    return pack ? batch * rows * columns : 0;
}

/* Each part is no larger than the tensor it is of. */
size_t contraction_scratch(const size_t *extent, const struct contraction_view *a,
                           const struct contraction_view *b, const struct contraction_view *to)
{
    struct matrices p;
    if (!b || !matrices_find(extent, a, b, to, &p))
        return 0;
    return pack_size(p.pack_a, p.batch, p.m, p.k) + pack_size(p.pack_b, p.batch, p.k, p.n) +
           pack_size(p.pack_to, p.batch, p.m, p.n);
}

/* A packed copy in scratch, in which axes that only this tensor has are summed over. */
static const float *matrices_pack(const size_t *extent, const struct contraction_view *view,
                                  const float *data, const struct contraction_view *packed,
                                  size_t count, float **scratch)
{
    float *to = *scratch;
    *scratch += count;
    memset(to, 0, count * sizeof *to);
    contraction_loop(extent, view, data, NULL, NULL, packed, to);
    return to;
}

static void matrices_multiply(const size_t *extent, const struct matrices *p,
                              const struct contraction_view *a, const float *a_data,
                              const struct contraction_view *b, const float *b_data,
                              const struct contraction_view *to, float *to_data, float *scratch)
{
    if (p->pack_a)
        a_data = matrices_pack(extent, a, a_data, &p->a, p->batch * p->m * p->k, &scratch);
    if (p->pack_b)
        b_data = matrices_pack(extent, b, b_data, &p->b, p->batch * p->k * p->n, &scratch);
    float *products = p->pack_to ? scratch : to_data;
    int64_t m = (int64_t)p->m, n = (int64_t)p->n, k = (int64_t)p->k;
    for (size_t i = 0; i < p->batch; i++)
        blas_product(p->transpose_a, p->transpose_b, m, n, k, 1, a_data + i * p->m * p->k,
                     p->transpose_a ? m : k, b_data + i * p->k * p->n, p->transpose_b ? k : n,
                     p->pack_to ? 0 : 1, products + i * p->m * p->n, n);
    if (p->pack_to)
        contraction_loop(extent, &p->to, products, NULL, NULL, to, to_data);
}

void contraction_add(const size_t *extent, const struct contraction_view *a, const float *a_data,
                     const struct contraction_view *b, const float *b_data,
                     const struct contraction_view *to, float *to_data, float *scratch)
{
    struct matrices p;
    axis_set all = a->axes | (b ? b->axes : 0) | to->axes;
    for (int axis = 0; axis < CONTRACTION_AXES_MAX; axis++)
        if (all >> axis & 1 && extent[axis] == 0)
            return;
    if (!b || !matrices_find(extent, a, b, to, &p))
        contraction_loop(extent, a, a_data, b, b_data, to, to_data);
    else if (p.swapped)
        matrices_multiply(extent, &p, b, b_data, a, a_data, to, to_data, scratch);
    else
        matrices_multiply(extent, &p, a, a_data, b, b_data, to, to_data, scratch);
}
