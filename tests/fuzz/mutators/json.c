/* JSON, token by token; and safetensors, whose length of the header follows it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mutators/mutators.h"

enum { TOKENS_MAX = 1 << 14 };

struct token {
    const uint8_t *data;
    size_t size;
};

static size_t token_size(const uint8_t *data, size_t left)
{
    size_t size = 1;
    if (*data == '"') {
        while (size < left && data[size] != '"')
            size += data[size] == '\\' && size + 1 < left ? 2 : 1;
        return size < left ? size + 1 : left;
    }
    bool word = isalnum(*data) || *data == '-';
    while (size < left && (word ? isalnum(data[size]) || strchr("+-.", data[size]) != NULL
                                : isspace(*data) && isspace(data[size])))
        size++;
    return size;
}

/* The end of what begins with a token: of an object or array where it opens one. */
static size_t value_end(const struct token *tokens, size_t count, size_t at)
{
    size_t depth = 0;
    for (size_t i = at; i < count; i++) {
        uint8_t first = *tokens[i].data;
        depth += first == '{' || first == '[';
        depth -= depth && (first == '}' || first == ']');
        if (!depth)
            return i + 1;
    }
    return count;
}

static void put_tokens(struct buffer *out, const struct token *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(out, tokens[i].data, tokens[i].size);
}

static void put_changed(struct buffer *out, const struct token *token)
{
    if (*token->data == '"' && token->size >= 2) {
        put(out, "\"", 1);
        put_mutated(out, token->data + 1, token->size - 2);
        put(out, "\"", 1);
    } else if (isdigit(*token->data)) {
        char text[32];
        uint64_t number = other_number(strtoull((const char *)token->data, NULL, 10));
        put(out, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)number));
    } else {
        put_mutated(out, token->data, token->size);
    }
}

static void put_new(struct buffer *out)
{
    static const char *const known[] = {
        "null",
        "true",
        "-1",
        "1e999",
        "-0",
        "0.5",
        "18446744073709551616",
        "{}",
        "[]",
        "\"\"",
        "[[]]",
        "\"F32\"",
        "\"F64\"",
        "\"BF16\"",
        "\"I64\"",
        "\"BOOL\"",
        "\"F8_E4M3\"",
        "\"U8\"",
        "\"dtype\"",
        "\"shape\"",
        "\"data_offsets\"",
        "\"__metadata__\"",
        "\"ivon-posterior\"",
        "\"1\"",
        "\"ess\"",
        "\"weight_decay\"",
        "\"hessian/a.weight\"",
        "\"mean/a\"",
        "\"momentum/a\"",
        "\"buffers/b\"",
        "\"model.onnx\"",
        "\"weight_map\"",
        "\"metadata\"",
        "\"a.safetensors\"",
        "\"b.safetensors\"",
        "\"../a\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        ",",
        ":",
        "\"x\":1,",
        ",\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"};
    const char *text = known[pick(sizeof known / sizeof *known)];
    put(out, text, strlen(text));
}

bool mutate_json(struct buffer *out, const uint8_t *data, size_t size)
{
    static struct token tokens[TOKENS_MAX];
    size_t count = 0, at, end, other;
    while (size && count < TOKENS_MAX) {
        size_t length = count == TOKENS_MAX - 1 ? size : token_size(data, size);
        tokens[count++] = (struct token){data, length};
        data += length;
        size -= length;
    }
    at = pick(count);
    other = pick(count);
    end = count ? value_end(tokens, count, at) : 0;
    put_tokens(out, tokens, at);
    switch (count ? pick(7) : 4) {
    case 0: /* left out */
        break;
    case 1: /* twice, between commas where it is a value */
        put_tokens(out, tokens + at, end - at);
        put(out, ",", once_in(2));
        put_tokens(out, tokens + at, end - at);
        break;
    case 2: /* one from elsewhere, before or instead */
    case 3:
        put_tokens(out, tokens + other, value_end(tokens, count, other) - other);
        end = once_in(4) ? at : end;
        break;
    case 4:
        put_new(out);
        end = once_in(2) ? at : end;
        break;
    default:
        put_changed(out, tokens + at);
        end = at + 1;
    }
    if (count)
        put_tokens(out, tokens + end, count - end);
    return true;
}
