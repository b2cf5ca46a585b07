/* A directory of images as examples: bytes, channels x height x width, and the number of the class;
   the images are decoded when they are read. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/dataset/dataset.h"
#include "formats/dataset/folder.h"
#include "formats/image/safe.h"

struct dataset_images {
    struct image_folder folder;
    struct image_reader *reader;
    size_t channels, height, width; /* of every image */
    bool free_channels;             /* they are the first image's, and not asked for */
};

/* Reads the image of a row, whatever size it has. */
static int images_decode(struct dataset_images *images, uint64_t row, size_t channels,
                         struct image_planes *planes, struct ivon_error *error)
{
    const struct image_folder *folder = &images->folder;
    char *path = image_folder_join(folder->path, folder->names[row]);
    if (!path)
        return ivon_error_memory(error);
    int code = image_reader_read(images->reader, path, channels, planes, error);
    free(path);
    return code;
}

/* Refuses an image that is not as the first is. */
static int images_check(const struct dataset_images *images, uint64_t row,
                        const struct image_planes *planes, struct ivon_error *error)
{
    const struct image_folder *folder = &images->folder;
    if (images->free_channels && images->channels == 1 && planes->colour)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s/%s: is in colour, expected grey as '%s'",
                              folder->path, folder->names[row], folder->names[0]);
    if (planes->height != images->height || planes->width != images->width)
        return ivon_error_hint(
            error, IVON_HINT_RESIZE,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s/%s: has %zu x %zu pixels, expected %zu x %zu as '%s'", folder->path,
                           folder->names[row], planes->width, planes->height, images->width,
                           images->height, folder->names[0]));
    return 0;
}

static int images_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct dataset_images *images = self;
    size_t size = images->channels * images->height * images->width;
    unsigned char *out = buffer;
    int64_t *labels = buffer;
    int code = 0;
    for (size_t i = 0; i < count && field; i++)
        labels[i] = (int64_t)images->folder.classes[first + i];
    for (size_t i = 0; i < count && !field && !code; i++) {
        struct image_planes planes = {0};
        code = images_decode(images, first + i, images->channels, &planes, error);
        if (!code)
            code = images_check(images, first + i, &planes, error);
        if (!code)
            memcpy(out + i * size, planes.data, size);
    }
    return code;
}

static void images_close(void *self)
{
    struct dataset_images *images = self;
    image_reader_close(images->reader);
    image_folder_release(&images->folder);
    free(images);
}

/* Starts the reader, and lets the first image say what the options do not. */
static int images_begin(struct dataset_images *images, const struct ivon_dataset_options *options,
                        struct ivon_error *error)
{
    const struct image_fit fit = {options->image_height, options->image_width,
                                  options->image_short_side};
    struct image_planes first = {0};
    int code = image_reader_open(&images->reader, &fit, !options->no_sandbox, error);
    if (!code)
        code = images_decode(images, 0, options->image_channels, &first, error);
    images->free_channels = !options->image_channels;
    images->channels = first.channels;
    images->height = first.height;
    images->width = first.width;
    return code;
}

int dataset_images_open(struct ivon_examples **examples, struct dataset_request *request,
                        struct mapped_file *file, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {
        .read = images_read, .close = images_close, .extents_hint = IVON_HINT_RESIZE};
    const char *name = dataset_input_name(request, error);
    struct dataset_images *images = name ? calloc(1, sizeof *images) : NULL;
    if (!images)
        return name ? ivon_error_memory(error) : IVON_ERROR_ARGUMENT;
    struct class_names known;
    int code = class_names_init(&known, request->options->classes, request->options->class_count,
                                error);
    if (!code)
        code = image_folder_list(&images->folder, file->path, &known, error);
    class_names_release(&known);
    bool targets = images->folder.class_count && !dataset_targets_refused(request);
    if (!code && !images->folder.class_count && dataset_targets_required(request))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds images, and no directories of classes to be '%s'",
                              request->path, dataset_targets_name(request));
    if (!code)
        code = images_begin(images, request->options, error);
    if (!code) {
        int64_t rows = (int64_t)images->folder.count;
        const struct dataset_array arrays[] = {
            {.name = name,
             .dtype = IVON_U8,
             .rank = 4,
             .shape = {rows, (int64_t)images->channels, (int64_t)images->height,
                       (int64_t)images->width}},
            {.name = dataset_targets_name(request), .dtype = IVON_I64, .rank = 1, .shape = {rows}},
        };
        code = dataset_make(examples, &class, images, request, arrays, targets ? 2 : 1, targets,
                            error);
    }
    if (code)
        images_close(images);
    return code;
}
