/* --log-likelihoods: the file that ArviZ reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict/output.h"
#include "cmd/shared/report.h"

int predict_open_log_likelihoods(struct predict_output *output, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t samples = command->options.samples ? command->options.samples : 1;
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-predict %s", ivon_version());
    struct ivon_arviz_options options = {
        .size = sizeof options,
        .samples = samples * command->argument_count,
        .examples = command->positions.examples,
        .outputs = predict_rows_per_example(output) *
                   ivon_likelihood_targets(command->options.task.likelihood, output->shape.outputs),
        .target_dtype = traits->regression ? IVON_F32 : IVON_I64,
        .replace = command->files.force,
        .creator = creator};
    return ivon_arviz_create(&output->arviz, command->log_likelihoods, &options, error);
}

/* The examples of a block that have a position that counts, one after the other. */
struct observations {
    size_t count;
    int64_t *numbers;
    double *log_likelihoods;
    char *targets; /* or their replicates */
};

static void keep_observations(struct observations *kept, const struct ivon_predictions *p,
                              const double *log_likelihoods, const void *targets, size_t width)
{
    kept->count = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (!p->positions[i])
            continue;
        kept->numbers[kept->count] = (int64_t)(p->first + i);
        if (log_likelihoods)
            kept->log_likelihoods[kept->count] = log_likelihoods[i];
        memcpy(kept->targets + kept->count * width, (const char *)targets + i * width, width);
        kept->count++;
    }
}

int predict_write_log_likelihoods(struct predict_output *output, const struct ivon_predictions *p,
                                  struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    size_t samples = (command->options.samples ? command->options.samples : 1) *
                     command->argument_count;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t width = predict_rows_per_example(output) *
                   ivon_likelihood_targets(command->options.task.likelihood,
                                           output->shape.outputs) *
                   (traits->regression ? sizeof *p->targets : sizeof *p->labels);
    struct observations kept = {.numbers = calloc(p->count, sizeof *kept.numbers),
                                .log_likelihoods = calloc(p->count, sizeof *kept.log_likelihoods),
                                .targets = malloc(p->count * width)};
    int code = kept.numbers && kept.log_likelihoods && kept.targets ? 0 : error_memory(error);
    if (!code) {
        keep_observations(&kept, p, NULL, traits->regression ? (const void *)p->targets : p->labels,
                          width);
        code = ivon_arviz_observe(output->arviz, output->written, kept.count, kept.numbers,
                                  kept.targets, error);
    }
    for (size_t s = 0; s < samples && !code; s++) {
        const char *replicates = traits->regression ? (const char *)p->number_replicates
                                                    : (const char *)p->label_replicates;
        keep_observations(&kept, p, p->log_likelihoods + s * p->count,
                          replicates + s * p->count * width, width);
        code = ivon_arviz_write(output->arviz, s, output->written, kept.count, kept.log_likelihoods,
                                kept.targets, error);
    }
    output->written += kept.count;
    free(kept.numbers);
    free(kept.log_likelihoods);
    free(kept.targets);
    return code;
}
