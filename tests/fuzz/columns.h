/* What the targets that open tables have in common: all columns read, as numbers and as text. */
#ifndef TESTS_FUZZ_COLUMNS_H
#define TESTS_FUZZ_COLUMNS_H

#include <string.h>

#include "ivon/table_reader.h"
#include "tests/fuzz/input.h"

enum { ROWS_MOST = 1 << 20, READ_MOST = 64 /* columns, where a small file claims very many */ };

static inline void check_error(int code, const struct ivon_error *error)
{
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

static inline int take(void *context, uint64_t row, const char *text, struct ivon_error *error)
{
    uint64_t *expected = context;
    (void)error;
    assert(row == (*expected)++ && strlen(text) < SIZE_MAX);
    return 0;
}

static inline void read_column(struct ivon_table_reader *columns, size_t column)
{
    struct ivon_error error = {0};
    uint64_t rows = ivon_table_reader_rows(columns), taken = 0;
    double *numbers = calloc(rows + 1, sizeof *numbers);
    size_t found;
    assert(numbers);
    assert(ivon_table_reader_has(columns, ivon_table_reader_name(columns, column)));
    int code = ivon_table_reader_find(columns, ivon_table_reader_name(columns, column), &found,
                                      &error);
    assert(code ? code == IVON_ERROR_DATA : found == column);
    code = ivon_table_reader_read(columns, column, numbers, &error);
    if (code)
        check_error(code, &error);
    code = ivon_table_reader_read_text(columns, column, take, &taken, &error);
    if (code)
        check_error(code, &error);
    else
        assert(taken == rows);
    free(numbers);
}

/* The table, where `unfold` is not null by the elements of that column. */
static inline int read_table_by(const uint8_t *data, size_t size, const char *unfold)
{
    const struct ivon_table_reader_options options = {
        .size = sizeof options, .resources.memory = 4 << 20, .unfold = unfold};
    struct ivon_table_reader *columns = NULL;
    struct ivon_error error = {0};
    int code = ivon_table_reader_open(&columns, input_file(0, data, size), &options, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_table_reader_count(columns) && i < READ_MOST; i++)
        if (ivon_table_reader_rows(columns) <= ROWS_MOST)
            read_column(columns, i);
    ivon_table_reader_close(columns);
    return code ? -1 : 0;
}

static inline int read_table(const uint8_t *data, size_t size)
{
    int unfolded = read_table_by(data, size, "p");
    return read_table_by(data, size, NULL) ? unfolded : 0;
}

#endif
