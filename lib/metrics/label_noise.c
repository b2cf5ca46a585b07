/* Confident learning: see ivon/label_noise.h for its formulas. */
#include "ivon/label_noise.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/error.h"

/* An example that counts. */
struct noise_row {
    uint64_t example; /* its number */
    int64_t label;
    double loss; /* −log p of the label */
};

struct ivon_label_noise {
    size_t outputs, classes;
    uint64_t next; /* number of the example that is added next */
    size_t count, capacity;
    float *probabilities; /* count × classes */
    struct noise_row *rows;
};

int ivon_label_noise_new(struct ivon_label_noise **noise, size_t outputs, struct ivon_error *error)
{
    *noise = NULL;
    if (!outputs)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no classes");
    *noise = calloc(1, sizeof **noise);
    if (!*noise)
        return ivon_error_memory(error);
    (*noise)->outputs = outputs;
    (*noise)->classes = outputs == 1 ? 2 : outputs;
    return 0;
}

void ivon_label_noise_free(struct ivon_label_noise *noise)
{
    if (!noise)
        return;
    free(noise->probabilities);
    free(noise->rows);
    free(noise);
}

static int noise_reserve(struct ivon_label_noise *noise, size_t more, struct ivon_error *error)
{
    size_t needed, bytes, capacity;
    if (__builtin_add_overflow(noise->count, more, &needed))
        return ivon_error_memory(error);
    if (needed <= noise->capacity)
        return 0;
    if (__builtin_add_overflow(needed, needed / 2, &capacity) ||
        __builtin_mul_overflow(capacity, noise->classes * sizeof(struct noise_row), &bytes))
        return ivon_error_memory(error);
    float *grown = realloc(noise->probabilities, capacity * noise->classes * sizeof *grown);
    if (grown)
        noise->probabilities = grown;
    struct noise_row *rows = grown ? realloc(noise->rows, capacity * sizeof *rows) : NULL;
    if (!rows)
        return ivon_error_memory(error);
    noise->rows = rows;
    noise->capacity = capacity;
    return 0;
}

/* Returns the logit of a class: with one output class 0 has 0. */
static double noise_logit(const struct ivon_label_noise *noise, const float *logits, size_t k)
{
    return noise->outputs > 1 ? (double)logits[k] : k ? (double)logits[0] : 0;
}

/* Appends softmax and the loss of a label. */
static void noise_append(struct ivon_label_noise *noise, const float *logits, int64_t label)
{
    float *p = noise->probabilities + noise->count * noise->classes;
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < noise->classes; k++)
        most = fmax(most, noise_logit(noise, logits, k));
    for (size_t k = 0; k < noise->classes; k++)
        sum += exp(noise_logit(noise, logits, k) - most);
    for (size_t k = 0; k < noise->classes; k++)
        p[k] = (float)(exp(noise_logit(noise, logits, k) - most) / sum);
    /* One term of the sum is 1. */
    double loss = log(fmax(sum, 1)) - (noise_logit(noise, logits, (size_t)label) - most);
    noise->rows[noise->count++] = (struct noise_row){noise->next, label, loss};
}

int ivon_label_noise_add(struct ivon_label_noise *noise, size_t count, const int64_t *labels,
                         const float *logits, const bool *counts, struct ivon_error *error)
{
    int code = noise_reserve(noise, count, error);
    for (size_t i = 0; i < count && !code; i++, noise->next++, logits += noise->outputs) {
        if (counts && !counts[i])
            continue;
        if (labels[i] < 0 || (uint64_t)labels[i] >= noise->classes)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %" PRIu64 ": label %" PRId64 ", expected 0 to %zu",
                                  noise->next, labels[i], noise->classes - 1);
        for (size_t k = 0; k < noise->outputs; k++)
            if (!isfinite(logits[k]))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "row %" PRIu64 ": the output without it is not finite",
                                      noise->next);
        noise_append(noise, logits, labels[i]);
    }
    return code;
}

static void noise_thresholds(const struct ivon_label_noise *noise, struct ivon_class_noise *classes)
{
    for (size_t i = 0; i < noise->count; i++) {
        struct ivon_class_noise *class = &classes[noise->rows[i].label];
        class->threshold +=
            (double)noise->probabilities[i * noise->classes + (size_t)noise->rows[i].label];
        class->count++;
    }
    for (size_t k = 0; k < noise->classes; k++)
        classes[k].threshold = classes[k].count ? classes[k].threshold / (double)classes[k].count
                                                : (double)NAN;
}

/* Returns the class that an example counts for; −1 for none. A class without examples has no
   threshold, and none above it. */
static int64_t noise_confident(const struct ivon_label_noise *noise,
                               const struct ivon_class_noise *classes, size_t i)
{
    const float *p = noise->probabilities + i * noise->classes;
    int64_t found = -1;
    for (size_t k = 0; k < noise->classes; k++)
        if ((double)p[k] >= classes[k].threshold && (found < 0 || p[k] > p[found]))
            found = (int64_t)k;
    return found;
}

/* Of one row of C. */
static void noise_calibrate(const uint64_t *joint, size_t k, size_t classes,
                            struct ivon_class_noise *class)
{
    uint64_t row = 0, most = 0;
    for (size_t j = 0; j < classes; j++)
        row += joint[j];
    class->confused = -1;
    for (size_t j = 0; j < classes; j++)
        if (j != k && joint[j] > most) {
            most = joint[j];
            class->confused = (int64_t)j;
        }
    double scale = row ? (double)class->count / (double)row : 0;
    class->wrong = scale * (double)(row - joint[k]);
    class->confused_by = scale * (double)most;
}

int ivon_label_noise_estimate(const struct ivon_label_noise *noise,
                              struct ivon_class_noise **classes, double *wrong,
                              struct ivon_error *error)
{
    size_t k = noise->classes, elements;
    if (classes)
        *classes = NULL;
    if (__builtin_mul_overflow(k, k, &elements))
        return ivon_error_memory(error);
    struct ivon_class_noise *found = calloc(k, sizeof *found);
    uint64_t *joint = calloc(elements, sizeof *joint);
    double sum = 0;
    if (!found || !joint) {
        free(found);
        free(joint);
        return ivon_error_memory(error);
    }
    noise_thresholds(noise, found);
    for (size_t i = 0; i < noise->count; i++) {
        int64_t class = noise_confident(noise, found, i);
        if (class >= 0)
            joint[(size_t)noise->rows[i].label * k + (size_t) class]++;
    }
    for (size_t i = 0; i < k; i++) {
        noise_calibrate(joint + i * k, i, k, &found[i]);
        sum += found[i].wrong;
    }
    if (wrong)
        *wrong = sum;
    if (classes)
        *classes = found;
    else
        free(found);
    free(joint);
    return 0;
}

static struct ivon_suspect suspect_of(const struct ivon_label_noise *noise, size_t i)
{
    const float *p = noise->probabilities + i * noise->classes;
    size_t label = (size_t)noise->rows[i].label, other = label ? 0 : 1;
    for (size_t k = 0; k < noise->classes; k++)
        if (k != label && p[k] > p[other])
            other = k;
    return (struct ivon_suspect){.example = noise->rows[i].example,
                                 .label = (int64_t)label,
                                 .suggested = (int64_t)other,
                                 .label_probability = exp(-noise->rows[i].loss),
                                 .suggested_probability = (double)p[other],
                                 .loss = noise->rows[i].loss};
}

static int compare_suspects(const void *a, const void *b)
{
    const struct ivon_suspect *x = a, *y = b;
    if (x->loss != y->loss)
        return x->loss > y->loss ? -1 : 1;
    return (x->example > y->example) - (x->example < y->example);
}

int ivon_label_noise_suspects(const struct ivon_label_noise *noise, size_t most,
                              struct ivon_suspect **suspects, size_t *count,
                              struct ivon_error *error)
{
    *count = 0;
    *suspects = calloc(noise->count + 1, sizeof **suspects);
    if (!*suspects)
        return ivon_error_memory(error);
    for (size_t i = 0; i < noise->count; i++)
        (*suspects)[i] = suspect_of(noise, i);
    qsort(*suspects, noise->count, sizeof **suspects, compare_suspects);
    *count = most < noise->count ? most : noise->count;
    return 0;
}
