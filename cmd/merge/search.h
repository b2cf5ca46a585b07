/* The search over weights: its options are parsed by merge/search_options.c, its vectors listed by
   merge/search.c; merge/evaluate.c evaluates them, and merge/evaluate_table.c prints the table. */
#ifndef CMD_MERGE_SEARCH_H
#define CMD_MERGE_SEARCH_H

#include "cmd/shared/evaluation/evaluation.h"
#include "ivon/ivon.h"

/* FROM:TO:STEP. */
struct merge_range {
    double from, to, step;
};

/* Reads a range, whose bounds are in order and whose step is positive; false for anything else. */
bool merge_range_parse(struct merge_range *range, const char *text);
/* How many values it has, and the i-th, rounded, so that 0.1 three times is 0.3. */
double merge_range_count(const struct merge_range *range);
double merge_range_value(const struct merge_range *range, size_t i);

enum {
    MERGE_OUTPUTS_MAX = 1000,
    MERGE_VECTORS_MAX = 100000, /* that are evaluated */
};

enum merge_weights { WEIGHTS_OWN, WEIGHTS_GRID, WEIGHTS_SIMPLEX };

enum merge_pick { PICK_MEAN, PICK_WORST, PICK_WEIGHTED };

struct merge_search {
    enum merge_weights weights;
    uint64_t parts;           /* N of grid:N and simplex:N; 0: the range */
    struct merge_range range; /* of a grid */
    const char **data;        /* of --evaluate */
    size_t data_count;
    struct evaluation_options evaluation;
    struct ivon_sample_options sample;
    size_t samples; /* 0: the mean */
    const char *table;
    enum ivon_table_format format; /* of the table */
    enum merge_pick pick;
    double *pick_weights; /* of PICK_WEIGHTED, one for each data set */
    size_t pick_count;
    const char *needs_data; /* an option that means nothing without --evaluate; null: none */

    /* While it runs: */
    double *vectors; /* rows of as many numbers as there are models; null: WEIGHTS_OWN */
    size_t vector_count;
    char **labels; /* of the data sets, for columns */
};

/* --weights, --evaluate, --pick, --table, --samples, and those of evaluation_task_argp; its
   input is a struct merge_search. */
extern const struct argp search_argp;

struct merge_search merge_search_defaults(void);
void merge_search_release(struct merge_search *search);

/* Ends the program where the options do not go together. `output` may be null. */
void merge_search_check(struct merge_search *search, size_t models, const char *output,
                        struct argp_state *state);

/*
 * Lists the vectors, in rising order, the first model's number first. `own` are the models'
 * weights, which they multiply; where the sum of weights `divides`, vectors that add up to zero are
 * left out. Fails where there are more than `most`, or none.
 */
int merge_search_list(struct merge_search *search, const double *own, size_t models, bool divides,
                      size_t most, struct ivon_error *error);

/* The output of a vector, to be freed: the name, with the vector's number or its numbers in it. */
char *merge_search_output(const struct merge_search *search, const char *name, size_t vector,
                          size_t models);

#endif
