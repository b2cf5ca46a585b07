/* Opens bytes as an ONNX file that is a checkpoint, with external data beside it; reads all of it,
   the graph as a network too, and writes what it holds as ONNX again, to be opened again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/source.h"

enum { EXTERNAL = 256 /* bytes of external data */, SMALL = 1 << 16 };

static char directory[4000], path[4096], external[4096], written[4096];

static void remove_files(void)
{
    unlink(path);
    unlink(external);
    unlink(written);
    rmdir(directory);
}

static void write_file(const char *name, const void *data, size_t size)
{
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
}

/* A directory of its own, with weights.bin, for all inputs. */
static void make_directory(void)
{
    static const char weights[EXTERNAL];
    const char *scratch = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/ivon-fuzz-XXXXXX", scratch ? scratch : "/dev/shm");
    assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/model.onnx", directory);
    snprintf(external, sizeof external, "%s/weights.bin", directory);
    snprintf(written, sizeof written, "%s/written.onnx", directory);
    write_file(external, weights, sizeof weights);
    atexit(remove_files);
}

static int copy_tensor(struct ivon_source *source, size_t from, struct ivon_sink *sink, size_t to,
                       struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, from);
    size_t size = tensor->count * ivon_dtype_size(tensor->dtype);
    void *buffer = malloc(size + 1);
    assert(buffer);
    int code = ivon_source_read(source, from, 0, tensor->count, buffer, error);
    if (!code)
        code = ivon_sink_write(sink, to, 0, tensor->count, buffer, error);
    free(buffer);
    return code;
}

/* Types may differ between an initializer and the input of its name, which are an error. */
static void write_again(struct ivon_source *source)
{
    struct ivon_error error = {0};
    struct ivon_create_options options = ivon_create_defaults();
    struct ivon_sink *sink = NULL;
    size_t count = ivon_source_tensor_count(source), copied = 0;
    struct ivon_tensor *tensors = calloc(count + 1, sizeof *tensors);
    size_t *from = calloc(count + 1, sizeof *from);
    assert(tensors && from);
    for (size_t i = 0; i < count; i++) {
        tensors[copied] = *ivon_source_tensor(source, i);
        from[copied] = i;
        copied += tensors[copied].part != IVON_OPAQUE;
    }
    options.replace = true;
    int code = ivon_checkpoint_create(&sink, written, ivon_source_header(source), tensors, copied,
                                      &options, &error);
    for (size_t i = 0; i < copied && !code; i++)
        code = copy_tensor(source, from[i], sink, i, &error);
    if (!code)
        code = ivon_sink_commit(sink, &error);
    ivon_sink_close(sink);
    if (code)
        assert(code == IVON_ERROR_ARGUMENT || code == IVON_ERROR_DATA);
    else
        assert(read_checkpoint(written, NULL) == 0);
    free(tensors);
    free(from);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    struct ivon_source *source = NULL;
    struct ivon_network *network = NULL;
    struct ivon_error error = {0};
    if (!*directory)
        make_directory();
    write_file(path, data, size);
    if (read_checkpoint(path, NULL))
        return -1;
    assert(ivon_checkpoint_open(&source, path, NULL, &error) == 0);
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part == IVON_GRAPH) {
            int code = ivon_onnx_from_checkpoint(&network, source, &error);
            if (code)
                check_error(code, &error);
            ivon_network_free(network);
            if (size < SMALL)
                write_again(source);
            break;
        }
    ivon_source_close(source);
    return 0;
}
