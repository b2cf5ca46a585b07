#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/options.h"
#include "core/stream.h"
#include "net/graph/adapt.h"
#include "net/graph/bind.h"
#include "net/graph/operator.h"

bool graph_cut_identity(struct ivon_network *network, struct net_value *value)
{
    struct net_node *node = value->producer == NET_NONE ? NULL : &network->nodes[value->producer];
    if (!node || !(node->op->flags & NET_IDENTITY))
        return false;
    node->outputs[0] = NET_NONE;
    value->producer = NET_NONE;
    return true;
}

/* Finds the value that a tensor is bound to: one with that name that is given, or the output of an
   Identity, which is disconnected. Null if there is none. */
static struct net_value *bind_find_value(struct ivon_network *network, const char *name)
{
    size_t index = graph_place(network, name);
    struct net_value *value = index == NET_NONE ? NULL : &network->values[index];
    if (!value || value->set ||
        (value->role == NET_COMPUTED && !graph_cut_identity(network, value)))
        return NULL;
    return value;
}

/* Returns whether bind_find_value finds a value of that name; changes nothing. */
static bool bind_has_value(const struct ivon_network *network, const char *name)
{
    size_t index = graph_place(network, name);
    const struct net_value *value = index == NET_NONE ? NULL : &network->values[index];
    return value && (value->role != NET_COMPUTED ||
                     (value->producer != NET_NONE &&
                      network->nodes[value->producer].op->flags & NET_IDENTITY));
}

int graph_refuse_opaque(const struct ivon_network *network, const struct ivon_source *source,
                        struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        const char *name = ivon_tensor_bare_name(tensor);
        if (tensor->part != IVON_OPAQUE || !bind_has_value(network, name))
            continue;
        code = ivon_source_refuse_opaque(source, IVON_MEAN, name, error);
        if (!code)
            code = ivon_source_refuse_opaque(source, IVON_BUFFER, name, error);
    }
    return code;
}

static bool is_bindable(const struct ivon_tensor *tensor)
{
    return tensor->part == IVON_MEAN || tensor->part == IVON_BUFFER;
}

/* For each value, what the outputs need it for. */
static unsigned char *find_uses(const struct ivon_network *network)
{
    unsigned char *uses = calloc(network->value_count + 1, sizeof *uses);
    for (size_t i = 0; uses && i < network->output_count; i++)
        uses[network->outputs[i]] = GRAPH_USED;
    for (size_t i = 0; uses && i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        unsigned settings = node->op->planned | node->op->settings;
        for (size_t k = 0; k < node->input_count; k++)
            if (node->inputs[k] != NET_NONE)
                uses[node->inputs[k]] |= k < 32 && settings >> k & 1 ? GRAPH_SETTING : GRAPH_USED;
        for (size_t k = 0; k < node->guard_count; k++)
            uses[node->guards[k].condition] |= GRAPH_USED;
    }
    return uses;
}

/* Returns whether the graph has a value of that name that no output needs. */
static bool is_unused(const struct ivon_network *network, const unsigned char *uses,
                      const char *name)
{
    size_t place = graph_place(network, name);
    return place != NET_NONE && !uses[place];
}

static int bind_by_name(struct ivon_network *network, struct ivon_source *source,
                        const unsigned char *uses, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (!is_bindable(tensor) || is_unused(network, uses, tensor->name))
            continue;
        const struct net_value *value = bind_find_value(network, tensor->name);
        if (value)
            code = graph_bind_tensor(network, source, i, (size_t)(value - network->values), error);
    }
    return code;
}

static int count_means(const struct ivon_network *network, const struct ivon_source *source,
                       const unsigned char *uses, size_t values, struct ivon_unbound *unbound,
                       struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source);
    bool *is_bound = calloc(count + 1, sizeof *is_bound);
    if (!is_bound)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->parameter_count; i++)
        is_bound[network->parameters[i]] = true;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (is_bound[i] || tensor->part != IVON_MEAN)
            continue;
        size_t place = graph_place(network, tensor->name);
        if (place < values && network->values[place].bound)
            continue;
        bool unused = place < values && !uses[place];
        if (unused && !unbound->unused++)
            unbound->unused_mean = tensor->name;
        if (!unused && !unbound->means++)
            unbound->mean = tensor->name;
    }
    free(is_bound);
    return 0;
}

/* The graph keeps these, which may be the checkpoint's. */
struct kept_weights {
    const char *copied; /* as graph_recognise says */
    size_t layers;      /* weights of layers */
    const char *layer;  /* the first of them */
};

/* Counts the weights that the graph keeps, and those of them that are a layer's. */
static int count_kept(const struct ivon_network *network, const unsigned char *uses, size_t values,
                      struct ivon_unbound *unbound, struct kept_weights *kept,
                      struct ivon_error *error)
{
    bool *layers = graph_layer_weights(network);
    if (!layers)
        return ivon_error_memory(error);
    for (size_t i = 0; i < values; i++) {
        if (!graph_keeps_weight(network, uses, i))
            continue;
        if (!unbound->initializers++)
            unbound->initializer = network->values[i].name;
        if (layers[i] && !kept->layers++)
            kept->layer = network->values[i].name;
    }
    free(layers);
    return 0;
}

/* Returns whether the checkpoint has the statistics of a normalization whose scale has no place:
   then the exporter computed it into the weights before it. */
static bool is_fused(const struct ivon_network *network, const struct ivon_source *source)
{
    static const char statistics[] = "running_mean";
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        size_t length = strlen(tensor->name), end = sizeof statistics - 1;
        if (tensor->part == IVON_BUFFER && length >= end &&
            strcmp(tensor->name + length - end, statistics) == 0 &&
            graph_place(network, tensor->name) == NET_NONE)
            return true;
    }
    return false;
}

/* Names that the two exporters of PyTorch make up: "onnx::Conv_12", of the older one. */
static const char *export_advice(const char *initializer)
{
    return strncmp(initializer, "onnx::", 6) == 0
               ? "export it with dynamo=False, training=TrainingMode.PRESERVE and "
                 "do_constant_folding=False, which keep every name"
               : "export it with optimize=False, which keeps every name";
}

/* Returns whether the graph keeps weights that may be the checkpoint's: the numbers would be wrong
   without a word. Of a graph inside the checkpoint, weights are the checkpoint's. */
static bool is_doubtful(const struct ivon_network *network, const struct kept_weights *kept,
                        const struct ivon_unbound *unbound)
{
    return unbound->initializers &&
           (unbound->means || kept->copied || (kept->layers && !network->inside));
}

static int refuse_kept(const struct ivon_network *network, const struct ivon_source *source,
                       const struct kept_weights *found, const struct ivon_unbound *unbound,
                       struct ivon_error *error)
{
    const char *copied = found->copied, *kept = copied ? copied : unbound->initializer;
    if (!copied && !unbound->means)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %zu of its weights are not in %s, '%s' the first: take a "
                              "checkpoint that has them all",
                              network->path, found->layers, ivon_source_path(source), found->layer);
    if (copied && !unbound->mean)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: its weight '%s' has the shape of a transposed mean of %s, and "
                              "the values of none: %s",
                              network->path, kept, ivon_source_path(source), export_advice(kept));
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: has no place for %zu means of %s, '%s' the first, and keeps %zu weights of its own, "
        "'%s' the first%s: %s",
        network->path, unbound->means, ivon_source_path(source), unbound->mean,
        unbound->initializers, kept,
        is_fused(network, source) ? " (the exporter joined BatchNormalization to Conv)" : "",
        export_advice(kept));
}

static int check_bound(const struct ivon_network *network, const struct ivon_source *source,
                       const struct ivon_unbound *unbound, struct ivon_error *error)
{
    size_t means = 0;
    const char *mean = NULL;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part == IVON_MEAN && !means++)
            mean = ivon_source_tensor(source, i)->name;
    if (!means)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no means, expected a posterior",
                              ivon_source_path(source));
    if (network->parameter_count)
        return 0;
    return ivon_error_hint(
        error, IVON_HINT_RENAME,
        ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: the graph has none of the %zu means of %s, such as '%s'%s%s%s", network->path,
            means, ivon_source_path(source), mean, unbound->initializer ? ", but '" : "",
            unbound->initializer ? unbound->initializer : "", unbound->initializer ? "'" : ""));
}

static const struct options_kind bind_options_kind = {
    .defaults = "ivon_bind_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_bind_options, reserved)}};

void ivon_bind_options_init(struct ivon_bind_options *options, size_t size)
{
    const struct ivon_bind_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_network_bind(struct ivon_network *network, struct ivon_source *source,
                      const struct ivon_bind_options *given, struct ivon_unbound *unbound,
                      struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source), values = network->value_count;
    struct ivon_bind_options options = ivon_bind_defaults();
    struct kept_weights kept = {0};
    *unbound = (struct ivon_unbound){0};
    int code = options_read(&bind_options_kind, &options, given, error);
    if (!code && !network->chosen)
        code = graph_choose_output(network, NULL, NULL, error);
    unsigned char *uses = find_uses(network);
    network->parameters = calloc(count + 1, sizeof *network->parameters);
    if (!code && (!uses || !network->parameters))
        code = ivon_error_memory(error);
    if (!code)
        code = graph_check(network, error);
    if (!code)
        code = graph_refuse_opaque(network, source, error);
    if (!code)
        code = bind_by_name(network, source, uses, error);
    if (!code)
        code = graph_recognise(network, source, uses, values, &kept.copied, unbound, error);
    if (!code)
        code = count_means(network, source, uses, values, unbound, error);
    if (!code)
        code = count_kept(network, uses, values, unbound, &kept, error);
    if (!code)
        code = check_bound(network, source, unbound, error);
    if (!code && !options.keep_graph_weights && is_doubtful(network, &kept, unbound))
        code = ivon_error_hint(error, IVON_HINT_KEEP_WEIGHTS,
                               refuse_kept(network, source, &kept, unbound, error));
    free(uses);
    return code ? code : graph_repeat_buffers(network, error);
}
