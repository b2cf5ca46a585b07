#include "bayes/labelled.h"

#include <stdlib.h>

#include "core/error.h"

int labelled_open(struct labelled *data, const struct ivon_network *network,
                  const struct outputs *outputs, struct ivon_examples *examples,
                  const char *targets, const struct ivon_feed_name *names, size_t name_count,
                  struct ivon_error *error)
{
    *data = (struct labelled){.outputs = outputs,
                              .examples = examples,
                              .count = ivon_examples_count(examples),
                              .field = targets ? ivon_examples_find(examples, targets) : -1,
                              .ignored = INT64_MIN};
    int code = feed_open(&data->feed, network, examples, names, name_count, error);
    if (!code && !data->count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no examples",
                              ivon_examples_path(examples));
    return code;
}

void labelled_close(struct labelled *data)
{
    free(data->labels);
    free(data->numbers);
    free(data->counts);
    free(data->positions);
    if (data->feed.network)
        feed_close(&data->feed);
    *data = (struct labelled){0};
}

int labelled_reserve(struct labelled *data, size_t capacity, int64_t ignored,
                     struct ivon_error *error)
{
    const struct outputs *outputs = data->outputs;
    data->capacity = data->limit = capacity;
    data->ignored = ignored;
    if (data->field < 0)
        return 0;
    int code = outputs_check_targets(outputs, data->examples, (size_t)data->field, error);
    if (code)
        return code;
    if (ivon_likelihood_traits(outputs->likelihood)->regression)
        data->numbers = calloc(capacity, outputs_targets(outputs) * sizeof *data->numbers);
    else
        data->labels = calloc(capacity, outputs_targets(outputs) * sizeof *data->labels);
    data->counts = calloc(capacity, outputs->tokens * sizeof *data->counts);
    data->positions = calloc(capacity, sizeof *data->positions);
    bool fine = data->counts && data->positions && (data->numbers || data->labels);
    return fine ? 0 : ivon_error_memory(error);
}

struct row_targets labelled_targets(const struct labelled *data, size_t row)
{
    const struct row_targets all = {data->labels, data->numbers, data->ignored};
    return targets_from(&all, data->outputs->likelihood, data->outputs->k, row);
}

int labelled_read_targets(struct labelled *data, uint64_t first, struct ivon_error *error)
{
    const struct outputs *outputs = data->outputs;
    uint64_t left = data->count - first;
    data->first = first;
    data->present = left < data->limit ? (size_t)left : data->limit;
    if (data->field < 0)
        return 0;
    int code = outputs_read_targets(outputs, data->examples, (size_t)data->field, first,
                                    data->present, data->ignored, data->labels, data->numbers,
                                    error);
    const struct row_targets targets = labelled_targets(data, 0);
    if (!code)
        targets_mark(&targets, outputs->likelihood, outputs->k, outputs->tokens, data->present,
                     data->counts, data->positions);
    return code;
}

int labelled_load(struct labelled *data, struct runner *runner, uint64_t first,
                  struct ivon_error *error)
{
    uint64_t left = data->count - first;
    size_t present = left < data->limit ? (size_t)left : data->limit;
    int code = runner_load(runner, &data->feed, first, present, error);
    return code ? code : labelled_read_targets(data, first, error);
}
