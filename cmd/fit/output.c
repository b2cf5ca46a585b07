#include "cmd/fit/fit.h"
#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/outputs/tuned.h"

int fit_write_result(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    const struct checkpoint_output output = {.path = command->output,
                                             .command = "ivon-fit",
                                             .files = &command->files,
                                             .provenance = provenance,
                                             .resources = command->options.resources};
    if (command->by_validation)
        tuned_mark(provenance);
    return checkpoint_output_write(&output, command->result, error);
}
