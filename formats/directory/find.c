/* The file of weights in a model's directory. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "formats/directory/directory.h"
#include "formats/io/strings.h"

const char *const directory_weights_names[DIRECTORY_WEIGHTS_COUNT] = {
    DIRECTORY_WEIGHTS,    DIRECTORY_INDEX,    "pytorch_model.bin", "pytorch_model.bin.index.json",
    "flax_model.msgpack", "model.weights.h5", "model.weights.json"};
const char *const directory_factors_names[DIRECTORY_FACTORS_COUNT] = {DIRECTORY_FACTORS,
                                                                      "adapter_model.bin"};
static const char *const adapter_config = "adapter_config.json";
/* Files that Orbax puts into its directories, by versions. */
static const char *const orbax_names[] = {"orbax.checkpoint", "_CHECKPOINT_METADATA", "_METADATA",
                                          "manifest.ocdbt"};

bool directory_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

char *directory_path(const char *directory, const char *name)
{
    char *path;
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/')
        length--;
    bool root = length == 1 && *directory == '/';
    return asprintf(&path, "%.*s%s%s", (int)length, directory, root ? "" : "/", name) < 0 ? NULL
                                                                                          : path;
}

/* The first of some names that a directory has, as a path to be freed; null for none. A link that
   leads nowhere is there: to open it says what is wrong with it. */
static char *find_first(const char *directory, const char *const *names, size_t count)
{
    struct stat status;
    char *found = NULL;
    for (size_t i = 0; i < count && !found; i++) {
        found = directory_path(directory, names[i]);
        if (found && lstat(found, &status) == 0)
            break;
        free(found);
        found = NULL;
    }
    return found;
}

/* Refuses a directory in which weights, unless they are null, lie beside an adapter, or alone its
   factors are. */
static int refuse_adapter(const char *directory, const char *weights, const char *factors,
                          struct ivon_error *error)
{
    if (weights)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s: holds a model and an adapter (%s): name %s, or the adapter's "
                              "file",
                              directory, adapter_config, weights);
    return ivon_error_set(error, IVON_ERROR_INPUT, "%s: is a directory%s%s", directory,
                          factors ? ": name " : " of an adapter, without its weights",
                          factors ? factors : "");
}

static int refuse_directory(const char *directory, struct ivon_error *error)
{
    char expected[256];
    char *orbax = find_first(directory, orbax_names, sizeof orbax_names / sizeof *orbax_names);
    free(orbax);
    if (orbax)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s: is a checkpoint of Orbax, which is not read here: save its "
                              "arrays by Python as safetensors",
                              directory);
    strings_alternatives(expected, sizeof expected, directory_weights_names,
                         DIRECTORY_WEIGHTS_COUNT);
    return ivon_error_set(error, IVON_ERROR_INPUT,
                          "%s: is a directory, expected a file, or %s in it", directory, expected);
}

int ivon_directory_find(char **file, const char *path, struct ivon_error *error)
{
    if (!directory_exists(path)) {
        *file = strdup(path);
        return *file ? 0 : ivon_error_memory(error);
    }
    char *weights = find_first(path, directory_weights_names, DIRECTORY_WEIGHTS_COUNT);
    char *config = find_first(path, &adapter_config, 1);
    char *factors = find_first(path, directory_factors_names, DIRECTORY_FACTORS_COUNT);
    int code = 0;
    if (config || (factors && !weights))
        code = refuse_adapter(path, weights, factors, error);
    else if (!weights)
        code = refuse_directory(path, error);
    free(config);
    free(factors);
    if (code)
        free(weights);
    else
        *file = weights;
    return code;
}

char *ivon_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (directory_exists(path))
        return strdup(path);
    for (size_t i = 0; i < DIRECTORY_WEIGHTS_COUNT; i++)
        if (strcmp(name, directory_weights_names[i]) == 0)
            return slash ? strndup(path, (size_t)(slash - path) + (slash == path)) : strdup(".");
    return NULL;
}
