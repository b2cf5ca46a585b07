/* Groups while a merge runs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/parallel.h"

/* Relative to the solution, in the norm of the merged precision; of movements, which are told to a
   few digits. */
static const double TOLERANCE = 1e-5, TOLERANCE_OF_MOVEMENT = 1e-4;

/* The memory of the results of one system. */
struct solving {
    double *factors, *diagonal, *right, *solution;
};

static double square_of(const double *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sum;
}

/* The terms of the models in the result: those of the displacement from the base, or their pulls
   from the result `y`, c S_t[W_t − X]. */
static int group_add_movement(struct merge_system *system, size_t result,
                              const struct solving *solving, const double *y,
                              struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    size_t group = (size_t)(system->segments[0].group - merge->structured->groups);
    double *squares = merge_group_squares(system->run, group, result);
    double *side = malloc((system->size + 1) * sizeof *side);
    double *term = malloc((system->size + 1) * sizeof *term);
    double *own = calloc(system->segment_count * system->inputs + 1, sizeof *own);
    int code = side && term && own ? 0 : ivon_error_memory(error);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        struct system_solution solution;
        memset(own, 0, system->segment_count * system->inputs * sizeof *own);
        for (size_t g = 0; g < system->segment_count && !merge->base_in_formula; g++)
            own[g * system->inputs + t + 1] = solving->factors[g * system->inputs + t + 1];
        code = system_apply(system, own, y, side, error);
        for (size_t g = 0; g < system->segment_count; g++) {
            const struct merge_segment *segment = &system->segments[g];
            double c = solving->factors[g * system->inputs + t + 1];
            for (size_t i = 0; i < segment->size; i++)
                side[segment->offset + i] = c * system->sides[t][segment->offset + i] -
                                            side[segment->offset + i];
        }
        if (!code)
            code = system_solve(system, solving->factors, solving->diagonal, side,
                                TOLERANCE_OF_MOVEMENT, term, &solution, error);
        if (!code)
            squares[merge->models[t].caller_index] += square_of(term, system->size);
    }
    if (merge->base_in_formula)
        squares[merge->model_count] += square_of(y, system->size);
    free(side);
    free(term);
    free(own);
    return code;
}

/* b = Σ c J_t */
static void sum_sides(const struct merge_system *system, const struct solving *solving)
{
    memset(solving->right, 0, system->size * sizeof *solving->right);
    for (size_t t = 0; t + 1 < system->inputs; t++)
        for (size_t g = 0; g < system->segment_count; g++) {
            const struct merge_segment *segment = &system->segments[g];
            double c = solving->factors[g * system->inputs + t + 1];
            for (size_t i = segment->offset; i < segment->offset + segment->size; i++)
                solving->right[i] += c * system->sides[t][i];
        }
}

/* The base's means and precision instead of the result's. */
static int keep_base(struct merge_system *system, const struct solving *solving,
                     struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    const struct merge_group *group = system->segments[0].group;
    memset(solving->factors, 0, system->segment_count * system->inputs * sizeof(double));
    for (size_t g = 0; g < system->segment_count; g++)
        solving->factors[g * system->inputs] = 1;
    int code = system_diagonal(system, solving->factors, false, solving->diagonal, error);
    for (size_t i = 0; i < system->size && !code; i++)
        if (!(solving->diagonal[i] > 0))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "tensor '%s': the merged precision is not positive, nor is the "
                                  "base's",
                                  merge->outputs.items[merge->entries[group->weight].output].name);
    return code;
}

/* Writes an input's means as they are. */
static int copy_means(struct merge_system *system, size_t result, size_t input,
                      struct ivon_error *error)
{
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        code = matrix_means(system->run->merge, input, system->segments[g].group, system->work[0],
                            error);
        if (!code)
            code = write_matrix(system->run, result, system->segments[g].group, system->work[0],
                                error);
    }
    return code;
}

/* The weight of a group; null where all were solved for at once. */
static const char *solve_name(const struct ivon_merge *merge, const struct merge_group *group)
{
    return merge_groups_are_coupled(merge)
               ? NULL
               : merge->outputs.items[merge->entries[group->weight].output].name;
}

/* Remembers the most iterations of any result. */
static void note_solution(struct merge_system *system, const struct system_solution *solution)
{
    const struct ivon_merge *merge = system->run->merge;
    struct merge_structured *structured = merge->structured;
    const struct merge_group *group = system->segments[0].group;
    struct ivon_merge_solve *solve = &structured->solves[structured->solve_count - 1];
    if (solution->iterations > solve->iterations)
        solve->iterations = solution->iterations;
    solve->converged &= solution->converged;
    solve->name = solve_name(merge, group);
}

/* Finds and writes the means. *kept: the base's were. */
static int solve_means(struct merge_system *system, size_t result, const struct solving *solving,
                       bool *kept, struct ivon_error *error)
{
    struct merge_run *run = system->run;
    const struct ivon_merge *merge = run->merge;
    struct system_solution solution;
    sum_sides(system, solving);
    int code = system_solve(system, solving->factors, solving->diagonal, solving->right, TOLERANCE,
                            solving->solution, &solution, error);
    if (code)
        return code;
    note_solution(system, &solution);
    if (!(solution.curvature > 0)) {
        *kept = true;
        for (size_t g = 0; g < system->segment_count && !code; g++)
            code = merge_refuse_group(run, result, system->segments[g].group, solution.curvature,
                                      error);
        return code ? code : copy_means(system, result, 0, error);
    }
    if (run->movement)
        code = group_add_movement(system, result, solving, solving->solution, error);
    bool single = merge->model_count == 1 && (!merge->base_in_formula || solving->factors[1] == 1);
    if (code)
        return code;
    return single ? copy_means(system, result, 1, error)
                  : write_means(system, result, solving->solution, error);
}

/* A precision that is merged alone is checked by its diagonal. */
static int check_diagonal(struct merge_system *system, size_t result, const struct solving *solving,
                          struct ivon_error *error)
{
    for (size_t g = 0; g < system->segment_count; g++) {
        const struct merge_segment *segment = &system->segments[g];
        double worst = INFINITY;
        for (size_t i = segment->offset; i < segment->offset + segment->size; i++)
            worst = fmin(worst, solving->diagonal[i]);
        if (worst > 0)
            continue;
        if (system->run->merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE)
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "tensor '%s': the merged precision is not positive, and the base "
                "cannot be kept by a method whose means do not depend on it",
                system->run->merge->outputs
                    .items[merge_group_entry(system->run->merge, segment->group, false)->output]
                    .name);
        return merge_refuse_group(system->run, result, segment->group, worst, error);
    }
    return 0;
}

/* D of the sum of corrections: the diagonal without them. */
static int write_corrected(struct merge_system *system, size_t result,
                           const struct solving *solving, struct ivon_error *error)
{
    double *base = solving->diagonal;
    memset(base, 0, system->size * sizeof *base);
    for (size_t g = 0; g < system->segment_count; g++) {
        const struct merge_segment *segment = &system->segments[g];
        for (size_t i = 0; i < system->inputs; i++) {
            const double *values = segment->operators[i].values;
            double c = solving->factors[g * system->inputs + i];
            for (size_t k = 0; values && k < segment->size; k++)
                base[segment->offset + k] += c * values[k];
        }
    }
    for (size_t i = 0; i < system->size; i++)
        if (!(base[i] > 0))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "the merged precision is not positive without its low-rank "
                                  "correction, which needs it");
    int code = write_precision(system, result, base, error);
    return code ? code : write_low_rank(system, result, solving->factors, base, error);
}

static int run_result(struct merge_system *system, size_t result, const struct solving *solving,
                      struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    bool kept = false;
    for (size_t g = 0; g < system->segment_count; g++)
        system_factors(system, merge_group_entry(merge, system->segments[g].group, false), result,
                       solving->factors + g * system->inputs);
    int code = system_diagonal(system, solving->factors, false, solving->diagonal, error);
    if (!code)
        code = merge->method->precise ? solve_means(system, result, solving, &kept, error)
                                      : check_diagonal(system, result, solving, error);
    if (!code && kept)
        code = keep_base(system, solving, error);
    if (!code && merge->structured->rank)
        return write_corrected(system, result, solving, error);
    if (!code && kept && !system->plain && !system->segments[0].operators[0].vectors)
        return write_base(system, result, error);
    if (!code && system->plain)
        code = system_diagonal(system, solving->factors, true, solving->diagonal, error);
    return code ? code : write_precision(system, result, solving->diagonal, error);
}

static int run_system(struct merge_run *run, struct thread_pool *pool, size_t first, size_t count,
                      struct ivon_error *error)
{
    struct merge_structured *structured = run->merge->structured;
    struct merge_system system;
    struct solving solving = {0};
    if (run->merge->method->precise)
        structured->solves[structured->solve_count++] = (struct ivon_merge_solve){
            .converged = true};
    int code = system_load(&system, run, pool, first, count, error);
    if (!code) {
        solving.factors = calloc(system.segment_count * system.inputs + 1, sizeof(double));
        solving.diagonal = malloc((system.size + 1) * sizeof(double));
        solving.right = malloc((system.size + 1) * sizeof(double));
        solving.solution = malloc((system.size + 1) * sizeof(double));
        if (!solving.factors || !solving.diagonal || !solving.right || !solving.solution)
            code = ivon_error_memory(error);
    }
    for (size_t r = 0; r < run->merge->result_count && !code; r++)
        code = run_result(&system, r, &solving, error);
    free(solving.factors);
    free(solving.diagonal);
    free(solving.right);
    free(solving.solution);
    system_release(&system);
    return code;
}

/* All groups at once, where vectors couple them. */
static int run_coupled(struct merge_run *run, struct thread_pool *pool, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t count = merge->structured->group_count;
    size_t memory = merge->options.resources.memory ? merge->options.resources.memory
                                                    : MERGE_DEFAULT_MEMORY;
    double needed = system_memory(merge, 0, count);
    if (needed > (double)memory)
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "low-rank corrections take %.6g MB, as all tensors are merged at once, "
                           "and there are %.6g MB",
                           needed / 1e6, (double)memory / 1e6));
    return run_system(run, pool, 0, count, error);
}

bool merge_groups_are_coupled(const struct ivon_merge *merge)
{
    return merge->structured->low_rank && !merge->method->grams;
}

/* Gathers on rank 0 how the groups of all ranks were solved. */
static int share_solves(struct merge_run *run, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    struct merge_structured *structured = merge->structured;
    struct ranks_bytes all;
    int code = ranks_gather(merge->options.resources.ranks, structured->solves,
                            structured->solve_count * sizeof *structured->solves, &all, error);
    if (!code && all.data) {
        memcpy(structured->solves, all.data, all.size);
        structured->solve_count = all.size / sizeof *structured->solves;
        for (size_t g = 0; g < structured->solve_count; g++) /* names were those of other ranks */
            structured->solves[g].name = solve_name(merge, &structured->groups[g]);
    }
    ranks_bytes_release(&all);
    return code;
}

static int run_groups(struct merge_run *run, struct thread_pool *pool, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_structured *structured = merge->structured;
    int code = 0;
    if (merge_groups_are_coupled(merge))
        return run->groups.end ? run_coupled(run, pool, error) : 0;
    for (size_t g = run->groups.first; g < run->groups.end && !code; g++) {
        code = merge->method->grams ? merge_regmean(run, pool, &structured->groups[g], error)
                                    : run_system(run, pool, g, 1, error);
        if (!code)
            code = meter_add(&run->meter, merge_group_bytes(merge, g), error);
    }
    return code;
}

int merge_structured_run(struct merge_run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_structured *structured = merge->structured;
    struct thread_pool *pool;
    if (!structured || (!structured->group_count && structured->text < 0))
        return 0;
    int code = blas_reserve(run->threads, error);
    if (!code)
        code = thread_pool_new(&pool, run->threads, error);
    if (code)
        return code;
    code = run_groups(run, pool, error);
    bool text = structured->text >= 0 && !structured->rank &&
                !ivon_ranks_rank(merge->options.resources.ranks);
    for (size_t r = 0; r < merge->result_count && !code && text; r++)
        code = write_text(run, r, NULL, error);
    thread_pool_free(pool);
    return code ? code : share_solves(run, error);
}

const struct ivon_merge_solve *ivon_merge_solves(const struct ivon_merge *merge, size_t *count)
{
    *count = merge->structured ? merge->structured->solve_count : 0;
    return *count ? merge->structured->solves : NULL;
}
