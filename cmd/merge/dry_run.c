/* The plan of a merge, tensor by tensor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

/* The tensor as the result has it; if it has not, as the first input that does. The search goes on
   behind the one found before: both lists have one order. */
static const struct ivon_tensor *plan_tensor(const struct merge_command *command,
                                             const struct ivon_merge_tensor *tensor, size_t *before)
{
    size_t count;
    const char *name = tensor->name;
    const struct ivon_tensor *outputs = ivon_merge_outputs(command->merge, &count);
    for (size_t i = 0; i < count && tensor->fate != IVON_SKIPPED; i++) {
        const struct ivon_tensor *output = &outputs[(*before + i) % count];
        if ((output->part == IVON_MEAN || output->part == IVON_OPAQUE) &&
            strcmp(output->name, name) == 0) {
            *before = (*before + i) % count;
            return output;
        }
    }
    for (size_t i = 0; i <= command->model_count; i++) {
        struct ivon_source *source = i ? command->sources[i - 1].source : command->base;
        ptrdiff_t found = source ? ivon_source_find(source, IVON_MEAN, name) : -1;
        if (source && found < 0)
            found = ivon_source_find(source, IVON_OPAQUE, name);
        if (found >= 0)
            return ivon_source_tensor(source, (size_t)found);
    }
    return NULL;
}

/* A line of JSON. */
static void print_line(struct merge_command *command, const struct ivon_merge_tensor *tensor,
                       size_t *before)
{
    const struct ivon_tensor *of = plan_tensor(command, tensor, before);
    json_t *line = json_object(), *shape = json_array(), *weights = json_array();
    for (int axis = 0; of && axis < of->rank; axis++)
        json_array_append_new(shape, json_integer((json_int_t)of->shape[axis]));
    json_object_set_new(line, "tensor", report_json_text(tensor->name));
    json_object_set_new(line, "shape", shape);
    json_object_set_new(line, "fate", json_string(merge_fate_name(tensor->fate)));
    bool merged = tensor->fate == IVON_MERGED;
    json_object_set_new(
        line, merged ? "method" : "reason",
        report_json_text(merged ? ivon_merge_method_traits(command->options.method)->name
                                : tensor->reason));
    for (size_t t = 0; t < command->model_count && merged; t++)
        json_array_append_new(weights, json_real(merge_weight_of(command, t, tensor->name)));
    json_object_set_new(line, "weights", weights);
    if (tensor->others_from) {
        json_object_set_new(line, "merged_rows", json_integer((json_int_t)tensor->merged_rows));
        json_object_set_new(line, "other_rows", json_integer((json_int_t)tensor->other_rows));
        json_object_set_new(line, "others_from", report_json_text(tensor->others_from));
    }
    report_json_line(line);
}

enum { NAME, SHAPE, FATE, HOW, WEIGHTS };

/* The cell of a tensor in a column, to be freed. */
static char *cell_text(struct merge_command *command, const struct ivon_merge_tensor *tensor,
                       size_t column, size_t *before)
{
    char shape[256];
    bool merged = tensor->fate == IVON_MERGED;
    const struct ivon_tensor *of = column == SHAPE ? plan_tensor(command, tensor, before) : NULL;
    switch (column) {
    case NAME:
        return xstrdup(tensor->name);
    case SHAPE:
        return xstrdup(of ? ivon_tensor_shape_text(of, shape) : "");
    case FATE:
        return xstrdup(merge_fate_name(tensor->fate));
    case HOW:
        return tensor->others_from
                   ? xasprintf("%s, %zu of %zu rows",
                               ivon_merge_method_traits(command->options.method)->name,
                               tensor->merged_rows, tensor->merged_rows + tensor->other_rows)
                   : xstrdup(merged ? ivon_merge_method_traits(command->options.method)->name
                                    : tensor->reason);
    default:
        return merged ? xasprintf("%.6g", merge_weight_of(command, column - WEIGHTS, tensor->name))
                      : xstrdup("-");
    }
}

/* The cell of any row, of which the first one is the heading. */
static char *row_text(struct merge_command *command, const struct ivon_merge_tensor *tensors,
                      size_t row, size_t column, size_t *before)
{
    static const char *const heading[] = {"tensor", "shape", "fate", "how"};
    if (row)
        return cell_text(command, &tensors[row - 1], column, before);
    return xstrdup(column < WEIGHTS ? heading[column] : command->models[column - WEIGHTS].path);
}

static void print_table(struct merge_command *command, const struct ivon_merge_tensor *tensors,
                        size_t count)
{
    size_t columns = WEIGHTS + command->model_count;
    size_t before = 0, *widths = xcalloc(columns, sizeof *widths);
    for (int pass = 0; pass < 2; pass++)
        for (size_t row = 0; row <= count; row++)
            for (size_t column = 0; column < columns; column++) {
                char *text = row_text(command, tensors, row, column, &before);
                size_t length = strlen(text);
                if (pass) {
                    report_text(stdout, text);
                    if (column + 1 == columns)
                        putchar('\n');
                    else
                        printf("%*s", (int)(widths[column] - length) + 2, "");
                } else if (length > widths[column]) {
                    widths[column] = length;
                }
                free(text);
            }
    free(widths);
}

void merge_print_plan(struct merge_command *command)
{
    size_t count, before = 0;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(command->merge, &count);
    for (size_t i = 0; i < count && command->json; i++)
        print_line(command, &tensors[i], &before);
    if (!command->json)
        print_table(command, tensors, count);
}
