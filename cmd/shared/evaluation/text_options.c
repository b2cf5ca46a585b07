#include "cmd/shared/evaluation/text_options.h"

#include <string.h>
#include <sysexits.h>

#include "cmd/shared/options/options.h"

enum { KEY_TOKENS = 256, KEY_TEXT_COLUMN, KEY_CONTEXT, KEY_STRIDE };

static const struct argp_option option_table[] = {
    {"tokens", KEY_TOKENS, "char|VOCABULARY", 0,
     "The data are a text, its tokens characters; or texts in CSV, their tokens words, one on each "
     "line of a file",
     1},
    {"text-column", KEY_TEXT_COLUMN, "COLUMN", 0,
     "CSV: column of texts (default: the only one but the targets')", 1},
    {"context", KEY_CONTEXT, "T", 0,
     "Cut an array of tokens into examples of T, to predict the next; of texts: tokens of each", 1},
    {"stride", KEY_STRIDE, "N", 0, "--context: tokens from one example to the next (default T)", 1},
    {0},
};

bool text_options_given(const struct ivon_dataset_options *options)
{
    return options->characters || options->vocabulary || options->text_column || options->context ||
           options->stride;
}

static void text_options_check(const struct ivon_dataset_options *options, struct argp_state *state)
{
    if (!options->context && (options->characters || options->stride))
        argp_failure(state, EX_USAGE, 0, "%s needs --context=T",
                     options->stride ? "--stride" : "--tokens");
    if (options->vocabulary && options->stride)
        argp_failure(state, EX_USAGE, 0, "--stride is for one text, not for texts in CSV");
    if (options->text_column && !options->vocabulary)
        argp_failure(state, EX_USAGE, 0, "--text-column needs --tokens=VOCABULARY");
}

static error_t text_options_parse(int key, char *argument, struct argp_state *state)
{
    enum { TOKENS_MAX = 1 << 20 /* of an example */ };
    struct ivon_dataset_options *options = state->input;
    switch (key) {
    case KEY_TOKENS:
        options->characters = strcmp(argument, "char") == 0;
        options->vocabulary = options->characters ? NULL : argument;
        return 0;
    case KEY_TEXT_COLUMN:
        options->text_column = argument;
        return 0;
    case KEY_CONTEXT:
        options->context = (size_t)option_whole(state, "--context", argument, 1, TOKENS_MAX);
        return 0;
    case KEY_STRIDE:
        options->stride = (size_t)option_whole(state, "--stride", argument, 1, TOKENS_MAX);
        return 0;
    case ARGP_KEY_END:
        text_options_check(options, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp text_argp = {.options = option_table, .parser = text_options_parse};
