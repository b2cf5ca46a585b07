/*
 * The slices of a recipe: runs of layers, each with models and weights of its own. Layers stay
 * where they are, so slices follow each other, and all sources of a slice name the same layers; a
 * model without a source in a slice has the weight 0 there.
 */
#include <string.h>

#include "cmd/merge/recipe_reader.h"

enum { SOURCES_MAX = 1000 /* of all slices */ };

struct slice {
    const struct recipe_node *sources, *weight;
    struct weight_range range;
};

/* Reads [first, end], the layers from the first up to the one before the end. */
static int read_layers(const struct recipe_reader *reader, const struct recipe_node *node,
                       int64_t layers[2])
{
    const struct recipe_node *item = node->kind == RECIPE_LIST ? node->first : NULL;
    double numbers[3] = {0};
    size_t count = 0;
    for (; item && count < 3; item = item->next) {
        int code = recipe_number(reader, item, "layer_range", &numbers[count++]);
        if (code)
            return code;
    }
    for (int i = 0; i < 2; i++)
        layers[i] = numbers[i] >= 0 && numbers[i] < 1e6 ? (int64_t)numbers[i] : -1;
    if (count != 2 || layers[0] < 0 || (double)layers[0] != numbers[0] ||
        (double)layers[1] != numbers[1] || layers[1] <= layers[0])
        return recipe_fail(reader, node,
                           "layer_range: expected [FIRST, END] with END > FIRST >= 0");
    return 0;
}

struct source {
    const char *path;
    const struct recipe_node *weight;
    int64_t layers[2];
};

static int read_source(const struct recipe_reader *reader, const struct recipe_node *node,
                       struct source *source)
{
    static const char *const names[] = {"model", "layer_range", "parameters"};
    const struct recipe_node *values[3];
    int code = recipe_members(reader, node, "a source", names, 3, values);
    if (code)
        return code;
    if (!values[0] || !values[1])
        return recipe_fail(reader, node, "a source without '%s'", names[values[0] ? 1 : 0]);
    code = recipe_text(reader, values[0], "model", &source->path);
    if (!code)
        code = read_layers(reader, values[1], source->layers);
    return code ? code : recipe_weight_of(reader, values[2], &source->weight);
}

static struct merge_model *find_model(struct recipe_reader *reader, const char *path)
{
    struct merge_command *command = reader->command;
    for (size_t i = 0; i < command->model_count; i++)
        if (strcmp(command->models[i].path, path) == 0)
            return &command->models[i];
    return NULL;
}

/* Reads a slice's sources: names its models, and takes its layers from the first source. */
static int name_models(struct recipe_reader *reader, struct slice *slice, size_t *sources)
{
    bool first = true;
    for (const struct recipe_node *node = slice->sources->first; node; node = node->next) {
        struct source source = {.path = ""};
        int code = read_source(reader, node, &source);
        if (code)
            return code;
        if (++*sources > SOURCES_MAX)
            return recipe_fail(reader, node, "more than %d sources", SOURCES_MAX);
        if (!first &&
            (slice->range.first != source.layers[0] || slice->range.end != source.layers[1]))
            return recipe_fail(reader, node,
                               "slices: layers %lld to %lld beside %lld to %lld: layers of "
                               "different numbers are not merged",
                               (long long)source.layers[0], (long long)source.layers[1] - 1,
                               (long long)slice->range.first, (long long)slice->range.end - 1);
        if (!first && reader->single)
            return recipe_fail(reader, node, "slices: passthrough takes one source");
        slice->range.first = source.layers[0];
        slice->range.end = source.layers[1];
        if (!find_model(reader, source.path))
            recipe_model(reader, source.path);
        first = false;
    }
    return 0;
}

/* Gives every model its weights in a slice. */
static int weigh_models(struct recipe_reader *reader, const struct slice *slice)
{
    struct merge_command *command = reader->command;
    for (size_t t = 0; t < command->model_count; t++) {
        struct merge_model *model = &command->models[t];
        const struct recipe_node *found = NULL;
        struct source source = {.path = ""};
        int code = 0;
        for (const struct recipe_node *node = slice->sources->first; node && !code;
             node = node->next) {
            code = read_source(reader, node, &source);
            if (code || strcmp(source.path, model->path) != 0)
                continue;
            if (found)
                return recipe_fail(reader, node, "slices: model '%s' a second time, after line %zu",
                                   source.path, found->line);
            const struct recipe_node *settings[] = {source.weight, slice->weight, reader->weight};
            code = recipe_model_weights(reader, settings, 3, &slice->range, &model->rules);
            found = node;
        }
        if (!code && !found) {
            struct weight_rule *rule = weight_rules_add(&model->rules, 0);
            rule->ranged = true;
            rule->range = slice->range;
        }
        if (code)
            return code;
    }
    return 0;
}

static int read_slice(struct recipe_reader *reader, const struct recipe_node *node,
                      struct slice *slice)
{
    static const char *const names[] = {"sources", "parameters"};
    const struct recipe_node *values[2];
    int code = recipe_members(reader, node, "a slice", names, 2, values);
    if (!code && (!values[0] || values[0]->kind != RECIPE_LIST || !values[0]->first))
        code = recipe_fail(reader, node, "slices: expected a list of sources");
    slice->sources = values[0];
    return code ? code : recipe_weight_of(reader, values[1], &slice->weight);
}

int recipe_slices(struct recipe_reader *reader, const struct recipe_node *list)
{
    if (list->kind != RECIPE_LIST || !list->first)
        return recipe_fail(reader, list, "slices: expected a list");
    int64_t layer = 0;
    size_t sources = 0;
    int code = 0;
    for (int pass = 0; pass < 2 && !code; pass++) { /* all models are known in the second one */
        layer = 0;
        for (const struct recipe_node *node = list->first; node && !code; node = node->next) {
            struct slice slice = {0};
            code = read_slice(reader, node, &slice);
            if (!code)
                code = name_models(reader, &slice, &sources);
            if (!code && slice.range.first != layer)
                code = recipe_fail(reader, node,
                                   "slices: begins with layer %lld, expected %lld: layers stay "
                                   "where they are, and none is left out",
                                   (long long)slice.range.first, (long long)layer);
            slice.range.before = node == list->first;
            slice.range.behind = !node->next;
            if (!code && pass)
                code = weigh_models(reader, &slice);
            layer = slice.range.end;
        }
        sources = 0;
    }
    reader->command->recipe_layers = layer;
    return code;
}
