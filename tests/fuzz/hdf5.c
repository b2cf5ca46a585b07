/*
 * What meets an HDF5 file in a process of its own: the list of what is in it, and every data set
 * read. That process is kept from one input to the next, as to start it takes longer than to read;
 * when the HDF5 library crashes or runs in circles, which is what it is for, the next input starts
 * another.
 */
#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/stream.h"
#include "formats/hdf5/catalogue.h"
#include "formats/hdf5/dataset.h"
#include "formats/hdf5/safe.h"
#include "tests/fuzz/fuzz.h"

enum {
    SIZE_LIMIT = 1 << 20,
    CHUNK_MAX = 1 << 20,
    READ_MOST = 1 << 16,   /* bytes of a data set */
    MICROSECONDS = 300000, /* of processor time; honest files take a few thousand */
    INPUTS = 500,          /* of one process, against what the HDF5 library does not give back */
};

struct exchange {
    size_t size;
    uint8_t data[SIZE_LIMIT];
};

static struct exchange *exchange;
static pid_t reader;
static int line = -1; /* to the reader */

static herr_t innermost(unsigned n, const H5E_error2_t *entry, void *reason)
{
    if (n == 0 && entry->desc)
        snprintf(reason, 256, "%s", entry->desc);
    return 0;
}

static herr_t failed(hid_t stack, void *reason)
{
    return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, reason);
}

static void read_dataset(const struct hdf5_catalogue *catalogue, size_t index)
{
    static char room[READ_MOST];
    struct hdf5_dataset shape = {0};
    hid_t dataset = H5Dopen2(catalogue->file, catalogue->paths[index], H5P_DEFAULT);
    if (dataset < 0)
        return;
    const char *refused = hdf5_dataset_examine(dataset, catalogue->file_size, CHUNK_MAX, &shape);
    size_t whole = 0, size = refused ? 1 : ivon_dtype_size(shape.dtype);
    if (!refused && tensor_shape_count(shape.rank, shape.shape, size, &whole) && whole) {
        uint64_t most = sizeof room / size, count = whole < most ? whole : most;
        hdf5_dataset_read(dataset, &shape, 0, count, room);
        hdf5_dataset_read(dataset, &shape, whole - count, count, room);
    }
    if (refused && shape.string_size) {
        uint64_t most = sizeof room / shape.string_size, rows = (uint64_t)shape.shape[0];
        hdf5_dataset_read_strings(dataset, &shape, 0, rows < most ? rows : most, room, "none");
    }
    H5Dclose(dataset);
}

/* Whether the file could be listed. */
static unsigned char read_file(char *reason)
{
    uint8_t *copy = malloc(exchange->size); /* exactly as large, so that a step too far is seen */
    if (!copy)
        return 0;
    memcpy(copy, exchange->data, exchange->size);
    const struct mapped_file file = {.data = copy, .size = exchange->size};
    struct hdf5_catalogue catalogue = {.reason = reason, .chunk_max = CHUNK_MAX, .file = -1};
    hdf5_catalogue_make(&catalogue, &file);
    bool listed = catalogue.size && catalogue.data[0] == 0;
    for (size_t i = 0; listed && i < catalogue.object_count; i++)
        read_dataset(&catalogue, i);
    if (catalogue.file >= 0)
        H5Fclose(catalogue.file);
    for (size_t i = 0; i < catalogue.object_count; i++)
        free(catalogue.paths[i]);
    free(catalogue.paths);
    free(catalogue.groups);
    free(catalogue.data);
    free(copy);
    return listed;
}

static _Noreturn void serve(int socket)
{
    static char reason[256] = "no reason given";
    unsigned char byte;
    watch_signals();
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, failed, reason);
    H5Lunregister(H5L_TYPE_EXTERNAL);
    H5PLset_loading_state(0);
    for (int i = 0; i < INPUTS && recv(socket, &byte, 1, 0) == 1; i++) {
        struct itimerval timer = {.it_value.tv_usec = MICROSECONDS};
        setitimer(ITIMER_PROF, &timer, NULL);
        byte = read_file(reason);
        send(socket, &byte, 1, MSG_NOSIGNAL);
    }
    _exit(0);
}

static void start_reader(void)
{
    int ends[2];
    if (!exchange) {
        void *shared = mmap(NULL, sizeof *exchange, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert(shared != MAP_FAILED);
        exchange = shared;
    }
    assert(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    reader = fork();
    assert(reader >= 0);
    if (reader == 0) {
        close(ends[0]);
        serve(ends[1]);
    }
    close(ends[1]);
    line = ends[0];
}

/* -1: the reader did not answer. */
static int ask(void)
{
    unsigned char byte = 0;
    return send(line, &byte, 1, MSG_NOSIGNAL) == 1 && recv(line, &byte, 1, 0) == 1 ? byte : -1;
}

/* Whether it had come to its end. */
static bool stop_reader(void)
{
    int status = 0;
    close(line);
    line = -1;
    waitpid(reader, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    if (!size || size > SIZE_LIMIT)
        return -1;
    if (line < 0)
        start_reader();
    exchange->size = size;
    memcpy(exchange->data, data, size);
    int answer = ask();
    if (answer < 0 && stop_reader()) {
        start_reader();
        answer = ask();
    }
    if (answer < 0 && line >= 0)
        stop_reader();
    return answer == 1 ? 0 : -1;
}
