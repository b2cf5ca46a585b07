#include "bayes/structure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "core/json_members.h"
#include "core/stream.h"

enum {
    TEXT_MAX = 64 << 20,  /* bytes of the text */
    BLOCK_MAX = 1 << 17,  /* of what it says of one block */
    VALUES_MAX = 4 << 20, /* of the low-rank correction's numbers */
    OTHER_MAX = 1 << 20,  /* of any other member */
};

/* A structure while it is read. */
struct reading {
    struct structure *structure;
    struct ivon_source *source;
    const char *path;
    char *label; /* of the text, in messages */
    size_t block_capacity;
    bool opaque;     /* the source has opaque tensors */
    bool structural; /* it has a part that version 1 lacks */
    bool has_blocks; /* the text has the member */
};

/* Finds a tensor: *found is -1 where there is none. Fails where it is stored in a way that is not
   read here. */
static int structure_find(const struct reading *reading, enum ivon_part part, const char *name,
                          ptrdiff_t *found, struct ivon_error *error)
{
    *found = ivon_source_find(reading->source, part, name);
    return *found < 0 && reading->opaque
               ? ivon_source_refuse_opaque(reading->source, part, name, error)
               : 0;
}

/* Finds a tensor of a block and refuses one of another shape. */
static int structure_find_shaped(const struct reading *reading, enum ivon_part part,
                                 const char *name, struct ivon_tensor expected, ptrdiff_t *found,
                                 struct ivon_error *error)
{
    char has[256], needs[256];
    int code = structure_find(reading, part, name, found, error);
    if (code || *found < 0)
        return code;
    const struct ivon_tensor *tensor = ivon_source_tensor(reading->source, (size_t)*found);
    if (posterior_same_shape(tensor, &expected))
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s of '%s' has shape %s, expected %s",
                          reading->path, part == IVON_HESSIAN ? "Hessian" : ivon_part_name(part),
                          name, ivon_tensor_shape_text(tensor, has),
                          ivon_tensor_shape_text(&expected, needs));
}

static struct ivon_tensor structure_matrix(size_t rows, size_t columns)
{
    return (struct ivon_tensor){.rank = 2, .shape = {(int64_t)rows, (int64_t)columns}};
}

static struct ivon_tensor structure_vector(size_t count)
{
    return (struct ivon_tensor){.rank = 1, .shape = {(int64_t)count}};
}

/* Sets the extents of a block but for its bias. */
static int structure_block_size(const struct reading *reading, const struct ivon_tensor *weight,
                                struct structure_block *block, struct ivon_error *error)
{
    char shape[256];
    bool fine = weight->rank >= 2 && (!block->transposed || weight->rank == 2) && weight->count;
    if (!fine)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: block '%s': its mean has shape %s, expected %s",
            reading->label, weight->name, ivon_tensor_shape_text(weight, shape),
            block->transposed ? "two dimensions, as it is transposed, and elements"
                              : "two dimensions or more, and elements");
    block->rows = (size_t)weight->shape[block->transposed ? 1 : 0];
    block->columns = weight->count / block->rows;
    return 0;
}

/* Finds the bias, and counts it among the columns. */
static int structure_add_bias(const struct reading *reading, const char *weight, const char *name,
                              struct structure_block *block, struct ivon_error *error)
{
    char shape[256];
    ptrdiff_t hessian, *block_of = reading->structure->block_of;
    int code = structure_find(reading, IVON_MEAN, name, &block->bias, error);
    if (!code && block->bias < 0)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: block '%s': its bias '%s' has no mean",
                              reading->label, weight, name);
    if (code)
        return code;
    const struct ivon_tensor *bias = ivon_source_tensor(reading->source, (size_t)block->bias);
    if (bias->count != block->rows)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: block '%s': its bias '%s' has shape %s, expected %zu elements",
                              reading->label, weight, name, ivon_tensor_shape_text(bias, shape),
                              block->rows);
    if (block_of[block->bias] >= 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: block '%s': its bias '%s' is in a block already", reading->label,
                              weight, name);
    code = structure_find(reading, IVON_HESSIAN, name, &hessian, error);
    if (!code && hessian >= 0)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has a Hessian of its own, and is the bias of block '%s'",
                              reading->path, name, weight);
    block->columns++;
    block_of[block->bias] = (ptrdiff_t)reading->structure->block_count;
    return code;
}

/* Finds what else belongs to a block whose extents are known. */
static int structure_find_parts(const struct reading *reading, const char *name,
                                struct structure_block *block, struct ivon_error *error)
{
    size_t o = block->rows, n = block->columns;
    const struct {
        enum ivon_part part;
        ptrdiff_t *found;
        struct ivon_tensor expected;
    } parts[] = {
        {IVON_HESSIAN, &block->hessian, structure_matrix(o, n)},
        {IVON_BASIS_INPUT, &block->input_basis, structure_matrix(n, n)},
        {IVON_BASIS_OUTPUT, &block->output_basis, structure_matrix(o, o)},
        {IVON_SPECTRUM_INPUT, &block->input_spectrum, structure_vector(n)},
        {IVON_SPECTRUM_OUTPUT, &block->output_spectrum, structure_vector(o)},
        {IVON_GRAM, &block->gram, structure_matrix(n, n)},
    };
    int code = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && !code; i++)
        code = structure_find_shaped(reading, parts[i].part, name, parts[i].expected,
                                     parts[i].found, error);
    if (!code && block->hessian < 0 && (block->input_basis >= 0 || block->output_basis >= 0))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: block '%s': has a basis, and no Hessian in it", reading->label,
                              name);
    return code;
}

/* Returns the next block of the list; null when memory is exhausted. */
static struct structure_block *structure_next_block(struct reading *reading,
                                                    struct ivon_error *error)
{
    struct structure *structure = reading->structure;
    if (structure->block_count == reading->block_capacity) {
        size_t capacity = reading->block_capacity ? 2 * reading->block_capacity : 16;
        struct structure_block *grown = realloc(structure->blocks, capacity * sizeof *grown);
        if (!grown) {
            ivon_error_memory(error);
            return NULL;
        }
        structure->blocks = grown;
        reading->block_capacity = capacity;
    }
    struct structure_block *block = &structure->blocks[structure->block_count];
    *block = (struct structure_block){.bias = -1, .input_rows = NAN};
    return block;
}

/* Adds the block that a JSON value describes. */
static int structure_add_block(struct reading *reading, const char *name, const json_t *value,
                               struct ivon_error *error)
{
    ptrdiff_t weight;
    const json_t *bias = json_object_get(value, "bias");
    const json_t *transposed = json_object_get(value, "transposed");
    const json_t *input_rows = json_object_get(value, "input_rows");
    const char *problem = !json_is_object(value)          ? "is no object"
                          : bias && !json_is_string(bias) ? "'bias' is no string"
                          : transposed && !json_is_boolean(transposed)
                              ? "'transposed' is no boolean"
                          : input_rows && !json_is_number(input_rows) ? "'input_rows' is no number"
                                                                      : NULL;
    if (problem)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: block '%s': %s", reading->label, name,
                              problem);
    int code = structure_find(reading, IVON_MEAN, name, &weight, error);
    if (!code && (weight < 0 || reading->structure->block_of[weight] >= 0))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: block '%s': %s", reading->label, name,
                              weight < 0 ? "there is no mean of this name"
                                         : "its mean is in a block already");
    struct structure_block *block = code ? NULL : structure_next_block(reading, error);
    if (!block)
        return code ? code : IVON_ERROR_MEMORY;
    block->weight = (size_t)weight;
    block->transposed = json_is_true(transposed);
    if (input_rows)
        block->input_rows = json_number_value(input_rows);
    ptrdiff_t *block_of = reading->structure->block_of;
    block_of[weight] = (ptrdiff_t)reading->structure->block_count;
    code = structure_block_size(reading, ivon_source_tensor(reading->source, block->weight), block,
                                error);
    if (!code && bias)
        code = structure_add_bias(reading, name, json_string_value(bias), block, error);
    if (!code)
        code = structure_find_parts(reading, name, block, error);
    if (!code && block->hessian >= 0)
        block_of[block->hessian] = (ptrdiff_t)reading->structure->block_count;
    reading->structure->block_count++;
    return code;
}

static int structure_read_blocks(struct reading *reading, struct json_members *members,
                                 struct ivon_error *error)
{
    struct json_members blocks;
    if (reading->has_blocks)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: 'blocks' occurs twice", reading->label);
    reading->has_blocks = true;
    int code = json_members_enter(members, &blocks, error);
    while (!code) {
        char *name;
        json_t *value = NULL;
        code = json_members_next(&blocks, &name, error);
        if (code || !name)
            break;
        code = json_members_value(&blocks, BLOCK_MAX, &value, error);
        if (!code)
            code = structure_add_block(reading, name, value, error);
        json_decref(value);
        free(name);
    }
    json_members_leave(members, &blocks);
    return code;
}

static int structure_read_low_rank(struct reading *reading, const json_t *value,
                                   struct ivon_error *error)
{
    struct structure *structure = reading->structure;
    const json_t *values = json_object_get(value, "values");
    if (structure->low_rank || !json_is_array(values))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: 'low_rank' %s", reading->label,
                              structure->low_rank ? "occurs twice"
                                                  : "is no object with a list 'values'");
    structure->low_rank = true;
    structure->rank = json_array_size(values);
    structure->values = calloc(structure->rank + 1, sizeof *structure->values);
    if (!structure->values)
        return ivon_error_memory(error);
    for (size_t i = 0; i < structure->rank; i++) {
        const json_t *number = json_array_get(values, i);
        char found[32] = "no number";
        structure->values[i] = json_number_value(number);
        if (json_is_number(number) && structure->values[i] > -1)
            continue;
        if (json_is_number(number))
            snprintf(found, sizeof found, "%.6g", structure->values[i]);
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: value %zu of 'low_rank' is %s, expected a number above -1",
                              reading->label, i, found);
    }
    return 0;
}

static int structure_read_member(struct reading *reading, const char *name,
                                 struct json_members *members, struct ivon_error *error)
{
    bool low_rank = strcmp(name, "low_rank") == 0;
    json_t *value;
    if (strcmp(name, "blocks") == 0)
        return structure_read_blocks(reading, members, error);
    int code = json_members_value(members, low_rank ? VALUES_MAX : OTHER_MAX, &value, error);
    if (code)
        return code;
    if (low_rank)
        code = structure_read_low_rank(reading, value, error);
    reading->structure->fitted |= strcmp(name, "fit") == 0;
    json_decref(value);
    return code;
}

static int structure_parse(struct reading *reading, const char *text, size_t size,
                           struct ivon_error *error)
{
    struct json_members members;
    int code = json_members_open(&members, reading->label, text, size, error);
    while (!code) {
        char *name;
        code = json_members_next(&members, &name, error);
        if (code || !name)
            break;
        code = structure_read_member(reading, name, &members, error);
        free(name);
    }
    return code ? code : json_members_end(&members, error);
}

/* Reads the text of the tensor `index`. */
static int structure_read_text(struct reading *reading, size_t index, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(reading->source, index);
    if (tensor->dtype != IVON_U8 || tensor->count > TEXT_MAX)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: has %zu elements of type %s, expected a text of at most %d bytes", reading->label,
            tensor->count, ivon_dtype_name(tensor->dtype), TEXT_MAX);
    char *text = malloc(tensor->count + 1);
    if (!text)
        return ivon_error_memory(error);
    int code = ivon_source_read(reading->source, index, 0, tensor->count, text, error);
    if (!code)
        code = structure_parse(reading, text, tensor->count, error);
    free(text);
    return code;
}

/* A Gram matrix of inputs may stand beside a weight of any posterior, with or without a bias. */
static int structure_check_gram(const struct reading *reading, const struct ivon_tensor *gram,
                                struct ivon_error *error)
{
    char shape[256];
    ptrdiff_t at = ivon_source_find(reading->source, IVON_MEAN, gram->name);
    const struct ivon_tensor *mean = at < 0 ? NULL
                                            : ivon_source_tensor(reading->source, (size_t)at);
    bool fine = mean && mean->rank >= 2 && mean->count && gram->rank == 2 &&
                gram->shape[0] == gram->shape[1];
    if (fine) {
        size_t n = (size_t)gram->shape[0], first = (size_t)mean->shape[0];
        size_t rest = mean->count / first;
        fine = n == rest || n == rest + 1 || (mean->rank == 2 && (n == first || n == first + 1));
    }
    return fine ? 0
                : ivon_error_set(error, IVON_ERROR_DATA,
                                 "%s: gram of '%s' has shape %s, expected a row and a column for "
                                 "each input of a weight of this name",
                                 reading->path, gram->name, ivon_tensor_shape_text(gram, shape));
}

/* A Hessian outside of blocks. */
static int structure_check_hessian(const struct reading *reading, const struct ivon_tensor *hessian,
                                   struct ivon_error *error)
{
    char found[256], expected[256];
    ptrdiff_t at = ivon_source_find(reading->source, IVON_MEAN, hessian->name);
    const struct ivon_tensor *mean = at < 0 ? NULL
                                            : ivon_source_tensor(reading->source, (size_t)at);
    if (!mean || posterior_same_shape(mean, hessian))
        return 0;
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: Hessian of '%s' has shape %s, its mean, which is in no block, has %s", reading->path,
        hessian->name, ivon_tensor_shape_text(hessian, found),
        ivon_tensor_shape_text(mean, expected));
}

static int structure_add_vectors(const struct reading *reading, size_t index,
                                 struct ivon_error *error)
{
    char has[256], needs[256];
    const struct structure *structure = reading->structure;
    const struct ivon_tensor *vectors = ivon_source_tensor(reading->source, index);
    ptrdiff_t hessian = ivon_source_find(reading->source, IVON_HESSIAN, vectors->name);
    if (!structure->low_rank || hessian < 0)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s of '%s' %s", reading->path,
                              ivon_part_name(IVON_LOW_RANK), vectors->name,
                              hessian < 0 ? "stand beside no Hessian"
                                          : "have no values: structure.json has no 'low_rank'");
    size_t count = ivon_source_tensor(reading->source, (size_t)hessian)->count;
    const struct ivon_tensor expected = structure_matrix(structure->rank, count);
    if (!posterior_same_shape(vectors, &expected))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s of '%s' has shape %s, expected %s",
                              reading->path, ivon_part_name(IVON_LOW_RANK), vectors->name,
                              ivon_tensor_shape_text(vectors, has),
                              ivon_tensor_shape_text(&expected, needs));
    structure->vectors[hessian] = (ptrdiff_t)index;
    return 0;
}

/* Without a text nothing says what bases and vectors belong to; a Gram matrix needs none. */
static int structure_refuse_untold(const struct reading *reading, struct ivon_error *error)
{
    for (size_t i = 0; i < ivon_source_tensor_count(reading->source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(reading->source, i);
        if (part_is_structural(tensor->part) && tensor->part != IVON_GRAM)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: has %s of '%s', and no %s",
                                  reading->path, ivon_part_name(tensor->part), tensor->name,
                                  ivon_part_name(IVON_STRUCTURE));
    }
    return 0;
}

/* Checks a tensor that the blocks may or may not have met. */
static int structure_check_tensor(const struct reading *reading, size_t index,
                                  struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(reading->source, index);
    if (tensor->part == IVON_LOW_RANK)
        return structure_add_vectors(reading, index, error);
    if (tensor->part == IVON_HESSIAN)
        return reading->structure->block_of[index] < 0
                   ? structure_check_hessian(reading, tensor, error)
                   : 0;
    if (!part_is_structural(tensor->part) || tensor->part == IVON_STRUCTURE)
        return 0;
    ptrdiff_t mean = ivon_source_find(reading->source, IVON_MEAN, tensor->name);
    ptrdiff_t block = mean < 0 ? -1 : reading->structure->block_of[mean];
    const struct structure_block *blocks = reading->structure->blocks;
    if (blocks && block >= 0 && blocks[block].weight == (size_t)mean)
        return 0;
    if (tensor->part == IVON_GRAM)
        return structure_check_gram(reading, tensor, error);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s of '%s' belongs to no block of structure.json", reading->path,
                          ivon_part_name(tensor->part), tensor->name);
}

static int structure_check_all(const struct reading *reading, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(reading->source), vectors = 0;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        code = structure_check_tensor(reading, i, error);
        vectors += ivon_source_tensor(reading->source, i)->part == IVON_LOW_RANK;
    }
    if (!code && reading->structure->rank && !vectors)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: 'low_rank' has %zu values, and there are no vectors",
                              reading->label, reading->structure->rank);
    return code;
}

static int structure_begin(struct reading *reading, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(reading->source);
    struct structure *structure = calloc(1, sizeof *structure);
    const char *name = ivon_part_name(IVON_STRUCTURE);
    size_t size = strlen(reading->path) + strlen(name) + 3;
    reading->structure = structure;
    reading->label = malloc(size);
    if (!structure || !reading->label)
        return ivon_error_memory(error);
    snprintf(reading->label, size, "%s: %s", reading->path, name);
    structure->block_of = calloc(count + 1, sizeof *structure->block_of);
    structure->vectors = calloc(count + 1, sizeof *structure->vectors);
    if (!structure->block_of || !structure->vectors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        enum ivon_part part = ivon_source_tensor(reading->source, i)->part;
        structure->block_of[i] = structure->vectors[i] = -1;
        reading->opaque |= part == IVON_OPAQUE;
        reading->structural |= part_is_structural(part);
    }
    return 0;
}

int structure_read(struct structure **out, struct ivon_source *source, struct ivon_error *error)
{
    struct reading reading = {.source = source, .path = ivon_source_path(source)};
    ptrdiff_t text = -1;
    int code = structure_begin(&reading, error);
    if (!code)
        code = structure_find(&reading, IVON_STRUCTURE, ivon_part_name(IVON_STRUCTURE), &text,
                              error);
    if (!code && text >= 0)
        code = structure_read_text(&reading, (size_t)text, error);
    if (!code && text < 0)
        code = structure_refuse_untold(&reading, error);
    if (!code && reading.structural)
        code = structure_check_all(&reading, error);
    free(reading.label);
    if (code)
        structure_free(reading.structure);
    else
        *out = reading.structure;
    return code;
}

void structure_free(struct structure *structure)
{
    if (!structure)
        return;
    free(structure->blocks);
    free(structure->block_of);
    free(structure->values);
    free(structure->vectors);
    free(structure);
}

bool structure_is_diagonal(const struct structure *structure)
{
    for (size_t i = 0; i < structure->block_count; i++)
        if (structure->blocks[i].hessian >= 0)
            return false;
    return !structure->rank;
}

int structure_refuse(struct ivon_source *source, const char *what, struct ivon_error *error)
{
    struct structure *structure = NULL;
    int code = structure_read(&structure, source, error);
    if (!code && structure && !structure_is_diagonal(structure))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is a structured posterior, with blocks or a low-rank "
                              "correction: these are not %s",
                              ivon_source_path(source), what);
    structure_free(structure);
    return code;
}

/* Writing. */

static json_t *structure_blocks_json(const struct structure_description *description)
{
    json_t *blocks = json_object();
    bool fine = blocks != NULL;
    for (size_t i = 0; i < description->block_count && fine; i++) {
        const struct structure_block_names *names = &description->blocks[i];
        json_t *block = json_object();
        fine = (!names->bias || !json_object_set_new(block, "bias", json_string(names->bias))) &&
               (!names->transposed || !json_object_set_new(block, "transposed", json_true())) &&
               (!(names->input_rows > 0) ||
                !json_object_set_new(block, "input_rows",
                                     json_integer((json_int_t)names->input_rows)));
        fine = !json_object_set_new(blocks, names->weight, block) && fine;
    }
    if (fine)
        return blocks;
    json_decref(blocks);
    return NULL;
}

static json_t *structure_values_json(const struct structure_description *description)
{
    json_t *values = json_array();
    bool fine = values != NULL;
    for (size_t i = 0; i < description->rank && fine; i++)
        fine = !json_array_append_new(values, json_real(description->values[i]));
    if (fine)
        return json_pack("{s:o}", "values", values);
    json_decref(values);
    return NULL;
}

char *structure_text(const struct structure_description *description)
{
    json_t *root = json_object();
    bool fine = root != NULL;
    if (description->block_count)
        fine = !json_object_set_new(root, "blocks", structure_blocks_json(description)) && fine;
    if (description->values)
        fine = !json_object_set_new(root, "low_rank", structure_values_json(description)) && fine;
    if (description->fit)
        fine = !json_object_set_new(root, "fit",
                                    json_loads(description->fit, JSON_REJECT_DUPLICATES, NULL)) &&
               fine;
    char *text = fine ? json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17))
                      : NULL;
    json_decref(root);
    return text;
}
