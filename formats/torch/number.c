/* Numbers among a checkpoint's settings: Python's own, tensors of one element, numpy's scalars. */
#include <string.h>

#include "formats/torch/private.h"

enum { NUMBER_MAX = 8 }; /* bytes */

/* Up to eight bytes of a bytes object, which protocol 2 has as a text of their values. */
static size_t read_bytes(const struct pickle_node *node, unsigned char out[NUMBER_MAX])
{
    size_t count, length = 0;
    if (node->kind == PICKLE_BYTES && node->length <= NUMBER_MAX) {
        memcpy(out, node->text, node->length);
        return node->length;
    }
    if (node->kind != PICKLE_OBJECT || !pickle_is_global(node->callable, "_codecs", "encode"))
        return 0;
    struct pickle_node **arguments = pickle_sequence(node->arguments, &count);
    if (count < 1 || arguments[0]->kind != PICKLE_STRING)
        return 0;
    const unsigned char *text = (const unsigned char *)arguments[0]->text;
    for (size_t i = 0; i < arguments[0]->length; i++) {
        unsigned value = text[i];
        if (value >= 0x80 && ++i < arguments[0]->length) /* U+0080 to U+00FF take two bytes */
            value = (value << 6 | (text[i] & 0x3fU)) & 0xff;
        if (length == NUMBER_MAX || i == arguments[0]->length)
            return 0;
        out[length++] = (unsigned char)value;
    }
    return length;
}

/* The type that a numpy.dtype of 'f8' and its like is. */
static bool read_numpy_type(const struct pickle_node *node, enum ivon_dtype *dtype)
{
    static const struct {
        const char *name;
        enum ivon_dtype dtype;
    } types[] = {{"f8", IVON_F64}, {"f4", IVON_F32}, {"f2", IVON_F16}, {"i8", IVON_I64},
                 {"i4", IVON_I32}, {"i2", IVON_I16}, {"i1", IVON_I8},  {"u8", IVON_U64},
                 {"u4", IVON_U32}, {"u2", IVON_U16}, {"u1", IVON_U8}};
    size_t count, state_count;
    if (node->kind != PICKLE_OBJECT || !pickle_is_global(node->callable, "numpy", "dtype"))
        return false;
    struct pickle_node **arguments = pickle_sequence(node->arguments, &count);
    struct pickle_node **state = pickle_sequence(node->state, &state_count);
    if (state_count > 1 && pickle_is_string(state[1], ">"))
        return false;
    for (size_t i = 0; i < sizeof types / sizeof types[0] && count; i++) {
        if (!pickle_is_string(arguments[0], types[i].name))
            continue;
        *dtype = types[i].dtype;
        return true;
    }
    return false;
}

/* A scalar is made of its type and its bytes. */
static bool read_numpy_scalar(const struct pickle_node *node, double *number)
{
    unsigned char bytes[NUMBER_MAX] = {0};
    double raw;
    size_t count;
    enum ivon_dtype dtype;
    if (node->kind != PICKLE_OBJECT ||
        (!pickle_is_global(node->callable, "numpy.core.multiarray", "scalar") &&
         !pickle_is_global(node->callable, "numpy._core.multiarray", "scalar")))
        return false;
    struct pickle_node **arguments = pickle_sequence(node->arguments, &count);
    if (count != 2 || !read_numpy_type(arguments[0], &dtype) ||
        read_bytes(arguments[1], bytes) != ivon_dtype_size(dtype))
        return false;
    memcpy(&raw, bytes, sizeof raw);
    ivon_dtype_to_f64(number, &raw, dtype, 1);
    return true;
}

bool torch_number(struct torch_archive *archive, const struct pickle_node *node, double *number)
{
    struct torch_tensor tensor;
    double raw;
    if (!node)
        return false;
    if (node->kind == PICKLE_INTEGER || node->kind == PICKLE_FLOAT) {
        *number = node->kind == PICKLE_FLOAT ? node->number : (double)node->integer;
        return true;
    }
    if (!torch_is_tensor(node))
        return read_numpy_scalar(node, number);
    if (torch_tensor_read(archive, node, "", &tensor, NULL) || tensor.count != 1 ||
        torch_elements_read(archive, &tensor, 0, 1, &raw, NULL))
        return false;
    ivon_dtype_to_f64(number, &raw, tensor.stored, 1);
    return true;
}
