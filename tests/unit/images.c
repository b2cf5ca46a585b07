/* Directories of images as data sets: what is read of each kind of PNG and JPEG, how images come to
   one size, and what is refused. */
#include "tests/unit/files.h"

#include <jpeglib.h>
#include <png.h>
#include <sys/stat.h>

#include "core/examples.h"

enum { MOST = 4096 };

static const struct ivon_dataset_options defaults = {.size = sizeof defaults};

/* A sample of the pictures here. */
static unsigned char sample(size_t x, size_t y, size_t c)
{
    return (unsigned char)((x * 40 + y * 23 + c * 90 + x * x * y * 7) % 256);
}

struct png_form {
    int colour, depth, interlace;
    bool transparent; /* palette: entry 1 is */
};

/* Rows of `channels` samples; those of 16 bits have the sample in their high byte. */
static void write_png_rows(png_structp png, png_infop info, size_t width, size_t height,
                           const struct png_form *form)
{
    unsigned char rows[16][256] = {0}, *pointers[16];
    size_t channels = png_get_channels(png, info), bytes = form->depth == 16 ? 2 : 1;
    bool alpha = form->colour & PNG_COLOR_MASK_ALPHA;
    assert_true(height <= 16 && width * channels * bytes <= sizeof rows[0]);
    for (size_t y = 0; y < height; y++) {
        pointers[y] = rows[y];
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < channels; c++) {
                unsigned char *to = &rows[y][(x * channels + c) * bytes];
                *to = sample(x, y, alpha && c + 1 == channels ? 7 : c);
                if (form->colour == PNG_COLOR_TYPE_PALETTE || form->depth < 8)
                    *to = (unsigned char)((x + y) % 2);
                if (bytes == 2)
                    to[1] = 0xfe;
            }
    }
    if (form->depth < 8)
        png_set_packing(png);
    png_write_image(png, pointers);
}

static void write_png(const char *path, size_t width, size_t height, struct png_form form)
{
    static const png_color palette[] = {{1, 2, 3}, {200, 100, 50}};
    static const png_byte transparency[] = {255, 0};
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(file);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, form.depth, form.colour,
                 form.interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (form.colour == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 2);
    if (form.transparent)
        png_set_tRNS(png, info, transparency, 2, NULL);
    png_write_info(png, info);
    write_png_rows(png, info, width, height, &form);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    fclose(file);
}

static const struct png_form rgb = {.colour = PNG_COLOR_TYPE_RGB, .depth = 8};
static const struct png_form grey = {.colour = PNG_COLOR_TYPE_GRAY, .depth = 8};

/* A JPEG of one value for each component, which is what it has after decoding but for rounding. */
static void write_jpeg(const char *path, size_t side, J_COLOR_SPACE space, int components,
                       const unsigned char *values)
{
    FILE *file = fopen(path, "wb");
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char row[256];
    assert_true(file && side * (size_t)components <= sizeof row);
    for (size_t i = 0; i < side * (size_t)components; i++)
        row[i] = values[i % (size_t)components];
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = jpeg.image_height = (JDIMENSION)side;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (size_t y = 0; y < side; y++)
        jpeg_write_scanlines(&jpeg, &(JSAMPROW){row}, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
}

/* The bytes of all images. */
static const float *read_images(const char *path, const struct ivon_dataset_options *given,
                                struct ivon_examples **out)
{
    static float values[MOST];
    struct ivon_error error = {.message = "none"};
    struct ivon_dataset_options options = *given;
    options.no_scaling = true;
    struct ivon_examples *examples = open_fine(path, &options);
    size_t count = ivon_examples_count(examples);
    assert_true(count * ivon_examples_field(examples, 0)->count <= MOST);
    if (ivon_examples_read_f32(examples, 0, 0, count, values, &error))
        fail_msg("%s", error.message);
    *out = examples;
    return values;
}

/* That the one image of directory "d" has these samples, as its file has or with those channels. */
static void check_image(size_t channels, size_t height, size_t width, const unsigned char *expected,
                        struct ivon_dataset_options options)
{
    struct ivon_examples *examples = NULL;
    const float *found = read_images("d", &options, &examples);
    const struct ivon_field *field = ivon_examples_field(examples, 0);
    assert_true(field->rank == 3 && field->dtype == IVON_U8);
    assert_int_equal(field->shape[0], channels);
    assert_int_equal(field->shape[1], height);
    assert_int_equal(field->shape[2], width);
    for (size_t i = 0; i < field->count; i++)
        if (found[i] != expected[i])
            fail_msg("sample %zu is %g, expected %d", i, (double)found[i], expected[i]);
    ivon_examples_close(examples);
}

/* Classes. */

static void numbers_classes_by_name(void **state)
{
    (void)state;
    static const char *const files[] = {"c/b/2.png", "c/b/10.PNG", "c/B/x.png", "c/a-b/z.Png",
                                        "c/a/y.png", "c/a/Y.png",  "c/a/é.png"};
    /* The rows are a/Y, a/y, a/é, a-b/z, in the order of bytes B, a, a-b, b. */
    static const size_t row_of[] = {6, 5, 0, 4, 2, 1, 3};
    static const int64_t labels[] = {0, 1, 1, 1, 2, 3, 3};
    mkdir("c", 0700);
    const char *const folders[] = {"c/a", "c/a-b", "c/b", "c/B", "c/.git", "c/.git/deep"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        mkdir(folders[i], 0700);
    for (size_t i = 0; i < 7; i++) {
        const unsigned char value = (unsigned char)(30 * i), colour[] = {60, 60, 60};
        if (i == 2)
            write_jpeg(files[i], 2, JCS_RGB, 3, colour);
        else
            write_jpeg(files[i], 2, JCS_GRAYSCALE, 1, &value);
    }
    write_text("c/README", "what these are");
    write_text("c/a/Thumbs.db", "");
    write_text("c/a/.hidden.png", "");
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {.message = "none"};
    int64_t found[7];
    const float *values = read_images("c", &defaults, &examples);
    const struct ivon_field *field = ivon_examples_field(examples, 1);
    assert_int_equal(ivon_examples_count(examples), 7);
    assert_true(field->rank == 0 && field->dtype == IVON_I64 && strcmp(field->name, "y") == 0);
    assert_int_equal(ivon_examples_find(examples, "x"), 0);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 7, found, &error), 0);
    assert_memory_equal(found, labels, sizeof labels);
    for (size_t i = 0; i < 7; i++) /* grey ones as often as the first has channels */
        for (size_t c = 0; c < 12; c++)
            assert_float_equal(values[row_of[i] * 12 + c], 30 * (float)i, 4);
    float one[12];
    assert_int_equal(ivon_examples_read_f32(examples, 0, 3, 1, one, &error), 0);
    assert_memory_equal(one, values + 3 * 12, sizeof one);
    ivon_examples_close(examples);

    const char *const inputs[] = {"image"};
    const struct ivon_dataset_options named = {
        .size = sizeof named, .inputs = inputs, .input_count = 1, .targets = "class", .limit = 4};
    examples = open_fine("c", &named);
    assert_int_equal(ivon_examples_count(examples), 4);
    assert_int_equal(ivon_examples_find(examples, "image"), 0);
    assert_int_equal(ivon_examples_find(examples, "class"), 1);
    ivon_examples_close(examples);
    examples = open_fine("c/", &(struct ivon_dataset_options){.size = sizeof named, .targets = ""});
    assert_int_equal(ivon_examples_field_count(examples), 1);
    ivon_examples_close(examples);
    examples = open_fine("c/a", &defaults); /* no classes, and so no targets */
    assert_int_equal(ivon_examples_count(examples), 3);
    assert_int_equal(ivon_examples_field_count(examples), 1);
    ivon_examples_close(examples);
    open_refused("c/a", &(struct ivon_dataset_options){.size = sizeof named, .targets = "y"},
                 IVON_ERROR_DATA, "c/a: holds images, and no directories of classes to be 'y'");
}

/* Kinds of files. */

static void reads_every_kind_of_png(void **state)
{
    (void)state;
    static const struct {
        struct png_form form;
        size_t channels;
    } kinds[] = {
        {{PNG_COLOR_TYPE_RGB, 8, PNG_INTERLACE_NONE, false}, 3},
        {{PNG_COLOR_TYPE_RGB, 8, PNG_INTERLACE_ADAM7, false}, 3},
        {{PNG_COLOR_TYPE_RGB, 16, PNG_INTERLACE_NONE, false}, 3},
        {{PNG_COLOR_TYPE_RGB_ALPHA, 8, PNG_INTERLACE_NONE, false}, 3},
        {{PNG_COLOR_TYPE_RGB_ALPHA, 16, PNG_INTERLACE_ADAM7, false}, 3},
        {{PNG_COLOR_TYPE_GRAY, 8, PNG_INTERLACE_NONE, false}, 1},
        {{PNG_COLOR_TYPE_GRAY, 16, PNG_INTERLACE_NONE, false}, 1},
        {{PNG_COLOR_TYPE_GRAY_ALPHA, 8, PNG_INTERLACE_NONE, false}, 1},
    };
    mkdir("d", 0700);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned char expected[3 * 4 * 5];
        for (size_t i = 0; i < 3 * 4 * 5; i++)
            expected[i] = sample(i % 5, i / 5 % 4, i / 20);
        write_png("d/1.png", 5, 4, kinds[k].form);
        check_image(kinds[k].channels, 4, 5, expected, defaults);
        struct ivon_dataset_options options = defaults;
        options.image_channels = 3;
        for (size_t i = 20; i < 60 && kinds[k].channels == 1; i++)
            expected[i] = expected[i % 20];
        check_image(3, 4, 5, expected, options);
    }
}

static void expands_palettes_and_bits(void **state)
{
    (void)state;
    static const struct png_form kinds[] = {{PNG_COLOR_TYPE_PALETTE, 8, 0, false},
                                            {PNG_COLOR_TYPE_PALETTE, 8, 0, true},
                                            {PNG_COLOR_TYPE_PALETTE, 1, 0, true}};
    static const unsigned char colours[] = {1, 200, 200, 1, 2, 100, 100, 2, 3, 50, 50, 3};
    /* Of the luma, (.299, .587, .114) . (1, 2, 3) = 1.8, and of (200, 100, 50) 124.2 */
    static const unsigned char luma[] = {2, 124, 124, 2}, bits[] = {0, 255, 255, 0};
    struct ivon_dataset_options options = defaults;
    mkdir("d", 0700);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        write_png("d/1.png", 2, 2, kinds[k]);
        options.image_channels = 0;
        check_image(3, 2, 2, colours, options);
        options.image_channels = 1;
        check_image(1, 2, 2, luma, options);
    }
    write_png("d/1.png", 2, 2, (struct png_form){PNG_COLOR_TYPE_GRAY, 1, 0, false});
    check_image(1, 2, 2, bits, defaults);
}

/* Constant pictures are their mean alone, which quantization by default keeps to 1 of 255; colours
   are rounded three times more, as Y, Cb and Cr, whose errors reach a sample up to 1.8-fold. */
static void reads_jpeg(void **state)
{
    (void)state;
    static const unsigned char colour[] = {200, 120, 40}, value[] = {77};
    struct ivon_examples *examples = NULL;
    mkdir("d", 0700);
    write_jpeg("d/1.png", 20, JCS_RGB, 3, colour); /* the content tells, not the name */
    const float *found = read_images("d", &defaults, &examples);
    assert_int_equal(ivon_examples_field(examples, 0)->count, 1200);
    for (size_t i = 0; i < 1200; i++)
        assert_float_equal(found[i], colour[i / 400], 4);
    ivon_examples_close(examples);
    write_jpeg("d/1.png", 20, JCS_GRAYSCALE, 1, value);
    found = read_images("d", &defaults, &examples);
    assert_int_equal(ivon_examples_field(examples, 0)->count, 400);
    for (size_t i = 0; i < 400; i++)
        assert_float_equal(found[i], value[0], 1);
    ivon_examples_close(examples);
    write_jpeg("d/1.png", 20, JCS_CMYK, 4, (const unsigned char[]){1, 2, 3, 4});
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/1.png: is a JPEG of 4 components (CMYK), expected grey or RGB");
}

/* Sizes: the numbers are those of PIL 9.4, by Image.resize(…, BILINEAR) and crop, as torchvision's
   Resize and CenterCrop call them, of the picture and of its convert("L"). */
static void resizes_as_others_do(void **state)
{
    (void)state;
    static const struct {
        size_t side, height, width;
        unsigned char colour[36], grey[12];
    } cases[] = {
        {0,
         2,
         3,
         {66, 125, 114, 113, 134, 87, 141, 137, 128, 167, 109, 112, 161, 112, 131, 122, 135, 172},
         {121, 130, 124, 146, 119, 111}},
        {3,
         3,
         2,
         {107, 135, 141, 103, 138, 144, 167, 166, 111, 104, 129, 87, 82, 116, 116, 138, 138, 146},
         {139, 150, 121, 107, 133, 111}},
        {8,
         3,
         4,
         {156, 195, 102, 72,  138, 89, 117, 123, 149, 63,  110, 117, 149, 45,  94,  151, 87,  99,
          65,  86,  76,  153, 88,  79, 86,  135, 184, 171, 126, 189, 155, 106, 137, 163, 149, 121},
         {144, 101, 106, 129, 107, 106, 91, 99, 105, 127, 101, 95}},
    };
    mkdir("d", 0700);
    write_png("d/1.png", 7, 5, rgb);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct ivon_dataset_options options = {.size = sizeof options,
                                               .image_height = cases[k].height,
                                               .image_width = cases[k].width,
                                               .image_short_side = cases[k].side};
        check_image(3, cases[k].height, cases[k].width, cases[k].colour, options);
        options.image_channels = 1;
        check_image(1, cases[k].height, cases[k].width, cases[k].grey, options);
    }
}

/* A picture on its side becomes what it becomes upright, on its side. */
static void resizes_both_ways_alike(void **state)
{
    (void)state;
    struct ivon_dataset_options options = {
        .size = sizeof options, .image_height = 4, .image_width = 4, .image_short_side = 4};
    struct ivon_examples *examples = NULL;
    unsigned char line[4] = {0};
    mkdir("d", 0700);
    write_png("d/1.png", 16, 1, grey);
    const float *found = read_images("d", &options, &examples);
    for (size_t i = 0; i < 16; i++) {
        line[i % 4] = (unsigned char)found[i];
        assert_true(line[i % 4] == found[i % 4]); /* all rows are the one row */
    }
    ivon_examples_close(examples);
    options.image_short_side = 0;
    options.image_height = 1;
    options.image_width = 16;
    unsigned char same[16];
    for (size_t i = 0; i < 16; i++)
        same[i] = sample(i, 0, 0);
    check_image(1, 1, 16, same, options);
}

/* Refusals. */

static void cut_file(const char *path, size_t less)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(truncate(path, status.st_size - (off_t)less), 0);
}

static void flip_byte(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_true(file && fseek(file, at, SEEK_SET) == 0);
    int byte = fgetc(file);
    assert_true(fseek(file, at, SEEK_SET) == 0 && fputc(byte ^ 0x55, file) != EOF);
    fclose(file);
}

static void refuses_damaged_images(void **state)
{
    (void)state;
    static const unsigned char value[] = {9, 200, 30};
    /* A PNG that says it has 65,535 x 65,535 pixels, by a header whose checksum is right. */
    static const unsigned char huge[] = {
        0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,   0,   13,   'I',  'H',  'D',
        'R',  0,    0,    0xff, 0xff, 0,    0,    0xff, 0xff, 8,   0,   0,    0,    0,    0x93,
        0x6e, 0x86, 0x8c, 0,    0,    0,    0,    'I',  'D',  'A', 'T', 0x35, 0xaf, 0x06, 0x1e};
    mkdir("d", 0700);
    write_text("d/1.png", "");
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: is empty");
    write_text("d/1.png", "GIF89a");
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: is neither PNG nor JPEG");
    write_png("d/1.png", 5, 4, rgb);
    cut_file("d/1.png", 1);
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: damaged PNG: it ends early");
    write_png("d/1.png", 5, 4, rgb);
    flip_byte("d/1.png", 45);
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: damaged PNG: ");
    write_file("d/1.png", huge, sizeof huge);
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/1.png: has 65535 x 65535 pixels, expected at most 67108864");
    write_jpeg("d/1.png", 64, JCS_RGB, 3, value);
    cut_file("d/1.png", 30);
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: damaged JPEG: it ends early");
    FILE *file = fopen("d/1.png", "ab"); /* an end that comes before that of the pixels */
    assert_true(file && fputs("\xff\xd9", file) != EOF && fclose(file) == 0);
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/1.png: damaged JPEG: Corrupt JPEG data: premature end of data segment");
    write_file("d/1.png", "\xff\xd8\xff\xd8", 4);
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/1.png: damaged JPEG: ");
    assert_int_equal(unlink("d/1.png"), 0);
    assert_int_equal(symlink("1.png", "d/1.png"), 0);
    open_refused("d", &defaults, IVON_ERROR_INPUT, "d/1.png: cannot open it: Too many levels");
    assert_int_equal(unlink("d/1.png"), 0);
    assert_int_equal(symlink("/tmp", "d/1.png"), 0);
    open_refused("d", &defaults, IVON_ERROR_INPUT, "d/1.png: is a directory, expected a regular");
}

/* What is wrong with a later image is said when it is read, and the others can be read still. */
static void refuses_images_unlike_the_first(void **state)
{
    (void)state;
    struct ivon_error error;
    float values[20];
    mkdir("d", 0700);
    write_png("d/1.png", 5, 4, grey);
    write_png("d/2.png", 4, 5, grey);
    write_png("d/3.png", 5, 4, rgb);
    write_text("d/4.png", "");
    struct ivon_examples *examples = open_fine("d", &defaults);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 1, 1, values, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "d/2.png: has 4 x 5 pixels, expected 5 x 4 as '1.png'");
    assert_int_equal(error.hint, IVON_HINT_RESIZE);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 2, 1, values, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "d/3.png: is in colour, expected grey as '1.png'");
    assert_int_equal(ivon_examples_read_f32(examples, 0, 3, 1, values, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "d/4.png: is empty");
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 1, values, &error), 0);
    assert_true(values[6] == sample(1, 1, 0) / 255.0F);
    struct ivon_examples *some = NULL; /* are images, too */
    assert_int_equal(ivon_examples_subsample(&some, examples, 2, 1, &error), 0);
    assert_int_equal(examples_extents_hint(some), IVON_HINT_RESIZE);
    ivon_examples_close(some);
    ivon_examples_close(examples);
}

static void refuses_other_directories(void **state)
{
    (void)state;
    mkdir("d", 0700);
    mkdir("d/cat", 0700);
    write_text("d/cat/notes.txt", "");
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/cat: is the directory of a class and holds no image, expected some by names "
                 "in .png, .jpg or .jpeg");
    write_png("d/cat/1.png", 5, 4, grey);
    mkdir("d/cat/more.png", 0700);
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/cat/more.png: is a directory in that of a class, expected images");
    rmdir("d/cat/more.png");
    assert_int_equal(symlink("..", "d/cat/up"), 0);
    open_refused("d", &defaults, IVON_ERROR_DATA, "d/cat/up: is a directory in that of a class");
    unlink("d/cat/up");
    write_text("d/cat/2.WebP", "");
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/cat/2.WebP: is in a format that is not read, expected PNG or JPEG");
    unlink("d/cat/2.WebP");
    write_text("d/1.png", "");
    open_refused("d", &defaults, IVON_ERROR_DATA,
                 "d/1.png: is an image beside the directories of the classes, expected in one");
    mkdir("none", 0700);
    open_refused("none", &defaults, IVON_ERROR_DATA,
                 "none: is a directory without images, expected a directory of images for each");
}

static void refuses_other_options(void **state)
{
    (void)state;
    mkdir("d", 0700);
    write_png("d/1.png", 5, 4, grey);
    write_text("t.csv", "1,2\n");
    const char *const inputs[] = {"a", "b"};
    const struct {
        const char *path, *message;
        struct ivon_dataset_options options;
    } cases[] = {
        {"d:/train", "'/train' would be a group, but 'd' is a directory of images, which", {0}},
        {"d", "a target column can be named in CSV files only", {.target_column = "1"}},
        {"d", "2 inputs are asked for", {.inputs = inputs, .input_count = 2}},
        {"d", "2 channels of images, expected 1 or 3", {.image_channels = 2}},
        {"d", "images of 3 x 0 pixels", {.image_width = 3}},
        {"d", "images of 65536 x 1 pixels", {.image_width = 65536, .image_height = 1}},
        {"d", "images of 65535 x 65535 pixels", {.image_width = 65535, .image_height = 65535}},
        {"d",
         "3 x 5 pixels of images whose shorter side has 4",
         {.image_width = 3, .image_height = 5, .image_short_side = 4}},
        {"t.csv",
         "t.csv: only images can be resized, and this is a CSV file",
         {.image_width = 3, .image_height = 5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ivon_dataset_options options = cases[i].options;
        options.size = sizeof options;
        open_refused(cases[i].path, &options, IVON_ERROR_ARGUMENT, cases[i].message);
    }
    struct ivon_dataset_options tokens = {.size = sizeof tokens, .context = 2};
    open_refused("d", &tokens, IVON_ERROR_DATA, "d: 'x' has 20 elements of type u8 in a row");
    struct ivon_dataset_options text = {.size = sizeof text, .characters = true};
    open_refused("d", &text, IVON_ERROR_INPUT, "d: is a directory, expected a regular file");
    struct ivon_dataset_options named = {.size = sizeof named, .named = true};
    open_refused("d", &named, IVON_ERROR_DATA, "d: has no array 'x': 'd' is a directory of images");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(numbers_classes_by_name, clean_directory),
        cmocka_unit_test_teardown(reads_every_kind_of_png, clean_directory),
        cmocka_unit_test_teardown(expands_palettes_and_bits, clean_directory),
        cmocka_unit_test_teardown(reads_jpeg, clean_directory),
        cmocka_unit_test_teardown(resizes_as_others_do, clean_directory),
        cmocka_unit_test_teardown(resizes_both_ways_alike, clean_directory),
        cmocka_unit_test_teardown(refuses_damaged_images, clean_directory),
        cmocka_unit_test_teardown(refuses_images_unlike_the_first, clean_directory),
        cmocka_unit_test_teardown(refuses_other_directories, clean_directory),
        cmocka_unit_test_teardown(refuses_other_options, clean_directory),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
