#include "bayes/adapter/description.h"

#include <stdlib.h>
#include <string.h>

struct adapter_description adapter_description_new(const char *base, int64_t rank, double alpha)
{
    return (struct adapter_description){.base = base,
                                        .rank = rank,
                                        .alpha = alpha,
                                        .targets = json_array(),
                                        .ranks = json_object(),
                                        .alphas = json_object(),
                                        .saved = json_array()};
}

void adapter_description_release(struct adapter_description *description)
{
    json_decref(description->targets);
    json_decref(description->ranks);
    json_decref(description->alphas);
    json_decref(description->saved);
}

/* PEFT declares the member a whole number, and takes others too. */
static json_t *description_number(double number)
{
    bool whole = number >= 0 && number < 0x1p53 && (double)(json_int_t)number >= number;
    return whole ? json_integer((json_int_t)number) : json_real(number);
}

char *adapter_description_text(const struct adapter_description *description)
{
    json_t *base = json_string(description->base); /* null: it is not UTF-8 */
    bool saves = json_array_size(description->saved);
    json_t *saved = saves ? json_incref(description->saved) : json_null();
    json_t *config = json_pack(
        "{s:s, s:n, s:o*, s:b, s:I, s:o, s:f, s:s, s:b, s:b, s:b, s:b, s:O, s:O, s:O, s:o}",
        "peft_type", "LORA", "task_type", "base_model_name_or_path", base, "inference_mode", 1, "r",
        (json_int_t)description->rank, "lora_alpha", description_number(description->alpha),
        "lora_dropout", 0.0, "bias", description->bias ? "all" : "none", "fan_in_fan_out",
        description->turned, "use_rslora", 0, "use_dora", 0, "init_lora_weights", 1,
        "target_modules", description->targets, "rank_pattern", description->ranks, "alpha_pattern",
        description->alphas, "modules_to_save", saved);
    char *text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    size_t length = text ? strlen(text) : 0;
    char *copy = text ? realloc(text, length + 2) : NULL;
    json_decref(config);
    if (!copy) {
        free(text);
        return NULL;
    }
    copy[length] = '\n';
    copy[length + 1] = '\0';
    return copy;
}
