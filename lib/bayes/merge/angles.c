/* Inner products of whole tensors, and the methods that take their coefficients from angles. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "core/dispatch.h"
#include "core/error.h"

/* Sums in a fixed order: eight lanes, then the lanes. */
IVON_DISPATCH static double angle_product(const double *restrict a, const double *restrict b,
                                          size_t count)
{
    double lanes[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (size_t k = 0; k < 8; k++)
            lanes[k] += a[i + k] * b[i + k];
    for (; i < count; i++)
        lanes[i % 8] += a[i] * b[i];
    for (size_t k = 0; k < 8; k++)
        sum += lanes[k];
    return sum;
}

IVON_DISPATCH static void angle_subtract(double *restrict a, const double *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] -= b[i];
}

struct angle_sums {
    const struct ivon_merge *merge;
    size_t vectors;
    double *sums; /* per slot: a triangle, row by row */
};

static size_t angle_triangle(size_t vectors)
{
    return vectors * (vectors + 1) / 2;
}

static void angle_visit(void *context, struct merge_scratch *scratch, size_t slot, size_t at,
                        size_t count)
{
    (void)at;
    const struct angle_sums *sums = context;
    const struct ivon_merge *merge = sums->merge;
    double *sum = sums->sums + slot * angle_triangle(sums->vectors);
    double *first = scratch->terms + MERGE_TILE;
    for (size_t t = 0; t < merge->model_count && merge->method->displacements; t++)
        angle_subtract(first + t * MERGE_TILE, scratch->base_mean, count);
    if (sums->vectors > merge->model_count) {
        first = scratch->terms;
        memcpy(first, scratch->base_mean, count * sizeof *first);
    }
    for (size_t a = 0; a < sums->vectors; a++)
        for (size_t b = 0; b <= a; b++)
            *sum++ += angle_product(first + a * MERGE_TILE, first + b * MERGE_TILE, count);
}

/* The symmetric matrix of the sums of all jobs, in their order. */
static void angle_gather(const struct angle_sums *sums, size_t slots, double *gram)
{
    size_t width = angle_triangle(sums->vectors), k = 0;
    for (size_t a = 0; a < sums->vectors; a++)
        for (size_t b = 0; b <= a; b++, k++) {
            double sum = 0;
            for (size_t slot = 0; slot < slots; slot++)
                sum += sums->sums[slot * width + k];
            gram[a * sums->vectors + b] = gram[b * sums->vectors + a] = sum;
        }
}

static int angle_find_coefficients(const struct merge_pass *pass, const struct angle_sums *sums,
                                   const double *gram, double *coefficients,
                                   struct ivon_error *error)
{
    const struct ivon_merge *merge = pass->run->merge;
    const struct merge_entry *entry = &merge->entries[merge->jobs[pass->job].entry];
    size_t models = merge->model_count;
    double *weights = calloc(models + 1, sizeof *weights);
    if (!weights)
        return ivon_error_memory(error);
    for (size_t r = 0; r < merge->result_count; r++) {
        for (size_t t = 0; t < models; t++)
            weights[t] = merge_weight(merge, entry, &merge->results[r], t);
        merge->method->find(coefficients + r * (models + 1), gram, sums->vectors, weights,
                            merge->results[r].scale, merge->base_in_formula);
    }
    free(weights);
    return 0;
}

int merge_measure_angles(const struct merge_pass *tensor, struct merge_measured *measured,
                         struct ivon_error *error)
{
    struct merge_pass own = *tensor, *pass = &own;
    const struct ivon_merge *merge = pass->run->merge;
    struct angle_sums sums = {merge, merge->model_count, NULL};
    sums.vectors += merge->base_in_formula && !merge->method->displacements;
    double *gram = calloc(sums.vectors * sums.vectors, sizeof *gram);
    sums.sums = calloc(pass->job_count * angle_triangle(sums.vectors), sizeof *sums.sums);
    pass->all_models = true;
    pass->visit = angle_visit;
    pass->context = &sums;
    int code = gram && sums.sums ? merge_pass_run(pass, error) : ivon_error_memory(error);
    if (!code) {
        angle_gather(&sums, pass->job_count, gram);
        for (size_t k = 0; k < sums.vectors * sums.vectors && !code; k++)
            if (!isfinite(gram[k]))
                code = ivon_error_set(
                    error, IVON_ERROR_DATA,
                    "tensor '%s': the squares of its elements have no finite sum, and no angle",
                    merge->outputs.items[merge->entries[merge->jobs[pass->job].entry].output].name);
    }
    if (!code)
        code = angle_find_coefficients(pass, &sums, gram, measured->coefficients, error);
    free(sums.sums);
    free(gram);
    return code;
}

/* The cosine between two vectors; 0 where one is zero. */
static double angle_cosine(const double *gram, size_t vectors, size_t a, size_t b)
{
    double norms = sqrt(gram[a * vectors + a]) * sqrt(gram[b * vectors + b]);
    double cosine = norms > 0 ? gram[a * vectors + b] / norms : 0;
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

void merge_find_slerp(double *coefficients, const double *gram, size_t vectors,
                      const double *weights, double scale, bool with_base)
{
    const double linear = 0.9995; /* below this angle, as mergekit does */
    double t = with_base ? scale * weights[0] : weights[1] / (weights[0] + weights[1]);
    double cosine = angle_cosine(gram, vectors, 0, 1);
    double first = 1 - t, second = t;
    if (fabs(cosine) <= linear && gram[0] > 0 && gram[3] > 0) {
        double angle = acos(cosine);
        first = sin((1 - t) * angle) / sin(angle);
        second = sin(t * angle) / sin(angle);
    }
    double *pair = with_base ? coefficients : coefficients + 1;
    coefficients[0] = 0;
    pair[0] = first;
    pair[1] = second;
}

void merge_find_model_stock(double *coefficients, const double *gram, size_t vectors,
                            const double *weights, double scale, bool with_base)
{
    (void)weights, (void)scale, (void)with_base;
    double n = (double)vectors, cosine = 0;
    for (size_t a = 0; a < vectors; a++)
        for (size_t b = 0; b < a; b++)
            cosine += angle_cosine(gram, vectors, a, b);
    cosine /= n * (n - 1) / 2;
    double ratio = cosine > 0 ? n * cosine / (1 + (n - 1) * cosine) : 0;
    coefficients[0] = 1 - ratio;
    for (size_t t = 0; t < vectors; t++)
        coefficients[t + 1] = ratio / n;
}
