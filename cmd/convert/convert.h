/* ivon-convert: parsed, written and described by convert.c; convert/tensors.c chooses tensors, and
   convert/graph.c reads a graph for them. */
#ifndef CMD_CONVERT_CONVERT_H
#define CMD_CONVERT_CONVERT_H

#include "cmd/shared/evaluation/graph_options.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/options/rename.h"
#include "ivon/ivon.h"

struct convert_command {
    struct common_options common;
    struct open_options open;
    struct file_options files;
    struct name_filter filter;
    struct rename_rules rules;
    struct ivon_convert_options options;
    struct ivon_create_options create;
    struct ivon_header given; /* by options */
    const char *input, *output, *model, *graph_output;
    struct ivon_bind_options bind;
    bool means; /* alone, with buffers */
    bool reduce;
    struct ivon_reduce_options reduction;

    /* While it runs: */
    struct ivon_source *opened, *source, *chosen; /* as it is in the file; reduced, or the same */
    struct ivon_subset_item *choices;
    size_t choice_count;
    size_t left_out[IVON_PART_COUNT]; /* tensors that the output's format has no place for */
    struct ivon_tensor *outputs;      /* the chosen ones; behind them the graph, if one is put in */
    size_t output_count;
    struct ivon_sink *sink;
    char *graph;
    size_t graph_size;
};

/* Makes `chosen` of the tensors that options and the output's format take, by their new names. */
int convert_choose(struct convert_command *command, struct ivon_error *error);

/* Returns whether a part is one list of bytes, which has the part's name for its own. */
bool convert_part_is_bytes(enum ivon_part part);

/* The header of the output, but for its provenance. */
struct ivon_header convert_header(const struct convert_command *command);

/* Reads the graph, which has to take the tensors as they are written. */
int convert_read_graph(struct convert_command *command, struct ivon_error *error);

#endif
