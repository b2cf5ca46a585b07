#include "net/ops/resize/weights.h"

#include <math.h>

/*
 * Positions are affine in the output's. With s the scale, I and O the extents, and L = s I:
 *
 *   half_pixel            (o + 1/2)/s − 1/2
 *   half_pixel_symmetric  the same, with what O lacks of L cut off at both ends
 *   pytorch_half_pixel    the same as half_pixel, 0 if O is 1
 *   align_corners         o (I − 1)/(L − 1)
 *   asymmetric            o/s
 *   tf_half_pixel_for_nn  (o + 1/2)/s
 *   tf_crop_and_resize    from start (I − 1) to end (I − 1); their middle if O is 1
 */
static double resize_position(const struct resize_rule *rule, const struct resize_axis *axis,
                              double at)
{
    double last = (double)(axis->in - 1), half_pixel = (at + 0.5) / axis->scale - 0.5;
    switch (rule->coordinates) {
    case RESIZE_HALF_PIXEL:
        return half_pixel;
    case RESIZE_HALF_PIXEL_SYMMETRIC:
        return half_pixel + (double)axis->in / 2 * (1 - (double)axis->out / axis->length);
    case RESIZE_PYTORCH_HALF_PIXEL:
        return axis->out > 1 ? half_pixel : 0;
    case RESIZE_ALIGN_CORNERS:
        return axis->out > 1 ? at * last / (axis->length - 1) : 0;
    case RESIZE_ASYMMETRIC:
        return at / axis->scale;
    case RESIZE_TF_HALF_PIXEL:
        return (at + 0.5) / axis->scale;
    default:
        return axis->out > 1 ? axis->start * last +
                                   at * (axis->end - axis->start) * last / (double)(axis->out - 1)
                             : (axis->start + axis->end) / 2 * last;
    }
}

bool resize_is_trivial(const struct resize_rule *rule, const struct resize_axis *axis)
{
    double last = (double)(axis->in - 1);
    return axis->in == axis->out && resize_position(rule, axis, 0) == 0 &&
           resize_position(rule, axis, last) == last;
}

static double resize_round(const struct resize_rule *rule, const struct resize_axis *axis, double x)
{
    switch (rule->rounding) {
    case RESIZE_PREFER_FLOOR:
        return ceil(x - 0.5);
    case RESIZE_PREFER_CEIL:
        return floor(x + 0.5);
    case RESIZE_FLOOR:
        return floor(x);
    case RESIZE_CEIL:
        return ceil(x);
    default:
        return axis->scale < 1 ? ceil(x) : floor(x);
    }
}

static double clamp(double x, double low, double high)
{
    return x > low ? x < high ? x : high : low;
}

double resize_cubic(double t, double a)
{
    t = fabs(t);
    return t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
}

double resize_cubic_slope(double t, double a)
{
    double d = fabs(t);
    double slope = d <= 1 ? (3 * (a + 2) * d - 2 * (a + 3)) * d : (3 * a * d - 10 * a) * d + 8 * a;
    return t < 0 ? -slope : slope;
}

/* The kernel around a position: elements at a distance t below `reach` weigh kernel(t scale). */
struct kernel {
    double x, reach, scale;
    int64_t first, last; /* elements, which may be outside */
};

static struct kernel resize_kernel(const struct resize_rule *rule, const struct resize_axis *axis,
                                   double x)
{
    struct kernel kernel = {.scale = rule->antialias && axis->scale < 1 ? axis->scale : 1};
    kernel.reach = (rule->mode == RESIZE_LINEAR ? 1 : 2) / kernel.scale;
    /* Farther outside, the weights of the elements that there are do not change. */
    kernel.x = clamp(x, -kernel.reach - 2, (double)axis->in + kernel.reach + 2);
    kernel.first = (int64_t)floor(kernel.x - kernel.reach) + 1;
    kernel.last = (int64_t)ceil(kernel.x + kernel.reach) - 1;
    return kernel;
}

static int64_t inside(int64_t i, const struct resize_axis *axis)
{
    return i < 0 ? 0 : i < axis->in ? i : axis->in - 1;
}

size_t resize_span(const struct resize_rule *rule, const struct resize_axis *axis, int64_t at,
                   int64_t *first)
{
    double x = resize_position(rule, axis, (double)at), end = (double)(axis->in - 1);
    *first = 0;
    if (rule->coordinates == RESIZE_TF_CROP && !(x >= 0 && x <= end))
        return 0;
    if (rule->mode == RESIZE_NEAREST) {
        *first = (int64_t)clamp(resize_round(rule, axis, x), 0, end);
        return 1;
    }
    const struct kernel kernel = resize_kernel(rule, axis, x);
    int64_t last = inside(kernel.last, axis);
    *first = inside(kernel.first, axis);
    if (rule->exclude_outside && (kernel.last < 0 || kernel.first >= axis->in))
        return 0;
    return (size_t)(last - *first + 1);
}

void resize_weights(const struct resize_rule *rule, const struct resize_axis *axis, int64_t at,
                    double *weights)
{
    int64_t first;
    double sum = 0;
    size_t count = resize_span(rule, axis, at, &first);
    if (rule->mode == RESIZE_NEAREST) {
        for (size_t i = 0; i < count; i++)
            weights[i] = 1;
        return;
    }
    const struct kernel kernel = resize_kernel(rule, axis, resize_position(rule, axis, (double)at));
    for (size_t i = 0; i < count; i++)
        weights[i] = 0;
    for (int64_t i = kernel.first; i <= kernel.last && count; i++) {
        double t = ((double)i - kernel.x) * kernel.scale;
        double weight = rule->mode == RESIZE_LINEAR ? 1 - fabs(t) : resize_cubic(t, rule->cubic_a);
        if (rule->exclude_outside && inside(i, axis) != i)
            continue;
        weights[inside(i, axis) - first] += weight;
        sum += weight;
    }
    for (size_t i = 0; i < count && sum != 0; i++)
        weights[i] /= sum; /* which is 1 but for antialias and exclude_outside */
}
