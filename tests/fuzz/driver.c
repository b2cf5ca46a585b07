/*
 * Feeds mutated files to a fuzz target: driver RUNS SEED FILE... The mutations are a function of
 * SEED. An input is saved before it is tried and removed after, so what is left is what failed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { SIZE_LIMIT = 1 << 20, SECONDS = 120, MEMORY_KB = 1 << 20 };

static uint64_t state;

static size_t below(size_t bound)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return bound ? (size_t)((state >> 33) % bound) : 0;
}

struct bytes {
    unsigned char data[SIZE_LIMIT];
    size_t size;
};

static void load(struct bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "rb");
    bytes->size = file ? fread(bytes->data, 1, SIZE_LIMIT, file) : 0;
    if (file)
        fclose(file);
}

static void put_integer(struct bytes *bytes)
{
    static const uint64_t edges[] = {0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff,
                                     0x7fffffffffffffff, 0xffffffffffffffff, 0x100000000};
    uint64_t value = edges[below(sizeof edges / sizeof edges[0])];
    size_t width = (size_t)1 << below(4);
    if (bytes->size >= width)
        memcpy(bytes->data + below(bytes->size - width + 1), &value, width);
}

static void move_block(struct bytes *to, const struct bytes *from)
{
    size_t length = 1 + below(64);
    if (to->size > length && from->size > length)
        memmove(to->data + below(to->size - length), from->data + below(from->size - length),
                length);
}

static void mutate(struct bytes *bytes, const struct bytes *other)
{
    for (size_t times = 1 + below(8); times--;) {
        size_t at = below(bytes->size);
        switch (below(8)) {
        case 0:
        case 1:
            bytes->data[at] ^= (unsigned char)(1 << below(8));
            break;
        case 2:
            bytes->data[at] = (unsigned char)below(256);
            break;
        case 3:
        case 4:
            put_integer(bytes);
            break;
        case 5:
            move_block(bytes, bytes);
            break;
        case 6:
            move_block(bytes, other);
            break;
        default:
            if (below(4) == 0) /* cut it, or swap its header */
                bytes->size = at + 1;
            else if (below(4) == 0 && other->size >= 512 && bytes->size >= 512)
                memcpy(bytes->data, other->data, 512);
        }
    }
}

static void save(const struct bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes->data, 1, bytes->size, file) != bytes->size)
        perror(path);
    if (file)
        fclose(file);
}

static void check_memory(void)
{
    struct rusage self, children;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    if (self.ru_maxrss < MEMORY_KB && children.ru_maxrss < MEMORY_KB)
        return;
    fprintf(stderr, "memory: %ld kB, of a child %ld kB\n", self.ru_maxrss, children.ru_maxrss);
    abort();
}

int main(int argc, char **argv)
{
    static struct bytes input, other;
    char path[64];
    long runs = argc > 3 ? atol(argv[1]) : 0, accepted = 0;
    if (!runs) {
        fprintf(stderr, "usage: %s RUNS SEED FILE...\n", argv[0]);
        return 64;
    }
    state = strtoull(argv[2], NULL, 10) * 2654435761 + 1;
    snprintf(path, sizeof path, "/dev/shm/ivon-fuzz-failed-%d", (int)getpid());
    for (long i = 0; i < runs; i++) {
        load(&input, argv[3 + below((size_t)argc - 3)]);
        load(&other, argv[3 + below((size_t)argc - 3)]);
        if (i >= argc - 3) /* the seeds themselves come first, unchanged */
            mutate(&input, &other);
        else
            load(&input, argv[3 + i]);
        save(&input, path);
        alarm(SECONDS); /* an input that hangs ends the process by its signal */
        accepted += LLVMFuzzerTestOneInput(input.data, input.size) == 0;
        alarm(0);
        check_memory();
    }
    unlink(path);
    printf("%ld inputs: %ld accepted, %ld refused, 0 crashes\n", runs, accepted, runs - accepted);
    return 0;
}
