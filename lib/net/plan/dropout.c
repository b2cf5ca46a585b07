#include "net/plan/dropout.h"

#include "core/error.h"
#include "net/plan/private.h"

/* Sets the place from the shapes of one example and of two; false where no one axis is longer. */
static bool dropout_set_place(struct net_dropout *dropout, const struct net_tensor *one,
                              const struct net_tensor *two)
{
    int axes = 0;
    dropout->outer = dropout->inner = 1;
    for (int i = 0; i < one->rank && one->rank == two->rank; i++) {
        bool longer = two->shape[i] == 2 * one->shape[i] && one->shape[i] > 0;
        if (!longer && two->shape[i] != one->shape[i])
            return false;
        axes += longer;
        if (axes)
            dropout->inner *= (size_t)one->shape[i];
        else
            dropout->outer *= (size_t)one->shape[i];
    }
    return axes == 1 && dropout->inner > 0;
}

static int dropouts_compare(struct net_dropouts *dropouts, const struct ivon_network *network,
                            const struct net_plan *one, const struct net_plan *two,
                            struct ivon_error *error)
{
    for (size_t i = 0; i < dropouts->count; i++) {
        struct net_dropout *dropout = &dropouts->items[i];
        const struct net_node *node = &network->nodes[dropout->node];
        const struct plan_value *value = &one->values[node->outputs[0]];
        if (value->skipped)
            continue;
        dropout->outer = 1;
        dropout->inner = value->tensor.count;
        if (two &&
            !dropout_set_place(dropout, &value->tensor, &two->values[node->outputs[0]].tensor))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: node '%s' (%s): drops what is of no single example, such as "
                                  "a weight",
                                  network->path, node->name, node->op->name);
    }
    return 0;
}

int net_dropouts_place(struct net_dropouts *dropouts, const struct ivon_network *network,
                       const struct net_tensor *one, const struct net_tensor *two,
                       struct ivon_error *error)
{
    struct net_plan *plans[2] = {NULL};
    int code = plan_new(&plans[0], network, NULL, one, PLAN_KEEP_NONE, 0, error);
    if (!code && two)
        code = plan_new(&plans[1], network, NULL, two, PLAN_KEEP_NONE, 0, error);
    if (!code)
        code = dropouts_compare(dropouts, network, plans[0], plans[1], error);
    net_plan_free(plans[0]);
    net_plan_free(plans[1]);
    return code;
}
