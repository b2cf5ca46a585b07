#define _GNU_SOURCE
#include "cmd/plot/vocabulary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    SIZE_LIMIT = 1 << 26, /* bytes */
    BEFORE = 8,           /* words before one that is marked */
};

static int vocabulary_read_bytes(struct vocabulary *vocabulary, FILE *file, size_t *size,
                                 struct ivon_error *error)
{
    enum { PIECE = 1 << 16 };
    size_t got = 1;
    for (*size = 0; got && *size <= SIZE_LIMIT; *size += got) {
        vocabulary->text = xreallocarray(vocabulary->text, *size + PIECE + 1, 1);
        got = fread(vocabulary->text + *size, 1, PIECE, file);
    }
    vocabulary->text[*size] = '\0';
    if (ferror(file))
        return error_input(error, vocabulary->path, "read", strerror(errno));
    if (*size > SIZE_LIMIT)
        return error_fill(error, IVON_ERROR_DATA, "%s: no vocabulary: more than %d bytes",
                          vocabulary->path, SIZE_LIMIT);
    return strlen(vocabulary->text) != *size
               ? error_fill(error, IVON_ERROR_DATA, "%s: no vocabulary: there is a null byte in it",
                            vocabulary->path)
               : 0;
}

static void vocabulary_split(struct vocabulary *vocabulary, size_t size)
{
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += vocabulary->text[i] == '\n';
    vocabulary->words = xcalloc(lines, sizeof *vocabulary->words);
    for (char *line = vocabulary->text; *line;) {
        size_t length = strcspn(line, "\n");
        char *next = line + length + (line[length] == '\n');
        line[length] = '\0';
        if (length && line[length - 1] == '\r')
            line[length - 1] = '\0';
        vocabulary->words[vocabulary->count++] = line;
        line = next;
    }
}

int vocabulary_read(struct vocabulary *vocabulary, const char *path, struct ivon_error *error)
{
    size_t size = 0;
    FILE *file = fopen(path, "rbe");
    *vocabulary = (struct vocabulary){.path = path};
    if (!file)
        return error_input(error, path, "open", strerror(errno));
    int code = vocabulary_read_bytes(vocabulary, file, &size, error);
    fclose(file);
    if (!code)
        vocabulary_split(vocabulary, size);
    return code;
}

void vocabulary_release(struct vocabulary *vocabulary)
{
    free(vocabulary->words);
    free(vocabulary->text);
}

static int vocabulary_write(const struct vocabulary *vocabulary, FILE *stream,
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
        fprintf(stream, mark ? "%s[%s]" : "%s%s", space, vocabulary->words[tokens[i]]);
        space = " ";
    }
    return 0;
}

int vocabulary_text(const struct vocabulary *vocabulary, struct ivon_examples *examples,
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
