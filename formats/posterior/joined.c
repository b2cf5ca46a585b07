#include "formats/posterior/joined.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"

struct joined {
    struct ivon_source *model, *hessian;
    size_t model_count; /* the joined tensors are the model's, then Hessians and momenta */
    size_t *others;     /* which tensors of `hessian` those are */
    bool optimizer;     /* `hessian` is an optimizer's state, which has nothing of frozen means */
};

/* Returns the source of a joined tensor, and sets *tensor to its index there. */
static struct ivon_source *joined_resolve(const struct joined *joined, size_t *tensor)
{
    if (*tensor < joined->model_count)
        return joined->model;
    *tensor = joined->others[*tensor - joined->model_count];
    return joined->hessian;
}

static int joined_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct ivon_source *source = joined_resolve(self, &tensor);
    return ivon_source_read(source, tensor, first, count, buffer, error);
}

static const void *joined_view(void *self, size_t tensor)
{
    struct ivon_source *source = joined_resolve(self, &tensor);
    return ivon_source_view(source, tensor, 0);
}

static void joined_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct ivon_source *source = joined_resolve(self, &tensor);
    if (advice == MADV_WILLNEED)
        ivon_source_will_need(source, tensor, first, count);
    else
        ivon_source_done_with(source, tensor, first, count);
}

static void joined_close(void *self)
{
    struct joined *joined = self;
    ivon_source_close(joined->model);
    ivon_source_close(joined->hessian);
    free(joined->others);
    free(joined);
}

static const struct ivon_source_class class = {
    .read = joined_read, .view = joined_view, .advise = joined_advise, .close = joined_close};

const struct ivon_source *joined_first(const struct ivon_source *source)
{
    const struct joined *joined = source_self(source, &class);
    return joined ? joined->model : source;
}

static bool has(const struct ivon_source *source, enum ivon_part part)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part == part)
            return true;
    return false;
}

/* Names that one side has and the other lacks, as a message lists them. */
struct names {
    char text[512];
    size_t count;
};

static void add_name(struct names *names, const char *name)
{
    enum { SHOWN = 5 };
    size_t length = strlen(names->text);
    if (names->count < SHOWN)
        snprintf(names->text + length, sizeof names->text - length, "%s'%.80s'",
                 names->count ? ", " : "", name);
    else if (names->count == SHOWN)
        snprintf(names->text + length, sizeof names->text - length, ", ...");
    names->count++;
}

/* Names of `a`'s tensors of one part that `b` lacks in another. */
static struct names missing(const struct ivon_source *a, enum ivon_part part,
                            const struct ivon_source *b, enum ivon_part other)
{
    struct names names = {0};
    for (size_t i = 0; i < ivon_source_tensor_count(a); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(a, i);
        if (tensor->part == part && ivon_source_find(b, other, tensor->name) < 0)
            add_name(&names, tensor->name);
    }
    return names;
}

static int joined_check_names(const struct joined *joined, enum ivon_part part,
                              struct ivon_error *error)
{
    const char *model = ivon_source_path(joined->model);
    const char *hessian = ivon_source_path(joined->hessian);
    if (has(joined->model, IVON_HESSIAN))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has Hessians of its own, and '%s' is to have them", model,
                              hessian);
    struct names names = missing(joined->hessian, part, joined->model, IVON_MEAN);
    if (names.count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has %zu tensors that are no means of '%s': %s", hessian,
                              names.count, model, names.text);
    for (size_t i = 0; i < joined->model_count; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(joined->model, i);
        int code = mean->part == IVON_MEAN
                       ? ivon_source_refuse_opaque(joined->hessian, part, mean->name, error)
                       : 0;
        if (code)
            return code;
    }
    names = missing(joined->model, IVON_MEAN, joined->hessian, part);
    if (names.count && !joined->optimizer)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: lacks %zu means of '%s' (are they buffers?): %s", hessian,
                              names.count, model, names.text);
    return 0;
}

static int joined_add_model(const struct joined *joined, struct tensor_list *tensors,
                            struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < joined->model_count && !code; i++)
        code = tensor_list_append(tensors, ivon_source_tensor(joined->model, i), error);
    return code ? code : tensor_list_aliases_of(tensors, joined->model, error);
}

/* Adds what the other file has of each mean, in the order of the means, as the part `as`. */
static int add_others(struct joined *joined, enum ivon_part part, enum ivon_part as,
                      struct tensor_list *tensors, const struct ivon_header *header,
                      struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < joined->model_count && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(joined->model, i);
        ptrdiff_t at = mean->part == IVON_MEAN ? ivon_source_find(joined->hessian, part, mean->name)
                                               : -1;
        if (at < 0)
            continue;
        struct ivon_tensor other = *ivon_source_tensor(joined->hessian, (size_t)at);
        if (other.rank != mean->rank ||
            memcmp(other.shape, mean->shape, (size_t)mean->rank * sizeof mean->shape[0]) != 0)
            return ivon_error_set(
                error, IVON_ERROR_DATA, "%s: tensor '%s': has another shape than in '%s'",
                ivon_source_path(joined->hessian), mean->name, ivon_source_path(joined->model));
        other.part = as;
        if (as == IVON_HESSIAN && isnan(other.ess))
            other.ess = header->ess;
        if (as == IVON_HESSIAN && isnan(other.weight_decay))
            other.weight_decay = header->weight_decay;
        joined->others[tensors->count - joined->model_count] = (size_t)at;
        code = tensor_list_append(tensors, &other, error);
    }
    return code;
}

static int joined_list_tensors(struct joined *joined, enum ivon_part part,
                               struct tensor_list *tensors, const struct ivon_header *header,
                               struct ivon_error *error)
{
    joined->others = calloc(2 * joined->model_count + 1, sizeof *joined->others);
    int code = joined->others ? joined_add_model(joined, tensors, error) : ivon_error_memory(error);
    if (!code)
        code = add_others(joined, part, IVON_HESSIAN, tensors, header, error);
    if (!code && joined->optimizer)
        code = add_others(joined, IVON_MOMENTUM, IVON_MOMENTUM, tensors, header, error);
    return code;
}

int joined_open(struct ivon_source **source, struct ivon_source *model, struct ivon_source *hessian,
                struct ivon_error *error)
{
    struct tensor_list tensors = {0};
    struct joined *joined = calloc(1, sizeof *joined);
    if (!joined) {
        ivon_source_close(model);
        ivon_source_close(hessian);
        return ivon_error_memory(error);
    }
    *joined = (struct joined){
        .model = model, .hessian = hessian, .model_count = ivon_source_tensor_count(model)};
    struct ivon_header header = *ivon_source_header(model);
    const struct ivon_header *other = ivon_source_header(hessian);
    joined->optimizer = other->mapping && !has(hessian, IVON_MEAN);
    if (!isnan(other->ess))
        header.ess = other->ess;
    if (!isnan(other->weight_decay))
        header.weight_decay = other->weight_decay;
    if (!header.doubt)
        header.doubt = other->doubt;
    if (header.step < 0)
        header.step = other->step;
    char mapping[1024];
    snprintf(mapping, sizeof mapping, "Hessian from '%.400s'%s%s", ivon_source_path(hessian),
             joined->optimizer ? ": " : ", by name", joined->optimizer ? other->mapping : "");
    header.mapping = mapping;
    enum ivon_part part = has(hessian, IVON_HESSIAN) ? IVON_HESSIAN : IVON_MEAN;
    int code = joined_check_names(joined, part, error);
    if (!code)
        code = joined_list_tensors(joined, part, &tensors, &header, error);
    if (!code)
        code = ivon_source_new(source, &class, joined, ivon_source_path(model), &header, &tensors,
                               error);
    if (code) {
        tensor_list_release(&tensors);
        joined_close(joined);
    }
    return code;
}
