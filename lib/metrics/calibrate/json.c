/* A calibration as JSON text: ivon-calibrate(1) says what is in it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "metrics/calibrate/calibration.h"

enum {
    VERSION = 1,
    TEXT_MAX = 256 << 20,
    DIGITS = 17, /* of numbers, which read back to the same bits */
    NAMES_MAX = 8
};

static const char *const method_names[] = {"none", "temperature", "vector", "isotonic"};
static const char *const score_names[] = {"none", "thr", "aps", "raps", "absolute", "normalised"};

/* Printing. */

static json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_string("Infinity");
}

static json_t *json_numbers(const double *values, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_number(values[i]));
    return list;
}

static json_t *json_isotonic(const struct ivon_calibration *calibration)
{
    json_t *list = json_array();
    for (size_t c = 0; c < calibration->outputs; c++) {
        const struct isotonic *isotonic = &calibration->isotonic[c];
        json_array_append_new(list, json_pack("{s:o, s:o}", "x",
                                              json_numbers(isotonic->x, isotonic->count), "y",
                                              json_numbers(isotonic->y, isotonic->count)));
    }
    return list;
}

static json_t *json_conformal(const struct conformal *conformal)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)conformal->seed);
    json_t *object = json_pack("{s:s, s:f, s:s, s:I, s:o}", "score", score_names[conformal->score],
                               "coverage", conformal->coverage, "seed", seed, "rows",
                               (json_int_t)conformal->rows, "quantiles",
                               json_numbers(conformal->quantiles, conformal->quantile_count));
    if (conformal->score < IVON_CONFORMAL_ABSOLUTE)
        json_object_set_new(object, "tie", json_number(conformal->tie));
    if (conformal->score == IVON_CONFORMAL_RAPS) {
        json_object_set_new(object, "penalty", json_number(conformal->penalty));
        json_object_set_new(object, "free_ranks", json_integer((json_int_t)conformal->free_ranks));
    }
    return object;
}

int ivon_calibration_print(const struct ivon_calibration *calibration, char **text,
                           struct ivon_error *error)
{
    size_t k = calibration->outputs;
    json_t *root = json_pack("{s:s, s:i, s:s, s:I, s:s, s:I}", "format", "ivon-calibration",
                             "format_version", VERSION, "likelihood",
                             ivon_likelihood_traits(calibration->likelihood)->name, "outputs",
                             (json_int_t)k, "method", method_names[calibration->method], "rows",
                             (json_int_t)calibration->rows);
    if (calibration->method == IVON_CALIBRATION_TEMPERATURE)
        json_object_set_new(root, "temperature", json_real(calibration->temperature));
    if (calibration->method == IVON_CALIBRATION_VECTOR) {
        size_t scalings = calibration_scalings(calibration);
        json_object_set_new(root, "weights", json_numbers(calibration->weights, scalings));
        json_object_set_new(root, "biases", json_numbers(calibration->biases, scalings));
    }
    if (calibration->method == IVON_CALIBRATION_ISOTONIC)
        json_object_set_new(root, "isotonic", json_isotonic(calibration));
    if (calibration->conformal.score != IVON_CONFORMAL_NONE)
        json_object_set_new(root, "conformal", json_conformal(&calibration->conformal));
    *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS));
    json_decref(root);
    return *text ? 0 : ivon_error_memory(error);
}

/* Parsing: an object, and where in the file it is, for messages. */

struct parsing {
    const char *path;
    struct ivon_error *error;
};

static int calibration_parse_fail(const struct parsing *parsing, const char *member,
                                  const char *expected)
{
    return ivon_error_set(parsing->error, IVON_ERROR_DATA,
                          "%s: '%s' is missing or wrong, expected %s", parsing->path, member,
                          expected);
}

static int calibration_parse_name(const struct parsing *parsing, const json_t *object,
                                  const char *member, const char *const *names, size_t count,
                                  int *found)
{
    const char *text = json_string_value(json_object_get(object, member));
    for (size_t i = 0; i < count && text; i++)
        if (strcmp(names[i], text) == 0) {
            *found = (int)i;
            return 0;
        }
    return calibration_parse_fail(parsing, member, "one of the names that there are");
}

static int calibration_parse_count(const struct parsing *parsing, const json_t *object,
                                   const char *member, json_int_t least, uint64_t *out)
{
    const json_t *value = json_object_get(object, member);
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < least)
        return calibration_parse_fail(parsing, member, "a whole number, not negative");
    *out = (uint64_t)number;
    return 0;
}

/* A number from `low` to `high`; an infinite one is a text. */
static bool calibration_parse_value(const json_t *value, double low, double high, double *out)
{
    const char *text = json_string_value(value);
    *out = text && strcmp(text, "Infinity") == 0 ? INFINITY
           : json_is_number(value)               ? json_number_value(value)
                                                 : NAN;
    return *out >= low && *out <= high;
}

static int calibration_parse_number(const struct parsing *parsing, const json_t *object,
                                    const char *member, double low, double high, double *out)
{
    return calibration_parse_value(json_object_get(object, member), low, high, out)
               ? 0
               : calibration_parse_fail(parsing, member, "a number in its range");
}

static int calibration_parse_numbers(const struct parsing *parsing, const json_t *object,
                                     const char *member, size_t count, double low, double high,
                                     double **out)
{
    const json_t *list = json_object_get(object, member);
    if (!json_is_array(list) || json_array_size(list) != count || !count)
        return calibration_parse_fail(parsing, member,
                                      "a list of as many numbers as there should be");
    *out = calloc(count, sizeof **out);
    if (!*out)
        return ivon_error_memory(parsing->error);
    for (size_t i = 0; i < count; i++)
        if (!calibration_parse_value(json_array_get(list, i), low, high, &(*out)[i]))
            return calibration_parse_fail(parsing, member, "numbers in their range");
    return 0;
}

static int calibration_parse_isotonic(const struct parsing *parsing, const json_t *object,
                                      struct isotonic *isotonic)
{
    size_t count = json_array_size(json_object_get(object, "x"));
    int code = calibration_parse_numbers(parsing, object, "x", count, 0, 2, &isotonic->x);
    if (!code)
        code = calibration_parse_numbers(parsing, object, "y", count, 0x1p-1022, 1, &isotonic->y);
    for (size_t i = 1; i < count && !code; i++)
        if (!(isotonic->x[i] > isotonic->x[i - 1]) || isotonic->y[i] < isotonic->y[i - 1])
            code = calibration_parse_fail(parsing, "isotonic", "rising numbers");
    isotonic->count = count;
    return code;
}

static int calibration_parse_functions(const struct parsing *parsing, const json_t *root,
                                       struct ivon_calibration *calibration)
{
    const json_t *list = json_object_get(root, "isotonic");
    int code = 0;
    if (json_array_size(list) != calibration->outputs)
        return calibration_parse_fail(parsing, "isotonic",
                                      "a list with a function for each output");
    calibration->isotonic = calloc(calibration->outputs, sizeof *calibration->isotonic);
    if (!calibration->isotonic)
        return ivon_error_memory(parsing->error);
    for (size_t c = 0; c < calibration->outputs && !code; c++)
        code = calibration_parse_isotonic(parsing, json_array_get(list, c),
                                          &calibration->isotonic[c]);
    return code;
}

static int calibration_parse_method(const struct parsing *parsing, const json_t *root,
                                    struct ivon_calibration *calibration)
{
    size_t scalings = calibration_scalings(calibration);
    int code;
    switch (calibration->method) {
    case IVON_CALIBRATION_TEMPERATURE:
        return calibration_parse_number(parsing, root, "temperature", 0x1p-20, 0x1p20,
                                        &calibration->temperature);
    case IVON_CALIBRATION_VECTOR:
        code = calibration_parse_numbers(parsing, root, "weights", scalings, -1e6, 1e6,
                                         &calibration->weights);
        return code ? code
                    : calibration_parse_numbers(parsing, root, "biases", scalings, -1e9, 1e9,
                                                &calibration->biases);
    case IVON_CALIBRATION_ISOTONIC:
        return calibration_parse_functions(parsing, root, calibration);
    default:
        return 0;
    }
}

static int calibration_parse_seed(const struct parsing *parsing, const json_t *object,
                                  uint64_t *seed)
{
    const char *text = json_string_value(json_object_get(object, "seed"));
    uint64_t value = 0;
    if (!text || !*text)
        return calibration_parse_fail(parsing, "seed", "the digits of a number");
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return calibration_parse_fail(parsing, "seed", "a number below 2^64");
    *seed = value;
    return *text ? calibration_parse_fail(parsing, "seed", "the digits of a number") : 0;
}

static int calibration_parse_conformal(const struct parsing *parsing, const json_t *root,
                                       struct ivon_calibration *calibration)
{
    struct conformal *conformal = &calibration->conformal;
    const json_t *object = json_object_get(root, "conformal");
    int score = IVON_CONFORMAL_NONE, code;
    if (!object)
        return calibration->method == IVON_CALIBRATION_NONE
                   ? calibration_parse_fail(parsing, "conformal", "it where the method is none")
                   : 0;
    code = calibration_parse_name(parsing, object, "score", score_names,
                                  sizeof score_names / sizeof *score_names, &score);
    bool numbers = score >= IVON_CONFORMAL_ABSOLUTE;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(calibration->likelihood);
    if (!code &&
        (score == IVON_CONFORMAL_NONE || (numbers ? !traits->regression : !traits->classes)))
        code = calibration_parse_fail(parsing, "score", "one that the likelihood has");
    conformal->score = (enum ivon_conformal)score;
    if (!code)
        code = calibration_parse_number(parsing, object, "coverage", 0, 1, &conformal->coverage);
    if (!code)
        code = calibration_parse_seed(parsing, object, &conformal->seed);
    if (!code)
        code = calibration_parse_count(parsing, object, "rows", 1, &conformal->rows);
    conformal->quantile_count = numbers ? calibration->outputs : 1;
    if (!code)
        code = calibration_parse_numbers(parsing, object, "quantiles", conformal->quantile_count,
                                         numbers ? 0 : -1, INFINITY, &conformal->quantiles);
    if (!code && !numbers)
        code = calibration_parse_number(parsing, object, "tie", 0, 1, &conformal->tie);
    if (!code && score == IVON_CONFORMAL_RAPS)
        code = calibration_parse_number(parsing, object, "penalty", 0, 1e300, &conformal->penalty);
    if (!code && score == IVON_CONFORMAL_RAPS)
        code = calibration_parse_count(parsing, object, "free_ranks", 0, &conformal->free_ranks);
    return code;
}

static int calibration_parse_likelihood(const struct parsing *parsing, const json_t *root,
                                        struct ivon_calibration *calibration)
{
    const struct ivon_likelihood_traits *traits;
    const char *names[NAMES_MAX];
    size_t count = 0;
    int found = 0;
    for (; count < NAMES_MAX && (traits = ivon_likelihood_traits((enum ivon_likelihood)count));)
        names[count++] = traits->name;
    int code = calibration_parse_name(parsing, root, "likelihood", names, count, &found);
    calibration->likelihood = (enum ivon_likelihood)found;
    return code;
}

static int calibration_parse_root(const struct parsing *parsing, const json_t *root,
                                  struct ivon_calibration *calibration)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    uint64_t version = 0, outputs = 0;
    int method = 0;
    if (!format || strcmp(format, "ivon-calibration") != 0)
        return ivon_error_set(parsing->error, IVON_ERROR_DATA,
                              "%s: no calibration: other JSON, expected that of ivon-calibrate",
                              parsing->path);
    int code = calibration_parse_count(parsing, root, "format_version", 1, &version);
    if (!code && version != VERSION)
        code = ivon_error_set(parsing->error, IVON_ERROR_DATA,
                              "%s: version %llu of a calibration, expected %d", parsing->path,
                              (unsigned long long)version, VERSION);
    if (!code)
        code = calibration_parse_likelihood(parsing, root, calibration);
    if (!code)
        code = calibration_parse_count(parsing, root, "outputs", 1, &outputs);
    if (!code && outputs > TEXT_MAX)
        code = calibration_parse_fail(parsing, "outputs", "a number of outputs");
    calibration->outputs = (size_t)outputs;
    if (!code)
        code = calibration_parse_name(parsing, root, "method", method_names,
                                      sizeof method_names / sizeof *method_names, &method);
    if (!code && method && ivon_likelihood_traits(calibration->likelihood)->regression)
        code = calibration_parse_fail(parsing, "method", "none, as of regression");
    calibration->method = (enum ivon_calibration_method)method;
    if (!code)
        code = calibration_parse_count(parsing, root, "rows", 0, &calibration->rows);
    if (!code)
        code = calibration_parse_method(parsing, root, calibration);
    return code ? code : calibration_parse_conformal(parsing, root, calibration);
}

int ivon_calibration_parse(struct ivon_calibration **out, const char *path, const char *text,
                           size_t size, struct ivon_error *error)
{
    const struct parsing parsing = {path, error};
    json_error_t problem;
    if (size > TEXT_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %zu bytes, expected at most %d", path,
                              size, TEXT_MAX);
    size_t start = 0;
    while (start < size && strchr(" \t\r\n", text[start]) && text[start])
        start++;
    if (start == size || text[start] != '{')
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: no calibration: found no JSON object, expected that of ivon-calibrate", path);
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (!root)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no calibration: line %d: %s, expected JSON of ivon-calibrate",
                              path, problem.line, problem.text);
    struct ivon_calibration *calibration = calloc(1, sizeof *calibration);
    int code = calibration ? 0 : ivon_error_memory(error);
    if (!code) {
        calibration->temperature = NAN;
        code = calibration_parse_root(&parsing, root, calibration);
    }
    json_decref(root);
    if (code)
        ivon_calibration_free(calibration);
    else
        *out = calibration;
    return code;
}
