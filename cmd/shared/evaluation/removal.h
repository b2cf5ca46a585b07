/* The common parts of commands that remove examples. */
#ifndef CMD_SHARED_EVALUATION_REMOVAL_H
#define CMD_SHARED_EVALUATION_REMOVAL_H

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/options/options.h"

/* --rho, --n-train, which set these two members of a struct ivon_sensitivity_options, its input. */
extern const struct argp scale_argp;

/* --covariance, --leverage, and those of scale_argp: a child of such a command's argp; its input is
   a struct ivon_sensitivity_options. */
extern const struct argp removal_argp;

/* Sets what the other options say, which it checks. */
void removal_set_options(struct ivon_sensitivity_options *options,
                         const struct evaluation_options *evaluation,
                         const struct common_options *common, const struct draw_options *draw,
                         struct argp_state *state);

/* Says what became of leverage. */
void removal_note_leverage(const struct ivon_leverage_use *use, bool automatic);

/* The sums of a run over examples: means over the positions that count, with an example's as one
   observation. Arrays take the numbers of each example, sums over its positions. */
struct removal_sums {
    double *positions, *losses, *loo_losses; /* null: they are not wanted */
    size_t tokens;
    bool classes;
    struct ivon_ratio loss, error, loo_loss, loo_error; /* loo: where the options' scores have it */
};

/* Runs over the examples, and adds up their losses at the mean, and what they would be without each
   of them, which all ranks receive. *sensitivity receives what ran, to be freed. */
int removal_sum(struct removal_sums *sums, struct ivon_network *network, struct ivon_source *source,
                struct ivon_examples *examples, const char *targets,
                const struct ivon_sensitivity_options *options,
                struct ivon_sensitivity **sensitivity, struct ivon_error *error);

/* Warns of an N that counts sequences where losses are averaged over tokens. */
void removal_warn(int64_t tokens, double n_train, uint64_t examples);

#endif
