#include "net/graph/low_rank.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/append.h"
#include "net/graph/operator.h"

enum { CHAIN_MAX = 16 /* of transposes and other names before a node takes a weight */ };

/* The nodes that take a weight. */
struct low_rank_search {
    const struct ivon_network *network;
    int rank, depth;
    enum low_rank_form form;
    size_t *nodes, count; /* null: they are only counted */
    bool fits;
};

static void low_rank_visit(struct low_rank_search *search, size_t value, bool turned);

/* Returns whether a node multiplies input 0, as it is, by input 1 or its transpose. */
static bool low_rank_is_product(const struct net_node *node)
{
    static const char *const others[] = {"transA", "transBatchA", "transBatchB"};
    bool plain = node->op->product && !node->op->planes;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        plain = plain && !net_attribute_integer(node, others[i], 0);
    double alpha = net_attribute_number(node, "alpha", 1);
    return plain && !(alpha < 1) && !(alpha > 1);
}

static enum low_rank_form low_rank_node_form(const struct net_node *node, int rank, bool turned)
{
    bool transposes = net_attribute_integer(node, "transB", 0) != 0;
    if (node->op->planes)
        return rank > 2 && !turned && net_attribute_integer(node, "group", 1) == 1
                   ? LOW_RANK_CONVOLUTION
                   : LOW_RANK_NONE;
    return rank != 2 || !low_rank_is_product(node) ? LOW_RANK_NONE
           : transposes == turned                  ? LOW_RANK_TURNED
                                                   : LOW_RANK_LINEAR;
}

/* Follows a weight through a node that only names or transposes it. */
static void low_rank_pass(struct low_rank_search *search, const struct net_node *node, bool turned)
{
    size_t count;
    const int64_t *order = net_attribute_integers(node, "perm", &count);
    bool transposes = node->op->flags & NET_TRANSPOSE;
    bool turns = transposes && (!order || (count == 2 && order[0] == 1));
    search->fits = search->fits && (!transposes || search->rank == 2) && search->depth < CHAIN_MAX;
    if (!search->fits || node->outputs[0] == NET_NONE)
        return;
    search->depth++;
    low_rank_visit(search, node->outputs[0], turned != turns);
    search->depth--;
}

/* Takes a node whose input `k` is the weight; `turned`: its transpose. */
static void low_rank_take(struct low_rank_search *search, size_t index, size_t k, bool turned)
{
    const struct net_node *node = &search->network->nodes[index];
    if (node->op->flags & (NET_IDENTITY | NET_TRANSPOSE)) {
        low_rank_pass(search, node, turned);
        return;
    }
    enum low_rank_form form = k == 1 ? low_rank_node_form(node, search->rank, turned)
                                     : LOW_RANK_NONE;
    search->fits = search->fits && form != LOW_RANK_NONE &&
                   (search->form == LOW_RANK_NONE || search->form == form);
    search->form = form;
    if (search->fits && search->nodes)
        search->nodes[search->count] = index;
    search->count += search->fits;
}

static void low_rank_visit(struct low_rank_search *search, size_t value, bool turned)
{
    const struct ivon_network *network = search->network;
    for (size_t i = 0; i < network->output_count; i++)
        search->fits = search->fits && network->outputs[i] != value;
    for (size_t i = 0; i < network->node_count; i++)
        for (size_t k = 0; k < network->nodes[i].input_count && search->fits; k++)
            if (network->nodes[i].inputs[k] == value)
                low_rank_take(search, i, k, turned);
}

static struct low_rank_search low_rank_search(const struct ivon_network *network, size_t weight,
                                              size_t *nodes)
{
    struct low_rank_search search = {.network = network,
                                     .rank = network->values[weight].tensor.rank,
                                     .nodes = nodes,
                                     .fits = true};
    low_rank_visit(&search, weight, false);
    if (!search.fits || !search.count)
        search.form = LOW_RANK_NONE;
    return search;
}

enum low_rank_form graph_low_rank_form(const struct ivon_network *network, size_t weight)
{
    return low_rank_search(network, weight, NULL).form;
}

void graph_low_rank_shapes(const struct net_tensor *weight, enum low_rank_form form, int64_t rank,
                           struct net_tensor *a, struct net_tensor *b)
{
    bool turned = form == LOW_RANK_TURNED;
    *a = *b = (struct net_tensor){.type = NET_FLOAT, .rank = weight->rank};
    memcpy(a->shape, weight->shape, sizeof a->shape);
    for (int i = 0; i < b->rank; i++)
        b->shape[i] = 1;
    a->shape[0] = rank;
    a->shape[1] = weight->shape[!turned];
    b->shape[0] = weight->shape[turned];
    b->shape[1] = rank;
}

/* Inserting. */

/* A copy of integers, lists and texts, which are all that a convolution has. */
static int low_rank_copy_attributes(struct net_attribute **out, const struct net_node *node,
                                    struct ivon_error *error)
{
    struct net_attribute *copies = calloc(node->attribute_count + 1, sizeof *copies);
    bool failed = !copies;
    for (size_t i = 0; i < node->attribute_count && !failed; i++) {
        const struct net_attribute *from = &node->attributes[i];
        struct net_attribute *to = &copies[i];
        *to = (struct net_attribute){
            .kind = from->kind, .integer = from->integer, .name = strdup(from->name)};
        if (from->kind == NET_TEXT)
            to->text = strdup(from->text);
        if (from->kind == NET_INTS) {
            to->integers = calloc(from->count + 1, sizeof *to->integers);
            to->count = from->count;
        }
        failed = !to->name || (from->kind == NET_TEXT && !to->text) ||
                 (from->kind == NET_INTS && !to->integers);
        if (!failed && from->kind == NET_INTS)
            memcpy(to->integers, from->integers, from->count * sizeof *to->integers);
    }
    *out = copies;
    if (failed && copies)
        net_attributes_free(copies, node->attribute_count);
    return failed ? ivon_error_memory(error) : 0;
}

/* The convolution by A, which is the node's in all but its weight. */
static int low_rank_convolve(struct ivon_network *network, size_t index,
                             const struct low_rank_factors *factors, size_t *made,
                             struct ivon_error *error)
{
    const struct net_node *node = &network->nodes[index];
    struct net_attribute *attributes = NULL;
    const char *inputs[] = {network->values[node->inputs[0]].name,
                            network->values[factors->a].name};
    char *name = graph_fresh_name(network, factors->name, "lora_A");
    int code = name ? low_rank_copy_attributes(&attributes, node, error) : ivon_error_memory(error);
    if (!code)
        code = graph_add_node(network, node->op, name, inputs, 2, (const char *const *)&name, 1,
                              attributes, node->attribute_count, error);
    if (!code)
        *made = graph_find(network, name);
    free(name);
    return code;
}

/* x Aᵀ, or u Bᵀ */
static int low_rank_multiply(struct ivon_network *network, size_t rows, size_t factor,
                             const char *name, size_t *made, struct ivon_error *error)
{
    size_t inputs[2] = {rows};
    int code = graph_append(network, "Transpose", name, &factor, 1, &inputs[1], error);
    return code ? code : graph_append(network, "MatMul", name, inputs, 2, made, error);
}

/* Gives the sum the name of the node's output, which gets a new one. */
static int low_rank_add(struct ivon_network *network, size_t index, size_t change, const char *base,
                        struct ivon_error *error)
{
    size_t output = network->nodes[index].outputs[0], alone;
    char *name = graph_fresh_name(network, base, "base");
    char *sum = graph_fresh_name(network, base, "sum");
    int code = name && sum ? graph_value(network, name, &alone, error) : ivon_error_memory(error);
    if (!code) {
        const char *inputs[] = {name, network->values[change].name};
        const char *whole = network->values[output].name;
        network->nodes[index].outputs[0] = alone;
        network->values[alone].producer = index;
        network->values[output].producer = NET_NONE;
        code = graph_append_sum(network, sum, inputs, whole, error);
    }
    free(name);
    free(sum);
    return code;
}

static int low_rank_insert_at(struct ivon_network *network, size_t index, enum low_rank_form form,
                              const struct low_rank_factors *factors, struct ivon_error *error)
{
    size_t made[2] = {NET_NONE, factors->scale}, rows = network->nodes[index].inputs[0];
    bool convolution = form == LOW_RANK_CONVOLUTION;
    int code = convolution
                   ? low_rank_convolve(network, index, factors, made, error)
                   : low_rank_multiply(network, rows, factors->a, factors->name, made, error);
    if (!code && factors->scale != NET_NONE)
        code = graph_append(network, "Mul", factors->name, made, 2, made, error);
    made[1] = factors->b;
    if (!code)
        code = convolution
                   ? graph_append(network, "Conv", factors->name, made, 2, made, error)
                   : low_rank_multiply(network, made[0], factors->b, factors->name, made, error);
    return code ? code : low_rank_add(network, index, made[0], factors->name, error);
}

int graph_low_rank_insert(struct ivon_network *network, size_t weight,
                          const struct low_rank_factors *factors, struct ivon_error *error)
{
    size_t *nodes = calloc(network->node_count + 1, sizeof *nodes);
    int code = nodes ? 0 : ivon_error_memory(error);
    struct low_rank_search search = {0};
    if (!code)
        search = low_rank_search(network, weight, nodes);
    for (size_t i = 0; i < search.count && !code; i++) {
        network->guards = network->nodes[nodes[i]].guards;
        network->guard_count = network->nodes[nodes[i]].guard_count;
        code = low_rank_insert_at(network, nodes[i], search.form, factors, error);
    }
    network->guards = NULL;
    network->guard_count = 0;
    free(nodes);
    return code;
}
