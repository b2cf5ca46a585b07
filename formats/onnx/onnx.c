/* ONNX graphs as networks. */
#include "ivon/onnx.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/mapped.h"
#include "formats/onnx/private.h"
#include "net/graph/operator.h"

static const char *onnx_text(const char *string)
{
    return string ? string : "";
}

static bool own_domain(const char *domain)
{
    return !*onnx_text(domain) || strcmp(domain, "ai.onnx") == 0;
}

static int onnx_read_opset(struct onnx_reader *reader, const Onnx__ModelProto *model,
                           struct ivon_error *error)
{
    const int least = NET_OPSET_LEAST, most = NET_OPSET_MOST;
    const Onnx__OperatorSetIdProto *own = NULL;
    for (size_t i = 0; i < model->n_opset_import && !own; i++)
        if (own_domain(model->opset_import[i]->domain))
            own = model->opset_import[i];
    if (!own)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: names no opset of ONNX's operators, "
                              "expected %d to %d",
                              reader->path, least, most);
    if (own->version < least || own->version > most)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: opset %" PRId64 ", expected %d to %d: export it again, as by "
                              "torch.onnx.export(..., opset_version=%d)",
                              reader->path, own->version, least, most, ONNX_OPSET_WRITTEN);
    reader->opset = (int)own->version;
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

/* Returns whether a node takes a value as input, or the graph has it as output. */
static bool is_used(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_input; k++)
            if (strcmp(onnx_text(graph->node[i]->input[k]), name) == 0)
                return true;
    for (size_t i = 0; i < graph->n_output; i++)
        if (strcmp(onnx_text(graph->output[i]->name), name) == 0)
            return true;
    return false;
}

static int onnx_add_initializers(struct ivon_network *network, struct onnx_reader *reader,
                                 const Onnx__GraphProto *graph, struct ivon_error *error)
{
    int code = 0;
    if (graph->n_sparse_initializer)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: sparse initializers are not supported",
                              network->path);
    if (graph->n_quantization_annotation)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: quantized graphs are not supported",
                              network->path);
    for (size_t i = 0; i < graph->n_initializer && !code; i++) {
        const char *name = onnx_text(graph->initializer[i]->name);
        struct net_tensor tensor;
        enum net_type type;
        /* An initializer of an unsupported type is an error only if it is used. */
        if (!onnx_net_type(graph->initializer[i]->data_type, &type) && !is_used(graph, name))
            continue;
        code = onnx_tensor(reader, name, graph->initializer[i], &tensor, error);
        if (!code)
            code = graph_add_constant(network, name, &tensor, error);
    }
    return code;
}

/* Nodes. */

/* A node as messages name it. */
static const char *node_name(const Onnx__NodeProto *node)
{
    return *onnx_text(node->name) ? node->name : node->n_output ? node->output[0] : "";
}

/* Copies `count` elements of `size` bytes, malloc'd. */
static void *copy_of(const void *items, size_t count, size_t size)
{
    void *copy = calloc(count + 1, size);
    if (copy && count)
        memcpy(copy, items, count * size);
    return copy;
}

static int refuse_subgraph(const Onnx__NodeProto *node, const char *path, struct ivon_error *error)
{
    const char *op = onnx_text(node->op_type);
    return ivon_error_set(
        error, IVON_ERROR_DATA, "%s: node '%s' (%s): subgraphs are not supported%s", path,
        node_name(node), op,
        strcmp(op, "Loop") == 0 ? "; nn.EmbeddingBag is exported as one: use nn.Embedding and a sum"
                                : "");
}

static int convert_attribute(struct onnx_reader *reader, const Onnx__NodeProto *node,
                             const Onnx__AttributeProto *proto, struct net_attribute *attribute,
                             struct ivon_error *error)
{
    const void *made;
    attribute->name = strdup(onnx_text(proto->name));
    switch (proto->has_type && !proto->ref_attr_name
                ? proto->type
                : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
        attribute->kind = NET_INT;
        attribute->integer = proto->i;
        made = attribute;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
        attribute->kind = NET_FLT;
        attribute->number = (double)proto->f;
        made = attribute;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        attribute->kind = NET_TEXT;
        made = attribute->text = copy_of(proto->s.data, proto->s.len, 1);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        attribute->kind = NET_INTS;
        attribute->count = proto->n_ints;
        made = attribute->integers = copy_of(proto->ints, proto->n_ints, sizeof *proto->ints);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        attribute->kind = NET_FLTS;
        attribute->count = proto->n_floats;
        made = attribute->numbers = calloc(proto->n_floats + 1, sizeof *attribute->numbers);
        for (size_t i = 0; made && i < proto->n_floats; i++)
            attribute->numbers[i] = (double)proto->floats[i];
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        attribute->kind = NET_TENSOR;
        made = attribute;
        if (proto->t) {
            int code = onnx_tensor(reader, node_name(node), proto->t, &attribute->tensor, error);
            if (code)
                return code;
            break;
        } /* fall through */
    default:
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s' (%s): attribute '%s' is of a kind that is not "
                              "supported",
                              reader->path, node_name(node), onnx_text(node->op_type),
                              onnx_text(proto->name));
    }
    return attribute->name && made ? 0 : ivon_error_memory(error);
}

static int onnx_add_node(struct ivon_network *network, struct onnx_reader *reader,
                         const Onnx__NodeProto *node, struct ivon_error *error)
{
    const char *op = onnx_text(node->op_type);
    if (!own_domain(node->domain))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s': operator %s of the domain '%s', expected ONNX's own",
                              network->path, node_name(node), op, node->domain);
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->g || node->attribute[i]->n_graphs)
            return refuse_subgraph(node, network->path, error);
    const struct net_operator *row = net_operator_find(NULL, op, reader->opset);
    if (!row)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s': operator %s is not supported in opset %d",
                              network->path, node_name(node), op, reader->opset);
    size_t count = node->n_attribute;
    struct net_attribute *attributes = calloc(count + 1, sizeof *attributes);
    int code = attributes ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        code = convert_attribute(reader, node, node->attribute[i], &attributes[i], error);
    if (code) {
        if (attributes)
            net_attributes_free(attributes, count);
        return code;
    }
    return graph_add_node(network, row, node_name(node), (const char *const *)node->input,
                          node->n_input, (const char *const *)node->output, node->n_output,
                          attributes, count, error);
}

static int onnx_build(struct ivon_network *network, struct onnx_reader *reader,
                      const Onnx__ModelProto *model, struct ivon_error *error)
{
    const Onnx__GraphProto *graph = model->graph;
    if (!graph)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: holds no graph, expected an ONNX file",
                              network->path);
    int code = onnx_read_opset(reader, model, error);
    if (!code)
        code = onnx_add_initializers(network, reader, graph, error);
    for (size_t i = 0; i < graph->n_input && !code; i++)
        code = onnx_add_input(network, graph->input[i], error);
    for (size_t i = 0; i < graph->n_node && !code; i++)
        code = onnx_add_node(network, reader, graph->node[i], error);
    for (size_t i = 0; i < graph->n_output && !code; i++)
        code = graph_add_output(network, onnx_text(graph->output[i]->name), error);
    return code ? code : graph_finish(network, error);
}

static int read_model(struct ivon_network **out, struct onnx_reader *reader, const void *bytes,
                      size_t size, struct ivon_error *error)
{
    Onnx__ModelProto *model = NULL;
    struct ivon_network *network = NULL;
    int code = onnx_unpack(&model, reader->path, bytes, size, error);
    if (!code)
        code = graph_new(&network, reader->path, error);
    if (!code)
        code = onnx_build(network, reader, model, error);
    if (code)
        ivon_network_free(network);
    else
        *out = network;
    onnx__model_proto__free_unpacked(model, NULL);
    for (size_t i = 0; i < reader->file_count; i++)
        free(reader->files[i].location);
    free(reader->files);
    return code;
}

/* The directory of a file, without symbolic links and without a slash at its end, for the caller to
   free; null if there is none. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return realpath(".", NULL);
    char *parent = strndup(path, (size_t)(slash - path) + 1), *real = NULL;
    if (parent)
        real = realpath(parent, NULL);
    if (real && strcmp(real, "/") == 0)
        *real = '\0';
    free(parent);
    return real;
}

int ivon_onnx_open(struct ivon_network **network, const char *path, struct ivon_error *error)
{
    struct mapped_file file;
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    struct onnx_reader reader = {.path = path, .directory = directory_of(path)};
    if (reader.directory)
        code = read_model(network, &reader, file.data, file.size, error);
    else
        code = ivon_error_set(error, IVON_ERROR_INPUT, "%s: its directory cannot be found", path);
    free(reader.directory);
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
        sprintf(name, "%s/%s", path, part);
        code = ivon_onnx_from_memory(network, name, bytes, tensor->count, error);
    }
    free(name);
    free(bytes);
    return code;
}
