/*
 * Feeds mutated files to a fuzz target: driver RUNS SEED FILE... The mutations are a function of
 * SEED. An input is saved before it is tried and removed after, so what is left is what failed: in
 * $TMPDIR, or in /dev/shm.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum {
    SIZE_LIMIT = 1 << 20,
    MEMORY_KB = 1 << 20,
    CPU_SECONDS = 60,   /* for one input; more is too slow */
    WALL_SECONDS = 900, /* against waiting for ever: far more, as the machine may be busy */
};

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
    static const uint64_t edges[] = {0,
                                     1,
                                     0x7f,
                                     0xff,
                                     0x7fff,
                                     0xffff,
                                     0x7fffffff,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0xffffffffffffffff,
                                     0x100000000};
    uint64_t value = edges[below(sizeof edges / sizeof edges[0])];
    size_t width = (size_t)1 << below(4);
    if (bytes->size >= width)
        memcpy(bytes->data + below(bytes->size - width + 1), &value, width);
}

/* Adds a little to a little-endian integer, as sizes and counts that are off by a few. */
static void nudge_integer(struct bytes *bytes)
{
    uint64_t value = 0;
    size_t width = (size_t)1 << below(4);
    if (bytes->size < width)
        return;
    unsigned char *at = bytes->data + below(bytes->size - width + 1);
    memcpy(&value, at, width);
    value += below(33) - 16;
    memcpy(at, &value, width);
}

static void move_block(struct bytes *to, const struct bytes *from)
{
    size_t length = 1 + below(64);
    if (to->size > length && from->size > length)
        memmove(to->data + below(to->size - length), from->data + below(from->size - length),
                length);
}

/* Cuts the input, makes it longer, or gives it another's header. */
static void reshape(struct bytes *bytes, const struct bytes *other)
{
    size_t length = 1 + below(2048);
    switch (below(8)) {
    case 0:
    case 1:
        bytes->size = 1 + below(bytes->size);
        break;
    case 2:
        if (length > SIZE_LIMIT - bytes->size)
            break;
        memset(bytes->data + bytes->size, (int)below(256), length);
        bytes->size += length;
        break;
    case 3:
        if (other->size >= 512 && bytes->size >= 512)
            memcpy(bytes->data, other->data, 512);
    }
}

static void mutate(struct bytes *bytes, const struct bytes *other)
{
    for (size_t times = 1 + below(8); times--;) {
        size_t at = below(bytes->size);
        switch (below(9)) {
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
        case 7:
            nudge_integer(bytes);
            break;
        default:
            reshape(bytes, other);
        }
    }
}

/* Mutations that know the format, of a target that has some, ask for others by libFuzzer's name. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
    __attribute__((weak));
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room)
{
    static struct bytes bytes;
    bytes.size = size < SIZE_LIMIT ? size : SIZE_LIMIT;
    memcpy(bytes.data, data, bytes.size);
    mutate(&bytes, &bytes);
    bytes.size = bytes.size < room ? bytes.size : room;
    memcpy(data, bytes.data, bytes.size);
    return bytes.size;
}

/* The bytes as they are, or what they mean to the format. */
static void change(struct bytes *bytes, const struct bytes *other)
{
    if (!LLVMFuzzerCustomMutator || below(2))
        mutate(bytes, other);
    else
        bytes->size = LLVMFuzzerCustomMutator(bytes->data, bytes->size, SIZE_LIMIT,
                                              (unsigned)below(UINT32_MAX));
}

static void save(const struct bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes->data, 1, bytes->size, file) != bytes->size)
        perror(path);
    if (file)
        fclose(file);
}

static double seconds(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           1e-6 * (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

/* What the process and its children used so far. */
struct usage {
    double seconds;
    long memory, child_memory; /* the largest yet, in kB */
};

static struct usage usage_now(void)
{
    struct rusage self, children;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return (struct usage){seconds(&self) + seconds(&children), self.ru_maxrss, children.ru_maxrss};
}

/* Tries one input within its limits; one that hangs ends the process by a signal. */
static int try_input(const struct bytes *input, double *longest)
{
    double start = usage_now().seconds;
    alarm(WALL_SECONDS);
    int result = fuzz_one(input->data, input->size);
    watch_check();
    alarm(0);
    struct usage usage = usage_now();
    double spent = usage.seconds - start;
    if (spent > CPU_SECONDS || usage.memory > MEMORY_KB || usage.child_memory > MEMORY_KB) {
        fprintf(stderr, "too much: %.1f s, %ld kB, %ld kB in a child\n", spent, usage.memory,
                usage.child_memory);
        abort();
    }
    *longest = spent > *longest ? spent : *longest;
    return result;
}

int main(int argc, char **argv)
{
    static struct bytes input, other;
    char path[4096];
    const char *directory = getenv("TMPDIR");
    long runs = argc > 3 ? atol(argv[1]) : 0, accepted = 0;
    double longest = 0;
    if (!runs) {
        fprintf(stderr, "usage: %s RUNS SEED FILE...\n", argv[0]);
        return 64;
    }
    watch_begin();
    state = strtoull(argv[2], NULL, 10) * 2654435761 + 1;
    snprintf(path, sizeof path, "%s/ivon-fuzz-failed-%d", directory ? directory : "/dev/shm",
             (int)getpid());
    for (long i = 0; i < runs; i++) {
        load(&input, argv[3 + below((size_t)argc - 3)]);
        load(&other, argv[3 + below((size_t)argc - 3)]);
        if (i >= argc - 3) /* the seeds themselves come first, unchanged */
            change(&input, &other);
        else
            load(&input, argv[3 + i]);
        save(&input, path);
        accepted += try_input(&input, &longest) == 0;
    }
    unlink(path);
    struct usage usage = usage_now();
    printf("%.0f s of processor time, %.1f s for the slowest; %ld kB, %ld kB in a child\n",
           usage.seconds, longest, usage.memory, usage.child_memory);
    printf("%ld inputs: %ld accepted, %ld refused, 0 crashes\n", runs, accepted, runs - accepted);
    return 0;
}
