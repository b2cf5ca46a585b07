/* The files of a PEFT adapter: its factors, and adapter_config.json beside them. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/io/mapped.h"
#include "ivon/adapter.h"
#include "ivon/checkpoint.h"

static const char *const config_name = "adapter_config.json";

/* DIRECTORY/NAME, to be freed, of a directory's `length` bytes; null when memory is exhausted. */
static char *adapter_path(const char *directory, size_t length, const char *name)
{
    char *path;
    return asprintf(&path, "%.*s/%s", (int)length, directory, name) < 0 ? NULL : path;
}

static bool adapter_exists(const char *directory, const char *name)
{
    char *path = adapter_path(directory, strlen(directory), name);
    bool exists = path && access(path, F_OK) == 0;
    free(path);
    return exists;
}

char *ivon_checkpoint_adapter_file(const char *path)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
    size_t length = strlen(path);
    if (!adapter_exists(path, config_name))
        return strdup(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return adapter_path(path, length, names[!adapter_exists(path, names[0])]);
}

char *ivon_checkpoint_adapter_config(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *config = slash ? adapter_path(path, (size_t)(slash - path), config_name)
                         : strdup(config_name);
    if (config && access(config, F_OK) == 0)
        return config;
    free(config);
    return NULL;
}

int ivon_checkpoint_apply_adapter(struct ivon_source **source, struct ivon_source *base,
                                  struct ivon_source *factors, struct ivon_error *error)
{
    struct mapped_file file = {0};
    const char *path = ivon_source_path(factors);
    char *config = ivon_checkpoint_adapter_config(path);
    int code = config ? mapped_open(&file, config, error)
                      : ivon_error_set(error, IVON_ERROR_DATA,
                                       "%s: has factors of an adapter, and no %s beside it", path,
                                       config_name);
    free(config);
    if (code) {
        ivon_source_close(factors);
        return code;
    }
    const char *text = file.data ? (const char *)file.data : "";
    code = ivon_adapter_apply(source, base, factors, text, file.size, error);
    mapped_close(&file);
    return code;
}
