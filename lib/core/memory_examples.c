/* Examples over the caller's memory. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/examples.h"
#include "core/stream.h"

enum { BYTE_SCALE = 255 };

struct memory_field {
    const char *data;
    size_t size; /* bytes of one example */
};

static int memory_examples_read(void *self, size_t field, uint64_t first, size_t count,
                                void *buffer, struct ivon_error *error)
{
    const struct memory_field *from = (const struct memory_field *)self + field;
    (void)error;
    memcpy(buffer, from->data + first * from->size, count * from->size);
    return 0;
}

static int memory_field_check(const char *name, const struct ivon_field *field,
                              struct ivon_error *error)
{
    if (!tensor_name_valid(field->name))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: '%s' is not a usable name", name,
                              field->name);
    if (field->rank < 0 || field->rank > IVON_RANK_MAX || (int)field->dtype < 0 ||
        field->dtype >= IVON_DTYPE_COUNT)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' has rank %d and type %d, expected a rank of at most %d and "
                              "a type",
                              name, field->name, field->rank, (int)field->dtype, IVON_RANK_MAX);
    return 0;
}

int ivon_examples_from_memory(struct ivon_examples **examples, const char *name, uint64_t rows,
                              const struct ivon_field *fields, const void *const *data,
                              size_t field_count, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {.read = memory_examples_read, .close = free};
    struct memory_field *memory = calloc(field_count + 1, sizeof *memory);
    struct examples_scaling *scalings = calloc(field_count + 1, sizeof *scalings);
    int code = memory && scalings ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < field_count && !code; i++) {
        code = memory_field_check(name, &fields[i], error);
        memory[i].data = data[i];
        scalings[i] = (struct examples_scaling){
            .divisor = fields[i].dtype == IVON_U8 ? BYTE_SCALE : 1, .channels = 1};
    }
    if (!code)
        code = ivon_examples_new(examples, &class, memory, name, rows, fields, scalings,
                                 field_count, error);
    for (size_t i = 0; i < field_count && !code; i++)
        memory[i].size = ivon_examples_field(*examples, i)->count *
                         ivon_dtype_size(fields[i].dtype);
    if (code)
        free(memory);
    free(scalings);
    return code;
}
