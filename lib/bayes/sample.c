#include "ivon/sample.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "bayes/posterior.h"
#include "bayes/sample_private.h"
#include "bayes/transfer.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/options.h"
#include "core/random.h"

enum { TILE = 512 /* elements: all arrays of a tile stay in the first-level cache */ };

static const struct options_kind sample_options = {
    .defaults = "ivon_sample_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_sample_options, reserved),
                 OPTIONS_RESERVED(struct ivon_sample_options, resources.reserved)}};

void ivon_sample_options_init(struct ivon_sample_options *options, size_t size)
{
    const struct ivon_sample_options defaults = {
        .size = sizeof defaults, .temperature = 1, .dtype = IVON_DTYPE_KEEP};
    options_init(options, size, &defaults);
}

int sample_read_options(struct ivon_sample_options *options,
                        const struct ivon_sample_options *given, struct ivon_error *error)
{
    *options = ivon_sample_defaults();
    return options_read(&sample_options, options, given, error);
}

int sample_check_embedded(const struct ivon_sample_options *options, struct ivon_error *error)
{
    struct ivon_sample_options read;
    int code = options_check_embedded(&sample_options, options, sizeof *options, error);
    return code ? code : sample_read_options(&read, options, error);
}

static bool selected(const struct ivon_sample_options *options, const char *name)
{
    return !options->selected || options->selected(options->selected_context, name);
}

int sample_tensor_of(struct sample_tensor *tensor, const struct ivon_source *source, size_t index,
                     const struct ivon_sample_options *options, struct ivon_error *error)
{
    const struct ivon_tensor *mean = ivon_source_tensor(source, index);
    if (!mean || mean->part != IVON_MEAN)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: tensor %zu is not a mean",
                              ivon_source_path(source), index);
    if (!(options->temperature >= 0) || isinf(options->temperature))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the temperature is %g, expected zero or more", options->temperature);
    *tensor = (struct sample_tensor){
        .source = source, .index = index, .mean = mean, .hessian_index = -1, .seed = options->seed};
    if (options->temperature == 0 || !selected(options, mean->name))
        return 0;
    ptrdiff_t found = ivon_source_find(source, IVON_HESSIAN, mean->name);
    if (found < 0)
        return ivon_source_refuse_opaque(source, IVON_HESSIAN, mean->name, error);
    tensor->hessian_index = found;
    tensor->hessian = ivon_source_tensor(source, (size_t)found);
    tensor->variance = options->temperature / tensor->hessian->ess;
    return posterior_check_hessian(source, mean, tensor->hessian, true, error);
}

/* From normals ε in `out` to samples m + σ ε; whether every one is a finite binary32 and every
   h + δ a finite positive number. In double, as h + δ may cancel and m may be a double. */
IVON_DISPATCH static bool perturb(float *restrict out, const double *restrict mean,
                                  const double *restrict hessian, double variance, double delta,
                                  size_t count)
{
    int bad = 0;
    for (size_t i = 0; i < count; i++) {
        double precision = hessian[i] + delta;
        float sample = (float)(mean[i] + __builtin_sqrt(variance / precision) * (double)out[i]);
        bad |= !(precision > 0) | !(precision <= DBL_MAX);
        bad |= !(__builtin_fabsf(sample) <= FLT_MAX);
        out[i] = sample;
    }
    return !bad;
}

IVON_DISPATCH static bool sample_narrow(float *restrict out, const double *restrict mean,
                                        size_t count)
{
    int bad = 0;
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)mean[i];
        bad |= !(__builtin_fabsf(out[i]) <= FLT_MAX);
    }
    return !bad;
}

/* Names the first element of a tile of which there is no sample. */
static int report_defect(const struct sample_tensor *tensor, const double *mean,
                         const double *hessian, const float *out, uint64_t sample, size_t first,
                         struct ivon_error *error)
{
    const char *path = ivon_source_path(tensor->source), *name = tensor->mean->name;
    double delta = tensor->hessian ? tensor->hessian->weight_decay : 0;
    size_t i = 0;
    while (isfinite(mean[i]) && isfinite(out[i]) &&
           (!tensor->hessian || (isfinite(hessian[i] + delta) && hessian[i] + delta > 0)))
        i++;
    if (!isfinite(mean[i]))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: mean of '%s' is %g at element %zu, expected a finite number",
                              path, name, mean[i], first + i);
    if (tensor->hessian && !(isfinite(hessian[i] + delta) && hessian[i] + delta > 0))
        return posterior_refuse_hessian(tensor->source, tensor->hessian, hessian[i], first + i,
                                        error);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: '%s' at element %zu of sample %" PRIu64 ", mean %g, does not fit "
                          "into f32",
                          path, name, first + i, sample, mean[i]);
}

int sample_block(const struct sample_tensor *tensor, const void *mean, const void *hessian,
                 uint64_t sample, size_t first, size_t count, float *out, struct ivon_error *error)
{
    double means[TILE], hessians[TILE];
    const struct ivon_tensor *of_mean = tensor->mean, *of_hessian = tensor->hessian;
    struct random_stream stream = random_stream_of(tensor->seed, sample, of_mean->name);
    for (size_t done = 0; done < count; done += TILE) {
        size_t tile = count - done < TILE ? count - done : TILE;
        float *to = out + done;
        bool fine;
        ivon_dtype_to_f64(means, (const char *)mean + done * ivon_dtype_size(of_mean->dtype),
                          of_mean->dtype, tile);
        if (of_hessian) {
            ivon_dtype_to_f64(hessians,
                              (const char *)hessian + done * ivon_dtype_size(of_hessian->dtype),
                              of_hessian->dtype, tile);
            random_normal(&stream, first + done, tile, to);
            fine = perturb(to, means, hessians, tensor->variance, of_hessian->weight_decay, tile);
        } else {
            fine = sample_narrow(to, means, tile);
        }
        if (!fine)
            return report_defect(tensor, means, hessians, to, sample, first + done, error);
    }
    return 0;
}

int sample_draw_plain(struct ivon_source *source, size_t index,
                      const struct ivon_sample_options *options, uint64_t sample, size_t first,
                      size_t count, float *out, struct ivon_error *error)
{
    struct sample_tensor tensor;
    unsigned char *blocks[2] = {NULL, NULL};
    const unsigned char *mean, *hessian = NULL;
    int code = sample_tensor_of(&tensor, source, index, options, error);
    for (size_t done = 0; done < count && !code; done += SAMPLE_BLOCK) {
        size_t piece = count - done < SAMPLE_BLOCK ? count - done : SAMPLE_BLOCK;
        code = transfer_fetch(source, index, first + done, piece, SAMPLE_BLOCK, &blocks[0], &mean,
                              error);
        if (!code && tensor.hessian)
            code = transfer_fetch(source, (size_t)tensor.hessian_index, first + done, piece,
                                  SAMPLE_BLOCK, &blocks[1], &hessian, error);
        if (!code)
            code = sample_block(&tensor, mean, hessian, sample, first + done, piece, out + done,
                                error);
    }
    free(blocks[0]);
    free(blocks[1]);
    return code;
}
