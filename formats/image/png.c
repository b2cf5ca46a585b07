/* PNG by libpng, of whose pictures the first is taken where there are several. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "formats/image/image.h"

struct png_decoder {
    png_structp png;
    png_infop info;
    struct image *image;
    const unsigned char *at;
    size_t left;
    char *reason;
};

static _Noreturn void png_decoder_fail(png_structp png, png_const_charp message)
{
    const struct png_decoder *decoder = png_get_error_ptr(png);
    snprintf(decoder->reason, IMAGE_REASON_SIZE, "damaged PNG: %s", message);
    png_longjmp(png, 1);
}

static void png_decoder_warn(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void png_decoder_read(png_structp png, png_bytep out, size_t size)
{
    struct png_decoder *decoder = png_get_io_ptr(png);
    if (size > decoder->left)
        png_error(png, "it ends early");
    memcpy(out, decoder->at, size);
    decoder->at += size;
    decoder->left -= size;
}

/* Asks for eight bits a sample, without palette and transparency; returns the channels. */
static size_t png_decoder_transform(struct png_decoder *decoder, int colour, int depth)
{
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(decoder->png);
    else if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(decoder->png);
    if (depth == 16)
        png_set_strip_16(decoder->png);
    png_set_strip_alpha(decoder->png);
    return colour & PNG_COLOR_MASK_COLOR ? 3 : 1;
}

/* Returns false where libpng fails, which jumps back to here, or the picture is too large. */
static bool png_decoder_run(struct png_decoder *decoder)
{
    png_uint_32 width, height;
    int depth, colour;
    if (setjmp(png_jmpbuf(decoder->png)))
        return false;
    png_set_read_fn(decoder->png, decoder, png_decoder_read);
    png_set_user_limits(decoder->png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_read_info(decoder->png, decoder->info);
    png_get_IHDR(decoder->png, decoder->info, &width, &height, &depth, &colour, NULL, NULL, NULL);
    size_t channels = png_decoder_transform(decoder, colour, depth);
    int passes = png_set_interlace_handling(decoder->png);
    png_read_update_info(decoder->png, decoder->info);
    size_t row = (size_t)width * channels;
    if (png_get_rowbytes(decoder->png, decoder->info) != row)
        png_error(decoder->png, "its samples are in no known form");
    if (!image_allocate(decoder->image, height, width, channels, decoder->reason))
        return false;
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < height; y++)
            png_read_row(decoder->png, decoder->image->pixels + y * row, NULL);
    png_read_end(decoder->png, NULL);
    return true;
}

bool image_decode_png(struct image *image, const unsigned char *data, size_t size,
                      char reason[IMAGE_REASON_SIZE])
{
    struct png_decoder decoder = {.image = image, .at = data, .left = size, .reason = reason};
    snprintf(reason, IMAGE_REASON_SIZE, "memory is exhausted");
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, png_decoder_fail,
                                         png_decoder_warn);
    decoder.info = decoder.png ? png_create_info_struct(decoder.png) : NULL;
    bool fine = decoder.info && png_decoder_run(&decoder);
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    return fine;
}
