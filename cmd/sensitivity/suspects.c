/* ivon-sensitivity --suspects: labels that are likely to be wrong, by the outputs without them. */
#define _GNU_SOURCE
#include "cmd/sensitivity/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/outputs/table.h"

static const double DOUBTFUL = 0.1; /* data sets that were looked through have fewer wrong labels */

void sensitivity_check_suspects(const struct sensitivity_command *command, struct argp_state *state)
{
    if (command->groups || command->ranges || command->on || command->vectors || command->sort ||
        (command->sorted && !command->top) || command->ascending || command->per_token ||
        command->resume || command->score_given)
        argp_failure(state, EX_USAGE, 0,
                     "--suspects has rows of its own: --groups, --remove, --on, --score, "
                     "--vectors, --per-token, --sort, --ascending and --resume do not go with it");
    if (command->suspects == SUSPECTS_CLASSES && command->top)
        argp_failure(state, EX_USAGE, 0,
                     "--suspects=classes has a row for each class: --top does "
                     "not go with it");
}

/* There is one label for each example. */
static int check_labels(const struct sensitivity_command *command,
                        const struct ivon_sensitivity_shape *shape, struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    if (shape->tokens)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--suspects: an example is a sequence of %lld labels, expected one",
                          (long long)shape->tokens);
    if (traits->regression)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--suspects: targets are numbers, expected "
                          "labels of classes");
    if (traits->classes ? shape->outputs < 2 : shape->outputs != 1)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--suspects: the network has %zu outputs, expected %s", shape->outputs,
                          traits->classes ? "two classes or more" : "one event");
    return 0;
}

struct suspects_taking {
    struct ivon_label_noise *noise;
    const char *data; /* for messages */
    size_t outputs;
};

static int suspects_take(void *context, const struct ivon_sensitivities *block,
                         struct ivon_error *error)
{
    const struct suspects_taking *taking = context;
    size_t count = block->count * taking->outputs;
    float *without = malloc((count + 1) * sizeof *without);
    if (!without)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        without[i] = block->outputs[i] + block->deviation_vector[i];
    struct ivon_error found = {0};
    int code = ivon_label_noise_add(taking->noise, block->count, block->labels, without,
                                    block->counts, &found);
    free(without);
    return code ? error_fill(error, code, "%s: %s", taking->data, found.message) : 0;
}

static int write_suspects(const struct sensitivity_command *command,
                          const struct ivon_suspect *suspects, size_t count, const char *provenance,
                          struct ivon_error *error)
{
    static const struct ivon_column columns[] = {
        {.name = "rank", .dtype = IVON_I64},
        {.name = "index", .dtype = IVON_I64},
        {.name = "label", .dtype = IVON_I64},
        {.name = "suggested", .dtype = IVON_I64},
        {.name = "label_probability", .dtype = IVON_F64},
        {.name = "suggested_probability", .dtype = IVON_F64},
        {.name = "loo_loss", .dtype = IVON_F64}};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    static const enum ivon_naming naming[COLUMNS] = {[2] = IVON_NAMES, [3] = IVON_NAMES};
    struct ivon_table *table = NULL;
    int code = sensitivity_open_table(command, &table, columns, naming, COLUMNS, count, provenance,
                                      error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_suspect *suspect = &suspects[i];
        int64_t rank = (int64_t)i + 1, index = (int64_t)suspect->example;
        const void *data[] = {&rank,
                              &index,
                              &suspect->label,
                              &suspect->suggested,
                              &suspect->label_probability,
                              &suspect->suggested_probability,
                              &suspect->loss};
        code = ivon_table_append(table, 1, data, error);
    }
    if (!code)
        code = ivon_table_commit(table, error);
    ivon_table_close(table);
    return code;
}

static int write_classes(const struct sensitivity_command *command,
                         const struct ivon_class_noise *classes, size_t count,
                         const char *provenance, struct ivon_error *error)
{
    static const struct ivon_column columns[] = {
        {.name = "label", .dtype = IVON_I64},     {.name = "count", .dtype = IVON_I64},
        {.name = "threshold", .dtype = IVON_F64}, {.name = "wrong", .dtype = IVON_F64},
        {.name = "confused", .dtype = IVON_I64},  {.name = "confused_by", .dtype = IVON_F64}};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    static const enum ivon_naming naming[COLUMNS] = {[0] = IVON_NAMES, [4] = IVON_NAMES};
    struct ivon_table *table = NULL;
    int code = sensitivity_open_table(command, &table, columns, naming, COLUMNS, count, provenance,
                                      error);
    for (size_t i = 0; i < count && !code; i++) {
        int64_t label = (int64_t)i, members = (int64_t)classes[i].count;
        const void *data[] = {&label,
                              &members,
                              &classes[i].threshold,
                              &classes[i].wrong,
                              &classes[i].confused,
                              &classes[i].confused_by};
        code = ivon_table_append(table, 1, data, error);
    }
    if (!code)
        code = ivon_table_commit(table, error);
    ivon_table_close(table);
    return code;
}

static void note_estimate(uint64_t examples, double wrong)
{
    double share = examples ? wrong / (double)examples : 0;
    report_note("an estimated %.0f of %llu labels are wrong, or %.1f %%", wrong,
                (unsigned long long)examples, 100 * share);
    if (share > DOUBTFUL)
        report_warning("a network that is often wrong itself makes the estimate too large: "
                       "the first rows are the surest");
}

static int report_suspects(const struct sensitivity_command *command,
                           const struct ivon_label_noise *noise, size_t outputs,
                           const char *provenance, struct ivon_error *error)
{
    struct ivon_class_noise *classes = NULL;
    struct ivon_suspect *suspects = NULL;
    size_t count = 0, number = outputs == 1 ? 2 : outputs;
    uint64_t examples = 0;
    double wrong;
    int code = ivon_label_noise_estimate(noise, &classes, &wrong, error);
    for (size_t i = 0; i < number && !code; i++)
        examples += classes[i].count;
    if (!code && command->suspects == SUSPECTS_CLASSES)
        code = write_classes(command, classes, number, provenance, error);
    if (!code && command->suspects == SUSPECTS_ROWS) {
        size_t most = command->top ? command->top : (size_t)llround(wrong);
        code = ivon_label_noise_suspects(noise, most, &suspects, &count, error);
        if (!code)
            code = write_suspects(command, suspects, count, provenance, error);
    }
    if (!code && !command->common.quiet)
        note_estimate(examples, wrong);
    free(classes);
    free(suspects);
    return code;
}

int sensitivity_find_suspects(struct sensitivity_command *command,
                              const struct ivon_sensitivity_shape *shape, const char *provenance,
                              struct ivon_error *error)
{
    struct suspects_taking taking = {.data = command->evaluation.data, .outputs = shape->outputs};
    int code = check_labels(command, shape, error);
    if (!code)
        code = ivon_label_noise_new(&taking.noise, shape->outputs, error);
    if (!code)
        code = ivon_sensitivity_run(command->sensitivity, 0, suspects_take, &taking, error);
    if (!code && ranks_first())
        code = report_suspects(command, taking.noise, shape->outputs, provenance, error);
    ivon_label_noise_free(taking.noise);
    return code;
}
