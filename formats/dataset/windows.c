/* Runs of tokens as examples of a language model: T of them, and the T that follow one later. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/error.h"
#include "formats/dataset/dataset.h"

struct dataset_windows {
    struct ivon_examples *tokens; /* owned */
    size_t context, stride;
    size_t size; /* of a token */
};

static int windows_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    const struct dataset_windows *windows = self;
    size_t bytes = windows->context * windows->size;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++)
        code = examples_read_stored(windows->tokens, 0, (first + i) * windows->stride + field,
                                    windows->context, (char *)buffer + i * bytes, error);
    return code;
}

static const char *const *windows_characters(const void *self, size_t *count)
{
    const struct dataset_windows *windows = self;
    return ivon_examples_characters(windows->tokens, count);
}

static void windows_close(void *self)
{
    struct dataset_windows *windows = self;
    ivon_examples_close(windows->tokens);
    free(windows);
}

static int windows_check(const struct ivon_examples *tokens, size_t context,
                         struct ivon_error *error)
{
    const char *path = ivon_examples_path(tokens);
    const struct ivon_field *field = ivon_examples_field(tokens, 0);
    if (ivon_examples_field_count(tokens) != 1 || field->count != 1 ||
        ivon_dtype_is_float(field->dtype))
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: '%s' has %zu elements of type %s in a row, expected one integer, "
            "a token",
            path, field->name, field->count, ivon_dtype_name(field->dtype));
    if (ivon_examples_count(tokens) <= context)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %" PRIu64 " tokens, expected more than the context of %zu", path,
                              ivon_examples_count(tokens), context);
    return 0;
}

int dataset_windows(struct ivon_examples **examples, struct ivon_examples *tokens,
                    const struct ivon_dataset_options *options, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {
        .read = windows_read, .close = windows_close, .characters = windows_characters};
    size_t context = options->context, stride = options->stride ? options->stride : context;
    const struct ivon_field *token = ivon_examples_field(tokens, 0);
    const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                 {.divisor = 1, .channels = 1}};
    struct dataset_windows *windows = calloc(1, sizeof *windows);
    int code = windows ? windows_check(tokens, context, error) : ivon_error_memory(error);
    if (!code) {
        const char *targets = options->targets ? options->targets : "y";
        struct ivon_field fields[2] = {
            {.name = token->name, .dtype = token->dtype, .rank = 1, .shape = {(int64_t)context}}};
        fields[1] = fields[0];
        fields[1].name = targets;
        uint64_t count = (ivon_examples_count(tokens) - 1 - context) / stride + 1;
        if (options->limit && options->limit < count)
            count = options->limit;
        *windows = (struct dataset_windows){tokens, context, stride, ivon_dtype_size(token->dtype)};
        code = ivon_examples_new(examples, &class, windows, ivon_examples_path(tokens), count,
                                 fields, scalings, *targets ? 2 : 1, error);
    }
    if (code) {
        ivon_examples_close(tokens);
        free(windows);
    }
    return code;
}
