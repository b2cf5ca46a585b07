#define _GNU_SOURCE
#include "cmd/shared/evaluation/groups.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

bool groups_are_targets(const char *name, const struct evaluation_options *evaluation)
{
    const char *column = evaluation->dataset.target_column;
    return strcmp(name, evaluation_targets(evaluation)) == 0 || (column && !strcmp(name, column));
}

/* Opens an array beside the data, or by its path in the data's file; of CSV a column. */
static int groups_open(struct ivon_examples **out, const char *name,
                       const struct evaluation_options *evaluation, struct ivon_error *error)
{
    const char *data = evaluation->data, *colon = strrchr(data, ':');
    struct ivon_dataset_options options = evaluation->dataset;
    bool columns = options.target_column; /* which CSV alone has */
    const char *slash = columns ? NULL : strrchr(name, '/');
    const char *array = slash ? slash + 1 : name;
    char *path;
    if (slash && asprintf(&path, "%.*s:%.*s/", colon ? (int)(colon - data) : (int)strlen(data),
                          data, (int)(slash - name), name) < 0)
        memory_exhausted();
    if (!slash && !(path = strdup(data)))
        memory_exhausted();
    if (slash && slash != name)
        path[strlen(path) - 1] = '\0';
    if (!groups_are_targets(name, evaluation))
        options.class_count = 0;
    options.context = options.stride = 0; /* there is one group for each example, however cut */
    options.channel_count = 0;
    options.vocabulary = options.text_column = NULL;
    options.image_height = options.image_width = options.image_short_side = 0;
    options.no_scaling = true;
    options.named = !columns;
    options.inputs = columns ? NULL : &array;
    options.input_count = !columns;
    options.targets = columns ? NULL : "";
    options.target_column = columns ? array : NULL;
    int code = ivon_dataset_open(out, path, &options, error);
    free(path);
    return code;
}

int groups_read(int64_t **groups, const char *name, const struct evaluation_options *evaluation,
                struct ivon_examples *examples, struct ivon_error *error)
{
    struct ivon_examples *own = NULL;
    uint64_t count = ivon_examples_count(examples);
    ptrdiff_t found = ivon_examples_find(examples, name);
    int code = found < 0 ? groups_open(&own, name, evaluation, error) : 0;
    if (code)
        return code;
    if (found < 0) {
        examples = own;
        found = (ptrdiff_t)ivon_examples_field_count(examples) - 1;
    }
    const struct ivon_field *field = ivon_examples_field(examples, (size_t)found);
    if (ivon_examples_count(examples) != count || field->count != 1)
        code = error_fill(error, IVON_ERROR_DATA,
                          "--groups: '%s' has %llu rows of %zu numbers, expected %llu of one", name,
                          (unsigned long long)ivon_examples_count(examples), field->count,
                          (unsigned long long)count);
    *groups = code ? NULL : calloc(count, sizeof **groups);
    if (!code && !*groups)
        memory_exhausted();
    if (!code)
        code = ivon_examples_read_i64(examples, (size_t)found, 0, count, *groups, error);
    ivon_examples_close(own);
    return code;
}
