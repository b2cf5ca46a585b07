/* A directory of the test's own, files in it, and data sets in those. */
#ifndef TESTS_UNIT_FILES_H
#define TESTS_UNIT_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ivon/dataset.h"

/* Group set-up and tear-down: the directory becomes the working one, and goes with its files. */
static inline int enter_directory(void **state)
{
    char name[] = "/tmp/ivon-test-XXXXXX";
    *state = mkdtemp(name) && chdir(name) == 0 ? strdup(name) : NULL;
    return *state ? 0 : -1;
}

static inline int leave_directory(void **state)
{
    char command[64];
    snprintf(command, sizeof command, "rm -r '%s'", (char *)*state);
    free(*state);
    return system(command);
}

/* The same, where every test removes what it made: fails if a file is left. */
static inline int leave_empty_directory(void **state)
{
    int failed = chdir("/") || rmdir((char *)*state);
    free(*state);
    return failed;
}

/* Removes all files of the working directory, hidden ones too. */
static inline int clean_directory(void **state)
{
    (void)state;
    return system("rm -rf -- * .[!.]*");
}

static inline void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_true(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static inline void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

/* Opens examples that are as they should be, or are not and are refused for that. */
static inline struct ivon_examples *open_fine(const char *path,
                                              const struct ivon_dataset_options *options)
{
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {.message = "none"};
    if (ivon_dataset_open(&examples, path, options, &error))
        fail_msg("%s", error.message);
    assert_string_equal(ivon_examples_path(examples), path);
    return examples;
}

static inline void open_refused(const char *path, const struct ivon_dataset_options *options,
                                int code, const char *message)
{
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {.message = "none"};
    int found = ivon_dataset_open(&examples, path, options, &error);
    if (found != code || !strstr(error.message, message))
        fail_msg("%s: %d '%s', expected %d '%s'", path, found, error.message, code, message);
    assert_null(examples);
}

/* Bytes that grow. */
struct buffer {
    unsigned char data[1 << 20];
    size_t size;
};

static inline void put(struct buffer *buffer, const void *data, size_t size)
{
    assert_true(size <= sizeof buffer->data - buffer->size);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

/* The lowest `size` bytes of an integer; zeros beyond its own. */
static inline void put_little(struct buffer *buffer, uint64_t value, size_t size)
{
    for (; size--; value >>= 8)
        put(buffer, &(unsigned char){value & 0xff}, 1);
}

static inline void put_big(struct buffer *buffer, uint64_t value, size_t size)
{
    for (size_t i = size; i--;)
        put_little(buffer, value >> 8 * i, 1);
}

#endif
