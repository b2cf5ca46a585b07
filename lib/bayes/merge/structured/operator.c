/* Sums of operators: products and diagonals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/blas.h"
#include "core/dispatch.h"
#include "core/error.h"

static const struct structure *operator_structure(const struct merge_system *system, size_t input)
{
    return system->run->merge->structured->structures[input];
}

static size_t rank_of(const struct merge_system *system, size_t input)
{
    const struct structure *structure = operator_structure(system, input);
    return structure ? structure->rank : 0;
}

void system_factors(const struct merge_system *system, const struct merge_entry *entry,
                    size_t result, double *factors)
{
    const struct ivon_merge *merge = system->run->merge;
    const struct merge_result *of = &merge->results[result];
    factors[0] = merge->base_in_formula ? merge->options.base_scale : 0;
    for (size_t t = 0; t < merge->model_count; t++)
        factors[t + 1] = of->scale * merge_weight(merge, entry, of, t);
}

/* The factors of a segment: `factors` lists those of all segments, one after the other. */
static const double *factors_of(const struct merge_system *system, const double *factors,
                                size_t segment)
{
    return factors + segment * system->inputs;
}

IVON_DISPATCH static void multiply(double *restrict x, const double *restrict by, double c,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] *= c * by[i];
}

IVON_DISPATCH static void operator_add(double *restrict x, const double *restrict y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += y[i];
}

/* y ← V_B y V_Aᵀ, or with `back` V_Bᵀ y V_A. */
static int operator_rotate(struct merge_system *system, const struct merge_segment *segment,
                           const struct merge_operator *operator, bool back, double *y,
                           struct ivon_error *error)
{
    double *turn[MERGE_SIDES] = {NULL};
    for (int side = 0; side < MERGE_SIDES; side++) {
        size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
        if (!operator->turn[side])
            continue;
        turn[side] = system->wide[side];
        for (size_t i = 0; i < n * n; i++)
            turn[side][i] = (double)operator->turn[side][i];
    }
    return matrix_rotate(system->pool, turn, back, segment->rows, segment->columns, y,
                         system->work[0], error);
}

/* y = V_Bᵀ x V_A of every segment into the scratch; part += the products with the vectors. */
static int apply_begin(struct merge_system *system, size_t input, const double *x,
                       struct ivon_error *error)
{
    size_t rank = rank_of(system, input);
    memset(system->part, 0, rank * sizeof *system->part);
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        const struct merge_operator *operator= & segment->operators[input];
        double *y = system->scratch + segment->offset;
        memcpy(y, x + segment->offset, segment->size * sizeof *y);
        code = operator_rotate(system, segment, operator, true, y, error);
        if (!code && operator->vectors)
            blas_product_double(false, true, 1, (int64_t)rank, (int64_t)segment->size, 1, y,
                                (int64_t)segment->size, operator->vectors, (int64_t)segment->size,
                                1, system->part, (int64_t)rank);
    }
    return code;
}

/* out += c V_B (s ⊙ y + vectors ℓ part) V_Aᵀ. */
static int apply_end(struct merge_system *system, size_t input, const double *factors, double *out,
                     struct ivon_error *error)
{
    const struct structure *structure = operator_structure(system, input);
    size_t rank = rank_of(system, input);
    int code = 0;
    for (size_t r = 0; r < rank; r++)
        system->part[r] *= structure->values[r];
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        const struct merge_operator *operator= & segment->operators[input];
        double *y = system->scratch + segment->offset;
        double c = factors_of(system, factors, g)[input];
        if (c == 0)
            continue;
        multiply(y, operator->values, c, segment->size);
        if (operator->vectors)
            blas_product_double(false, false, 1, (int64_t)segment->size, (int64_t)rank, c,
                                system->part, (int64_t)rank, operator->vectors,
                                (int64_t)segment->size, 1, y, (int64_t)segment->size);
        code = operator_rotate(system, segment, operator, false, y, error);
        operator_add(out + segment->offset, y, segment->size);
    }
    return code;
}

static bool takes_part(const struct merge_system *system, const double *factors, size_t input)
{
    for (size_t g = 0; g < system->segment_count; g++)
        if (system->segments[g].operators[input].values &&
            factors_of(system, factors, g)[input] != 0)
            return true;
    return false;
}

int system_apply(struct merge_system *system, const double *factors, const double *x, double *out,
                 struct ivon_error *error)
{
    int code = 0;
    memset(out, 0, system->size * sizeof *out);
    for (size_t i = 0; i < system->inputs && !code; i++) {
        if (!takes_part(system, factors, i))
            continue;
        code = apply_begin(system, i, x, error);
        if (!code)
            code = apply_end(system, i, factors, out, error);
    }
    return code;
}

/* The least e for which all |x| < 2^e, of those whose 2^-e is finite; 0 where all are zero. */
IVON_DISPATCH static int exponent_of(const double *x, size_t count)
{
    double largest = 0;
    int exponent;
    for (size_t i = 0; i < count; i++)
        largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
    frexp(largest, &exponent);
    return exponent < -1000 ? -1000 : exponent;
}

IVON_DISPATCH static void narrow(float *restrict y, const double *restrict x, double scale,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (float)(scale * x[i]);
}

IVON_DISPATCH static void multiply_floats(float *restrict y, const double *restrict by,
                                          double scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (float)(scale * by[i] * (double)y[i]);
}

IVON_DISPATCH static void add_floats(double *restrict out, double scale, const float *restrict y,
                                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += scale * (double)y[i];
}

/* out += c V_B (s ⊙ (V_Bᵀ x V_A)) V_Aᵀ, with x and s scaled to numbers below 1. */
static int segment_apply_floats(struct merge_system *system, const struct merge_segment *segment,
                                const struct merge_operator *operator, double c, const double *x,
                                double *out, struct ivon_error *error)
{
    float *y = system->floats[0], *scratch = system->floats[1];
    int of_x = exponent_of(x, segment->size), of_s = exponent_of(operator->values, segment->size);
    narrow(y, x, ldexp(1, -of_x), segment->size);
    int code = matrix_rotate_floats(system->pool, operator->turn, true, segment->rows,
                                    segment->columns, &y, &scratch, error);
    multiply_floats(y, operator->values, ldexp(1, -of_s), segment->size);
    if (!code)
        code = matrix_rotate_floats(system->pool, operator->turn, false, segment->rows,
                                    segment->columns, &y, &scratch, error);
    add_floats(out, ldexp(c, of_x + of_s), y, segment->size);
    return code;
}

int system_apply_floats(struct merge_system *system, const double *factors, const double *x,
                        double *out, struct ivon_error *error)
{
    int code = 0;
    memset(out, 0, system->size * sizeof *out);
    for (size_t g = 0; g < system->segment_count; g++)
        for (size_t i = 0; i < system->inputs && !code; i++) {
            const struct merge_segment *segment = &system->segments[g];
            const struct merge_operator *operator= & segment->operators[i];
            double c = factors_of(system, factors, g)[i];
            if (operator->values && c != 0)
                code = segment_apply_floats(system, segment, operator, c, x + segment->offset,
                                            out + segment->offset, error);
        }
    return code;
}

/* out += c Σ ℓ w² over the vectors w, turned into the coordinates of `out`. */
static int add_correction(struct merge_system *system, const struct merge_segment *segment,
                          size_t input, double c, double *out, struct ivon_error *error)
{
    const struct structure *structure = operator_structure(system, input);
    const struct merge_operator *operator= & segment->operators[input];
    double *w = system->work[1];
    int code = 0;
    for (size_t r = 0; r < structure->rank && operator->vectors && !code; r++) {
        memcpy(w, operator->vectors + r * segment->size, segment->size * sizeof *w);
        code = operator_rotate(system, segment, operator, false, w, error);
        for (size_t i = 0; i < segment->size; i++)
            out[i] += c * structure->values[r] * w[i] * w[i];
    }
    return code;
}

int system_diagonal(struct merge_system *system, const double *factors, bool plain, double *out,
                    struct ivon_error *error)
{
    int code = 0;
    memset(out, 0, system->size * sizeof *out);
    for (size_t g = 0; g < system->segment_count; g++) {
        const struct merge_segment *segment = &system->segments[g];
        double *at = out + segment->offset;
        for (size_t i = 0; i < system->inputs && !code; i++) {
            const struct merge_operator *operator= & segment->operators[i];
            double c = factors_of(system, factors, g)[i];
            if (!operator->values || c == 0)
                continue;
            if (plain) {
                for (size_t k = 0; k < segment->size; k++)
                    at[k] += c * operator->plain[k];
                continue;
            }
            code = matrix_add_diagonal(system->pool, operator->turn, segment->rows,
                                       segment->columns, c, operator->values, at, system->work,
                                       error);
            if (!code && operator->vectors)
                code = add_correction(system, segment, i, c, at, error);
        }
    }
    return code;
}
