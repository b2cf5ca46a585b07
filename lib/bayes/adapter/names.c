#define _GNU_SOURCE
#include "bayes/adapter/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/names.h"

static const char adapter_prefix[] = "base_model.model.";

static bool name_has_prefix(const char *text, size_t length, const char *prefix)
{
    size_t prefix_length = strlen(prefix);
    return length >= prefix_length && memcmp(text, prefix, prefix_length) == 0;
}

/* A component that is a factor's: of PEFT's LoRA, DoRA and AdaLoRA ("lora_A", "lora_embedding_B",
   "lora_magnitude_vector", "lora_E"), kohya's ("lora_down", "lora_unet_…"), Diffusers'
   ("to_q_lora"), LyCORIS's ("hada_w1_a", "lokr_w2"), VeRA's ("vera_lambda_b"). */
bool adapter_is_factor(const char *component, size_t length)
{
    return name_has_prefix(component, length, "lora_") ||
           name_has_prefix(component, length, "hada_w") ||
           name_has_prefix(component, length, "lokr_w") ||
           name_has_prefix(component, length, "vera_lambda_") ||
           (length > 5 && memcmp(component + length - 5, "_lora", 5) == 0);
}

/* The rest of a factor's name behind its component. An adapter's name may come first. */
struct ending {
    const char *component, *last; /* last: the name's last component; null: none is needed */
    enum adapter_role role;
};

static const struct ending endings[] = {
    {"lora_A", "weight", ADAPTER_A},
    {"lora_B", "weight", ADAPTER_B},
    {"lora_B", "bias", ADAPTER_SHIFT},
    {"lora_embedding_A", NULL, ADAPTER_EMBEDDING_A},
    {"lora_embedding_B", NULL, ADAPTER_EMBEDDING_B},
    {"lora_magnitude_vector", "weight", ADAPTER_MAGNITUDE},
    {"lora_magnitude_vector", NULL, ADAPTER_MAGNITUDE},
};

/* Matches the rest of a name, "", ".weight", ".default" or ".default.weight", with an ending. */
static bool ending_matches(const struct ending *ending, const char *rest, const char **adapter,
                           size_t *adapter_length)
{
    size_t length = strlen(rest), last = ending->last ? strlen(ending->last) + 1 : 0;
    if (last && (length < last || rest[length - last] != '.' ||
                 strcmp(rest + length - last + 1, ending->last) != 0))
        return false;
    length -= last;
    if (length && (length < 2 || memchr(rest + 1, '.', length - 1)))
        return false;
    *adapter = length ? rest + 1 : NULL;
    *adapter_length = length ? length - 1 : 0;
    return true;
}

/* Takes the components that PEFT's wrappers have of their own out of a name. */
static void unwrap(char *name)
{
    static const char *const wrappers[] = {"base_layer.", "modules_to_save.default.",
                                           "modules_to_save."};
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++)
        for (char *at = name; (at = strstr(at, wrappers[i]));) {
            size_t length = strlen(wrappers[i]);
            if (at == name || at[-1] == '.')
                memmove(at, at + length, strlen(at + length) + 1);
            else
                at++;
        }
}

enum adapter_role adapter_name_read(const char *name, char **module, const char **adapter,
                                    size_t *adapter_length)
{
    size_t prefix = strlen(adapter_prefix);
    *adapter = NULL;
    *adapter_length = 0;
    if (strncmp(name, adapter_prefix, prefix) == 0)
        name += prefix;
    for (const char *at = name; *at;) {
        size_t length = strcspn(at, ".");
        if (adapter_is_factor(at, length)) {
            *module = strndup(name, at == name ? 0 : (size_t)(at - name) - 1);
            for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
                if (name_is_word(at, length, endings[i].component) &&
                    ending_matches(&endings[i], at + length, adapter, adapter_length))
                    return endings[i].role;
            return ADAPTER_UNKNOWN;
        }
        at += length + (at[length] == '.');
    }
    *module = strdup(name);
    if (*module)
        unwrap(*module);
    return ADAPTER_WHOLE;
}

char *adapter_name_make(const char *name, size_t module, const char *ending)
{
    char *joined;
    int length = asprintf(&joined, "%s%.*s%s", adapter_prefix, (int)module, name, ending);
    return length < 0 ? NULL : joined;
}
