/* The options of ivon-train's optimizer and loss: which of them a method has, and with which
   defaults. */
#include <math.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/train/options.h"

enum {
    KEY_PRIOR = 256,
    KEY_PRIOR_SCALE,
    KEY_LORA_ALPHA,
    KEY_OPTIMIZER,
    KEY_LR,
    KEY_ESS,
    KEY_H0,
    KEY_AVERAGE,
    KEY_BETA1,
    KEY_BETA2,
    KEY_BETA3,
    KEY_BASIS_EVERY,
    KEY_MAX_FACTOR,
    KEY_PARAM_GROUP,
    KEY_WEIGHT_DECAY,
    KEY_ANTITHETIC,
    KEY_MC_SAMPLES,
    KEY_CLIP_RADIUS,
    KEY_HESSIAN,
    KEY_HESS_EVERY,
    KEY_RESCALE,
    KEY_NO_RESCALE,
    KEY_DEBIAS,
    KEY_NO_DEBIAS,
    KEY_CLIP_NORM,
    KEY_LANE_SAMPLES,
    KEY_CLASS_WEIGHTS,
    KEY_DROPOUT,
    KEY_LABEL_SMOOTHING,
};

static const struct argp_option option_table[] = {
    {"lora-alpha", KEY_LORA_ALPHA, "X", 0,
     "--lora: their product counts X/RANK times (default: once)", 1},
    {"prior", KEY_PRIOR, "zero|posterior", 0,
     "IVON: weight decay to zero (default), or --from as the prior", 2},
    {"prior-scale", KEY_PRIOR_SCALE, "X", 0,
     "--prior=posterior: multiply its precision (default 1)", 2},
    {"optimizer", KEY_OPTIMIZER, "ivon|evon|bbb|adamw|soap|sgd", 0, "Default ivon", 2},
    {"lr", KEY_LR, "X", 0, "Learning rate", 2},
    {"ess", KEY_ESS, "X", 0,
     "IVON, EVON, BBB: effective sample size (default: the number of losses)", 2},
    {"h0", KEY_H0, "X", 0, "IVON, EVON, BBB: initial Hessian (default 1)", 2},
    {"beta1", KEY_BETA1, "X", 0, "Of the momentum (default 0.9; soap 0.95)", 2},
    {"beta2", KEY_BETA2, "X", 0, "Of the Hessian (default 0.99999; adamw, bbb 0.999; soap 0.95)",
     2},
    {"beta3", KEY_BETA3, "X", 0, "EVON, SOAP: of the moments that bases follow (default 0.95)", 2},
    {"basis-every", KEY_BASIS_EVERY, "N", 0, "EVON, SOAP: steps between new bases (default 10)", 2},
    {"max-factor", KEY_MAX_FACTOR, "N", 0, "EVON, SOAP: rows of the largest basis (default 1024)",
     2},
    {"weight-decay", KEY_WEIGHT_DECAY, "X", 0, "Default 0.0001; adamw, soap 0.01; sgd 0", 2},
    {"param-group", KEY_PARAM_GROUP, "GLOB:lr=X,weight-decay=X,ess=X,h0=X", 0,
     "Other settings for parameters of such names (repeatable; the first that matches counts)", 2},
    {"antithetic", KEY_ANTITHETIC, NULL, 0, "IVON, EVON, BBB: draw weights in opposite pairs", 2},
    {"mc-samples", KEY_MC_SAMPLES, "N", 0, "IVON, EVON, BBB: weight samples of a step (default 1)",
     2},
    {"clip-radius", KEY_CLIP_RADIUS, "X", 0,
     "IVON, EVON: bound of an element's step before the rate", 2},
    {"hessian", KEY_HESSIAN, "price|gradsq", 0, "IVON, EVON: its estimate (default price)", 2},
    {"hess-every", KEY_HESS_EVERY, "N", 0, "IVON, EVON: estimate it in every Nth step (default 1)",
     2},
    {"rescale-lr", KEY_RESCALE, NULL, 0,
     "IVON, EVON: multiply the rate by h0 + weight decay (default)", 2},
    {"no-rescale-lr", KEY_NO_RESCALE, NULL, 0, "IVON, EVON: don't", 2},
    {"debias", KEY_DEBIAS, NULL, 0, "Debias momenta (default)", 2},
    {"no-debias", KEY_NO_DEBIAS, NULL, 0, "Don't", 2},
    {"clip-norm", KEY_CLIP_NORM, "X", 0, "Bound of the gradient's norm", 2},
    {"average", KEY_AVERAGE, "DECAY", 0, "Keep the exponential average of the means, as 0.999", 2},
    {"lane-samples", KEY_LANE_SAMPLES, NULL, 0, "IVON: draw weights for each of --lanes", 3},
    {"class-weights", KEY_CLASS_WEIGHTS, "W,W,...|balanced|FILE", 0,
     "Of the losses of each class in the training", 2},
    {"dropout", KEY_DROPOUT, "P|own", 0,
     "Drop so much at Dropout nodes in training, or each its own ratio (default 0)", 2},
    {"label-smoothing", KEY_LABEL_SMOOTHING, "X", 0,
     "Spread so much of each label over all classes (default 0)", 2},
    {0},
};

/* Sets of methods. */
enum {
    IVON = 1 << IVON_METHOD_IVON,
    ADAMW = 1 << IVON_METHOD_ADAMW,
    SGD = 1 << IVON_METHOD_SGD,
    EVON = 1 << IVON_METHOD_EVON,
    SOAP = 1 << IVON_METHOD_SOAP,
    BBB = 1 << IVON_METHOD_BBB,
    WITH_HESSIAN = IVON | EVON,
    WITH_POSTERIOR = IVON | EVON | BBB,
    WITH_BASES = EVON | SOAP,
    ANY_METHOD = -1
};

/* Numbers that not every method has, or that have a default of their own in each. */
static const struct number {
    int key;
    const char *name;
    size_t offset;
    bool positive; /* not zero */
    int methods;
} numbers[] = {
    {KEY_LR, "--lr", offsetof(struct ivon_train_options, rate), true, ANY_METHOD},
    {KEY_ESS, "--ess", offsetof(struct ivon_train_options, ess), true, WITH_POSTERIOR},
    {KEY_H0, "--h0", offsetof(struct ivon_train_options, hessian_init), false, WITH_POSTERIOR},
    {KEY_BETA1, "--beta1", offsetof(struct ivon_train_options, beta1), false, ANY_METHOD},
    {KEY_BETA2, "--beta2", offsetof(struct ivon_train_options, beta2), false, ~SGD},
    {KEY_BETA3, "--beta3", offsetof(struct ivon_train_options, basis_beta), false, WITH_BASES},
    {KEY_WEIGHT_DECAY, "--weight-decay", offsetof(struct ivon_train_options, weight_decay), false,
     ANY_METHOD},
    {KEY_PRIOR_SCALE, "--prior-scale", offsetof(struct ivon_train_options, prior_scale), true,
     IVON},
    {KEY_CLIP_RADIUS, "--clip-radius", offsetof(struct ivon_train_options, clip_radius), true,
     WITH_HESSIAN},
    {KEY_AVERAGE, "--average", offsetof(struct ivon_train_options, average), false, ANY_METHOD},
    {KEY_CLIP_NORM, "--clip-norm", offsetof(struct ivon_train_options, norm_clip), true,
     ANY_METHOD},
    {KEY_LABEL_SMOOTHING, "--label-smoothing", offsetof(struct ivon_train_options, label_smoothing),
     false, ANY_METHOD},
    {KEY_LORA_ALPHA, "--lora-alpha", offsetof(struct ivon_train_options, lora_alpha), true,
     ANY_METHOD},
};

enum { METHODS_MAX = 8, NUMBERS = sizeof numbers / sizeof *numbers };

_Static_assert((int)NUMBERS <= (int)TRAIN_NUMBERS_MAX, "struct train_given has room for them");

static double *number_of(struct ivon_train_options *options, size_t i)
{
    return (double *)(void *)((char *)options + numbers[i].offset);
}

bool train_method_given(const struct train_given *given, const char *name)
{
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(numbers[i].name, name) == 0)
            return given->number[i];
    return false;
}

/* The first option that was given and is not for the method; null: none. */
static const char *find_foreign_option(const struct train_given *given)
{
    int method = 1 << given->command->options.method;
    const struct {
        bool given;
        const char *name;
        int methods;
    } others[] = {{given->hessian, "--hessian", WITH_HESSIAN},
                  {given->hess_every, "--hess-every", WITH_HESSIAN},
                  {given->samples, "--mc-samples", WITH_POSTERIOR},
                  {given->command->options.antithetic, "--antithetic", WITH_POSTERIOR},
                  {given->command->options.lane_samples, "--lane-samples", IVON},
                  {given->rescale, "--rescale-lr", WITH_HESSIAN},
                  {given->command->posterior_prior, "--prior", IVON},
                  {given->command->watch.loo, "--loo", WITH_POSTERIOR},
                  {given->debias, "--debias", ~SGD},
                  {given->basis_every, "--basis-every", WITH_BASES},
                  {given->max_factor, "--max-factor", WITH_BASES}};
    for (size_t i = 0; i < NUMBERS; i++)
        if (given->number[i] && !(numbers[i].methods & method))
            return numbers[i].name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given && !(others[i].methods & method))
            return others[i].name;
    return NULL;
}

/* Refuses factors of momenta, and of an average, that would never forget. */
static void check_betas(const struct ivon_train_options *options, struct argp_state *state)
{
    const struct {
        const char *name;
        double value;
    } betas[] = {{"--beta1", options->beta1},
                 {"--beta2", options->beta2},
                 {"--beta3", options->basis_beta},
                 {"--average", options->average}};
    for (size_t i = 0; i < sizeof betas / sizeof *betas; i++)
        if (betas[i].value >= 1)
            argp_failure(state, EX_USAGE, 0, "%s: %g, expected a number below 1", betas[i].name,
                         betas[i].value);
}

void train_settle_method(struct train_given *given, struct argp_state *state)
{
    struct ivon_train_options *options = &given->command->options;
    struct ivon_train_options defaults = ivon_train_defaults(options->method);
    const char *foreign = find_foreign_option(given);
    for (size_t i = 0; i < NUMBERS; i++)
        *number_of(options, i) = given->number[i] ? given->numbers[i] : *number_of(&defaults, i);
    if (foreign)
        argp_failure(state, EX_USAGE, 0, "%s is not for --optimizer=%s", foreign,
                     ivon_method_traits(options->method)->name);
    if (!isfinite(options->rate) && !given->command->find_lr)
        argp_failure(state, EX_USAGE, 0, "no learning rate given: name it by --lr");
    if (!given->command->posterior_prior)
        options->prior_scale = NAN;
    if (isfinite(options->lora_alpha) && !given->command->lora.count)
        argp_failure(state, EX_USAGE, 0, "--lora-alpha is for --lora");
    if (options->lane_samples && options->estimator != IVON_ESTIMATOR_PRICE)
        argp_failure(state, EX_USAGE, 0, "--lane-samples is for --hessian=price");
    check_betas(options, state);
    param_groups_check(&given->command->groups, options->method, state);
    options->rescale = given->rescale ? given->rescaled : defaults.rescale;
    options->debias = given->debias ? given->debiased : defaults.debias;
}

static enum ivon_method train_parse_method(struct argp_state *state, const char *argument)
{
    const struct ivon_method_traits *traits;
    const char *names[METHODS_MAX];
    int count = 0;
    while (count < METHODS_MAX && (traits = ivon_method_traits((enum ivon_method)count)))
        names[count++] = traits->name;
    return (enum ivon_method)option_choice(state, "--optimizer", argument, names, count);
}

static error_t train_method_parse_number(int key, char *argument, struct argp_state *state)
{
    struct train_given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    for (size_t i = 0; i < NUMBERS; i++)
        if (numbers[i].key == key) {
            given->number[i] = true;
            given->numbers[i] = numbers[i].positive
                                    ? option_positive(state, numbers[i].name, argument)
                                    : option_number(state, numbers[i].name, argument);
            if (given->numbers[i] < 0)
                argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a number that is not negative",
                             numbers[i].name, argument);
            return 0;
        }
    switch (key) {
    case KEY_MC_SAMPLES:
        options->samples = (unsigned)option_whole(state, "--mc-samples", argument, 1, 1 << 16);
        given->samples = true;
        return 0;
    case KEY_HESS_EVERY:
        options->hessian_every = option_whole(state, "--hess-every", argument, 1, INT64_MAX);
        given->hess_every = true;
        return 0;
    case KEY_BASIS_EVERY:
        options->basis_every = option_whole(state, "--basis-every", argument, 1, UINT32_MAX);
        given->basis_every = true;
        return 0;
    case KEY_MAX_FACTOR:
        options->max_factor = (size_t)option_whole(state, "--max-factor", argument, 0, INT32_MAX);
        given->max_factor = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t train_method_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const estimators[] = {"price", "gradsq"};
    static const char *const priors[] = {"zero", "posterior"};
    struct train_given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    switch (key) {
    case KEY_PRIOR:
        given->command->posterior_prior = option_choice(state, "--prior", argument, priors, 2) == 1;
        return 0;
    case KEY_OPTIMIZER:
        options->method = train_parse_method(state, argument);
        return 0;
    case KEY_HESSIAN:
        options->estimator = (enum ivon_estimator)option_choice(state, "--hessian", argument,
                                                                estimators, 2);
        given->hessian = true;
        return 0;
    case KEY_DROPOUT:
        options->dropout = strcmp(argument, "own") == 0
                               ? NAN
                               : option_number(state, "--dropout", argument);
        return 0;
    case KEY_ANTITHETIC:
        options->antithetic = true;
        return 0;
    case KEY_LANE_SAMPLES:
        options->lane_samples = true;
        return 0;
    case KEY_RESCALE:
    case KEY_NO_RESCALE:
        given->rescale = true;
        given->rescaled = key == KEY_RESCALE;
        return 0;
    case KEY_DEBIAS:
    case KEY_NO_DEBIAS:
        given->debias = true;
        given->debiased = key == KEY_DEBIAS;
        return 0;
    case KEY_PARAM_GROUP:
        param_groups_add(&given->command->groups, argument, state);
        return 0;
    case KEY_CLASS_WEIGHTS:
        train_class_weights_parse(given->command, argument, state);
        return 0;
    default:
        return train_method_parse_number(key, argument, state);
    }
}

const struct argp train_method_argp = {.options = option_table, .parser = train_method_parse};
