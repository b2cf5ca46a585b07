/* Outputs of ivon-merge that are directories: weights, and what a model hub has beside them. */
#ifndef CMD_MERGE_FOLDER_H
#define CMD_MERGE_FOLDER_H

#include <jansson.h>

#include "ivon/checkpoint.h"
#include "ivon/directory.h"

struct merge_command;

struct merge_folder {
    const char *tokenizer_from; /* null: from where the rest is */
    const char *method;         /* as given; null: the default */
    bool no_card;

    /* While it runs: */
    bool wanted;               /* outputs are directories: of models, or of adapters */
    char *from;                /* where the files come from; null: from nowhere */
    struct folder_file *files; /* that are carried, by name */
    size_t count;
    char *config;      /* config.json as it is written; null: there is none */
    char *warnings[2]; /* of files that are not carried, of each directory */
    size_t warning_count;
    uint64_t shard_size;
    bool several; /* files of weights */
    const json_t *provenance;
    struct ivon_directory **directories; /* per output */
};

/* Finds out whether outputs are directories, and refuses options that mean nothing else. */
int merge_folder_settle(struct merge_command *command, struct ivon_error *error);

/* Lists what is carried, when the merge is planned. */
int merge_folder_plan(struct merge_command *command, const json_t *provenance,
                      struct ivon_error *error);

/* Begins an output. */
int merge_folder_create(struct merge_command *command, size_t output, struct ivon_error *error);

/* Says by which name and options its weights, or factors, are created. */
int merge_folder_weights(struct merge_command *command, size_t output, const char **path,
                         struct ivon_create_options *options, struct ivon_error *error);

/* Writes what is carried, and gives the output and its files their names; `weights` are their
   sink. */
int merge_folder_commit(struct merge_command *command, size_t output, struct ivon_sink *weights,
                        struct ivon_error *error);

/* Says in an error's message the outputs' names where it has hidden ones. */
void merge_folder_explain(const struct merge_command *command, struct ivon_error *error);

/* Prints what there is to say about files that are not carried. */
void merge_folder_print_warnings(const struct merge_command *command);

void merge_folder_release(struct merge_command *command);

/* The text of the model card, to be freed. */
char *merge_card(const struct merge_command *command, size_t output);

/* The text of a config.json of that dtype, to be freed: the value of its member torch_dtype, or
   dtype, is another, and nothing else; null where it has neither. The text is a JSON object. */
char *merge_config_dtype(const char *text, enum ivon_dtype dtype);

#endif
