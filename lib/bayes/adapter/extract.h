/* A merged model's change as an adapter: extract.c has the sink that collects it, layers.c how its
   layers become factors, result.c the adapter's tensors and configuration. */
#ifndef BAYES_ADAPTER_EXTRACT_H
#define BAYES_ADAPTER_EXTRACT_H

#include <pthread.h>

#include "bayes/adapter/truncate.h"
#include "core/stream.h"
#include "ivon/adapter.h"

enum layer_form {
    LAYER_IGNORED, /* no mean of the base */
    LAYER_WHOLE,   /* stands as it is, where it changes */
    LAYER_LINEAR,  /* outputs × inputs */
    LAYER_TURNED,  /* inputs × outputs, "fan in, fan out" */
    LAYER_TABLE    /* an embedding, entries × width */
};

/* One output of the merge. */
struct extract_layer {
    enum layer_form form;
    enum ivon_dtype merged;      /* the type that the merge writes */
    size_t base;                 /* its tensor there */
    struct truncate_term *terms; /* of which the change is the sum; null: not known */
    size_t term_count;
    size_t written;
    double *values; /* the change, or of what stands whole the new values; null: none so far */
    bool changed;   /* and no longer in ->values, but as follows */
    double norm, error;
    size_t rank;
    unsigned char *first, *second; /* A and B, or what stands whole and null, as they are stored */
};

struct ivon_extraction {
    struct ivon_extraction_options options;
    struct ivon_source *base;
    const struct ivon_merge_model *models;
    size_t model_count;
    struct extract_layer *layers;
    size_t layer_count;
    bool turned;          /* some layer is, without being a table */
    pthread_mutex_t lock; /* protects ->written and ->values of layers, and the next */
    size_t decomposing;   /* bytes of the decompositions that run */
    pthread_cond_t room;  /* fewer of them */
    struct ivon_extracted *extracted;
    size_t extracted_count;
    struct tensor_list tensors; /* of the result */
    const void **data;
};

/* Finds the form and the terms of every layer. */
int extract_plan_layers(struct ivon_extraction *extraction, const struct ivon_merge *merge,
                        size_t result, struct ivon_error *error);

/* Makes of a layer, all of which is written, what is stored of it. */
int extract_finish_layer(struct ivon_extraction *extraction, struct extract_layer *layer,
                         struct ivon_error *error);

#endif
