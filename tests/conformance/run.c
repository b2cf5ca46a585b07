/*
 * ONNX's own cases for operators, written by tests/oracle/onnx_cases.py: runs each network on its
 * inputs and compares the outputs, then does so again with the network as we write it. Floats must
 * agree as ONNX's own test runner asks, to 1e-3 of the expected value and 1e-7; integers, booleans
 * and shapes exactly. What ONNX computed in binary16 was rounded after each of a few steps, by up
 * to 2^-11 of a value that later steps may cancel: there both bounds are 8 * 2^-11.
 *
 * run DIRECTORY    the cases, each DIRECTORY/NAME/{model.onnx,input_N.npy,output_N.npy}
 * run --operators  a line for each row of the table of operators: its domain, its name, the opsets
 *                  from which on and until which it is in force, and whether it has
 *                  derivatives
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/mapped.h"
#include "ivon/onnx.h"
#include "net/graph/operator.h"
#include "net/plan/plan.h"

enum { TENSORS_MAX = 16, PATH_SIZE = 4096 };

/* NumPy's files: a header of text, then the elements. */

static const struct {
    const char *code;
    enum ivon_dtype dtype;
    enum net_type type;
} kinds[] = {{"<f8", IVON_F64, NET_FLOAT},   {"<f4", IVON_F32, NET_FLOAT},
             {"<f2", IVON_F16, NET_FLOAT},   {"<i8", IVON_I64, NET_INTEGER},
             {"<i4", IVON_I32, NET_INTEGER}, {"<i2", IVON_I16, NET_INTEGER},
             {"|i1", IVON_I8, NET_INTEGER},  {"<u8", IVON_U64, NET_INTEGER},
             {"<u4", IVON_U32, NET_INTEGER}, {"<u2", IVON_U16, NET_INTEGER},
             {"|u1", IVON_U8, NET_INTEGER},  {"|b1", IVON_BOOL, NET_BOOLEAN}};

/* The extents in "(2, 3, )"; -1 when it is none. */
static int parse_shape(const char *text, int64_t shape[IVON_RANK_MAX])
{
    int rank = 0;
    if (*text++ != '(')
        return -1;
    while (*text != ')' && rank < IVON_RANK_MAX) {
        char *end;
        shape[rank++] = strtoll(text, &end, 10);
        if (end == text)
            return -1;
        text = end + strspn(end, ", ");
    }
    return *text == ')' ? rank : -1;
}

static void convert(struct net_tensor *tensor, const void *data, enum ivon_dtype dtype)
{
    double *values = malloc((tensor->count + 1) * sizeof *values);
    if (!values)
        abort();
    ivon_dtype_to_f64(values, data, dtype, tensor->count);
    if (dtype == IVON_I64)
        memcpy(tensor->data, data, tensor->count * sizeof(int64_t));
    else if (tensor->type == NET_FLOAT)
        ivon_dtype_from_f64(tensor->data, IVON_F32, values, tensor->count);
    for (size_t i = 0; dtype != IVON_I64 && i < tensor->count; i++) {
        if (tensor->type == NET_INTEGER)
            ((int64_t *)tensor->data)[i] = (int64_t)values[i];
        else if (tensor->type == NET_BOOLEAN)
            ((uint8_t *)tensor->data)[i] = values[i] != 0;
    }
    free(values);
}

static int load(struct net_tensor *tensor, enum ivon_dtype *dtype, const char *path,
                struct ivon_error *error)
{
    enum { PREFIX = 10 };
    struct mapped_file file;
    char header[512] = "";
    int64_t shape[IVON_RANK_MAX];
    size_t kind = 0, count = sizeof kinds / sizeof kinds[0], length = 0;
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    if (file.size > PREFIX)
        length = file.data[8] + 256U * file.data[9];
    if (length && length < sizeof header && file.size >= PREFIX + length)
        memcpy(header, file.data + PREFIX, length);
    const char *shape_text = strstr(header, "'shape': ");
    int rank = shape_text ? parse_shape(shape_text + strlen("'shape': "), shape) : -1;
    while (kind < count && !strstr(header, kinds[kind].code))
        kind++;
    if (rank < 0 || kind == count || strstr(header, "'fortran_order': True"))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, header);
    if (!code)
        code = net_tensor_set(tensor, kinds[kind].type, rank, shape, error);
    if (!code && file.size - PREFIX - length != tensor->count * ivon_dtype_size(kinds[kind].dtype))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, header);
    if (!code)
        code = net_tensor_allocate(tensor, error);
    if (!code) { /* aligned: the header's length is a multiple of 64 */
        *dtype = kinds[kind].dtype;
        convert(tensor, file.data + PREFIX + length, *dtype);
    }
    mapped_close(&file);
    return code;
}

/* One case. */

struct example {
    char directory[PATH_SIZE];
    struct ivon_network *network;
    struct net_plan *plan;
    struct net_tensor inputs[TENSORS_MAX], outputs[TENSORS_MAX];
    enum ivon_dtype input_dtypes[TENSORS_MAX], output_dtypes[TENSORS_MAX]; /* of the files */
};

static int load_all(struct net_tensor *tensors, enum ivon_dtype *dtypes, size_t count,
                    const char *directory, const char *kind, struct ivon_error *error)
{
    char path[PATH_SIZE + 64];
    int code = count <= TENSORS_MAX ? 0 : IVON_ERROR_DATA;
    for (size_t i = 0; i < count && !code; i++) {
        snprintf(path, sizeof path, "%s/%s_%zu.npy", directory, kind, i);
        code = load(&tensors[i], &dtypes[i], path, error);
    }
    return code;
}

static bool near(double found, double expected, enum ivon_dtype dtype)
{
    const double rounding = dtype == IVON_F16 ? 8.0 / 2048 : 0;
    return found == expected || (isnan(found) && isnan(expected)) ||
           fabs(found - expected) <= fmax(1e-7, rounding) + fmax(1e-3, rounding) * fabs(expected);
}

static int compare(const struct net_tensor *found, const struct net_tensor *expected,
                   enum ivon_dtype dtype, size_t number, struct ivon_error *error)
{
    char a[256], b[256];
    size_t size = net_type_size(expected->type);
    if (found->type != expected->type || found->rank != expected->rank ||
        strcmp(net_shape_text(found, a), net_shape_text(expected, b)) != 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "output %zu: %s of shape %s, expected %s of %s", number,
                              net_type_name(found->type), net_shape_text(found, a),
                              net_type_name(expected->type), net_shape_text(expected, b));
    for (size_t i = 0; i < expected->count; i++) {
        if (expected->type != NET_FLOAT) {
            if (memcmp((char *)found->data + i * size, (char *)expected->data + i * size, size) !=
                0)
                return ivon_error_set(error, IVON_ERROR_DATA, "output %zu: element %zu differs",
                                      number, i);
            continue;
        }
        double value = (double)((float *)found->data)[i];
        double wanted = (double)((float *)expected->data)[i];
        if (!near(value, wanted, dtype))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "output %zu: element %zu is %.9g, expected %.9g", number, i,
                                  value, wanted);
    }
    return 0;
}

static int run_once(struct example *example, struct ivon_error *error)
{
    const void *data[TENSORS_MAX];
    for (size_t i = 0; i < TENSORS_MAX; i++)
        data[i] = example->inputs[i].data;
    int code = net_plan_new(&example->plan, example->network, example->inputs, 0, error);
    if (!code)
        code = net_plan_run(example->plan, data, error);
    for (size_t i = 0; !code && i < example->network->output_count; i++)
        code = compare(net_plan_output(example->plan, i), &example->outputs[i],
                       example->output_dtypes[i], i, error);
    return code;
}

/* Puts what is written of the network in its place. */
static int rewrite(struct example *example, struct ivon_error *error)
{
    void *bytes = NULL;
    size_t size = 0;
    int code = ivon_onnx_write(&bytes, &size, example->network, NULL, error);
    net_plan_free(example->plan);
    example->plan = NULL;
    if (!code) {
        ivon_network_free(example->network);
        example->network = NULL;
        code = ivon_onnx_from_memory(&example->network, "written", bytes, size, error);
    }
    free(bytes);
    return code;
}

static int run(struct example *example, struct ivon_error *error)
{
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof path, "%s/model.onnx", example->directory);
    int code = ivon_onnx_open(&example->network, path, error);
    if (!code)
        code = load_all(example->inputs, example->input_dtypes, example->network->input_count,
                        example->directory, "input", error);
    if (!code)
        code = load_all(example->outputs, example->output_dtypes, example->network->output_count,
                        example->directory, "output", error);
    if (!code)
        code = run_once(example, error);
    if (!code)
        code = rewrite(example, error);
    return code ? code : run_once(example, error);
}

static bool passes(const char *directory, const char *name)
{
    static const struct example nothing;
    struct example example = nothing;
    struct ivon_error error = {0};
    snprintf(example.directory, sizeof example.directory, "%s/%s", directory, name);
    int code = run(&example, &error);
    if (code)
        printf("%s: %s\n", name, error.message);
    net_plan_free(example.plan);
    ivon_network_free(example.network);
    for (size_t i = 0; i < TENSORS_MAX; i++) {
        free(example.inputs[i].data);
        free(example.outputs[i].data);
    }
    return code == 0;
}

static int print_operators(void)
{
    const struct net_operator *row;
    for (size_t i = 0; (row = net_operator_row(i)); i++) {
        int until = net_operator_until(row);
        printf("%s %s %d %d %s\n", row->domain ? row->domain : "ai.onnx", row->name,
               row->flags & NET_EARLIER ? 1 : row->since,
               until > NET_OPSET_MOST ? NET_OPSET_MOST + 1 : until,
               row->backward ? "derivatives" : "constant");
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--operators") == 0)
        return print_operators();
    struct dirent **entries;
    int count = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : -1;
    int passed = 0, failed = 0;
    if (count < 0) {
        fprintf(stderr, "usage: %s DIRECTORY | --operators\n", argv[0]);
        return 64;
    }
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            bool fine = passes(argv[1], entries[i]->d_name);
            passed += fine;
            failed += !fine;
        }
        free(entries[i]);
    }
    free(entries);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
