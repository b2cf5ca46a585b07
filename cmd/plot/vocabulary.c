#define _GNU_SOURCE
#include "cmd/plot/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

/* How the tokens of examples are written. */
struct token_names {
    const char *const *names;
    size_t count;
    const char *path;      /* where they are from */
    const char *separator; /* between two of them */
    size_t before;         /* how many there are before one that is marked */
    bool fills;            /* number 0 fills up */
};

static struct token_names token_names_of(const struct name_list *vocabulary,
                                         const struct ivon_examples *examples)
{
    enum { WORDS_BEFORE = 8, CHARACTERS_BEFORE = 40 };
    struct token_names tokens = {
        .path = ivon_examples_path(examples), .separator = "", .before = CHARACTERS_BEFORE};
    tokens.names = ivon_examples_characters(examples, &tokens.count);
    if (tokens.names)
        return tokens;
    return (struct token_names){.names = (const char *const *)vocabulary->names,
                                .count = vocabulary->count,
                                .path = vocabulary->path,
                                .separator = " ",
                                .before = WORDS_BEFORE,
                                .fills = true};
}

static int vocabulary_write(const struct token_names *names, FILE *stream,
                            const struct ivon_examples *examples, uint64_t example,
                            const int64_t *tokens, size_t count, int64_t marked,
                            struct ivon_error *error)
{
    const char *separator = "";
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint64_t)tokens[i] >= names->count)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: row %llu has token %lld, but %s has %zu lines",
                              ivon_examples_path(examples), (unsigned long long)example,
                              (long long)tokens[i], names->path, names->count);
        bool mark = (int64_t)i == marked;
        if ((names->fills && !tokens[i] && !mark) || (int64_t)i < marked - (int64_t)names->before)
            continue;
        const char *name = names->names[tokens[i]];
        fprintf(stream, mark ? "%s[%s]" : "%s%s", separator,
                strcmp(name, "\n") == 0 ? "\u21b5" : name);
        separator = names->separator;
    }
    return 0;
}

int vocabulary_text(const struct name_list *vocabulary, struct ivon_examples *examples,
                    size_t field, uint64_t example, int64_t marked, char **text,
                    struct ivon_error *error)
{
    const struct ivon_field *words = ivon_examples_field(examples, field);
    const struct token_names names = token_names_of(vocabulary, examples);
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
        code = vocabulary_write(&names, stream, examples, example, tokens, words->count, marked,
                                error);
    if (fclose(stream))
        memory_exhausted();
    free(tokens);
    return code;
}
