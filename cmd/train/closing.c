/* The lines that a training ends with. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* Sets the text to ", NAME VALUE", or to nothing where the value is not a number. */
static const char *closing_number(char text[static 64], const char *name, double value)
{
    text[0] = '\0';
    if (!isnan(value))
        snprintf(text, 64, ", %s %.4g", name, value);
    return text;
}

void train_note_end(const struct train_command *command, double loss)
{
    const struct train_row *last = &command->last_row;
    char *path = train_newest(command->written), texts[3][64];
    if (path)
        report_note("%s: %" PRIu64 " step%s%s%s%s", path, last->step, last->step == 1 ? "" : "s",
                    closing_number(texts[0], "loss", loss),
                    closing_number(texts[1], "test loss", last->test_loss),
                    closing_number(texts[2], "test error", last->test_error));
    free(path);
}

int train_note_divergence(const struct train_command *command, int code, struct ivon_error *error)
{
    const struct ivon_error found = *error;
    if (!ranks_first()) /* which has the log */
        return code;
    char *path = train_newest(command->written);
    if (path || command->last_row.step)
        error_fill(error, code, "%s; %s has the losses up to there, and %s%s", found.message,
                   train_log_path(command->log), path ? path : "no checkpoint was written",
                   path ? " stays" : "");
    free(path);
    return code;
}
