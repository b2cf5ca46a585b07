/* ivon-train: a training, a grid of trainings, or a sweep of the rate. */
#include <stdlib.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"
#include "cmd/train/find_lr.h"
#include "cmd/train/grid.h"
#include "cmd/train/train.h"

/* The grid's values may name inputs. */
static void train_confine(const struct train_command *command, const struct train_grid *grid,
                          int argc, char **argv)
{
    const struct confinement confinement = {.off = command->no_sandbox,
                                            .links = grid || command->watch.patience,
                                            .outputs = &command->directory,
                                            .output_count = 1};
    if (!grid) {
        confine(&confinement, argc, argv);
        return;
    }
    int count;
    char **words = train_grid_words(grid, &count);
    confine(&confinement, count, words);
}

int train_run(int argc, char **argv)
{
    struct train_command command;
    struct train_grid *grid = NULL;
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    int code = 0;
    train_command_parse(&command, argc, argv, 0);
    if (command.grid_count)
        code = train_grid_new(&grid, &command, argc, argv, &error);
    if (!code)
        train_confine(&command, grid, argc, argv);
    if (!code && grid)
        code = train_grid_run(grid, &error);
    else if (!code && command.find_lr)
        code = train_find_lr(&command, &error);
    else if (!code)
        code = train_recorded(&command, json_incref(provenance), &error);
    json_decref(provenance);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet && !grid) {
        name_filter_warn_unused(&command.freeze);
        train_lora_warn_unused(&command.lora);
    }
    train_grid_free(grid);
    train_command_release(&command);
    return status;
}
