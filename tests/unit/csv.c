/* CSV: its words, its rows in any order, what is refused and how that is said. */
#include "tests/unit/files.h"

#include <locale.h>
#include <math.h>

#include "formats/io/csv.h"

static struct csv_field field_of(const char *text)
{
    return (struct csv_field){.text = text, .size = strlen(text), .last = true};
}

static void takes_fields(void **state)
{
    (void)state;
    static const char csv[] = "a,\"b,c\" ,\"say \"\"x\"\"\",  d e\t,\r\n\n\r\n"
                              "\"two\nlines\"\n,\"\"\r\nx\ry";
    static const char *const fields[] = {"a",          "b,c", "say \"\"x\"\"",
                                         "d e",        "", /* five */
                                         "two\nlines", "",    "",
                                         "x\ry"};
    static const int last[] = {0, 0, 0, 0, 1, 1, 0, 1, 1};
    struct csv_text text = {csv, csv + sizeof csv - 1};
    struct csv_field field = {.last = true};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        assert_true(!field.last || csv_next_record(&text));
        assert_null(csv_next_field(&text, &field));
        assert_int_equal(field.size, strlen(fields[i]));
        assert_memory_equal(field.text, fields[i], field.size);
        assert_int_equal(field.last, last[i]);
    }
    assert_false(csv_next_record(&text));
    static const char *const broken[] = {"\"a", "\"a\"\"", "\"a\"b", "\"a\" b", "\""};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        text = (struct csv_text){broken[i], broken[i] + strlen(broken[i])};
        assert_non_null(csv_next_field(&text, &field));
    }
}

static void compares_and_numbers(void **state)
{
    (void)state;
    struct csv_field field = field_of("say \"\"x\"\"");
    assert_true(csv_equal(&field, "say \"x\""));
    assert_false(csv_equal(&field, "say \"x"));
    assert_false(csv_equal(&field, "say \"x\"\""));
    static const struct {
        const char *field;
        int64_t number;
    } cases[] = {{"p0", 0},
                 {"p12", 12},
                 {"p012", 12},
                 {"p", -1},
                 {"p1x", -1},
                 {"q1", -1},
                 {"p-1", -1},
                 {"", -1},
                 {"p999999999999999999", 999999999999999999},
                 {"p1000000000000000000", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        field = field_of(cases[i].field);
        assert_true(csv_numbered(&field, "p") == cases[i].number);
    }
}

static void shortens_excerpts(void **state)
{
    (void)state;
    char out[8];
    struct csv_field field = field_of("1234567");
    csv_excerpt(&field, out, sizeof out);
    assert_string_equal(out, "1234567");
    field = field_of("12345678");
    csv_excerpt(&field, out, sizeof out);
    assert_string_equal(out, "1234...");
    field = field_of("123\xe2\x82\xac"
                     "45"); /* not in the middle of the euro sign */
    csv_excerpt(&field, out, sizeof out);
    assert_string_equal(out, "123...");
    field = (struct csv_field){.text = "a\0b", .size = 3};
    csv_excerpt(&field, out, sizeof out);
    assert_string_equal(out, "a?b");
}

/* The C library's strtof rounds correctly: so does whatever is faster. */
static void rounds_like_strtof(void **state)
{
    (void)state;
    uint64_t bits = 1;
    char text[40];
    float value;
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    for (int i = 0; i < 200000; i++) {
        bits = bits * 6364136223846793005U + 1442695040888963407U;
        unsigned digits = (unsigned)(bits >> 33), decimals = (unsigned)(bits >> 29 & 15);
        const char *sign = bits & 1 << 27 ? "-" : "";
        for (unsigned cut = (unsigned)(bits >> 60); cut; cut--)
            digits /= 3;
        if (decimals > 11)
            snprintf(text, sizeof text, "%s%u", sign, digits);
        else
            snprintf(text, sizeof text, "%s%u.%0*u", sign, digits >> 16, (int)decimals + 1,
                     digits & 0xffff);
        struct csv_field field = field_of(text);
        if (!csv_float(&field, locale, &value) || value != strtof(text, NULL))
            fail_msg("'%s' is %.9g, expected %.9g", text, (double)value,
                     (double)strtof(text, NULL));
    }
    freelocale(locale);
}

/* Numbers at, and next to, the middle between two floats, and of as many digits as programs write.
 */
static void rounds_middles_like_strtof(void **state)
{
    (void)state;
    static const int digits[] = {6, 9, 15, 16, 17, 18, 19, 3, 20};
    uint64_t bits = 7;
    char text[40];
    float value, single;
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    for (int i = 0; i < 400000; i++) {
        bits = bits * 6364136223846793005U + 1442695040888963407U;
        uint32_t half = (uint32_t)(bits >> 32);
        if (i % 4)
            half = (half & 0x807fffff) | (uint32_t)(90 + bits % 75) << 23;
        memcpy(&single, &half, sizeof single);
        uint64_t wide;
        double number = (double)single;
        memcpy(&wide, &number, sizeof wide);
        if (i & 1)
            wide += (UINT64_C(1) << 28) + (bits >> 20) % 9 - 4;
        memcpy(&number, &wide, sizeof number);
        snprintf(text, sizeof text, "%.*g", digits[i % 9], number);
        struct csv_field field = field_of(text);
        bool fits = isinf(number) || !isinf(strtof(text, NULL));
        if (isnan(number) || strlen(text) >= sizeof text - 1)
            continue;
        if (csv_float(&field, locale, &value) != fits || (fits && value != strtof(text, NULL)))
            fail_msg("'%s' is %.9g, expected %.9g", text, (double)value,
                     (double)strtof(text, NULL));
    }
    freelocale(locale);
}

/* What is taken in one step is what csv_next_field and csv_float take. */
static void takes_numbers_in_one_step(void **state)
{
    (void)state;
    static const char *const taken[] = {"1,", "-1.5e3\n2", "0.25\r\n", ".5,x", "5.,"};
    static const char *const left[] = {"1",    "1 ,", " 1,", "\"1\",", "1\r,", "1\r",  "+1,",
                                       "nan,", "1e,", "-,",  ",",      "\n",   "0x1,", "1.2.3,"};
    float value = 0;
    bool last = false;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        struct csv_text text = {taken[i], taken[i] + strlen(taken[i])}, slow = text;
        struct csv_field field;
        assert_true(csv_next_float(&text, &value, &last));
        assert_null(csv_next_field(&slow, &field));
        assert_true(value == strtof(taken[i], NULL) && last == field.last && text.at == slow.at);
    }
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        struct csv_text text = {left[i], left[i] + strlen(left[i])};
        assert_false(csv_next_float(&text, &value, &last));
        assert_ptr_equal(text.at, left[i]);
    }
}

static void passes_over_records(void **state)
{
    (void)state;
    static const char rows[] = "a,bb,,d\r\nx";
    for (size_t column = 0; column < 5; column++) {
        struct csv_text text = {rows, rows + sizeof rows - 1}, found = {NULL, NULL};
        assert_true(csv_skip_record(&text, 4, column, &found));
        assert_ptr_equal(text.at, rows + 9);
        static const int places[] = {0, 2, 5, 6};
        assert_ptr_equal(found.at, column < 4 ? rows + places[column] : NULL);
    }
    static const char *const left[] = {"a,b,c,d", "a,b,c\n", "a,\"b\",c,d\n", "a,b,c,d,e\n", "\n"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        struct csv_text text = {left[i], left[i] + strlen(left[i])}, found;
        assert_false(csv_skip_record(&text, 4, 0, &found));
        assert_ptr_equal(text.at, left[i]);
    }
}

static void tells_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool number, whole;
        float value;
    } cases[] = {{"0", true, true, 0},
                 {"-0", true, true, 0},
                 {"+5", true, true, 5},
                 {"007", true, true, 7},
                 {"5.", true, true, 5},
                 {".5", true, false, 0.5F},
                 {"3.0", true, true, 3},
                 {"3e2", true, true, 300},
                 {"1e-3", true, false, 1e-3F},
                 {"16777217", true, true, 16777216},
                 {"0.1", true, false, 0.1F},
                 {"0.0000000001", true, false, 1e-10F},
                 {"9223372036854775807", true, true, 0x1p63F},
                 {"9223372036854775808", true, false, 0x1p63F},
                 {"1e16", true, false, 1e16F},
                 {"1e-60", true, false, 0},
                 {"inf", true, false, INFINITY},
                 {"-Infinity", true, false, -INFINITY},
                 {"", false, false, 0},
                 {"-", false, false, 0},
                 {".", false, false, 0},
                 {"-.", false, false, 0},
                 {"1e50", false, false, 0},
                 {"0x10", false, false, 0},
                 {"1,5", false, false, 0},
                 {"1 2", false, false, 0},
                 {"1.2.3", false, false, 0},
                 {"nan(1)", false, false, 0},
                 {"abc", false, false, 0},
                 {"--1", false, false, 0},
                 {"1-", false, false, 0},
                 {"1e", false, false, 0}};
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct csv_field field = field_of(cases[i].text);
        float value;
        int64_t whole;
        bool number = csv_float(&field, locale, &value);
        if (number != cases[i].number || (number && value != cases[i].value))
            fail_msg("'%s' is %d, %g", cases[i].text, number, (double)value);
        if (csv_whole(&field, locale, &whole) != cases[i].whole ||
            (cases[i].whole && (float)whole != cases[i].value))
            fail_msg("'%s' is not as whole", cases[i].text);
    }
    struct csv_field field = field_of("NaN");
    float value;
    int64_t whole;
    assert_true(csv_float(&field, locale, &value) && isnan(value));
    assert_false(csv_whole(&field, locale, &whole));
    field = (struct csv_field){.text = "1\0", .size = 2};
    assert_false(csv_float(&field, locale, &value) || csv_whole(&field, locale, &whole));
    char zeros[200];
    memset(zeros, '0', sizeof zeros);
    field = (struct csv_field){.text = zeros, .size = sizeof zeros};
    assert_false(csv_float(&field, locale, &value));
    freelocale(locale);
}

static void reads_doubles(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"0.1", 0.1},
                 {"9007199254740993.5", 0x1p53 + 2},
                 {"-1e300", -1e300},
                 {"5e-324", 0x1p-1074},
                 {"+inf", INFINITY}};
    static const char *const none[] = {"", "1e999", "0x1p3", "1 2", "nan(1)", "e"};
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct csv_field field = field_of(cases[i].text);
        assert_true(csv_double(&field, locale, &value) && value == cases[i].value);
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct csv_field field = field_of(none[i]);
        assert_false(csv_double(&field, locale, &value));
    }
    freelocale(locale);
}

/* Files. */

static struct ivon_examples *open_text(const char *text, const struct ivon_dataset_options *options)
{
    write_text("a.csv", text);
    return open_fine("a.csv", options);
}

/* Opening or reading it fails. */
static void refused(const char *text, size_t size, const struct ivon_dataset_options *options,
                    const char *message)
{
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {.message = "none"};
    write_file("a.csv", text, size);
    int code = ivon_dataset_open(&examples, "a.csv", options, &error);
    if (!code) {
        float row[8];
        code = ivon_examples_read_f32(examples, 0, 0, ivon_examples_count(examples), row, &error);
        ivon_examples_close(examples);
    }
    if (code != IVON_ERROR_DATA || !strstr(error.message, message))
        fail_msg("%d '%s', expected '%s'", code, error.message, message);
}

#define REFUSED(text, options, message) refused(text, sizeof text - 1, options, message)

/* All inputs of a file, and its targets unless null. */
static void check_file(const char *text, const struct ivon_dataset_options *options, uint64_t rows,
                       size_t columns, const float *inputs, const float *targets)
{
    float found[64];
    struct ivon_error error = {.message = "none"};
    struct ivon_examples *examples = open_text(text, options);
    assert_int_equal(ivon_examples_count(examples), rows);
    assert_int_equal(ivon_examples_field(examples, 0)->count, columns);
    assert_int_equal(ivon_examples_field_count(examples), targets ? 2 : 1);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, rows, found, &error), 0);
    assert_memory_equal(found, inputs, rows * columns * sizeof *found);
    if (targets) {
        assert_int_equal(ivon_examples_read_f32(examples, 1, 0, rows, found, &error), 0);
        assert_memory_equal(found, targets, rows * sizeof *found);
    }
    ivon_examples_close(examples);
}

static void reads_files(void **state)
{
    (void)state;
    const float six[] = {1, 2, 3, 4, 5, 6};
    static const char *const same[] = {"1,2,3\n4,5,6\n",
                                       "1,2,3\r\n4,5,6",
                                       "a,b,c\n1,2,3\n4,5,6\n",
                                       "\xef\xbb\xbf"
                                       "1,2,3\n4,5,6\n",
                                       "\n\n1, 2 ,\t3\n\n\n4,5,6\n\n",
                                       "\"a\nb\",\"c,d\",\"\"\"\"\n\"1\",2,\"3\"\r\n4,5,6",
                                       ",b,c\n1,2,3\n4,5,6\n"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        check_file(same[i], NULL, 2, 3, six, NULL);
    const char *name = "features";
    const struct ivon_dataset_options options = {.size = sizeof options,
                                                 .inputs = &name,
                                                 .input_count = 1,
                                                 .target_column = "b",
                                                 .targets = "class",
                                                 .limit = 2};
    check_file("a,b,c\n1,9,2\n3,8,4\n7,7,7\n", &options, 2, 2, six, (const float[]){9, 8});
    struct ivon_examples *examples = open_text("a,b,c\n1,9,2\n", &options);
    assert_int_equal(ivon_examples_find(examples, "features"), 0);
    assert_int_equal(ivon_examples_find(examples, "class"), 1);
    assert_int_equal(ivon_examples_field(examples, 1)->rank, 0);
    ivon_examples_close(examples);
    const struct ivon_dataset_options second = {.size = sizeof second, .target_column = "2"};
    check_file("1,9,2\n3,8,4\n", &second, 2, 2, six, (const float[]){9, 8});
    /* A header of that name comes before the number. */
    check_file("2,1,x\n9,1,2\n8,3,4\n", &second, 2, 2, six, (const float[]){9, 8});
    const struct ivon_dataset_options refused = {
        .size = sizeof refused, .target_column = "2", .targets = ""};
    check_file("1,9,2\n3,oops,4\n", &refused, 2, 2, six, NULL);
}

static void tells_headers(void **state)
{
    (void)state;
    static const float four[] = {0, 1, 2, 3};
    static const char *const gaps[] = {"", "NA", "N/A", "n/a", "NULL", "Null", "null", "None", "?"};
    /* Of two columns the numbers 0 and 1 are an example; names and gaps are a header. */
    check_file("0,1\n2,3\n", NULL, 2, 2, four, NULL);
    check_file("NA,b\n0,1\n2,3\n", NULL, 2, 2, four, NULL);
    check_file("NA,?\n0,1\n2,3\n", NULL, 2, 2, four, NULL);
    check_file("0,1,3\n", NULL, 1, 3, (const float[]){0, 1, 3}, NULL);
    check_file("b,1,2\n0,1,2\n", NULL, 1, 3, four, NULL);
    REFUSED("\n0,1,2\n3,4,5\n", NULL,
            "a.csv: line 2 has the numbers 0 to 2, which may be a header or an example: expected "
            "names of columns, or no header");
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        char text[40], message[100];
        snprintf(text, sizeof text, "7, %s\n8,9\n", gaps[i]);
        snprintf(message, sizeof message,
                 "a.csv: row 0 (line 1), column 2: found '%s', expected a number", gaps[i]);
        refused(text, strlen(text), NULL, message);
    }
}

static void tells_whole_targets(void **state)
{
    (void)state;
    const struct ivon_dataset_options options = {.size = sizeof options, .target_column = "y"};
    int64_t labels[2];
    struct ivon_error error;
    struct ivon_examples *examples = open_text("x,y\n1,9007199254740993\n2,3.0\n", &options);
    assert_int_equal(ivon_examples_field(examples, 1)->dtype, IVON_I64);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 2, labels, &error), 0);
    assert_true(labels[0] == 9007199254740993 && labels[1] == 3); /* exactly: 2^53 + 1 */
    ivon_examples_close(examples);
    examples = open_text("x,y\n1,2\n1,0.5\n", &options);
    assert_int_equal(ivon_examples_field(examples, 1)->dtype, IVON_F32);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 1, labels, &error), 0);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 2, labels, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "a.csv: 'y': row 1 is 0.5, expected a whole number");
    ivon_examples_close(examples);
}

static void chooses_numbered_columns(void **state)
{
    (void)state;
    const struct ivon_dataset_options options = {
        .size = sizeof options, .target_column = "label", .column_prefix = "p"};
    const float in_order[] = {0, 2, 10}, all[] = {10, 2, 7, 0};
    check_file("p10,p2,other,label,p0\n10,2,7,3,0\n", &options, 1, 3, in_order, (const float[]){3});
    check_file("q10,q2,other,label,q0\n10,2,7,3,0\n", &options, 1, 4, all, (const float[]){3});
    REFUSED("p1,p01,label\n1,2,3\n", &options, "a.csv: column 'p1' occurs twice");
    const struct ivon_dataset_options target = {
        .size = sizeof target, .target_column = "p1", .column_prefix = "p"};
    check_file("p0,p1,p2\n0,3,2\n", &target, 1, 2, in_order, (const float[]){3});
}

static void refuses_files(void **state)
{
    (void)state;
    const struct ivon_dataset_options y = {.size = sizeof y, .target_column = "y"},
                                      four = {.size = sizeof four, .target_column = "4"},
                                      zero = {.size = sizeof zero, .target_column = "0"},
                                      one = {.size = sizeof one, .target_column = "1"};
    REFUSED("a,b\n1,2\n3,abc\n", NULL,
            "a.csv: row 1 (line 3), column 'b': found 'abc', expected a number");
    REFUSED("1,2\n\n3,\n", NULL, "a.csv: row 1 (line 3), column 2: found '', expected a number");
    REFUSED("a,b\n1,\"x\ny\"\n", NULL, "column 'b': found 'x?y'");
    REFUSED("1,2\n3\n", NULL, "a.csv: row 1 (line 2): has 1 columns, expected 2");
    REFUSED("1,2\n3,4,5\n", NULL, "has 3 columns, expected 2 as in the first line");
    REFUSED("1,2\n3,\"4\n", NULL, "a.csv: row 1 (line 2): a quote is never closed");
    REFUSED("1,2\n3,\"4\"5\n", NULL, "something follows a closing quote");
    REFUSED("\n\"a\n", NULL, "a.csv: line 2: a quote is never closed");
    REFUSED("a,b\n", NULL, "a.csv: no row of numbers");
    REFUSED("\n\r\n\n", NULL, "nothing but empty lines");
    REFUSED("x,y\n1,2\n3,four\n", &y, "row 1 (line 3), column 'y': found 'four'");
    REFUSED("a,b,c\n1,2,3\n", &y, "has no column 'y', but 3 columns from 'a' to 'c'");
    REFUSED("1,2,3\n", &four, "has no column '4', but 3 columns from 1 to 3");
    REFUSED("1,2,3\n", &zero, "has no column '0'");
    REFUSED("y,x,y\n1,2,3\n", &y, "column 'y' occurs twice");
    REFUSED("1\n2\n", &one, "no column but that of the targets");
    struct ivon_error error;
    struct ivon_examples *examples = NULL;
    const struct ivon_dataset_options targets = {.size = sizeof targets, .targets = "label"};
    assert_int_equal(ivon_dataset_open(&examples, "a.csv", &targets, &error), IVON_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "not which column"));
}

static void survives_what_is_no_text(void **state)
{
    (void)state;
    enum { SIZE = 8 << 20 };
    char *text = malloc(SIZE);
    assert_non_null(text);
    memset(text, ',', SIZE);
    refused(text, SIZE, NULL, "more than 1048576 columns");
    memset(text, '7', SIZE);
    refused(text, SIZE, NULL, "no row of numbers"); /* one line, and no number */
    memset(text, '\0', SIZE);
    refused(text, SIZE, NULL, "no format that is known");
    memcpy(text, "1,2\n3,", 6);
    refused(text, SIZE, NULL, "no format that is known");
    memset(text, '0', 5000); /* zeros, and then null bytes */
    memcpy(text, "1,2\n3,", 6);
    refused(text, SIZE, NULL, "row 1 (line 2), column 2: found '0000");
    memset(text, '"', SIZE);
    refused(text, SIZE, NULL, "no row of numbers");
    refused(text, SIZE - 1, NULL, "a quote is never closed");
    memset(text, '\n', SIZE);
    refused(text, SIZE, NULL, "nothing but empty lines");
    free(text);
}

/* More rows than places are kept for: 2^16 × 256 rows of two bytes are 32 MB, so that the index
   halves itself, and rows are found from the places that remain. */
static void finds_rows_of_long_files(void **state)
{
    (void)state;
    enum { ROWS = (1 << 24) + 70000 };
    char *text = malloc(2 * ROWS);
    struct ivon_examples *examples = NULL;
    struct ivon_error error;
    float found[300];
    assert_non_null(text);
    for (size_t i = 0; i < ROWS; i++) {
        text[2 * i] = (char)('0' + i * i % 11 % 10);
        text[2 * i + 1] = '\n';
    }
    write_file("long.csv", text, 2 * ROWS);
    assert_int_equal(ivon_dataset_open(&examples, "long.csv", NULL, &error), 0);
    assert_int_equal(ivon_examples_count(examples), ROWS);
    const uint64_t firsts[] = {0,   ROWS - 300, 1 << 24, (1 << 24) - 300, 511,
                               512, 8000001,    8000301, 8000300,         255};
    for (size_t r = 0; r < sizeof firsts / sizeof firsts[0]; r++) {
        assert_int_equal(ivon_examples_read_f32(examples, 0, firsts[r], 300, found, &error), 0);
        for (size_t i = 0; i < 300; i++)
            assert_true(found[i] == (float)(text[2 * (firsts[r] + i)] - '0'));
    }
    ivon_examples_close(examples);
    free(text);
}

/* Rows of two bytes to forty, read in every order that a caller might choose. */
static void reads_any_range(void **state)
{
    (void)state;
    enum { ROWS = 3000, MOST = 600 };
    static struct buffer csv;
    static float found[3 * MOST];
    static int64_t labels[MOST];
    struct ivon_error error = {.message = "none"};
    const struct ivon_dataset_options options = {.size = sizeof options, .target_column = "label"};
    struct ivon_examples *examples = NULL;
    csv.size = 0;
    put(&csv, "a,label,b,c\n", 12);
    for (size_t i = 0; i < ROWS; i++) {
        char line[80];
        snprintf(line, sizeof line, "%s%g,%zu,\"%.6f\",%zue-1\r\n", i % 5 ? "" : "\n",
                 (double)i / 8, i % 10, (double)i / 64, i);
        put(&csv, line, strlen(line));
    }
    write_file("a.csv", csv.data, csv.size);
    assert_int_equal(ivon_dataset_open(&examples, "a.csv", &options, &error), 0);
    uint64_t bits = 1;
    for (int r = 0; r < 100; r++) {
        bits = bits * 6364136223846793005U + 1442695040888963407U;
        uint64_t count = (bits >> 33) % MOST, first = (bits >> 20) % (ROWS - count);
        assert_int_equal(ivon_examples_read_f32(examples, 0, first, count, found, &error), 0);
        assert_int_equal(ivon_examples_read_i64(examples, 1, first, count, labels, &error), 0);
        for (size_t i = 0; i < count; i++) {
            size_t row = first + i; /* dividing by 10 in float rounds once, as reading does */
            assert_true(found[3 * i] == (float)row / 8 && found[3 * i + 1] == (float)row / 64 &&
                        found[3 * i + 2] == (float)row / 10);
            assert_int_equal(labels[i], row % 10);
        }
    }
    ivon_examples_close(examples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_fields),
        cmocka_unit_test(compares_and_numbers),
        cmocka_unit_test(shortens_excerpts),
        cmocka_unit_test(rounds_like_strtof),
        cmocka_unit_test(rounds_middles_like_strtof),
        cmocka_unit_test(takes_numbers_in_one_step),
        cmocka_unit_test(passes_over_records),
        cmocka_unit_test(tells_numbers),
        cmocka_unit_test(reads_doubles),
        cmocka_unit_test(reads_files),
        cmocka_unit_test(tells_headers),
        cmocka_unit_test(tells_whole_targets),
        cmocka_unit_test(chooses_numbered_columns),
        cmocka_unit_test(refuses_files),
        cmocka_unit_test(survives_what_is_no_text),
        cmocka_unit_test(finds_rows_of_long_files),
        cmocka_unit_test(reads_any_range),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
