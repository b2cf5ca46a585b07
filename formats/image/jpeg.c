/* JPEG by libjpeg, as it decodes by default: with its slow transform and smooth chroma. */
#include <stdio.h> /* before jpeglib.h, which needs it */

#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <string.h>

#include "formats/image/image.h"

struct jpeg_decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    jmp_buf escape;
    struct image *image;
    char *reason;
};

static _Noreturn void jpeg_decoder_fail(j_common_ptr jpeg)
{
    struct jpeg_decoder *decoder = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    snprintf(decoder->reason, IMAGE_REASON_SIZE, "damaged JPEG: %s", message);
    longjmp(decoder->escape, 1);
}

/* Of the warnings those are errors that tell of pixels which are not the picture's. */
static void jpeg_decoder_warn(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    if (level < 0 &&
        (code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC))
        jpeg_decoder_fail(jpeg);
}

static void jpeg_decoder_ignore(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* All of the file is in the buffer: who asks for more has come to its end. */
static boolean jpeg_decoder_fill(j_decompress_ptr jpeg)
{
    struct jpeg_decoder *decoder = jpeg->client_data;
    snprintf(decoder->reason, IMAGE_REASON_SIZE, "damaged JPEG: it ends early");
    longjmp(decoder->escape, 1);
}

static void jpeg_decoder_skip(j_decompress_ptr jpeg, long count)
{
    if (count > 0 && (size_t)count > jpeg->src->bytes_in_buffer)
        jpeg_decoder_fill(jpeg);
    if (count > 0) {
        jpeg->src->next_input_byte += count;
        jpeg->src->bytes_in_buffer -= (size_t)count;
    }
}

/* Chooses grey or RGB as the file is, and makes room. */
static bool jpeg_decoder_begin(struct jpeg_decoder *decoder)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    bool grey = jpeg->jpeg_color_space == JCS_GRAYSCALE;
    bool colour = jpeg->jpeg_color_space == JCS_YCbCr || jpeg->jpeg_color_space == JCS_RGB;
    if (!grey && !colour) {
        snprintf(decoder->reason, IMAGE_REASON_SIZE,
                 "is a JPEG of %d components%s, expected grey or RGB", jpeg->num_components,
                 jpeg->num_components == 4 ? " (CMYK)" : "");
        return false;
    }
    jpeg->out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    return image_allocate(decoder->image, jpeg->image_height, jpeg->image_width, grey ? 1 : 3,
                          decoder->reason);
}

/* Returns false where libjpeg fails, which jumps back to here, or the picture is refused. */
static bool jpeg_decoder_run(struct jpeg_decoder *decoder)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    if (setjmp(decoder->escape))
        return false;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = decoder;
    jpeg->src = &decoder->source;
    jpeg_read_header(jpeg, TRUE);
    if (!jpeg_decoder_begin(decoder))
        return false;
    jpeg_start_decompress(jpeg);
    const struct image *image = decoder->image;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->pixels + jpeg->output_scanline * image->width * image->channels;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

bool image_decode_jpeg(struct image *image, const unsigned char *data, size_t size,
                       char reason[IMAGE_REASON_SIZE])
{
    struct jpeg_decoder decoder = {.image = image, .reason = reason};
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.jpeg.client_data = &decoder;
    decoder.errors.error_exit = jpeg_decoder_fail;
    decoder.errors.emit_message = jpeg_decoder_warn;
    decoder.source = (struct jpeg_source_mgr){.next_input_byte = data,
                                              .bytes_in_buffer = size,
                                              .init_source = jpeg_decoder_ignore,
                                              .fill_input_buffer = jpeg_decoder_fill,
                                              .skip_input_data = jpeg_decoder_skip,
                                              .resync_to_restart = jpeg_resync_to_restart,
                                              .term_source = jpeg_decoder_ignore};
    bool fine = jpeg_decoder_run(&decoder);
    jpeg_destroy_decompress(&decoder.jpeg);
    return fine;
}
