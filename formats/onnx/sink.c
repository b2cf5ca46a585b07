/*
 * Writing ONNX files: a graph with the tensors of a checkpoint as its initializers.
 *
 * The graph is known only when the last element was written, and is not to lie in memory with all
 * of them. So the initializers come first in the file, at places that follow from their shapes;
 * the rest of the graph, and of the model, is appended at the end, and then what stands before the
 * initializers is known, too:
 *
 *     version | graph: tag, length | initializer ... | rest of the graph | rest of the model
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/io/atomic.h"
#include "formats/onnx/onnx.h"
#include "formats/onnx/weights.h"
#include "formats/posterior/parts.h"
#include "formats/posterior/stored_tensor.h"

enum {
    IR_VERSION_LEAST = 4, /* the first in which initializers are no inputs */
    IR_VERSION_MOST = 127,
    FRONT = 2 + 1 + 5, /* bytes before the initializers; the length takes all it may */
};

struct onnx_sink {
    struct atomic_file file;
    uint64_t end;   /* of the initializers */
    uint8_t *graph; /* the model that the tensors go into, as it is written */
    size_t graph_size;
    size_t graph_index; /* among the tensors */
    char *creator, *provenance;
    size_t count;
    struct onnx_placed {
        char *name;
        enum ivon_dtype dtype;
        bool in_graph; /* the graph has a place for it */
        struct stored_tensor stored;
    } * *by_name, tensors[];
};

static int onnx_sink_write(void *self, size_t tensor, size_t first, size_t count,
                           const void *buffer, struct ivon_error *error)
{
    struct onnx_sink *sink = self;
    const struct stored_tensor *place = tensor < sink->count ? &sink->tensors[tensor].stored : NULL;
    bool graph = tensor == sink->graph_index;
    if (!graph || first > sink->graph_size || count > sink->graph_size - first)
        return stored_tensor_write(&sink->file, sink->file.path, graph ? NULL : place, tensor,
                                   first, count, buffer, error);
    if (count)
        memcpy(sink->graph + first, buffer, count);
    return 0;
}

static void onnx_sink_close(void *self)
{
    struct onnx_sink *sink = self;
    atomic_close(&sink->file);
    for (size_t i = 0; i < sink->count; i++)
        free(sink->tensors[i].name);
    free(sink->by_name);
    free(sink->graph);
    free(sink->creator);
    free(sink->provenance);
    free(sink);
}

/* The rest of the graph. */

static struct onnx_placed *onnx_sink_find(const struct onnx_sink *sink, struct onnx_span name)
{
    size_t low = 0, high = sink->count - 1; /* all but the graph */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *found = sink->by_name[middle]->name;
        int order = onnx_span_compare((struct onnx_span){(const uint8_t *)found, strlen(found)},
                                      name);
        if (!order)
            return sink->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The data type that an input declares; 0 if it does not. */
static int32_t onnx_sink_input_type(struct onnx_span message)
{
    const uint32_t path[] = {ONNX_VALUE_TYPE, ONNX_TYPE_TENSOR};
    struct onnx_field field;
    for (size_t depth = 0; depth < 2; depth++) {
        struct onnx_fields fields = onnx_fields_of(message);
        message = (struct onnx_span){0};
        while (onnx_fields_next(&fields, &field))
            if (onnx_field_is(&field, path[depth]))
                message = field.bytes;
    }
    struct onnx_fields fields = onnx_fields_of(message);
    while (onnx_fields_next(&fields, &field))
        if (field.number == ONNX_TENSOR_TYPE_ELEMENTS && field.kind == ONNX_WIRE_NUMBER)
            return (int32_t)field.value;
    return 0;
}

/* Gives a tensor its place. The graph's nodes are for elements of one type. */
static int onnx_sink_place(const struct onnx_sink *sink, struct onnx_placed *placed, int32_t type,
                           struct ivon_error *error)
{
    placed->in_graph = true;
    if (!type || type == onnx_data_type(placed->dtype))
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: tensor '%s' has elements of type %s, and the graph takes %s there: "
                          "convert them",
                          sink->file.path, placed->name, ivon_dtype_name(placed->dtype),
                          onnx_type_name(type));
}

/* Gives an initializer the name, too, that the graph has for it: by an Identity node. */
static void onnx_sink_rename(struct onnx_buffer *rest, struct onnx_span name)
{
    static const char identity[] = "Identity";
    struct onnx_buffer node = {0};
    const struct onnx_span own = onnx_tensor_name(name);
    onnx_buffer_bytes(&node, ONNX_NODE_INPUT, own.data, own.size);
    onnx_buffer_bytes(&node, ONNX_NODE_OUTPUT, name.data, name.size);
    onnx_buffer_bytes(&node, ONNX_NODE_OPERATOR, identity, sizeof identity - 1);
    onnx_buffer_message(rest, ONNX_GRAPH_NODE, &node);
}

/* Sets *replaced to the name of what a tensor takes the place of in a field of the graph; else it
   is empty, and the field stays. */
static int onnx_sink_take_field(const struct onnx_sink *sink, const struct onnx_field *field,
                                struct onnx_span *replaced, struct ivon_error *error)
{
    struct onnx_description tensor = {0};
    struct onnx_placed *placed = NULL;
    struct onnx_node node;
    int32_t type = 0;
    if (onnx_field_is(field, ONNX_GRAPH_INITIALIZER)) {
        onnx_describe(field->bytes, &tensor);
        *replaced = tensor.name;
        placed = onnx_sink_find(sink, onnx_tensor_name(tensor.name));
        type = tensor.data_type;
    } else if (onnx_field_is(field, ONNX_GRAPH_INPUT)) {
        *replaced = onnx_value_name(field->bytes);
        placed = onnx_sink_find(sink, onnx_tensor_name(*replaced));
        type = placed ? onnx_sink_input_type(field->bytes) : 0;
    } else if (onnx_field_is(field, ONNX_GRAPH_NODE)) {
        onnx_describe_node(field->bytes, &node);
        bool names = node.own_domain && node.output_count == 1 &&
                     (onnx_span_is(node.op, "Constant") || onnx_span_is(node.op, "Identity"));
        *replaced = node.output;
        placed = names ? onnx_sink_find(sink, onnx_tensor_name(node.output)) : NULL;
        onnx_describe(node.value, &tensor);
        type = tensor.data_type;
    }
    if (!placed)
        *replaced = (struct onnx_span){0};
    else
        return onnx_sink_place(sink, placed, type, error);
    return !tensor.external ? 0
                            : ivon_error_set(error, IVON_ERROR_DATA,
                                             "%s: the graph has '%.*s' in a file of external data",
                                             sink->file.path, (int)tensor.name.size,
                                             (const char *)tensor.name.data);
}

static int onnx_sink_take_graph(const struct onnx_sink *sink, struct onnx_span graph,
                                struct onnx_buffer *rest, struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(graph);
    struct onnx_field field;
    int code = 0;
    while (!code && onnx_fields_next(&fields, &field)) {
        struct onnx_span replaced = {0};
        code = onnx_sink_take_field(sink, &field, &replaced, error);
        if (!code && !replaced.size)
            onnx_buffer_append(rest, field.whole.data, field.whole.size);
        else if (!code && replaced.size != onnx_tensor_name(replaced).size)
            onnx_sink_rename(rest, replaced);
    }
    for (size_t i = 0; i < sink->count && !code; i++)
        if (i != sink->graph_index && !sink->tensors[i].in_graph)
            code = ivon_error_hint(error, IVON_HINT_EXCLUSION,
                                   ivon_error_set(error, IVON_ERROR_DATA,
                                                  "%s: the graph has no place for the tensor '%s'",
                                                  sink->file.path, sink->tensors[i].name));
    return code;
}

/* The rest of the model. */

static void onnx_sink_put_metadata(struct onnx_buffer *rest, const char *key, const char *value)
{
    struct onnx_buffer entry = {0};
    if (!value)
        return;
    onnx_buffer_bytes(&entry, ONNX_ENTRY_KEY, key, strlen(key));
    onnx_buffer_bytes(&entry, ONNX_ENTRY_VALUE, value, strlen(value));
    onnx_buffer_message(rest, ONNX_MODEL_METADATA, &entry);
}

/* Returns whether a field is metadata that the output has anew. */
static bool onnx_sink_replaces(const struct onnx_field *field)
{
    struct onnx_span key = {0}, value = {0};
    if (onnx_field_is(field, ONNX_MODEL_METADATA))
        onnx_describe_entry(field->bytes, &key, &value);
    return onnx_span_is(key, "creator") || onnx_span_is(key, "provenance");
}

/* Collects what follows the initializers; `graph_rest` of its bytes belong to the graph. */
static int onnx_sink_collect(const struct onnx_sink *sink, struct onnx_buffer *rest,
                             uint64_t *version, size_t *graph_rest, struct ivon_error *error)
{
    const struct onnx_span model = {sink->graph, sink->graph_size};
    struct onnx_fields fields = onnx_fields_of(model);
    struct onnx_field field;
    struct onnx_buffer graph = {0};
    int code = onnx_check(sink->file.path, model.data, model.size, error);
    size_t graphs = 0;
    *version = 0;
    while (!code && onnx_fields_next(&fields, &field)) {
        if (onnx_field_is(&field, ONNX_MODEL_GRAPH) && !graphs++)
            code = onnx_sink_take_graph(sink, field.bytes, &graph, error);
        else if (field.number == ONNX_MODEL_IR_VERSION && field.kind == ONNX_WIRE_NUMBER)
            *version = field.value;
        else if (!onnx_sink_replaces(&field))
            onnx_buffer_append(rest, field.whole.data, field.whole.size);
    }
    if (!code && graphs != 1)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: its graph is none, or several",
                              sink->file.path);
    if (!code && *version > IR_VERSION_MOST)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: its graph is of no known version",
                              sink->file.path);
    onnx_sink_put_metadata(rest, "creator", sink->creator);
    onnx_sink_put_metadata(rest, "provenance", sink->provenance);
    *graph_rest = graph.size;
    onnx_buffer_append(&graph, rest->data, rest->size);
    graph.exhausted |= rest->exhausted;
    free(rest->data);
    *rest = graph;
    return !code && rest->exhausted ? ivon_error_memory(error) : code;
}

/* The version, and the tag and the length of the graph, which is written with as many bytes as it
   may have. */
static int onnx_sink_write_front(struct onnx_sink *sink, uint64_t version, uint64_t graph_size,
                                 struct ivon_error *error)
{
    uint8_t front[FRONT] = {ONNX_MODEL_IR_VERSION << 3 | ONNX_WIRE_NUMBER, (uint8_t)version,
                            ONNX_MODEL_GRAPH << 3 | ONNX_WIRE_DELIMITED};
    for (int i = 0; i < 5; i++)
        front[3 + i] = (uint8_t)((graph_size >> (7 * i) & 0x7f) | (i < 4 ? 0x80 : 0));
    return atomic_write(&sink->file, 0, front, sizeof front, error);
}

static int onnx_sink_refuse_size(const char *path, uint64_t size, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: would have %.1f GB, an ONNX file has at most 2 GiB: write "
                          "safetensors, which can hold the graph, too",
                          path, (double)size / 1e9);
}

static int onnx_sink_commit(void *self, struct ivon_error *error)
{
    struct onnx_sink *sink = self;
    struct onnx_buffer rest = {0};
    uint64_t version;
    size_t graph_rest;
    int code = onnx_sink_collect(sink, &rest, &version, &graph_rest, error);
    if (!code && sink->end + rest.size > INT32_MAX)
        code = onnx_sink_refuse_size(sink->file.path, sink->end + rest.size, error);
    if (!code)
        code = atomic_write(&sink->file, sink->end, rest.data, rest.size, error);
    if (!code)
        code = onnx_sink_write_front(sink, version < IR_VERSION_LEAST ? IR_VERSION_LEAST : version,
                                     sink->end - FRONT + graph_rest, error);
    free(rest.data);
    return code ? code : atomic_commit(&sink->file, error);
}

/* Laying out. */

static int onnx_sink_refuse_part(const char *path, const struct ivon_tensor *tensor,
                                 struct ivon_error *error)
{
    if (tensor->part == IVON_OPAQUE)
        return parts_refuse_opaque(path, tensor, error);
    return ivon_error_set(
        error, IVON_ERROR_ARGUMENT,
        "%s: an ONNX file holds no %s, as '%s' has: write another format, and convert that", path,
        tensor->part == IVON_HESSIAN ? "Hessian" : ivon_part_name(tensor->part), tensor->name);
}

/* Writes an initializer but for its elements, and says where those go. */
static int onnx_sink_add(struct onnx_sink *sink, const struct ivon_tensor *tensor,
                         struct onnx_placed *placed, struct ivon_error *error)
{
    struct onnx_buffer inside = {0}, head = {0};
    size_t size = ivon_dtype_size(tensor->dtype);
    uint64_t bytes = (uint64_t)tensor->count * size;
    placed->name = strdup(tensor->name);
    placed->dtype = tensor->dtype;
    if (!placed->name)
        return ivon_error_memory(error);
    if (bytes > INT32_MAX)
        return onnx_sink_refuse_size(sink->file.path, bytes, error);
    for (int i = 0; i < tensor->rank; i++)
        onnx_buffer_number(&inside, ONNX_TENSOR_DIMS, (uint64_t)tensor->shape[i]);
    onnx_buffer_number(&inside, ONNX_TENSOR_DATA_TYPE, (uint64_t)onnx_data_type(tensor->dtype));
    onnx_buffer_bytes(&inside, ONNX_TENSOR_NAME, tensor->name, strlen(tensor->name));
    onnx_buffer_head(&inside, ONNX_TENSOR_RAW_DATA, bytes);
    onnx_buffer_head(&head, ONNX_GRAPH_INITIALIZER, inside.size + bytes);
    onnx_buffer_append(&head, inside.data, inside.size);
    int code = head.exhausted || inside.exhausted ? ivon_error_memory(error) : 0;
    if (!code)
        code = atomic_write(&sink->file, sink->end, head.data, head.size, error);
    placed->stored = (struct stored_tensor){sink->end + head.size, size, tensor->count};
    sink->end += head.size + bytes;
    if (!code && sink->end > INT32_MAX)
        code = onnx_sink_refuse_size(sink->file.path, sink->end, error);
    free(inside.data);
    free(head.data);
    return code;
}

static int onnx_sink_compare(const void *a, const void *b)
{
    const struct onnx_placed *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static int onnx_sink_sort(struct onnx_sink *sink, struct ivon_error *error)
{
    size_t count = 0;
    sink->by_name = calloc(sink->count, sizeof *sink->by_name);
    if (!sink->by_name)
        return ivon_error_memory(error);
    for (size_t i = 0; i < sink->count; i++)
        if (i != sink->graph_index)
            sink->by_name[count++] = &sink->tensors[i];
    qsort(sink->by_name, count, sizeof *sink->by_name, onnx_sink_compare);
    for (size_t i = 1; i < count; i++)
        if (strcmp(sink->by_name[i - 1]->name, sink->by_name[i]->name) == 0)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: tensor '%s' occurs twice",
                                  sink->file.path, sink->by_name[i]->name);
    return 0;
}

static int onnx_sink_lay_out(struct onnx_sink *sink, const struct ivon_header *header,
                             const struct ivon_tensor *tensors, struct ivon_error *error)
{
    int code = 0;
    sink->end = FRONT;
    sink->graph_index = sink->count;
    sink->creator = header->creator ? strdup(header->creator) : NULL;
    sink->provenance = header->provenance ? strdup(header->provenance) : NULL;
    if ((header->creator && !sink->creator) || (header->provenance && !sink->provenance))
        return ivon_error_memory(error);
    for (size_t i = 0; i < sink->count && !code; i++) {
        if (tensors[i].part == IVON_GRAPH)
            sink->graph_index = i;
        else if (tensors[i].part != IVON_MEAN && tensors[i].part != IVON_BUFFER)
            code = onnx_sink_refuse_part(sink->file.path, &tensors[i], error);
        else
            code = onnx_sink_add(sink, &tensors[i], &sink->tensors[i], error);
    }
    if (!code && sink->graph_index == sink->count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: there is no graph that the tensors could be put into",
                              sink->file.path);
    if (code)
        return code;
    sink->graph_size = tensors[sink->graph_index].count;
    sink->graph = calloc(1, sink->graph_size + 1);
    if (!sink->graph)
        return ivon_error_memory(error);
    code = onnx_sink_sort(sink, error);
    return code ? code : atomic_reserve(&sink->file, sink->end, error);
}

bool onnx_carries(const struct ivon_source *like, const struct ivon_tensor *tensor)
{
    (void)like;
    return tensor->part == IVON_MEAN || tensor->part == IVON_BUFFER || tensor->part == IVON_GRAPH;
}

int onnx_create(struct ivon_sink **out, const char *path, const struct ivon_header *header,
                const struct ivon_tensor *tensors, size_t tensor_count,
                const struct ivon_create_options *options, struct ivon_error *error)
{
    static const struct ivon_sink_class class = {
        .write = onnx_sink_write, .commit = onnx_sink_commit, .close = onnx_sink_close};
    struct onnx_sink *sink = calloc(1, sizeof *sink + tensor_count * sizeof sink->tensors[0]);
    if (!sink)
        return ivon_error_memory(error);
    int code = atomic_open(&sink->file, path, options->replace, error);
    if (code) {
        free(sink);
        return code;
    }
    sink->count = tensor_count;
    code = onnx_sink_lay_out(sink, header, tensors, error);
    if (!code)
        code = ivon_sink_new(out, &class, sink, error);
    if (code)
        onnx_sink_close(sink);
    return code;
}
