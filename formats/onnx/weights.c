#include "formats/onnx/weights.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "net/graph/operator.h"

enum { WEIGHTS_MAX = 1 << 18, CHAIN_MAX = 64 /* Identity nodes behind one another */ };

static void add_extent(struct onnx_description *tensor, int64_t extent)
{
    if (tensor->rank < IVON_RANK_MAX)
        tensor->shape[tensor->rank] = extent;
    if (tensor->rank <= IVON_RANK_MAX)
        tensor->rank++;
}

/* Extents in one field, as lists of numbers may be. */
static void add_extents(struct onnx_description *tensor, struct onnx_span packed)
{
    uint64_t extent = 0;
    int bits = 0;
    for (size_t i = 0; i < packed.size; i++) {
        if (bits < 64)
            extent |= (uint64_t)(packed.data[i] & 0x7f) << bits;
        bits += 7;
        if (packed.data[i] & 0x80)
            continue;
        add_extent(tensor, (int64_t)extent);
        extent = 0;
        bits = 0;
    }
}

void onnx_describe(struct onnx_span message, struct onnx_description *tensor)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    bool raw = false, segment = false;
    *tensor = (struct onnx_description){0};
    while (onnx_fields_next(&fields, &field)) {
        bool number = field.kind == ONNX_WIRE_NUMBER;
        if (field.number == ONNX_TENSOR_DIMS && number)
            add_extent(tensor, (int64_t)field.value);
        else if (onnx_field_is(&field, ONNX_TENSOR_DIMS))
            add_extents(tensor, field.bytes);
        else if (field.number == ONNX_TENSOR_DATA_TYPE && number)
            tensor->data_type = (int32_t)field.value;
        else if (field.number == ONNX_TENSOR_DATA_LOCATION && number)
            tensor->external = field.value == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
        else if (onnx_field_is(&field, ONNX_TENSOR_NAME))
            tensor->name = field.bytes;
        else if (onnx_field_is(&field, ONNX_TENSOR_SEGMENT))
            segment = true;
        else if (onnx_field_is(&field, ONNX_TENSOR_RAW_DATA)) {
            tensor->raw = field.bytes;
            raw = true;
        }
    }
    tensor->in_place = raw && !segment && !tensor->external;
}

/* The tensor of an attribute `value`, if it is one. */
static void describe_value(struct onnx_span message, struct onnx_node *node)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    struct onnx_span tensor = {0}, name = {0};
    while (onnx_fields_next(&fields, &field)) {
        if (onnx_field_is(&field, ONNX_ATTRIBUTE_NAME))
            name = field.bytes;
        else if (onnx_field_is(&field, ONNX_ATTRIBUTE_TENSOR))
            tensor = field.bytes;
    }
    if (onnx_span_is(name, "value"))
        node->value = tensor;
}

void onnx_describe_node(struct onnx_span message, struct onnx_node *node)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    *node = (struct onnx_node){.own_domain = true};
    while (onnx_fields_next(&fields, &field)) {
        if (onnx_field_is(&field, ONNX_NODE_OPERATOR)) {
            node->op = field.bytes;
        } else if (onnx_field_is(&field, ONNX_NODE_DOMAIN)) {
            node->own_domain = !field.bytes.size || onnx_span_is(field.bytes, "ai.onnx");
        } else if (onnx_field_is(&field, ONNX_NODE_OUTPUT)) {
            node->output = field.bytes;
            node->output_count++;
        } else if (onnx_field_is(&field, ONNX_NODE_ATTRIBUTE)) {
            describe_value(field.bytes, node);
        }
    }
}

static int weights_append(struct onnx_weights *weights, size_t *capacity, const char *path,
                          const struct onnx_weight *item, struct ivon_error *error)
{
    if (weights->count == WEIGHTS_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: more than %d tensors", path,
                              WEIGHTS_MAX);
    if (weights->count == *capacity) {
        size_t larger = *capacity ? 2 * *capacity : 64;
        struct onnx_weight *grown = realloc(weights->items, larger * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        weights->items = grown;
        *capacity = larger;
    }
    weights->items[weights->count++] = *item;
    return 0;
}

/* Returns whether a tensor has the type and the shape of a weight. */
static bool weights_fit(const struct onnx_description *tensor, bool initializer)
{
    size_t count;
    if (!onnx_type_is_float(tensor->data_type) || !tensor->rank)
        return false;
    if (tensor->rank > IVON_RANK_MAX ||
        !tensor_shape_count(tensor->rank, tensor->shape, sizeof(double), &count))
        return initializer;
    return count > (initializer ? 0 : 1);
}

struct onnx_span onnx_tensor_name(struct onnx_span name)
{
    if (name.size < 2 || name.data[0] != '/')
        return name;
    return (struct onnx_span){name.data + 1, name.size - 1};
}

/* Returns whether a checkpoint's tensor can have the name. */
static bool weights_named(struct onnx_span name)
{
    char *text = strndup((const char *)name.data, name.size);
    bool valid = text && strlen(text) == name.size && tensor_name_valid(text);
    free(text);
    return valid;
}

/* Adds what a field of the graph may have of weights. */
static int weights_add(struct onnx_weights *weights, size_t *capacity, const char *path,
                       const struct onnx_field *field, struct ivon_error *error)
{
    struct onnx_weight item = {.field = field->whole.data};
    struct onnx_node node;
    if (onnx_field_is(field, ONNX_GRAPH_INITIALIZER)) {
        item.initializer = true;
        item.message = field->bytes;
        onnx_describe(item.message, &item.tensor);
        item.name = item.tensor.name;
    } else if (onnx_field_is(field, ONNX_GRAPH_NODE)) {
        struct onnx_fields inputs = onnx_fields_of(field->bytes);
        struct onnx_field input;
        onnx_describe_node(field->bytes, &node);
        if (!node.own_domain || node.output_count != 1)
            return 0;
        item.name = node.output;
        if (onnx_span_is(node.op, "Constant") && node.value.size) {
            item.message = node.value;
            onnx_describe(item.message, &item.tensor);
        } else if (onnx_span_is(node.op, "Identity")) {
            while (!item.from.size && onnx_fields_next(&inputs, &input))
                if (onnx_field_is(&input, ONNX_NODE_INPUT))
                    item.from = input.bytes;
        }
    }
    enum ivon_dtype dtype;
    if (!item.name.size || (!item.from.size && !weights_fit(&item.tensor, item.initializer)))
        return 0;
    item.unread = item.tensor.rank > IVON_RANK_MAX ||
                  !onnx_stored_dtype(item.tensor.data_type, &dtype);
    struct onnx_span name = item.initializer ? onnx_tensor_name(item.name) : item.name;
    item.nameless = !item.from.size && !weights_named(name);
    return weights_append(weights, capacity, path, &item, error);
}

static int weights_compare(const void *a, const void *b)
{
    const struct onnx_weight *const *left = a, *const *right = b;
    return onnx_span_compare((*left)->name, (*right)->name);
}

static struct onnx_weight *weights_lookup(const struct onnx_weights *weights, struct onnx_span name)
{
    size_t low = 0, high = weights->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = onnx_span_compare(weights->by_name[middle]->name, name);
        if (!order)
            return weights->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The tensor that a value is, directly or through Identity nodes; or null. */
static struct onnx_weight *weights_behind(const struct onnx_weights *weights, struct onnx_span name)
{
    struct onnx_weight *item = weights_lookup(weights, name);
    for (int i = 0; item && item->from.size && i < CHAIN_MAX; i++)
        item = weights_lookup(weights, item->from);
    return item && !item->from.size ? item : NULL;
}

/* The row of a node's operator, in its newest version; null if there is none. */
static const struct net_operator *weights_row(const struct onnx_node *node)
{
    char name[64];
    if (!node->own_domain || node->op.size >= sizeof name)
        return NULL;
    if (node->op.size)
        memcpy(name, node->op.data, node->op.size);
    name[node->op.size] = '\0';
    return net_operator_find(NULL, name, NET_OPSET_MOST);
}

/* Marks the tensors that a node does not take as weights. */
static void weights_mark_uses(const struct onnx_weights *weights, struct onnx_span message)
{
    enum { STATISTICS = 1 << 3 | 1 << 4 }; /* of a NET_BATCH_NORM */
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    struct onnx_node node;
    size_t input = 0;
    onnx_describe_node(message, &node);
    const struct net_operator *row = weights_row(&node);
    if (!row)
        return;
    unsigned settings = row->planned | row->settings;
    unsigned statistics = row->flags & NET_BATCH_NORM ? STATISTICS : 0;
    while (input < 8 && onnx_fields_next(&fields, &field)) {
        if (!onnx_field_is(&field, ONNX_NODE_INPUT))
            continue;
        unsigned bit = 1U << input++;
        struct onnx_weight *item = (settings | statistics) & bit
                                       ? weights_behind(weights, field.bytes)
                                       : NULL;
        if (item && settings & bit)
            item->setting = true;
        else if (item)
            item->statistic = true;
    }
}

void onnx_describe_entry(struct onnx_span message, struct onnx_span *key, struct onnx_span *value)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    while (onnx_fields_next(&fields, &field)) {
        if (onnx_field_is(&field, ONNX_ENTRY_KEY))
            *key = field.bytes;
        else if (onnx_field_is(&field, ONNX_ENTRY_VALUE))
            *value = field.bytes;
    }
}

struct onnx_span onnx_value_name(struct onnx_span message)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    struct onnx_span name = {0};
    while (onnx_fields_next(&fields, &field))
        if (onnx_field_is(&field, ONNX_VALUE_NAME))
            name = field.bytes;
    return name;
}

static void weights_mark_input(const struct onnx_weights *weights, struct onnx_span message)
{
    struct onnx_weight *item = weights_lookup(weights, onnx_value_name(message));
    if (item)
        item->input = true;
}

/* Goes over the graph: first lists its tensors, then marks them by what is done with them. */
static int weights_walk(struct onnx_weights *weights, const char *path, struct onnx_span model,
                        bool listed, struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(model);
    struct onnx_field graph, field;
    size_t capacity = 0, graphs = 0;
    int code = 0;
    while (!code && onnx_fields_next(&fields, &graph)) {
        if (!onnx_field_is(&graph, ONNX_MODEL_GRAPH))
            continue;
        struct onnx_fields inside = onnx_fields_of(graph.bytes);
        while (!code && onnx_fields_next(&inside, &field)) {
            if (!listed)
                code = weights_add(weights, &capacity, path, &field, error);
            else if (onnx_field_is(&field, ONNX_GRAPH_NODE))
                weights_mark_uses(weights, field.bytes);
            else if (onnx_field_is(&field, ONNX_GRAPH_INPUT))
                weights_mark_input(weights, field.bytes);
        }
        graphs++;
    }
    if (!code && graphs != 1)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: holds %s, expected an ONNX file", path,
                              graphs ? "more than one graph" : "no graph");
    return code;
}

int onnx_weights_find(struct onnx_weights *weights, const char *path, struct onnx_span model,
                      struct ivon_error *error)
{
    *weights = (struct onnx_weights){0};
    int code = weights_walk(weights, path, model, false, error);
    if (code)
        return code;
    weights->by_name = calloc(weights->count + 1, sizeof(struct onnx_weight *));
    if (!weights->by_name)
        return ivon_error_memory(error);
    for (size_t i = 0; i < weights->count; i++)
        weights->by_name[i] = &weights->items[i];
    qsort(weights->by_name, weights->count, sizeof(struct onnx_weight *), weights_compare);
    for (size_t i = 0; i < weights->count; i++) {
        struct onnx_weight *item = &weights->items[i];
        struct onnx_span name = onnx_tensor_name(item->name);
        item->nameless |= name.size != item->name.size && weights_lookup(weights, name);
    }
    return weights_walk(weights, path, model, true, error);
}

void onnx_weights_release(struct onnx_weights *weights)
{
    free(weights->items);
    free(weights->by_name);
    *weights = (struct onnx_weights){0};
}

bool onnx_is_weight(const struct onnx_weight *item)
{
    return !item->from.size && !item->setting && !item->nameless;
}
