#include "ivon/output.h"

#include "formats/io/atomic.h"

int ivon_output_write(const char *path, const void *data, size_t size, bool replace,
                      struct ivon_error *error)
{
    struct atomic_file file;
    int code = atomic_open(&file, path, replace, error);
    if (code)
        return code;
    code = atomic_write(&file, 0, data, size, error);
    if (!code)
        code = atomic_commit(&file, error);
    atomic_close(&file);
    return code;
}
