/* ONNX files as networks: where their bytes come from, and what a model is beside its graph. */
#include "ivon/onnx.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/mapped.h"
#include "formats/io/suffix.h"
#include "formats/onnx/private.h"

static int onnx_check_opset(const struct onnx_reader *reader, struct ivon_error *error)
{
    const Onnx__ModelProto *model = reader->model;
    const Onnx__OperatorSetIdProto *own = NULL;
    for (size_t i = 0; i < model->n_opset_import && !own; i++)
        if (onnx_own_domain(model->opset_import[i]->domain))
            own = model->opset_import[i];
    if (!own)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: names no opset of ONNX's operators, expected %d to %d",
                              reader->path, NET_OPSET_LEAST, NET_OPSET_MOST);
    if (own->version < NET_OPSET_LEAST || own->version > NET_OPSET_MOST)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: opset %" PRId64 ", expected %d to %d: export it again, as by "
                              "torch.onnx.export(..., opset_version=18)",
                              reader->path, own->version, NET_OPSET_LEAST, NET_OPSET_MOST);
    return 0;
}

/* Inputs and outputs. */

/* The extents of a graph input, free ones as -1. */
static int input_shape(const Onnx__TensorShapeProto *shape, const char *path, const char *name,
                       int64_t extents[IVON_RANK_MAX], struct ivon_error *error)
{
    if (shape->n_dim > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: input '%s' has %zu dimensions, at most %d are supported", path,
                              name, shape->n_dim, IVON_RANK_MAX);
    for (size_t i = 0; i < shape->n_dim; i++) {
        const Onnx__TensorShapeProto__Dimension *extent = shape->dim[i];
        bool known = extent->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        extents[i] = known ? extent->dim_value : -1;
    }
    return 0;
}

static int onnx_add_input(struct ivon_network *network, const Onnx__ValueInfoProto *info,
                          struct ivon_error *error)
{
    const char *name = onnx_text(info->name), *path = network->path;
    const Onnx__TypeProto *type = info->type;
    int64_t extents[IVON_RANK_MAX];
    enum net_type net_type;
    if (!*name)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: an input has no name", path);
    if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: input '%s' is no tensor", path, name);
    const Onnx__TypeProto__Tensor *tensor = type->tensor_type;
    if (!onnx_net_type(tensor->elem_type, &net_type))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: input '%s': elements of type %s are not supported", path, name,
                              onnx_type_name(tensor->elem_type));
    if (!tensor->shape)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: input '%s' has no shape, expected one (free extents are fine)",
                              path, name);
    int code = input_shape(tensor->shape, path, name, extents, error);
    if (code)
        return code;
    code = graph_add_input(network, name, net_type, (int)tensor->shape->n_dim, extents, error);
    if (!code)
        network->values[graph_find(network, name)].tensor.integers = onnx_integers(
            tensor->elem_type);
    return code;
}

static int onnx_add_output(struct ivon_network *network, const Onnx__ValueInfoProto *info,
                           struct ivon_error *error)
{
    const Onnx__TypeProto *type = info->type;
    enum net_type net_type = NET_FLOAT;
    int code = graph_add_output(network, onnx_text(info->name), error);
    if (code || !type || type->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET)
        return code;
    bool tensor = type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    int32_t elements = tensor ? type->tensor_type->elem_type : 0;
    bool known = tensor && (!elements || onnx_net_type(elements, &net_type));
    bool shaped = tensor && type->tensor_type->shape &&
                  type->tensor_type->shape->n_dim <= IVON_RANK_MAX;
    graph_describe_output(network, !known || net_type != NET_FLOAT,
                          shaped ? (int)type->tensor_type->shape->n_dim : -1);
    return 0;
}

static int onnx_add_node(struct onnx_scope *scope, const Onnx__NodeProto *node,
                         struct ivon_error *error)
{
    static const struct {
        const char *op;
        int (*add)(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error);
    } special[] = {{"Constant", onnx_add_constant},
                   {"If", onnx_add_if},
                   {"Loop", onnx_add_loop},
                   {"Scan", onnx_add_scan}};
    const char *op = onnx_text(node->op_type);
    bool own = onnx_own_domain(node->domain);
    const Onnx__FunctionProto *function = onnx_function(scope, node);
    if (function)
        return onnx_add_call(scope, function, node, error);
    for (size_t i = 0; i < sizeof special / sizeof special[0] && own; i++)
        if (strcmp(special[i].op, op) == 0)
            return special[i].add(scope, node, error);
    int opset = onnx_scope_opset(scope, onnx_text(node->domain));
    const struct net_operator *row = net_operator_find(own ? NULL : node->domain, op,
                                                       own ? opset : NET_OPSET_MOST);
    return row ? onnx_add_operator(scope, node, row, error)
               : onnx_refuse_operator(scope, node, opset, error);
}

/* Nodes that a model may have, its calls, branches and loops included. */
static size_t nodes_for(const Onnx__ModelProto *model)
{
    const size_t least = 1 << 16;
    return model->graph->n_node + least;
}

static int onnx_build(struct onnx_reader *reader, struct ivon_error *error)
{
    const Onnx__GraphProto *graph = reader->model->graph;
    struct ivon_network *network = reader->network;
    if (!graph)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: holds no graph, expected an ONNX file",
                              network->path);
    struct onnx_scope scope = {.reader = reader, .global = true};
    reader->add_node = onnx_add_node;
    reader->nodes_left = nodes_for(reader->model);
    int code = onnx_check_opset(reader, error);
    for (size_t i = 0; i < graph->n_input && !code; i++)
        code = onnx_add_input(network, graph->input[i], error);
    if (!code)
        code = onnx_add_graph(&scope, graph, error);
    for (size_t i = 0; i < graph->n_output && !code; i++)
        code = onnx_add_output(network, graph->output[i], error);
    if (!code)
        code = graph_finish(network, error);
    return code ? code : graph_check(network, error);
}

static int read_model(struct ivon_network **out, struct onnx_reader *reader, const void *bytes,
                      size_t size, struct ivon_error *error)
{
    Onnx__ModelProto *model = NULL;
    int code = onnx_unpack(&model, reader->path, bytes, size, error);
    reader->model = model;
    if (!code)
        code = graph_new(&reader->network, reader->path, error);
    if (!code)
        code = onnx_build(reader, error);
    if (code)
        ivon_network_free(reader->network);
    else
        *out = reader->network;
    onnx__model_proto__free_unpacked(model, NULL);
    onnx_reader_release(reader);
    return code;
}

int ivon_onnx_open(struct ivon_network **network, const char *path, struct ivon_error *error)
{
    struct mapped_file file;
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    struct onnx_reader reader = {.path = path, .directory = onnx_directory_of(path)};
    if (reader.directory)
        code = read_model(network, &reader, file.data, file.size, error);
    else
        code = ivon_error_set(error, IVON_ERROR_INPUT, "%s: its directory cannot be found", path);
    mapped_close(&file);
    return code;
}

int ivon_onnx_from_memory(struct ivon_network **network, const char *name, const void *bytes,
                          size_t size, struct ivon_error *error)
{
    struct onnx_reader reader = {.path = name};
    return read_model(network, &reader, bytes, size, error);
}

int ivon_onnx_from_checkpoint(struct ivon_network **network, struct ivon_source *source,
                              struct ivon_error *error)
{
    const char *path = ivon_source_path(source), *part = ivon_part_name(IVON_GRAPH);
    size_t index = 0, count = ivon_source_tensor_count(source);
    while (index < count && ivon_source_tensor(source, index)->part != IVON_GRAPH)
        index++;
    int unread = ivon_source_refuse_opaque(source, IVON_GRAPH, part, error);
    if (index == count && unread)
        return unread;
    if (index == count)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: holds no graph ('%s')", path, part);
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    if (tensor->dtype != IVON_U8 || tensor->count > INT32_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has %zu elements of type %s, expected at most 2 GiB of u8",
                              path, part, tensor->count, ivon_dtype_name(tensor->dtype));
    char *name = malloc(strlen(path) + strlen(part) + 2);
    void *bytes = malloc(tensor->count + 1);
    int code = name && bytes ? 0 : ivon_error_memory(error);
    if (!code)
        code = ivon_source_read(source, index, 0, tensor->count, bytes, error);
    if (!code) {
        static const char *const suffixes[] = {".onnx", NULL};
        bool itself = suffix_is_one_of(path, suffixes);
        sprintf(name, itself ? "%s" : "%s/%s", path, part);
        code = ivon_onnx_from_memory(network, name, bytes, tensor->count, error);
    }
    if (!code)
        (*network)->inside = true;
    free(name);
    free(bytes);
    return code;
}
