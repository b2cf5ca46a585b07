/* A base, and an adapter upon it: its factors, and its configuration beside them. */
#include "tests/fuzz/parts.h"
#include "tests/fuzz/source.h"

enum { BASE, FACTORS, CONFIG };

static char directory[4000], paths[PARTS][4096];

static void remove_files(void)
{
    for (size_t i = FACTORS; i < PARTS; i++)
        unlink(paths[i]);
    rmdir(directory);
}

static void make_directory(void)
{
    const char *scratch = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/ivon-fuzz-XXXXXX", scratch ? scratch : "/dev/shm");
    assert(mkdtemp(directory));
    snprintf(paths[FACTORS], sizeof paths[0], "%s/adapter_model.safetensors", directory);
    snprintf(paths[CONFIG], sizeof paths[0], "%s/adapter_config.json", directory);
    atexit(remove_files);
}

static int apply(struct ivon_source *base, const struct ivon_open_options *options)
{
    struct ivon_source *source = NULL, *factors = NULL;
    struct ivon_error error = {0};
    char *path = ivon_checkpoint_adapter_file(directory);
    int code = ivon_checkpoint_open(&factors, path, options, &error);
    if (!code && ivon_adapter_recognise(factors))
        code = ivon_checkpoint_apply_adapter(&source, base, factors, &error);
    else if (!code)
        source = factors;
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_source_tensor_count(source); i++)
        read_tensor(source, i);
    ivon_source_close(source);
    free(path);
    return code;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    const struct ivon_open_options options = {.size = sizeof options, .resources.memory = 4 << 20};
    struct ivon_source *base = NULL;
    struct ivon_error error = {0};
    struct part parts[PARTS];
    if (is_hdf5(data, size))
        return -1;
    if (!*directory)
        make_directory();
    split_parts(parts, PARTS, data, size);
    for (size_t i = FACTORS; i < PARTS; i++) {
        int file = open(paths[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert(file >= 0 && write(file, parts[i].data, parts[i].size) == (ssize_t)parts[i].size);
        close(file);
    }
    int code = ivon_checkpoint_open(&base, input_file(0, parts[BASE].data, parts[BASE].size),
                                    &options, &error);
    if (code)
        check_error(code, &error);
    else
        code = apply(base, &options);
    ivon_source_close(base);
    return code ? -1 : 0;
}
