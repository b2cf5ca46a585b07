#include "bayes/rank_inputs.h"

#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "core/error.h"

static uint64_t rank_inputs_text(uint64_t digest, const char *text)
{
    return digest_add(digest, text, strlen(text) + 1);
}

static int rank_inputs_compare(struct ivon_ranks *ranks, uint64_t digest, const char *path,
                               struct ivon_error *error)
{
    uint64_t first = digest;
    int code = ivon_ranks_share(ranks, &first, sizeof first, error);
    return code || first == digest
               ? code
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: is not what rank 0 opened: all ranks need the same file",
                                path);
}

/* Numbers that cannot be read are told of where they are needed. */
static uint64_t rank_inputs_tensor(uint64_t digest, struct ivon_source *source, size_t i)
{
    enum { BYTES = 1 << 12 };
    const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
    unsigned char bytes[BYTES] = {0};
    size_t size = ivon_dtype_size(tensor->dtype), most = BYTES / size;
    size_t count = tensor->count < most ? tensor->count : most;
    struct ivon_error ignored;
    digest = rank_inputs_text(digest, tensor->name);
    digest = digest_add(digest, &tensor->count, sizeof tensor->count);
    if (!tensor->stored_as && !ivon_source_read(source, i, 0, count, bytes, &ignored))
        digest = digest_add(digest, bytes, count * size);
    return digest;
}

int rank_inputs_check_source(struct ivon_ranks *ranks, struct ivon_source *source,
                             struct ivon_error *error)
{
    uint64_t digest = DIGEST_START;
    if (!ranks)
        return 0;
    const struct ivon_header *header = ivon_source_header(source);
    digest = digest_add(digest, &header->step, sizeof header->step);
    digest = digest_add(digest, &header->ess, sizeof header->ess);
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        digest = rank_inputs_tensor(digest, source, i);
    return rank_inputs_compare(ranks, digest, ivon_source_path(source), error);
}

static int rank_inputs_field(uint64_t *digest, struct ivon_examples *examples, size_t i,
                             struct ivon_error *error)
{
    const struct ivon_field *field = ivon_examples_field(examples, i);
    uint64_t count = ivon_examples_count(examples);
    bool real = ivon_dtype_is_float(field->dtype) || field->dtype == IVON_U8;
    size_t size = field->count * (real ? sizeof(float) : sizeof(int64_t));
    void *row = malloc(size + 1);
    struct ivon_error ignored;
    *digest = rank_inputs_text(*digest, field->name);
    *digest = digest_add(*digest, &field->count, sizeof field->count);
    for (int last = 0; last < 2 && count && row; last++) {
        uint64_t example = last ? count - 1 : 0;
        int code = real ? ivon_examples_read_f32(examples, i, example, 1, row, &ignored)
                        : ivon_examples_read_i64(examples, i, example, 1, row, &ignored);
        if (!code)
            *digest = digest_add(*digest, row, size);
    }
    free(row);
    return row ? 0 : ivon_error_memory(error);
}

int rank_inputs_check_examples(struct ivon_ranks *ranks, struct ivon_examples *examples,
                               struct ivon_error *error)
{
    uint64_t count = ivon_examples_count(examples);
    uint64_t digest = digest_add(DIGEST_START, &count, sizeof count);
    int code = 0;
    if (!ranks)
        return 0;
    for (size_t i = 0; i < ivon_examples_field_count(examples) && !code; i++)
        code = rank_inputs_field(&digest, examples, i, error);
    return code ? code : rank_inputs_compare(ranks, digest, ivon_examples_path(examples), error);
}

int rank_inputs_check(struct ivon_ranks *ranks, struct ivon_source *source,
                      struct ivon_examples *examples, struct ivon_error *error)
{
    int code = rank_inputs_check_source(ranks, source, error);
    return code ? code : rank_inputs_check_examples(ranks, examples, error);
}

int rank_inputs_check_numbers(struct ivon_ranks *ranks, const uint64_t *numbers, size_t count,
                              struct ivon_error *error)
{
    uint64_t digest = digest_add(DIGEST_START, numbers, count * sizeof *numbers), first = digest;
    int code = ivon_ranks_share(ranks, &first, sizeof first, error);
    return code || first == digest
               ? code
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "the options are not those of rank 0: all ranks need the same, "
                                "but for threads");
}
