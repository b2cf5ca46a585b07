/* Some tensors of a source, under names of their own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "ivon/convert.h"

struct choice {
    struct ivon_source *source;
    size_t tensors[]; /* their numbers in the source */
};

static int choice_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct choice *choice = self;
    return ivon_source_read(choice->source, choice->tensors[tensor], first, count, buffer, error);
}

static const void *choice_view(void *self, size_t tensor)
{
    struct choice *choice = self;
    return ivon_source_view(choice->source, choice->tensors[tensor], 0);
}

static void choice_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct choice *choice = self;
    (advice == MADV_WILLNEED ? ivon_source_will_need : ivon_source_done_with)(
        choice->source, choice->tensors[tensor], first, count);
}

/* Returns a Hessian's value under a new header: its own one, or the new header's if it had none or
   had the old header's. */
static double inherited(double value, double old, double new)
{
    return isnan(value) || value == old ? new : value;
}

static int choice_list_tensors(struct choice *choice, struct tensor_list *list,
                               const struct ivon_header *header, const struct ivon_choice *choices,
                               size_t count, struct ivon_error *error)
{
    const struct ivon_header *old = ivon_source_header(choice->source);
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(choice->source, choices[i].tensor);
        if (!tensor)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: there is no tensor %zu",
                                  ivon_source_path(choice->source), choices[i].tensor);
        struct ivon_tensor copy = *tensor;
        copy.name = choices[i].name;
        if (copy.part == IVON_HESSIAN) {
            copy.ess = inherited(copy.ess, old->ess, header->ess);
            copy.weight_decay = inherited(copy.weight_decay, old->weight_decay,
                                          header->weight_decay);
        }
        if (!tensor_name_valid(copy.name))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s', for '%s', is not a usable name for a tensor",
                                  ivon_source_path(choice->source), copy.name, tensor->name);
        choice->tensors[i] = choices[i].tensor;
        code = tensor_list_append(list, &copy, error);
    }
    return code;
}

int ivon_source_choose(struct ivon_source **chosen, struct ivon_source *source,
                       const struct ivon_header *header, const struct ivon_choice *choices,
                       size_t count, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = choice_read, .view = choice_view, .advise = choice_advise, .close = free};
    struct tensor_list list = {0};
    struct choice *choice = calloc(1, sizeof *choice + count * sizeof choice->tensors[0]);
    if (!choice)
        return ivon_error_memory(error);
    choice->source = source;
    int code = choice_list_tensors(choice, &list, header, choices, count, error);
    if (!code)
        code = ivon_source_new(chosen, &class, choice, ivon_source_path(source), header, &list,
                               error);
    if (code) {
        tensor_list_release(&list);
        free(choice);
    }
    return code;
}
