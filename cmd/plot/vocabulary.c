#define _GNU_SOURCE
#include "cmd/plot/vocabulary.h"

#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { BEFORE = 8 /* words before one that is marked */ };

static int vocabulary_write(const struct name_list *vocabulary, FILE *stream,
                            struct ivon_examples *examples, uint64_t example, const int64_t *tokens,
                            size_t count, int64_t marked, struct ivon_error *error)
{
    const char *space = "";
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint64_t)tokens[i] >= vocabulary->count)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: row %llu has token %lld, but %s has %zu lines",
                              ivon_examples_path(examples), (unsigned long long)example,
                              (long long)tokens[i], vocabulary->path, vocabulary->count);
        bool mark = (int64_t)i == marked;
        if ((!tokens[i] && !mark) || (int64_t)i < marked - BEFORE)
            continue;
        fprintf(stream, mark ? "%s[%s]" : "%s%s", space, vocabulary->names[tokens[i]]);
        space = " ";
    }
    return 0;
}

int vocabulary_text(const struct name_list *vocabulary, struct ivon_examples *examples,
                    size_t field, uint64_t example, int64_t marked, char **text,
                    struct ivon_error *error)
{
    const struct ivon_field *words = ivon_examples_field(examples, field);
    *text = NULL;
    if (words->rank != 1)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: '%s' has %d axes for each example, expected one, of tokens",
                          ivon_examples_path(examples), words->name, words->rank);
    size_t size = 0;
    int64_t *tokens = xcalloc(words->count, sizeof *tokens);
    int code = ivon_examples_read_i64(examples, field, example, 1, tokens, error);
    FILE *stream = memory_of(open_memstream(text, &size));
    if (!code)
        code = vocabulary_write(vocabulary, stream, examples, example, tokens, words->count, marked,
                                error);
    if (fclose(stream))
        memory_exhausted();
    free(tokens);
    return code;
}
