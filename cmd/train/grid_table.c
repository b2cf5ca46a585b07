#define _GNU_SOURCE
#include "cmd/train/grid_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

/* True if a row is better than another. */
static bool grid_row_before(const struct grid_row *row, const struct grid_row *other)
{
    if (isfinite(row->loss) && isfinite(other->loss) && row->loss != other->loss)
        return row->loss < other->loss;
    if (isfinite(row->loss) != isfinite(other->loss))
        return isfinite(row->loss);
    return row->combination < other->combination;
}

void grid_table_add(struct grid_table *table, const struct grid_row *row)
{
    size_t at = table->count++;
    table->rows = xreallocarray(table->rows, table->count, sizeof *table->rows);
    for (; at && grid_row_before(row, &table->rows[at - 1]); at--)
        table->rows[at] = table->rows[at - 1];
    table->rows[at] = *row;
}

void grid_table_release(struct grid_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->rows[i].checkpoint);
    free(table->rows);
}

static void grid_table_put_header(FILE *out, const struct grid_table *table)
{
    static const char *const losses[] = {[TRAIN_JUDGE_TEST] = "test_loss",
                                         [TRAIN_JUDGE_HELD_OUT] = "held_out_loss",
                                         [TRAIN_JUDGE_LOO] = "loo_loss"};
    fputs("rank", out);
    for (size_t i = 0; i < table->space->count; i++)
        fprintf(out, ",%s", table->space->axes[i].name);
    fprintf(out, ",%s,standard_error%s,result,checkpoint\n", losses[table->judge],
            table->classes ? ",accuracy" : "");
}

static void grid_table_put_row(FILE *out, const struct grid_table *table, size_t at)
{
    const struct grid_row *row = &table->rows[at];
    if (isfinite(row->loss))
        fprintf(out, "%zu", at + 1);
    for (size_t i = 0; i < table->space->count; i++) {
        fputc(',', out);
        report_csv_text(out, space_value(table->space, row->combination, i));
    }
    report_csv_number(out, row->loss);
    report_csv_number(out, row->standard_error);
    if (table->classes)
        report_csv_number(out, row->accuracy);
    fputs(row->diverged ? ",diverged," : ",trained,", out);
    if (row->checkpoint)
        report_csv_text(out, row->checkpoint);
    fputc('\n', out);
}

char *grid_table_text(const struct grid_table *table, size_t *size)
{
    char *text = NULL;
    FILE *out = memory_of(open_memstream(&text, size));
    grid_table_put_header(out, table);
    for (size_t i = 0; i < table->count; i++)
        grid_table_put_row(out, table, i);
    if (fclose(out))
        memory_exhausted();
    return text;
}
