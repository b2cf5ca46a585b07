#include "formats/image/resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    WEIGHT_BITS = 22, /* of a weight's fraction: 255 and the sum of all weights fit into 31 */
};

/* The pixels that each of some pixels along one side is the mean of. */
struct resampler {
    int32_t *weights; /* `taps` for each */
    size_t *first, *count;
    size_t taps;
};

static void resampler_release(struct resampler *resampler)
{
    free(resampler->weights);
    free(resampler->first);
    free(resampler->count);
}

/*
 * Of a side of `from` pixels that becomes one of `to`: for `count` of these, from `first` on. Pixel
 * i lies at c = (i + 1/2) s, s = from / to; pixel j of the picture has the weight
 * max(0, 1 − |j + 1/2 − c| / max(s, 1)), divided by the sum of all.
 */
static bool resampler_make(struct resampler *resampler, size_t from, size_t to, size_t first,
                           size_t count)
{
    double scale = (double)from / (double)to, width = scale < 1 ? 1 : scale;
    size_t taps = (size_t)ceil(width) * 2 + 1;
    double *weights = calloc(taps, sizeof *weights);
    *resampler = (struct resampler){.weights = calloc(count * taps, sizeof *resampler->weights),
                                    .first = calloc(count, sizeof *resampler->first),
                                    .count = calloc(count, sizeof *resampler->count),
                                    .taps = taps};
    bool fine = weights && resampler->weights && resampler->first && resampler->count;
    for (size_t i = 0; i < count && fine; i++) {
        double centre = ((double)(first + i) + 0.5) * scale, inverse = 1 / width, sum = 0;
        double low = centre - width + 0.5, high = centre + width + 0.5;
        size_t begin = low > 0 ? (size_t)low : 0, end = (size_t)high < from ? (size_t)high : from;
        for (size_t j = begin; j < end; j++) {
            double distance = fabs(((double)j - centre + 0.5) * inverse);
            weights[j - begin] = distance < 1 ? 1 - distance : 0;
            sum += weights[j - begin];
        }
        resampler->first[i] = begin;
        resampler->count[i] = end - begin;
        for (size_t j = 0; j < end - begin; j++)
            resampler->weights[i * taps + j] = (int32_t)(0.5 +
                                                         weights[j] / sum * (1 << WEIGHT_BITS));
    }
    free(weights);
    return fine;
}

/* The weighted mean of `count` bytes that lie `stride` apart, rounded. */
static unsigned char resample_mean(const unsigned char *from, size_t stride, const int32_t *weights,
                                   size_t count)
{
    int32_t sum = 1 << (WEIGHT_BITS - 1);
    for (size_t i = 0; i < count; i++)
        sum += from[i * stride] * weights[i];
    sum >>= WEIGHT_BITS;
    return (unsigned char)(sum > 255 ? 255 : sum);
}

/* Along a row of pixels. */
static void resample_row(unsigned char *out, const unsigned char *from, size_t channels,
                         const struct resampler *columns, size_t count)
{
    for (size_t x = 0; x < count; x++)
        for (size_t c = 0; c < channels; c++)
            *out++ = resample_mean(from + columns->first[x] * channels + c, channels,
                                   columns->weights + x * columns->taps, columns->count[x]);
}

/* Down the columns of a picture whose rows have `row` bytes. */
static void resample_columns(unsigned char *out, const unsigned char *from, size_t row,
                             const struct resampler *rows, size_t count)
{
    for (size_t y = 0; y < count; y++)
        for (size_t i = 0; i < row; i++)
            *out++ = resample_mean(from + rows->first[y] * row + i, row,
                                   rows->weights + y * rows->taps, rows->count[y]);
}

/* Half of a number of pixels, halves of pixels being rounded to even numbers. */
static size_t half_even(size_t pixels)
{
    size_t half = pixels / 2;
    return pixels % 2 ? half + half % 2 : half;
}

/* The part [top, top + fit->height) × [left, left + fit->width) of the picture at `height` ×
   `width` pixels. */
static bool resample_part(struct image *image, const struct image_fit *fit, size_t height,
                          size_t width, size_t top, size_t left)
{
    size_t channels = image->channels, out_row = fit->width * channels;
    struct resampler rows = {0}, columns = {0};
    struct image result = {.height = fit->height, .width = fit->width, .channels = channels};
    unsigned char *middle = NULL;
    bool fine = resampler_make(&rows, image->height, height, top, fit->height) &&
                resampler_make(&columns, image->width, width, left, fit->width);
    if (fine) {
        size_t low = rows.first[0], last = fit->height - 1;
        size_t high = rows.first[last] + rows.count[last];
        middle = malloc((high - low) * out_row);
        result.pixels = malloc(fit->height * out_row);
        fine = middle && result.pixels;
        for (size_t y = low; y < high && fine; y++)
            resample_row(middle + (y - low) * out_row, image->pixels + y * image->width * channels,
                         channels, &columns, fit->width);
        for (size_t y = 0; y < fit->height && fine; y++)
            rows.first[y] -= low;
        if (fine)
            resample_columns(result.pixels, middle, out_row, &rows, fit->height);
    }
    free(middle);
    resampler_release(&rows);
    resampler_release(&columns);
    image_release(image);
    *image = result;
    return fine;
}

bool image_resample(struct image *image, const struct image_fit *fit)
{
    size_t height = fit->height, width = fit->width, side = fit->short_side;
    if (!height)
        return true;
    if (side && image->width <= image->height) {
        width = side;
        height = side * image->height / image->width;
    } else if (side) {
        height = side;
        width = side * image->width / image->height;
    }
    return resample_part(image, fit, height, width, half_even(height - fit->height),
                         half_even(width - fit->width));
}
