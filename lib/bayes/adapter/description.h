/* The configuration of an adapter that is written: the text of its adapter_config.json. */
#ifndef BAYES_ADAPTER_DESCRIPTION_H
#define BAYES_ADAPTER_DESCRIPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct adapter_description {
    const char *base; /* where the weights lie that it changes */
    int64_t rank;     /* of the modules that the patterns do not name */
    double alpha;
    json_t *targets, *ranks, *alphas, *saved; /* modules; ranks and alphas by their names */
    bool bias;                                /* the adapter has biases, too */
    bool turned;                              /* some weights lie inputs × outputs */
};

/* One without modules; to be released. The base is borrowed. */
struct adapter_description adapter_description_new(const char *base, int64_t rank, double alpha);
void adapter_description_release(struct adapter_description *description);

/* The text, to be freed; null when memory is exhausted. */
char *adapter_description_text(const struct adapter_description *description);

#endif
