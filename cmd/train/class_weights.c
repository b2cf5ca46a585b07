/* --class-weights: a list, a file of numbers, or balanced. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/inputs/name_list.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* Reads a number that a separator or the text's end follows; null where there is none. */
static const char *class_weight_read(const char *text, char separator, double *weight)
{
    char *end;
    *weight = strtod(text, &end);
    bool number = end != text && *weight >= 0 && isfinite(*weight);
    return number && (!*end || *end == separator) ? end : NULL;
}

static int class_weights_read_file(struct train_command *command, struct ivon_error *error)
{
    struct name_list list;
    int code = name_list_read(&list, command->class_weights, "list of class weights", error);
    double *weights = xcalloc(list.count + 1, sizeof *weights);
    for (size_t i = 0; i < list.count && !code; i++)
        if (!class_weight_read(list.names[i], '\0', &weights[i]))
            code = error_fill(error, IVON_ERROR_DATA,
                              "%s: line %zu is '%s', expected the weight of a class, a number that "
                              "is not negative",
                              command->class_weights, i + 1, list.names[i]);
    command->weights_of_classes = weights;
    command->options.class_weights = weights;
    command->options.class_weight_count = list.count;
    name_list_release(&list);
    return code;
}

void train_class_weights_parse(struct train_command *command, const char *text,
                               struct argp_state *state)
{
    struct ivon_train_options *options = &command->options;
    double first, *weights = xcalloc(strlen(text) + 1, sizeof *weights);
    char *end;
    size_t count = 0;
    free(command->weights_of_classes);
    command->weights_of_classes = weights;
    command->class_weights = text;
    options->class_weights = NULL;
    options->balanced_classes = strcmp(text, "balanced") == 0;
    first = strtod(text, &end);
    if (end == text || (*end && *end != ',') || isnan(first))
        return; /* a word or a file */
    const char *at = text;
    do {
        at = class_weight_read(at, ',', &weights[count++]);
        if (!at)
            argp_failure(state, EX_USAGE, 0,
                         "--class-weights: '%s', expected balanced, numbers that are not negative, "
                         "such as 1,2.5,1, or a file of them",
                         text);
    } while (*at++ == ',');
    options->class_weights = weights;
    options->class_weight_count = count;
}

int train_class_weights_take(struct train_command *command, struct ivon_error *error)
{
    const struct ivon_train_options *options = &command->options;
    if (!command->class_weights || options->class_weights || options->balanced_classes)
        return 0;
    free(command->weights_of_classes);
    return class_weights_read_file(command, error);
}

/* FNV-1a of the numbers, for those that are too many to be listed. */
static uint64_t class_weights_digest(const struct ivon_train_options *options)
{
    const unsigned char *bytes = (const unsigned char *)options->class_weights;
    uint64_t digest = 0xcbf29ce484222325;
    for (size_t i = 0; i < options->class_weight_count * sizeof *options->class_weights; i++)
        digest = (digest ^ bytes[i]) * 0x100000001b3;
    return digest;
}

json_t *train_class_weights_json(const struct ivon_train_options *options)
{
    enum { LISTED = 100, LENGTH = 32 };
    char text[LISTED * LENGTH + 1] = "";
    size_t used = 0;
    if (options->balanced_classes)
        return json_string("balanced");
    if (!options->class_weights)
        return json_null();
    if (options->class_weight_count > LISTED)
        return json_sprintf("%zu numbers (%016" PRIx64 ")", options->class_weight_count,
                            class_weights_digest(options));
    for (size_t i = 0; i < options->class_weight_count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.9g", i ? "," : "",
                                 options->class_weights[i]);
    return json_string(text);
}
