/* The layout of a safetensors checkpoint that is written: the place and name of each tensor. */
#ifndef FORMATS_SAFETENSORS_LAYOUT_H
#define FORMATS_SAFETENSORS_LAYOUT_H

#include "formats/safetensors/safetensors.h"

struct safetensors_shard {
    char *name;          /* in the index's directory; null when there is no index */
    json_t *metadata;    /* may be empty */
    size_t first, count; /* its tensors, in the layout's order */
    uint64_t size;       /* bytes of data */
};

struct safetensors_layout {
    const struct ivon_tensor *tensors; /* borrowed */
    size_t count;
    char **names; /* per tensor */
    size_t *order; /* the tensors of the first shard, in the order of their data, of the second … */
    struct safetensors_shard *shards;
    size_t shard_count;
    json_t *metadata; /* of the index; null without one */
};

/* Plans what the file `path`, or the index and the shards beside it, will hold. */
int safetensors_lay_out(struct safetensors_layout *layout, const char *path,
                        const struct ivon_header *header, const struct ivon_tensor *tensors,
                        size_t count, const struct ivon_create_options *options,
                        struct ivon_error *error);
void safetensors_layout_release(struct safetensors_layout *layout);

#endif
