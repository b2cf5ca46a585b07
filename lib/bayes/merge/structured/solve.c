/*
 * Conjugate gradients (Hestenes and Stiefel 1952), preconditioned by a diagonal. With steps a_j of
 * residuals r_j, that the preconditioner makes z_j, the error e_k in the norm of the matrix S falls
 * by
 *
 *   |e_k|² − |e_(k + d)|² = Σ_(j = k)^(k + d − 1) a_j r_j·z_j,
 *
 * and all steps together give |y|². So the last d steps tell what the error was before them, less
 * what still is (Strakoš and Tichý, ETNA 13 (2002) 56: it holds in finite precision too).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/dispatch.h"
#include "core/error.h"

enum {
    ITERATIONS_MAX = 500,
    DELAY = 8, /* d */
    RUN = 4096 /* elements of a partial sum */
};

/* A residual that is rounding, relative to the first, in the norm of the preconditioner. */
static const double ROUNDING = 1e-10;

/* Sums of products, by runs of equal length: one order of additions. */
IVON_DISPATCH static double run_product(const double *restrict x, const double *restrict y,
                                        size_t count)
{
    double sums[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (size_t k = 0; k < 8; k++)
            sums[k] += x[i + k] * y[i + k];
    for (; i < count; i++)
        sum += x[i] * y[i];
    for (size_t k = 0; k < 8; k++)
        sum += sums[k];
    return sum;
}

static double inner_product(const double *x, const double *y, size_t count)
{
    double sum = 0;
    for (size_t first = 0; first < count; first += RUN)
        sum += run_product(x + first, y + first, count - first < RUN ? count - first : RUN);
    return sum;
}

IVON_DISPATCH static void divide(double *restrict z, const double *restrict r,
                                 const double *restrict d, size_t count)
{
    for (size_t i = 0; i < count; i++)
        z[i] = r[i] / d[i];
}

/* x += a p */
IVON_DISPATCH static void add_multiple(double *restrict x, double a, const double *restrict p,
                                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += a * p[i];
}

/* p = z + b p */
IVON_DISPATCH static void renew(double *restrict p, double b, const double *restrict z,
                                size_t count)
{
    for (size_t i = 0; i < count; i++)
        p[i] = z[i] + b * p[i];
}

struct gradients {
    double *residual, *direction, *image, *step;
    double size, first;           /* r·z, and of the start */
    double recent[DELAY], fallen; /* what the squared error fell by in the last steps, and in all */
};

static int allocate(struct gradients *memory, size_t size, struct ivon_error *error)
{
    memory->residual = calloc(size + 1, sizeof(double));
    memory->direction = calloc(size + 1, sizeof(double));
    memory->image = calloc(size + 1, sizeof(double));
    memory->step = calloc(size + 1, sizeof(double));
    return memory->residual && memory->direction && memory->image && memory->step
               ? 0
               : ivon_error_memory(error);
}

static void release(struct gradients *memory)
{
    free(memory->residual);
    free(memory->direction);
    free(memory->image);
    free(memory->step);
}

/* Returns whether all inputs share the basis: then the diagonal is all there is. */
static bool solve_is_diagonal(const struct merge_system *system)
{
    for (size_t g = 0; g < system->segment_count; g++)
        for (size_t i = 0; i < system->inputs; i++) {
            const struct merge_operator *operator= & system->segments[g].operators[i];
            if (operator->vectors || operator->turn[MERGE_INPUT] || operator->turn[MERGE_OUTPUT])
                return false;
        }
    return true;
}

/* Returns whether what is left of the error is below `tolerance` of the solution. */
static bool solve_is_done(const struct gradients *memory, size_t iterations, double tolerance)
{
    double recent = 0;
    for (size_t k = 0; k < DELAY; k++)
        recent += memory->recent[k];
    return memory->size <= ROUNDING * ROUNDING * memory->first ||
           (iterations >= DELAY && recent <= tolerance * tolerance * memory->fallen);
}

/* One step from y. */
static int solve_iterate(struct merge_system *system, const double *factors, const double *diagonal,
                         struct gradients *memory, double *y, struct system_solution *solution,
                         struct ivon_error *error)
{
    size_t count = system->size;
    int code = system_apply(system, factors, memory->direction, memory->image, error);
    if (code)
        return code;
    double curvature = inner_product(memory->direction, memory->image, count);
    if (!(curvature > 0)) {
        solution->curvature = curvature /
                              inner_product(memory->direction, memory->direction, count);
        return 0;
    }
    double before = memory->size, length = before / curvature;
    memory->recent[solution->iterations % DELAY] = length * before;
    memory->fallen += length * before;
    add_multiple(y, length, memory->direction, count);
    add_multiple(memory->residual, -length, memory->image, count);
    divide(memory->step, memory->residual, diagonal, count);
    memory->size = inner_product(memory->residual, memory->step, count);
    renew(memory->direction, memory->size / before, memory->step, count);
    solution->iterations++;
    return 0;
}

int system_solve(struct merge_system *system, const double *factors, const double *diagonal,
                 const double *b, double tolerance, double *y, struct system_solution *solution,
                 struct ivon_error *error)
{
    size_t count = system->size;
    struct gradients memory = {0};
    *solution = (struct system_solution){.converged = true, .curvature = 1};
    for (size_t i = 0; i < count; i++)
        if (!(diagonal[i] > 0)) {
            solution->curvature = fmin(solution->curvature, diagonal[i]);
            solution->curvature = isnan(diagonal[i]) ? NAN : solution->curvature;
        }
    if (!(solution->curvature > 0))
        return 0;
    if (solve_is_diagonal(system)) {
        divide(y, b, diagonal, count);
        return 0;
    }
    int code = allocate(&memory, count, error);
    if (!code) {
        memset(y, 0, count * sizeof *y);
        memcpy(memory.residual, b, count * sizeof *b);
        divide(memory.step, b, diagonal, count);
        memcpy(memory.direction, memory.step, count * sizeof *b);
        memory.size = memory.first = inner_product(memory.residual, memory.step, count);
        while (!code && solution->curvature > 0 && solution->iterations < ITERATIONS_MAX &&
               !solve_is_done(&memory, solution->iterations, tolerance))
            code = solve_iterate(system, factors, diagonal, &memory, y, solution, error);
        solution->converged = solve_is_done(&memory, solution->iterations, tolerance);
    }
    release(&memory);
    return code;
}
