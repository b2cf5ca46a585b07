#define _GNU_SOURCE
#include "cmd/fit/fit.h"

#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/tuned.h"

enum {
    KEY_STRUCTURE = 256,
    KEY_RANK,
    KEY_CURVATURE,
    KEY_FISHER_SAMPLES,
    KEY_SHARED,
    KEY_MOMENTS,
    KEY_GRAM,
    KEY_MAX_FACTOR,
    KEY_WEIGHT_DECAY,
    KEY_TUNE,
    KEY_VALIDATION,
    KEY_ESS,
    KEY_SEED,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_JSON,
    KEY_RESUME,
};

enum { DEFAULT_RANK = 200 };

static const struct argp_option option_table[] = {
    OPTION_HEADING("Targets:", 2),
    OPTION_HEADING("What is fitted:", 3),
    OPTION_HEADING("Prior:", 4),
    OPTION_HEADING("Output:", 5),
    {"structure", KEY_STRUCTURE, "diagonal|kronecker|lowrank[:BASE]|swag", 0,
     "Structure of the covariance (default kronecker); BASE: diagonal, kronecker or posterior; "
     "swag: of checkpoints",
     3},
    {"rank", KEY_RANK, "N", 0,
     "Eigenpairs of a low-rank correction (default 200 of lowrank), deviations of swag (20)", 3},
    {"curvature", KEY_CURVATURE, "ggn|fisher|empirical", 0,
     "Labels: all, weighted; drawn from the model; the data's (default ggn up to 128 outputs, else "
     "fisher)",
     3},
    {"fisher-samples", KEY_FISHER_SAMPLES, "N", 0, "Labels drawn by --curvature=fisher (default 1)",
     3},
    {"shared", KEY_SHARED, "expand|reduce", 0,
     "Factors of weights used at several positions: of each, or of their mean (default expand)", 3},
    {"moments", KEY_MOMENTS, "exact|factors", 0,
     "h: second moments in the basis, or products of eigenvalues (default exact)", 3},
    {"gram", KEY_GRAM, NULL, 0, "Input factors alone, by one forward pass", 3},
    {"max-factor", KEY_MAX_FACTOR, "N", 0, "Larger factors are the identity (default 8192)", 3},
    {"weight-decay", KEY_WEIGHT_DECAY, "X", 0,
     "Prior precision over N (default: the checkpoint's, else the one of greatest evidence)", 4},
    {"tune", KEY_TUNE, "marginal[:per-tensor]|validation", 0,
     "Weight decay of greatest evidence, one or one for each Hessian; or of least NLL on "
     "--validation; also without --data",
     4},
    {"validation", KEY_VALIDATION, "DATA", 0, "Held-out data of --tune=validation", 4},
    {"ess", KEY_ESS, "X", 0, "Effective sample size (default: N, the number of targets)", 4},
    {"seed", KEY_SEED, "N", 0, "Seed of drawn labels and signs (default 0)", 4},
    {"include", KEY_INCLUDE, "GLOB", 0, "Only parameters whose name matches; may be repeated", 4},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "No parameters whose name matches; may be repeated", 4},
    {"output", 'o', "FILE", 0, "Write the posterior to FILE", 5},
    {"resume", KEY_RESUME, NULL, 0, "Go on where an interrupted fit left FILE.part", 5},
    {"json", KEY_JSON, NULL, 0, "Print the summary as JSON", 5},
    {0},
};

/* Returns whether an option says what a fit makes of its data. */
static bool fit_is_of_data(int key)
{
    return (key >= KEY_STRUCTURE && key <= KEY_MAX_FACTOR) || key == KEY_ESS ||
           key == KEY_INCLUDE || key == KEY_EXCLUDE || key == KEY_RESUME;
}

static const char *fit_option_name(int key)
{
    size_t i = 0;
    while (option_table[i].key != key)
        i++;
    return option_table[i].name;
}

/* Input factors alone have neither a structure nor a precision. */
static void fit_check_gram(const struct fit_command *command, struct argp_state *state)
{
    const struct ivon_fit_options *options = &command->options;
    if (command->structured)
        argp_failure(
            state, EX_USAGE, 0,
            "--gram keeps input factors instead of a fit: --structure does not go with it");
    if (options->factor_moments || options->curvature != IVON_CURVATURE_AUTO)
        argp_failure(state, EX_USAGE, 0,
                     "--gram has no curvature: --curvature and --moments do not go with it");
    if (!isnan(options->ess) || !isnan(options->weight_decay))
        argp_failure(state, EX_USAGE, 0,
                     "--gram has no precision: --ess and --weight-decay do not go with it");
}

static void fit_take_options(struct fit_command *command)
{
    struct ivon_fit_options *options = &command->options;
    options->task = command->evaluation.task;
    options->batch = command->evaluation.batch;
    options->resources.memory = command->evaluation.memory;
    options->resources.threads = command->common.threads;
    if (command->filter.count) {
        options->selected = name_filter_selects;
        options->selected_context = &command->filter;
    }
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

static void fit_check_arguments(struct fit_command *command, struct argp_state *state)
{
    struct ivon_fit_options *options = &command->options;
    command->alone = command->tuned && !command->evaluation.data;
    if (!command->input)
        argp_failure(state, EX_USAGE, 0, "no checkpoint given; see --help");
    if (command->swag) {
        fit_check_swag(command, state);
        return;
    }
    if (command->input_count > 1)
        argp_failure(state, EX_USAGE, 0, "'%s': one checkpoint only%s", command->inputs[1],
                     command->evaluation.data ? "" : "; data are named by --data=FILE");
    if (!command->evaluation.data && !command->alone)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "no output given: name one by -o");
    if (command->by_validation != (command->validation != NULL))
        argp_failure(state, EX_USAGE, 0, "--tune=validation and --validation=DATA go together");
    if (command->alone)
        fit_tune_check(command, state);
    if (options->gram && command->tuned)
        argp_failure(state, EX_USAGE, 0, "--gram has no weight decay to tune");
    if (command->ranked && !command->low_rank)
        argp_failure(state, EX_USAGE, 0, "--rank is for --structure=lowrank and swag");
    if (options->structure == IVON_FIT_POSTERIOR &&
        (command->tuned || !isnan(options->ess) || !isnan(options->weight_decay)))
        argp_failure(
            state, EX_USAGE, 0,
            "--structure=lowrank:posterior keeps ess and weight decay: --ess, --weight-decay "
            "and --tune do not go with it");
    if (command->low_rank && !command->ranked)
        options->rank = DEFAULT_RANK;
    if (options->gram)
        fit_check_gram(command, state);
    if (command->drawn && options->curvature != IVON_CURVATURE_FISHER)
        argp_failure(state, EX_USAGE, 0, "--fisher-samples is for --curvature=fisher");
    if (options->structure == IVON_FIT_DIAGONAL && (options->reduce || options->factor_moments))
        argp_failure(state, EX_USAGE, 0,
                     "--shared and --moments=factors are for --structure=kronecker");
    if (!isnan(command->evaluation.task.noise_std))
        evaluation_check_noise(&command->evaluation, state);
    if (command->tuned && !isnan(options->weight_decay))
        argp_failure(state, EX_USAGE, 0, "--weight-decay and --tune do not go together");
    fit_take_options(command);
}

static error_t fit_parse_number(int key, char *argument, struct argp_state *state)
{
    struct fit_command *command = state->input;
    struct ivon_fit_options *options = &command->options;
    switch (key) {
    case KEY_FISHER_SAMPLES:
        options->draws = (size_t)option_whole(state, "--fisher-samples", argument, 1, 1000000);
        command->drawn = true;
        return 0;
    case KEY_RANK:
        options->rank = (size_t)option_whole(state, "--rank", argument, 0, 100000);
        command->ranked = true;
        return 0;
    case KEY_MAX_FACTOR:
        options->factor_rows = (size_t)option_whole(state, "--max-factor", argument, 1, 46340);
        return 0;
    case KEY_WEIGHT_DECAY:
        options->weight_decay = option_number(state, "--weight-decay", argument);
        if (!(options->weight_decay >= 0))
            argp_failure(state, EX_USAGE, 0, "--weight-decay: '%s', expected zero or more",
                         argument);
        return 0;
    case KEY_ESS:
        options->ess = option_positive(state, "--ess", argument);
        return 0;
    case KEY_SEED:
        options->seed = option_whole(state, "--seed", argument, 0, UINT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t fit_parse_choice(int key, char *argument, struct argp_state *state)
{
    static const char *const structures[] = {
        "diagonal",         "kronecker",         "lowrank", "lowrank:kronecker",
        "lowrank:diagonal", "lowrank:posterior", "swag"};
    static const char *const curvatures[] = {"ggn", "fisher", "empirical"};
    static const char *const tunings[] = {"marginal", "marginal:per-tensor", "validation"};
    static const char *const shared[] = {"expand", "reduce"};
    static const char *const moments[] = {"exact", "factors"};
    struct fit_command *command = state->input;
    struct ivon_fit_options *options = &command->options;
    int choice;
    switch (key) {
    case KEY_STRUCTURE:
        choice = option_choice(state, "--structure", argument, structures, 7);
        options->structure = choice == 0 || choice == 4 ? IVON_FIT_DIAGONAL
                             : choice == 5              ? IVON_FIT_POSTERIOR
                                                        : IVON_FIT_KRONECKER;
        command->low_rank = choice >= 2 && choice < 6;
        command->swag = choice == 6;
        command->structured = true;
        return 0;
    case KEY_CURVATURE:
        options->curvature = (enum ivon_curvature)(
            IVON_CURVATURE_GGN + option_choice(state, "--curvature", argument, curvatures, 3));
        return 0;
    case KEY_TUNE:
        choice = option_choice(state, "--tune", argument, tunings, 3);
        options->each = choice == 1;
        command->by_validation = choice == 2;
        command->tuned = true;
        return 0;
    case KEY_SHARED:
        options->reduce = option_choice(state, "--shared", argument, shared, 2);
        return 0;
    case KEY_MOMENTS:
        options->factor_moments = option_choice(state, "--moments", argument, moments, 2);
        return 0;
    default:
        return fit_parse_number(key, argument, state);
    }
}

static error_t fit_parse(int key, char *argument, struct argp_state *state)
{
    struct fit_command *command = state->input;
    if (fit_is_of_data(key))
        command->of_data = fit_option_name(key);
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->evaluation;
        state->child_inputs[3] = &command->open;
        state->child_inputs[4] = &command->evaluation.graph.bind;
        return 0;
    case ARGP_KEY_ARG:
        command->inputs = xreallocarray(command->inputs, command->input_count + 1,
                                        sizeof *command->inputs);
        command->inputs[command->input_count++] = argument;
        command->input = command->inputs[0];
        return 0;
    case ARGP_KEY_END:
        fit_check_arguments(command, state);
        return 0;
    case KEY_GRAM:
        command->options.gram = true;
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    case KEY_VALIDATION:
        command->validation = argument;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    case KEY_RESUME:
        command->resume = true;
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    default:
        return fit_parse_choice(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&file_argp, 0, NULL, 0}, {&evaluation_argp, 0, NULL, 0},
    {&open_argp, 0, NULL, 0},   {&bind_argp, 0, NULL, 0}, {0}};

const struct argp fit_argp = {
    .options = option_table,
    .parser = fit_parse,
    .args_doc = "CHECKPOINT...",
    .doc = "Fit a posterior to a trained network: its weights are the mean, the curvature of the "
           "loss on the training data the precision.\v"
           "Examples:\n"
           "  ivon-fit network.onnx --data=train.h5 -o posterior.h5\n"
           "  ivon-fit network.onnx --data=train.h5 --structure=lowrank -o lowrank.h5\n"
           "\nPrints a summary. See ivon-fit(1).",
    .children = children,
};

static int fit_open_inputs(struct fit_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    int code = evaluation_open_posterior(evaluation, command->input, &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    if (!code)
        evaluation_name_inputs(evaluation, command->network, NULL);
    if (!code)
        code = evaluation_open_data(evaluation, &command->examples, &command->whole, error);
    if (!code && command->validation)
        code = evaluation_open_whole(evaluation, command->validation, &command->held_out, error);
    return code ? code
                : ivon_onnx_write(&command->graph, &command->graph_size, command->network, NULL,
                                  error);
}

/* δ: what is given, else the checkpoint's own, else to be found by the evidence. */
static void choose_weight_decay(struct fit_command *command)
{
    double own = ivon_source_header(command->source)->weight_decay;
    if (command->options.structure != IVON_FIT_POSTERIOR && isnan(command->options.weight_decay) &&
        !command->tuned && own >= 0 && !isinf(own))
        command->options.weight_decay = own;
}

static void describe_plan(const struct fit_command *command)
{
    struct ivon_fit_summary plan = ivon_fit_summary(command->fit);
    char bytes[32], parameters[32];
    report_note("%s parameters, %zu of their weights with a basis: %s of memory for factors and "
                "moments",
                report_count(plan.parameters, parameters), plan.blocks,
                report_bytes((double)plan.bytes, bytes));
    report_note("%zu passes over %" PRIu64 " examples, with %zu backward passes for each",
                plan.passes, plan.examples, plan.columns);
    if (plan.products)
        report_note("then %zu passes for products with the curvature", plan.products);
}

/* By rank 0, to which others give what they hold of the vectors until it has written all. */
static int fit_write(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    if (!ranks_first() && !command->options.rank)
        return 0;
    int code = ivon_fit_source(&command->result, command->fit, command->graph, command->graph_size,
                               error);
    if (!code && ranks_first())
        code = fit_write_result(command, provenance, error);
    ivon_source_close(command->result);
    command->result = NULL;
    return code;
}

/* Of rank 0, which writes them. */
static int fit_open_outputs(struct fit_command *command, json_t *provenance,
                            struct ivon_error *error)
{
    int code = checkpoint_output_try(command->output, command->source,
                                     command->options.gram ? IVON_GRAM : IVON_HESSIAN,
                                     &command->files, error);
    if (!code)
        code = provenance_add_input(provenance, command->input, NAN, false, error);
    return code ? code : fit_state_begin(command, error);
}

static int fit_run_all(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    struct progress progress;
    command->options.resources.progress = progress_start(&progress, "fitting",
                                                         command->common.quiet);
    progress.unit = "examples";
    command->options.resources.ranks = ranks_joined();
    int code = fit_open_inputs(command, error);
    if (!code && ranks_first())
        code = fit_open_outputs(command, provenance, error);
    if (!code) {
        fit_state_set(command);
        choose_weight_decay(command);
        code = ivon_fit_new(&command->fit, command->network, command->source, command->examples,
                            evaluation_targets(&command->evaluation), &command->options, error);
    }
    if (!code && !command->common.quiet && command->options.curvature == IVON_CURVATURE_AUTO &&
        ivon_fit_summary(command->fit).curvature == IVON_CURVATURE_FISHER)
        report_note("more than 128 outputs: --curvature=fisher, labels drawn from the model");
    if (!code && command->common.verbose)
        describe_plan(command);
    if (!code)
        code = fit_state_resume(command, error);
    bool chosen = !code && ivon_fit_summary(command->fit).passes_done >=
                               ivon_fit_summary(command->fit).passes; /* the weight decay */
    if (!code)
        code = fit_state_run(command, ivon_fit_run, error);
    if (!code && !command->common.quiet && ivon_fit_saw_probabilities(command->fit))
        graph_warn_probabilities(command->evaluation.model ? command->evaluation.model
                                                           : command->input);
    if (!code && command->validation && !chosen)
        code = fit_validate(command, error);
    if (!code && command->options.rank)
        code = fit_state_run(command, ivon_fit_correct, error);
    if (!code)
        code = fit_write(command, provenance, error);
    progress_end(&progress);
    return code;
}

static void set_number(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, report_json_number(value));
}

/* A number that there is not has no member. */
static void print_summary_json(const struct ivon_fit_summary *summary, bool gram, bool noise)
{
    json_t *object = json_pack(
        "{s:I, s:o, s:I, s:I, s:o, s:o}", "examples", (json_int_t)summary->examples, "n_train",
        report_json_number(summary->n_train), "parameters", (json_int_t)summary->parameters,
        "blocks", (json_int_t)summary->blocks, "loss", report_json_number(summary->loss),
        "squared_norm", report_json_number(summary->squares));
    if (!gram) {
        set_number(object, "ess", summary->ess);
        if (!isnan(summary->weight_decay))
            set_number(object, "weight_decay", summary->weight_decay);
        set_number(object, "effective_parameters", summary->effective);
        set_number(object, "log_evidence", summary->evidence);
        set_number(object, "newton_decrement", summary->decrement);
    }
    if (noise)
        set_number(object, "noise_std", summary->noise_std);
    if (summary->rank) {
        json_object_set_new(object, "rank", json_integer((json_int_t)summary->rank));
        set_number(object, "first_value", summary->first);
        set_number(object, "last_value", summary->last);
    }
    report_json_line(object);
}

static void print_summary(const struct fit_command *command)
{
    struct ivon_fit_summary summary = ivon_fit_summary(command->fit);
    bool gram = command->options.gram;
    bool noise = ivon_likelihood_traits(command->options.task.likelihood)->noise && !gram;
    if (command->json) {
        print_summary_json(&summary, gram, noise);
        return;
    }
    printf("examples              %" PRIu64 "\n", summary.examples);
    printf("n_train               %.9g\n", summary.n_train);
    printf("parameters            %zu\n", summary.parameters);
    printf("blocks                %zu\n", summary.blocks);
    printf("loss                  %.6g\n", summary.loss);
    if (gram)
        return;
    printf("ess                   %.9g\n", summary.ess);
    if (isnan(summary.weight_decay))
        printf("weight_decay          one for each Hessian\n");
    else
        printf("weight_decay          %.6g\n", summary.weight_decay);
    if (noise)
        printf("noise_std             %.6g\n", summary.noise_std);
    if (summary.rank)
        printf("low rank              %zu, values %.6g to %.6g\n", summary.rank, summary.first,
               summary.last);
    printf("effective parameters  %.6g\n", summary.effective);
    printf("log evidence / N      %.6g\n", summary.evidence);
    printf("newton decrement      %.6g\n", summary.decrement);
}

static void fit_warn_far(const struct fit_command *command)
{
    struct ivon_fit_summary summary = ivon_fit_summary(command->fit);
    if (!command->options.gram && ivon_mean_is_far(summary.decrement, summary.effective))
        report_warning("the mean is far from a minimum of loss and weight decay: its Newton "
                       "decrement is %.4g, where %.4g is to be expected at most: %s",
                       summary.decrement, summary.effective,
                       command->by_validation
                           ? TUNED_ADVICE
                           : "train on, give the weight decay of the training, or see whether the "
                             "data have the scale and the numbers of classes of its training");
}

/* Of a mask among the weights a drawn one is another network. */
static void fit_warn_flat(const struct fit_command *command)
{
    size_t count = 0;
    const char *name = command->options.gram ? NULL : ivon_fit_flat(command->fit, &count);
    char more[48] = "";
    if (count > 1)
        snprintf(more, sizeof more, " and %zu more", count - 1);
    if (name)
        report_warning("no output has a derivative by '%s'%s, of which the prior alone is known: a "
                       "buffer, such as a mask, is to be named by --buffers",
                       name, more);
}

static void fit_release(struct fit_command *command)
{
    ivon_source_close(command->result);
    ivon_fit_free(command->fit);
    ivon_tuning_free(command->tuning);
    ivon_network_free(command->network);
    ivon_source_close(command->source);
    if (command->whole != command->examples)
        ivon_examples_close(command->whole);
    ivon_examples_close(command->examples);
    ivon_examples_close(command->held_out);
    evaluation_release(&command->evaluation);
    open_options_release(&command->open);
    name_filter_release(&command->filter);
    free(command->inputs);
    free(command->graph);
}

int fit_run(int argc, char **argv)
{
    struct fit_command command = {.evaluation = evaluation_defaults(),
                                  .open.open = ivon_open_defaults(),
                                  .options = ivon_fit_defaults()};
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&fit_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    int code = 0;
    if (command.swag || command.alone)
        code = ranks_refuse(command.swag ? "--structure=swag" : "--tune without --data", &error);
    if (!code)
        code = (command.swag    ? fit_swag
                : command.alone ? fit_tune_alone
                                : fit_run_all)(&command, provenance, &error);
    int status = progress_status(code, &error);
    fit_state_end(&command, !code);
    if (!code && !command.common.quiet) {
        name_filter_warn_unused(&command.filter);
        open_warn_unused(&command.open);
    }
    if (!code && !command.common.quiet && !command.swag && !command.alone) {
        print_summary(&command);
        fit_warn_far(&command);
        fit_warn_flat(&command);
    }
    json_decref(provenance);
    fit_release(&command);
    return status;
}
