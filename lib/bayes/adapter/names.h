/* The names of a PEFT adapter's tensors: "base_model.model.", the module, and what it is there. */
#ifndef BAYES_ADAPTER_NAMES_H
#define BAYES_ADAPTER_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum adapter_role {
    ADAPTER_A,           /* "M.lora_A.weight" */
    ADAPTER_B,           /* "M.lora_B.weight" */
    ADAPTER_EMBEDDING_A, /* "M.lora_embedding_A" */
    ADAPTER_EMBEDDING_B, /* "M.lora_embedding_B" */
    ADAPTER_MAGNITUDE,   /* "M.lora_magnitude_vector", of DoRA */
    ADAPTER_SHIFT,       /* "M.lora_B.bias", which is added to the module's bias */
    ADAPTER_WHOLE,       /* any other: a tensor of the model as it is */
    ADAPTER_UNKNOWN      /* a factor of another kind of adapter */
};

/*
 * The role of a tensor. *module receives its module's name in the model, or of a whole tensor its
 * own name there, without what PEFT's wrappers put between, to be freed; null when memory is
 * exhausted. *adapter points to the adapter's name, "default", of *adapter_length bytes, where
 * the tensor's name has one.
 */
enum adapter_role adapter_name_read(const char *name, char **module, const char **adapter,
                                    size_t *adapter_length);

/* The name of a tensor: of the module that is the first `module` bytes of a name, and what follows
   there, such as ".lora_A.weight"; to be freed. Null when memory is exhausted. */
char *adapter_name_make(const char *name, size_t module, const char *ending);

/* Returns whether a component of a tensor's name is that of a factor of any kind of adapter. */
bool adapter_is_factor(const char *component, size_t length);

#endif
