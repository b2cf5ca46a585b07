/* The table of a grid: a row for each combination that was trained, the best first. */
#ifndef CMD_TRAIN_GRID_TABLE_H
#define CMD_TRAIN_GRID_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "cmd/train/space.h"
#include "cmd/train/train.h"

struct grid_row {
    size_t combination;
    double loss, standard_error, accuracy; /* NaN: there is none */
    bool diverged;
    char *checkpoint; /* the last one; null: there is none */
};

struct grid_table {
    const struct space *space;
    enum train_judge judge;
    bool classes; /* there are accuracies */
    struct grid_row *rows;
    size_t count;
};

/* Takes a row over, and brings it to its place: by the loss, then by the combination; losses that
   are no numbers come last. */
void grid_table_add(struct grid_table *table, const struct grid_row *row);
void grid_table_release(struct grid_table *table);

/* The table as CSV, of *size bytes, to be freed. */
char *grid_table_text(const struct grid_table *table, size_t *size);

#endif
