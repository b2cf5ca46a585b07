#include <math.h>

#include "metrics/moments.h"
#include "ivon/metrics.h"

double ivon_jackknife(const double *values, size_t groups)
{
    struct moments moments = {0};
    for (size_t g = 0; g < groups; g++)
        moments_add(&moments, values[g], 1);
    return groups > 1 ? sqrt((double)(groups - 1) / (double)groups * moments.square) : NAN;
}
