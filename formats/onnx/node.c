/* Nodes and their attributes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"

const char *onnx_node_name(const Onnx__NodeProto *node)
{
    return *onnx_text(node->name) ? node->name : node->n_output ? node->output[0] : "";
}

/* Attributes. */

static const Onnx__AttributeProto *attribute_named(Onnx__AttributeProto *const *attributes,
                                                   size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(onnx_text(attributes[i]->name), name) == 0)
            return attributes[i];
    return NULL;
}

const Onnx__AttributeProto *onnx_attribute_value(const struct onnx_scope *scope,
                                                 const Onnx__AttributeProto *attribute)
{
    while (attribute && *onnx_text(attribute->ref_attr_name) && scope->frame) {
        const struct onnx_frame *frame = scope->frame;
        const char *name = attribute->ref_attr_name;
        attribute = attribute_named(frame->node->attribute, frame->node->n_attribute, name);
        if (!attribute)
            return attribute_named(frame->defaults, frame->default_count, name);
        scope = frame->caller;
    }
    return attribute;
}

const Onnx__AttributeProto *onnx_attribute(const struct onnx_scope *scope,
                                           const Onnx__NodeProto *node, const char *name)
{
    return onnx_attribute_value(scope, attribute_named(node->attribute, node->n_attribute, name));
}

/* Copies `count` elements of `size` bytes, malloc'd. */
static void *copy_of(const void *items, size_t count, size_t size)
{
    void *copy = calloc(count + 1, size);
    if (!copy)
        return NULL;
    if (count)
        memcpy(copy, items, count * size);
    return copy;
}

/* The strings one after the other, each up to its first zero, with a zero behind it. */
static char *copy_of_strings(const ProtobufCBinaryData *strings, size_t count)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(size, strings[i].len + 1, &size))
            return NULL;
    char *copy = calloc(size, 1), *to = copy;
    if (!copy)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t length = strings[i].len ? strnlen((const char *)strings[i].data, strings[i].len) : 0;
        if (length)
            memcpy(to, strings[i].data, length);
        to += length + 1;
    }
    return copy;
}

/* Sets attribute->kind and the elements; *made is null if memory is exhausted. Returns false if the
   kind is not supported. */
static bool convert_elements(const Onnx__AttributeProto *proto, struct net_attribute *attribute,
                             const void **made)
{
    *made = attribute;
    switch (proto->has_type && !*onnx_text(proto->ref_attr_name)
                ? proto->type
                : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
        attribute->kind = NET_INT;
        attribute->integer = proto->i;
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
        attribute->kind = NET_FLT;
        attribute->number = (double)proto->f;
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        attribute->kind = NET_TEXT;
        *made = attribute->text = copy_of(proto->s.data, proto->s.len, 1);
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        attribute->kind = NET_INTS;
        attribute->count = proto->n_ints;
        *made = attribute->integers = copy_of(proto->ints, proto->n_ints, sizeof *proto->ints);
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        attribute->kind = NET_FLTS;
        attribute->count = proto->n_floats;
        *made = attribute->numbers = calloc(proto->n_floats + 1, sizeof *attribute->numbers);
        for (size_t i = 0; *made && i < proto->n_floats; i++)
            attribute->numbers[i] = (double)proto->floats[i];
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS:
        attribute->kind = NET_TEXTS;
        attribute->count = proto->n_strings;
        *made = attribute->text = copy_of_strings(proto->strings, proto->n_strings);
        return true;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        attribute->kind = NET_TENSOR;
        return proto->t != NULL;
    default:
        return false;
    }
}

/* Sets *reason, malloc'd, where the attribute is not supported. */
static int convert_attribute(const struct onnx_scope *scope, const Onnx__NodeProto *node,
                             const char *name, const Onnx__AttributeProto *proto,
                             struct net_attribute *attribute, char reason[256],
                             struct ivon_error *error)
{
    const void *made = NULL;
    attribute->name = strdup(name);
    if (!convert_elements(proto, attribute, &made)) {
        snprintf(reason, 256, "node '%s' (%s): attribute '%s' is of a kind that is not supported",
                 onnx_node_name(node), onnx_text(node->op_type), name);
        return 0;
    }
    if (!attribute->name || !made)
        return ivon_error_memory(error);
    return attribute->kind == NET_TENSOR ? onnx_tensor(scope->reader, onnx_node_name(node),
                                                       proto->t, &attribute->tensor, error)
                                         : 0;
}

static int convert_attributes(const struct onnx_scope *scope, const Onnx__NodeProto *node,
                              struct net_attribute **attributes, size_t *count, char reason[256],
                              struct ivon_error *error)
{
    int code = 0;
    *count = 0;
    *attributes = calloc(node->n_attribute + 1, sizeof **attributes);
    if (!*attributes)
        return ivon_error_memory(error);
    for (size_t i = 0; i < node->n_attribute && !code && !*reason; i++) {
        const char *name = onnx_text(node->attribute[i]->name);
        const Onnx__AttributeProto *proto = onnx_attribute_value(scope, node->attribute[i]);
        if (proto) /* else a function's call leaves it out */
            code = convert_attribute(scope, node, name, proto, &(*attributes)[(*count)++], reason,
                                     error);
    }
    return code;
}

/* Adding. */

/* The network's names of a node's inputs or outputs, for the caller to free. */
static const char **names_in(const struct onnx_scope *scope, char *const *names, size_t count)
{
    const char **found = calloc(count + 1, sizeof *found);
    for (size_t i = 0; found && i < count; i++)
        found[i] = onnx_scope_find(scope, onnx_text(names[i]));
    return found;
}

struct addition {
    char *name;
    const char **inputs, **outputs;
};

static void addition_release(struct addition *addition)
{
    free(addition->name);
    free(addition->inputs);
    free(addition->outputs);
}

static int addition_init(struct addition *addition, const struct onnx_scope *scope,
                         const Onnx__NodeProto *node, struct ivon_error *error)
{
    struct onnx_reader *reader = scope->reader;
    *addition = (struct addition){0};
    if (!reader->nodes_left)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s': its functions, branches and loops have more nodes "
                              "than are supported",
                              reader->path, onnx_node_name(node));
    reader->nodes_left--;
    addition->name = onnx_scope_prefixed(scope, onnx_node_name(node));
    addition->inputs = names_in(scope, node->input, node->n_input);
    addition->outputs = names_in(scope, node->output, node->n_output);
    return addition->name && addition->inputs && addition->outputs ? 0 : ivon_error_memory(error);
}

int onnx_add_refused(const struct onnx_scope *scope, const Onnx__NodeProto *node, bool operator_is,
                     const char *reason, struct ivon_error *error)
{
    struct addition addition;
    char label[256];
    bool own = onnx_own_domain(node->domain);
    snprintf(label, sizeof label, "%s%s%s", own ? "" : node->domain, own ? "" : ".",
             onnx_text(node->op_type));
    int code = addition_init(&addition, scope, node, error);
    if (!code)
        code = graph_add_refused(scope->reader->network, operator_is ? label : NULL, reason,
                                 addition.name, addition.inputs, node->n_input, addition.outputs,
                                 node->n_output, error);
    addition_release(&addition);
    return code;
}

/* The nearest form of operators that are not supported. */
static const char *advice_on(const char *op)
{
    static const struct {
        const char *op, *advice;
    } table[] = {
        {"NonMaxSuppression", "the number of its outputs depends on the data: choose an output "
                              "before it"},
        {"Bernoulli", "it draws random numbers; export the network for inference"},
        {"RandomNormal", "it draws random numbers; export the network for inference"},
        {"RandomNormalLike", "it draws random numbers; export the network for inference"},
        {"RandomUniform", "it draws random numbers; export the network for inference"},
        {"RandomUniformLike", "it draws random numbers; export the network for inference"},
        {"Multinomial", "it draws random numbers; choose an output before it"},
        {"SplitToSequence", "sequences are not supported: export slices or Split"},
        {"SequenceConstruct", "sequences are not supported: export Concat"},
        {"ConcatFromSequence", "sequences are not supported: export Concat"},
        {"SequenceAt", "sequences are not supported"},
        {"Tokenizer", "feed numbers of tokens"},
        {"ZipMap", "choose the output before it, or convert with zipmap=False"},
        {"TreeEnsembleClassifier", "trees have no weights that a posterior is over"},
        {"TreeEnsembleRegressor", "trees have no weights that a posterior is over"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].op, op) == 0)
            return table[i].advice;
    return "";
}

/* Why no row is in force. */
int onnx_refuse_operator(const struct onnx_scope *scope, const Onnx__NodeProto *node, int opset,
                         struct ivon_error *error)
{
    const char *op = onnx_text(node->op_type);
    const struct net_operator *later = net_operator_find(NULL, op, NET_OPSET_MOST);
    char reason[256];
    if (onnx_own_domain(node->domain) && later)
        snprintf(reason, sizeof reason, "opset %d does not have it, opset %d and later ones do",
                 opset, later->since);
    else
        snprintf(reason, sizeof reason, "%s", advice_on(op));
    return onnx_add_refused(scope, node, true, reason, error);
}

int onnx_add_operator(struct onnx_scope *scope, const Onnx__NodeProto *node,
                      const struct net_operator *row, struct ivon_error *error)
{
    struct addition addition = {0};
    struct net_attribute *attributes = NULL;
    char reason[256] = "";
    size_t count = 0;
    int code = convert_attributes(scope, node, &attributes, &count, reason, error);
    if (!code && !*reason)
        code = addition_init(&addition, scope, node, error);
    if (!code && !*reason)
        code = graph_add_node(scope->reader->network, row, addition.name, addition.inputs,
                              node->n_input, addition.outputs, node->n_output, attributes, count,
                              error);
    else if (attributes)
        net_attributes_free(attributes, count);
    addition_release(&addition);
    return code || !*reason ? code : onnx_add_refused(scope, node, false, reason, error);
}

/* Constant nodes become constants: a checkpoint may bind its tensors to them. */
int onnx_add_constant(struct onnx_scope *scope, const Onnx__NodeProto *node,
                      struct ivon_error *error)
{
    struct net_attribute *attributes = NULL;
    struct net_tensor tensor = {0};
    char reason[256] = "";
    size_t count = 0;
    int code = convert_attributes(scope, node, &attributes, &count, reason, error);
    if (!code && !*reason &&
        (count != 1 || node->n_output != 1 || attributes[0].kind == NET_TEXT ||
         attributes[0].kind == NET_TEXTS))
        snprintf(reason, sizeof reason,
                 "node '%s' (Constant): expected one value of numbers and one output",
                 onnx_node_name(node));
    if (!code && !*reason)
        code = net_attribute_constant(attributes, &tensor, error);
    if (attributes)
        net_attributes_free(attributes, count);
    if (code || *reason) {
        free(tensor.data);
        return code ? code : onnx_add_refused(scope, node, false, reason, error);
    }
    struct ivon_network *network = scope->reader->network;
    const char *name = onnx_scope_find(scope, node->output[0]);
    code = graph_add_constant(network, name, &tensor, error);
    if (!code)
        network->values[graph_find(network, name)].literal = true;
    return code;
}

int onnx_add_nodes(struct onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count,
                   struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < count && !code && !scope->global; i++)
        for (size_t k = 0; k < nodes[i]->n_output && !code; k++)
            if (!onnx_scope_defines(scope, onnx_text(nodes[i]->output[k])))
                code = onnx_scope_define(scope, onnx_text(nodes[i]->output[k]), NULL, error);
    for (size_t i = 0; i < count && !code; i++)
        code = scope->reader->add_node(scope, nodes[i], error);
    return code;
}

/* Nodes that the file does not have. */

struct net_attribute *onnx_made_attribute(const char *name, bool list, int64_t value)
{
    struct net_attribute *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    *made = (struct net_attribute){
        .name = strdup(name), .kind = list ? NET_INTS : NET_INT, .integer = value, .count = list};
    made->integers = list ? copy_of(&value, 1, sizeof value) : NULL;
    if (made->name && (made->integers || !list))
        return made;
    net_attributes_free(made, 1);
    return NULL;
}

const struct net_operator *onnx_own_operator(const struct onnx_scope *scope, const char *name)
{
    return net_operator_find(NULL, name, onnx_scope_opset(scope, ""));
}

int onnx_add_made(const struct onnx_scope *scope, const struct net_operator *op,
                  const char *const *inputs, size_t input_count, const char *output,
                  struct net_attribute *attributes, size_t attribute_count,
                  struct ivon_error *error)
{
    struct onnx_reader *reader = scope->reader;
    if (!reader->nodes_left) {
        if (attributes)
            net_attributes_free(attributes, attribute_count);
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: value '%s': its branches and loops have more nodes than are "
                              "supported",
                              reader->path, output);
    }
    reader->nodes_left--;
    return graph_add_node(reader->network, op, output, inputs, input_count, &output, 1, attributes,
                          attribute_count, error);
}
