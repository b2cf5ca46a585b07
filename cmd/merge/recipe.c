/* Keys and models of a recipe; recipe_slices.c has slices, recipe_reader.c the values of both. */
#include "cmd/merge/recipe.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/merge/recipe_reader.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { MODELS_MAX = 1000 };

/* The methods by the names that recipes have for them, in which "-" may stand for "_". */
static const struct recipe_method {
    const char *name;
    enum ivon_merge_method method;
    bool divides; /* by the sum of the weights, or has no use for it */
    bool origin;  /* the base is where it begins, and no model */
} methods[] = {
    {"linear", IVON_MERGE_AVERAGE, true, false},
    {"average", IVON_MERGE_AVERAGE, true, false},
    {"task_arithmetic", IVON_MERGE_TASK_ARITHMETIC, false, true},
    {"ties", IVON_MERGE_TIES, true, true},
    {"dare_linear", IVON_MERGE_DARE, false, true},
    {"dare", IVON_MERGE_DARE, false, true},
    {"dare_ties", IVON_MERGE_DARE_TIES, true, true},
    {"breadcrumbs", IVON_MERGE_BREADCRUMBS, false, true},
    {"slerp", IVON_MERGE_SLERP, true, true},
    {"model_stock", IVON_MERGE_MODEL_STOCK, true, true},
    {"passthrough", IVON_MERGE_PASSTHROUGH, true, false},
    {"gradient_matching", IVON_MERGE_GRADIENT_MATCHING, false, true},
    {"hessian", IVON_MERGE_HESSIAN, true, false},
    {"regmean", IVON_MERGE_REGMEAN, true, false},
};
enum { METHOD_COUNT = sizeof methods / sizeof *methods };

static int read_flag(const struct recipe_reader *reader, const struct recipe_node *node,
                     const char *what, bool *flag)
{
    bool text = node->kind == RECIPE_TEXT && !node->quoted;
    *flag = text && strcasecmp(node->text, "true") == 0;
    if (!*flag && !(text && strcasecmp(node->text, "false") == 0))
        return recipe_fail(reader, node, "%s: expected true or false", what);
    return 0;
}

/* A rule that gives all tensors one number is the model's own weight. */
static void settle_weight(struct merge_model *model)
{
    struct weight_rules *rules = &model->rules;
    struct weight_rule *last = rules->count ? &rules->items[rules->count - 1] : NULL;
    if (!last || last->text || last->ranged || last->value_count != 1)
        return;
    model->weight = last->values[0];
    free(last->values);
    rules->count--;
}

static bool is_base(const struct recipe_reader *reader, const char *path)
{
    const char *base = reader->command->base_path;
    return reader->origin && base && strcmp(base, path) == 0;
}

/* Reads a model; the base among them is passed over where differences from it are merged. */
static int read_model(struct recipe_reader *reader, const struct recipe_node *node)
{
    static const char *const names[] = {"model", "hessian", "parameters"};
    const struct recipe_node *values[3];
    const char *path = NULL, *hessian = NULL;
    int code = recipe_members(reader, node, "a model", names, 3, values);
    if (!code && !values[0])
        code = recipe_fail(reader, node, "a model without 'model', its file");
    if (!code)
        code = recipe_text(reader, values[0], "model", &path);
    if (!code && values[1])
        code = recipe_text(reader, values[1], "hessian", &hessian);
    const struct recipe_node *settings[2] = {NULL, reader->weight};
    if (!code)
        code = recipe_weight_of(reader, values[2], &settings[0]);
    if (code || is_base(reader, path))
        return code;
    if (reader->command->model_count == MODELS_MAX)
        return recipe_fail(reader, node, "more than %d models", MODELS_MAX);
    struct merge_model *model = recipe_model(reader, path);
    model->hessian = hessian;
    code = recipe_model_weights(reader, settings, 2, NULL, &model->rules);
    if (!code)
        settle_weight(model);
    return code;
}

static int read_models(struct recipe_reader *reader, const struct recipe_node *list)
{
    if (list->kind != RECIPE_LIST)
        return recipe_fail(reader, list, "models: expected a list");
    int code = 0;
    for (const struct recipe_node *node = list->first; node && !code; node = node->next)
        code = read_model(reader, node);
    if (!code && !reader->command->model_count)
        code = recipe_fail(reader, list, "models: there is none to merge");
    return code;
}

/* Fails because the recipe says what an option says, too. */
static int refuse_both(const struct recipe_reader *reader, const struct recipe_node *node,
                       const char *option)
{
    recipe_error(reader->error, reader->command->recipe, node->key_line, node->key_column,
                 "the recipe has '%s', and the command line %s: give one of them", node->key,
                 option);
    reader->error->code = IVON_ERROR_ARGUMENT;
    return IVON_ERROR_ARGUMENT;
}

static bool same_method(const char *name, const char *text)
{
    while (*name && (*text == *name || (*text == '-' && *name == '_'))) {
        name++;
        text++;
    }
    return !*name && !*text;
}

static int read_method(struct recipe_reader *reader, const struct recipe_node *node)
{
    const char *text = "", *names[METHOD_COUNT];
    if (reader->command->method_given)
        return refuse_both(reader, node, "--method");
    int code = recipe_text(reader, node, "merge_method", &text);
    for (size_t i = 0; i < METHOD_COUNT && !code; i++) {
        names[i] = methods[i].name;
        if (!same_method(names[i], text))
            continue;
        reader->command->options.method = methods[i].method;
        reader->command->method_given = true;
        return 0;
    }
    if (code)
        return code;
    char *list = recipe_list(names, METHOD_COUNT);
    code = recipe_fail(reader, node, "merge_method '%s' is not supported, expected one of %s", text,
                       list);
    free(list);
    return code;
}

static int read_base(struct recipe_reader *reader, const struct recipe_node *node)
{
    struct merge_command *command = reader->command;
    const char *path = NULL;
    if (command->base_path)
        return refuse_both(reader, node, "--base");
    int code = recipe_text(reader, node, "base_model", &path);
    if (code)
        return code;
    command->base_model = (struct merge_model){.path = xstrdup(path)};
    command->base_path = command->base_model.path;
    return 0;
}

static int read_dtype(struct recipe_reader *reader, const struct recipe_node *node)
{
    static const struct {
        const char *name;
        enum ivon_dtype dtype;
    } dtypes[] = {{"float32", IVON_F32}, {"float16", IVON_F16}, {"bfloat16", IVON_BF16},
                  {"float64", IVON_F64}, {"f32", IVON_F32},     {"f16", IVON_F16},
                  {"bf16", IVON_BF16},   {"f64", IVON_F64}};
    const char *text = "";
    if (reader->command->dtype_given)
        return refuse_both(reader, node, "--dtype");
    int code = recipe_text(reader, node, node->key, &text);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && !code; i++)
        if (strcmp(dtypes[i].name, text) == 0) {
            reader->command->options.dtype = dtypes[i].dtype;
            return 0;
        }
    return code ? code
                : recipe_fail(reader, node,
                              "%s '%s' is not supported, expected float32, float16, bfloat16 or "
                              "float64",
                              node->key, text);
}

/* The tokenizer is the base's, which is what happens to it anyway. */
static int check_tokenizer(const struct recipe_reader *reader, const struct recipe_node *node)
{
    const char *text = "", *base = reader->command->base_path;
    int code = recipe_text(reader, node, "tokenizer_source", &text);
    if (code || strcmp(text, "base") == 0 || (base && strcmp(text, base) == 0))
        return code;
    return recipe_fail(reader, node,
                       "tokenizer_source '%s' is not supported, expected base: tokenizers are not "
                       "merged",
                       text);
}

/* A number that an option may give, too: then *to is a number already. */
static int read_option(const struct recipe_reader *reader, const struct recipe_node *node,
                       const char *option, double *to)
{
    if (!isnan(*to))
        return refuse_both(reader, node, option);
    return recipe_number(reader, node, node->key, to);
}

/* Reads whether weights are divided by their sum. Methods that do so anyway, told not to, take
   weights that add up to 1. */
static int read_normalize(struct recipe_reader *reader, const struct recipe_node *node)
{
    struct merge_command *command = reader->command;
    bool normalize;
    int code = read_flag(reader, node, "normalize", &normalize);
    if (code)
        return code;
    if (!normalize && reader->divides && command->options.method != IVON_MERGE_AVERAGE)
        return recipe_fail(reader, node, "normalize: merge_method %s never does without",
                           ivon_merge_method_traits(command->options.method)->name);
    command->unit_sum = !normalize && reader->divides;
    command->divide = normalize && !reader->divides;
    return 0;
}

enum { WEIGHT, T, NORMALIZE, LAMBDA, DENSITY, GAMMA, DELTA0, ESS, MASK, PARAMETER_COUNT };

/* Reads the parameters of the whole, of which the models' weights are kept for them. int8_mask, by
   which mergekit saves memory, changes nothing. */
static int read_parameters(struct recipe_reader *reader, const struct recipe_node *node)
{
    static const char *const names[PARAMETER_COUNT] = {
        "weight", "t", "normalize", "lambda", "density", "gamma", "delta0", "ess", "int8_mask"};
    struct merge_command *command = reader->command;
    const struct recipe_node *values[PARAMETER_COUNT];
    double scale = command->scaled || command->sweep ? command->scale : NAN;
    bool mask;
    const struct {
        int key;
        const char *option;
        double *to;
    } numbers[] = {{LAMBDA, command->sweep ? "--sweep" : "--scale", &scale},
                   {DENSITY, "--density", &command->options.density},
                   {GAMMA, "--outliers", &command->options.outliers},
                   {DELTA0, "--delta0", &command->options.delta0},
                   {ESS, "--ess", &command->options.ess}};
    int code = recipe_members(reader, node, "parameters", names, PARAMETER_COUNT, values);
    if (!code && values[WEIGHT] && values[T])
        code = recipe_fail(reader, values[T], "t is another name of the weight");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !code; i++)
        if (values[numbers[i].key])
            code = read_option(reader, values[numbers[i].key], numbers[i].option, numbers[i].to);
    if (!code && values[MASK])
        code = read_flag(reader, values[MASK], "int8_mask", &mask);
    if (!code && values[NORMALIZE])
        code = read_normalize(reader, values[NORMALIZE]);
    if (code)
        return code;
    reader->weight = values[WEIGHT] ? values[WEIGHT] : values[T];
    if (values[LAMBDA]) {
        command->scale = scale;
        command->scaled = true;
    }
    return 0;
}

/* Takes from the table how the recipe's method, or the option's, treats weights and base. */
static void settle_method(struct recipe_reader *reader)
{
    struct ivon_merge_options *options = &reader->command->options;
    size_t i = 0;
    while (i + 1 < METHOD_COUNT && methods[i].method != options->method)
        i++;
    reader->divides = methods[i].divides;
    reader->origin = methods[i].origin;
    reader->single = options->method == IVON_MERGE_PASSTHROUGH;
}

enum { MODELS, SLICES, METHOD, BASE, PARAMETERS, DTYPE, OUT_DTYPE, TOKENIZER, KEY_COUNT };

static int read_recipe(struct recipe_reader *reader)
{
    static const char *const names[KEY_COUNT] = {"models",     "slices",          "merge_method",
                                                 "base_model", "parameters",      "dtype",
                                                 "out_dtype",  "tokenizer_source"};
    const struct recipe_node *root = reader->root, *values[KEY_COUNT];
    int code = recipe_members(reader, root, "a recipe", names, KEY_COUNT, values);
    if (!code && !values[METHOD] && !reader->command->method_given)
        code = recipe_fail(reader, root, "a recipe without merge_method");
    if (!code && !values[MODELS] == !values[SLICES])
        code = recipe_fail(reader, root, "a recipe with %s models and slices, expected one of them",
                           values[MODELS] ? "both" : "neither");
    if (!code && values[METHOD])
        code = read_method(reader, values[METHOD]);
    if (!code)
        settle_method(reader);
    if (!code && values[BASE])
        code = read_base(reader, values[BASE]);
    if (!code && values[PARAMETERS])
        code = read_parameters(reader, values[PARAMETERS]);
    const struct recipe_node *dtype = values[OUT_DTYPE] ? values[OUT_DTYPE] : values[DTYPE];
    if (!code && dtype)
        code = read_dtype(reader, dtype);
    if (!code && values[TOKENIZER])
        code = check_tokenizer(reader, values[TOKENIZER]);
    if (code)
        return code;
    code = values[MODELS] ? read_models(reader, values[MODELS])
                          : recipe_slices(reader, values[SLICES]);
    struct ivon_merge_options *options = &reader->command->options;
    if (isnan(options->density) && ivon_merge_method_traits(options->method)->density)
        options->density = 1; /* as mergekit */
    return code;
}

int recipe_read(struct merge_command *command, struct ivon_error *error)
{
    struct recipe_reader reader = {.command = command, .error = error};
    if (command->model_count)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "'%s': with --recipe the models are those of the recipe",
                          command->models[0].path);
    int code = recipe_tree_read(&command->recipe_tree, command->recipe, error);
    reader.root = command->recipe_tree;
    return code ? code : read_recipe(&reader);
}
