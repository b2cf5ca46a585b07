/* The common parts of commands that run a network on data: the graph, the data, and the likelihood
   of the targets given the outputs. */
#ifndef CMD_SHARED_EVALUATION_EVALUATION_H
#define CMD_SHARED_EVALUATION_EVALUATION_H

#include <argp.h>

#include "cmd/shared/evaluation/graph_options.h"
#include "cmd/shared/inputs/name_list.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "ivon/ivon.h"

/* --data, --memory and those of evaluation_task_argp: a child of the argp of commands that run a
   network on one data set; its input is a struct evaluation_options. */
struct evaluation_options {
    struct graph_options graph;
    const char *model, *data, *classes;
    struct ivon_dataset_options dataset;
    struct ivon_task task; /* noise_std is NaN where it is not given */
    bool given;            /* any option of evaluation_task_argp but those of a graph */
    bool ignored_given;
    size_t batch, memory; /* 0: not given */
    /* Owned: */
    struct ivon_feed_name *pairs; /* those of the task */
    char *inputs;
    const char **fields;
    double *channel_mean, *channel_std;
    char **named; /* the graph's inputs */
    size_t named_count;
    struct name_list class_names; /* those of --classes, once they are read */
};
extern const struct argp evaluation_argp;

/* --model, --inputs, --targets, --target-column, --classes, --normalize, --resize, --limit,
   --tokens, --text-column, --context, --stride, --batch, --likelihood, --noise-std, --ignore-label,
   and those of a graph, with the same input. */
extern const struct argp evaluation_task_argp;

struct evaluation_options evaluation_defaults(void);
void evaluation_release(struct evaluation_options *options);

/* Ends the program unless --noise-std is given where the likelihood needs it, and only there. */
void evaluation_check_noise(const struct evaluation_options *options, struct argp_state *state);

/* Reads --classes, where it is given and was not read, for data sets that are opened from then on;
   evaluation_open_named does it, too. */
int evaluation_read_classes(struct evaluation_options *options, struct ivon_error *error);

/* Fails unless --classes, where it is given, names as many classes as a network of so many outputs
   tells apart. */
int evaluation_check_classes(const struct evaluation_options *options, size_t outputs,
                             struct ivon_error *error);

/* Lets a table's columns of classes have their names, where --classes gives them. */
void evaluation_name_columns(const struct evaluation_options *options,
                             const enum ivon_naming *naming, struct ivon_table_options *table);

/* The name of the array of targets. */
const char *evaluation_targets(const struct evaluation_options *options);

/* Fails: the data at a path have no array of that name. */
int evaluation_no_targets(const char *path, const char *name, struct ivon_error *error);

/* Fails: all targets of the data at a path are the label that is ignored. */
int evaluation_nothing_counts(const struct evaluation_options *options, const char *path,
                              struct ivon_error *error);

/* Lets the data be read by the names of the network's inputs where --inputs names none: there are
   several, or, which evaluation_open_data finds out, no array of the usual name. An input that is a
   tensor of the source (or null) is none of the data. Images get the channels, and texts
   the tokens, of the first that is none. */
void evaluation_name_inputs(struct evaluation_options *options, const struct ivon_network *network,
                            struct ivon_source *source);

/* Opens a dataset by --data's options; by the name of the graph's one input where there is no array
   of the usual name, and from then on. */
int evaluation_open_named(struct evaluation_options *options, struct ivon_examples **examples,
                          const char *path, const struct ivon_dataset_options *dataset,
                          struct ivon_error *error);

/* Opens --data; *whole receives all of them, whatever --limit says: the same where it says nothing,
   else to be closed apart. */
int evaluation_open_data(struct evaluation_options *options, struct ivon_examples **examples,
                         struct ivon_examples **whole, struct ivon_error *error);

/* Opens other data as those are, all of them whatever --limit says. */
int evaluation_open_whole(const struct evaluation_options *options, const char *path,
                          struct ivon_examples **examples, struct ivon_error *error);

/* Opens a posterior; with it the graph that the options name, or else the posterior's own, bound to
   it. What has no place is warned of. If it cannot be opened, and --data are a posterior, the error
   is that those hold no arrays: the two were exchanged. */
int evaluation_open_posterior(const struct evaluation_options *options, const char *path,
                              const struct open_options *open, const struct common_options *common,
                              struct ivon_source **source, struct ivon_network **network,
                              struct ivon_error *error);

/* The same for a source that is open, which messages call `path`. */
int evaluation_open_network(const struct evaluation_options *options, struct ivon_source *source,
                            const char *path, const struct common_options *common,
                            struct ivon_network **network, struct ivon_error *error);

/* Prints the warnings of a run about outputs that may not be what they were taken for. */
void evaluation_warn(const struct ivon_predictor *predictor, const struct ivon_examples *examples,
                     const char *graph);

#endif
