/*
 * A text as examples: one token for each character, its number among the characters that the file
 * has, in rising order. Its parts "train" and "test" are the first 90 % and the rest.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/dataset/dataset.h"

struct dataset_text {
    int32_t *tokens;
    size_t count, first;     /* `first`: of the part */
    const char **characters; /* that each token is, behind the list */
    size_t character_count;
    size_t beyond; /* one more than the highest that occurs */
};

static int text_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                     struct ivon_error *error)
{
    (void)field;
    (void)error;
    const struct dataset_text *text = self;
    memcpy(buffer, text->tokens + text->first + first, count * sizeof *text->tokens);
    return 0;
}

static const char *const *text_characters(const void *self, size_t *count)
{
    const struct dataset_text *text = self;
    *count = text->character_count;
    return text->characters;
}

static void text_close(void *self)
{
    struct dataset_text *text = self;
    free(text->characters);
    free(text->tokens);
    free(text);
}

/* Characters as they are in Unicode. */
static int decode(struct dataset_text *text, const struct mapped_file *file,
                  struct ivon_error *error)
{
    uint32_t character = 0;
    for (uint64_t at = 0, length; at < file->size; at += length) {
        length = utf8_decode(file->data + at, (size_t)(file->size - at), &character);
        if (!length)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: byte %llu is not of a text in UTF-8",
                                  file->path, (unsigned long long)at);
        text->tokens[text->count++] = (int32_t)character;
        if (character >= text->beyond)
            text->beyond = (size_t)character + 1;
    }
    return 0;
}

/* Lists the characters of which `ranks` are above 0, which become their places in the list. */
static bool dataset_text_list(struct dataset_text *text, int32_t *ranks)
{
    enum { BYTES = 5 /* of a character and its end */ };
    text->characters = calloc(text->character_count + 1, sizeof *text->characters + BYTES);
    if (!text->characters)
        return false;
    char *bytes = (char *)(text->characters + text->character_count + 1);
    for (size_t i = 0, rank = 0; i < text->beyond; i++)
        if (ranks[i]) {
            utf8_encode((uint32_t)i, bytes);
            text->characters[rank] = bytes;
            ranks[i] = (int32_t)rank++;
            bytes += BYTES;
        }
    return true;
}

/* Numbers characters by their rank among those that occur. */
static int dataset_text_number(struct dataset_text *text, struct ivon_error *error)
{
    int32_t *ranks = calloc(text->beyond + 1, sizeof *ranks);
    if (!ranks)
        return ivon_error_memory(error);
    for (size_t i = 0; i < text->count; i++) {
        text->character_count += !ranks[text->tokens[i]];
        ranks[text->tokens[i]] = 1;
    }
    if (!dataset_text_list(text, ranks)) {
        free(ranks);
        return ivon_error_memory(error);
    }
    for (size_t i = 0; i < text->count; i++)
        text->tokens[i] = ranks[text->tokens[i]];
    free(ranks);
    return 0;
}

static int choose_part(struct dataset_text *text, const struct dataset_request *request,
                       struct ivon_error *error)
{
    size_t train = text->count - text->count / 10;
    if (!request->group)
        return 0;
    bool test = strcmp(request->group, "test") == 0;
    if (!test && strcmp(request->group, "train") != 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s', expected train or test, the parts of a text",
                              request->path, request->group);
    text->first = test ? train : 0;
    text->count = test ? text->count - train : train;
    return 0;
}

int dataset_text_open(struct ivon_examples **examples, struct dataset_request *request,
                      struct mapped_file *file, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {
        .read = text_read, .close = text_close, .characters = text_characters};
    struct dataset_text *text = calloc(1, sizeof *text);
    const char *name = dataset_input_name(request, error);
    int code = name ? 0 : IVON_ERROR_ARGUMENT;
    if (text && !code)
        text->tokens = calloc((size_t)file->size + 1, sizeof *text->tokens);
    if (!text || (!code && !text->tokens))
        code = ivon_error_memory(error);
    if (!code)
        code = decode(text, file, error);
    if (!code)
        code = dataset_text_number(text, error);
    if (!code)
        code = choose_part(text, request, error);
    if (!code) {
        struct dataset_array array = {
            .name = name, .dtype = IVON_I32, .rank = 1, .shape = {(int64_t)text->count}};
        code = dataset_make(examples, &class, text, request, &array, 1, false, error);
    }
    if (code && text)
        text_close(text);
    return code;
}
