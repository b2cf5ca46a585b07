#include "ivon/corrupt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/examples.h"
#include "core/options.h"
#include "core/random.h"

enum {
    PIECE = 1 << 18, /* numbers read at a time; at least one example */
    BLOCK = 64,      /* blocks of random words drawn at a time */
    WORDS = 4 * BLOCK,
};

struct corrupted {
    struct ivon_examples *all;
    struct ivon_corrupt_options options;
    struct ivon_pixel_range *ranges; /* owned, as are the following */
    double *pixels, *between;        /* of one channel, scaled */
    float *normals;                  /* of one example */
    double constant;                 /* of the level */
    double *weights;                 /* of a blur: 2 × radius + 1, of sum 1 */
    int64_t radius;
};

/* One channel of an image. */
struct channel {
    const struct corrupted *corrupted;
    double *pixels;         /* height × width, scaled to [0, 1] */
    double *between;        /* as many numbers */
    const float *normals;   /* of these pixels */
    uint64_t number, first; /* of the example, and of the channel's first element in it */
    int64_t height, width;
};

/* Random numbers. */

static void corrupt_noise(const struct channel *channel)
{
    for (int64_t i = 0; i < channel->height * channel->width; i++)
        channel->pixels[i] += channel->corrupted->constant * (double)channel->normals[i];
}

/* Element e has the word e of its example's stream: its upper 53 bits are a number in [0, 1). */
static void corrupt_impulse(const struct channel *channel)
{
    const struct corrupted *corrupted = channel->corrupted;
    struct random_stream stream = random_stream_of(corrupted->options.seed, channel->number,
                                                   "corruption/impulse");
    uint64_t words[WORDS], end = channel->first + (uint64_t)(channel->height * channel->width);
    for (uint64_t e = channel->first, start; e < end; e++) {
        start = e / WORDS * WORDS;
        if (e == start || e == channel->first)
            random_words(&stream, start / 4, BLOCK, words);
        double at = (double)(words[e - start] >> 11) * 0x1p-53;
        if (at < corrupted->constant / 2)
            channel->pixels[e - channel->first] = 0;
        else if (at >= 1 - corrupted->constant / 2)
            channel->pixels[e - channel->first] = 1;
    }
}

/* Means. */

/* out[i] = Σ_d weights[d + radius] in[i + d], of `count` rows of `stride` numbers each, the first
   and the last of which stand for those beyond. */
IVON_DISPATCH static void blur_rows(double *restrict out, const double *restrict in, int64_t count,
                                    int64_t stride, const double *restrict weights, int64_t radius)
{
    memset(out, 0, (size_t)(count * stride) * sizeof *out);
    for (int64_t row = 0; row < count; row++)
        for (int64_t d = -radius; d <= radius; d++) {
            int64_t from = row + d < 0 ? 0 : row + d >= count ? count - 1 : row + d;
            for (int64_t i = 0; i < stride; i++)
                out[row * stride + i] += weights[d + radius] * in[from * stride + i];
        }
}

static void corrupt_blur(const struct channel *channel)
{
    const struct corrupted *corrupted = channel->corrupted;
    int64_t height = channel->height, width = channel->width;
    blur_rows(channel->between, channel->pixels, height, width, corrupted->weights,
              corrupted->radius);
    for (int64_t y = 0; y < height; y++)
        blur_rows(channel->pixels + y * width, channel->between + y * width, width, 1,
                  corrupted->weights, corrupted->radius);
}

/* Sets cells[c] to the mean of `count` numbers, `step` apart, over cell c of `cell_count` equal
   ones: number i covers [i, i + 1), and cell c [c, c + 1) count / cell_count. */
static void pixelate_line(double *cells, const double *numbers, int64_t count, int64_t step,
                          int64_t cell_count)
{
    for (int64_t c = 0; c < cell_count; c++) {
        double low = (double)c * (double)count / (double)cell_count, sum = 0;
        double high = (double)(c + 1) * (double)count / (double)cell_count;
        for (int64_t i = (int64_t)low; i < count && (double)i < high; i++)
            sum += numbers[i * step] * (fmin((double)(i + 1), high) - fmax((double)i, low));
        cells[c * step] = sum / (high - low);
    }
}

static int64_t pixelate_cells(int64_t count, double share)
{
    int64_t cells = (int64_t)(share * (double)count + 0.5);
    return cells > 0 ? cells : 1;
}

/* The cell with the centre of number `at`, from that of the next number on. */
static int64_t pixelate_cell(int64_t cell, int64_t at, int64_t count, int64_t cell_count)
{
    while (2 * cell * count > (2 * at + 1) * cell_count)
        cell--;
    return cell;
}

static void corrupt_pixelate(const struct channel *channel)
{
    int64_t height = channel->height, width = channel->width;
    int64_t rows = pixelate_cells(height, channel->corrupted->constant);
    int64_t columns = pixelate_cells(width, channel->corrupted->constant);
    double *cells = channel->between, *pixels = channel->pixels;
    for (int64_t y = 0; y < height; y++)
        pixelate_line(cells + y * width, pixels + y * width, width, 1, columns);
    for (int64_t x = 0; x < columns; x++)
        pixelate_line(pixels + x, cells + x, height, width, rows);
    /* The means are in the upper left corner of the image, from which its last pixels come first:
       a row takes from none below it, nor a pixel from any to the right. */
    for (int64_t y = height - 1, row = rows - 1; y >= 0; y--) {
        row = pixelate_cell(row, y, height, rows);
        for (int64_t x = width - 1, column = columns - 1; x >= 0; x--) {
            column = pixelate_cell(column, x, width, columns);
            pixels[y * width + x] = pixels[row * width + column];
        }
    }
}

/* Brightness and contrast. */

static void corrupt_contrast(const struct channel *channel)
{
    int64_t count = channel->height * channel->width;
    double sum = 0, c = channel->corrupted->constant;
    for (int64_t i = 0; i < count; i++)
        sum += channel->pixels[i];
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        channel->pixels[i] = mean + c * (channel->pixels[i] - mean);
}

static void corrupt_brightness(const struct channel *channel)
{
    for (int64_t i = 0; i < channel->height * channel->width; i++)
        channel->pixels[i] += channel->corrupted->constant;
}

static const struct corruption {
    const char *name;
    double constants[IVON_CORRUPTION_LEVELS];
    void (*corrupt)(const struct channel *channel);
} corruptions[] = {
    [IVON_CORRUPT_NOISE] = {"noise", {0.08, 0.12, 0.18, 0.26, 0.38}, corrupt_noise},
    [IVON_CORRUPT_IMPULSE] = {"impulse", {0.03, 0.06, 0.09, 0.17, 0.27}, corrupt_impulse},
    [IVON_CORRUPT_BLUR] = {"blur", {0.4, 0.6, 0.7, 0.8, 1}, corrupt_blur},
    [IVON_CORRUPT_PIXELATE] = {"pixelate", {0.75, 0.6, 0.5, 0.4, 0.3}, corrupt_pixelate},
    [IVON_CORRUPT_CONTRAST] = {"contrast", {0.75, 0.5, 0.4, 0.3, 0.15}, corrupt_contrast},
    [IVON_CORRUPT_BRIGHTNESS] = {"brightness", {0.1, 0.2, 0.3, 0.4, 0.5}, corrupt_brightness},
};
enum { CORRUPTIONS = sizeof corruptions / sizeof *corruptions };

const char *ivon_corruption_name(enum ivon_corruption corruption)
{
    return (unsigned)corruption < CORRUPTIONS ? corruptions[corruption].name : NULL;
}

void ivon_corrupt_options_init(struct ivon_corrupt_options *options, size_t size)
{
    static const struct ivon_corrupt_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

/* Images. */

static void corrupt_channel(const struct corrupted *corrupted, const struct channel *channel,
                            float *image, const struct ivon_pixel_range *range)
{
    int64_t count = channel->height * channel->width;
    double length = range->high - range->low;
    if (!(length > 0))
        return;
    for (int64_t i = 0; i < count; i++)
        channel->pixels[i] = ((double)image[i] - range->low) / length;
    corruptions[corrupted->options.corruption].corrupt(channel);
    for (int64_t i = 0; i < count; i++)
        image[i] = (float)(range->low + length * fmin(fmax(channel->pixels[i], 0), 1));
}

static void corrupt_image(const struct corrupted *corrupted, uint64_t number, float *image)
{
    const struct ivon_corrupt_options *options = &corrupted->options;
    int64_t count = options->height * options->width;
    struct channel channel = {.corrupted = corrupted,
                              .pixels = corrupted->pixels,
                              .between = corrupted->between,
                              .number = number,
                              .height = options->height,
                              .width = options->width};
    if (corrupted->normals) {
        struct random_stream stream = random_stream_of(options->seed, number, "corruption/noise");
        random_normal(&stream, 0, (size_t)(options->channels * count), corrupted->normals);
    }
    for (int64_t c = 0; c < options->channels; c++) {
        channel.first = (uint64_t)(c * count);
        channel.normals = corrupted->normals ? corrupted->normals + c * count : NULL;
        corrupt_channel(corrupted, &channel, image + c * count, &corrupted->ranges[c]);
    }
}

static int corrupt_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    const struct corrupted *corrupted = self;
    if (field != corrupted->options.field)
        return examples_read_stored(corrupted->all, field, first, count, buffer, error);
    size_t size = ivon_examples_field(corrupted->all, field)->count;
    int code = ivon_examples_read_f32(corrupted->all, field, first, count, buffer, error);
    for (size_t i = 0; i < count && !code; i++)
        corrupt_image(corrupted, ivon_examples_number(corrupted->all, first + i),
                      (float *)buffer + i * size);
    return code;
}

static uint64_t corrupt_number(const void *self, uint64_t example)
{
    return ivon_examples_number(((const struct corrupted *)self)->all, example);
}

static void corrupt_close(void *self)
{
    struct corrupted *corrupted = self;
    free(corrupted->ranges);
    free(corrupted->pixels);
    free(corrupted->between);
    free(corrupted->normals);
    free(corrupted->weights);
    free(corrupted);
}

/* Making them. */

static int corrupt_check(struct ivon_examples *all, const struct ivon_corrupt_options *options,
                         struct ivon_error *error)
{
    const struct ivon_field *field = ivon_examples_field(all, options->field);
    const char *path = ivon_examples_path(all);
    uint64_t count;
    if (!ivon_corruption_name(options->corruption) || options->level < 1 ||
        options->level > IVON_CORRUPTION_LEVELS)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: there is no corruption %d of level %d", path,
                              (int)options->corruption, options->level);
    if (!field || options->channels < 1 || options->height < 1 || options->width < 1 ||
        !options->ranges ||
        __builtin_mul_overflow((uint64_t)options->channels, (uint64_t)options->height, &count) ||
        __builtin_mul_overflow(count, (uint64_t)options->width, &count) || count != field->count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: an example has %zu numbers, expected an image of "
                              "%lld x %lld x %lld",
                              path, field ? field->count : 0, (long long)options->channels,
                              (long long)options->height, (long long)options->width);
    return 0;
}

/* Makes the kernel of a blur, which grows with an image whose shorter side has more than 32. */
static bool corrupt_make_kernel(struct corrupted *corrupted)
{
    int64_t height = corrupted->options.height, width = corrupted->options.width;
    double deviation = corrupted->constant *
                       fmax(1, (double)(height < width ? height : width) / 32);
    int64_t radius = (int64_t)(4 * deviation + 0.5);
    double sum = 0;
    corrupted->radius = radius;
    corrupted->weights = calloc((size_t)(2 * radius + 1), sizeof *corrupted->weights);
    if (!corrupted->weights)
        return false;
    for (int64_t d = -radius; d <= radius; d++)
        sum += corrupted->weights[d + radius] = exp(-(double)(d * d) / (2 * deviation * deviation));
    for (int64_t d = 0; d <= 2 * radius; d++)
        corrupted->weights[d] /= sum;
    return true;
}

static bool corrupt_allocate(struct corrupted *corrupted)
{
    const struct ivon_corrupt_options *options = &corrupted->options;
    size_t channels = (size_t)options->channels, count = (size_t)(options->height * options->width);
    corrupted->ranges = calloc(channels, sizeof *corrupted->ranges);
    corrupted->pixels = calloc(count, sizeof *corrupted->pixels);
    corrupted->between = calloc(count, sizeof *corrupted->between);
    if (!corrupted->ranges || !corrupted->pixels || !corrupted->between)
        return false;
    memcpy(corrupted->ranges, options->ranges, channels * sizeof *corrupted->ranges);
    if (options->corruption == IVON_CORRUPT_NOISE) {
        corrupted->normals = calloc(channels * count, sizeof *corrupted->normals);
        return corrupted->normals;
    }
    return options->corruption != IVON_CORRUPT_BLUR || corrupt_make_kernel(corrupted);
}

int ivon_examples_corrupt(struct ivon_examples **out, struct ivon_examples *all,
                          const struct ivon_corrupt_options *given, struct ivon_error *error)
{
    static const struct options_kind kind = {.defaults = "ivon_corrupt_defaults()"};
    static const struct ivon_examples_class class = {
        .read = corrupt_read, .close = corrupt_close, .number = corrupt_number};
    struct ivon_corrupt_options options = ivon_corrupt_defaults();
    int code = options_read(&kind, &options, given, error);
    if (!code)
        code = corrupt_check(all, &options, error);
    if (code)
        return code;
    struct corrupted *corrupted = calloc(1, sizeof *corrupted);
    if (!corrupted)
        return ivon_error_memory(error);
    *corrupted = (struct corrupted){
        .all = all,
        .options = options,
        .constant = corruptions[options.corruption].constants[options.level - 1]};
    code = corrupt_allocate(corrupted)
               ? examples_new_like(out, &class, corrupted, ivon_examples_path(all), all,
                                   ivon_examples_count(all), (ptrdiff_t)options.field, error)
               : ivon_error_memory(error);
    corrupted->options.ranges = NULL;
    if (code)
        corrupt_close(corrupted);
    return code;
}

/* Ranges. */

static void ranges_add(struct ivon_pixel_range *ranges, size_t channels, const float *numbers,
                       size_t examples, size_t pixels)
{
    for (size_t i = 0; i < examples * channels; i++, numbers += pixels) {
        struct ivon_pixel_range *range = &ranges[i % channels];
        float low = numbers[0], high = numbers[0];
        for (size_t j = 1; j < pixels; j++) {
            low = numbers[j] < low ? numbers[j] : low;
            high = numbers[j] > high ? numbers[j] : high;
        }
        range->low = fmin(range->low, (double)low);
        range->high = fmax(range->high, (double)high);
    }
}

int ivon_pixel_ranges(struct ivon_examples *examples, size_t index, int64_t channels,
                      struct ivon_pixel_range *ranges, struct ivon_error *error)
{
    const struct ivon_field *field = ivon_examples_field(examples, index);
    uint64_t rows = ivon_examples_count(examples);
    if (!field || channels < 1 || field->count % (uint64_t)channels || !rows)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: an example has %zu numbers, expected some of %lld channels",
                              ivon_examples_path(examples), field && rows ? field->count : 0,
                              (long long)channels);
    size_t most = field->count < PIECE ? PIECE / field->count : 1;
    float *numbers = calloc(most, field->count * sizeof *numbers);
    int code = numbers ? 0 : ivon_error_memory(error);
    for (int64_t c = 0; c < channels; c++)
        ranges[c] = (struct ivon_pixel_range){INFINITY, -INFINITY};
    for (uint64_t at = 0; at < rows && !code; at += most) {
        size_t count = rows - at < most ? (size_t)(rows - at) : most;
        code = ivon_examples_read_f32(examples, index, at, count, numbers, error);
        if (!code)
            ranges_add(ranges, (size_t)channels, numbers, count, field->count / (size_t)channels);
    }
    free(numbers);
    return code;
}
