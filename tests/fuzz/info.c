/* Bytes as a checkpoint that `ivon info` tells about, the JSON that they hold included: what it
   prints is JSON in turn. */
#include <jansson.h>

#include "cmd/shared/command.h"
#include "tests/fuzz/input.h"

/* What the command prints, to be freed. */
static char *run(const char *path, const char *option, int *status)
{
    char name[] = "ivon-info", json[] = "--json", quiet[] = "--quiet", other[32], file[INPUT_PATH];
    char open[] = "--no-sandbox"; /* the process goes on: it may not give up what it needs */
    char *text = NULL;
    char *arguments[] = {name, json, quiet, open, other, file, NULL};
    size_t size;
    FILE *screen = stdout;
    snprintf(other, sizeof other, "%s", option);
    snprintf(file, sizeof file, "%s", path);
    stdout = open_memstream(&text, &size);
    assert(stdout);
    *status = info_run(6, arguments);
    fclose(stdout);
    stdout = screen;
    return text;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    FILE *errors = stderr;
    int refused = 0;
    if (is_hdf5(data, size))
        return -1;
    if (!nowhere)
        nowhere = fopen("/dev/null", "w");
    stderr = nowhere;
    const char *path = input_file(0, data, size);
    for (int i = 0; i < 3; i++) {
        static const char *const options[] = {"--tensors", "--header", "--check"};
        int status;
        char *text = run(path, options[i], &status);
        json_t *told = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        assert(told || status > 1);
        json_decref(told);
        free(text);
        refused |= status > 1;
    }
    stderr = errors;
    return refused ? -1 : 0;
}
