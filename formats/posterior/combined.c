#include "formats/posterior/combined.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/structure.h"
#include "core/error.h"
#include "core/stream.h"

struct combined_source {
    struct ivon_source *model, *hessian;
    size_t model_count; /* the combined tensors are the model's, then Hessians and momenta */
    size_t *others;     /* which tensors of `hessian` those are */
    bool optimizer;     /* `hessian` is an optimizer's state, which has nothing of frozen means */
};

/* Returns the source of a combined tensor, and sets *tensor to its index there. */
static struct ivon_source *combined_resolve(const struct combined_source *combined, size_t *tensor)
{
    if (*tensor < combined->model_count)
        return combined->model;
    *tensor = combined->others[*tensor - combined->model_count];
    return combined->hessian;
}

static int combined_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                         struct ivon_error *error)
{
    struct ivon_source *source = combined_resolve(self, &tensor);
    return ivon_source_read(source, tensor, first, count, buffer, error);
}

static const void *combined_view(void *self, size_t tensor)
{
    struct ivon_source *source = combined_resolve(self, &tensor);
    return ivon_source_view(source, tensor, 0);
}

static void combined_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct ivon_source *source = combined_resolve(self, &tensor);
    if (advice == MADV_WILLNEED)
        ivon_source_will_need(source, tensor, first, count);
    else
        ivon_source_done_with(source, tensor, first, count);
}

static void combined_close(void *self)
{
    struct combined_source *combined = self;
    ivon_source_close(combined->model);
    ivon_source_close(combined->hessian);
    free(combined->others);
    free(combined);
}

static const struct ivon_source_class class = {.read = combined_read,
                                               .view = combined_view,
                                               .advise = combined_advise,
                                               .close = combined_close};

const struct ivon_source *combined_model(const struct ivon_source *source)
{
    const struct combined_source *combined = source_self(source, &class);
    return combined ? combined->model : source;
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

static int combined_check_names(const struct combined_source *combined, enum ivon_part part,
                                struct ivon_error *error)
{
    const char *model = ivon_source_path(combined->model);
    const char *hessian = ivon_source_path(combined->hessian);
    int code = structure_refuse(combined->hessian, "Hessians of another file", error);
    if (code)
        return code;
    if (has(combined->model, IVON_HESSIAN))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has Hessians of its own, and '%s' is to have them", model,
                              hessian);
    struct names names = missing(combined->hessian, part, combined->model, IVON_MEAN);
    if (names.count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has %zu tensors that are no means of '%s': %s", hessian,
                              names.count, model, names.text);
    for (size_t i = 0; i < combined->model_count; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(combined->model, i);
        code = mean->part == IVON_MEAN
                   ? ivon_source_refuse_opaque(combined->hessian, part, mean->name, error)
                   : 0;
        if (code)
            return code;
    }
    names = missing(combined->model, IVON_MEAN, combined->hessian, part);
    if (names.count && !combined->optimizer)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: lacks %zu means of '%s' (are they buffers?): %s", hessian,
                              names.count, model, names.text);
    return 0;
}

static int combined_add_model(const struct combined_source *combined, struct tensor_list *tensors,
                              struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < combined->model_count && !code; i++)
        code = tensor_list_append(tensors, ivon_source_tensor(combined->model, i), error);
    return code ? code : tensor_list_aliases_of(tensors, combined->model, error);
}

/* Adds what the other file has of each mean, in the order of the means, as the part `as`. */
static int add_others(struct combined_source *combined, enum ivon_part part, enum ivon_part as,
                      struct tensor_list *tensors, const struct ivon_header *header,
                      struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < combined->model_count && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(combined->model, i);
        ptrdiff_t at = mean->part == IVON_MEAN
                           ? ivon_source_find(combined->hessian, part, mean->name)
                           : -1;
        if (at < 0)
            continue;
        struct ivon_tensor other = *ivon_source_tensor(combined->hessian, (size_t)at);
        if (other.rank != mean->rank ||
            memcmp(other.shape, mean->shape, (size_t)mean->rank * sizeof mean->shape[0]) != 0)
            return ivon_error_set(
                error, IVON_ERROR_DATA, "%s: tensor '%s': has another shape than in '%s'",
                ivon_source_path(combined->hessian), mean->name, ivon_source_path(combined->model));
        other.part = as;
        if (as == IVON_HESSIAN && isnan(other.ess))
            other.ess = header->ess;
        if (as == IVON_HESSIAN && isnan(other.weight_decay))
            other.weight_decay = header->weight_decay;
        combined->others[tensors->count - combined->model_count] = (size_t)at;
        code = tensor_list_append(tensors, &other, error);
    }
    return code;
}

static int combined_list_tensors(struct combined_source *combined, enum ivon_part part,
                                 struct tensor_list *tensors, const struct ivon_header *header,
                                 struct ivon_error *error)
{
    combined->others = calloc(2 * combined->model_count + 1, sizeof *combined->others);
    int code = combined->others ? combined_add_model(combined, tensors, error)
                                : ivon_error_memory(error);
    if (!code)
        code = add_others(combined, part, IVON_HESSIAN, tensors, header, error);
    if (!code && combined->optimizer)
        code = add_others(combined, IVON_MOMENTUM, IVON_MOMENTUM, tensors, header, error);
    return code;
}

int combined_open(struct ivon_source **source, struct ivon_source *model,
                  struct ivon_source *hessian, struct ivon_error *error)
{
    struct tensor_list tensors = {0};
    struct combined_source *combined = calloc(1, sizeof *combined);
    if (!combined) {
        ivon_source_close(model);
        ivon_source_close(hessian);
        return ivon_error_memory(error);
    }
    *combined = (struct combined_source){
        .model = model, .hessian = hessian, .model_count = ivon_source_tensor_count(model)};
    struct ivon_header header = *ivon_source_header(model);
    const struct ivon_header *other = ivon_source_header(hessian);
    combined->optimizer = other->mapping && !has(hessian, IVON_MEAN);
    if (!isnan(other->ess))
        header.ess = other->ess;
    if (!isnan(other->weight_decay))
        header.weight_decay = other->weight_decay;
    header.decrement = NAN; /* of one mean and its own Hessian */
    if (!header.warning)
        header.warning = other->warning;
    if (header.step < 0)
        header.step = other->step;
    char mapping[1024];
    snprintf(mapping, sizeof mapping, "Hessian from '%.400s'%s%s", ivon_source_path(hessian),
             combined->optimizer ? ": " : ", by name", combined->optimizer ? other->mapping : "");
    header.mapping = mapping;
    enum ivon_part part = has(hessian, IVON_HESSIAN) ? IVON_HESSIAN : IVON_MEAN;
    int code = combined_check_names(combined, part, error);
    if (!code)
        code = combined_list_tensors(combined, part, &tensors, &header, error);
    if (!code)
        code = ivon_source_new(source, &class, combined, ivon_source_path(model), &header, &tensors,
                               error);
    if (code) {
        tensor_list_release(&tensors);
        combined_close(combined);
    }
    return code;
}
