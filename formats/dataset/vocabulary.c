#include "formats/dataset/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

enum {
    SIZE_MAX_BYTES = 1 << 26, /* of the file */
    TOKEN_MAX = 256,          /* bytes of a token that is tried in small letters, too */
};

/* By the bytes, and then the number. */
static int vocabulary_compare(const void *a, const void *b)
{
    const struct vocabulary_token *left = a, *right = b;
    size_t size = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->text, right->text, size);
    if (order)
        return order;
    if (left->size != right->size)
        return left->size < right->size ? -1 : 1;
    return left->number < right->number ? -1 : left->number > right->number;
}

/* The number of exactly these bytes, or -1: that of the first token which is not below them. */
static int32_t vocabulary_find_exactly(const struct text_vocabulary *vocabulary, const char *text,
                                       size_t size)
{
    const struct vocabulary_token wanted = {text, size, 0};
    size_t low = 0, high = vocabulary->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (vocabulary_compare(&vocabulary->tokens[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const struct vocabulary_token *found = &vocabulary->tokens[low];
    return low < vocabulary->count && found->size == size && memcmp(found->text, text, size) == 0
               ? found->number
               : -1;
}

int32_t text_vocabulary_find(const struct text_vocabulary *vocabulary, const char *text,
                             size_t size)
{
    char small[TOKEN_MAX];
    int32_t number = vocabulary_find_exactly(vocabulary, text, size);
    if (number >= 0 || size > sizeof small)
        return number;
    for (size_t i = 0; i < size; i++)
        small[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    return vocabulary_find_exactly(vocabulary, small, size);
}

static bool text_vocabulary_split(struct text_vocabulary *vocabulary)
{
    const char *at = (const char *)vocabulary->file.data, *end = at + vocabulary->file.size;
    size_t lines = 1;
    for (const char *i = at; i < end; i++)
        lines += *i == '\n';
    vocabulary->tokens = calloc(lines, sizeof *vocabulary->tokens);
    if (!vocabulary->tokens)
        return false;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        stop -= stop > at && stop[-1] == '\r';
        vocabulary->tokens[vocabulary->count] = (struct vocabulary_token){
            at, (size_t)(stop - at), (int32_t)vocabulary->count};
        vocabulary->count++;
        at = next;
    }
    qsort(vocabulary->tokens, vocabulary->count, sizeof *vocabulary->tokens, vocabulary_compare);
    return true;
}

int text_vocabulary_open(struct text_vocabulary *vocabulary, const char *path,
                         struct ivon_error *error)
{
    *vocabulary = (struct text_vocabulary){0};
    int code = mapped_open(&vocabulary->file, path, error);
    if (code)
        return code;
    uint64_t size = vocabulary->file.size;
    if (!size || size > SIZE_MAX_BYTES || memchr(vocabulary->file.data, '\0', (size_t)size))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is no vocabulary: it %s, expected a token on each line", path,
                              !size                   ? "is empty"
                              : size > SIZE_MAX_BYTES ? "has more than 64 MiB"
                                                      : "has null bytes");
    if (!text_vocabulary_split(vocabulary))
        return ivon_error_memory(error);
    vocabulary->unknown = vocabulary_find_exactly(vocabulary, "<unk>", 5);
    if (vocabulary->unknown < 0)
        vocabulary->unknown = vocabulary_find_exactly(vocabulary, "[UNK]", 5);
    return 0;
}

void text_vocabulary_release(struct text_vocabulary *vocabulary)
{
    mapped_close(&vocabulary->file);
    free(vocabulary->tokens);
    *vocabulary = (struct text_vocabulary){0};
}
