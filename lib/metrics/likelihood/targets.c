#include "metrics/likelihood/targets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"

bool ivon_target_counts(enum ivon_likelihood likelihood, size_t outputs, const int64_t *labels,
                        int64_t ignored)
{
    if (ivon_likelihood_traits(likelihood)->regression || ignored == INT64_MIN)
        return true;
    for (size_t k = 0; k < ivon_likelihood_targets(likelihood, outputs); k++)
        if (labels[k] != ignored)
            return true;
    return false;
}

struct row_targets targets_from(const struct row_targets *targets, enum ivon_likelihood likelihood,
                                size_t k, size_t row)
{
    size_t offset = row * ivon_likelihood_targets(likelihood, k);
    return (struct row_targets){.labels = targets->labels ? targets->labels + offset : NULL,
                                .numbers = targets->numbers ? targets->numbers + offset : NULL,
                                .ignored = targets->ignored};
}

bool targets_count(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                   size_t row)
{
    if (!targets->labels || targets->ignored == INT64_MIN)
        return true;
    const int64_t *labels = targets->labels + row * ivon_likelihood_targets(likelihood, k);
    return *labels != targets->ignored || /* most do: without asking for more */
           ivon_target_counts(likelihood, k, labels, targets->ignored);
}

void targets_mark(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                  size_t tokens, size_t examples, bool *counts, size_t *positions)
{
    for (size_t i = 0; i < examples; i++) {
        positions[i] = 0;
        for (size_t row = i * tokens; row < (i + 1) * tokens; row++) {
            counts[row] = targets_count(targets, likelihood, k, row);
            positions[i] += counts[row];
        }
    }
}

/* "row 3", or of a token "row 3, token 5". */
static const char *row_text(char text[64], size_t tokens, const struct ivon_examples *examples,
                            uint64_t first, size_t row)
{
    uint64_t example = first + row / tokens;
    int length = snprintf(text, 64, "row %" PRIu64,
                          examples ? ivon_examples_number(examples, example) : example);
    if (tokens > 1)
        snprintf(text + length, 64 - (size_t)length, ", token %zu", row % tokens);
    return text;
}

int targets_check(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                  size_t tokens, const struct ivon_examples *examples, uint64_t first, size_t rows,
                  struct ivon_error *error)
{
    size_t width = ivon_likelihood_targets(likelihood, k);
    size_t classes = ivon_likelihood_traits(likelihood)->classes ? k : 2;
    const char *path = examples ? ivon_examples_path(examples) : NULL;
    char text[64];
    for (size_t row = 0; row < rows && targets->labels; row++) {
        if (!targets_count(targets, likelihood, k, row))
            continue;
        for (size_t i = row * width; i < (row + 1) * width; i++) {
            int64_t label = targets->labels[i];
            if (label >= 0 && (uint64_t)label < classes)
                continue;
            if (label == targets->ignored)
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "%s%s%s: some of its %zu targets are the ignored label "
                                      "%" PRId64 ", expected all or none",
                                      path ? path : "", path ? ": " : "",
                                      row_text(text, tokens, examples, first, row), width, label);
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s%s%s: target %" PRId64 ", expected a class from 0 to %zu",
                                  path ? path : "", path ? ": " : "",
                                  row_text(text, tokens, examples, first, row), label, classes - 1);
        }
    }
    return 0;
}

int targets_read(struct ivon_examples *examples, size_t field, uint64_t first, size_t count,
                 int64_t *labels, struct ivon_error *error)
{
    int code = ivon_examples_read_i64(examples, field, first, count, labels, error);
    bool numbers = ivon_dtype_is_float(ivon_examples_field(examples, field)->dtype);
    return code == IVON_ERROR_DATA && numbers ? ivon_error_hint(error, IVON_HINT_REGRESSION, code)
                                              : code;
}

static int read_positions(struct ivon_positions *positions, struct ivon_examples *examples,
                          size_t index, enum ivon_likelihood likelihood, size_t outputs,
                          int64_t ignored, struct ivon_error *error)
{
    enum { BLOCK = 1 << 16 /* labels read at a time, or those of one example */ };
    uint64_t count = ivon_examples_count(examples);
    size_t width = ivon_examples_field(examples, index)->count, block = BLOCK / width;
    size_t tokens = width / ivon_likelihood_targets(likelihood, outputs);
    int code = 0;
    block = block ? block : 1;
    int64_t *labels = calloc(block, width * sizeof *labels);
    if (!labels)
        return ivon_error_memory(error);
    const struct row_targets targets = {.labels = labels, .ignored = ignored};
    for (uint64_t first = 0; first < count && !code; first += block) {
        size_t piece = count - first < block ? (size_t)(count - first) : block;
        code = targets_read(examples, index, first, piece, labels, error);
        for (size_t i = 0; i < piece && !code; i++) {
            uint64_t before = positions->counted;
            for (size_t t = 0; t < tokens; t++)
                positions->counted += targets_count(&targets, likelihood, outputs, i * tokens + t);
            positions->all += tokens;
            positions->examples += positions->counted > before;
        }
    }
    free(labels);
    return code;
}

int ivon_positions_count(struct ivon_positions *positions, struct ivon_examples *examples,
                         const char *name, enum ivon_likelihood likelihood, size_t outputs,
                         int64_t ignored, struct ivon_error *error)
{
    size_t width = ivon_likelihood_targets(likelihood, outputs);
    ptrdiff_t found = ivon_examples_find(examples, name);
    *positions = (struct ivon_positions){0};
    if (found < 0)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no targets '%s'",
                              ivon_examples_path(examples), name);
    size_t size = ivon_examples_field(examples, (size_t)found)->count;
    if (size % width)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has %zu numbers for each example, expected a multiple of "
                              "the %zu outputs",
                              ivon_examples_path(examples), name, size, width);
    if (!ivon_likelihood_traits(likelihood)->regression && ignored != INT64_MIN)
        return read_positions(positions, examples, (size_t)found, likelihood, outputs, ignored,
                              error);
    positions->examples = ivon_examples_count(examples);
    positions->all = positions->counted = positions->examples * (size / width);
    return 0;
}
