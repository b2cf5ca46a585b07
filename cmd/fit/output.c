#include "cmd/fit/fit.h"
#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/outputs/tuned.h"
#include "cmd/shared/process/ranks.h"

int fit_write_threads(const struct fit_command *command)
{
    return ranks_joined() && command->options.rank ? 1 : command->common.threads;
}

int fit_write_result(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    struct checkpoint_output output = {.path = command->output,
                                       .command = "ivon-fit",
                                       .files = &command->files,
                                       .provenance = provenance,
                                       .resources = command->options.resources};
    output.resources.threads = fit_write_threads(command);
    if (command->by_validation)
        tuned_mark(provenance);
    return checkpoint_output_write(&output, command->result, error);
}
