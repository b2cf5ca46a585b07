/* An ONNX file as a source. Elements stay where they are mapped, in the file or in those of its
   external data, but for those in protocol buffers' own lists of numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/io/suffix.h"
#include "formats/onnx/onnx.h"
#include "formats/onnx/weights.h"
#include "formats/posterior/parts.h"

struct onnx_source {
    struct mapped_file mapped;
    struct onnx_reader reader;
    struct onnx_place {
        const unsigned char *data;
        void *owned;    /* else null */
        ptrdiff_t file; /* of the reader's that the data lie in; -1: none */
        size_t size;    /* of an element */
    } * places;         /* of the source's tensors */
    size_t count;
    struct onnx_buffer graph;
};

static int onnx_source_read(void *self, size_t index, size_t first, size_t count, void *buffer,
                            struct ivon_error *error)
{
    (void)error;
    const struct onnx_source *source = self;
    size_t size = source->places[index].size;
    if (count)
        memcpy(buffer, source->places[index].data + first * size, count * size);
    return 0;
}

static const void *onnx_source_view(void *self, size_t index)
{
    const struct onnx_source *source = self;
    return source->places[index].data;
}

static void onnx_source_advise(void *self, size_t index, size_t first, size_t count, int advice)
{
    const struct onnx_source *source = self;
    const struct onnx_place *place = &source->places[index];
    const struct mapped_file *file = place->file < 0 ? &source->mapped
                                                     : &source->reader.files[place->file].mapped;
    if (place->owned || !place->data || place->data == source->graph.data)
        return;
    mapped_advise(file, (uint64_t)(place->data - file->data) + first * place->size,
                  count * place->size, advice);
}

static void onnx_source_close(void *self)
{
    struct onnx_source *source = self;
    for (size_t i = 0; i < source->count; i++)
        free(source->places[i].owned);
    free(source->places);
    free(source->graph.data);
    onnx_reader_release(&source->reader);
    mapped_close(&source->mapped);
    free(source);
}

/* The elements of a weight. */

static int onnx_source_find_elements(struct onnx_source *source, const char *name,
                                     const struct onnx_weight *weight, enum ivon_dtype dtype,
                                     size_t count, struct onnx_place *place,
                                     struct ivon_error *error)
{
    struct onnx_elements elements = {0};
    Onnx__TensorProto *proto = NULL;
    size_t bytes = count * ivon_dtype_size(dtype);
    if (weight->tensor.in_place && weight->tensor.raw.size == bytes) {
        place->data = weight->tensor.raw.data;
        return 0;
    }
    int code = onnx_unpack_tensor(&proto, source->reader.path, weight->message, error);
    if (!code)
        code = onnx_find_elements(&source->reader, name, proto, dtype, count, &elements, error);
    if (!code && elements.file) {
        place->file = elements.file - source->reader.files;
        place->data = elements.bytes;
    } else if (!code) {
        place->owned = elements.owned ? elements.owned : malloc(bytes + 1);
        if (!place->owned)
            code = ivon_error_memory(error);
        else if (!elements.owned && bytes)
            memcpy(place->owned, elements.bytes, bytes);
        place->data = place->owned;
    }
    if (proto)
        onnx__tensor_proto__free_unpacked(proto, NULL);
    return code;
}

/* An extent that is negative, or too many elements for memory. */
static int onnx_source_refuse_shape(const struct onnx_source *source, const char *name,
                                    struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s': its shape is none that memory can hold",
                          source->reader.path, name);
}

/* Returns whether −∞ is among the elements, as in a mask that is added to scores: that is no
   weight, though it has the type and the shape of one. Weights of a training that failed have ∞ or
   NaN, too, and have to be refused as weights. All elements are looked at: a mask may begin with
   rows that see everything. */
static bool onnx_source_is_mask(const struct onnx_place *place, enum ivon_dtype dtype, size_t count)
{
    enum { PIECE = 1024 };
    double stored[PIECE], values[PIECE]; /* `stored` for its alignment */
    size_t size = ivon_dtype_size(dtype);
    bool masked = false;
    for (size_t first = 0; first < count; first += PIECE) {
        size_t piece = count - first < PIECE ? count - first : PIECE;
        bool finite = true, infinite = false;
        memcpy(stored, (const char *)place->data + first * size, piece * size);
        ivon_dtype_to_f64(values, stored, dtype, piece);
        for (size_t i = 0; i < piece; i++) {
            finite &= values[i] < INFINITY;
            infinite |= values[i] == -INFINITY;
        }
        if (!finite)
            return false;
        masked |= infinite;
    }
    return masked;
}

static int onnx_source_add_weight(struct onnx_source *source, const struct onnx_weight *weight,
                                  const struct parts_file *parts, struct tensor_list *tensors,
                                  struct ivon_error *error)
{
    const struct onnx_description *found = &weight->tensor;
    struct ivon_tensor tensor = {.dtype = IVON_U8, .rank = found->rank};
    struct onnx_place place = {.file = -1};
    char how[64];
    int code = 0;
    const struct onnx_span own = onnx_tensor_name(weight->name);
    char *name = strndup((const char *)own.data, own.size);
    if (!name)
        return ivon_error_memory(error);
    if (weight->unread) {
        bool known = found->rank <= IVON_RANK_MAX;
        snprintf(how, sizeof how, "%s%s", onnx_type_name(found->data_type),
                 known ? "" : " of more than 8 dimensions");
        tensor.stored_as = how;
        tensor.rank = known ? found->rank : -1;
        tensor.count = found->in_place ? found->raw.size : 0;
        place.data = found->raw.data;
    } else {
        onnx_stored_dtype(found->data_type, &tensor.dtype);
        if (!tensor_shape_count(found->rank, found->shape, ivon_dtype_size(tensor.dtype),
                                &tensor.count))
            code = onnx_source_refuse_shape(source, name, error);
        if (!code)
            code = onnx_source_find_elements(source, name, weight, tensor.dtype, tensor.count,
                                             &place, error);
    }
    memcpy(tensor.shape, found->shape, sizeof tensor.shape);
    place.size = ivon_dtype_size(tensor.dtype);
    source->places[source->count++] = place;
    if (!code)
        code = parts_append(parts, tensors, name, &tensor, error);
    bool buffer = weight->statistic ||
                  (!code && !weight->unread && ivon_dtype_is_float(tensor.dtype) &&
                   onnx_source_is_mask(&place, tensor.dtype,
                                       tensors->items[tensors->count - 1].count));
    if (!code && buffer && tensors->items[tensors->count - 1].part == IVON_MEAN)
        tensors->items[tensors->count - 1].part = IVON_BUFFER;
    free(name);
    return code;
}

/* The graph without its weights. */

/* Appends an input of the type and shape of a weight. */
static void onnx_source_append_input(struct onnx_buffer *graph, const struct onnx_weight *weight)
{
    struct onnx_buffer shape = {0}, tensor = {0}, type = {0}, value = {0};
    for (int i = 0; i < weight->tensor.rank; i++) {
        struct onnx_buffer extent = {0};
        onnx_buffer_number(&extent, ONNX_EXTENT_VALUE, (uint64_t)weight->tensor.shape[i]);
        onnx_buffer_message(&shape, ONNX_SHAPE_EXTENT, &extent);
    }
    onnx_buffer_number(&tensor, ONNX_TENSOR_TYPE_ELEMENTS, (uint64_t)weight->tensor.data_type);
    onnx_buffer_message(&tensor, ONNX_TENSOR_TYPE_SHAPE, &shape);
    onnx_buffer_message(&type, ONNX_TYPE_TENSOR, &tensor);
    onnx_buffer_bytes(&value, ONNX_VALUE_NAME, weight->name.data, weight->name.size);
    onnx_buffer_message(&value, ONNX_VALUE_TYPE, &type);
    onnx_buffer_message(graph, ONNX_GRAPH_INPUT, &value);
}

/* Appends an initializer whose data are external, with its elements in it, so that the graph needs
   no other file; as it is, if its type is not read. */
static int onnx_source_append_external(struct onnx_source *source, struct onnx_buffer *graph,
                                       const struct onnx_field *initializer,
                                       const struct onnx_description *tensor,
                                       struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(initializer->bytes);
    struct onnx_elements elements = {0};
    struct onnx_buffer copy = {0};
    struct onnx_field field;
    enum ivon_dtype dtype;
    size_t count;
    Onnx__TensorProto *proto = NULL;
    if (!onnx_stored_dtype(tensor->data_type, &dtype) || tensor->rank > IVON_RANK_MAX ||
        !tensor_shape_count(tensor->rank, tensor->shape, ivon_dtype_size(dtype), &count)) {
        onnx_buffer_append(graph, initializer->whole.data, initializer->whole.size);
        return 0;
    }
    int code = onnx_unpack_tensor(&proto, source->reader.path, initializer->bytes, error);
    if (!code)
        code = onnx_find_elements(&source->reader, proto->name ? proto->name : "", proto, dtype,
                                  count, &elements, error);
    while (!code && onnx_fields_next(&fields, &field))
        if (field.number != ONNX_TENSOR_EXTERNAL_DATA &&
            field.number != ONNX_TENSOR_DATA_LOCATION && field.number != ONNX_TENSOR_RAW_DATA)
            onnx_buffer_append(&copy, field.whole.data, field.whole.size);
    if (!code)
        onnx_buffer_bytes(&copy, ONNX_TENSOR_RAW_DATA, elements.bytes,
                          count * ivon_dtype_size(dtype));
    onnx_buffer_message(graph, ONNX_GRAPH_INITIALIZER, &copy);
    if (proto)
        onnx__tensor_proto__free_unpacked(proto, NULL);
    return code;
}

static bool onnx_source_takes(const struct onnx_weight *item)
{
    return onnx_is_weight(item) && !item->unread;
}

static int onnx_source_strip_graph(struct onnx_source *source, const struct onnx_weights *weights,
                                   struct onnx_span message, struct onnx_buffer *graph,
                                   struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(message);
    struct onnx_field field;
    size_t next = 0;
    int code = 0;
    while (!code && onnx_fields_next(&fields, &field)) {
        const struct onnx_weight *item = next < weights->count &&
                                                 weights->items[next].field == field.whole.data
                                             ? &weights->items[next++]
                                             : NULL;
        struct onnx_description tensor = {0};
        if (item && onnx_source_takes(item))
            continue;
        if (onnx_field_is(&field, ONNX_GRAPH_INITIALIZER))
            onnx_describe(field.bytes, &tensor);
        if (tensor.external)
            code = onnx_source_append_external(source, graph, &field, &tensor, error);
        else
            onnx_buffer_append(graph, field.whole.data, field.whole.size);
    }
    for (size_t i = 0; i < weights->count; i++)
        if (onnx_source_takes(&weights->items[i]) && !weights->items[i].input)
            onnx_source_append_input(graph, &weights->items[i]);
    return code;
}

static int onnx_source_add_graph(struct onnx_source *source, const struct onnx_weights *weights,
                                 struct onnx_span model, struct tensor_list *tensors,
                                 struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(model);
    struct onnx_buffer graph = {0};
    struct onnx_field field;
    int code = 0;
    while (!code && onnx_fields_next(&fields, &field)) {
        if (!onnx_field_is(&field, ONNX_MODEL_GRAPH)) {
            onnx_buffer_append(&source->graph, field.whole.data, field.whole.size);
            continue;
        }
        code = onnx_source_strip_graph(source, weights, field.bytes, &graph, error);
        onnx_buffer_message(&source->graph, ONNX_MODEL_GRAPH, &graph);
    }
    if (!code && source->graph.exhausted)
        code = ivon_error_memory(error);
    const struct ivon_tensor tensor = {.name = ivon_part_name(IVON_GRAPH),
                                       .part = IVON_GRAPH,
                                       .dtype = IVON_U8,
                                       .rank = 1,
                                       .shape = {(int64_t)source->graph.size},
                                       .ess = NAN,
                                       .weight_decay = NAN};
    source->places[source->count++] = (struct onnx_place){source->graph.data, NULL, -1, 1};
    return code ? code : tensor_list_append(tensors, &tensor, error);
}

/* The header. */

/* Two words, or the one that is not empty, as a string; to be freed. */
static char *onnx_source_text(struct onnx_span a, struct onnx_span b)
{
    struct onnx_buffer text = {0};
    onnx_buffer_append(&text, a.data, a.size);
    onnx_buffer_append(&text, " ", a.size && b.size);
    onnx_buffer_append(&text, b.data, b.size);
    onnx_buffer_append(&text, "", 1);
    if (text.exhausted)
        free(text.data);
    return text.exhausted ? NULL : (char *)text.data;
}

/* Names the maker of the file as its metadata do, or else its producer. */
static int onnx_source_read_header(struct onnx_span model, struct ivon_header *header,
                                   struct ivon_error *error)
{
    struct onnx_fields fields = onnx_fields_of(model);
    struct onnx_field field;
    struct onnx_span producer = {0}, version = {0}, creator = {0}, provenance = {0};
    while (onnx_fields_next(&fields, &field)) {
        struct onnx_span key = {0}, value = {0};
        if (onnx_field_is(&field, ONNX_MODEL_PRODUCER_NAME))
            producer = field.bytes;
        else if (onnx_field_is(&field, ONNX_MODEL_PRODUCER_VERSION))
            version = field.bytes;
        else if (onnx_field_is(&field, ONNX_MODEL_METADATA))
            onnx_describe_entry(field.bytes, &key, &value);
        if (onnx_span_is(key, "creator"))
            creator = value;
        else if (onnx_span_is(key, "provenance"))
            provenance = value;
    }
    if (creator.size)
        producer = creator;
    if (creator.size)
        version = (struct onnx_span){0};
    header->creator = producer.size ? onnx_source_text(producer, version) : NULL;
    header->provenance = provenance.size ? onnx_source_text(provenance, (struct onnx_span){0})
                                         : NULL;
    if ((producer.size && !header->creator) || (provenance.size && !header->provenance))
        return ivon_error_memory(error);
    return 0;
}

/* Says which initializers would be weights but for their names. */
static void onnx_source_warn(const struct onnx_weights *weights, char *text, size_t size,
                             struct ivon_header *header)
{
    const struct onnx_weight *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < weights->count; i++) {
        const struct onnx_weight *item = &weights->items[i];
        if (!item->nameless || !item->initializer || item->setting)
            continue;
        first = first ? first : item;
        count++;
    }
    if (!count)
        return;
    snprintf(text, size,
             "%zu initializers stay in the graph, since no tensor can have their names, '%.*s' the "
             "first",
             count, first->name.size < 200 ? (int)first->name.size : 200,
             (const char *)first->name.data);
    ivon_text_clean(text);
    header->warning = text;
}

/* The source. */

static const struct ivon_source_class class = {.read = onnx_source_read,
                                               .view = onnx_source_view,
                                               .advise = onnx_source_advise,
                                               .close = onnx_source_close};

static int onnx_source_list(struct onnx_source *source, const struct onnx_weights *weights,
                            struct onnx_span model, const struct parts_file *parts,
                            struct tensor_list *tensors, struct ivon_error *error)
{
    int code = 0;
    source->places = calloc(weights->count + 1, sizeof *source->places);
    if (!source->places)
        return ivon_error_memory(error);
    for (size_t i = 0; i < weights->count && !code; i++)
        if (onnx_is_weight(&weights->items[i]))
            code = onnx_source_add_weight(source, &weights->items[i], parts, tensors, error);
    return code ? code : onnx_source_add_graph(source, weights, model, tensors, error);
}

/* Makes the source, whose `self` stays the caller's on failure. */
static int onnx_source_make(struct ivon_source **out, struct onnx_source *source,
                            const struct ivon_open_options *options, struct ivon_error *error)
{
    const char *path = source->mapped.path;
    const struct onnx_span model = {source->mapped.data, (size_t)source->mapped.size};
    const struct parts_file parts = {.path = path, .options = options};
    struct ivon_header header = ivon_header_empty();
    struct onnx_weights weights = {0};
    struct tensor_list tensors = {0};
    char warning[512];
    int code = onnx_check(path, model.data, model.size, error);
    if (!code)
        code = onnx_weights_find(&weights, path, model, error);
    if (!code)
        code = onnx_source_list(source, &weights, model, &parts, &tensors, error);
    if (!code)
        code = parts_finish(&parts, &tensors, &header, error);
    if (!code)
        code = onnx_source_read_header(model, &header, error);
    if (!code) {
        onnx_source_warn(&weights, warning, sizeof warning, &header);
        code = ivon_source_new(out, &class, source, path, &header, &tensors, error);
    }
    free((char *)header.creator);
    free((char *)header.provenance);
    onnx_weights_release(&weights);
    tensor_list_release(&tensors);
    return code;
}

bool onnx_recognise(const struct mapped_file *file)
{
    /* It begins with its version, field 1, a number; one of fields 2 to 8 of a model follows. */
    static const char tags[] = "\x12\x1a\x22\x28\x32\x3a\x42";
    bool begins = file->size > 2 && file->data[0] == 0x08 && file->data[1] < 0x80 &&
                  memchr(tags, file->data[2], sizeof tags - 1);
    const char *const suffixes[] = {".onnx", NULL};
    return begins || suffix_is_one_of(file->path, suffixes);
}

int onnx_open(struct ivon_source **out, struct mapped_file *mapped,
              const struct ivon_open_options *options, struct ivon_error *error)
{
    struct onnx_source *source = calloc(1, sizeof *source);
    if (!source) {
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    source->mapped = *mapped;
    *mapped = (struct mapped_file){0};
    source->reader = (struct onnx_reader){.path = source->mapped.path,
                                          .directory = onnx_directory_of(source->mapped.path)};
    int code = onnx_source_make(out, source, options, error);
    if (code)
        onnx_source_close(source);
    return code;
}
