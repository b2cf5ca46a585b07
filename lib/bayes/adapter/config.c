#include "bayes/adapter/config.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/error.h"

enum { RANK_MAX = 1 << 20, TEXT_MAX = 1 << 20 /* bytes */ };

static const char *const name = "adapter_config.json";

/* Members that, when they are set, make another product of the factors than this reader, or change
   the base. */
static const char *const unread_members[] = {"alora_invocation_tokens",
                                             "arrow_config",
                                             "layer_replication",
                                             "target_parameters",
                                             "use_bdlora",
                                             "trainable_token_indices",
                                             "use_qalora"};

/* Ways to begin that take something off the base's weights, upon which the factors then lie. */
static const char *const changing_starts[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static bool is_set(const json_t *value)
{
    return value && !json_is_null(value) && !json_is_false(value) &&
           !(json_is_array(value) && !json_array_size(value)) &&
           !(json_is_object(value) && !json_object_size(value));
}

static int config_refuse(const struct adapter_config *config, struct ivon_error *error,
                         const char *member, const char *found, const char *expected)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s: '%s' is %s, expected %s", config->path,
                          name, member, found, expected);
}

/* A value as messages show it. */
static const char *config_value_text(const json_t *value, char text[128])
{
    char *dumped = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    size_t length = dumped ? strlen(dumped) : 0;
    if (!dumped)
        strcpy(text, "missing");
    else if (length < 100)
        memcpy(text, dumped, length + 1);
    else
        strcpy(text, json_is_object(value)  ? "an object"
                     : json_is_array(value) ? "a list"
                                            : "a long text");
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    if (dumped)
        release(dumped);
    return text;
}

static int config_flag(const struct adapter_config *config, const char *member, bool *flag,
                       struct ivon_error *error)
{
    char text[128];
    const json_t *value = json_object_get(config->root, member);
    if (value && !json_is_boolean(value) && !json_is_null(value))
        return config_refuse(config, error, member, config_value_text(value, text),
                             "true or false");
    *flag = json_is_true(value);
    return 0;
}

static bool rank_is_valid(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 1 &&
           json_integer_value(value) <= RANK_MAX;
}

static bool alpha_is_valid(const json_t *value)
{
    return json_is_number(value) && isfinite(json_number_value(value));
}

static int config_refuse_value(const struct adapter_config *config, const char *member,
                               const json_t *value, bool is_rank, struct ivon_error *error)
{
    char text[128];
    return config_refuse(config, error, member, config_value_text(value, text),
                         is_rank ? "a whole number from 1 to 1048576" : "a finite number");
}

/* Compares a module's name with a pattern: a name in which a dot matches any character, as in the
   regular expressions that PEFT takes, and a backslash makes it one. */
static bool pattern_matches(const char *pattern, const char *module)
{
    bool whole = *pattern == '^';
    size_t pattern_length = strlen(pattern += whole), length = strlen(module);
    pattern_length -= pattern_length && pattern[pattern_length - 1] == '$';
    size_t characters = 0;
    for (size_t i = 0; i < pattern_length; i++)
        characters += pattern[i] != '\\';
    if (characters > length || (whole && characters != length))
        return false;
    const char *at = module + length - characters;
    if (at != module && at[-1] != '.')
        return false;
    for (size_t i = 0; i < pattern_length; i++) {
        bool escaped = pattern[i] == '\\';
        i += escaped;
        if (*at != pattern[i] && (escaped || pattern[i] != '.'))
            return false;
        at++;
    }
    return true;
}

/* Returns whether a pattern is a plain name, with marks of its ends and escaped dots at most. */
static bool pattern_is_plain(const char *pattern)
{
    pattern += *pattern == '^';
    size_t length = strlen(pattern);
    length -= length && pattern[length - 1] == '$';
    for (size_t i = 0; i < length; i++) {
        if (pattern[i] == '\\' && (++i == length || pattern[i] != '.'))
            return false;
        if (strchr("*+?[](){}|^$\\", pattern[i]))
            return false;
    }
    return length > 0;
}

static int config_patterns(const struct adapter_config *config, const char *member, bool is_rank,
                           const json_t **patterns, struct ivon_error *error)
{
    char text[128];
    const char *pattern;
    json_t *value = json_object_get(config->root, member), *number;
    if (!is_set(value))
        return 0;
    if (!json_is_object(value))
        return config_refuse(config, error, member, config_value_text(value, text), "an object");
    json_object_foreach(value, pattern, number)
    {
        if (!pattern_is_plain(pattern))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: %s: pattern '%s' of '%s' is a regular expression, expected "
                                  "the name of a module",
                                  config->path, name, pattern, member);
        if (is_rank ? !rank_is_valid(number) : !alpha_is_valid(number))
            return config_refuse_value(config, member, number, is_rank, error);
    }
    *patterns = value;
    return 0;
}

static int config_refuse_variants(const struct adapter_config *config, struct ivon_error *error)
{
    char text[128];
    const json_t *kind = json_object_get(config->root, "peft_type");
    const json_t *start = json_object_get(config->root, "init_lora_weights");
    if (!json_is_string(kind) || strcmp(json_string_value(kind), "LORA") != 0)
        return config_refuse(config, error, "peft_type", config_value_text(kind, text),
                             "\"LORA\": no other kind of adapter is read here");
    for (size_t i = 0; i < sizeof unread_members / sizeof unread_members[0]; i++) {
        const json_t *value = json_object_get(config->root, unread_members[i]);
        if (is_set(value))
            return config_refuse(config, error, unread_members[i], config_value_text(value, text),
                                 "nothing: this variant of LoRA is not read here");
    }
    for (size_t i = 0; i < sizeof changing_starts / sizeof changing_starts[0]; i++)
        if (json_is_string(start) &&
            strncmp(json_string_value(start), changing_starts[i], strlen(changing_starts[i])) == 0)
            return config_refuse(config, error, "init_lora_weights", config_value_text(start, text),
                                 "a beginning that leaves the base as it is: convert the adapter "
                                 "to a plain LoRA first");
    return 0;
}

static int config_read_members(struct adapter_config *config, struct ivon_error *error)
{
    const json_t *rank = json_object_get(config->root, "r");
    const json_t *alpha = json_object_get(config->root, "lora_alpha");
    int code = config_refuse_variants(config, error);
    if (!code && !rank_is_valid(rank))
        code = config_refuse_value(config, "r", rank, true, error);
    if (!code && !alpha_is_valid(alpha))
        code = config_refuse_value(config, "lora_alpha", alpha, false, error);
    if (code)
        return code;
    config->rank = json_integer_value(rank);
    config->alpha = json_number_value(alpha);
    code = config_flag(config, "use_rslora", &config->rslora, error);
    if (!code)
        code = config_flag(config, "fan_in_fan_out", &config->fan_in_fan_out, error);
    if (!code)
        code = config_flag(config, "use_dora", &config->dora, error);
    if (!code)
        code = config_patterns(config, "rank_pattern", true, &config->ranks, error);
    return code ? code : config_patterns(config, "alpha_pattern", false, &config->alphas, error);
}

int adapter_config_read(struct adapter_config *config, const char *path, const char *text,
                        size_t size, struct ivon_error *error)
{
    json_error_t problem;
    *config = (struct adapter_config){.path = path};
    if (size > TEXT_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s has %zu bytes, expected at most %d",
                              path, name, size, TEXT_MAX);
    config->root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (!config->root)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s: line %d: %s", path, name,
                              problem.line, problem.text);
    if (!json_is_object(config->root))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s is not a JSON object", path, name);
    return config_read_members(config, error);
}

void adapter_config_release(struct adapter_config *config)
{
    json_decref(config->root);
    config->root = NULL;
}

static const json_t *config_find(const json_t *patterns, const char *module)
{
    const char *pattern;
    json_t *value;
    json_object_foreach((json_t *)patterns, pattern, value)
    {
        if (pattern_matches(pattern, module))
            return value;
    }
    return NULL;
}

int adapter_config_scale(const struct adapter_config *config, const char *module, int64_t *rank,
                         double *scale, struct ivon_error *error)
{
    const json_t *own_rank = config_find(config->ranks, module);
    const json_t *own_alpha = config_find(config->alphas, module);
    *rank = own_rank ? json_integer_value(own_rank) : config->rank;
    double alpha = own_alpha ? json_number_value(own_alpha) : config->alpha;
    *scale = alpha / (config->rslora ? sqrt((double)*rank) : (double)*rank);
    return isfinite(*scale) ? 0
                            : ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s': its scale is %g",
                                             config->path, module, *scale);
}
