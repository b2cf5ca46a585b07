#include "net/graph/adapt.h"

#include <string.h>

#include "core/error.h"
#include "core/options.h"

static const struct options_kind adapt_options = {.defaults = "ivon_adapt_defaults"};

void ivon_adapt_options_init(struct ivon_adapt_options *options, size_t size)
{
    const struct ivon_adapt_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

const char *ivon_network_input(const struct ivon_network *network, size_t i)
{
    return i < network->input_count ? network->values[network->inputs[i]].name : NULL;
}

struct ivon_input_shape ivon_network_input_shape(const struct ivon_network *network, size_t i)
{
    const struct net_tensor *tensor = &network->values[network->inputs[i]].tensor;
    struct ivon_input_shape shape = {tensor->type == NET_FLOAT, tensor->rank, {0}};
    memcpy(shape.shape, tensor->shape, (size_t)tensor->rank * sizeof *tensor->shape);
    return shape;
}

/* Returns whether a checkpoint has a tensor that takes an input's place. */
static bool adapt_is_tensor(struct ivon_source *source, const char *name)
{
    return source && (ivon_source_find(source, IVON_MEAN, name) >= 0 ||
                      ivon_source_find(source, IVON_BUFFER, name) >= 0);
}

static const struct ivon_batch_axis *batch_axis_of(const struct ivon_adapt_options *options,
                                                   const char *name)
{
    for (size_t i = 0; i < options->batch_axis_count; i++)
        if (!options->batch_axes[i].name || strcmp(options->batch_axes[i].name, name) == 0)
            return &options->batch_axes[i];
    return NULL;
}

/* Every name of an axis has to be an input's or the output's. */
static int adapt_check_names(const struct ivon_network *network,
                             const struct ivon_adapt_options *options, struct ivon_error *error)
{
    for (size_t i = 0; i < options->batch_axis_count; i++) {
        const char *name = options->batch_axes[i].name;
        size_t index = name ? graph_find(network, name) : network->outputs[0];
        if (index == NET_NONE ||
            (index != network->outputs[0] && network->values[index].role != NET_INPUT))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s' is neither an input nor the output of the graph",
                                  network->path, name);
    }
    return 0;
}

/* An axis that is not of one input alone is none of those that have too few. */
static int adapt_inputs(struct ivon_network *network, struct ivon_source *source,
                        const struct ivon_adapt_options *options, struct ivon_error *error)
{
    struct graph_exchange exchange;
    int code = graph_exchange_start(&exchange, network, error);
    if (code)
        return code;
    for (size_t i = 0; i < network->input_count && !code; i++) {
        const struct net_value *value = &network->values[network->inputs[i]];
        const struct ivon_batch_axis *axis = batch_axis_of(options, value->name);
        if (!axis || adapt_is_tensor(source, value->name) ||
            (!axis->name && axis->axis >= value->tensor.rank))
            continue;
        code = graph_input_batch_first(network, &exchange, network->inputs[i], axis->axis, error);
    }
    graph_exchange_finish(&exchange, network);
    return code;
}

static int adapt_output(struct ivon_network *network, const struct ivon_adapt_options *options,
                        struct ivon_adaptation *adaptation, struct ivon_error *error)
{
    int class_axis = -1, code = 0;
    const struct ivon_batch_axis *axis = batch_axis_of(options,
                                                       network->values[network->outputs[0]].name);
    for (size_t i = 0; i < options->axis_count; i++)
        class_axis = options->axes[i] == IVON_AXIS_CLASS ? (int)i : class_axis;
    adaptation->cut = graph_cut_link(network, options->link, class_axis);
    if (!adaptation->cut && options->probabilities)
        code = graph_invert_link(network, options->link, error);
    if (code)
        return code;
    if (options->axis_count)
        return graph_order_output(network, options->axes, options->axis_count, error);
    return axis ? graph_output_batch_first(network, axis->axis, error) : 0;
}

int ivon_network_adapt(struct ivon_network *network, struct ivon_source *source,
                       const struct ivon_adapt_options *given, struct ivon_adaptation *adaptation,
                       struct ivon_error *error)
{
    struct ivon_adapt_options options = ivon_adapt_defaults();
    *adaptation = (struct ivon_adaptation){0};
    int code = options_read(&adapt_options, &options, given, error);
    if (!code && options.link > IVON_LINK_LOGISTIC)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such link: %d", (int)options.link);
    if (!code && options.probabilities && options.link == IVON_LINK_IDENTITY)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "outputs that are probabilities have a link, softmax or logistic");
    if (!code)
        code = graph_choose_output(network, options.output, &adaptation->passed_over, error);
    if (code)
        return code;
    adaptation->output = network->values[network->outputs[0]].name;
    for (size_t i = 0; i < options.value_count && !code; i++)
        code = graph_set_input(network, options.values[i].input, options.values[i].value, error);
    if (!code)
        code = adapt_check_names(network, &options, error);
    if (!code)
        code = adapt_inputs(network, source, &options, error);
    if (!code)
        code = adapt_output(network, &options, adaptation, error);
    return code ? code : graph_finish(network, error);
}
