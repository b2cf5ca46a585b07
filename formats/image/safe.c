#include "formats/image/safe.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/image/resample.h"
#include "formats/io/mapped.h"
#include "formats/io/sandbox.h"

enum {
    WINDOW_SIZE = 3 * IMAGE_PIXELS_MAX, /* bytes: a file, and then what it became */
    CHILD_MEMORY = 1 << 30, /* bytes: a progressive JPEG takes 9 for a pixel, and more */
    CHILD_SECONDS = 20,     /* for one picture; honest ones take a few */
};

/* The two sides are one program: integers are in the machine's own order. The window has the file
   when the child is asked, and the planes when it has answered. */
struct image_question {
    uint64_t size;     /* of the file */
    uint64_t channels; /* or 0 */
};

struct image_answer {
    uint64_t channels, height, width, own_channels;
    char reason[IMAGE_REASON_SIZE]; /* empty on success */
};

struct image_reader {
    struct sandbox sandbox;
    struct image_fit fit;
};

/* The child. */

static void image_child_answer(const struct sandbox_child *child, const struct image_fit *fit,
                               const struct image_question *question, struct image_answer *answer)
{
    struct image image = {0};
    bool fine = question->size <= child->window_size &&
                image_decode(&image, child->window, (size_t)question->size, answer->reason);
    answer->own_channels = image.channels;
    answer->channels = question->channels ? question->channels : image.channels;
    if (fine && answer->channels == 1)
        image_make_grey(&image);
    if (fine && !image_resample(&image, fit)) {
        snprintf(answer->reason, sizeof answer->reason, "memory is exhausted");
        fine = false;
    }
    if (fine) {
        answer->height = image.height;
        answer->width = image.width;
        *answer->reason = '\0';
        image_copy_planes(child->window, &image, (size_t)answer->channels);
    }
    image_release(&image);
}

static void image_child_serve(struct sandbox_child *child, void *fit)
{
    struct image_question question;
    while (sandbox_receive(child->socket, &question, sizeof question)) {
        struct image_answer answer = {.reason = "cannot be read"};
        sandbox_rewind_clock(child);
        image_child_answer(child, fit, &question, &answer);
        if (!sandbox_send(child->socket, &answer, sizeof answer))
            return;
    }
}

/* The parent. */

int image_reader_open(struct image_reader **out, const struct image_fit *fit, bool confine,
                      struct ivon_error *error)
{
    const struct sandbox_limits limits = {.confine = confine,
                                          .memory = CHILD_MEMORY,
                                          .seconds = CHILD_SECONDS,
                                          .window_size = WINDOW_SIZE};
    struct image_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return ivon_error_memory(error);
    reader->fit = *fit;
    int code = sandbox_start(&reader->sandbox, &limits, image_child_serve, &reader->fit, error);
    if (code)
        image_reader_close(reader);
    else
        *out = reader;
    return code;
}

void image_reader_close(struct image_reader *reader)
{
    if (!reader)
        return;
    sandbox_stop(&reader->sandbox);
    free(reader);
}

/* Puts a file into the window. */
static int image_reader_load(struct image_reader *reader, const char *path, uint64_t *size,
                             struct ivon_error *error)
{
    struct mapped_file file;
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    *size = file.size;
    if (file.size > reader->sandbox.window_size)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has %llu bytes, expected at most %zu",
                              path, (unsigned long long)file.size, reader->sandbox.window_size);
    else if (file.size)
        memcpy(reader->sandbox.window, file.data, (size_t)file.size);
    mapped_close(&file);
    return code;
}

/* The child may have been taken over by a file: only its pixels are believed. */
static bool image_answer_is_sane(const struct image_answer *answer)
{
    return (answer->channels == 1 || answer->channels == 3) && answer->height && answer->width &&
           answer->height <= IMAGE_SIDE_MAX && answer->width <= IMAGE_SIDE_MAX &&
           answer->height * answer->width <= IMAGE_PIXELS_MAX;
}

int image_reader_read(struct image_reader *reader, const char *path, size_t channels,
                      struct image_planes *planes, struct ivon_error *error)
{
    struct image_question question = {.channels = channels};
    struct image_answer answer;
    char buffer[128];
    int code = image_reader_load(reader, path, &question.size, error);
    if (code)
        return code;
    if (!sandbox_running(&reader->sandbox) ||
        !sandbox_send(reader->sandbox.socket, &question, sizeof question) ||
        !sandbox_receive(reader->sandbox.socket, &answer, sizeof answer))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged image: %s", path,
                              sandbox_post_mortem(&reader->sandbox, buffer, sizeof buffer));
    answer.reason[sizeof answer.reason - 1] = '\0';
    if (*answer.reason)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, answer.reason);
    if (!image_answer_is_sane(&answer))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged image: its size is %llu x %llu",
                              path, (unsigned long long)answer.width,
                              (unsigned long long)answer.height);
    *planes = (struct image_planes){.data = reader->sandbox.window,
                                    .channels = (size_t)answer.channels,
                                    .height = (size_t)answer.height,
                                    .width = (size_t)answer.width,
                                    .colour = answer.own_channels == 3};
    return 0;
}
