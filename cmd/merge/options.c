#include "cmd/shared/memory.h"
#include "cmd/merge/merge.h"
#include "cmd/merge/recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"

enum {
    KEY_DELTA0 = 256,
    KEY_BASE_SCALE,
    KEY_HESSIAN_SCALE,
    KEY_ESS,
    KEY_DENSITY,
    KEY_OUTLIERS,
    KEY_SEED,
    KEY_SCALE,
    KEY_DTYPE,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_MISMATCH,
    KEY_VOCABULARY,
    KEY_RECIPE,
    KEY_NONPOSITIVE,
    KEY_SWEEP,
    KEY_MEMORY,
    KEY_JSON,
    KEY_DRY_RUN,
    KEY_HASH,
    KEY_LORA_RANK,
    KEY_RENAME,
    KEY_TOKENIZER_FROM,
    KEY_NO_CARD,
    KEY_SHRINK,
    KEY_OUT_STRUCTURE,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("What is merged:", 1),
    OPTION_HEADING("How:", 2),
    OPTION_HEADING("Tensors:", 3),
    OPTION_HEADING("Output:", 4),
    OPTION_HEADING("Reports:", 5),
    OPTION_HEADING("Trying weights on data:", 7),
    {"base", 'b', "FILE", 0, "The posterior that the models were finetuned from", 1},
    {"recipe", KEY_RECIPE, "FILE", 0,
     "Read models, method and weights from a recipe, in mergekit's YAML or JSON", 1},
    {"method", 'm',
     "gradient-matching|hessian|task-arithmetic|average|regmean|ties|dare|dare-ties|slerp|"
     "model-stock|breadcrumbs|passthrough",
     0, "How to merge (default: gradient-matching with a base, hessian without)", 1},
    {"delta0", KEY_DELTA0, "X", 0, "Precision of a base that has no Hessian", 2},
    {"base-scale", KEY_BASE_SCALE, "X", 0,
     "Multiply the base's precision by X (default 1; 0 leaves it out)", 2},
    {"hessian-scale", KEY_HESSIAN_SCALE, "X", 0, "Multiply the models' Hessians by X (default 1)",
     2},
    {"ess", KEY_ESS, "X", 0,
     "Effective sample size of the result (default: the base's, else the sum of the models')", 2},
    {"density", KEY_DENSITY, "X", 0,
     "Share of what a model changed that ties, dare, dare-ties and breadcrumbs keep (default 0.2)",
     2},
    {"outliers", KEY_OUTLIERS, "X", 0,
     "Share of the largest changes that breadcrumbs drops (default 0.01)", 2},
    {"seed", KEY_SEED, "N", 0, "Seed of what dare and dare-ties drop, and of --samples (default 0)",
     2},
    {"scale", KEY_SCALE, "X", 0, "Multiply all weights by X (ties, dare-ties: what is averaged)",
     2},
    {"shrink", KEY_SHRINK, "X", 0,
     "Of regmean: multiply Gram matrices off their diagonals by X, from 0 to 1 (default 1)", 2},
    {"out-structure", KEY_OUT_STRUCTURE, "diagonal|kronecker|lowrank|means", 0,
     "What the result keeps; means: weights alone, as PyTorch loads them (default: what it can; "
     "of a directory: means)",
     2},
    {"dtype", KEY_DTYPE, "keep|f64|f32|f16|bf16", 0,
     "Type of the merged means (default keep: the base's, else the widest)", 2},
    {"include", KEY_INCLUDE, "GLOB", 0, "Merge only tensors whose name matches; may be repeated",
     3},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "Keep tensors whose name matches as they were", 3},
    {"rename", KEY_RENAME, "REGEX:REPL", 0,
     "Rename the models' tensors: replace each match, \\1 being a group; may be repeated", 3},
    {"on-mismatch", KEY_MISMATCH, "error|base|skip", 0,
     "What to do with tensors that an input lacks or has in another shape", 3},
    {"vocabulary", KEY_VOCABULARY, "base|longest", 0,
     "Merge the rows that all inputs have of embeddings, and take the others from one input", 3},
    {"on-nonpositive", KEY_NONPOSITIVE, "error|base", 0,
     "What to do with elements whose merged precision is not positive", 3},
    {"output", 'o', "OUT", 0, "The file to write, or the directory: DIR/", 4},
    {"tokenizer-from", KEY_TOKENIZER_FROM, "DIR", 0,
     "A directory as output: take the tokenizer's files from DIR (default: the base's)", 4},
    {"no-card", KEY_NO_CARD, NULL, 0, "A directory as output: write no model card (README.md)", 4},
    {"sweep", KEY_SWEEP, "FROM:TO:STEP", 0,
     "Write one output for each factor of all weights; OUT holds one %g for it", 4},
    {"lora-rank", KEY_LORA_RANK, "R", 0,
     "Write the change from the base as an adapter of rank R; OUT is its directory", 4},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory to use (default 256M)", 4},
    {"json", KEY_JSON, NULL, 0, "Print a summary in JSON", 5},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Print the plan for each tensor, and write nothing", 5},
    {"hash", KEY_HASH, NULL, 0, "Record the inputs' SHA-256 in the provenance", 5},
    {0},
};

/* Cuts a weight off a text: what follows its last colon, if that is a number. */
static bool cut_weight(char *text, double *weight, const char *argument, struct argp_state *state)
{
    char *colon = strrchr(text, ':'), *end;
    if (!colon || !colon[1])
        return false;
    double number = strtod(colon + 1, &end);
    if (*end)
        return false;
    if (!isfinite(number))
        argp_failure(state, EX_USAGE, 0, "'%s': weight '%s', expected a finite number", argument,
                     colon + 1);
    *weight = number;
    *colon = '\0';
    return true;
}

/* Cuts ",hessian=FILE" off a text: what follows the last such mark, or null. */
static const char *cut_hessian(char *text, const char *argument, struct argp_state *state)
{
    static const char mark[] = ",hessian=";
    char *found = NULL;
    for (char *at = strstr(text, mark); at; at = strstr(at + 1, mark))
        found = at;
    if (!found)
        return NULL;
    *found = '\0';
    if (!found[sizeof mark - 1] || !*text)
        argp_failure(state, EX_USAGE, 0, "'%s': expected MODEL,hessian=FILE", argument);
    return found + sizeof mark - 1;
}

static void cut_rules(struct merge_model *model, struct argp_state *state)
{
    struct ivon_error error = {0};
    if (weight_rules_cut(&model->rules, model->path, &error))
        argp_failure(state, EX_USAGE, 0, "%s", error.message);
}

/* MODEL[,hessian=FILE], to which weights may be appended, or to MODEL. */
static struct merge_model parse_model(const char *argument, bool weighted, struct argp_state *state)
{
    struct merge_model model = {.path = xstrdup(argument), .weight = 1};
    if (weighted)
        cut_rules(&model, state);
    bool given = weighted && cut_weight(model.path, &model.weight, argument, state);
    model.hessian = cut_hessian(model.path, argument, state);
    if (weighted && model.hessian && !model.rules.count)
        cut_rules(&model, state);
    if (weighted && !given && model.hessian)
        cut_weight(model.path, &model.weight, argument, state);
    return model;
}

static void merge_options_add_model(struct merge_command *command, struct argp_state *state,
                                    const char *argument)
{
    command->models = xreallocarray(command->models, command->model_count + 1,
                                    sizeof *command->models);
    command->models[command->model_count++] = parse_model(argument, true, state);
}

/* --hessian=FILE is the only model's. */
static void settle_hessian(struct merge_command *command, struct argp_state *state)
{
    const char *file = command->open.open.hessian;
    if (!file)
        return;
    if (command->model_count > 1)
        argp_failure(state, EX_USAGE, 0,
                     "--hessian=%s: is for one model, and there are %zu: give each its own as "
                     "MODEL,hessian=FILE",
                     file, command->model_count);
    if (command->models[0].hessian)
        argp_failure(state, EX_USAGE, 0, "--hessian=%s: '%s' already has '%s'", file,
                     command->models[0].path, command->models[0].hessian);
    command->models[0].hessian = file;
    command->open.open.hessian = NULL;
}

static void parse_sweep(struct merge_command *command, struct argp_state *state, const char *text)
{
    if (!merge_range_parse(&command->range, text))
        argp_failure(state, EX_USAGE, 0, "--sweep: '%s', expected FROM:TO:STEP, such as 0.2:1:0.1",
                     text);
    if (merge_range_count(&command->range) > MERGE_OUTPUTS_MAX)
        argp_failure(state, EX_USAGE, 0, "--sweep: '%s' has more than %d values", text,
                     MERGE_OUTPUTS_MAX);
    command->sweep = true;
}

static error_t merge_options_parse_number_option(int key, char *argument, struct argp_state *state)
{
    struct merge_command *command = state->input;
    switch (key) {
    case KEY_DELTA0:
        command->options.delta0 = option_number(state, "--delta0", argument);
        command->base_option = "--delta0";
        return 0;
    case KEY_BASE_SCALE:
        command->options.base_scale = option_number(state, "--base-scale", argument);
        command->base_option = "--base-scale";
        return 0;
    case KEY_HESSIAN_SCALE:
        command->options.hessian_scale = option_number(state, "--hessian-scale", argument);
        return 0;
    case KEY_SHRINK:
        command->options.shrink = option_number(state, "--shrink", argument);
        command->shrunk = true;
        return 0;
    case KEY_ESS:
        command->options.ess = option_positive(state, "--ess", argument);
        return 0;
    case KEY_DENSITY:
        command->options.density = option_number(state, "--density", argument);
        return 0;
    case KEY_OUTLIERS:
        command->options.outliers = option_number(state, "--outliers", argument);
        return 0;
    case KEY_SEED:
        command->options.seed = option_whole(state, "--seed", argument, 0, UINT64_MAX);
        command->seeded = true;
        return 0;
    case KEY_SCALE:
        command->scale = option_number(state, "--scale", argument);
        command->scaled = true;
        return 0;
    case KEY_LORA_RANK:
        command->lora_rank = (int64_t)option_whole(state, "--lora-rank", argument, 1, 1 << 20);
        command->base_option = "--lora-rank";
        return 0;
    case KEY_MEMORY:
        command->options.resources.memory = option_size(state, "--memory", argument);
        return 0;
    case KEY_SWEEP:
        parse_sweep(command, state, argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum ivon_merge_method parse_method(const char *argument, struct argp_state *state)
{
    enum { METHODS_MAX = 32 };
    const struct ivon_merge_method_traits *traits;
    const char *names[METHODS_MAX];
    int count = 0;
    while (count < METHODS_MAX &&
           (traits = ivon_merge_method_traits((enum ivon_merge_method)count)) != NULL)
        names[count++] = traits->name;
    return (enum ivon_merge_method)option_choice(state, "--method", argument, names, count);
}

static error_t parse_choice_option(int key, char *argument, struct argp_state *state)
{
    static const char *const vocabularies[] = {"base", "longest"};
    static const char *const structures[] = {"diagonal", "kronecker", "lowrank", "means"};
    static const char *const mismatches[] = {"error", "base", "skip"};
    struct merge_command *command = state->input;
    switch (key) {
    case 'm':
        command->options.method = parse_method(argument, state);
        command->method_given = true;
        command->folder.method = argument;
        return 0;
    case KEY_OUT_STRUCTURE:
        command->options.out_structure = (enum ivon_merge_structure)(
            IVON_MERGE_DIAGONAL + option_choice(state, "--out-structure", argument, structures, 4));
        return 0;
    case KEY_DTYPE:
        command->options.dtype = option_dtype(state, "--dtype", argument);
        command->dtype_given = true;
        return 0;
    case KEY_MISMATCH:
        command->options.on_mismatch = (enum ivon_merge_mismatch)option_choice(
            state, "--on-mismatch", argument, mismatches, 3);
        return 0;
    case KEY_VOCABULARY:
        command->options.vocabulary = (enum ivon_merge_vocabulary)(
            option_choice(state, "--vocabulary", argument, vocabularies, 2) + 1);
        return 0;
    case KEY_NONPOSITIVE:
        command->options.on_nonpositive = (enum ivon_merge_nonpositive)option_choice(
            state, "--on-nonpositive", argument, mismatches, 2);
        return 0;
    default:
        return merge_options_parse_number_option(key, argument, state);
    }
}

static void read_recipe(struct merge_command *command, struct argp_state *state)
{
    struct ivon_error error = {0};
    int code = recipe_read(command, &error);
    if (code)
        argp_failure(state,
                     code == IVON_ERROR_ARGUMENT ? EX_USAGE
                     : code == IVON_ERROR_INPUT  ? EX_NOINPUT
                     : code == IVON_ERROR_MEMORY ? EX_OSERR
                                                 : EX_DATAERR,
                     0, "%s", error.message);
}

static void merge_options_check_arguments(struct merge_command *command, struct argp_state *state)
{
    if (command->recipe)
        read_recipe(command, state);
    if (!command->model_count)
        argp_failure(state, EX_USAGE, 0, "no model given; see --help");
    settle_hessian(command, state);
    if (!command->output && !command->dry_run && !command->search.data_count)
        argp_failure(state, EX_USAGE, 0, "no output given: name it by -o FILE");
    if (command->base_option && !command->base_path)
        argp_failure(state, EX_USAGE, 0, "%s is for a base: name it by --base=FILE",
                     command->base_option);
    if (command->sweep && command->scaled)
        argp_failure(state, EX_USAGE, 0, "--scale and --sweep exclude each other");
    if (command->seeded && !command->search.samples &&
        !ivon_merge_method_traits(command->options.method)->seed)
        argp_failure(state, EX_USAGE, 0,
                     "--seed is for --method=dare and dare-ties, and for --samples");
    if (command->shrunk && !ivon_merge_method_traits(command->options.method)->shrink)
        argp_failure(state, EX_USAGE, 0, "--shrink is for --method=regmean");
    command->search.sample.seed = command->options.seed;
    if (command->lora_rank && command->search.data_count)
        argp_failure(state, EX_USAGE, 0,
                     "--evaluate is of whole models: --lora-rank does not go with it");
    if ((command->sweep || command->scaled) && command->search.weights != WEIGHTS_OWN)
        argp_failure(state, EX_USAGE, 0, "--%s does not go with --weights",
                     command->sweep ? "sweep" : "scale");
    if (command->dry_run && command->search.data_count)
        argp_failure(state, EX_USAGE, 0, "--dry-run evaluates nothing: it is without --evaluate");
    if (command->json && command->search.table && strcmp(command->search.table, "-") == 0)
        argp_failure(state, EX_USAGE, 0, "--json and --table=- would both be printed");
    merge_search_check(&command->search, command->model_count, command->output, state);
    if (command->sweep && !command->search.data_count && command->output &&
        output_marks(command->output, "%g") != 1)
        argp_failure(state, EX_USAGE, 0,
                     "--sweep: output '%s' needs exactly one %%g for the factor", command->output);
}

static error_t merge_options_parse(int key, char *argument, struct argp_state *state)
{
    struct merge_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->open;
        state->child_inputs[3] = &command->search;
        return 0;
    case ARGP_KEY_ARG:
        merge_options_add_model(command, state, argument);
        return 0;
    case ARGP_KEY_END:
        merge_options_check_arguments(command, state);
        return 0;
    case 'b':
        free(command->base_model.path);
        command->base_model = parse_model(argument, false, state);
        command->base_path = command->base_model.path;
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    case KEY_RECIPE:
        command->recipe = argument;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    case KEY_DRY_RUN:
        command->dry_run = true;
        return 0;
    case KEY_HASH:
        command->hash = true;
        return 0;
    case KEY_RENAME:
        rename_add(&command->rules, state, argument);
        return 0;
    case KEY_TOKENIZER_FROM:
        command->folder.tokenizer_from = argument;
        return 0;
    case KEY_NO_CARD:
        command->folder.no_card = true;
        return 0;
    default:
        return parse_choice_option(key, argument, state);
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&open_argp, 0, NULL, 0},
                                             {&search_argp, 0, NULL, 0},
                                             {0}};

const struct argp merge_argp = {
    .options = option_table,
    .parser = merge_options_parse,
    .args_doc = "MODEL[,hessian=FILE][:WEIGHT][,GLOB=WEIGHT]...\n--recipe=FILE",
    .doc =
        "Merge the posteriors of finetuned models into one.\v"
        "Examples:\n"
        "  ivon-merge posterior.h5 lowrank.h5 --method=regmean -o regmean.h5\n"
        "  ivon-merge run/posterior-00000800.h5:0.7 half.h5:0.3 -o merged.h5\n"
        "\nWeights multiply what a model learnt (default 1); negative ones remove it. Of "
        "tensors whose name matches, the weight is the first such GLOB's. A FILE has the Hessian "
        "of its model alone. "
        "See ivon-merge(1).",
    .children = children,
};
