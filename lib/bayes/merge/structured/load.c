/* Reads groups into a system: shared bases, operators, right sides. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/blas.h"
#include "core/error.h"

static double *new_array(size_t count, struct ivon_error *error)
{
    double *array = count <= PTRDIFF_MAX / sizeof(double) ? malloc((count + 1) * sizeof *array)
                                                          : NULL;
    if (!array)
        ivon_error_memory(error);
    return array;
}

static int read_matrix(struct ivon_source *source, ptrdiff_t tensor, double **matrix,
                       struct ivon_error *error)
{
    *matrix = new_array(ivon_source_tensor(source, (size_t)tensor)->count, error);
    return *matrix ? matrix_read(source, (size_t)tensor, *matrix, error) : IVON_ERROR_MEMORY;
}

/* Sets the tensors of an input's bases in a group; -1: none. */
static void bases_of_input(const struct ivon_merge *merge, size_t input,
                           const struct merge_group *group, ptrdiff_t basis[MERGE_SIDES])
{
    const struct structure_block *block = merge_block_of(
        merge, input, merge_entry_input(&merge->entries[group->weight], input)->mean);
    basis[MERGE_INPUT] = block ? block->input_basis : -1;
    basis[MERGE_OUTPUT] = block ? block->output_basis : -1;
}

int system_own_basis(struct merge_system *system, const struct merge_segment *segment, size_t input,
                     int side, double **basis, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
    ptrdiff_t tensors[MERGE_SIDES];
    bases_of_input(merge, input, segment->group, tensors);
    if (tensors[side] >= 0)
        return read_matrix(merge_input_source(merge, input), tensors[side], basis, error);
    *basis = calloc(n * n, sizeof **basis);
    for (size_t i = 0; *basis && i < n; i++)
        (*basis)[i * n + i] = 1;
    return *basis ? 0 : ivon_error_memory(error);
}

/* The sums of s over the other side. */
static void sum_values(const struct merge_segment *segment, int side, const double *values,
                       double *sums)
{
    memset(sums, 0, (side == MERGE_INPUT ? segment->columns : segment->rows) * sizeof *sums);
    for (size_t i = 0; i < segment->rows; i++)
        for (size_t j = 0; j < segment->columns; j++)
            sums[side == MERGE_INPUT ? j : i] += values[i * segment->columns + j];
}

/* sum += the partial trace of an input's operator, U diag(Σ s) Uᵀ: its lower triangle. */
static int add_trace(struct merge_system *system, const struct merge_segment *segment, size_t input,
                     int side, double *sums, double *sum, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
    ptrdiff_t basis[MERGE_SIDES];
    double *own = NULL;
    bases_of_input(merge, input, segment->group, basis);
    sum_values(segment, side, segment->operators[input].values, sums);
    for (size_t i = 0; i < n && basis[side] < 0; i++)
        sum[i * n + i] += sums[i];
    if (basis[side] < 0)
        return 0;
    int code = read_matrix(merge_input_source(merge, input), basis[side], &own, error);
    if (!code)
        code = matrix_add_symmetric(system->pool, n, own, sums, sum, error);
    free(own);
    return code;
}

/* Sets the basis to the eigenvectors of the partial trace of the inputs' sum, Tr_B Σ S, or Tr_A:
   there the sum is nearest to its diagonal, as a product of sides; of one that is a Kronecker
   product it is the basis of the sum. In binary32, as it is written. */
static int sum_basis(struct merge_system *system, struct merge_segment *segment, int side,
                     struct ivon_error *error)
{
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
    double *sum = calloc(n * n, sizeof *sum), *values = new_array(n, error);
    int code = !sum ? ivon_error_memory(error) : values ? 0 : IVON_ERROR_MEMORY;
    for (size_t i = 0; i < system->inputs && !code; i++)
        if (segment->operators[i].values)
            code = add_trace(system, segment, i, side, values, sum, error);
    if (!code)
        code = blas_eigen((int64_t)n, sum, values, error);
    for (size_t i = 0; i < n && !code; i++) /* eigenvectors are rows */
        for (size_t j = 0; j < n; j++)
            segment->basis[side][j * n + i] = (double)(float)sum[i * n + j];
    free(sum);
    free(values);
    return code;
}

/* Reads the shared basis of a side: that of the first input that has one, if the others have the
   same or none; else that of the sum, of sides that are not too large. */
static int load_basis(struct merge_system *system, struct merge_segment *segment, int side,
                      struct ivon_error *error)
{
    enum { SUMMED_MAX = 8192 /* rows: the eigenvectors of more take hours */ };
    const struct ivon_merge *merge = system->run->merge;
    const struct merge_group *group = segment->group;
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows,
           from = group->shared[side].from;
    bool same = true;
    int code = read_matrix(merge_input_source(merge, from), group->shared[side].tensor,
                           &segment->basis[side], error);
    for (size_t i = from; i < system->inputs && !code; i++) {
        ptrdiff_t basis[MERGE_SIDES];
        double *own = NULL;
        bases_of_input(merge, i, group, basis);
        if (basis[side] < 0)
            continue;
        code = read_matrix(merge_input_source(merge, i), basis[side], &own, error);
        same &= code || memcmp(own, segment->basis[side], n * n * sizeof *own) == 0;
        free(own);
    }
    return code || same || n > SUMMED_MAX ? code : sum_basis(system, segment, side, error);
}

static int load_bases(struct merge_system *system, struct merge_segment *segment,
                      struct ivon_error *error)
{
    int code = 0;
    for (int side = 0; side < MERGE_SIDES && !code; side++)
        if (segment->group->shared[side].tensor >= 0)
            code = load_basis(system, segment, side, error);
    return code;
}

/* The precision of an input is slope h + intercept. */
struct load_scale {
    double slope, intercept;
};

static struct load_scale load_scale_of(const struct ivon_merge *merge, size_t input,
                                       const struct ivon_tensor *hessian)
{
    if (!input) /* the base's own scale is its factor in sums */
        return (struct load_scale){hessian->ess, hessian->ess * hessian->weight_decay};
    return (struct load_scale){merge->options.hessian_scale * hessian->ess,
                               merge->base_in_formula ? 0 : hessian->ess * hessian->weight_decay};
}

/* s of a block. */
static int load_block(struct ivon_source *source, size_t hessian, struct load_scale scale,
                      double *values, struct ivon_error *error)
{
    size_t count = ivon_source_tensor(source, hessian)->count;
    int code = matrix_read(source, hessian, values, error);
    for (size_t i = 0; i < count && !code; i++)
        values[i] = scale.slope * values[i] + scale.intercept;
    return code;
}

/* s of an input; all of it `constant` where there is no Hessian. */
static int load_curvature(struct merge_system *system, const struct merge_segment *segment,
                          size_t input, double *values, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    const struct merge_group *group = segment->group;
    struct ivon_source *source = merge_input_source(merge, input);
    const struct merge_input *weight = merge_entry_input(&merge->entries[group->weight], input);
    const struct structure_block *block = merge_block_of(merge, input, weight->mean);
    double constant = isnan(merge->options.delta0) ? 0 : merge->options.delta0;
    if (block)
        return load_block(
            source, (size_t)block->hessian,
            load_scale_of(merge, input, ivon_source_tensor(source, (size_t)block->hessian)), values,
            error);
    int code = 0;
    for (int bias = 0; bias < 1 + (group->bias >= 0) && !code; bias++) {
        const struct merge_entry *entry = merge_group_entry(merge, group, bias);
        ptrdiff_t hessian = merge_entry_input(entry, input)->hessian;
        struct load_scale scale = {0, constant};
        size_t tensor = (size_t)merge_entry_input(entry, input)->mean;
        if (hessian >= 0) {
            tensor = (size_t)hessian;
            scale = load_scale_of(merge, input, ivon_source_tensor(source, tensor));
        }
        code = matrix_place(source, tensor, 0, entry->count, group, bias, scale.slope,
                            scale.intercept, values, error);
    }
    return code;
}

/* D^(1/2) v of the vectors that stand beside a Hessian; `block` says that it is the whole
   group's. */
static int load_vectors_of(struct merge_system *system, const struct merge_segment *segment,
                           size_t input, size_t hessian, bool block, bool bias,
                           struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    struct ivon_source *source = merge_input_source(merge, input);
    const struct structure *structure = merge->structured->structures[input];
    const struct ivon_tensor *tensor = ivon_source_tensor(source, hessian);
    const struct merge_group *group = segment->group;
    size_t count = tensor->count;
    /* The correction is scaled as the curvature is. */
    double scale = input ? merge->options.hessian_scale : 1;
    double *roots = new_array(count, error), *vector = new_array(count, error);
    int code = roots && vector ? matrix_read(source, hessian, roots, error) : IVON_ERROR_MEMORY;
    for (size_t i = 0; i < count && !code; i++) {
        double precision = tensor->ess * (roots[i] + tensor->weight_decay);
        if (!(precision > 0))
            code = posterior_refuse_hessian(source, tensor, roots[i], i, error);
        roots[i] = sqrt(scale * precision);
    }
    for (size_t r = 0; r < structure->rank && !code; r++) {
        double *out = segment->operators[input].vectors + r * segment->size;
        struct merge_group whole = {.rows = 1, .columns = count, .bias = -1};
        code = matrix_place(source, (size_t)structure->vectors[hessian], r * count, count, &whole,
                            false, 1, 0, vector, error);
        for (size_t i = 0; i < count && !code; i++)
            out[block ? i : matrix_index(group, bias, i)] = roots[i] * vector[i];
    }
    free(roots);
    free(vector);
    return code;
}

static int load_vectors(struct merge_system *system, const struct merge_segment *segment,
                        size_t input, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    const struct structure *structure = merge->structured->structures[input];
    const struct merge_group *group = segment->group;
    struct merge_operator *operator= & segment->operators[input];
    if (!structure->rank)
        return 0;
    operator->vectors = calloc(structure->rank * segment->size + 1, sizeof(double));
    int code = operator->vectors ? 0 : ivon_error_memory(error);
    for (int bias = 0; bias < 1 + (group->bias >= 0) && !code; bias++) {
        const struct merge_input *tensors = merge_entry_input(merge_group_entry(merge, group, bias),
                                                              input);
        const struct structure_block *block = merge_block_of(merge, input, tensors->mean);
        ptrdiff_t hessian = block ? block->hessian : tensors->hessian;
        if (hessian >= 0 && structure->vectors[hessian] >= 0 && !(block && bias))
            code = load_vectors_of(system, segment, input, (size_t)hessian, block != NULL, bias,
                                   error);
    }
    return code;
}

static void transpose(size_t n, const double *from, double *to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            to[j * n + i] = from[i * n + j];
}

static int new_floats(size_t count, const double *from, float **floats, struct ivon_error *error)
{
    *floats = malloc((count + 1) * sizeof **floats);
    if (!*floats)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        (*floats)[i] = (float)from[i];
    return 0;
}

/* V = Qᵀ U; none where it is the identity. */
static int set_turn(struct merge_system *system, const struct merge_segment *segment, int side,
                    const double *own, float **turn, struct ivon_error *error)
{
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
    const double *shared = segment->basis[side];
    double *product = system->wide[side];
    int code = 0;
    if (!shared || (own && memcmp(own, shared, n * n * sizeof *own) == 0))
        return 0;
    if (own)
        code = matrix_product(system->pool, true, false, n, n, n, shared, own, product, error);
    else
        transpose(n, shared, product);
    return code ? code : new_floats(n * n, product, turn, error);
}

/* The operator's diagonal in the parameters' own coordinates, given its bases. */
static int load_plain(struct merge_system *system, const struct merge_segment *segment,
                      size_t input, double *const own[MERGE_SIDES], struct ivon_error *error)
{
    float *turn[MERGE_SIDES] = {NULL};
    const struct structure *structure = system->run->merge->structured->structures[input];
    struct merge_operator *operator= & segment->operators[input];
    operator->plain = calloc(segment->size + 1, sizeof(double));
    int code = operator->plain ? 0 : ivon_error_memory(error);
    for (int side = 0; side < MERGE_SIDES && !code; side++) {
        size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
        code = own[side] ? new_floats(n * n, own[side], &turn[side], error) : 0;
    }
    if (!code)
        code = matrix_add_diagonal(system->pool, turn, segment->rows, segment->columns,
                                   1, operator->values, operator->plain, system->work, error);
    free(turn[MERGE_INPUT]);
    free(turn[MERGE_OUTPUT]);
    for (size_t r = 0; operator->vectors && r<structure->rank && !code; r++) {
        double *w = system->work[1];
        memcpy(w, operator->vectors + r * segment->size, segment->size * sizeof *w);
        code = matrix_rotate(system->pool, own, false, segment->rows, segment->columns, w,
                             system->work[0], error);
        for (size_t i = 0; i < segment->size; i++)
            operator->plain[i] += structure->values[r] * w[i] * w[i];
    }
    return code;
}

/* An input's turns, and vectors, given its values. */
static int load_operator(struct merge_system *system, struct merge_segment *segment, size_t input,
                         struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    struct merge_operator *operator= & segment->operators[input];
    double *own[MERGE_SIDES] = {NULL};
    ptrdiff_t basis[MERGE_SIDES];
    bases_of_input(merge, input, segment->group, basis);
    bool constant = !input &&
                    !merge_hessian_of(
                        merge, 0, merge_entry_input(&merge->entries[segment->group->weight], 0));
    int code = load_vectors(system, segment, input, error);
    for (int side = 0; side < MERGE_SIDES && !code; side++) {
        if (basis[side] >= 0)
            code = read_matrix(merge_input_source(merge, input), basis[side], &own[side], error);
        if (!code && !constant)
            code = set_turn(system, segment, side, own[side], &operator->turn[side], error);
        if (!system->plain) { /* one matrix at a time */
            free(own[side]);
            own[side] = NULL;
        }
    }
    if (!code && system->plain)
        code = load_plain(system, segment, input, own, error);
    free(own[MERGE_INPUT]);
    free(own[MERGE_OUTPUT]);
    return code;
}

/* Returns whether the base's precision may be asked for. */
static bool needs_base(const struct ivon_merge *merge)
{
    return merge->base &&
           (merge->base_in_formula || merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE);
}

static int load_segment(struct merge_system *system, struct merge_segment *segment,
                        struct ivon_error *error)
{
    size_t first = needs_base(system->run->merge) ? 0 : 1;
    int code = 0;
    segment->operators = calloc(system->inputs, sizeof *segment->operators);
    if (!segment->operators)
        return ivon_error_memory(error);
    for (size_t i = first; i < system->inputs && !code; i++) {
        double *values = segment->operators[i].values = new_array(segment->size, error);
        code = values ? load_curvature(system, segment, i, values, error) : IVON_ERROR_MEMORY;
    }
    if (!code)
        code = load_bases(system, segment, error);
    for (size_t i = first; i < system->inputs && !code; i++)
        code = load_operator(system, segment, i, error);
    return code;
}

static int load_segments(struct merge_system *system, struct ivon_error *error)
{
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++)
        code = load_segment(system, &system->segments[g], error);
    return code;
}

/* X_0: the base's means; or the mean of the models', from which the result is not far. */
static int load_reference(struct merge_system *system, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    size_t first = merge->base_in_formula ? 0 : 1;
    size_t last = merge->base_in_formula ? 0 : merge->model_count;
    double share = 1 / (double)(last - first + 1);
    int code = 0;
    system->reference = calloc(system->size + 1, sizeof *system->reference);
    if (!system->reference)
        return ivon_error_memory(error);
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        double *x = system->reference + segment->offset;
        for (size_t i = first; i <= last && !code; i++) {
            code = matrix_means(merge, i, segment->group, system->work[0], error);
            for (size_t k = 0; k < segment->size && !code; k++)
                x[k] += share * system->work[0][k];
        }
    }
    return code;
}

/* J_t = S[m_t − X_0], S being S_0 + H_t or S_t. */
static int load_side(struct merge_system *system, size_t t, double *displacement,
                     struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    double *factors = calloc(system->segment_count * system->inputs, sizeof *factors);
    int code = factors ? 0 : ivon_error_memory(error);
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        double *x = displacement + segment->offset;
        factors[g * system->inputs] = merge->base_in_formula ? merge->options.base_scale : 0;
        factors[g * system->inputs + t + 1] = 1;
        code = matrix_means(merge, t + 1, segment->group, x, error);
        for (size_t k = 0; k < segment->size; k++)
            x[k] -= system->reference[segment->offset + k];
        if (!code)
            code = matrix_rotate(system->pool, segment->basis, true, segment->rows,
                                 segment->columns, x, system->work[0], error);
    }
    if (!code)
        code = system_apply(system, factors, displacement, system->sides[t], error);
    free(factors);
    return code;
}

static int load_sides(struct merge_system *system, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    double *displacement = new_array(system->size, error);
    system->sides = calloc(merge->model_count + 1, sizeof *system->sides);
    int code = !displacement    ? IVON_ERROR_MEMORY
               : !system->sides ? ivon_error_memory(error)
                                : load_reference(system, error);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        system->sides[t] = new_array(system->size, error);
        code = system->sides[t] ? load_side(system, t, displacement, error) : IVON_ERROR_MEMORY;
    }
    free(displacement);
    return code;
}

static int lay_out(struct merge_system *system, size_t first, struct ivon_error *error)
{
    const struct merge_structured *structured = system->run->merge->structured;
    size_t largest = 0, rank = 0, sides[MERGE_SIDES] = {0};
    for (size_t g = 0; g < system->segment_count; g++) {
        const struct merge_group *group = &structured->groups[first + g];
        struct merge_segment *segment = &system->segments[g];
        *segment = (struct merge_segment){.group = group,
                                          .rows = group->rows,
                                          .columns = group->columns,
                                          .size = merge_group_size(group),
                                          .offset = system->size};
        system->size += segment->size;
        largest = segment->size > largest ? segment->size : largest;
        for (int side = 0; side < MERGE_SIDES; side++) {
            size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
            if (group->shared[side].tensor >= 0 && n > sides[side])
                sides[side] = n;
        }
    }
    for (size_t i = 0; i < system->inputs; i++)
        if (structured->structures[i] && structured->structures[i]->rank > rank)
            rank = structured->structures[i]->rank;
    system->scratch = new_array(system->size, error);
    system->work[0] = new_array(largest, error);
    system->work[1] = new_array(largest, error);
    system->part = new_array(rank, error);
    bool whole = system->scratch && system->work[0] && system->work[1] && system->part;
    for (int k = 0; k < 2 && whole; k++) {
        system->wide[k] = new_array(sides[k] * sides[k], error);
        system->floats[k] = (float *)new_array((largest + 1) / 2, error);
        whole = system->wide[k] && system->floats[k];
    }
    return whole ? 0 : IVON_ERROR_MEMORY;
}

int system_load(struct merge_system *system, struct merge_run *run, struct thread_pool *pool,
                size_t first, size_t count, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    bool block = merge->options.out_structure != IVON_MERGE_DIAGONAL;
    *system = (struct merge_system){.run = run,
                                    .pool = pool,
                                    .segment_count = count,
                                    .inputs = merge->model_count + 1,
                                    .plain = !block};
    system->segments = calloc(count + 1, sizeof *system->segments);
    int code = system->segments ? lay_out(system, first, error) : ivon_error_memory(error);
    if (!code)
        code = load_segments(system, error);
    if (!code && merge->method->precise)
        code = load_sides(system, error);
    return code;
}

void system_release(struct merge_system *system)
{
    for (size_t g = 0; system->segments && g < system->segment_count; g++) {
        struct merge_segment *segment = &system->segments[g];
        for (size_t i = 0; segment->operators && i < system->inputs; i++) {
            free(segment->operators[i].values);
            free(segment->operators[i].turn[MERGE_INPUT]);
            free(segment->operators[i].turn[MERGE_OUTPUT]);
            free(segment->operators[i].vectors);
            free(segment->operators[i].plain);
        }
        free(segment->operators);
        free(segment->basis[MERGE_INPUT]);
        free(segment->basis[MERGE_OUTPUT]);
    }
    for (size_t t = 0; system->sides && t < system->run->merge->model_count; t++)
        free(system->sides[t]);
    free(system->sides);
    free(system->segments);
    free(system->reference);
    free(system->scratch);
    free(system->work[0]);
    free(system->work[1]);
    free(system->part);
    for (int k = 0; k < 2; k++) {
        free(system->wide[k]);
        free(system->floats[k]);
    }
}

double system_memory(const struct ivon_merge *merge, size_t first, size_t count)
{
    enum {
        VECTORS = 11 /* of a solution, and what is read */,
        MATRICES = 5 /* Q, V, eigenvectors */
    };
    const struct merge_structured *structured = merge->structured;
    double numbers = 0, inputs = (double)merge->model_count + 1, rank = 0;
    for (size_t i = 0; i <= merge->model_count; i++)
        rank += structured->structures[i] ? (double)structured->structures[i]->rank : 0;
    for (size_t g = first; g < first + count; g++) {
        const struct merge_group *group = &structured->groups[g];
        double rows = (double)group->rows, columns = (double)group->columns;
        numbers += rows * columns * (2 * inputs + VECTORS + rank);
        numbers += group->shared[MERGE_INPUT].tensor < 0
                       ? 0
                       : columns * columns * (inputs / 2 + MATRICES);
        numbers += group->shared[MERGE_OUTPUT].tensor < 0 ? 0
                                                          : rows * rows * (inputs / 2 + MATRICES);
    }
    return numbers * sizeof(double);
}
