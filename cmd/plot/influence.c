/* Queries with the training rows that helped and harmed them most: images in rows, or texts in
   lines. Which is which is told by where they are, by words and by signs, not by colours. */
#include "cmd/plot/influence.h"

int plot_influence(struct plot_command *command, struct ivon_error *error)
{
    struct influence_sheet sheet = {.command = command};
    int code = plot_influence_open(&sheet, error);
    if (!code)
        code = plot_influence_of_texts(command) ? plot_influence_put_texts(&sheet, error)
                                                : plot_influence_put_images(&sheet, error);
    plot_influence_close(&sheet);
    return code;
}
