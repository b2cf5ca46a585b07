/* Tables that are read: every format gives the same columns; what is refused, and how that is
   said. A file that is written whole. */
#include "tests/unit/files.h"

#include <math.h>
#include <sys/stat.h>

#include "ivon/table_reader.h"
#include "ivon/output.h"
#include "ivon/input.h"
#include "ivon/table.h"

static struct ivon_table_reader *open_unfolded(const char *path, const char *unfold)
{
    const struct ivon_table_reader_options options = {.size = sizeof options, .unfold = unfold};
    struct ivon_table_reader *columns = NULL;
    struct ivon_error error = {.message = "none"};
    if (ivon_table_reader_open(&columns, path, unfold ? &options : NULL, &error))
        fail_msg("%s", error.message);
    assert_string_equal(ivon_table_reader_path(columns), path);
    return columns;
}

static struct ivon_table_reader *open_table(const char *path)
{
    return open_unfolded(path, NULL);
}

static void check_numbers(struct ivon_table_reader *columns, const char *name,
                          const double *numbers)
{
    double found[8];
    size_t column = 99;
    struct ivon_error error = {.message = "none"};
    assert_true(ivon_table_reader_rows(columns) <= 8 && ivon_table_reader_has(columns, name));
    assert_int_equal(ivon_table_reader_find(columns, name, &column, &error), 0);
    assert_string_equal(ivon_table_reader_name(columns, column), name);
    if (ivon_table_reader_read(columns, column, found, &error))
        fail_msg("%s", error.message);
    for (size_t i = 0; i < ivon_table_reader_rows(columns); i++)
        assert_true(found[i] == numbers[i] || (isnan(found[i]) && isnan(numbers[i])));
}

struct texts {
    uint64_t rows;
    char all[200];
};

static int take_text(void *context, uint64_t row, const char *text, struct ivon_error *error)
{
    struct texts *texts = context;
    (void)error;
    assert_int_equal(row, texts->rows++);
    strcat(strcat(texts->all, text), "|");
    return 0;
}

static void check_texts(struct ivon_table_reader *columns, const char *name, const char *expected)
{
    struct texts texts = {0};
    size_t column;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(ivon_table_reader_find(columns, name, &column, &error), 0);
    assert_int_equal(ivon_table_reader_read_text(columns, column, take_text, &texts, &error), 0);
    assert_int_equal(texts.rows, ivon_table_reader_rows(columns));
    assert_string_equal(texts.all, expected);
}

static void write_table(const char *path, enum ivon_table_format format)
{
    static const struct ivon_column described[] = {
        {.name = "step", .dtype = IVON_I64},
        {.name = "loss", .dtype = IVON_F64},
        {.name = "p", .dtype = IVON_F32, .rank = 1, .shape = {2}}};
    static const int64_t step[] = {3, 20, 9007199254740992};
    static const double loss[] = {INFINITY, NAN, -INFINITY};
    static const float p[] = {0.5F, 1, 2, 3, 4, 5};
    const struct ivon_table_options options = {
        .size = sizeof options, .format = format, .rows = 3, .own_index = true};
    const void *const data[] = {step, loss, p};
    struct ivon_table *table = NULL;
    struct ivon_error error = {.message = "none"};
    if (ivon_table_create(&table, path, described, 3, &options, &error) ||
        ivon_table_append(table, 3, data, &error) || ivon_table_commit(table, &error))
        fail_msg("%s", error.message);
    ivon_table_close(table);
}

static void reads_what_is_written(void **state)
{
    (void)state;
    static const char *const paths[] = {"a.csv", "a.jsonl", "a.h5"};
    static const enum ivon_table_format formats[] = {IVON_CSV, IVON_JSONL, IVON_HDF5};
    for (int i = 0; i < 3; i++) {
        write_table(paths[i], formats[i]);
        struct ivon_table_reader *columns = open_table(paths[i]);
        assert_int_equal(ivon_table_reader_rows(columns), 3);
        assert_int_equal(ivon_table_reader_count(columns), formats[i] == IVON_CSV ? 4 : 2);
        check_numbers(columns, "step", (const double[]){3, 20, 0x1p53});
        check_numbers(columns, "loss", (const double[]){INFINITY, NAN, -INFINITY});
        check_texts(columns, "step", "3|20|9007199254740992|");
        assert_false(ivon_table_reader_has(columns, "p"));
        ivon_table_reader_close(columns);
    }
}

static void reads_csv(void **state)
{
    (void)state;
    write_text("b.csv", "\xef\xbb\xbf\n\"a \"\"b\"\"\",c\r\n1e-400,\"x \"\"y\"\",\nz\"\n\n"
                        "-inf,\n \"\",d\n");
    struct ivon_table_reader *columns = open_table("b.csv");
    assert_int_equal(ivon_table_reader_rows(columns), 3);
    assert_string_equal(ivon_table_reader_name(columns, 0), "a \"b\"");
    check_texts(columns, "c", "x \"y\",\nz||d|");
    check_texts(columns, "a \"b\"", "1e-400|-inf|\"|");
    ivon_table_reader_close(columns);
    write_text("b.csv", "1,2\n3,\n");
    columns = open_table("b.csv");
    check_numbers(columns, "1", (const double[]){1, 3});
    check_numbers(columns, "2", (const double[]){2, NAN});
    ivon_table_reader_close(columns);
    write_text("b.csv", "only,names\n");
    columns = open_table("b.csv");
    assert_int_equal(ivon_table_reader_rows(columns), 0);
    check_numbers(columns, "names", NULL);
    ivon_table_reader_close(columns);
}

static void reads_json_lines(void **state)
{
    (void)state;
    write_text("b.jsonl", "\n {\"a\": 1, \"list\": [1], \"b\": \"x\"}\r\n\n{\"b\": null}\n"
                          "{\"a\": 2.5, \"b\": true, \"c\": 1}");
    struct ivon_table_reader *columns = open_table("b.jsonl");
    assert_int_equal(ivon_table_reader_count(columns), 2);
    check_numbers(columns, "a", (const double[]){1, NAN, 2.5});
    check_texts(columns, "a", "1||2.5|");
    check_texts(columns, "b", "x||true|");
    ivon_table_reader_close(columns);
    write_text("b.jsonl", "{\"a\": \"Infinity\"}\n{\"a\": \"-Infinity\"}\n{\"a\": null}\n");
    columns = open_table("b.jsonl");
    check_numbers(columns, "a", (const double[]){INFINITY, -INFINITY, NAN});
    check_texts(columns, "a", "Infinity|-Infinity||");
    ivon_table_reader_close(columns);
}

/* Two examples of three tokens, of which the network has two outputs. */
static void write_tokens(const char *path, enum ivon_table_format format)
{
    static const struct ivon_column described[] = {
        {.name = "class", .dtype = IVON_I64, .rank = 1, .shape = {3}},
        {.name = "p", .dtype = IVON_F32, .rank = 2, .shape = {3, 2}},
        {.name = "loss", .dtype = IVON_F64, .rank = 1, .shape = {3}}};
    static const int64_t class[] = {3, 2, 1, 0, 5, 4};
    static const double loss[] = {INFINITY, NAN, 0.5, -1, 2, 3};
    static const float p[12] = {0};
    const struct ivon_table_options options = {
        .size = sizeof options, .format = format, .rows = 2, .tokens = 3};
    const void *const data[] = {class, p, loss};
    struct ivon_table *table = NULL;
    struct ivon_error error = {.message = "none"};
    if (ivon_table_create(&table, path, described, 3, &options, &error) ||
        ivon_table_append(table, 2, data, &error) || ivon_table_commit(table, &error))
        fail_msg("%s", error.message);
    ivon_table_close(table);
}

static void reads_tokens_as_rows(void **state)
{
    (void)state;
    static const char *const paths[] = {"t.csv", "t.jsonl", "t.h5"};
    static const enum ivon_table_format formats[] = {IVON_CSV, IVON_JSONL, IVON_HDF5};
    for (int i = 0; i < 3; i++) {
        write_tokens(paths[i], formats[i]);
        struct ivon_table_reader *columns = open_unfolded(paths[i], "loss");
        assert_int_equal(ivon_table_reader_rows(columns), 6);
        check_numbers(columns, "index", (const double[]){0, 0, 0, 1, 1, 1});
        check_numbers(columns, "token", (const double[]){0, 1, 2, 0, 1, 2});
        check_numbers(columns, "class", (const double[]){3, 2, 1, 0, 5, 4});
        check_numbers(columns, "loss", (const double[]){INFINITY, NAN, 0.5, -1, 2, 3});
        check_texts(columns, "token", "0|1|2|0|1|2|");
        assert_false(ivon_table_reader_has(columns, "p"));
        ivon_table_reader_close(columns);
    }
    /* A column of lists of lists has no elements that could be rows, and an absent one none. */
    struct ivon_table_reader *columns = open_unfolded("t.jsonl", "p");
    assert_int_equal(ivon_table_reader_rows(columns), 2);
    assert_int_equal(ivon_table_reader_count(columns), 1);
    ivon_table_reader_close(columns);
    write_table("lists.h5", IVON_HDF5);
    columns = open_unfolded("lists.h5", "absent");
    check_numbers(columns, "step", (const double[]){3, 20, 0x1p53});
    assert_false(ivon_table_reader_has(columns, "index"));
    ivon_table_reader_close(columns);
    columns = open_unfolded("lists.h5", "p"); /* one axis beside it is repeated */
    check_numbers(columns, "step", (const double[]){3, 3, 20, 20, 0x1p53, 0x1p53});
    check_numbers(columns, "p", (const double[]){0.5, 1, 2, 3, 4, 5});
    ivon_table_reader_close(columns);
}

static void reads_lists_of_any_length(void **state)
{
    (void)state;
    write_text("u.jsonl", "{\"token\": [7, 8], \"a\": [1, null], \"b\": \"x\"}\n"
                          "{\"token\": [], \"a\": [], \"b\": \"y\"}\n"
                          "{\"token\": [9], \"a\": [\"Infinity\"]}\n");
    struct ivon_table_reader *columns = open_unfolded("u.jsonl", "a");
    assert_int_equal(ivon_table_reader_count(columns), 3);
    check_numbers(columns, "a", (const double[]){1, NAN, INFINITY});
    check_numbers(columns, "token", (const double[]){7, 8, 9}); /* the file's own */
    check_texts(columns, "b", "x|x||");
    ivon_table_reader_close(columns);
}

/* Opening it, or else reading its column 'b' as numbers, fails. */
static void refused_unfolded(const char *text, size_t size, const char *unfold, const char *message)
{
    const struct ivon_table_reader_options options = {.size = sizeof options, .unfold = unfold};
    struct ivon_table_reader *columns = NULL;
    struct ivon_error error = {.message = "none"};
    double numbers[8];
    size_t column;
    write_file("c", text, size);
    int code = ivon_table_reader_open(&columns, "c", &options, &error);
    if (!code)
        code = ivon_table_reader_find(columns, "b", &column, &error);
    if (!code)
        code = ivon_table_reader_read(columns, column, numbers, &error);
    ivon_table_reader_close(columns);
    if (code != IVON_ERROR_DATA || strcmp(error.message, message) != 0)
        fail_msg("%d '%s', expected '%s'", code, error.message, message);
}

#define REFUSED(text, message)          refused_unfolded(text, sizeof text - 1, NULL, message)
#define REFUSED_UNFOLDED(text, message) refused_unfolded(text, sizeof text - 1, "a", message)

static void refuses(void **state)
{
    (void)state;
    REFUSED("{\"b\": \"infinity\"}\n",
            "c: row 0 (line 1), column 'b': found 'infinity', expected a number");
    REFUSED("", "c: is empty, expected a table: CSV, JSON Lines or HDF5");
    REFUSED("a\0b", "c: is no text, expected a table: CSV, JSON Lines or HDF5");
    REFUSED("\n\r\n", "c: has nothing but empty lines");
    REFUSED("a,c\n1,2\n", "c: has no column 'b', but 'a', 'c'");
    REFUSED("b,b\n1,2\n", "c: column 'b' occurs twice");
    REFUSED("a,b\n\n1,2\n1\n", "c: row 1 (line 4): has 1 columns, expected 2 as in the first line");
    REFUSED("a,b\n1,\"2\n", "c: row 0 (line 2): a quote is never closed");
    REFUSED("a,\"b\n", "c: first line: a quote is never closed");
    REFUSED("a,b\n1,\"\n\"\n1,x\x1b[1m\n",
            "c: row 0 (line 2), column 'b': found '?', expected a number");
    REFUSED("a,b\n\"\n\",1\n1,x\x1b[1m\n",
            "c: row 1 (line 4), column 'b': found 'x?[1m', expected a number");
    REFUSED("{\"b\": 1}\n{\"b\": \"x\"}\n",
            "c: row 1 (line 2), column 'b': found 'x', expected a number");
    REFUSED("{\"b\": 1}\n{\"b\": [1]}\n",
            "c: row 1 (line 2), column 'b': found '[1]', expected a number");
    REFUSED("{\"b\": 1}\n\n[1]\n", "c: line 3: is no object");
    REFUSED("{\"b\": 1}\n{\"b\": \n1}\n", "c: line 2: unexpected token near end of file");
    REFUSED("{\"b\": 1}\n{\"b\": 1, \"b\": 2}\n", "c: line 2: duplicate object key near '\"b\"'");
    REFUSED_UNFOLDED("{\"a\": [1], \"b\": 1}\n{\"a\": 1, \"b\": 1}\n",
                     "c: line 2: 'a' is no list, as it is in the first line");
    REFUSED_UNFOLDED("{\"a\": [1, 2], \"b\": [1]}\n", "c: line 1: 'b' has 1 elements, but 'a' 2");
    REFUSED_UNFOLDED("{\"a\": [1, 2], \"b\": [1, [2]]}\n",
                     "c: row 1 (line 1), column 'b': found '[2]', expected a number");
    struct ivon_table_reader *columns = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_table_reader_open(&columns, "nowhere", NULL, &error), IVON_ERROR_INPUT);
    assert_null(columns);
    const struct ivon_table_reader_options little = {.size = sizeof little, .resources.memory = 10};
    write_text("c", "{\"b\": 12345678}\n");
    assert_int_equal(ivon_table_reader_open(&columns, "c", &little, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "c: line 1: is longer than the memory for it");
}

static int stop(void *context, uint64_t row, const char *text, struct ivon_error *error)
{
    (void)context;
    (void)text;
    (void)error;
    return row == 1 ? 42 : 0;
}

static void stops(void **state)
{
    (void)state;
    write_text("d.csv", "a\n1\n2\n3\n");
    struct ivon_table_reader *columns = open_table("d.csv");
    struct ivon_error error;
    assert_int_equal(ivon_table_reader_read_text(columns, 0, stop, NULL, &error), 42);
    ivon_table_reader_close(columns);
}

static void writes_whole_outputs(void **state)
{
    (void)state;
    struct ivon_error error = {.message = "none"};
    struct stat status;
    assert_int_equal(ivon_output_write("out", "first", 5, false, &error), 0);
    assert_int_equal(ivon_output_write("out", "second", 6, false, &error), IVON_ERROR_CREATE);
    assert_true(stat("out", &status) == 0 && status.st_size == 5);
    assert_int_equal(ivon_output_write("out", "second", 6, true, &error), 0);
    assert_true(stat("out", &status) == 0 && status.st_size == 6);
    assert_int_equal(ivon_output_write("no/out", "x", 1, true, &error), IVON_ERROR_CREATE);
}

static void expect_input(const char *path, const char *expected)
{
    char text[16] = "";
    struct ivon_error error = {.message = "none"};
    FILE *file = NULL;
    if (ivon_input_open(&file, path, &error))
        fail_msg("%s", error.message);
    assert_int_equal(fread(text, 1, sizeof text - 1, file), strlen(expected));
    assert_string_equal(text, expected);
    assert_int_equal(fclose(file), 0);
}

/* Standard input is a pipe, of which nobody can go back, and its reader has been here before. */
static void reads_standard_input_again(void **state)
{
    (void)state;
    struct ivon_error error = {.message = "none"};
    FILE *file;
    int ends[2] = {-1, -1}, before = dup(STDIN_FILENO);
    assert_true(before >= 0 && pipe(ends) == 0 && write(ends[1], "one,two\n", 8) == 8);
    assert_true(close(ends[1]) == 0 && dup2(ends[0], STDIN_FILENO) == 0 && close(ends[0]) == 0);
    expect_input("-", "one,two\n");
    expect_input("-", "one,two\n");
    struct ivon_table_reader *reader = NULL;
    assert_int_equal(ivon_table_reader_open(&reader, "-", NULL, &error), 0);
    assert_true(ivon_table_reader_has(reader, "two"));
    ivon_table_reader_close(reader);
    expect_input("-", "one,two\n");
    assert_true(dup2(before, STDIN_FILENO) == 0 && close(before) == 0);
    assert_int_equal(ivon_output_write("input", "text", 4, true, &error), 0);
    expect_input("input", "text");
    assert_int_equal(ivon_input_open(&file, "absent", &error), IVON_ERROR_INPUT);
    assert_string_equal(error.message, "absent: cannot open it: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_written),
        cmocka_unit_test(reads_csv),
        cmocka_unit_test(reads_json_lines),
        cmocka_unit_test(reads_tokens_as_rows),
        cmocka_unit_test(reads_lists_of_any_length),
        cmocka_unit_test(refuses),
        cmocka_unit_test(stops),
        cmocka_unit_test(writes_whole_outputs),
        cmocka_unit_test(reads_standard_input_again),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
