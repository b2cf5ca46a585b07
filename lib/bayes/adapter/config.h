/* The configuration of a PEFT adapter, adapter_config.json. */
#ifndef BAYES_ADAPTER_CONFIG_H
#define BAYES_ADAPTER_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ivon/error.h"

struct adapter_config {
    const char *path; /* of the factors, for messages; borrowed */
    int64_t rank;
    double alpha;
    bool rslora, fan_in_fan_out, dora;
    const json_t *ranks, *alphas; /* of modules by pattern; null: none. The root's. */
    json_t *root;
};

/* Reads a configuration. Refuses what is no LoRA, and variants whose weights are another product,
   each by its name. The configuration is to be released, also where this fails. */
int adapter_config_read(struct adapter_config *config, const char *path, const char *text,
                        size_t size, struct ivon_error *error);
void adapter_config_release(struct adapter_config *config);

/*
 * The rank of a module's factors and the scale of their product: alpha/r, or alpha/√r of rsLoRA
 * (Kalajdzievski 2023, arXiv:2312.03732). A pattern holds for modules whose name it is, or ends
 * with, from a dot on. The first that matches counts.
 */
int adapter_config_scale(const struct adapter_config *config, const char *module, int64_t *rank,
                         double *scale, struct ivon_error *error);

#endif
