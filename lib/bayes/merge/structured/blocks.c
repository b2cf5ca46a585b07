/* The blocks of the inputs of a merge. */
#include <stdlib.h>

#include "bayes/merge/structured/structured.h"
#include "bayes/posterior.h"
#include "core/error.h"

const struct structure_block *merge_block_of(const struct ivon_merge *merge, size_t input,
                                             ptrdiff_t mean)
{
    const struct merge_structured *structured = merge->structured;
    const struct structure *structure = structured ? structured->structures[input] : NULL;
    if (!structure || mean < 0 || structure->block_of[mean] < 0)
        return NULL;
    const struct structure_block *block = &structure->blocks[structure->block_of[mean]];
    struct ivon_source *source = merge_input_source(merge, input);
    if (block->hessian < 0)
        return NULL;
    bool plain = block->bias < 0 && block->input_basis < 0 && block->output_basis < 0 &&
                 posterior_same_shape(ivon_source_tensor(source, (size_t)block->hessian),
                                      ivon_source_tensor(source, block->weight));
    return plain ? NULL : block;
}

bool merge_in_block(const struct ivon_merge *merge, size_t input, ptrdiff_t mean)
{
    return merge_block_of(merge, input, mean) != NULL;
}

const struct ivon_tensor *merge_hessian_of(const struct ivon_merge *merge, size_t input,
                                           const struct merge_input *tensors)
{
    const struct structure_block *block = merge_block_of(merge, input, tensors->mean);
    ptrdiff_t at = block ? block->hessian : tensors->hessian;
    return at < 0 ? NULL : ivon_source_tensor(merge_input_source(merge, input), (size_t)at);
}

/* Adds a block for each Gram matrix of a weight that is in none: of the weight alone. What has one
   row more than the weight's inputs is passed over, as nothing says which bias it is of. */
static int add_gram_blocks(struct structure *structure, const struct ivon_source *source,
                           struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source);
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *gram = ivon_source_tensor(source, i);
        ptrdiff_t at = gram->part == IVON_GRAM ? ivon_source_find(source, IVON_MEAN, gram->name)
                                               : -1;
        if (at < 0 || structure->block_of[at] >= 0)
            continue;
        const struct ivon_tensor *mean = ivon_source_tensor(source, (size_t)at);
        size_t n = (size_t)gram->shape[0], first = (size_t)mean->shape[0];
        bool transposed = n != mean->count / first;
        if (transposed && n != first)
            continue;
        struct structure_block *grown = realloc(structure->blocks,
                                                (structure->block_count + 1) * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        structure->blocks = grown;
        structure->block_of[at] = (ptrdiff_t)structure->block_count;
        grown[structure->block_count++] = (struct structure_block){.weight = (size_t)at,
                                                                   .bias = -1,
                                                                   .hessian = -1,
                                                                   .input_basis = -1,
                                                                   .output_basis = -1,
                                                                   .input_spectrum = -1,
                                                                   .output_spectrum = -1,
                                                                   .gram = (ptrdiff_t)i,
                                                                   .rows = mean->count / n,
                                                                   .columns = n,
                                                                   .transposed = transposed};
    }
    return 0;
}

int merge_structured_read(struct ivon_merge *merge, struct ivon_error *error)
{
    size_t inputs = merge->model_count + 1;
    bool diagonal = !merge->method->grams;
    struct merge_structured *structured = calloc(1, sizeof *structured);
    merge->structured = structured;
    if (structured)
        structured->structures = calloc(inputs, sizeof *structured->structures);
    if (structured)
        structured->entry_of = calloc(inputs, sizeof *structured->entry_of);
    if (!structured || !structured->structures || !structured->entry_of)
        return ivon_error_memory(error);
    structured->text = -1;
    int code = 0;
    for (size_t i = merge->base ? 0 : 1; i < inputs && !code; i++) {
        code = structure_read(&structured->structures[i], merge_input_source(merge, i), error);
        if (code)
            break;
        diagonal &= structure_is_diagonal(structured->structures[i]);
        if (merge->method->grams)
            code = add_gram_blocks(structured->structures[i], merge_input_source(merge, i), error);
        structured->low_rank |= structured->structures[i]->rank > 0;
    }
    if (!code && diagonal)
        merge_structured_free(merge);
    return code;
}

void merge_structured_free(struct ivon_merge *merge)
{
    struct merge_structured *structured = merge->structured;
    if (!structured)
        return;
    for (size_t i = 0; i <= merge->model_count; i++) {
        if (structured->structures)
            structure_free(structured->structures[i]);
        if (structured->entry_of)
            free(structured->entry_of[i]);
    }
    free(structured->structures);
    free(structured->entry_of);
    free(structured->groups);
    free(structured->blocks);
    free(structured->solves);
    free(structured);
    merge->structured = NULL;
}

bool merge_has_correction(const struct ivon_merge *merge)
{
    return merge->structured && merge->structured->low_rank;
}

/* A block of an input whose input factor is known: what RegMean takes. */
static const struct structure_block *find_factor(const struct ivon_merge *merge, size_t input,
                                                 ptrdiff_t mean)
{
    const struct structure *structure = merge->structured->structures[input];
    if (mean < 0 || structure->block_of[mean] < 0)
        return NULL;
    const struct structure_block *block = &structure->blocks[structure->block_of[mean]];
    bool known = block->gram >= 0 || (block->input_basis >= 0 && block->input_spectrum >= 0);
    return known ? block : NULL;
}

const struct structure_block *merge_group_block(const struct ivon_merge *merge, size_t input,
                                                ptrdiff_t mean)
{
    return merge->method->grams ? find_factor(merge, input, mean)
                                : merge_block_of(merge, input, mean);
}

bool merge_is_structured(const struct ivon_merge *merge, const struct merge_entry *entry)
{
    const struct merge_structured *structured = merge->structured;
    bool regmean = merge->method->grams;
    if (!structured || !(merge->with_hessian || regmean))
        return false;
    bool any = !regmean && structured->low_rank, all = true;
    for (size_t i = merge->base && !regmean ? 0 : 1; i <= merge->model_count; i++) {
        bool in = merge_group_block(merge, i, merge_entry_input(entry, i)->mean) != NULL;
        any |= in;
        all &= in;
    }
    return regmean ? all : any;
}
