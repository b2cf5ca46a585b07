/* Results of groups: means, Hessians, bases. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "bayes/transfer.h"
#include "core/error.h"

enum { PIECE = 4096 /* elements written at once */ };

static int write_tensor(struct merge_run *run, size_t result, const struct merge_group *group,
                        bool bias, const double *x, struct ivon_error *error)
{
    const struct merge_entry *entry = merge_group_entry(run->merge, group, bias);
    const struct ivon_tensor *output = &run->merge->outputs.items[entry->output];
    double values[PIECE], bytes[PIECE], bound = transfer_overflow_bound(output->dtype);
    int code = 0;
    for (size_t first = 0; first < entry->count && !code; first += PIECE) {
        size_t count = entry->count - first < PIECE ? entry->count - first : PIECE;
        for (size_t i = 0; i < count; i++) {
            values[i] = x[matrix_index(group, bias, first + i)];
            if (!(fabs(values[i]) < bound))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "tensor '%s': the merged value at element %zu, mean %g, does "
                                      "not fit into %s",
                                      output->name, first + i, values[i],
                                      ivon_dtype_name(output->dtype));
        }
        ivon_dtype_from_f64(bytes, output->dtype, values, count);
        code = ivon_sink_write(run->sinks[result], entry->output, first, count, bytes, error);
    }
    return code;
}

int write_matrix(struct merge_run *run, size_t result, const struct merge_group *group,
                 const double *x, struct ivon_error *error)
{
    int code = write_tensor(run, result, group, false, x, error);
    return code || group->bias < 0 ? code : write_tensor(run, result, group, true, x, error);
}

int write_means(struct merge_system *system, size_t result, double *y, struct ivon_error *error)
{
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        double *x = y + segment->offset;
        code = matrix_rotate(system->pool, segment->basis, false, segment->rows, segment->columns,
                             x, system->work[0], error);
        for (size_t i = 0; i < segment->size; i++)
            x[i] += system->reference[segment->offset + i];
        if (!code)
            code = write_matrix(system->run, result, segment->group, x, error);
    }
    return code;
}

int write_floats(struct merge_run *run, size_t result, ptrdiff_t output, size_t first,
                 const double *values, size_t count, struct ivon_error *error)
{
    float floats[PIECE];
    int code = 0;
    for (size_t done = 0; done < count && !code; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        for (size_t i = 0; i < piece; i++)
            floats[i] = (float)values[done + i];
        code = ivon_sink_write(run->sinks[result], (size_t)output, first + done, piece, floats,
                               error);
    }
    return code;
}

/* A Hessian from precisions, `at` of which is that of element i of the tensor. */
static int write_hessian(struct merge_run *run, size_t result, ptrdiff_t output,
                         const struct merge_group *layout, bool bias, const double *precision,
                         struct ivon_error *error)
{
    const struct ivon_tensor *tensor = &run->merge->outputs.items[output];
    const struct ivon_header *header = &run->headers[result];
    double values[PIECE], bound = header->ess * transfer_overflow_bound(IVON_F32);
    float hessians[PIECE];
    int code = 0;
    for (size_t first = 0; first < tensor->count && !code; first += PIECE) {
        size_t count = tensor->count - first < PIECE ? tensor->count - first : PIECE;
        for (size_t i = 0; i < count; i++) {
            values[i] = precision[layout ? matrix_index(layout, bias, first + i) : first + i];
            if (!(fabs(values[i]) < bound))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "tensor '%s': the merged precision at element %zu, %g, does "
                                      "not fit into f32",
                                      tensor->name, first + i, values[i]);
        }
        merge_store_hessian(hessians, values, header->ess, header->weight_decay, count);
        code = ivon_sink_write(run->sinks[result], (size_t)output, first, count, hessians, error);
    }
    return code;
}

/* Writes the shared basis of a side, or the base's own. */
static int write_basis(struct merge_system *system, size_t result,
                       const struct merge_segment *segment, int side, bool base,
                       struct ivon_error *error)
{
    size_t n = side == MERGE_INPUT ? segment->columns : segment->rows;
    double *own = NULL;
    int code = base ? system_own_basis(system, segment, 0, side, &own, error) : 0;
    if (!code)
        code = write_floats(system->run, result, segment->group->basis[side], 0,
                            base ? own : segment->basis[side], n * n, error);
    free(own);
    return code;
}

static int write_segment(struct merge_system *system, size_t result,
                         const struct merge_segment *segment, const double *precision, bool base,
                         struct ivon_error *error)
{
    struct merge_run *run = system->run;
    const struct merge_group *group = segment->group;
    bool block = group->basis[MERGE_INPUT] >= 0 || group->basis[MERGE_OUTPUT] >= 0;
    int code = write_hessian(run, result, group->hessian, block ? NULL : group, false, precision,
                             error);
    if (!code && group->bias_hessian >= 0)
        code = write_hessian(run, result, group->bias_hessian, group, true, precision, error);
    for (int side = 0; side < MERGE_SIDES && !code; side++)
        if (group->basis[side] >= 0)
            code = write_basis(system, result, segment, side, base, error);
    return code;
}

int write_precision(struct merge_system *system, size_t result, const double *diagonal,
                    struct ivon_error *error)
{
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        code = write_segment(system, result, segment, diagonal + segment->offset, false, error);
    }
    return code;
}

int write_base(struct merge_system *system, size_t result, struct ivon_error *error)
{
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        code = write_segment(system, result, segment, segment->operators[0].values, true, error);
    }
    return code;
}
