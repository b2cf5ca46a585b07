/* An index and two shards beside it, by the names that the target gives in `names`. */
#ifndef TESTS_FUZZ_SHARDED_H
#define TESTS_FUZZ_SHARDED_H

#include "tests/fuzz/parts.h"
#include "tests/fuzz/source.h"

static char directory[4000], paths[PARTS][4096];

static void remove_files(void)
{
    for (size_t i = 0; i < PARTS; i++)
        unlink(paths[i]);
    rmdir(directory);
}

static void make_directory(void)
{
    const char *scratch = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/ivon-fuzz-XXXXXX", scratch ? scratch : "/dev/shm");
    assert(mkdtemp(directory));
    for (size_t i = 0; i < PARTS; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", directory, names[i]);
    atexit(remove_files);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    const struct ivon_open_options options = {.size = sizeof options, .resources.memory = 4 << 20};
    struct part parts[PARTS];
    if (!*directory)
        make_directory();
    split_parts(parts, PARTS, data, size);
    for (size_t i = 0; i < PARTS; i++) {
        int file = open(paths[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert(file >= 0 && write(file, parts[i].data, parts[i].size) == (ssize_t)parts[i].size);
        close(file);
    }
    return read_checkpoint(paths[0], &options) ? -1 : 0;
}

#endif
