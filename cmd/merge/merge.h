/* ivon-merge: run by merge.c, parsed by merge/options.c, or from a recipe by merge/recipe.c;
   merge/report.c and merge/adapter_report.c describe the result, merge/dry_run.c the plan. */
#ifndef CMD_MERGE_MERGE_H
#define CMD_MERGE_MERGE_H

#include <jansson.h>

#include "cmd/merge/folder.h"
#include "cmd/merge/recipe_tree.h"
#include "cmd/merge/search.h"
#include "cmd/merge/weights.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/options/rename.h"
#include "ivon/ivon.h"

/* An argument; the base is one without a weight. */
struct merge_model {
    char *path;
    const char *hessian; /* a file for this model alone, behind the path; null: none */
    double weight;
    struct weight_rules rules; /* of single tensors */
};

struct merge_command {
    struct common_options common;
    struct file_options files;
    struct open_options open;
    struct ivon_merge_options options;
    bool method_given, dtype_given;
    const char *recipe;              /* the file; null: none */
    struct recipe_node *recipe_tree; /* its text, which models point to */
    int64_t recipe_layers;           /* that its slices have; 0: there are none */
    bool divide;                     /* weights by their sum */
    bool unit_sum;                   /* weights of each tensor have to add up to 1 */
    const char *base_option; /* one that means nothing without a base; null: none is given */
    struct merge_model base_model;
    const char *base_path; /* of base_model; null: there is none */
    char *base_name;       /* as an adapter has it */
    struct merge_model *models;
    size_t model_count;
    struct name_filter filter;
    struct rename_rules rules;
    struct merge_folder folder;
    const char *output;
    struct merge_range range; /* of --sweep */
    struct merge_search search;
    double scale;
    bool sweep, scaled, seeded, shrunk, json, dry_run, hash;
    int64_t lora_rank; /* the outputs are adapters; 0: they are models */
    int lora_dtype;    /* of their factors */

    /* While it runs: */
    struct weight_layers layers;
    struct ivon_source *base;
    struct ivon_merge_model *sources; /* as the models */
    struct ivon_source **originals;   /* of those that are renamed */
    size_t original_count;
    struct ivon_merge *merge;
    double *scales; /* of the results, each with a factor of its own or a vector of the search */
    char **outputs; /* per result */
    struct ivon_sink **sinks;
    struct ivon_extraction **extractions; /* per result; null: the outputs are models */
    size_t scale_count;                   /* of results */
    struct progress progress;
    struct merge_table *evaluated; /* null: nothing is */
};

/* The number that multiplies one model's weight in a result: of its vector, or its factor. */
static inline double merge_factor(const struct merge_command *command, size_t result, size_t model)
{
    const double *vectors = command->options.vectors;
    return vectors ? vectors[result * command->model_count + model] : command->scales[result];
}

/* Merges and evaluates every result in memory: the inputs are open. The table stays in ->evaluated,
   and only the result that is picked remains, if it is to be written. See cmd/merge/evaluate.h. */
int merge_evaluate(struct merge_command *command, const char *creator, struct ivon_error *error);

/* A model that is the directory of an adapter is its file of factors. */
void merge_name_adapter(struct merge_model *model);

/* Makes of a source that is an adapter the model that this makes of the base, if there is one; any
   other source stays. Closes it where that fails. */
int merge_apply_adapter(struct ivon_source **source, const struct merge_command *command,
                        struct ivon_error *error);

/* The name of a model in a card or an adapter: that on a hub, where its path is in the cache of
   one; its directory; else its path. To be freed. */
char *merge_model_name(const char *path);

/* Begins directories, and makes, instead of files, sinks that make adapters of the results; after
   the merge, writes these. */
int merge_create_adapters(struct merge_command *command, struct ivon_error *error);
int merge_write_adapters(struct merge_command *command, const char *provenance,
                         struct ivon_error *error);

/* Says how near an adapter is to the merged model: by a number, in JSON, and as notes. */
double merge_adapter_error(const struct merge_command *command, size_t output);
json_t *merge_adapter_json(const struct merge_command *command, size_t scale);
void merge_describe_adapters(const struct merge_command *command);

/* Puts one with other names in a model's place, if --rename changes any. */
int merge_rename(struct merge_command *command, struct ivon_source **source,
                 struct ivon_error *error);

/* The summary of --json, on stdout. */
void merge_print_json(const struct merge_command *command);

/* Prints the warnings of a merge that succeeded. */
void merge_print_warnings(const struct merge_command *command);

/* The weight of a model, by its place, for the tensor of that name; `command` is one of these. */
double merge_weight_of(void *command, size_t model, const char *name);

/* Gives the options the weights of single tensors, if there are any. */
int merge_settle_weights(struct merge_command *command, struct ivon_error *error);

/* Fails if weights that have to add up to 1 do not, in a tensor that is merged. */
int merge_check_weights(const struct merge_command *command, struct ivon_error *error);

const char *merge_fate_name(enum ivon_merge_fate fate);

/* Prints the plan of each tensor on stdout: a table, or lines of JSON. */
void merge_print_plan(struct merge_command *command);

/* One line on what was merged, or would be. */
void merge_describe(const struct merge_command *command);

#endif
