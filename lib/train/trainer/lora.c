/*
 * Low-rank adaptation (LoRA; Hu et al. 2021, arXiv:2106.09685): beside each chosen weight W the
 * network gets the products of
 *   y = W x + s B (A x),   s = alpha/rank,
 * and A and B are all that is trained. A begins as PEFT has it, uniform within ±1/√inputs, and B
 * with zeros, so that the network begins as it was.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/adapter/description.h"
#include "bayes/adapter/names.h"
#include "core/error.h"
#include "core/names.h"
#include "core/stream.h"
#include "net/graph/bind.h"
#include "train/trainer/private.h"

int lora_check_options(const struct ivon_train_options *options, struct ivon_error *error)
{
    if (options->lora_rank && options->selected)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a training of low-rank factors selects no other parameters");
    if (options->lora_rank && !isnan(options->lora_alpha) &&
        !(options->lora_alpha > 0 && options->lora_alpha <= FLT_MAX))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the factors' alpha is %g, expected a positive number",
                              options->lora_alpha);
    return 0;
}

/* Factors that are being placed. */
struct lora_placing {
    struct ivon_trainer *trainer;
    const struct ivon_train_start *from;
    const char *skipped;    /* the first tensor that was chosen, and has no form; or null */
    size_t found, inserted; /* weights whose factors the network has already, and others */
};

static bool lora_is_factor(const char *name)
{
    return name_any_component(name, adapter_is_factor);
}

static double lora_scale(const struct ivon_trainer *trainer, int64_t rank)
{
    double alpha = trainer->options.lora_alpha;
    return isnan(alpha) ? 1 : alpha / (double)rank;
}

/* The length of the name of a weight's module; 0: it has none. */
static size_t lora_module(const char *name)
{
    static const char ending[] = ".weight";
    size_t length = strlen(name), end = sizeof ending - 1;
    return length > end && strcmp(name + length - end, ending) == 0 ? length - end : 0;
}

/* The value that a tensor of the start is bound to, or NET_NONE. */
static size_t lora_value(const struct ivon_trainer *trainer, size_t item)
{
    const struct ivon_network *network = trainer->network;
    const struct ivon_tensor *tensor = &trainer->start.items[item].tensor;
    for (size_t i = 0; i < network->value_count && tensor->part == IVON_MEAN; i++)
        if (network->values[i].role == NET_PARAMETER && network->values[i].parameter != NET_NONE &&
            network->parameters[network->values[i].parameter] == item)
            return i;
    size_t place = tensor->part == IVON_BUFFER ? graph_place(network, tensor->name) : NET_NONE;
    return place != NET_NONE && network->values[place].bound ? place : NET_NONE;
}

/* The names and shapes of a weight's factors, and of its scale. */
struct lora_names {
    char *a, *b, *scale;
    struct net_tensor a_shape, b_shape;
};

static int lora_name(struct lora_names *names, const struct lora_weight *weight,
                     const struct net_tensor *tensor, struct ivon_error *error)
{
    size_t module = lora_module(weight->name);
    names->a = adapter_name_make(weight->name, module, ".lora_A.weight");
    names->b = adapter_name_make(weight->name, module, ".lora_B.weight");
    names->scale = adapter_name_make(weight->name, module, ".lora_scale");
    graph_low_rank_shapes(tensor, weight->form, weight->rank, &names->a_shape, &names->b_shape);
    return names->a && names->b && names->scale ? 0 : ivon_error_memory(error);
}

static void lora_names_release(struct lora_names *names)
{
    free(names->a);
    free(names->b);
    free(names->scale);
}

static ptrdiff_t lora_find(const struct ivon_trainer *trainer, const char *name)
{
    for (size_t i = 0; i < trainer->start.count; i++)
        if (trainer->start.items[i].tensor.part == IVON_MEAN &&
            strcmp(trainer->start.items[i].tensor.name, name) == 0)
            return (ptrdiff_t)i;
    return -1;
}

/* Checks the factors that a checkpoint of such a training brings: they go on. */
static int lora_check_found(const struct ivon_trainer *trainer, const struct lora_weight *weight,
                            const struct lora_names *names, struct ivon_error *error)
{
    const struct ivon_network *network = trainer->network;
    const struct ivon_tensor *a = &trainer->start.items[lora_find(trainer, names->a)].tensor;
    size_t place = graph_find(network, names->scale);
    float wanted = (float)lora_scale(trainer, weight->rank), found = 1;
    if (place != NET_NONE && network->values[place].role == NET_CONSTANT &&
        network->values[place].tensor.type == NET_FLOAT && network->values[place].tensor.count == 1)
        found = *(const float *)network->values[place].tensor.data;
    if (a->rank < 2 || a->shape[0] != weight->rank)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the factors of '%s' have rank %lld, expected %lld",
                              network->path, weight->name, a->rank ? (long long)a->shape[0] : 0,
                              (long long)weight->rank);
    if (found < wanted || found > wanted)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the product of the factors of '%s' is scaled by %g, expected %g",
                              network->path, weight->name, (double)found, (double)wanted);
    return 0;
}

/* Makes a factor: a tensor of the checkpoint to be, and the parameter that it is. */
static int lora_add_factor(struct ivon_trainer *trainer, const char *name,
                           const struct net_tensor *shape, bool zeros, size_t *value,
                           struct ivon_error *error)
{
    struct ivon_network *network = trainer->network;
    struct ivon_tensor tensor = {
        .name = name, .part = IVON_MEAN, .dtype = IVON_F32, .rank = shape->rank};
    struct start_tensor *item;
    if (graph_find(network, name) != NET_NONE)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has a value '%s', which is the name of a factor", network->path,
                              name);
    memcpy(tensor.shape, shape->shape, sizeof tensor.shape);
    int code = start_add(&trainer->start, &tensor, &item, error);
    if (!code && !zeros) {
        struct initial rule = initial_linear(shape->rank, shape->shape);
        initial_fill(&rule, trainer->options.seed, name, 0, item->tensor.count, item->data);
    }
    if (!code)
        code = graph_value(network, name, value, error);
    if (code)
        return code;
    struct net_value *made = &network->values[*value];
    made->role = NET_PARAMETER;
    made->parameter = NET_NONE; /* until all are listed */
    made->typed = made->bound = true;
    return net_tensor_set(&made->tensor, NET_FLOAT, shape->rank, shape->shape, error);
}

/* A scale of 1 needs no product. */
static int lora_add_scale(struct ivon_network *network, const char *name, double scale,
                          size_t *value, struct ivon_error *error)
{
    struct net_tensor tensor = {0};
    float number = (float)scale;
    *value = NET_NONE;
    if (!(number < 1) && !(number > 1))
        return 0;
    int code = net_tensor_set(&tensor, NET_FLOAT, 0, NULL, error);
    if (!code)
        code = net_tensor_allocate(&tensor, error);
    if (code)
        return code;
    *(float *)tensor.data = number;
    code = graph_add_constant(network, name, &tensor, error);
    if (code)
        return code;
    *value = graph_find(network, name);
    network->values[*value].bound = network->values[*value].set = true;
    return 0;
}

static int lora_insert(struct ivon_trainer *trainer, const struct lora_weight *weight, size_t value,
                       const struct lora_names *names, struct ivon_error *error)
{
    struct low_rank_factors factors = {.name = weight->name};
    int code = lora_add_factor(trainer, names->a, &names->a_shape, false, &factors.a, error);
    if (!code)
        code = lora_add_factor(trainer, names->b, &names->b_shape, true, &factors.b, error);
    if (!code)
        code = lora_add_scale(trainer->network, names->scale, lora_scale(trainer, weight->rank),
                              &factors.scale, error);
    return code ? code : graph_low_rank_insert(trainer->network, value, &factors, error);
}

/* Places the factors of a tensor of the start, if it is a chosen weight. */
static int lora_place(struct lora_placing *placing, size_t item, struct ivon_error *error)
{
    struct ivon_trainer *trainer = placing->trainer;
    const char *name = trainer->start.items[item].tensor.name;
    struct lora_names names = {0};
    if (lora_is_factor(name))
        return 0;
    int64_t rank = trainer->options.lora_rank(trainer->options.lora_context, name);
    size_t value = rank > 0 ? lora_value(trainer, item) : NET_NONE;
    if (value == NET_NONE)
        return 0;
    struct lora_weight weight = {.name = name, .rank = rank};
    const struct net_tensor *tensor = &trainer->network->values[value].tensor;
    weight.form = graph_low_rank_form(trainer->network, value);
    weight.square = tensor->shape[0] == tensor->shape[1];
    if (weight.form == LOW_RANK_NONE || !lora_module(name)) {
        placing->skipped = placing->skipped ? placing->skipped : name;
        return 0;
    }
    trainer->lora[trainer->lora_count++] = weight;
    int code = lora_name(&names, &weight, tensor, error);
    if (!code && lora_find(trainer, names.a) >= 0) {
        placing->found++;
        code = lora_check_found(trainer, &weight, &names, error);
    } else if (!code) {
        placing->inserted++;
        code = lora_insert(trainer, &weight, value, &names, error);
    }
    lora_names_release(&names);
    return code;
}

/* Refuses what would not be the training that was asked for. */
static int lora_check_placed(const struct lora_placing *placing, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = placing->trainer;
    const char *path = trainer->network->path, *skipped = placing->skipped;
    size_t factors = 0;
    for (size_t i = 0; i < trainer->network->parameter_count; i++)
        factors += lora_is_factor(
            trainer->start.items[trainer->network->parameters[i]].tensor.name);
    if (!trainer->lora_count)
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "%s: no weight is chosen that low-rank factors could be of%s%s%s, expected names that "
            "end in .weight, of tensors that enter by MatMul, Gemm or Conv of one group alone",
            path, skipped ? ": '" : "", skipped ? skipped : "", skipped ? "' is none" : "");
    if (factors != 2 * placing->found || (placing->found && placing->inserted))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has factors of other weights than are chosen: %zu tensors of "
                              "factors, expected those of %zu weights",
                              path, factors, trainer->lora_count);
    if (placing->inserted && placing->from->resume)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no factors of '%s', with which a training could go on", path,
                              trainer->lora[0].name);
    if (placing->inserted && placing->from->prior)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a posterior is the prior of its own parameters, and has no "
                              "factors of '%s'",
                              path, trainer->lora[0].name);
    if (trainer->start.unbound.initializers)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: lacks %zu tensors, '%s' the first, which would stay as they "
                              "begin: only factors are trained",
                              path, trainer->start.unbound.initializers,
                              trainer->start.unbound.initializer);
    return 0;
}

/* PEFT says for the whole adapter how weights lie; of square ones it cannot be seen. */
static int lora_check_forms(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct lora_weight *square = NULL, *turned = NULL;
    for (size_t i = 0; i < trainer->lora_count; i++) {
        const struct lora_weight *weight = &trainer->lora[i];
        if (weight->form == LOW_RANK_TURNED)
            turned = weight;
        if (weight->form == LOW_RANK_LINEAR && weight->square)
            square = weight;
    }
    trainer->lora_turned = turned != NULL;
    return !square || !turned
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "%s: '%s' lies inputs x outputs and '%s', which is square, outputs "
                                "x inputs: no adapter can say so, choose one of them",
                                trainer->network->path, turned->name, square->name);
}

static int lora_compare(const void *a, const void *b)
{
    const struct start_tensor *const *left = a, *const *right = b;
    return strcmp((*left)->tensor.name, (*right)->tensor.name);
}

/* Makes constants, which share the start's memory, of all parameters but factors. Graphs that are
   written do without the base: checkpoints have it as buffers. */
static void lora_freeze(struct ivon_trainer *trainer)
{
    struct ivon_network *network = trainer->network;
    for (size_t i = 0; i < network->value_count; i++) {
        struct net_value *value = &network->values[i];
        if (value->role != NET_PARAMETER || lora_is_factor(value->name))
            continue;
        struct start_tensor *item = &trainer->start.items[network->parameters[value->parameter]];
        value->role = NET_CONSTANT;
        value->tensor.data = item->data;
        item->shared = true;
        item->tensor.part = IVON_BUFFER;
    }
    for (size_t i = 0; i < trainer->start.count; i++) {
        size_t place = lora_value(trainer, i);
        if (place != NET_NONE && network->values[place].role == NET_CONSTANT)
            network->values[place].outside = network->values[place].tensor.type == NET_FLOAT &&
                                             network->values[place].tensor.rank > 0 &&
                                             !network->values[place].repeated;
    }
}

/* Lists the factors by name, so that their order does not depend on where they came from. */
static int lora_list(struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct ivon_network *network = trainer->network;
    size_t most = trainer->start.count + 1, count = 0;
    const struct start_tensor **factors = calloc(most, sizeof *factors);
    size_t *parameters = calloc(most, sizeof *parameters);
    if (!factors || !parameters) {
        free(factors);
        free(parameters);
        return ivon_error_memory(error);
    }
    for (size_t i = 0; i < trainer->start.count; i++) {
        const struct start_tensor *item = &trainer->start.items[i];
        if (item->tensor.part == IVON_MEAN && lora_is_factor(item->tensor.name))
            factors[count++] = item;
    }
    qsort(factors, count, sizeof *factors, lora_compare);
    for (size_t i = 0; i < count; i++) {
        parameters[i] = (size_t)(factors[i] - trainer->start.items);
        network->values[graph_place(network, factors[i]->tensor.name)].parameter = i;
    }
    free(factors);
    free(network->parameters);
    network->parameters = parameters;
    network->parameter_count = count;
    return 0;
}

int lora_apply(struct ivon_trainer *trainer, const struct ivon_train_start *from,
               struct ivon_error *error)
{
    struct lora_placing placing = {.trainer = trainer, .from = from};
    size_t count = trainer->start.count;
    trainer->lora = calloc(count + 1, sizeof *trainer->lora);
    int code = trainer->lora ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        code = lora_place(&placing, i, error);
    if (!code)
        code = lora_check_placed(&placing, error);
    if (!code)
        code = lora_check_forms(trainer, error);
    if (code)
        return code;
    lora_freeze(trainer);
    code = lora_list(trainer, error);
    return code ? code : graph_finish(trainer->network, error);
}

/* The adapter. */

/* Longer names come first: a pattern is also that of a module whose name ends so. */
static int lora_compare_lengths(const void *a, const void *b)
{
    const struct lora_weight *left = a, *right = b;
    size_t l = strlen(left->name), r = strlen(right->name);
    return l != r ? (l < r) - (l > r) : strcmp(left->name, right->name);
}

static bool lora_describe(const struct ivon_trainer *trainer,
                          struct adapter_description *description, bool several)
{
    struct lora_weight *sorted = calloc(trainer->lora_count + 1, sizeof *sorted);
    if (!sorted)
        return false;
    memcpy(sorted, trainer->lora, trainer->lora_count * sizeof *sorted);
    qsort(sorted, trainer->lora_count, sizeof *sorted, lora_compare_lengths);
    for (size_t i = 0; i < trainer->lora_count; i++) {
        const struct lora_weight *weight = &sorted[i];
        size_t module = lora_module(weight->name);
        char *name = strndup(weight->name, module);
        json_array_append_new(description->targets, json_stringn(weight->name, module));
        if (name && several)
            json_object_set_new(description->ranks, name, json_integer(weight->rank));
        if (name && several && isnan(trainer->options.lora_alpha))
            json_object_set_new(description->alphas, name, json_integer(weight->rank));
        free(name);
        if (!name) {
            free(sorted);
            return false;
        }
    }
    free(sorted);
    return true;
}

int ivon_trainer_adapter(const struct ivon_trainer *trainer, const char *base, char **config,
                         struct ivon_error *error)
{
    double alpha = trainer->options.lora_alpha;
    bool several = false;
    *config = NULL;
    if (!trainer->lora_count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "the training is none of an adapter");
    for (size_t i = 1; i < trainer->lora_count; i++)
        several |= trainer->lora[i].rank != trainer->lora[0].rank;
    int64_t rank = trainer->lora[0].rank;
    struct adapter_description description = adapter_description_new(
        base, rank, isnan(alpha) ? (double)rank : alpha);
    description.turned = trainer->lora_turned;
    if (lora_describe(trainer, &description, several))
        *config = adapter_description_text(&description);
    adapter_description_release(&description);
    return *config ? 0 : ivon_error_memory(error);
}
