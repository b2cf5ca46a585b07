/* Names of classes: those that are refused, how they are found, as targets of CSV, HDF5 and numpy,
   in tables. */
#include <hdf5.h>

#include "core/class_names.h"
#include "formats/numpy/array.h"
#include "ivon/table.h"
#include "ivon/targets.h"
#include "tests/unit/files.h"

static void assert_fault(const char *const *names, size_t count, const char *message)
{
    struct ivon_error error = {.message = "none"};
    assert_int_equal(ivon_class_names_check(names, count, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
}

static void refuses_names(void **state)
{
    (void)state;
    static const char *const fine[] = {"a b", "b", "a", "\xcf\x89", "A"};
    assert_int_equal(ivon_class_names_check(fine, 5, NULL), 0);
    assert_int_equal(ivon_class_names_check(NULL, 0, NULL), 0);
    static const struct {
        const char *name, *fault;
    } cases[] = {{"", "is empty"},
                 {" a", "begins or ends with a space"},
                 {"a ", "begins or ends with a space"},
                 {"a\tb", "has a control character"},
                 {"\x7f", "has a control character"},
                 {"\xc2\x85", "has a control character"},
                 {"a\xff", "is not in UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[80];
        const char *const names[] = {"b", cases[i].name};
        snprintf(message, sizeof message, "the name of class 1 %s", cases[i].fault);
        assert_fault(names, 2, message);
    }
    assert_fault((const char *const[]){"x", "b", "a", "b"}, 4,
                 "classes 1 and 3 have one name, 'b'");
}

/* Every name, and every piece of one, is found where a search from the beginning finds it. */
static void finds_names(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static char text[COUNT][4];
    const char *names[COUNT];
    struct class_names classes;
    for (int i = 0; i < COUNT; i++) { /* one letter, two or three, in no order */
        int number = i * 101 % COUNT;
        snprintf(text[i], sizeof text[i], number < 20 ? "%.1s" : "%.3s",
                 (char[]){(char)('a' + number % 20), (char)('A' + number / 20), 0});
        names[i] = text[i];
    }
    assert_int_equal(class_names_init(&classes, names, COUNT, NULL), 0);
    for (int i = 0; i < COUNT; i++)
        for (size_t size = 0; size <= 2; size++) {
            int64_t expected = -1;
            for (int j = 0; j < COUNT && strlen(names[i]) >= size; j++)
                if (strlen(names[j]) == size && strncmp(names[i], names[j], size) == 0)
                    expected = j;
            if (strlen(names[i]) >= size)
                assert_int_equal(class_names_find(&classes, names[i], size), expected);
        }
    class_names_release(&classes);
}

static const char *const names[] = {"dog", "wild cat", "a \"b\", c"};
static const struct ivon_dataset_options by_name = {
    .size = sizeof by_name, .target_column = "2", .classes = names, .class_count = 3};

static void assert_labels(const char *path, const struct ivon_dataset_options *options,
                          const int64_t *expected, size_t count)
{
    struct ivon_examples *examples = open_fine(path, options);
    assert_int_equal(ivon_examples_count(examples), count);
    const struct ivon_field *field = ivon_examples_field(examples, 1);
    assert_true(field->dtype == IVON_I64 && field->count == 1);
    for (size_t first = 0; first < count; first++)
        for (size_t n = 1; first + n <= count; n++) {
            int64_t found[8];
            assert_int_equal(ivon_examples_read_i64(examples, 1, first, n, found, NULL), 0);
            assert_memory_equal(found, expected + first, n * sizeof *found);
        }
    ivon_examples_close(examples);
}

static void reads_csv(void **state)
{
    (void)state;
    const struct ivon_dataset_options one = {.size = sizeof one,
                                             .target_column = "2",
                                             .classes = (const char *const[]){"1", "x"},
                                             .class_count = 2};
    const struct ivon_dataset_options same = {.size = sizeof same,
                                              .target_column = "2",
                                              .classes = (const char *const[]){"0", "1"},
                                              .class_count = 2};
    write_text("a.csv", "x,kind\n1, dog \n2,\"wild cat\"\n3,\"a \"\"b\"\", c\"\n4,-100\n5,dog\n");
    assert_labels("a.csv", &by_name, (const int64_t[]){0, 1, 2, -100, 0}, 5);
    write_text("a.csv", "1,wild cat\n2,dog\n"); /* no header */
    assert_labels("a.csv", &by_name, (const int64_t[]){1, 0}, 2);
    write_text("a.csv", "x,dogs\n1,2\n2,0\n");
    assert_labels("a.csv", &by_name, (const int64_t[]){2, 0}, 2);
    write_text("a.csv", "1,0\n2,1\n");
    assert_labels("a.csv", &same, (const int64_t[]){0, 1}, 2);
    open_refused("a.csv", &one, IVON_ERROR_DATA,
                 "a.csv: row 1 (line 2), column 2: found '1', which is a number, and the name of "
                 "class 0");
    write_text("a.csv", "x,y\n1,dog\n2,1\n");
    open_refused("a.csv", &by_name, IVON_ERROR_DATA,
                 "a.csv: row 1 (line 3): its target is a number, but that of row 0 a name");
    write_text("a.csv", "x,y\n1,1\n2,-1\n3,dog\n");
    open_refused("a.csv", &by_name, IVON_ERROR_DATA,
                 "a.csv: row 2 (line 4): its target is a name, but that of row 0 a number");
    static const char *const others[] = {"wild", "wild cats", "Dog", "1.5", "nan", ""};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char text[80], message[120];
        snprintf(text, sizeof text, "x,y\n1,dog\n2,%s\n", others[i]);
        snprintf(message, sizeof message,
                 "column 'y': found '%s', expected the name of one of the 3 classes", others[i]);
        write_text("a.csv", text);
        open_refused("a.csv", &by_name, IVON_ERROR_DATA, message);
    }
    write_text("a.csv", "x,y\n1,dog\n");
    const struct ivon_dataset_options plain = {.size = sizeof plain, .target_column = "y"};
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_dataset_open(&examples, "a.csv", &plain, &error), IVON_ERROR_DATA);
    assert_true(error.hint == IVON_HINT_CLASSES);
    const struct ivon_dataset_options twice = {.size = sizeof twice,
                                               .target_column = "y",
                                               .classes = (const char *const[]){"a", "a"},
                                               .class_count = 2};
    open_refused("a.csv", &twice, IVON_ERROR_ARGUMENT, "classes 0 and 1 have one name, 'a'");
}

/* Writes "x", numbers, and "y", strings of a type, which are `data`. */
static void write_strings(const char *path, hid_t type, hsize_t rows, const void *data)
{
    static const float numbers[8];
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(1, &rows, NULL);
    const char *const name[] = {"x", "y"};
    for (int i = 0; i < 2; i++) {
        hid_t set = H5Dcreate2(file, name[i], i ? type : H5T_IEEE_F32LE, space, H5P_DEFAULT,
                               H5P_DEFAULT, H5P_DEFAULT);
        assert_true(set >= 0 && H5Dwrite(set, i ? type : H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL,
                                         H5P_DEFAULT, i ? data : (const void *)numbers) >= 0);
        H5Dclose(set);
    }
    H5Sclose(space);
    H5Fclose(file);
}

static hid_t string_type(size_t size, H5T_str_t padding, H5T_cset_t set)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    assert_true(H5Tset_size(type, size) >= 0 && H5Tset_strpad(type, padding) >= 0 &&
                H5Tset_cset(type, set) >= 0);
    return type;
}

static void reads_hdf5(void **state)
{
    (void)state;
    static const struct ivon_dataset_options plain = {.size = sizeof plain};
    struct ivon_dataset_options options = by_name;
    static const int64_t expected[] = {1, 0, 2, 0};
    options.target_column = NULL;
    const H5T_str_t paddings[] = {H5T_STR_NULLTERM, H5T_STR_NULLPAD, H5T_STR_SPACEPAD};
    for (size_t i = 0; i < 6; i++) {
        char fixed[4][9] = {"wild cat", "dog", "a \"b\", c", "dog"}, packed[4][8];
        for (int row = 0; row < 4; row++) /* exactly as long as the longest name */
            for (size_t at = 0, end = strlen(fixed[row]); at < 8; at++)
                packed[row][at] = at < end                              ? fixed[row][at]
                                  : paddings[i % 3] == H5T_STR_SPACEPAD ? ' '
                                                                        : '\0';
        bool terminated = paddings[i % 3] == H5T_STR_NULLTERM;
        hid_t type = string_type(terminated ? 9 : 8, paddings[i % 3],
                                 i < 3 ? H5T_CSET_ASCII : H5T_CSET_UTF8);
        write_strings("a.h5", type, 4, terminated ? (const void *)fixed : (const void *)packed);
        assert_labels("a.h5", &options, expected, 4);
        H5Tclose(type);
    }
    const char *varying[] = {"wild cat", "dog", "a \"b\", c", "dog"};
    hid_t type = string_type(H5T_VARIABLE, H5T_STR_NULLTERM, H5T_CSET_UTF8);
    write_strings("a.h5", type, 4, varying);
    assert_labels("a.h5", &options, expected, 4);
    open_refused("a.h5", &plain, IVON_ERROR_DATA, "a.h5: 'y' holds strings, expected numbers");
    const struct ivon_dataset_options input = {.size = sizeof input,
                                               .inputs = (const char *const[]){"y"},
                                               .input_count = 1,
                                               .targets = "",
                                               .classes = names,
                                               .class_count = 3};
    open_refused("a.h5", &input, IVON_ERROR_DATA, "'y' has elements that are neither numbers");
    char longest[258];
    memset(longest, 'a', 257);
    longest[257] = '\0';
    static const char *const faults[] = {
        "'y' cannot be read: it has strings of more than 256 bytes",
        "'y': row 1 is 'dogs', expected the name of one of",
        "'y': row 1 is '', expected the name of one of"};
    for (size_t i = 0; i < 3; i++) {
        int64_t found[4];
        struct ivon_error error = {0};
        varying[1] = i == 0 ? longest : i == 1 ? "dogs" : NULL;
        write_strings("a.h5", type, 4, varying);
        struct ivon_examples *examples = open_fine("a.h5", &options);
        assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 4, found, &error), IVON_ERROR_DATA);
        if (!strstr(error.message, faults[i]))
            fail_msg("%s", error.message);
        ivon_examples_close(examples);
    }
    H5Tclose(type);
}

static void sizes_of_numpy(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        size_t size;
    } cases[] = {{"<U3", 12},     {">U256", 1024}, {"|S5", 5},
                 {"S1024", 1024}, {"=U1", 4},      {"<U257", 0},
                 {"|S1025", 0},   {"<U0", 0},      {"|S", 0},
                 {"<U", 0},       {"<U3x", 0},     {"<U-3", 0},
                 {"<S 3", 0},     {"<f4", 0},      {"|O", 0},
                 {"", 0},         {"<", 0},        {"|V8", 0},
                 {"<US3", 0},     {"<M8[ns]", 0},  {"|S99999999999999999999999", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(npy_string_size(cases[i].type), cases[i].size);
}

static void assert_string(const struct array *array, const char *element, const char *expected,
                          size_t length)
{
    char text[ARRAY_STRING_MAX + 1];
    assert_int_equal(array_string(array, (const unsigned char *)element, text), length);
    assert_memory_equal(text, expected, length + 1);
}

/* What fills strings up is no part of them; a zero within is. */
static void strings_of_numpy(void **state)
{
    (void)state;
    struct array bytes = {.string_size = 4}, wide = {.string_size = 8, .wide = true};
    assert_string(&bytes, "ab\0", "ab", 2);
    assert_string(&bytes, "a\0b", "a\0b", 3);
    assert_string(&bytes, "abcd", "abcd", 4);
    assert_string(&bytes, "\0\0\0", "", 0);
    assert_string(&wide, "\xc9\x03\0\0\0\0\0", "\xcf\x89", 2);
    assert_string(&wide, "\0\0\0\0a\0\0", "\0a", 2);
    assert_string(&wide, "\xff\xff\x10\0\0\0\x11", "\xf4\x8f\xbf\xbf\xef\xbf\xbd", 7);
    wide.swapped = true;
    assert_string(&wide, "\0\0\x03\xc9\0\0\0", "\xcf\x89", 2);
}

static struct ivon_table_options with_names(const enum ivon_naming *naming)
{
    struct ivon_table_options options = ivon_table_defaults();
    options.names = names;
    options.name_count = 3;
    options.naming = naming;
    return options;
}

static void assert_table(enum ivon_table_format format, const struct ivon_column *columns,
                         const void *const *data, int64_t tokens, const char *expected)
{
    static const enum ivon_naming naming[] = {IVON_NAMES, IVON_NUMBERS, IVON_NAMES, IVON_NAME_SETS};
    struct ivon_table *table = NULL;
    struct ivon_table_options options = with_names(naming);
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    options.format = format;
    options.rows = 2;
    options.tokens = tokens;
    assert_int_equal(ivon_table_to_stream(&table, stream, "it", columns, 4, &options, NULL), 0);
    assert_int_equal(ivon_table_append(table, 2, data, NULL), 0);
    assert_int_equal(ivon_table_commit(table, NULL), 0);
    ivon_table_close(table);
    fclose(stream);
    assert_string_equal(text, expected);
    free(text);
}

static void writes_tables(void **state)
{
    (void)state;
    static const int64_t label[] = {2, -100}, several[] = {0, 3, 1, 1}, set[] = {0, 1, 1, 0, 0, 0};
    const void *const data[] = {label, label, several, set};
    struct ivon_column columns[] = {
        {.name = "label", .dtype = IVON_I64},
        {.name = "number", .dtype = IVON_I64},
        {.name = "two", .dtype = IVON_I64, .rank = 1, .shape = {2}},
        {.name = "set", .prefix = "s", .dtype = IVON_I64, .rank = 1, .shape = {3}}};
    assert_table(IVON_CSV, columns, data, 0,
                 "index,label,number,two_0,two_1,set\n"
                 "0,\"a \"\"b\"\", c\",2,dog,3,\"wild cat|a \"\"b\"\", c\"\n"
                 "1,-100,-100,wild cat,wild cat,\n");
    assert_table(IVON_JSONL, columns, data, 0,
                 "{\"index\":0,\"label\":\"a \\\"b\\\", c\",\"number\":2,\"two\":[\"dog\",3],"
                 "\"set\":[\"wild cat\",\"a \\\"b\\\", c\"]}\n"
                 "{\"index\":1,\"label\":-100,\"number\":-100,"
                 "\"two\":[\"wild cat\",\"wild cat\"],\"set\":[]}\n");
    static const int64_t tokens[2][2] = {{0, 1}, {2, 5}},
                         sets[2][2][3] = {{{1, 0, 0}, {0, 0, 0}}, {{1, 1, 0}, {0, 0, 1}}};
    const void *const of_tokens[] = {tokens, tokens, tokens, sets};
    columns[0].rank = columns[1].rank = columns[2].rank = 1;
    columns[0].shape[0] = columns[1].shape[0] = columns[2].shape[0] = columns[3].shape[0] = 2;
    columns[3].rank = 2;
    columns[3].shape[1] = 3;
    assert_table(IVON_CSV, columns, of_tokens, 2,
                 "index,token,label,number,two,set\n0,0,dog,0,dog,dog\n"
                 "0,1,wild cat,1,wild cat,\n"
                 "1,0,\"a \"\"b\"\", c\",2,\"a \"\"b\"\", c\",dog|wild cat\n"
                 "1,1,5,5,5,\"a \"\"b\"\", c\"\n");
}

static void assert_refused(struct ivon_column column, const struct ivon_table_options *options,
                           const char *message)
{
    struct ivon_table *table = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_table_create(&table, "a.csv", &column, 1, options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
}

static void refuses_columns(void **state)
{
    (void)state;
    static const enum ivon_naming named = IVON_NAMES, set = IVON_NAME_SETS;
    static const char *const barred[] = {"a|b", "c"}, *const twice[] = {"a", "a"};
    const struct ivon_column real = {.name = "a", .dtype = IVON_F64},
                             pair = {.name = "a", .dtype = IVON_I64, .rank = 1, .shape = {2}};
    struct ivon_table_options options = with_names(&named);
    assert_refused(real, &options,
                   "a.csv: column 'a': its elements are not the numbers of 3 names");
    options.naming = &set;
    assert_refused(pair, &options,
                   "a.csv: column 'a': its elements are not the numbers of 3 names");
    options.name_count = 2;
    options.names = barred;
    assert_refused(pair, &options,
                   "a.csv: 'a|b' has a bar in it, which stands between the names of a set");
    options.names = twice;
    assert_refused(pair, &options, "a.csv: classes 0 and 1 have one name, 'a'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_names),  cmocka_unit_test(finds_names),
        cmocka_unit_test(reads_csv),      cmocka_unit_test(reads_hdf5),
        cmocka_unit_test(writes_tables),  cmocka_unit_test(refuses_columns),
        cmocka_unit_test(sizes_of_numpy), cmocka_unit_test(strings_of_numpy),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
