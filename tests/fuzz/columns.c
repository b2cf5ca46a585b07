/* Opens bytes as a table and reads all of its columns, as numbers and as text. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ivon/columns.h"
#include "tests/fuzz/fuzz.h"

enum { ROWS_MOST = 1 << 20, READ_MOST = 64 /* columns, where a small file claims very many */ };

static void check_error(int code, const struct ivon_error *error)
{
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

static int take(void *context, uint64_t row, const char *text, struct ivon_error *error)
{
    uint64_t *expected = context;
    (void)error;
    assert(row == (*expected)++ && strlen(text) < SIZE_MAX);
    return 0;
}

static void read_column(struct ivon_columns *columns, size_t column)
{
    struct ivon_error error = {0};
    uint64_t rows = ivon_columns_rows(columns), taken = 0;
    double *numbers = calloc(rows + 1, sizeof *numbers);
    size_t found;
    assert(numbers);
    assert(ivon_columns_has(columns, ivon_columns_name(columns, column)));
    int code = ivon_columns_find(columns, ivon_columns_name(columns, column), &found, &error);
    assert(code ? code == IVON_ERROR_DATA : found == column);
    code = ivon_columns_read(columns, column, numbers, &error);
    if (code)
        check_error(code, &error);
    code = ivon_columns_read_text(columns, column, take, &taken, &error);
    if (code)
        check_error(code, &error);
    else
        assert(taken == rows);
    free(numbers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ivon_columns_options options = {.memory = 4 << 20};
    char path[4096];
    const char *directory = getenv("TMPDIR");
    struct ivon_columns *columns = NULL;
    struct ivon_error error = {0};
    snprintf(path, sizeof path, "%s/ivon-fuzz-XXXXXX", directory ? directory : "/dev/shm");
    int file = mkstemp(path);
    assert(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
    int code = ivon_columns_open(&columns, path, &options, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_columns_count(columns) && i < READ_MOST; i++)
        if (ivon_columns_rows(columns) <= ROWS_MOST)
            read_column(columns, i);
    ivon_columns_close(columns);
    unlink(path);
    return code ? -1 : 0;
}
