#include "net/ops/resize/sample.h"

#include <stdbool.h>

void sample_combine(struct sample *sample, const struct sample_axis *axes, int axis_count,
                    const int64_t *extents)
{
    int taps[SAMPLE_AXES_MAX] = {0}, count = 1;
    sample->axes = axis_count;
    sample->points = 0;
    for (int i = 0; i < axis_count; i++)
        count *= axes[i].taps;
    for (int n = 0; n < count; n++) {
        int64_t offset = 0;
        double weight = 1, *slope[SAMPLE_AXES_MAX];
        for (int i = 0; i < axis_count; i++) {
            slope[i] = &sample->slope[i][sample->points];
            *slope[i] = 1;
        }
        for (int i = 0; i < axis_count; i++) {
            int64_t index = axes[i].index[taps[i]];
            offset = offset < 0 || index < 0 ? -1 : offset * extents[i] + index;
            weight *= axes[i].weight[taps[i]];
            for (int k = 0; k < axis_count; k++)
                *slope[k] *= k == i ? axes[i].slope[taps[i]] : axes[i].weight[taps[i]];
        }
        for (int i = axis_count - 1; i >= 0 && ++taps[i] == axes[i].taps; i--)
            taps[i] = 0;
        if (offset < 0)
            continue;
        sample->offset[sample->points] = (size_t)offset;
        sample->weight[sample->points++] = weight;
    }
}

double sample_value(const struct sample *sample, const float *x)
{
    double sum = 0;
    for (int i = 0; i < sample->points; i++)
        sum += sample->weight[i] * (double)x[sample->offset[i]];
    return sum;
}

double sample_slope(const struct sample *sample, int axis, const float *x)
{
    double sum = 0;
    for (int i = 0; i < sample->points; i++)
        sum += sample->slope[axis][i] * (double)x[sample->offset[i]];
    return sum;
}

void sample_add(const struct sample *sample, double adjoint, float *x)
{
    for (int i = 0; i < sample->points; i++)
        x[sample->offset[i]] += (float)(sample->weight[i] * adjoint);
}
