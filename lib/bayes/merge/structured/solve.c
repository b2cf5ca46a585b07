/*
 * Conjugate gradients (Hestenes and Stiefel 1952), preconditioned by a diagonal. With steps a_j of
 * residuals r_j, that the preconditioner makes z_j, the error e_k in the norm of the matrix S falls
 * by
 *
 *   |e_k|² − |e_(k + d)|² = Σ_(j = k)^(k + d − 1) a_j r_j·z_j,
 *
 * and all steps together give |y|². So the last d steps tell what the error was before them, less
 * what still is (Strakoš and Tichý, ETNA 13 (2002) 56: it holds in finite precision too). What
 * still is follows as a geometric series of them and the d steps before.
 *
 * S p is computed in float. That moves the residual away from b − S y by some 2^-24 of the largest
 * it was; so once it has become small it is computed anew, in double, and the iteration goes on
 * from there: the rest is wrong by 2^-24 of the rest (van der Vorst and Ye, SIAM J. Sci. Comput. 22
 * (2000) 835). Where the curvature p·S p could be rounding alone, all is in double.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/dispatch.h"
#include "core/error.h"

enum {
    ITERATIONS_MAX = 500,
    DELAY = 4, /* d */
    RUN = 4096 /* elements of a partial sum */
};

/* A residual that is rounding, relative to the first, in the norm of the preconditioner. */
static const double ROUNDING = 1e-10;

/* The residual is computed anew when it has become as small, in the same norm. */
static const double RENEWED = 1e-3;

/* A curvature that is rounding in float, relative to that of the diagonal. */
static const double FLAT = 1e-4;

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
    struct merge_system *system;
    const double *factors, *diagonal, *right;
    double *solution, *residual, *direction, *image, *step;
    double tolerance;
    double size, first;       /* r·z, and of the start */
    double recent[2 * DELAY]; /* what the squared error fell by in the last steps, */
    double fallen;            /* and in all */
    size_t iterations, since; /* steps, and those since the residual was last computed */
    bool renewed;             /* it has been computed from the solution */
    bool exact;               /* products are in double */
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

/* Returns whether what was left of the error d steps ago, the sum of their falls and of the series
   that these begin, is below the tolerance. */
static bool solve_is_near(const struct gradients *memory)
{
    double last = 0, before = 0;
    for (size_t k = 1; k <= DELAY && memory->iterations >= 2 * (size_t)DELAY; k++) {
        last += memory->recent[(memory->iterations - k) % (2 * (size_t)DELAY)];
        before += memory->recent[(memory->iterations - k - DELAY) % (2 * (size_t)DELAY)];
    }
    double allowed = memory->tolerance * memory->tolerance * memory->fallen;
    return memory->size <= ROUNDING * ROUNDING * memory->first ||
           (memory->since >= DELAY && last < before && last * before <= allowed * (before - last));
}

static bool solve_is_done(const struct gradients *memory)
{
    return (memory->renewed || memory->iterations == 0) && solve_is_near(memory);
}

/* Sets z and r·z. */
static void precondition(struct gradients *memory)
{
    size_t count = memory->system->size;
    divide(memory->step, memory->residual, memory->diagonal, count);
    memory->size = inner_product(memory->residual, memory->step, count);
}

/* S p, and its curvature: in double where float would not tell it from zero. */
static int solve_apply(struct gradients *memory, double *curvature, struct ivon_error *error)
{
    struct merge_system *system = memory->system;
    const double *p = memory->direction;
    size_t count = system->size;
    int code = 0;
    if (!memory->exact) {
        double plain = 0;
        for (size_t i = 0; i < count; i++)
            plain += memory->diagonal[i] * p[i] * p[i];
        code = system_apply_floats(system, memory->factors, p, memory->image, error);
        *curvature = inner_product(p, memory->image, count);
        memory->exact = !(*curvature > FLAT * plain);
    }
    if (!code && memory->exact) {
        code = system_apply(system, memory->factors, p, memory->image, error);
        *curvature = inner_product(p, memory->image, count);
    }
    return code;
}

/* r = b − S y */
static int renew_residual(struct gradients *memory, struct ivon_error *error)
{
    int code = system_apply(memory->system, memory->factors, memory->solution, memory->residual,
                            error);
    for (size_t i = 0; i < memory->system->size; i++)
        memory->residual[i] = memory->right[i] - memory->residual[i];
    precondition(memory);
    memory->renewed = true;
    memory->since = 0;
    return code;
}

/* One step. *flat: the curvature along its direction, where it is not positive. */
static int solve_iterate(struct gradients *memory, double *flat, struct ivon_error *error)
{
    size_t count = memory->system->size;
    double curvature = 0, before = memory->size;
    int code = solve_apply(memory, &curvature, error);
    if (code)
        return code;
    if (!(curvature > 0)) {
        *flat = curvature / inner_product(memory->direction, memory->direction, count);
        return 0;
    }
    double length = before / curvature;
    memory->recent[memory->iterations % (2 * (size_t)DELAY)] = length * before;
    memory->fallen += length * before;
    add_multiple(memory->solution, length, memory->direction, count);
    add_multiple(memory->residual, -length, memory->image, count);
    precondition(memory);
    memory->iterations++;
    memory->since++;
    if (!memory->renewed &&
        (memory->size <= RENEWED * RENEWED * memory->first || solve_is_near(memory)))
        code = renew_residual(memory, error);
    renew(memory->direction, memory->size / before, memory->step, count);
    return code;
}

/* Steps from zero until the end. */
static int solve_from_zero(struct gradients *memory, struct system_solution *solution,
                           struct ivon_error *error)
{
    size_t count = memory->system->size;
    int code = 0;
    memset(memory->solution, 0, count * sizeof(double));
    memcpy(memory->residual, memory->right, count * sizeof(double));
    precondition(memory);
    memory->first = memory->size;
    memcpy(memory->direction, memory->step, count * sizeof(double));
    while (!code && solution->curvature > 0 && memory->iterations < ITERATIONS_MAX &&
           !solve_is_done(memory))
        code = solve_iterate(memory, &solution->curvature, error);
    solution->iterations = memory->iterations;
    solution->converged = solve_is_done(memory);
    return code;
}

int system_solve(struct merge_system *system, const double *factors, const double *diagonal,
                 const double *b, double tolerance, double *y, struct system_solution *solution,
                 struct ivon_error *error)
{
    size_t count = system->size;
    bool coupled = system->run->merge->structured->low_rank; /* only products in double take it */
    struct gradients memory = {.system = system,
                               .factors = factors,
                               .diagonal = diagonal,
                               .right = b,
                               .solution = y,
                               .tolerance = tolerance,
                               .renewed = coupled,
                               .exact = coupled};
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
    if (!code)
        code = solve_from_zero(&memory, solution, error);
    release(&memory);
    return code;
}
