/*
 * Loop and Scan whose number of rounds is known when the file is read: each round's nodes become
 * part of the graph, with the values of the round before as its inputs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"

enum { ROUNDS_MAX = 1 << 12 };

struct loop {
    struct onnx_scope *scope; /* of the node */
    const Onnx__NodeProto *node;
    const Onnx__GraphProto *body;
    size_t state_count, scan_count; /* values that go from round to round; that are gathered */
    char **state;                   /* the network's values, malloc'd */
    char **scanned;                 /* of every round, scan_count of each */
    size_t rounds;
};

static void loop_release(struct loop *loop)
{
    for (size_t i = 0; loop->state && i < loop->state_count; i++)
        free(loop->state[i]);
    for (size_t i = 0; i < loop->rounds * loop->scan_count; i++)
        free(loop->scanned[i]);
    free(loop->state);
    free(loop->scanned);
}

static int loop_refuse(const struct loop *loop, const char *reason, struct ivon_error *error)
{
    return onnx_add_refused(loop->scope, loop->node, true, reason, error);
}

/* Sets the state before the first round to inputs from `first` on. */
static int loop_begin(struct loop *loop, size_t first, struct ivon_error *error)
{
    loop->state = calloc(loop->state_count + 1, sizeof *loop->state);
    if (!loop->state)
        return ivon_error_memory(error);
    for (size_t i = 0; i < loop->state_count; i++) {
        const char *name = onnx_text(loop->node->input[first + i]);
        loop->state[i] = strdup(onnx_scope_find(loop->scope, name));
        if (!loop->state[i])
            return ivon_error_memory(error);
    }
    return 0;
}

/* A constant of one element that the file does not have; its name is the scope's. */
static int loop_constant(struct onnx_scope *scope, const char *name, enum net_type type, int rank,
                         int64_t value, struct ivon_error *error)
{
    struct net_tensor tensor = {0};
    int code = onnx_scope_define(scope, name, NULL, error);
    if (!code)
        code = net_tensor_set(&tensor, type, rank, (const int64_t[]){1}, error);
    if (!code)
        code = net_tensor_allocate(&tensor, error);
    if (code)
        return code;
    if (type == NET_BOOLEAN)
        *(unsigned char *)tensor.data = value != 0;
    else
        *(int64_t *)tensor.data = value;
    return graph_add_constant(scope->reader->network, onnx_scope_find(scope, name), &tensor, error);
}

/* Takes the state and what is gathered from the body's outputs, from `first` on. */
static int loop_take(struct loop *loop, const struct onnx_scope *round, size_t first,
                     struct ivon_error *error)
{
    Onnx__ValueInfoProto *const *outputs = loop->body->output + first;
    size_t rows = loop->rounds + 1;
    char **scanned = realloc(loop->scanned, (rows * loop->scan_count + 1) * sizeof *scanned);
    if (!scanned)
        return ivon_error_memory(error);
    loop->scanned = scanned;
    for (size_t i = 0; i < loop->scan_count; i++)
        scanned[loop->rounds * loop->scan_count + i] = NULL;
    loop->rounds = rows;
    for (size_t i = 0; i < loop->state_count + loop->scan_count; i++) {
        char *name = strdup(onnx_scope_find(round, onnx_text(outputs[i]->name)));
        if (!name)
            return ivon_error_memory(error);
        char **to = i < loop->state_count
                        ? &loop->state[i]
                        : &scanned[(rows - 1) * loop->scan_count + i - loop->state_count];
        free(*to);
        *to = name;
    }
    return 0;
}

/* output = input with an axis of 1 */
static int loop_unsqueeze(struct onnx_scope *scope, const char *input, const char *output,
                          int64_t axis, struct ivon_error *error)
{
    enum { AXES_ARE_INPUT = 13 };
    struct net_attribute *attribute = NULL;
    char *axes = onnx_scope_prefixed(scope, "axes");
    int code = axes ? 0 : ivon_error_memory(error);
    bool given = onnx_scope_opset(scope, "") >= AXES_ARE_INPUT;
    if (!code && given && !onnx_scope_defines(scope, "axes"))
        code = loop_constant(scope, "axes", NET_INTEGER, 1, axis, error);
    if (!code && !given) {
        attribute = onnx_made_attribute("axes", true, axis);
        code = attribute ? 0 : ivon_error_memory(error);
    }
    if (!code)
        code = onnx_add_made(scope, onnx_own_operator(scope, "Unsqueeze"),
                             (const char *[]){input, axes}, given ? 2 : 1, output, attribute,
                             attribute ? 1 : 0, error);
    free(axes);
    return code;
}

/* Output `output` of the node: the values of all rounds, one after the other along an axis. */
static int loop_gather(struct loop *loop, size_t scan, const char *output, int64_t axis,
                       bool reverse, struct ivon_error *error)
{
    struct onnx_scope scope;
    const char **pieces = calloc(loop->rounds + 1, sizeof *pieces);
    int code = onnx_scope_init(&scope, loop->scope, onnx_node_name(loop->node), error);
    if (!code && !pieces)
        code = ivon_error_memory(error);
    for (size_t i = 0; i < loop->rounds && !code; i++) {
        char name[32];
        snprintf(name, sizeof name, "round %zu", i);
        code = onnx_scope_define(&scope, name, NULL, error);
        if (code)
            break;
        pieces[reverse ? loop->rounds - 1 - i : i] = onnx_scope_find(&scope, name);
        code = loop_unsqueeze(&scope, loop->scanned[i * loop->scan_count + scan],
                              onnx_scope_find(&scope, name), axis, error);
    }
    if (!code) {
        struct net_attribute *attribute = onnx_made_attribute("axis", false, axis);
        code = attribute ? onnx_add_made(&scope, onnx_own_operator(&scope, "Concat"), pieces,
                                         loop->rounds, output, attribute, 1, error)
                         : ivon_error_memory(error);
    }
    free(pieces);
    onnx_scope_release(&scope);
    return code;
}

/* The first outputs are the state after the last round. */
static int loop_end(struct loop *loop, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < loop->state_count && i < loop->node->n_output && !code; i++) {
        const char *output = onnx_scope_find(loop->scope, onnx_text(loop->node->output[i]));
        if (*output)
            code = onnx_add_made(loop->scope, onnx_own_operator(loop->scope, "Identity"),
                                 (const char *[]){loop->state[i]}, 1, output, NULL, 0, error);
    }
    return code;
}

/* A list attribute's number, or 0. */
static int64_t listed(const struct loop *loop, const char *attribute, size_t i)
{
    const Onnx__AttributeProto *list = onnx_attribute(loop->scope, loop->node, attribute);
    return list && i < list->n_ints ? list->ints[i] : 0;
}

/* Finds the body, which has at least so many inputs and outputs; false if there is none that
   fits. */
static bool loop_body(struct loop *loop, size_t inputs, size_t outputs)
{
    const Onnx__AttributeProto *attribute = onnx_attribute(loop->scope, loop->node, "body");
    loop->body = attribute ? attribute->g : NULL;
    return loop->body && loop->body->n_input == inputs && loop->body->n_output == outputs;
}

/* Loop. */

/* The one element of an input; false if it is not known. */
static bool loop_known(const struct loop *loop, const char *name, int64_t *element)
{
    struct ivon_network *network = loop->scope->reader->network;
    struct net_tensor tensor = {0};
    size_t value = graph_find(network, name);
    bool found = value != NET_NONE && graph_known(network, value, &tensor) && tensor.count == 1 &&
                 tensor.type != NET_FLOAT;
    if (found)
        *element = tensor.type == NET_BOOLEAN ? *(const unsigned char *)tensor.data
                                              : *(const int64_t *)tensor.data;
    free(tensor.data);
    return found;
}

/* Adds one round; *go tells whether another follows, -1 if it is not known. */
static int loop_round(struct loop *loop, int *go, struct ivon_error *error)
{
    struct onnx_scope round;
    Onnx__ValueInfoProto *const *inputs = loop->body->input;
    int64_t condition = 1;
    int code = onnx_scope_init(&round, loop->scope, onnx_node_name(loop->node), error);
    if (!code)
        code = loop_constant(&round, onnx_text(inputs[0]->name), NET_INTEGER, 0,
                             (int64_t)loop->rounds, error);
    if (!code)
        code = loop_constant(&round, onnx_text(inputs[1]->name), NET_BOOLEAN, 0, 1, error);
    for (size_t i = 0; i < loop->state_count && !code; i++)
        code = onnx_scope_define(&round, onnx_text(inputs[i + 2]->name), loop->state[i], error);
    if (!code)
        code = onnx_add_graph(&round, loop->body, error);
    if (!code)
        *go = loop_known(loop, onnx_scope_find(&round, onnx_text(loop->body->output[0]->name)),
                         &condition)
                  ? condition != 0
                  : -1;
    if (!code)
        code = loop_take(loop, &round, 1, error);
    onnx_scope_release(&round);
    return code;
}

static int loop_run(struct loop *loop, int64_t trips, bool begins, struct ivon_error *error)
{
    int code = loop_begin(loop, 2, error), go = begins;
    while (!code && go == 1 && (int64_t)loop->rounds < trips) {
        if (loop->rounds == ROUNDS_MAX)
            return loop_refuse(loop, "more rounds than are supported", error);
        code = loop_round(loop, &go, error);
    }
    if (code)
        return code;
    if (go < 0 && (int64_t)loop->rounds < trips)
        return loop_refuse(loop, "its condition depends on the data", error);
    code = loop_end(loop, error);
    for (size_t i = loop->state_count; i < loop->node->n_output && !code; i++) {
        const char *output = onnx_scope_find(loop->scope, onnx_text(loop->node->output[i]));
        if (*output && loop->rounds)
            code = loop_gather(loop, i - loop->state_count, output, 0, false, error);
        else if (*output)
            code = graph_add_refused(loop->scope->reader->network, "Loop",
                                     "it has no round, and gathers values of all rounds", output,
                                     NULL, 0, &output, 1, error);
    }
    return code;
}

int onnx_add_loop(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error)
{
    static const char unknown[] = "its number of rounds depends on the data; nn.EmbeddingBag is "
                                  "exported as one: use nn.Embedding and a sum";
    struct loop loop = {.scope = scope, .node = node};
    if (node->n_input < 2)
        return loop_refuse(&loop, "it has less than two inputs", error);
    loop.state_count = node->n_input - 2;
    const Onnx__AttributeProto *body = onnx_attribute(scope, node, "body");
    size_t outputs = body && body->g ? body->g->n_output : 0;
    if (outputs < 1 + loop.state_count || !loop_body(&loop, node->n_input, outputs) ||
        node->n_output > outputs - 1)
        return loop_refuse(&loop, "its body does not have its inputs and outputs", error);
    loop.scan_count = outputs - 1 - loop.state_count;
    const char *trips_name = onnx_scope_find(scope, onnx_text(node->input[0]));
    const char *condition_name = onnx_scope_find(scope, onnx_text(node->input[1]));
    int64_t trips = INT64_MAX, condition = 1;
    if ((*trips_name && !loop_known(&loop, trips_name, &trips)) ||
        (*condition_name && !loop_known(&loop, condition_name, &condition)))
        return loop_refuse(&loop, unknown, error);
    int code = loop_run(&loop, trips, condition != 0, error);
    loop_release(&loop);
    return code;
}

/* Scan. */

/* The extent of a value along an axis, or -1: known of the graph's inputs and constants. */
static int64_t scan_extent(const struct onnx_scope *scope, const char *name, int64_t axis)
{
    const struct ivon_network *network = scope->reader->network;
    size_t index = graph_find(network, name);
    const struct net_value *value = index == NET_NONE ? NULL : &network->values[index];
    int at = value && value->typed ? net_axis(axis, value->tensor.rank) : -1;
    return at < 0 ? -1 : value->tensor.shape[at];
}

/* Slice `round` of scan input `i`, as the body's input. */
static int scan_slice(struct loop *loop, struct onnx_scope *round, size_t i, int64_t index,
                      struct ivon_error *error)
{
    char place[32];
    const char *formal = onnx_text(loop->body->input[loop->state_count + i]->name);
    const char *from = onnx_scope_find(loop->scope,
                                       onnx_text(loop->node->input[loop->state_count + i]));
    snprintf(place, sizeof place, "index %zu", i);
    int code = loop_constant(round, place, NET_INTEGER, 0, index, error);
    if (!code)
        code = onnx_scope_define(round, formal, NULL, error);
    struct net_attribute *axis = code ? NULL
                                      : onnx_made_attribute("axis", false,
                                                            listed(loop, "scan_input_axes", i));
    if (!code && !axis)
        code = ivon_error_memory(error);
    return code ? code
                : onnx_add_made(round, onnx_own_operator(round, "Gather"),
                                (const char *[]){from, onnx_scope_find(round, place)}, 2,
                                onnx_scope_find(round, formal), axis, 1, error);
}

static int scan_round(struct loop *loop, int64_t rounds, struct ivon_error *error)
{
    struct onnx_scope round;
    size_t inputs = loop->node->n_input - loop->state_count;
    int64_t at = (int64_t)loop->rounds;
    int code = onnx_scope_init(&round, loop->scope, onnx_node_name(loop->node), error);
    for (size_t i = 0; i < loop->state_count && !code; i++)
        code = onnx_scope_define(&round, onnx_text(loop->body->input[i]->name), loop->state[i],
                                 error);
    for (size_t i = 0; i < inputs && !code; i++)
        code = scan_slice(loop, &round, i,
                          listed(loop, "scan_input_directions", i) ? rounds - 1 - at : at, error);
    if (!code)
        code = onnx_add_graph(&round, loop->body, error);
    if (!code)
        code = loop_take(loop, &round, 0, error);
    onnx_scope_release(&round);
    return code;
}

static int scan_run(struct loop *loop, int64_t rounds, struct ivon_error *error)
{
    int code = loop_begin(loop, 0, error);
    while (!code && (int64_t)loop->rounds < rounds)
        code = scan_round(loop, rounds, error);
    if (!code)
        code = loop_end(loop, error);
    for (size_t i = loop->state_count; i < loop->node->n_output && !code; i++) {
        const char *output = onnx_scope_find(loop->scope, onnx_text(loop->node->output[i]));
        size_t scan = i - loop->state_count;
        if (*output)
            code = loop_gather(loop, scan, output, listed(loop, "scan_output_axes", scan),
                               listed(loop, "scan_output_directions", scan) != 0, error);
    }
    return code;
}

int onnx_add_scan(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error)
{
    enum { WITHOUT_BATCH = 9 };
    struct loop loop = {.scope = scope, .node = node};
    const Onnx__AttributeProto *number = onnx_attribute(scope, node, "num_scan_inputs");
    const Onnx__AttributeProto *body = onnx_attribute(scope, node, "body");
    size_t scanned = number && number->i > 0 ? (size_t)number->i : 0;
    size_t outputs = body && body->g ? body->g->n_output : 0;
    if (onnx_scope_opset(scope, "") < WITHOUT_BATCH)
        return loop_refuse(&loop, "its form in opset 8", error);
    if (!scanned || scanned > node->n_input || outputs < node->n_input - scanned ||
        !loop_body(&loop, node->n_input, outputs) || node->n_output > outputs)
        return loop_refuse(&loop, "its body does not have its inputs and outputs", error);
    loop.state_count = node->n_input - scanned;
    loop.scan_count = outputs - loop.state_count;
    int64_t rounds = scan_extent(scope,
                                 onnx_scope_find(scope, onnx_text(node->input[loop.state_count])),
                                 listed(&loop, "scan_input_axes", 0));
    for (size_t i = 1; i < scanned; i++)
        if (scan_extent(scope, onnx_scope_find(scope, onnx_text(node->input[loop.state_count + i])),
                        listed(&loop, "scan_input_axes", i)) != rounds)
            rounds = -1;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return loop_refuse(&loop, "its number of rounds is not known from the graph", error);
    int code = scan_run(&loop, rounds, error);
    loop_release(&loop);
    return code;
}
