/* Some tensors of a source, under names of their own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "ivon/convert.h"

struct subset {
    struct ivon_source *source;
    size_t tensors[]; /* their numbers in the source */
};

static int subset_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct subset *subset = self;
    return ivon_source_read(subset->source, subset->tensors[tensor], first, count, buffer, error);
}

static const void *subset_view(void *self, size_t tensor)
{
    struct subset *subset = self;
    return ivon_source_view(subset->source, subset->tensors[tensor], 0);
}

static void subset_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct subset *subset = self;
    (advice == MADV_WILLNEED ? ivon_source_will_need : ivon_source_done_with)(
        subset->source, subset->tensors[tensor], first, count);
}

/* Returns a Hessian's value under a new header: its own one, or the new header's if it had none or
   had the old header's. */
static double inherited(double value, double old, double new)
{
    return isnan(value) || value == old ? new : value;
}

static int subset_list_tensors(struct subset *subset, struct tensor_list *list,
                               const struct ivon_header *header,
                               const struct ivon_subset_item *items, size_t count,
                               struct ivon_error *error)
{
    const struct ivon_header *old = ivon_source_header(subset->source);
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(subset->source, items[i].tensor);
        if (!tensor)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: there is no tensor %zu",
                                  ivon_source_path(subset->source), items[i].tensor);
        struct ivon_tensor copy = *tensor;
        copy.name = items[i].name;
        if (copy.part == IVON_HESSIAN) {
            copy.ess = inherited(copy.ess, old->ess, header->ess);
            copy.weight_decay = inherited(copy.weight_decay, old->weight_decay,
                                          header->weight_decay);
        }
        if (!tensor_name_valid(copy.name))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s', for '%s', is not a usable name for a tensor",
                                  ivon_source_path(subset->source), copy.name, tensor->name);
        subset->tensors[i] = items[i].tensor;
        code = tensor_list_append(list, &copy, error);
    }
    return code;
}

int ivon_tensor_subset(struct ivon_source **out, struct ivon_source *source,
                       const struct ivon_header *header, const struct ivon_subset_item *items,
                       size_t count, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = subset_read, .view = subset_view, .advise = subset_advise, .close = free};
    struct tensor_list list = {0};
    struct subset *subset = calloc(1, sizeof *subset + count * sizeof subset->tensors[0]);
    if (!subset)
        return ivon_error_memory(error);
    subset->source = source;
    int code = subset_list_tensors(subset, &list, header, items, count, error);
    if (!code)
        code = ivon_source_new(out, &class, subset, ivon_source_path(source), header, &list, error);
    if (code) {
        tensor_list_release(&list);
        free(subset);
    }
    return code;
}
