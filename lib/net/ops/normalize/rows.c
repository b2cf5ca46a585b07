#include "net/ops/normalize/rows.h"

#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/sum.h"

int net_rows_prepare(struct net_call *call, size_t count, size_t length, bool scattered,
                     struct net_rows **out, struct ivon_error *error)
{
    size_t size = sizeof(struct net_rows), tables;
    if (__builtin_add_overflow(count, length, &tables) || tables > SIZE_MAX / 64)
        return net_fail(call, error, "its rows are too large");
    struct net_rows *rows = net_prepare(call, size + (scattered ? tables * sizeof(size_t) : 0),
                                        error);
    if (!rows)
        return IVON_ERROR_MEMORY;
    *rows = (struct net_rows){.count = count,
                              .length = length,
                              .scale = NET_NONE,
                              .bias = NET_NONE,
                              .cycle = 1,
                              .segment = 1,
                              .mean = NET_NONE,
                              .inverse = NET_NONE,
                              .sum = NET_NONE};
    if (scattered) {
        rows->first = (size_t *)(rows + 1);
        rows->element = rows->first + count;
    }
    call->workspace_size = length * (2 * sizeof(double) + 4 * sizeof(float));
    *out = rows;
    return 0;
}

/* The workspace: sums for the adjoints of scale and b, and four rows. */
struct rows_scratch {
    double *scale_sums, *bias_sums;
    float *x, *y, *scale, *bias;
};

static struct rows_scratch rows_scratch(const struct net_call *call)
{
    const struct net_rows *rows = call->prepared;
    struct rows_scratch scratch = {.scale_sums = call->workspace};
    scratch.bias_sums = scratch.scale_sums + rows->length;
    scratch.x = (float *)(scratch.bias_sums + rows->length);
    scratch.y = scratch.x + rows->length;
    scratch.scale = scratch.y + rows->length;
    scratch.bias = scratch.scale + rows->length;
    return scratch;
}

/* Inputs and outputs. */

static const float *input_data(const struct net_call *call, size_t input)
{
    return input == NET_NONE ? NULL : call->inputs[input]->data;
}

static float *output_data(const struct net_call *call, size_t output)
{
    bool wanted = output < call->node->output_count && call->outputs[output];
    return wanted ? call->outputs[output]->data : NULL;
}

static float *array_of(float *const *arrays, size_t count, size_t i)
{
    return i < count ? arrays[i] : NULL;
}

static bool rows_are_plain(const struct net_rows *rows)
{
    return !rows->first && !rows->add_terms;
}

static size_t element_place(const struct net_rows *rows, size_t row, size_t i)
{
    return rows->first ? rows->first[row] + rows->element[i] : row * rows->length + i;
}

/* Returns a row of what is normalized, or of its tangent, from the arrays of the inputs, of which
   null ones are zero. Null if all are. */
static const float *load_row(const struct net_call *call, const float *const *arrays, size_t row,
                             float *buffer)
{
    const struct net_rows *rows = call->prepared;
    if (rows->add_terms) {
        memset(buffer, 0, rows->length * sizeof *buffer);
        return rows->add_terms(call, arrays, row, buffer) ? buffer : NULL;
    }
    const float *x = arrays[0];
    if (!rows->first)
        return x ? x + row * rows->length : NULL;
    for (size_t i = 0; x && i < rows->length; i++)
        buffer[i] = x[element_place(rows, row, i)];
    return x ? buffer : NULL;
}

/* The same of the values, which are always there. */
static const float *load_values(const struct net_call *call, const float *const *arrays, size_t row,
                                float *buffer)
{
    const float *x = load_row(call, arrays, row, buffer);
    return x ? x : buffer;
}

/* The elements of the inputs. */
struct rows_inputs {
    const float *arrays[ROWS_INPUTS_MAX];
};

static struct rows_inputs rows_inputs(const struct net_call *call)
{
    struct rows_inputs inputs = {{NULL}};
    for (size_t i = 0; i < call->node->input_count && i < ROWS_INPUTS_MAX; i++)
        inputs.arrays[i] = call->inputs[i] ? call->inputs[i]->data : NULL;
    return inputs;
}

/* Stores a row where it is not in its place yet. */
static void store_row(const struct net_rows *rows, const float *from, size_t row, float *to)
{
    if (!rows->first)
        memcpy(to + row * rows->length, from, rows->length * sizeof *to);
    for (size_t i = 0; rows->first && i < rows->length; i++)
        to[element_place(rows, row, i)] = from[i];
}

static size_t operand_place(const struct net_rows *rows, size_t row, size_t i)
{
    return row % rows->cycle * (rows->length / rows->segment) + i / rows->segment;
}

/* Returns an operand's values for the elements of a row; `otherwise` where there is none. */
static const float *row_operand(const struct net_call *call, size_t input, float otherwise,
                                size_t row, float *buffer)
{
    const struct net_rows *rows = call->prepared;
    const float *values = input_data(call, input);
    if (values && rows->cycle == 1 && rows->segment == 1)
        return values;
    for (size_t i = 0; i < rows->length; i += rows->segment) {
        float value = values ? values[operand_place(rows, row, i)] : otherwise;
        for (size_t j = 0; j < rows->segment; j++)
            buffer[i + j] = value;
    }
    return buffer;
}

/* Statistics. */

/* mean, r, and the factor by which ∂(1/r)/∂x_i is a multiple of x̂_i. */
struct moments {
    double mean, inverse, factor;
};

static bool rows_have_mean(const struct net_rows *rows)
{
    return rows->measure == ROWS_DEVIATION || rows->measure == ROWS_DEVIATION_PLUS;
}

static double sum_of_sizes(const float *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += fabs((double)x[i]);
    return sum;
}

/* Sets the mean, and returns Σ (x − mean)² = Σ x² − n mean². Where the difference cancels 20 bits
   of 53, or is not finite, the squares are summed about the mean. */
static double row_centered(const float *x, size_t count, double *mean)
{
    double sum, squares;
    net_sum_moments(x, count, &sum, &squares);
    *mean = sum / (double)count;
    double centered = squares - sum * *mean;
    return centered > squares * 0x1p-20 && centered < INFINITY ? centered
                                                               : net_sum_squares(x, *mean, count);
}

static struct moments row_moments(const struct net_rows *rows, const float *x)
{
    struct moments moments = {.factor = 1};
    double n = (double)rows->length;
    double squares = rows_have_mean(rows)        ? row_centered(x, rows->length, &moments.mean)
                     : rows->measure == ROWS_SUM ? 0
                                                 : net_sum_squares(x, 0, rows->length);
    double size = 0, deviation;
    switch (rows->measure) {
    case ROWS_DEVIATION:
    case ROWS_ROOT_MEAN:
        size = sqrt(squares / n + rows->epsilon);
        moments.factor = 1 / n;
        break;
    case ROWS_DEVIATION_PLUS:
        deviation = sqrt(squares / n);
        size = deviation + rows->epsilon;
        moments.factor = deviation > 0 ? size / (n * deviation) : 0;
        break;
    case ROWS_LENGTH:
        size = sqrt(squares);
        break;
    case ROWS_SUM:
        size = sum_of_sizes(x, rows->length);
    }
    bool empty = size == 0 && (rows->measure == ROWS_LENGTH || rows->measure == ROWS_SUM);
    moments.inverse = empty ? 0 : 1 / size;
    return moments;
}

static inline double row_normal(const struct moments *moments, float x)
{
    return ((double)x - moments->mean) * moments->inverse;
}

/* ∂(1/r)/∂x_i */
static inline double row_slope(const struct net_rows *rows, const struct moments *moments, float x)
{
    if (rows->measure == ROWS_SUM)
        return x > 0 ? 1 : x < 0 ? -1 : 0;
    return moments->factor * row_normal(moments, x);
}

/* Forward. */

IVON_DISPATCH static void normalize_row(float *y, const float *x, double mean, double inverse,
                                        const float *scale, const float *bias, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (float)(((double)x[i] - mean) * inverse) * scale[i] + bias[i];
}

int net_rows_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_rows *rows = call->prepared;
    struct rows_scratch scratch = rows_scratch(call);
    const struct rows_inputs inputs = rows_inputs(call);
    float *y = call->outputs[0]->data, *mean = output_data(call, rows->mean);
    float *inverse = output_data(call, rows->inverse), *sum = output_data(call, rows->sum);
    for (size_t row = 0; row < rows->count; row++) {
        const float *x = load_values(call, inputs.arrays, row, scratch.x);
        struct moments moments = row_moments(rows, x);
        float *to = rows->first ? scratch.y : y + row * rows->length;
        if (sum)
            store_row(rows, x, row, sum);
        normalize_row(to, x, moments.mean, moments.inverse,
                      row_operand(call, rows->scale, 1, row, scratch.scale),
                      row_operand(call, rows->bias, 0, row, scratch.bias), rows->length);
        if (rows->first)
            store_row(rows, to, row, y);
        if (mean)
            mean[row] = (float)moments.mean;
        if (inverse)
            inverse[row] = (float)moments.inverse;
    }
    return 0;
}

/* Adjoints. */

/* dx += the adjoints of mean and r: ∂mean/∂x_i = 1/n and ∂r/∂x_i = −r² ∂(1/r)/∂x_i. */
static void add_moments_adjoints(const struct net_rows *rows, const struct moments *moments,
                                 const float *x, double mean_adjoint, double inverse_adjoint,
                                 float *dx)
{
    double square = moments->inverse * moments->inverse, n = (double)rows->length;
    mean_adjoint = rows_have_mean(rows) ? mean_adjoint : 0;
    for (size_t i = 0; i < rows->length; i++)
        dx[i] += (float)(mean_adjoint / n -
                         inverse_adjoint * square * row_slope(rows, moments, x[i]));
}

/*
 * With g = dy scale: dx += r (g − mean(g) − ∂(1/r)/∂x Σ g x̂), where mean(g) counts only if a mean
 * is subtracted; adds dy x̂ and dy to the sums for scale and b.
 */
static void add_row_adjoints(const struct net_rows *rows, const struct moments *moments,
                             const float *x, const float *dy, const float *scale,
                             struct rows_scratch *scratch, float *dx)
{
    double sum = 0, moment = 0;
    for (size_t i = 0; i < rows->length; i++) {
        double normal = row_normal(moments, x[i]), g = (double)dy[i] * (double)scale[i];
        sum += g;
        moment += g * normal;
        scratch->scale_sums[i] += (double)dy[i] * normal;
        scratch->bias_sums[i] += (double)dy[i];
    }
    double mean = rows_have_mean(rows) ? sum / (double)rows->length : 0;
    for (size_t i = 0; dx && i < rows->length; i++) {
        double g = (double)dy[i] * (double)scale[i];
        dx[i] += (float)(moments->inverse * (g - mean - row_slope(rows, moments, x[i]) * moment));
    }
}

/* Adds the sums to an operand's adjoint and clears them. */
static void flush_sums(const struct net_rows *rows, size_t row, double *sums, float *adjoint)
{
    for (size_t i = 0; i < rows->length; i += rows->segment) {
        double total = 0;
        for (size_t j = 0; j < rows->segment; j++) {
            total += sums[i + j];
            sums[i + j] = 0;
        }
        if (adjoint)
            adjoint[operand_place(rows, row, i)] += (float)total;
    }
}

/* Adds a row's adjoint to those of what it was loaded from. */
static void spread_row(const struct net_call *call, const float *d, size_t row,
                       float *const *input_adjoints)
{
    const struct net_rows *rows = call->prepared;
    float *dx = input_adjoints[0];
    if (rows->add_terms)
        rows->spread(call, d, row, input_adjoints);
    for (size_t i = 0; dx && !rows->add_terms && i < rows->length; i++)
        dx[element_place(rows, row, i)] += d[i];
}

/* Adjoints of the outputs, of all rows. */
struct rows_adjoints {
    const float *y, *mean, *inverse, *sum;
};

static void row_backward(const struct net_call *call, const struct rows_inputs *inputs,
                         const struct rows_adjoints *adjoints, size_t row,
                         struct rows_scratch *scratch, float *const *input_adjoints)
{
    const struct net_rows *rows = call->prepared;
    size_t length = rows->length;
    const float *x = load_values(call, inputs->arrays, row, scratch->x);
    struct moments moments = row_moments(rows, x);
    bool plain = rows_are_plain(rows);
    float *dx = input_adjoints[0];
    float *d = plain ? (dx ? dx + row * length : NULL) : scratch->bias;
    if (!plain)
        memset(d, 0, length * sizeof *d);
    if (d && (adjoints->mean || adjoints->inverse))
        add_moments_adjoints(rows, &moments, x, adjoints->mean ? (double)adjoints->mean[row] : 0,
                             adjoints->inverse ? (double)adjoints->inverse[row] : 0, d);
    for (size_t i = 0; d && adjoints->sum && i < length; i++)
        d[i] += adjoints->sum[row * length + i];
    const float *dy = adjoints->y ? adjoints->y + row * length : NULL;
    for (size_t i = 0; dy && rows->first && i < length; i++)
        scratch->y[i] = adjoints->y[element_place(rows, row, i)];
    if (dy)
        add_row_adjoints(rows, &moments, x, rows->first ? scratch->y : dy,
                         row_operand(call, rows->scale, 1, row, scratch->scale), scratch, d);
    if (!plain)
        spread_row(call, d, row, input_adjoints);
}

void net_rows_backward(const struct net_call *call, const float *const *output_adjoints,
                       float *const *input_adjoints)
{
    const struct net_rows *rows = call->prepared;
    struct rows_scratch scratch = rows_scratch(call);
    const struct rows_inputs inputs = rows_inputs(call);
    float *const *outputs = (float *const *)output_adjoints;
    size_t count = call->node->output_count;
    const struct rows_adjoints adjoints = {.y = outputs[0],
                                           .mean = array_of(outputs, count, rows->mean),
                                           .inverse = array_of(outputs, count, rows->inverse),
                                           .sum = array_of(outputs, count, rows->sum)};
    if (!rows->length)
        return;
    memset(scratch.scale_sums, 0, 2 * rows->length * sizeof *scratch.scale_sums);
    for (size_t row = 0; row < rows->count; row++) {
        row_backward(call, &inputs, &adjoints, row, &scratch, input_adjoints);
        if (!adjoints.y || (rows->cycle == 1 && row + 1 < rows->count))
            continue;
        flush_sums(rows, row, scratch.scale_sums,
                   rows->scale == NET_NONE ? NULL : input_adjoints[rows->scale]);
        flush_sums(rows, row, scratch.bias_sums,
                   rows->bias == NET_NONE ? NULL : input_adjoints[rows->bias]);
    }
}

/* Tangents. */

struct rows_tangents {
    const float *x, *scale, *bias; /* x of the row; or null */
    double mean, size;             /* of the mean and of 1/r */
};

/* Sets the tangents of the mean and of 1/r, which is Σ ∂(1/r)/∂x_i ẋ_i. */
static void set_moments_tangents(const struct net_rows *rows, const struct moments *moments,
                                 const float *x, struct rows_tangents *tangents)
{
    size_t length = rows->length;
    double sum = rows_have_mean(rows) ? net_sum(tangents->x, length) : 0;
    tangents->mean = rows_have_mean(rows) ? sum / (double)length : 0;
    if (rows->measure != ROWS_SUM)
        tangents->size = (net_sum_products(tangents->x, x, length) - moments->mean * sum) *
                         moments->inverse * moments->factor;
    for (size_t i = 0; rows->measure == ROWS_SUM && i < length; i++)
        tangents->size += row_slope(rows, moments, x[i]) * (double)tangents->x[i];
}

static void set_row_tangents(const struct net_rows *rows, const struct moments *moments,
                             const struct rows_tangents *tangents, const float *x,
                             const float *scale, size_t row, float *y)
{
    for (size_t i = 0; i < rows->length; i++) {
        double normal = row_normal(moments, x[i]), change = 0;
        if (tangents->x)
            change = (double)tangents->x[i] - tangents->mean - normal * tangents->size;
        y[i] = (float)((double)scale[i] * moments->inverse * change);
    }
    for (size_t i = 0; (tangents->scale || tangents->bias) && i < rows->length; i++) {
        size_t at = operand_place(rows, row, i);
        double normal = row_normal(moments, x[i]);
        y[i] += (float)((tangents->scale ? normal * (double)tangents->scale[at] : 0) +
                        (tangents->bias ? (double)tangents->bias[at] : 0));
    }
}

static const float *input_array(const float *const *arrays, size_t input)
{
    return input == NET_NONE ? NULL : arrays[input];
}

void net_rows_tangent(const struct net_call *call, const float *const *input_tangents,
                      float *const *output_tangents)
{
    const struct net_rows *rows = call->prepared;
    struct rows_scratch scratch = rows_scratch(call);
    const struct rows_inputs inputs = rows_inputs(call);
    struct rows_tangents tangents = {.scale = input_array(input_tangents, rows->scale),
                                     .bias = input_array(input_tangents, rows->bias)};
    size_t outputs = call->node->output_count, length = rows->length;
    float *y = output_tangents[0], *mean = array_of(output_tangents, outputs, rows->mean);
    float *inverse = array_of(output_tangents, outputs, rows->inverse);
    float *sum = array_of(output_tangents, outputs, rows->sum);
    for (size_t row = 0; row < rows->count; row++) {
        const float *x = load_values(call, inputs.arrays, row, scratch.x);
        struct moments moments = row_moments(rows, x);
        tangents.x = load_row(call, input_tangents, row, scratch.bias);
        tangents.mean = tangents.size = 0;
        if (tangents.x)
            set_moments_tangents(rows, &moments, x, &tangents);
        if (mean)
            mean[row] = (float)tangents.mean;
        if (inverse)
            inverse[row] = (float)(-moments.inverse * moments.inverse * tangents.size);
        for (size_t i = 0; sum && i < length; i++)
            sum[row * length + i] = tangents.x ? tangents.x[i] : 0;
        if (!y)
            continue;
        float *to = rows->first ? scratch.y : y + row * length;
        set_row_tangents(rows, &moments, &tangents, x,
                         row_operand(call, rows->scale, 1, row, scratch.scale), row, to);
        if (rows->first)
            store_row(rows, to, row, y);
    }
}
