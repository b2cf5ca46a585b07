#include "train/architecture/architecture.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "train/architecture/private.h"

/* The words that may follow the sizes. */
static const char *const activations[] = {"relu", "tanh", "gelu", NULL};

static const struct family {
    const char *name, *usage;
    size_t least, most; /* sizes */
    const char *const *words;
    void (*build)(struct builder *builder, const struct specification *specification);
} families[] = {
    {"linear", "linear:IN,OUT", 2, 2, NULL, architecture_linear},
    {"mlp", "mlp:IN,WIDTH,...,OUT[,relu|tanh|gelu]", 2, SIZES_MAX, activations, architecture_mlp},
    {"lenet", "lenet[:CHANNELS,CLASSES[,SIZE]] with a size of 32 or 28", 0, 3, NULL,
     architecture_lenet},
    {"resnet20", "resnet20[:CLASSES]", 0, 1, NULL, architecture_resnet_frn},
    {"resnet20-frn", "resnet20-frn[:CLASSES]", 0, 1, NULL, architecture_resnet_frn},
    {"resnet20-bn", "resnet20-bn[:CLASSES]", 0, 1, NULL, architecture_resnet_bn},
    {"textcnn", "textcnn:VOCABULARY,EMBEDDING,FILTERS,CLASSES[,LENGTH] with a length of at least 5",
     4, 5, NULL, architecture_textcnn},
    {"transformer",
     "transformer:VOCABULARY,CONTEXT,WIDTH,LAYERS,HEADS,CLASSES with a width that "
     "the heads divide and at most 1000 layers",
     6, 6, NULL, architecture_transformer},
    {"gpt",
     "gpt:VOCABULARY,CONTEXT,WIDTH,LAYERS,HEADS with a width that the heads divide and at "
     "most 1000 layers",
     5, 5, NULL, architecture_gpt},
};

enum { LAYERS_MAX = 1000, FAMILIES = sizeof families / sizeof *families };

const char *ivon_architecture_usage(size_t i)
{
    return i < FAMILIES ? families[i].usage : NULL;
}

void architecture_free(struct architecture *architecture)
{
    if (!architecture)
        return;
    for (size_t i = 0; i < architecture->tensor_count; i++)
        free(architecture->tensors[i].name);
    free(architecture->tensors);
    ivon_network_free(architecture->network);
    free(architecture);
}

static const struct family *find_family(const char *text)
{
    size_t length = strcspn(text, ":");
    for (size_t i = 0; i < FAMILIES; i++)
        if (strlen(families[i].name) == length && strncmp(families[i].name, text, length) == 0)
            return &families[i];
    return NULL;
}

/* A size from 1 to 2^31 - 1 that ends at a comma or the end; 0 where there is none. */
static int64_t parse_size(const char *text, const char **end)
{
    int64_t size = 0;
    for (*end = text; isdigit((unsigned char)**end) && size < INT32_MAX; ++*end)
        size = 10 * size + (**end - '0');
    return size <= INT32_MAX && (!**end || **end == ',') ? size : 0;
}

static const char *find_word(const struct family *family, const char *text)
{
    for (const char *const *word = family->words; word && *word; word++)
        if (strcmp(*word, text) == 0)
            return *word;
    return NULL;
}

/* Reads the sizes and the word from the text; false if the family does not allow them. */
static bool architecture_parse(struct specification *specification, const struct family *family)
{
    const char *at = specification->text + strlen(family->name);
    while (*at) {
        const char *end;
        at++; /* skip the colon or comma */
        int64_t size = parse_size(at, &end);
        if (size && specification->size_count < family->most) {
            specification->sizes[specification->size_count++] = size;
            at = end;
            continue;
        }
        specification->word = find_word(family, at);
        if (!specification->word)
            return false;
        break;
    }
    return specification->size_count >= family->least;
}

/* Returns whether the sizes fit each other and the family. */
static bool architecture_fits(const struct specification *specification,
                              const struct family *family)
{
    const int64_t *sizes = specification->sizes;
    size_t count = specification->size_count;
    if (family->build == architecture_lenet)
        return count != 1 && (count < 3 || sizes[2] == 32 || sizes[2] == 28);
    if (family->build == architecture_textcnn)
        return count < 5 || sizes[4] >= 5;
    if (family->build == architecture_transformer || family->build == architecture_gpt)
        return sizes[4] && sizes[2] % sizes[4] == 0 && sizes[3] <= LAYERS_MAX;
    return true;
}

static int architecture_refuse(const char *text, const struct family *family,
                               struct ivon_error *error)
{
    if (family)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "architecture '%s', expected %s", text,
                              family->usage);
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "architecture '%s', expected linear, mlp, lenet, resnet20, "
                          "resnet20-frn, resnet20-bn, textcnn, transformer or gpt, and sizes",
                          text);
}

int architecture_new(struct architecture **out, const char *text, double dropout,
                     struct ivon_error *error)
{
    struct specification specification = {.text = text};
    const struct family *family = find_family(text);
    if (!family || !architecture_parse(&specification, family) ||
        !architecture_fits(&specification, family))
        return architecture_refuse(text, family, error);
    struct architecture *architecture = calloc(1, sizeof *architecture);
    if (!architecture)
        return ivon_error_memory(error);
    struct builder builder = {.architecture = architecture, .dropout = dropout, .error = error};
    builder.code = graph_new(&architecture->network, text, error);
    if (!builder.code)
        family->build(&builder, &specification);
    if (!builder.code)
        builder.code = graph_add_output(architecture->network, "f", error);
    if (!builder.code)
        builder.code = graph_finish(architecture->network, error);
    net_attributes_free(builder.attributes, builder.attribute_count);
    if (builder.code)
        architecture_free(architecture);
    else
        *out = architecture;
    return builder.code;
}
