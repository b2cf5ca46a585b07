/* The state of a recipe's readers, recipe.c and recipe_slices.c, and the values that both read. */
#ifndef CMD_MERGE_RECIPE_READER_H
#define CMD_MERGE_RECIPE_READER_H

#include "cmd/merge/merge.h"
#include "cmd/merge/recipe_tree.h"

struct recipe_reader {
    struct merge_command *command;
    const struct recipe_node *root;
    const struct recipe_node *weight; /* of all models; null: none */
    bool divides;                     /* the method divides by the sum of the weights */
    bool single;                      /* the method takes one model for each tensor */
    bool origin;                      /* the base is no model */
    size_t rules;                     /* of all models */
    struct ivon_error *error;
};

/* Fills in the error of a place in the recipe; returns its code. */
int recipe_fail(const struct recipe_reader *reader, const struct recipe_node *node,
                const char *format, ...) __attribute__((format(printf, 3, 4)));

/* "a, b, c", to be freed. */
char *recipe_list(const char *const *names, size_t count);

/* The values of a map's keys, null where there is none. Fails on any other key. */
int recipe_members(const struct recipe_reader *reader, const struct recipe_node *map,
                   const char *what, const char *const *names, size_t count,
                   const struct recipe_node **values);
int recipe_text(const struct recipe_reader *reader, const struct recipe_node *node,
                const char *what, const char **text);
int recipe_number(const struct recipe_reader *reader, const struct recipe_node *node,
                  const char *what, double *number);

/* The weight among the parameters, which may be null; null: there is none. */
int recipe_weight_of(const struct recipe_reader *reader, const struct recipe_node *parameters,
                     const struct recipe_node **weight);

/* Adds the rules of settings, any of which may be null: a number, a list over the layers, a filter
   with a value or a list of such. The first one that has a value holds; without any, 1. */
int recipe_model_weights(struct recipe_reader *reader, const struct recipe_node *const *settings,
                         size_t count, const struct weight_range *range,
                         struct weight_rules *rules);

/* Adds a model to the command. Moves the others. */
struct merge_model *recipe_model(struct recipe_reader *reader, const char *path);

int recipe_slices(struct recipe_reader *reader, const struct recipe_node *list);

#endif
