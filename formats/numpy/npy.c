/*
 * NumPy's npy format, versions 1 to 3: a signature, the version, the length of a header, the header
 * (a Python dictionary of 'descr', 'fortran_order' and 'shape', in any order), elements.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/numpy/array.h"

enum { HEADER_MAX = 1 << 16, TYPE_MAX = 32 };

static const char signature[] = "\x93NUMPY";
enum { SIGNATURE = sizeof signature - 1 };

bool npy_recognise(const struct mapped_file *file)
{
    return file->size >= SIGNATURE && memcmp(file->data, signature, SIGNATURE) == 0;
}

/* The header, as far as it is read. It ends with a null byte, which is no part of any token. */
struct header {
    const char *at;
    char type[TYPE_MAX]; /* empty until read */
    bool fortran, order_read;
    bool shape_read;
    size_t dimensions;
};

static bool npy_accept(struct header *header, const char *token)
{
    size_t length = strlen(token);
    while (isspace((unsigned char)*header->at))
        header->at++;
    if (strncmp(header->at, token, length) != 0)
        return false;
    header->at += length;
    return true;
}

static bool npy_parse_string(struct header *header, char *out, size_t size)
{
    const char *quote = npy_accept(header, "'") ? "'" : npy_accept(header, "\"") ? "\"" : NULL;
    if (!quote)
        return false;
    size_t length = strcspn(header->at, quote);
    if (length >= size || header->at[length] != *quote)
        return false;
    memcpy(out, header->at, length);
    out[length] = '\0';
    header->at += length + 1;
    return true;
}

static bool npy_parse_extent(struct header *header, int64_t *extent)
{
    npy_accept(header, ""); /* what precedes it */
    if (!isdigit((unsigned char)*header->at))
        return false;
    for (*extent = 0; isdigit((unsigned char)*header->at); header->at++)
        if (__builtin_mul_overflow(*extent, 10, extent) ||
            __builtin_add_overflow(*extent, *header->at - '0', extent))
            return false;
    npy_accept(header, "L"); /* as Python 2 wrote it */
    return true;
}

static bool npy_parse_shape(struct header *header, struct array *array)
{
    int64_t extent;
    if (!npy_accept(header, "("))
        return false;
    for (; !npy_accept(header, ")"); header->dimensions++) {
        if (!npy_parse_extent(header, &extent))
            return false;
        if (header->dimensions < IVON_RANK_MAX)
            array->shape[header->dimensions] = extent;
        if (!npy_accept(header, ",") && *header->at != ')')
            return false;
    }
    array->rank = header->dimensions <= IVON_RANK_MAX ? (int)header->dimensions : -1;
    return true;
}

/* The rest of a list of fields, behind its bracket, with the lists and strings in it. */
static bool npy_skip_record(struct header *header)
{
    for (int depth = 1; depth; header->at++) {
        header->at += strcspn(header->at, "[]'\"");
        if (*header->at == '\'' || *header->at == '"') {
            const char *end = strchr(header->at + 1, *header->at);
            if (!end)
                return false;
            header->at = end;
        } else if (*header->at) {
            depth += *header->at == '[' ? 1 : -1;
        } else {
            return false;
        }
    }
    return true;
}

static bool npy_parse_pair(struct header *header, struct array *array)
{
    char key[16];
    if (!npy_parse_string(header, key, sizeof key) || !npy_accept(header, ":"))
        return false;
    if (strcmp(key, "descr") == 0 && !header->type[0]) {
        if (npy_accept(header, "[")) {
            strcpy(header->type, "a record");
            return npy_skip_record(header);
        }
        return npy_parse_string(header, header->type, TYPE_MAX);
    }
    if (strcmp(key, "fortran_order") == 0 && !header->order_read) {
        header->order_read = true;
        header->fortran = npy_accept(header, "True");
        return header->fortran || npy_accept(header, "False");
    }
    if (strcmp(key, "shape") == 0 && !header->shape_read)
        return header->shape_read = npy_parse_shape(header, array);
    return false;
}

static bool npy_parse_dictionary(struct header *header, struct array *array)
{
    if (!npy_accept(header, "{"))
        return false;
    while (!npy_accept(header, "}")) {
        if (!npy_parse_pair(header, array))
            return false;
        if (!npy_accept(header, ",") && *header->at != '}')
            return false;
    }
    npy_accept(header, "");
    return !*header->at && header->type[0] && header->order_read && header->shape_read;
}

/* numpy's names of the types; it has none for bf16. */
static const char type_names[IVON_DTYPE_COUNT][3] = {
    [IVON_F16] = "f2", [IVON_F32] = "f4", [IVON_F64] = "f8", [IVON_I8] = "i1",
    [IVON_I16] = "i2", [IVON_I32] = "i4", [IVON_I64] = "i8", [IVON_U8] = "u1",
    [IVON_U16] = "u2", [IVON_U32] = "u4", [IVON_U64] = "u8", [IVON_BOOL] = "b1"};

/* The element type of a description such as "<f4"; false for none of ours. */
static bool npy_element_type(struct array *array, const char *type)
{
    array->swapped = *type == '>';
    if (*type && strchr("<>|=", *type))
        type++;
    for (enum ivon_dtype dtype = 0; dtype < IVON_DTYPE_COUNT && *type; dtype++)
        if (strcmp(type_names[dtype], type) == 0) {
            array->dtype = dtype;
            return true;
        }
    return false;
}

/* Reads the header's text into memory that the caller frees, and sets array->offset. */
static int npy_read_header(struct array *array, char **text, struct ivon_error *error)
{
    unsigned char head[SIGNATURE + 6];
    const char *name = bytes_name(array->bytes);
    int code = bytes_read(array->bytes, 0, SIGNATURE + 4, head, error);
    if (code)
        return code;
    unsigned version = head[SIGNATURE];
    if (memcmp(head, signature, SIGNATURE) != 0 || version < 1 || version > 3)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is not in npy format, versions 1 to 3",
                              name);
    size_t wide = version == 1 ? 2 : 4;
    code = bytes_read(array->bytes, SIGNATURE + 2, wide, head, error);
    if (code)
        return code;
    uint32_t length = head[0] | (uint32_t)head[1] << 8;
    if (version > 1)
        length |= (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
    if (length > HEADER_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: its header has %lu bytes, expected at most %d", name,
                              (unsigned long)length, HEADER_MAX);
    array->offset = SIGNATURE + 2 + wide + length;
    *text = calloc(1, (size_t)length + 1);
    if (!*text)
        return ivon_error_memory(error);
    return bytes_read(array->bytes, SIGNATURE + 2 + wide, length, *text, error);
}

static int npy_check_header(struct array *array, const struct header *header, bool parsed,
                            struct ivon_error *error)
{
    size_t count;
    const char *name = bytes_name(array->bytes);
    if (!parsed)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged npy header", name);
    bool known = npy_element_type(array, header->type);
    if (!known || array->rank < 0) {
        if (known)
            snprintf(array->opaque, sizeof array->opaque, "%s of %zu dimensions", header->type,
                     header->dimensions);
        else
            snprintf(array->opaque, sizeof array->opaque, "%s", header->type);
        array->dtype = IVON_U8;
        array->string_size = array->rank == 1 ? npy_string_size(header->type) : 0;
        array->wide = strchr(header->type, 'U') != NULL;
        if (!array->string_size)
            return 0;
    }
    int axes = 0;
    for (int i = 0; i < array->rank; i++)
        axes += array->shape[i] != 1;
    array->fortran = header->fortran && axes > 1;
    size_t size = array->string_size ? array->string_size : ivon_dtype_size(array->dtype);
    uint64_t left = bytes_size(array->bytes) - array->offset;
    if (!tensor_shape_count(array->rank, array->shape, size, &count) || count * size > left)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: its shape asks for more elements than the %llu bytes that "
                              "follow its header",
                              name, (unsigned long long)left);
    return 0;
}

int npy_parse(struct array *array, struct ivon_error *error)
{
    char *text = NULL;
    int code = npy_read_header(array, &text, error);
    if (!code) {
        struct header header = {.at = text};
        bool parsed = npy_parse_dictionary(&header, array);
        code = npy_check_header(array, &header, parsed, error);
    }
    free(text);
    return code;
}

size_t npy_header(char header[NPY_HEADER_MAX], enum ivon_dtype dtype, int rank,
                  const int64_t *shape)
{
    enum { ALIGNMENT = 64, PREAMBLE = SIGNATURE + 4 };
    /* At most 9 extents of 19 digits: it always fits. */
    int end = PREAMBLE;
    memcpy(header, "\x93NUMPY\x01\x00", SIGNATURE + 2);
    end += snprintf(header + end, NPY_HEADER_MAX - (size_t)end,
                    "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                    ivon_dtype_size(dtype) == 1 ? '|' : '<', type_names[dtype]);
    for (int i = 0; i < rank; i++)
        end += snprintf(header + end, NPY_HEADER_MAX - (size_t)end, "%s%lld%s", i ? " " : "",
                        (long long)shape[i], i + 1 < rank || rank == 1 ? "," : "");
    end += snprintf(header + end, NPY_HEADER_MAX - (size_t)end, "), }");
    size_t size = ((size_t)end + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(header + end, ' ', size - (size_t)end);
    header[size - 1] = '\n';
    header[SIGNATURE + 2] = (char)((size - PREAMBLE) & 0xff);
    header[SIGNATURE + 3] = (char)((size - PREAMBLE) >> 8);
    return size;
}
