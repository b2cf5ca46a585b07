/* Texts in a column of CSV as rows of tokens. */
#include "tests/unit/files.h"

#include <sys/stat.h>

enum { LENGTH = 5, ROWS = 200 };

static const struct ivon_dataset_options plain = {
    .size = sizeof plain, .vocabulary = "v.txt", .target_column = "label", .context = LENGTH};

static void write_vocabulary(void)
{
    write_text("v.txt", "<pad>\r\n<unk>\r\nthe\nfilm\nisn't\n5\"\nThe\nthe\n\n,\ngut\xc3\xa9");
}

/* That the rows from `first` on have these tokens, one after another. */
static void check_tokens(struct ivon_examples *examples, uint64_t first, size_t count,
                         const int64_t *expected)
{
    struct ivon_error error = {.message = "none"};
    const struct ivon_field *field = ivon_examples_field(examples, 0);
    int64_t found[ROWS * LENGTH];
    assert_true(field->rank == 1 && field->shape[0] == LENGTH && field->dtype == IVON_I32);
    if (ivon_examples_read_i64(examples, 0, first, count, found, &error))
        fail_msg("%s", error.message);
    for (size_t i = 0; i < count * LENGTH; i++)
        if (found[i] != expected[i])
            fail_msg("token %zu is %lld, expected %lld", i, (long long)found[i],
                     (long long)expected[i]);
}

static void numbers_words(void **state)
{
    (void)state;
    write_vocabulary();
    write_text("t.csv", "\xef\xbb\xbf"
                        "label,text\n"
                        "3,the film\n"
                        "\n"
                        "1, THE\tFILM   The thE \n"
                        "0,\"the 5\"\" film, ISN'T\n , \"\n"
                        "2,\n"
                        "7,film nothing Gut\xc3\xa9 GUT\xc3\x89 film the the the\r\n");
    static const int64_t tokens[] = {2, 3, 0, 0, 0, 2, 3, 6, 2, 0,  2, 5, 1,
                                     4, 9, 0, 0, 0, 0, 0, 3, 1, 10, 1, 3};
    static const int64_t labels[] = {3, 1, 0, 2, 7};
    struct ivon_error error = {.message = "none"};
    int64_t found[5];
    struct ivon_examples *examples = open_fine("t.csv", &plain);
    assert_int_equal(ivon_examples_count(examples), 5);
    assert_int_equal(ivon_examples_find(examples, "x"), 0);
    assert_int_equal(ivon_examples_find(examples, "y"), 1);
    check_tokens(examples, 0, 5, tokens);
    check_tokens(examples, 3, 1, tokens + 15);
    check_tokens(examples, 1, 3, tokens + 5);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, 5, found, &error), 0);
    assert_memory_equal(found, labels, sizeof labels);
    ivon_examples_close(examples);
    struct ivon_dataset_options options = plain;
    options.limit = 2;
    options.targets = "";
    examples = open_fine("t.csv", &options);
    assert_int_equal(ivon_examples_count(examples), 2);
    assert_int_equal(ivon_examples_field_count(examples), 1);
    check_tokens(examples, 0, 2, tokens);
    ivon_examples_close(examples);
}

/* Any order of reading gives the same: row i has i % LENGTH words. */
static void reads_in_any_order(void **state)
{
    (void)state;
    static int64_t tokens[ROWS * LENGTH];
    write_vocabulary();
    FILE *file = fopen("t.csv", "w");
    assert_non_null(file);
    fprintf(file, "text\n");
    for (size_t i = 0; i < ROWS; i++) {
        fprintf(file, "\"%s", i % 7 ? "" : "\n");
        for (size_t j = 0; j < i % LENGTH; j++) {
            fprintf(file, "%s ", (i + j) % 2 ? "film" : "isn't");
            tokens[i * LENGTH + j] = (i + j) % 2 ? 3 : 4;
        }
        fprintf(file, "\"\n");
    }
    fclose(file);
    struct ivon_dataset_options options = plain;
    options.target_column = NULL;
    struct ivon_examples *examples = open_fine("t.csv", &options);
    assert_int_equal(ivon_examples_count(examples), ROWS);
    assert_int_equal(ivon_examples_field_count(examples), 1);
    for (size_t i = 0, row = 0; i < ROWS; i++, row = (row + 77) % ROWS) {
        size_t count = ROWS - row < 3 ? ROWS - row : 3;
        check_tokens(examples, row, count, tokens + row * LENGTH);
    }
    check_tokens(examples, 0, ROWS, tokens);
    for (size_t i = 0; i < ROWS; i++)
        check_tokens(examples, i, 1, tokens + i * LENGTH);
    for (size_t row = 0, step = 1; row < ROWS; row += step++)
        check_tokens(examples, row, 1, tokens + row * LENGTH);
    ivon_examples_close(examples);
}

static void finds_columns(void **state)
{
    (void)state;
    static const int64_t the[] = {2, 0, 0, 0, 0}, film[] = {3, 0, 0, 0, 0};
    write_vocabulary();
    write_text("t.csv", "a,label,b,5\nthe,1,film,x\n");
    struct ivon_dataset_options options = plain;
    const struct {
        const char *name;
        const int64_t *tokens;
    } cases[] = {{"a", the}, {"1", the}, {"b", film}, {"3", film}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options.text_column = cases[i].name;
        struct ivon_examples *examples = open_fine("t.csv", &options);
        check_tokens(examples, 0, 1, cases[i].tokens);
        ivon_examples_close(examples);
    }
    write_text("t.csv", "text,label\nfilm,1\n");
    options.text_column = NULL;
    struct ivon_examples *examples = open_fine("t.csv", &options);
    check_tokens(examples, 0, 1, film);
    ivon_examples_close(examples);
}

static void refuses_files(void **state)
{
    (void)state;
    struct ivon_dataset_options options = plain;
    write_vocabulary();
    write_text("t.csv", "a,label,b\nthe,1,film\n");
    open_refused("t.csv", &plain, IVON_ERROR_DATA,
                 "t.csv: has 3 columns, and which of them has the texts is not said");
    options.text_column = "c";
    open_refused("t.csv", &options, IVON_ERROR_DATA, "t.csv: has no column 'c' of texts");
    options.text_column = "label";
    open_refused("t.csv", &options, IVON_ERROR_ARGUMENT,
                 "t.csv: one column is to be both the texts and the targets");
    options = plain;
    options.context = 0;
    open_refused("t.csv", &options, IVON_ERROR_ARGUMENT,
                 "t.csv: how many tokens a text has is not said");
    options = plain;
    options.target_column = "2";
    write_text("t.csv", "12,1\nthe,2\n");
    open_refused("t.csv", &options, IVON_ERROR_DATA,
                 "t.csv: has numbers alone in its first line, expected headers of the columns");
    open_refused("none.csv", &plain, IVON_ERROR_INPUT, "none.csv: cannot open it");
    write_text("t.csv", "text,label\nthe,1\nthe,many\n");
    open_refused("t.csv", &plain, IVON_ERROR_DATA, "row 1 (line 3), column 'label': found 'many'");
    write_file("t.npy", "\x93NUMPY", 6);
    options = plain;
    options.target_column = NULL;
    open_refused("t.npy", &options, IVON_ERROR_ARGUMENT,
                 "t.npy: a vocabulary is for texts in CSV files, and this is an npy file");
}

static void refuses_vocabularies(void **state)
{
    (void)state;
    write_text("t.csv", "text,label\nthe film,1\nthe rest,2\n");
    open_refused("t.csv", &plain, IVON_ERROR_INPUT, "v.txt: cannot open it");
    write_text("v.txt", "");
    open_refused("t.csv", &plain, IVON_ERROR_DATA, "v.txt: is no vocabulary: it is empty");
    write_file("v.txt", "a\0b", 3);
    open_refused("t.csv", &plain, IVON_ERROR_DATA, "v.txt: is no vocabulary: it has null bytes");
    write_text("v.txt", "film\nthe");
    struct ivon_examples *examples = open_fine("t.csv", &plain);
    struct ivon_error error;
    int64_t tokens[LENGTH];
    assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 1, tokens, &error), 0);
    assert_true(tokens[0] == 1 && tokens[1] == 0);
    assert_int_equal(ivon_examples_read_i64(examples, 0, 1, 1, tokens, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "t.csv: row 1: 'rest' is not in v.txt, where neither <unk> "
                                       "nor [UNK] stands for what is not");
    ivon_examples_close(examples);
    write_text("v.txt", "film\n[UNK]\nthe\n");
    examples = open_fine("t.csv", &plain);
    assert_int_equal(ivon_examples_read_i64(examples, 0, 1, 1, tokens, &error), 0);
    assert_true(tokens[0] == 2 && tokens[1] == 1);
    ivon_examples_close(examples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(numbers_words, clean_directory),
        cmocka_unit_test_teardown(reads_in_any_order, clean_directory),
        cmocka_unit_test_teardown(finds_columns, clean_directory),
        cmocka_unit_test_teardown(refuses_files, clean_directory),
        cmocka_unit_test_teardown(refuses_vocabularies, clean_directory),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
