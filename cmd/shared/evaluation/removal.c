#include "cmd/shared/evaluation/removal.h"

#include <inttypes.h>
#include <math.h>
#include <sysexits.h>

#include "cmd/shared/report.h"
#include "ivon/ranks.h"

enum { KEY_COVARIANCE = 256, KEY_RHO, KEY_N_TRAIN, KEY_LEVERAGE };

static const struct argp_option option_table[] = {
    {"covariance", KEY_COVARIANCE, "full|diag", 0,
     "Of an example's outputs: exact, or the published diagonal (default full)", 3},
    {"leverage", KEY_LEVERAGE, "auto|none|newton", 0,
     "Remove an example's curvature, too (default auto: with a low rank that holds it)", 3},
    {0},
};

static const struct argp_option scale_option_table[] = {
    {"rho", KEY_RHO, "X", 0, "Size of a removal (default: ess / N)", 3},
    {"n-train", KEY_N_TRAIN, "N", 0,
     "Number of training examples (default: the checkpoint's, else those of the data)", 3},
    {0},
};

static error_t scale_parse(int key, char *argument, struct argp_state *state)
{
    struct ivon_sensitivity_options *options = state->input;
    switch (key) {
    case KEY_RHO:
        options->rho = option_positive(state, "--rho", argument);
        return 0;
    case KEY_N_TRAIN:
        options->n_train = (int64_t)option_whole(state, "--n-train", argument, 1, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp scale_argp = {.options = scale_option_table, .parser = scale_parse};

static error_t removal_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const covariances[] = {"full", "diag"};
    static const char *const leverages[] = {"auto", "none", "newton"};
    struct ivon_sensitivity_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = options;
        return 0;
    case KEY_COVARIANCE:
        options->covariance = (enum ivon_covariance)option_choice(state, "--covariance", argument,
                                                                  covariances, 2);
        return 0;
    case KEY_LEVERAGE:
        options->leverage = (enum ivon_leverage)option_choice(state, "--leverage", argument,
                                                              leverages, 3);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child removal_children[] = {{&scale_argp, 0, NULL, 0}, {0}};

const struct argp removal_argp = {
    .options = option_table, .parser = removal_parse, .children = removal_children};

void removal_set_options(struct ivon_sensitivity_options *options,
                         const struct evaluation_options *evaluation,
                         const struct common_options *common, const struct draw_options *draw,
                         struct argp_state *state)
{
    if (!evaluation->data)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    evaluation_check_noise(evaluation, state);
    options->task = evaluation->task;
    options->batch = evaluation->batch;
    options->sample = draw->sample;
    options->resources.memory = evaluation->memory;
    options->resources.threads = common->threads;
}

void removal_note_leverage(const struct ivon_leverage_use *use, bool automatic)
{
    if (use->rank && automatic && !use->applied)
        report_note("no leverage: the least value of the low-rank correction is %.3g, not below "
                    ".9: fit more pairs than %zu to have it",
                    use->last, use->rank);
    if (use->applied && use->outside)
        report_warning("%" PRIu64 " examples without leverage: the posterior does not hold their "
                       "curvature",
                       use->outside);
}

static int removal_add_block(void *context, const struct ivon_sensitivities *block,
                             struct ivon_error *error)
{
    (void)error;
    struct removal_sums *sums = context;
    const double *loo_loss = block->scores[IVON_SCORE_LOO_LOSS];
    for (size_t i = 0; i < block->count; i++) {
        double counted = (double)block->positions[i], missed = 0, loo_missed = 0;
        for (size_t t = i * sums->tokens; t < (i + 1) * sums->tokens && sums->classes; t++) {
            missed += (double)block->row_error[t];
            loo_missed += block->row_loo_error ? (double)block->row_loo_error[t] : 0;
        }
        ivon_ratio_add(&sums->loss, block->loss[i], counted);
        ivon_ratio_add(&sums->error, missed, counted);
        if (loo_loss)
            ivon_ratio_add(&sums->loo_loss, loo_loss[i], counted);
        ivon_ratio_add(&sums->loo_error, loo_missed, counted);
        if (sums->positions) {
            sums->positions[block->first + i] = counted;
            sums->losses[block->first + i] = block->loss[i];
            sums->loo_losses[block->first + i] = loo_loss ? loo_loss[i] : (double)NAN;
        }
    }
    return 0;
}

/* Sums that rank 0 has are those of all, who decide by them. */
static int removal_share(struct removal_sums *sums, uint64_t examples, struct ivon_ranks *ranks,
                         struct ivon_error *error)
{
    size_t size = (size_t)examples * sizeof(double);
    struct ivon_ratio *const ratios[] = {&sums->loss, &sums->error, &sums->loo_loss,
                                         &sums->loo_error};
    double *const arrays[] = {sums->positions, sums->losses, sums->loo_losses};
    int code = 0;
    for (size_t i = 0; i < sizeof ratios / sizeof ratios[0] && !code; i++)
        code = ivon_ranks_share(ranks, ratios[i], sizeof *ratios[i], error);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && sums->positions && !code; i++)
        code = ivon_ranks_share(ranks, arrays[i], size, error);
    return code;
}

int removal_sum(struct removal_sums *sums, struct ivon_network *network, struct ivon_source *source,
                struct ivon_examples *examples, const char *targets,
                const struct ivon_sensitivity_options *options,
                struct ivon_sensitivity **sensitivity, struct ivon_error *error)
{
    int code = ivon_sensitivity_new(sensitivity, network, source, examples, targets, options,
                                    error);
    if (code)
        return code;
    int64_t tokens = ivon_sensitivity_shape(*sensitivity).tokens;
    sums->tokens = tokens ? (size_t)tokens : 1;
    sums->classes = !ivon_likelihood_traits(options->task.likelihood)->regression;
    code = ivon_sensitivity_run(*sensitivity, 0, removal_add_block, sums, error);
    return code ? code
                : removal_share(sums, ivon_examples_count(examples), options->resources.ranks,
                                error);
}

void removal_warn(int64_t tokens, double n_train, uint64_t examples)
{
    if (tokens > 1 && n_train == (double)examples)
        report_warning("N = %" PRIu64 " is the number of sequences: where the loss was averaged "
                       "over tokens, N counts those",
                       examples);
}
