/* Graphs, and the branches of an If. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"

/* In a branch or a loop's body the name stays as it is where it is free: it may be a mean's. */
static int define_initializer(struct onnx_scope *scope, const char *name, struct ivon_error *error)
{
    bool is_free = graph_find(scope->reader->network, name) == NET_NONE && !scope->frame;
    return onnx_scope_define(scope, name, is_free ? name : NULL, error);
}

/* A tensor of a type that is not supported: an error only if an output needs it. */
static int refuse_initializer(const struct onnx_scope *scope, const Onnx__TensorProto *proto,
                              struct ivon_error *error)
{
    char reason[256];
    const char *name = onnx_scope_find(scope, onnx_text(proto->name));
    snprintf(reason, sizeof reason, "tensor '%s': elements of type %s are not supported", name,
             onnx_type_name(proto->data_type));
    return graph_add_refused(scope->reader->network, NULL, reason, name, NULL, 0, &name, 1, error);
}

static int add_initializers(struct onnx_scope *scope, const Onnx__GraphProto *graph,
                            struct ivon_error *error)
{
    struct onnx_reader *reader = scope->reader;
    int code = 0;
    if (graph->n_sparse_initializer)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: sparse initializers are not supported",
                              reader->path);
    if (graph->n_quantization_annotation)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: quantized graphs are not supported",
                              reader->path);
    for (size_t i = 0; i < graph->n_initializer && !code; i++) {
        const char *name = onnx_text(graph->initializer[i]->name);
        struct net_tensor tensor;
        enum net_type type;
        bool known = onnx_net_type(graph->initializer[i]->data_type, &type);
        code = define_initializer(scope, name, error);
        if (!code && !known) {
            code = refuse_initializer(scope, graph->initializer[i], error);
            continue;
        }
        if (!code)
            code = onnx_tensor(reader, name, graph->initializer[i], &tensor, error);
        if (!code)
            code = graph_add_constant(reader->network, onnx_scope_find(scope, name), &tensor,
                                      error);
    }
    return code;
}

int onnx_add_graph(struct onnx_scope *scope, const Onnx__GraphProto *graph,
                   struct ivon_error *error)
{
    int code = add_initializers(scope, graph, error);
    return code ? code : onnx_add_nodes(scope, graph->node, graph->n_node, error);
}

/* If. */

struct branch {
    const Onnx__GraphProto *graph;
    char **outputs; /* the network's values, malloc'd */
};

static void branch_release(const struct branch *branch, size_t count)
{
    for (size_t i = 0; branch->outputs && i < count; i++)
        free(branch->outputs[i]);
    free(branch->outputs);
}

/* Adds a branch, whose nodes are computed if the condition is `when`; NET_NONE: always. */
static int add_branch(struct onnx_scope *outer, const Onnx__NodeProto *node, struct branch *branch,
                      size_t condition, bool when, struct ivon_error *error)
{
    struct ivon_network *network = outer->reader->network;
    const struct net_guard *before = network->guards;
    size_t count = network->guard_count;
    struct net_guard *guards = calloc(count + 1, sizeof *guards);
    struct onnx_scope scope = {0};
    branch->outputs = calloc(node->n_output + 1, sizeof *branch->outputs);
    int code = guards && branch->outputs
                   ? onnx_scope_init(&scope, outer, onnx_node_name(node), error)
                   : ivon_error_memory(error);
    if (!code && condition != NET_NONE) {
        for (size_t i = 0; i < count; i++)
            guards[i] = before[i];
        guards[count] = (struct net_guard){condition, when};
        network->guards = guards;
        network->guard_count = count + 1;
    }
    if (!code)
        code = onnx_add_graph(&scope, branch->graph, error);
    network->guards = before;
    network->guard_count = count;
    for (size_t i = 0; i < node->n_output && !code; i++) {
        branch->outputs[i] = strdup(
            onnx_scope_find(&scope, onnx_text(branch->graph->output[i]->name)));
        if (!branch->outputs[i])
            code = ivon_error_memory(error);
    }
    free(guards);
    onnx_scope_release(&scope);
    return code;
}

/* Finds the branches; the reason why there are none that fit. */
static const char *find_branches(const struct onnx_scope *scope, const Onnx__NodeProto *node,
                                 struct branch branches[2])
{
    static const char *const names[] = {"else_branch", "then_branch"};
    if (node->n_input != 1 || !*onnx_text(node->input[0]))
        return "it has not one condition";
    for (size_t i = 0; i < 2; i++) {
        const Onnx__AttributeProto *attribute = onnx_attribute(scope, node, names[i]);
        if (!attribute || !attribute->g)
            return "it has not two branches";
        branches[i].graph = attribute->g;
        if (attribute->g->n_input || attribute->g->n_output < node->n_output)
            return "its branches have inputs, or not all of its outputs";
    }
    return NULL;
}

/* Its outputs are those of the one branch, or of one of two. */
static int add_outputs(struct onnx_scope *scope, const Onnx__NodeProto *node, const char *condition,
                       const struct branch *yes, const struct branch *no, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < node->n_output && !code; i++) {
        const char *output = onnx_scope_find(scope, onnx_text(node->output[i]));
        if (*output && no)
            code = onnx_add_made(scope, net_operator_find(NET_OWN_DOMAIN, "If", 1),
                                 (const char *[]){condition, yes->outputs[i], no->outputs[i]}, 3,
                                 output, NULL, 0, error);
        else if (*output)
            code = onnx_add_made(scope, onnx_own_operator(scope, "Identity"),
                                 (const char *[]){yes->outputs[i]}, 1, output, NULL, 0, error);
    }
    return code;
}

int onnx_add_if(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error)
{
    struct ivon_network *network = scope->reader->network;
    struct branch branches[2] = {{0}};
    struct net_tensor known;
    size_t condition;
    char reason[256];
    const char *wrong = find_branches(scope, node, branches);
    if (wrong) {
        snprintf(reason, sizeof reason, "node '%s' (If): %s", onnx_node_name(node), wrong);
        return onnx_add_refused(scope, node, false, reason, error);
    }
    const char *name = onnx_scope_find(scope, onnx_text(node->input[0]));
    int code = graph_value(network, name, &condition, error);
    if (code)
        return code;
    if (graph_known(network, condition, &known) && known.type == NET_BOOLEAN && known.count == 1) {
        struct branch *taken = &branches[*(const unsigned char *)known.data != 0];
        code = add_branch(scope, node, taken, NET_NONE, true, error);
        if (!code)
            code = add_outputs(scope, node, name, taken, NULL, error);
    } else {
        code = add_branch(scope, node, &branches[1], condition, true, error);
        if (!code)
            code = add_branch(scope, node, &branches[0], condition, false, error);
        if (!code)
            code = add_outputs(scope, node, name, &branches[1], &branches[0], error);
    }
    free(known.data);
    branch_release(&branches[0], node->n_output);
    branch_release(&branches[1], node->n_output);
    return code;
}
