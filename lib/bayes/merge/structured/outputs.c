/* Lists the tensors of a result that tell of structure, and their text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/structured.h"
#include "bayes/posterior.h"
#include "core/error.h"

/* Adds a matrix of floats; *at becomes its number. No columns: a list of `rows` numbers. */
static int outputs_add_array(struct ivon_merge *merge, enum ivon_part part, const char *name,
                             size_t rows, size_t columns, ptrdiff_t *at, struct ivon_error *error)
{
    const struct ivon_tensor tensor = {.name = name,
                                       .part = part,
                                       .dtype = IVON_F32,
                                       .rank = columns ? 2 : 1,
                                       .shape = {(int64_t)rows, (int64_t)columns},
                                       .ess = NAN,
                                       .weight_decay = NAN};
    *at = (ptrdiff_t)merge->outputs.count;
    return tensor_list_append(&merge->outputs, &tensor, error);
}

static const char *group_output_name(const struct ivon_merge *merge, ptrdiff_t entry)
{
    return merge->outputs.items[merge->entries[entry].output].name;
}

/* A Hessian of its mean's shape, and the vectors beside it. */
static int add_plain(struct ivon_merge *merge, ptrdiff_t entry, ptrdiff_t *hessian,
                     ptrdiff_t *vectors, struct ivon_error *error)
{
    if (entry < 0)
        return 0;
    struct ivon_tensor tensor = merge->outputs.items[merge->entries[entry].output];
    tensor.part = IVON_HESSIAN;
    tensor.dtype = IVON_F32;
    *hessian = (ptrdiff_t)merge->outputs.count;
    int code = tensor_list_append(&merge->outputs, &tensor, error);
    if (code || !merge->structured->rank)
        return code;
    return outputs_add_array(merge, IVON_LOW_RANK, group_output_name(merge, entry),
                             merge->structured->rank, merge->entries[entry].count, vectors, error);
}

/* `input_rows` is NaN where it is not known. */
static void tell_block(struct ivon_merge *merge, const char *weight, const char *bias,
                       bool transposed, double input_rows)
{
    struct merge_structured *structured = merge->structured;
    structured->blocks[structured->block_count++] = (struct structure_block_names){
        .weight = weight,
        .bias = bias,
        .transposed = transposed,
        .input_rows = isnan(input_rows) ? 0 : input_rows};
}

static int list_block(struct ivon_merge *merge, struct merge_group *group, struct ivon_error *error)
{
    static const enum ivon_part parts[MERGE_SIDES] = {IVON_BASIS_INPUT, IVON_BASIS_OUTPUT};
    const char *name = group_output_name(merge, (ptrdiff_t)group->weight);
    int code = outputs_add_array(merge, IVON_HESSIAN, name, group->rows, group->columns,
                                 &group->hessian, error);
    for (int side = 0; side < MERGE_SIDES && !code; side++) {
        size_t size = side == MERGE_INPUT ? group->columns : group->rows;
        if (group->shared[side].tensor >= 0)
            code = outputs_add_array(merge, parts[side], name, size, size, &group->basis[side],
                                     error);
    }
    return code;
}

static bool group_has_no_basis(const struct merge_group *group)
{
    return group->shared[MERGE_INPUT].tensor < 0 && group->shared[MERGE_OUTPUT].tensor < 0;
}

/* Returns whether a group is a block of the result. */
static bool becomes_block(const struct ivon_merge *merge, const struct merge_group *group)
{
    return merge->method->grams ||
           (merge->options.out_structure != IVON_MERGE_DIAGONAL && !group_has_no_basis(group));
}

static int list_group(struct ivon_merge *merge, struct merge_group *group, struct ivon_error *error)
{
    group->hessian = group->bias_hessian = group->gram = -1;
    group->basis[MERGE_INPUT] = group->basis[MERGE_OUTPUT] = -1;
    group->vectors = group->bias_vectors = -1;
    if (!becomes_block(merge, group)) {
        int code = add_plain(merge, (ptrdiff_t)group->weight, &group->hessian, &group->vectors,
                             error);
        return code ? code
                    : add_plain(merge, group->bias, &group->bias_hessian, &group->bias_vectors,
                                error);
    }
    const char *name = group_output_name(merge, (ptrdiff_t)group->weight);
    tell_block(merge, name, group->bias < 0 ? NULL : group_output_name(merge, group->bias),
               group->transposed, NAN);
    return merge->method->grams ? outputs_add_array(merge, IVON_GRAM, name, group->columns,
                                                    group->columns, &group->gram, error)
                                : list_block(merge, group, error);
}

/* The name under which a mean of an input is copied; null: it is not. */
static const char *outputs_kept_name(const struct ivon_merge *merge, const struct ivon_source *from,
                                     ptrdiff_t mean)
{
    for (size_t e = 0; e < merge->entry_count && mean >= 0; e++)
        if (!merge->entries[e].models && merge->entries[e].from == from &&
            merge->entries[e].from_tensor == (size_t)mean)
            return merge->outputs.items[merge->entries[e].output].name;
    return NULL;
}

/* A block of an input whose tensors are copied. */
static int keep_block(struct ivon_merge *merge, size_t input, const struct structure_block *block,
                      struct ivon_error *error)
{
    struct ivon_source *from = merge_input_source(merge, input);
    const char *weight = outputs_kept_name(merge, from, (ptrdiff_t)block->weight);
    const char *bias = outputs_kept_name(merge, from, block->bias);
    if (block->hessian < 0 || !merge->with_hessian || !(weight || bias))
        return 0;
    if (block->bias >= 0 && !(weight && bias))
        return ivon_error_hint(
            error, IVON_HINT_SELECTION,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: '%s' and '%s' have one covariance: keep both, or neither",
                           ivon_source_path(from), ivon_source_tensor(from, block->weight)->name,
                           ivon_source_tensor(from, (size_t)block->bias)->name));
    const ptrdiff_t parts[] = {block->hessian,        block->input_basis,     block->output_basis,
                               block->input_spectrum, block->output_spectrum, block->gram};
    /* A Hessian of its mean's shape was kept beside it. */
    bool listed = !merge_in_block(merge, input, (ptrdiff_t)block->weight);
    int code = 0;
    for (size_t k = listed ? 1 : 0; k < sizeof parts / sizeof parts[0] && !code; k++)
        if (parts[k] >= 0)
            code = merge_plan_copy(merge, from, (size_t)parts[k], weight, error);
    tell_block(merge, weight, bias, block->transposed, block->input_rows);
    return code;
}

/* Tensors are copied from one input that others lack, or are passed through from any. */
static int keep_blocks(struct ivon_merge *merge, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count && !code; i++) {
        const struct structure *structure = merge->structured->structures[i];
        size_t first = merge->base ? 0 : 1; /* input of the same source */
        while (merge_input_source(merge, first) != merge_input_source(merge, i))
            first++;
        for (size_t b = 0; first == i && b < structure->block_count && !code; b++)
            code = keep_block(merge, i, &structure->blocks[b], error);
    }
    return code;
}

/* Sets the rank of the result's correction. Vectors over all parameters can be summed where no
   basis lies between them. */
static int choose_rank(struct ivon_merge *merge, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    enum ivon_merge_structure out = merge->options.out_structure;
    bool diagonal = structured->group_count && !merge->method->grams;
    for (size_t g = 0; g < structured->group_count; g++)
        diagonal &= group_has_no_basis(&structured->groups[g]);
    bool wanted = out == IVON_MERGE_LOW_RANK || (out == IVON_MERGE_STRUCTURE_KEEP && diagonal);
    if (out == IVON_MERGE_LOW_RANK && !(diagonal && structured->low_rank))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "the result can have a low-rank correction where an input has one, "
                              "and all have diagonal bases");
    size_t rank = 0;
    for (size_t i = merge->base && merge->base_in_formula ? 0 : 1; i <= merge->model_count; i++)
        rank += structured->structures[i]->rank;
    structured->rank = wanted ? rank : 0;
    return 0;
}

static int list_text(struct ivon_merge *merge, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    double *longest = calloc(structured->rank + 1, sizeof *longest);
    if (!longest)
        return ivon_error_memory(error);
    for (size_t r = 0; r < structured->rank; r++)
        longest[r] = -1.2345678901234567e-300;
    char *text = merge_structure_text(structured, structured->rank ? longest : NULL);
    free(longest);
    if (!text)
        return ivon_error_memory(error);
    structured->text_size = strlen(text);
    free(text);
    const struct ivon_tensor tensor = {.name = ivon_part_name(IVON_STRUCTURE),
                                       .part = IVON_STRUCTURE,
                                       .dtype = IVON_U8,
                                       .rank = 1,
                                       .shape = {(int64_t)structured->text_size},
                                       .ess = NAN,
                                       .weight_decay = NAN};
    structured->text = (ptrdiff_t)merge->outputs.count;
    return tensor_list_append(&merge->outputs, &tensor, error);
}

char *merge_structure_text(const struct merge_structured *structured, const double *values)
{
    char *text = structure_text(
        &(struct structure_description){.blocks = structured->blocks,
                                        .block_count = structured->block_count,
                                        .values = values,
                                        .rank = structured->rank});
    size_t length = text ? strlen(text) : 0;
    char *padded = text && length < structured->text_size ? realloc(text, structured->text_size + 1)
                                                          : NULL;
    if (!padded)
        return text;
    memset(padded + length, ' ', structured->text_size - length);
    padded[structured->text_size] = '\0';
    return padded;
}

int merge_list_structure(struct ivon_merge *merge, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    size_t kept = 0;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++)
        kept += structured->structures[i]->block_count;
    structured->blocks = calloc(structured->group_count + kept + 1, sizeof *structured->blocks);
    int code = structured->blocks ? choose_rank(merge, error) : ivon_error_memory(error);
    for (size_t g = 0; g < structured->group_count && !code; g++)
        code = list_group(merge, &structured->groups[g], error);
    if (!code)
        code = keep_blocks(merge, error);
    if (!code && (structured->block_count || structured->rank))
        code = list_text(merge, error);
    return code;
}
