/* Thumbnails: images of examples, made small by means. */
#include "cmd/plot/thumbnail.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    THUMBNAIL = 112, /* the most pixels of an image's side; larger ones are averaged */
    SIDE_MAX = 1 << 14,
    SMALL = 6, /* pixels of a caption's character */
};

static bool is_square(int64_t count, int64_t *side)
{
    *side = (int64_t)lround(sqrt((double)count));
    return *side * *side == count;
}

static void thumbnails_set(struct thumbnails *thumbnails, int64_t channels, int64_t height,
                           int64_t width)
{
    thumbnails->channels = channels;
    thumbnails->image_height = height;
    thumbnails->image_width = width;
}

/* Height × width, channels × height × width, or a square image as a vector. */
static bool find_layout(struct thumbnails *thumbnails, const struct ivon_field *field)
{
    const int64_t *shape = field->shape;
    int64_t count = (int64_t)field->count, side;
    if (field->rank == 3 && (shape[0] == 1 || shape[0] == 3))
        thumbnails_set(thumbnails, shape[0], shape[1], shape[2]);
    else if (field->rank == 2)
        thumbnails_set(thumbnails, 1, shape[0], shape[1]);
    else if (field->rank == 1 && is_square(count, &side))
        thumbnails_set(thumbnails, 1, side, side);
    else if (field->rank == 1 && count % 3 == 0 && is_square(count / 3, &side))
        thumbnails_set(thumbnails, 3, side, side);
    return thumbnails->image_height > 0 && thumbnails->image_width > 0 &&
           thumbnails->image_height <= SIDE_MAX && thumbnails->image_width <= SIDE_MAX;
}

int thumbnails_open(struct thumbnails *thumbnails, struct ivon_examples *examples, size_t field,
                    struct ivon_error *error)
{
    const struct ivon_field *images = ivon_examples_field(examples, field);
    *thumbnails = (struct thumbnails){
        .examples = examples, .field = field, .scaled = images->dtype == IVON_U8};
    if (!find_layout(thumbnails, images))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: '%s' has %d axes and %zu numbers for each example, expected "
                          "images: height x width, 1 or 3 x height x width, or a square",
                          ivon_examples_path(examples), images->name, images->rank, images->count);
    int64_t width = thumbnails->image_width, height = thumbnails->image_height;
    thumbnails->step = ((width > height ? width : height) + THUMBNAIL - 1) / THUMBNAIL;
    thumbnails->width = (width + thumbnails->step - 1) / thumbnails->step;
    thumbnails->height = (height + thumbnails->step - 1) / thumbnails->step;
    thumbnails->pixels = xcalloc(images->count, sizeof *thumbnails->pixels);
    return 0;
}

void thumbnails_release(struct thumbnails *thumbnails)
{
    free(thumbnails->pixels);
    thumbnails->pixels = NULL;
}

double thumbnails_scale(const struct thumbnails *thumbnails, double width, double height)
{
    return fmax(fmin((width - 12) / (double)thumbnails->width,
                     (height - CAPTIONS - 8) / (double)thumbnails->height),
                0.01);
}

/* Reads an example's image; afterwards its numbers are from 0 to 1. */
static int read_image(struct thumbnails *thumbnails, uint64_t example, struct ivon_error *error)
{
    size_t count = ivon_examples_field(thumbnails->examples, thumbnails->field)->count;
    float *pixels = thumbnails->pixels;
    int code = ivon_examples_read_f32(thumbnails->examples, thumbnails->field, example, 1, pixels,
                                      error);
    struct range range = range_empty();
    for (size_t i = 0; i < count && !code; i++)
        range_add(&range, pixels[i]);
    if (thumbnails->scaled)
        range = (struct range){0, 1};
    double length = range.high > range.low ? range.high - range.low : 1;
    for (size_t i = 0; i < count && !code; i++) {
        double value = ((double)pixels[i] - range.low) / length;
        pixels[i] = isfinite(value) ? (float)value : 0;
    }
    return code;
}

/* The mean of a channel over the numbers that a pixel of the thumbnail stands for. */
static double thumbnails_mean_of(const struct thumbnails *from, int64_t channel, int64_t x,
                                 int64_t y)
{
    int64_t width = from->image_width, height = from->image_height, step = from->step;
    const float *pixels = from->pixels + (channel % from->channels) * height * width;
    double sum = 0;
    int64_t count = 0;
    for (int64_t j = y * step; j < (y + 1) * step && j < height; j++)
        for (int64_t i = x * step; i < (x + 1) * step && i < width; i++, count++)
            sum += (double)pixels[j * width + i];
    return sum / (double)count;
}

/* Lines "x y red green blue". */
static size_t put_pixels(const struct thumbnails *thumbnails, struct script *script)
{
    size_t block = script_open_block(script);
    for (int64_t y = 0; y < thumbnails->height; y++)
        for (int64_t x = 0; x < thumbnails->width; x++) {
            script_add(script, "%d %d", (int)x, (int)y);
            for (int64_t channel = 0; channel < 3; channel++)
                script_add(script, " %.0f", 255 * thumbnails_mean_of(thumbnails, channel, x, y));
            script_add(script, "\n");
        }
    script_close_block(script);
    return block;
}

int thumbnails_put(struct thumbnails *thumbnails, struct script *script, uint64_t example,
                   struct thumbnail *thumbnail, struct ivon_error *error)
{
    int code = read_image(thumbnails, example, error);
    if (code)
        return code;
    double width = thumbnail->scale * (double)thumbnails->width;
    double height = thumbnail->scale * (double)thumbnails->height;
    thumbnail->block = put_pixels(thumbnails, script);
    script_add(script,
               "set object rectangle center %.9g,%.9g size %.9g,%.9g front fs empty "
               "border lc rgb '#a0a0a0'\n",
               thumbnail->x, thumbnail->top + height / 2, width, height);
    return 0;
}

void thumbnails_caption(const struct thumbnails *thumbnails, struct plot_command *command,
                        const struct thumbnail *thumbnail, const char *first, const char *second)
{
    int font = command->format == PICTURE_SVG ? 10 : 8; /* pixels, or points */
    double bottom = thumbnail->top + thumbnail->scale * (double)thumbnails->height;
    script_add(&command->script, "set label '%s' at %g,%g center font ',%d'\n", first, thumbnail->x,
               bottom + 11, font);
    if (!*second)
        return;
    script_add(&command->script, "set label ");
    script_text(&command->script, second,
                command->classes ? (size_t)(thumbnail->width / SMALL) : SIZE_MAX);
    script_add(&command->script, " at %g,%g center font ',%d'\n", thumbnail->x, bottom + 25, font);
}

void thumbnails_plot(const struct thumbnails *thumbnails, struct script *script,
                     const struct thumbnail *thumbnail)
{
    double scale = thumbnail->scale;
    script_add(script, "$b%zu using (%.9g+%.9g*$1):(%.9g+%.9g*$2):3:4:5 with rgbimage notitle",
               thumbnail->block, thumbnail->x - scale * ((double)thumbnails->width - 1) / 2, scale,
               thumbnail->top + scale / 2, scale);
}

void sheet_begin(struct plot_command *command)
{
    script_begin(command);
    script_add(&command->script,
               "unset border\nunset tics\nunset grid\nunset key\n"
               "set lmargin 0\nset rmargin 0\nset tmargin 0\nset bmargin 0\n"
               "set xrange [0:%d]\nset yrange [%d:0]\nset label ",
               command->width, command->height);
}
