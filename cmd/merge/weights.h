/*
 * Weights of single tensors. A model has rules; of those that match a tensor's name the first one
 * gives its weight, and where none does the model's own weight holds. A rule matches by globs and,
 * of a recipe's slices, by layers; its values run over the layers.
 *
 * The layer of a tensor is the first component of its name that is a number: layers.7.mlp.weight
 * is in layer 7 of those named layers. Of n layers, layer l is at t = l/(n − 1), the only one at 1.
 * Tensors without a number are before the layers, t = 0, if their name has "emb", "wte" or "wpe" in
 * it, and behind them, t = 1, otherwise. Values v_0 … v_m are interpolated between the two about
 * t m, as mergekit does.
 */
#ifndef CMD_MERGE_WEIGHTS_H
#define CMD_MERGE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/stream.h"

/* A slice's layers; the first slice has what is before the layers, the last what is behind them. */
struct weight_range {
    int64_t first, end;
    bool before, behind;
};

struct weight_rule {
    char *text;      /* the glob or filter as it was given; null: matches every name */
    char **patterns; /* any of them matches */
    size_t pattern_count;
    double *values; /* one, or several that run over the layers */
    size_t value_count;
    bool ranged;
    struct weight_range range;
    bool used; /* some tensor's name matched */
};

struct weight_rules {
    struct weight_rule *items;
    size_t count;
};

/* The layers of all inputs, counted by what their names begin with. */
struct weight_layers {
    struct weight_layer_group {
        const char *name; /* of a tensor of the group; borrowed */
        size_t length;    /* of what stands before the number */
        int64_t count;
    } * groups;
    size_t count;
    int64_t most; /* layers of the largest group */
};

/* A new rule behind the others, of one value, that matches all. */
struct weight_rule *weight_rules_add(struct weight_rules *rules, double value);
void weight_rules_release(struct weight_rules *rules);

/* Makes a rule match a glob in which {a..b} stands for each number from a to b. Fails if that
   would be too many. */
int weight_rule_set_glob(struct weight_rule *rule, const char *glob, struct ivon_error *error);
/* Makes a rule match names that contain the text; all names if that is "*" or empty. */
void weight_rule_set_filter(struct weight_rule *rule, const char *text);

/* Cuts ",GLOB=WEIGHT" off the end of a text as often as it is there. */
int weight_rules_cut(struct weight_rules *rules, char *text, struct ivon_error *error);

/* The weight of the tensor of that name. */
double weight_rules_find(struct weight_rules *rules, const struct weight_layers *layers,
                         const char *name, double own);

/* A pattern that matched nothing, or null. */
const char *weight_rules_unused(const struct weight_rules *rules);

/* Adds the means of a source; once all are added, weight_layers_count counts them. */
void weight_layers_add(struct weight_layers *layers, const struct ivon_source *source);
void weight_layers_count(struct weight_layers *layers);
void weight_layers_release(struct weight_layers *layers);

#endif
