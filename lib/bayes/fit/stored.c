/* The prior of a posterior that there is already: its Hessians say what a fit's would. */
#include <math.h>
#include <stdlib.h>

#include "bayes/fit/evidence.h"
#include "bayes/posterior.h"
#include "bayes/structure.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/stream.h"
#include "ivon/fit.h"

enum { BLOCK = 1 << 16 /* elements of a mean at a time */ };

/* A Hessian that belongs to means. */
struct tuning_hessian {
    size_t tensor;
    float *own;   /* h where the source has no view of it, or elements below 0 are taken for 0 */
    double least; /* h */
};

struct ivon_tuning {
    struct ivon_source *source;
    struct structure *structure;
    struct tuning_hessian *hessians;
    struct evidence evidence; /* its parts are the Hessians */
    double temperature;
};

/* Adds the squares of a mean's elements to *sum. */
static int add_squares(struct ivon_source *source, size_t mean, double *sum,
                       struct ivon_error *error)
{
    size_t count = ivon_source_tensor(source, mean)->count;
    float *block = malloc(BLOCK * sizeof *block);
    int code = block ? 0 : ivon_error_memory(error);
    for (size_t at = 0; at < count && !code; at += BLOCK) {
        size_t piece = count - at < BLOCK ? count - at : BLOCK;
        code = transfer_floats(source, mean, at, piece, block, error);
        for (size_t i = 0; i < piece && !code; i++)
            *sum += (double)block[i] * (double)block[i];
    }
    free(block);
    return code;
}

/* ‖m‖² of what a Hessian is of, which a rotation into its basis leaves as it is; *lone: there are
   no such means. */
static int tuning_squares(const struct ivon_tuning *tuning, size_t tensor, double *squares,
                          bool *lone, struct ivon_error *error)
{
    struct ivon_source *source = tuning->source;
    const struct ivon_tensor *hessian = ivon_source_tensor(source, tensor);
    ptrdiff_t at = tuning->structure->block_of[tensor];
    const struct structure_block *block = at < 0 ? NULL : &tuning->structure->blocks[at];
    ptrdiff_t mean = block ? (ptrdiff_t)block->weight
                           : ivon_source_find(source, IVON_MEAN, hessian->name);
    *squares = 0;
    *lone = mean < 0;
    if (*lone)
        return 0;
    int code = block ? posterior_check_scale(source, hessian, false, error)
                     : posterior_check_hessian(source, ivon_source_tensor(source, (size_t)mean),
                                               hessian, false, error);
    if (!code)
        code = add_squares(source, (size_t)mean, squares, error);
    if (!code && block && block->bias >= 0)
        code = add_squares(source, (size_t)block->bias, squares, error);
    return code;
}

/* Reads a Hessian into memory of its own, that the part then points to. */
static int tuning_read(const struct ivon_tuning *tuning, struct tuning_hessian *hessian,
                       struct evidence_part *part, struct ivon_error *error)
{
    hessian->own = malloc((part->count + 1) * sizeof *hessian->own);
    part->h = hessian->own;
    return hessian->own ? transfer_floats(tuning->source, hessian->tensor, 0, part->count,
                                          hessian->own, error)
                        : ivon_error_memory(error);
}

/* Points a part to the elements of a Hessian, those below 0 taken for 0. */
static int tuning_load(const struct ivon_tuning *tuning, struct tuning_hessian *hessian,
                       struct evidence_part *part, struct ivon_error *error)
{
    struct ivon_source *source = tuning->source;
    const struct ivon_tensor *tensor = ivon_source_tensor(source, hessian->tensor);
    int code = 0;
    part->count = tensor->count;
    part->h = tensor->dtype == IVON_F32 ? ivon_source_view(source, hessian->tensor, 0) : NULL;
    if (!part->h)
        code = tuning_read(tuning, hessian, part, error);
    hessian->least = INFINITY;
    for (size_t i = 0; i < part->count && !code; i++) {
        double h = (double)part->h[i];
        if (!isfinite(h))
            return posterior_refuse_hessian(source, tensor, h, i, error);
        hessian->least = fmin(hessian->least, h);
    }
    if (!code && hessian->least < 0 && !hessian->own)
        code = tuning_read(tuning, hessian, part, error);
    for (size_t i = 0; i < part->count && hessian->own && !code; i++)
        hessian->own[i] = hessian->own[i] > 0 ? hessian->own[i] : 0;
    return code;
}

static int tuning_add(struct ivon_tuning *tuning, size_t tensor, struct ivon_error *error)
{
    struct evidence *evidence = &tuning->evidence;
    struct evidence_part *part = &evidence->parts[evidence->count];
    struct tuning_hessian *hessian = &tuning->hessians[evidence->count];
    bool lone;
    int code = tuning_squares(tuning, tensor, &part->squares, &lone, error);
    if (code || lone)
        return code;
    evidence->count++;
    hessian->tensor = tensor;
    part->decay = ivon_source_tensor(tuning->source, tensor)->weight_decay;
    return tuning_load(tuning, hessian, part, error);
}

static int tuning_fill(struct ivon_tuning *tuning, struct ivon_error *error)
{
    struct ivon_source *source = tuning->source;
    const struct ivon_header *header = ivon_source_header(source);
    size_t count = ivon_source_tensor_count(source);
    int code = structure_read(&tuning->structure, source, error);
    tuning->hessians = calloc(count + 1, sizeof *tuning->hessians);
    tuning->evidence.parts = calloc(count + 1, sizeof *tuning->evidence.parts);
    if (!code && (!tuning->hessians || !tuning->evidence.parts))
        code = ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        if (ivon_source_tensor(source, i)->part == IVON_HESSIAN)
            code = tuning_add(tuning, i, error);
    if (!code && !tuning->evidence.count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: holds no Hessian, expected a posterior",
                              ivon_source_path(source));
    tuning->evidence.n = header->n_train > 0 ? (double)header->n_train : posterior_ess(source);
    return code;
}

int ivon_tuning_new(struct ivon_tuning **out, struct ivon_source *source, struct ivon_error *error)
{
    struct ivon_tuning *tuning = calloc(1, sizeof *tuning);
    if (!tuning)
        return ivon_error_memory(error);
    tuning->source = source;
    tuning->temperature = 1;
    tuning->evidence = (struct evidence){.scale = 1, .noise = NAN};
    int code = tuning_fill(tuning, error);
    if (code) {
        ivon_tuning_free(tuning);
        return code;
    }
    *out = tuning;
    return 0;
}

void ivon_tuning_free(struct ivon_tuning *tuning)
{
    if (!tuning)
        return;
    for (size_t i = 0; i < tuning->evidence.count; i++)
        free(tuning->hessians[i].own);
    free(tuning->hessians);
    free(tuning->evidence.parts);
    structure_free(tuning->structure);
    free(tuning);
}

/* The whitened vectors of a low-rank correction are those of one weight decay. */
static int tuning_refuse_low_rank(const struct ivon_tuning *tuning, struct ivon_error *error)
{
    return tuning->structure->rank
               ? ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: has a low-rank correction, which holds for its weight decay "
                                "alone: it has to be fitted anew, from the data",
                                ivon_source_path(tuning->source))
               : 0;
}

/* Fails where a Hessian and its weight decay leave no positive precision. */
static int tuning_check(const struct ivon_tuning *tuning, struct ivon_error *error)
{
    for (size_t i = 0; i < tuning->evidence.count; i++) {
        double decay = tuning->evidence.parts[i].decay, least = tuning->hessians[i].least;
        const char *name = ivon_source_tensor(tuning->source, tuning->hessians[i].tensor)->name;
        if (!(least + decay > 0))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: Hessian of '%s' is %g at its least, and the weight decay "
                                  "%g, expected above %g",
                                  ivon_source_path(tuning->source), name, least, decay, 0 - least);
    }
    return 0;
}

int ivon_tuning_maximize(struct ivon_tuning *tuning, bool each, struct ivon_error *error)
{
    int code = tuning_refuse_low_rank(tuning, error);
    if (code)
        return code;
    evidence_maximize(&tuning->evidence, each);
    return tuning_check(tuning, error);
}

int ivon_tuning_set(struct ivon_tuning *tuning, double weight_decay, double temperature,
                    struct ivon_error *error)
{
    if (!(temperature > 0) || isinf(temperature))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the temperature is %g, expected a positive number", temperature);
    tuning->temperature = temperature;
    if (isnan(weight_decay))
        return 0;
    if (!(weight_decay >= 0) || isinf(weight_decay))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the weight decay is %g, expected zero or more", weight_decay);
    int code = tuning_refuse_low_rank(tuning, error);
    for (size_t i = 0; i < tuning->evidence.count && !code; i++)
        tuning->evidence.parts[i].decay = weight_decay;
    return code ? code : tuning_check(tuning, error);
}

static double tuned_ess(const struct ivon_tuning *tuning, size_t hessian)
{
    size_t tensor = tuning->hessians[hessian].tensor;
    return ivon_source_tensor(tuning->source, tensor)->ess / tuning->temperature;
}

struct ivon_tuning_summary ivon_tuning_summary(const struct ivon_tuning *tuning)
{
    const struct evidence *evidence = &tuning->evidence;
    struct ivon_tuning_summary summary = {.n_train = evidence->n,
                                          .ess = tuned_ess(tuning, 0),
                                          .weight_decay = evidence->parts[0].decay,
                                          .hessians = evidence->count,
                                          .rank = tuning->structure->rank,
                                          .least = INFINITY,
                                          .effective = evidence_effective(evidence, NULL),
                                          .evidence = evidence_value(evidence)};
    for (size_t i = 0; i < evidence->count; i++) {
        const struct evidence_part *part = &evidence->parts[i];
        summary.parameters += part->count;
        summary.squares += part->squares;
        summary.least = fmin(summary.least, tuning->hessians[i].least);
        if (tuned_ess(tuning, i) != summary.ess)
            summary.ess = NAN;
        if (part->decay != summary.weight_decay)
            summary.weight_decay = NAN;
    }
    return summary;
}

/* The result: the source's tensors, with other numbers for the Hessians. */

struct tuned_source {
    struct ivon_source *source;
};

static int tuned_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                      struct ivon_error *error)
{
    const struct tuned_source *tuned = self;
    return ivon_source_read(tuned->source, tensor, first, count, buffer, error);
}

static const void *tuned_view(void *self, size_t tensor)
{
    const struct tuned_source *tuned = self;
    return ivon_source_view(tuned->source, tensor, 0);
}

static int tuned_list(const struct ivon_tuning *tuning, struct tensor_list *list,
                      struct ivon_error *error)
{
    size_t hessian = 0;
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(tuning->source) && !code; i++) {
        struct ivon_tensor tensor = *ivon_source_tensor(tuning->source, i);
        if (hessian < tuning->evidence.count && tuning->hessians[hessian].tensor == i) {
            tensor.ess = tuned_ess(tuning, hessian);
            tensor.weight_decay = tuning->evidence.parts[hessian++].decay;
        }
        code = tensor_list_append(list, &tensor, error);
    }
    return code ? code : tensor_list_aliases_of(list, tuning->source, error);
}

int ivon_tuning_source(struct ivon_source **source, const struct ivon_tuning *tuning,
                       struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = tuned_read, .view = tuned_view, .close = free};
    const struct ivon_tuning_summary summary = ivon_tuning_summary(tuning);
    struct ivon_header header = *ivon_source_header(tuning->source);
    struct tensor_list list = {0};
    struct tuned_source *tuned = calloc(1, sizeof *tuned);
    if (!tuned)
        return ivon_error_memory(error);
    tuned->source = tuning->source;
    header.ess = summary.ess;
    header.decrement = NAN; /* of another prior, and its gradient is not known */
    header.weight_decay = summary.weight_decay;
    int code = tuned_list(tuning, &list, error);
    if (!code)
        code = ivon_source_new(source, &class, tuned, ivon_source_path(tuning->source), &header,
                               &list, error);
    if (code) {
        tensor_list_release(&list);
        free(tuned);
    }
    return code;
}
