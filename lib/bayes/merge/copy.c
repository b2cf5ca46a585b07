/* Tensors that are not merged: the base's, or the first model's. */
#include <string.h>

#include "bayes/merge/run.h"
#include "bayes/transfer.h"
#include "core/error.h"

/* Compares a block of a buffer with the same buffer of the other inputs. */
static int compare_block(struct merge_run *run, struct merge_scratch *scratch, size_t index,
                         size_t first, size_t count, const unsigned char *block,
                         struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    struct merge_entry *entry = &merge->entries[index];
    const struct ivon_tensor *reference = ivon_source_tensor(entry->from, entry->from_tensor);
    for (size_t t = 0; t < merge->model_count; t++) {
        struct ivon_source *source = merge->models[t].source;
        ptrdiff_t other = ivon_source_find(source, reference->part, reference->name);
        const unsigned char *other_block;
        if (source == entry->from || other < 0)
            continue;
        if (ivon_source_tensor(source, (size_t)other)->dtype == reference->dtype &&
            posterior_same_shape(ivon_source_tensor(source, (size_t)other), reference)) {
            int code = transfer_fetch(source, (size_t)other, first, count, run->block,
                                      &scratch->hessian_blocks[t + 1], &other_block, error);
            if (code)
                return code;
            if (memcmp(other_block, block, count * ivon_dtype_size(reference->dtype)) == 0)
                continue;
        }
        pthread_mutex_lock(&run->lock);
        entry->differs = true;
        pthread_mutex_unlock(&run->lock);
    }
    return 0;
}

/* Converts a kept mean to the dtype that was asked for. */
static int convert_block(const struct ivon_merge *merge, struct merge_scratch *scratch,
                         const struct merge_entry *entry, const unsigned char *block, size_t first,
                         size_t count, struct ivon_error *error)
{
    const struct ivon_tensor *from = ivon_source_tensor(entry->from, entry->from_tensor);
    enum ivon_dtype dtype = merge->outputs.items[entry->output].dtype;
    double value;
    size_t i = transfer_convert(scratch->mean_out, dtype, block, from->dtype, count);
    if (i == count)
        return 0;
    ivon_dtype_to_f64(&value, block + i * ivon_dtype_size(from->dtype), from->dtype, 1);
    return ivon_error_set(
        error, IVON_ERROR_DATA, "%s: mean of '%s' is %g at element %zu, which does not fit into %s",
        ivon_source_path(entry->from), from->name, value, first + i, ivon_dtype_name(dtype));
}

int merge_copy_range(struct merge_run *run, struct merge_scratch *scratch,
                     const struct merge_job *job, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    const struct merge_entry *entry = &merge->entries[job->entry];
    const struct ivon_tensor *from = ivon_source_tensor(entry->from, entry->from_tensor);
    bool convert = from->dtype != merge->outputs.items[entry->output].dtype;
    int code = 0;
    for (size_t done = 0; done < job->count && !code; done += run->block) {
        size_t first = job->first + done;
        size_t count = job->count - done < run->block ? job->count - done : run->block;
        const unsigned char *block;
        code = transfer_fetch(entry->from, entry->from_tensor, first, count, run->block,
                              &scratch->mean_blocks[0], &block, error);
        if (!code && entry->compare)
            code = compare_block(run, scratch, job->entry, first, count, block, error);
        if (!code && convert)
            code = convert_block(merge, scratch, entry, block, first, count, error);
        for (size_t s = 0; s < merge->result_count && !code; s++)
            code = ivon_sink_write(run->sinks[s], entry->output, first, count,
                                   convert ? scratch->mean_out : block, error);
    }
    return code;
}
