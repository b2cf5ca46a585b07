/* Networks as ONNX files. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"
#include "ivon/onnx.h"
#include "net/graph/operator.h"
#include "net/plan/plan.h"

/* The state of writing. The messages and lists lie in blocks of their own until all is packed. */
struct writer {
    const struct ivon_network *network;
    struct ivon_source *weights; /* or null */
    void **blocks;
    size_t block_count, block_capacity;
    bool *used; /* values that a node takes or that are outputs */
    Onnx__ModelProto *model;
};

/* Zeroed memory until the writer is released; null when it is exhausted. */
static void *onnx_write_alloc(struct writer *writer, size_t count, size_t size)
{
    if (writer->block_count == writer->block_capacity) {
        size_t larger = writer->block_capacity ? 2 * writer->block_capacity : 64;
        void **grown = realloc(writer->blocks, larger * sizeof *grown);
        if (!grown)
            return NULL;
        writer->blocks = grown;
        writer->block_capacity = larger;
    }
    void *block = calloc(count ? count : 1, size);
    if (block)
        writer->blocks[writer->block_count++] = block;
    return block;
}

static void onnx_write_release(struct writer *writer)
{
    for (size_t i = 0; i < writer->block_count; i++)
        free(writer->blocks[i]);
    free(writer->blocks);
    free(writer->used);
}

static void *message(struct writer *writer, const ProtobufCMessageDescriptor *descriptor)
{
    void *made = onnx_write_alloc(writer, 1, descriptor->sizeof_message);
    if (made)
        protobuf_c_message_init(descriptor, made);
    return made;
}

/* Packing does not change what it packs. */
static char *string(const char *text)
{
    return (char *)text;
}

/* Tensors. */

static int32_t data_type(const struct net_tensor *tensor)
{
    static const int32_t types[] = {[NET_FLOAT] = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
                                    [NET_INTEGER] = ONNX__TENSOR_PROTO__DATA_TYPE__INT64,
                                    [NET_BOOLEAN] = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL};
    return tensor->type == NET_INTEGER ? onnx_integers_type(tensor->integers) : types[tensor->type];
}

/* Integers as the file has them, in memory of the writer; they fit. Null without memory. */
static void *narrowed(struct writer *writer, const struct net_tensor *tensor, size_t *size)
{
    const int64_t *from = tensor->data;
    bool bytes = tensor->integers == NET_INT8 || tensor->integers == NET_UINT8;
    void *made = onnx_write_alloc(writer, tensor->count, sizeof(uint16_t));
    *size = tensor->count * (bytes ? 1 : sizeof(uint16_t));
    for (size_t i = 0; made && i < tensor->count; i++)
        if (bytes)
            ((uint8_t *)made)[i] = (uint8_t)from[i];
        else
            ((uint16_t *)made)[i] = (uint16_t)from[i];
    return made;
}

/* Borrows the tensor's elements and the name. */
static Onnx__TensorProto *tensor_of(struct writer *writer, char *name,
                                    const struct net_tensor *tensor)
{
    Onnx__TensorProto *proto = message(writer, &onnx__tensor_proto__descriptor);
    if (!proto)
        return NULL;
    proto->dims = onnx_write_alloc(writer, (size_t)tensor->rank, sizeof *proto->dims);
    if (!proto->dims)
        return NULL;
    proto->n_dims = (size_t)tensor->rank;
    memcpy(proto->dims, tensor->shape, proto->n_dims * sizeof *proto->dims);
    proto->has_data_type = true;
    proto->data_type = data_type(tensor);
    proto->name = name;
    proto->has_raw_data = true;
    proto->raw_data.len = tensor->count * net_type_size(tensor->type);
    proto->raw_data.data = tensor->data;
    if (tensor->type == NET_INTEGER && tensor->integers) {
        proto->raw_data.data = narrowed(writer, tensor, &proto->raw_data.len);
        if (!proto->raw_data.data)
            return NULL;
    }
    return proto;
}

/* The index of the weights' tensor that has a value's name, or -1. */
static ptrdiff_t weight_of(const struct writer *writer, const struct net_value *value)
{
    if (!writer->weights || (value->role != NET_INPUT && value->role != NET_PARAMETER))
        return -1;
    ptrdiff_t found = ivon_source_find(writer->weights, IVON_MEAN, value->name);
    return found >= 0 ? found : ivon_source_find(writer->weights, IVON_BUFFER, value->name);
}

static bool onnx_write_same_shape(const struct net_tensor *a, const struct net_tensor *b)
{
    if (a->rank != b->rank || a->type != b->type)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i] && b->shape[i] >= 0)
            return false;
    return true;
}

static int read_weight(struct writer *writer, size_t index, const struct net_value *value,
                       struct net_tensor *tensor, struct ivon_error *error)
{
    char found[256], wanted[256];
    int code = net_tensor_read(tensor, writer->weights, index, error);
    if (!code && !onnx_write_same_shape(tensor, &value->tensor))
        code = ivon_error_set(
            error, IVON_ERROR_DATA, "%s: tensor '%s' is %s of shape %s, %s takes %s of shape %s",
            ivon_source_path(writer->weights), value->name, net_type_name(tensor->type),
            net_shape_text(tensor, found), writer->network->path, net_type_name(value->tensor.type),
            net_shape_text(&value->tensor, wanted));
    void *kept = code ? NULL : onnx_write_alloc(writer, 1, 1);
    if (!code && !kept)
        code = ivon_error_memory(error);
    if (code) {
        free(tensor->data);
        return code;
    }
    free(kept); /* the elements take its place among the blocks */
    writer->blocks[writer->block_count - 1] = tensor->data;
    return 0;
}

/* Returns whether a constant has its elements from the checkpoint that the graph goes into. */
static bool onnx_write_is_outside(const struct writer *writer, const struct net_value *value)
{
    return !writer->weights && value->role == NET_CONSTANT && value->outside;
}

static int onnx_write_add_initializers(struct writer *writer, struct ivon_error *error)
{
    const struct ivon_network *network = writer->network;
    Onnx__GraphProto *graph = writer->model->graph;
    graph->initializer = onnx_write_alloc(writer, network->value_count, sizeof *graph->initializer);
    int code = graph->initializer ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < network->value_count && !code; i++) {
        const struct net_value *value = &network->values[i];
        struct net_tensor tensor = value->tensor;
        ptrdiff_t weight = weight_of(writer, value);
        if (!writer->used[i] || (weight < 0 && value->role != NET_CONSTANT) ||
            onnx_write_is_outside(writer, value))
            continue;
        if (weight >= 0)
            code = read_weight(writer, (size_t)weight, value, &tensor, error);
        if (code)
            break;
        graph->initializer[graph->n_initializer++] = tensor_of(writer, value->name, &tensor);
        if (!graph->initializer[graph->n_initializer - 1])
            code = ivon_error_memory(error);
    }
    return code;
}

/* Inputs and outputs. */

/* A free extent is named "n" on the first axis, else after its value and axis. */
static bool set_extent(struct writer *writer, Onnx__TensorShapeProto__Dimension *extent,
                       const char *name, int axis, int64_t size)
{
    if (size >= 0) {
        extent->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        extent->dim_value = size;
        return true;
    }
    size_t length = strlen(name) + 16;
    char *text = onnx_write_alloc(writer, length, 1);
    if (text)
        axis ? snprintf(text, length, "%s_%d", name, axis) : snprintf(text, length, "n");
    extent->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    extent->dim_param = text;
    return text != NULL;
}

static Onnx__ValueInfoProto *value_info(struct writer *writer, char *name,
                                        const struct net_tensor *tensor)
{
    Onnx__ValueInfoProto *info = message(writer, &onnx__value_info_proto__descriptor);
    Onnx__TypeProto *type = message(writer, &onnx__type_proto__descriptor);
    Onnx__TypeProto__Tensor *of = message(writer, &onnx__type_proto__tensor__descriptor);
    Onnx__TensorShapeProto *shape = message(writer, &onnx__tensor_shape_proto__descriptor);
    if (!info || !type || !of || !shape)
        return NULL;
    shape->dim = onnx_write_alloc(writer, (size_t)tensor->rank, sizeof *shape->dim);
    if (!shape->dim)
        return NULL;
    for (int i = 0; i < tensor->rank; i++) {
        shape->dim[i] = message(writer, &onnx__tensor_shape_proto__dimension__descriptor);
        if (!shape->dim[i] || !set_extent(writer, shape->dim[i], name, i, tensor->shape[i]))
            return NULL;
        shape->n_dim++;
    }
    of->has_elem_type = true;
    of->elem_type = data_type(tensor);
    of->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = of;
    info->name = name;
    info->type = type;
    return info;
}

static int onnx_write_add_inputs(struct writer *writer, struct ivon_error *error)
{
    const struct ivon_network *network = writer->network;
    Onnx__GraphProto *graph = writer->model->graph;
    graph->input = onnx_write_alloc(writer, network->value_count, sizeof *graph->input);
    if (!graph->input)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->input_count + network->value_count; i++) {
        bool listed = i < network->input_count;
        const struct net_value *value =
            &network->values[listed ? network->inputs[i] : i - network->input_count];
        bool bound = value->role == NET_PARAMETER || (onnx_write_is_outside(writer, value) &&
                                                      writer->used[value - network->values]);
        if ((!listed && !bound) || weight_of(writer, value) >= 0)
            continue;
        graph->input[graph->n_input++] = value_info(writer, value->name, &value->tensor);
        if (!graph->input[graph->n_input - 1])
            return ivon_error_memory(error);
    }
    return 0;
}

/* Types and shapes of the outputs with free extents as they are, and enlarged by `larger`. */
static int plan_outputs(const struct ivon_network *network, int64_t larger,
                        struct net_tensor *outputs, struct ivon_error *error)
{
    enum { EXAMPLES = 2, EXTENT = 32 /* more than a kernel is likely to be wide */ };
    const size_t most = (size_t)4 << 30; /* what a stranger's graph may ask for */
    struct net_plan *plan = NULL;
    struct net_tensor *inputs = calloc(network->input_count + 1, sizeof *inputs);
    int code = inputs ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < network->input_count && !code; i++) {
        struct net_tensor shape = network->values[network->inputs[i]].tensor;
        for (int axis = 0; axis < shape.rank; axis++)
            if (shape.shape[axis] < 0)
                shape.shape[axis] = (axis ? EXTENT : EXAMPLES) + larger;
        code = net_tensor_set(&inputs[i], shape.type, shape.rank, shape.shape, error);
    }
    if (!code)
        code = net_plan_new(&plan, network, inputs, most, error);
    for (size_t i = 0; i < network->output_count && !code; i++)
        outputs[i] = *net_plan_output(plan, i);
    net_plan_free(plan);
    free(inputs);
    return code;
}

static int onnx_write_add_outputs(struct writer *writer, struct ivon_error *error)
{
    const struct ivon_network *network = writer->network;
    Onnx__GraphProto *graph = writer->model->graph;
    size_t count = network->output_count;
    struct net_tensor *shapes = onnx_write_alloc(writer, 2 * count, sizeof *shapes);
    graph->output = onnx_write_alloc(writer, count, sizeof *graph->output);
    if (!shapes || !graph->output)
        return ivon_error_memory(error);
    int code = plan_outputs(network, 0, shapes, error);
    if (!code)
        code = plan_outputs(network, 1, shapes + count, error);
    for (size_t i = 0; i < count && !code; i++) {
        for (int axis = 0; axis < shapes[i].rank; axis++)
            if (shapes[i].shape[axis] != shapes[count + i].shape[axis])
                shapes[i].shape[axis] = -1;
        graph->output[i] = value_info(writer, network->values[network->outputs[i]].name,
                                      &shapes[i]);
        graph->n_output++;
        if (!graph->output[i])
            code = ivon_error_memory(error);
    }
    return code;
}

/* Nodes. */

static bool set_strings(struct writer *writer, Onnx__AttributeProto *proto,
                        const struct net_attribute *attribute)
{
    char *text = attribute->text;
    proto->n_strings = attribute->count;
    proto->strings = onnx_write_alloc(writer, attribute->count, sizeof *proto->strings);
    for (size_t i = 0; proto->strings && i < attribute->count; i++) {
        proto->strings[i] = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
        text += strlen(text) + 1;
    }
    return proto->strings != NULL;
}

static bool set_attribute(struct writer *writer, Onnx__AttributeProto *proto,
                          const struct net_attribute *attribute)
{
    proto->name = attribute->name;
    proto->has_type = true;
    switch (attribute->kind) {
    case NET_INT:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        proto->has_i = true;
        proto->i = attribute->integer;
        return true;
    case NET_FLT:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        proto->has_f = true;
        proto->f = (float)attribute->number;
        return true;
    case NET_TEXT:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        proto->has_s = true;
        proto->s.data = (uint8_t *)attribute->text;
        proto->s.len = strlen(attribute->text);
        return true;
    case NET_INTS:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        proto->n_ints = attribute->count;
        proto->ints = attribute->integers;
        return true;
    case NET_FLTS:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
        proto->n_floats = attribute->count;
        proto->floats = onnx_write_alloc(writer, attribute->count, sizeof *proto->floats);
        for (size_t i = 0; proto->floats && i < attribute->count; i++)
            proto->floats[i] = (float)attribute->numbers[i];
        return proto->floats != NULL;
    case NET_TEXTS:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS;
        return set_strings(writer, proto, attribute);
    case NET_TENSOR:
        proto->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
        proto->t = tensor_of(writer, NULL, &attribute->tensor);
        return proto->t != NULL;
    }
    return false;
}

/* The names of values, empty where one is left out. */
static char **names_of(struct writer *writer, const size_t *values, size_t count)
{
    char **names = onnx_write_alloc(writer, count, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = values[i] == NET_NONE ? string("") : writer->network->values[values[i]].name;
    return names;
}

static Onnx__NodeProto *node_of(struct writer *writer, const struct net_node *node)
{
    Onnx__NodeProto *proto = message(writer, &onnx__node_proto__descriptor);
    if (!proto)
        return NULL;
    proto->input = names_of(writer, node->inputs, node->input_count);
    proto->output = names_of(writer, node->outputs, node->output_count);
    proto->attribute = onnx_write_alloc(writer, node->attribute_count, sizeof *proto->attribute);
    if (!proto->input || !proto->output || !proto->attribute)
        return NULL;
    proto->n_input = node->input_count;
    proto->n_output = node->output_count;
    proto->name = node->name;
    proto->op_type = string(node->op->name);
    proto->domain = node->op->domain ? string(node->op->domain) : NULL;
    for (size_t i = 0; i < node->attribute_count; i++) {
        proto->attribute[i] = message(writer, &onnx__attribute_proto__descriptor);
        if (!proto->attribute[i] ||
            !set_attribute(writer, proto->attribute[i], &node->attributes[i]))
            return NULL;
        proto->n_attribute++;
    }
    return proto;
}

/* True if binding left a node nothing to compute. */
static bool cut_off(const struct net_node *node)
{
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i] != NET_NONE)
            return false;
    return true;
}

static int add_nodes(struct writer *writer, struct ivon_error *error)
{
    const struct ivon_network *network = writer->network;
    Onnx__GraphProto *graph = writer->model->graph;
    graph->node = onnx_write_alloc(writer, network->node_count, sizeof *graph->node);
    if (!graph->node)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        if (cut_off(node))
            continue;
        if (node->op == &net_refused || node->op->flags & NET_SELECT)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: node '%s': %s cannot be written, expected a graph whose "
                                  "conditions are known",
                                  network->path, node->name, node->op->name);
        graph->node[graph->n_node++] = node_of(writer, &network->nodes[i]);
        if (!graph->node[graph->n_node - 1])
            return ivon_error_memory(error);
    }
    return 0;
}

/* The model. */

static bool mark_used(struct writer *writer)
{
    const struct ivon_network *network = writer->network;
    writer->used = calloc(network->value_count + 1, sizeof *writer->used);
    for (size_t i = 0; writer->used && i < network->output_count; i++)
        writer->used[network->outputs[i]] = true;
    for (size_t i = 0; writer->used && i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        for (size_t j = 0; j < node->input_count && !cut_off(node); j++)
            if (node->inputs[j] != NET_NONE)
                writer->used[node->inputs[j]] = true;
    }
    return writer->used != NULL;
}

/* The least opset that has an operator and the attributes that a node gives it. */
static int opset_of_node(const struct net_node *node)
{
    int opset = node->op->since;
    for (size_t i = 0; i < NET_OPERATOR_LATER_MAX && node->op->later[i].name; i++)
        if (node->op->later[i].since > opset && net_attribute(node, node->op->later[i].name))
            opset = node->op->later[i].since;
    return opset;
}

/* The opset nearest to ONNX_OPSET_WRITTEN in which every operator and attribute of the graph is in
   force as it is. There is one, since all rows are those of one opset. */
static int opset_of(const struct ivon_network *network)
{
    int opset = ONNX_OPSET_WRITTEN;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        int needed = node->op->domain ? 0 : opset_of_node(node);
        int until = node->op->domain ? INT_MAX : net_operator_until(node->op);
        opset = needed > opset ? needed : until <= opset ? until - 1 : opset;
    }
    return opset;
}

/* Appends an imported domain. */
static bool import_domain(struct writer *writer, const char *domain, int version)
{
    Onnx__OperatorSetIdProto *opset = message(writer, &onnx__operator_set_id_proto__descriptor);
    if (!opset)
        return false;
    opset->domain = string(domain);
    opset->has_version = true;
    opset->version = version;
    writer->model->opset_import[writer->model->n_opset_import++] = opset;
    return true;
}

/* ONNX's own operators, and those of the other domains that the graph uses. */
static bool import_domains(struct writer *writer)
{
    enum { DOMAINS_MAX = 8 };
    const struct ivon_network *network = writer->network;
    Onnx__ModelProto *model = writer->model;
    model->opset_import = onnx_write_alloc(writer, DOMAINS_MAX, sizeof *model->opset_import);
    if (!model->opset_import || !import_domain(writer, "", opset_of(network)))
        return false;
    for (size_t i = 0; i < network->node_count; i++) {
        const char *domain = network->nodes[i].op->domain;
        size_t found = 0;
        while (domain && found < model->n_opset_import &&
               strcmp(model->opset_import[found]->domain, domain) != 0)
            found++;
        if (domain && found == model->n_opset_import && found < DOMAINS_MAX &&
            !import_domain(writer, domain, 1))
            return false;
    }
    return true;
}

/* The version of the file's format that came with an opset. */
static int64_t version_of(int64_t opset)
{
    static const struct {
        int opset, version;
    } began[] = {{26, 13}, {25, 12}, {23, 11}, {21, 10}, {19, 9}, {15, 8}, {0, 7}};
    size_t i = 0;
    while (began[i].opset > opset)
        i++;
    return began[i].version;
}

static int onnx_write_start(struct writer *writer, struct ivon_error *error)
{
    writer->model = message(writer, &onnx__model_proto__descriptor);
    Onnx__GraphProto *graph = message(writer, &onnx__graph_proto__descriptor);
    if (!writer->model || !graph || !import_domains(writer) || !mark_used(writer))
        return ivon_error_memory(error);
    graph->name = string("network");
    writer->model->has_ir_version = true;
    writer->model->ir_version = version_of(writer->model->opset_import[0]->version);
    writer->model->producer_name = string("ivon");
    writer->model->producer_version = string(IVON_VERSION);
    writer->model->graph = graph;
    return 0;
}

static int pack(const struct writer *writer, void **bytes, size_t *size, struct ivon_error *error)
{
    size_t needed = onnx__model_proto__get_packed_size(writer->model);
    if (needed > INT32_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %zu bytes as an ONNX file, which has at most 2 GiB; keep the "
                              "parameters in a checkpoint",
                              writer->network->path, needed);
    void *packed = malloc(needed);
    if (!packed)
        return ivon_error_memory(error);
    *size = onnx__model_proto__pack(writer->model, packed);
    *bytes = packed;
    return 0;
}

int ivon_onnx_write(void **bytes, size_t *size, const struct ivon_network *network,
                    struct ivon_source *weights, struct ivon_error *error)
{
    struct writer writer = {.network = network, .weights = weights};
    int code = onnx_write_start(&writer, error);
    if (!code)
        code = onnx_write_add_inputs(&writer, error);
    if (!code)
        code = onnx_write_add_initializers(&writer, error);
    if (!code)
        code = add_nodes(&writer, error);
    if (!code)
        code = onnx_write_add_outputs(&writer, error);
    if (!code)
        code = pack(&writer, bytes, size, error);
    onnx_write_release(&writer);
    return code;
}
