/* The options that say how data and outputs meet a graph. */
#ifndef CMD_SHARED_EVALUATION_GRAPH_OPTIONS_H
#define CMD_SHARED_EVALUATION_GRAPH_OPTIONS_H

#include <argp.h>
#include <jansson.h>

#include "cmd/shared/options/options.h"
#include "ivon/ivon.h"

/* --graph-output, --output-axes, --set, --batch-axis, --probabilities: a child of the argp of
   commands that run a graph; its input is a struct graph_options. */
struct graph_options {
    struct ivon_adapt_options adapt; /* the link is set by graph_adapt */
    struct ivon_bind_options bind;   /* of bind_argp */
    bool given;                      /* any of these options */
    bool *reported;                  /* what is said of a graph was, of one before it */
    /* Owned: */
    enum ivon_axis *axes;
    struct ivon_input_value *values;
    struct ivon_batch_axis *batch_axes;
    char **texts; /* of values and axes, split */
    size_t text_count;
};
extern const struct argp graph_argp;

/* --keep-graph-weights: its input is a struct ivon_bind_options. */
extern const struct argp bind_argp;

struct graph_options graph_options_defaults(void);
void graph_options_release(struct graph_options *options);

/* Adapts a network to the options and a likelihood (ivon_network_adapt), and says, once for all
   graphs, which output it passed over and what it took from the end. */
int graph_adapt(const struct graph_options *options, enum ivon_likelihood likelihood,
                struct ivon_network *network, struct ivon_source *source, const char *path,
                const struct common_options *common, struct ivon_error *error);

/* Warns that outputs of a graph were probabilities and taken for logits. */
void graph_warn_probabilities(const char *path);

/* The options, for the record of a run: null where none was given. */
json_t *graph_options_json(const struct graph_options *options);

#endif
