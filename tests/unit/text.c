/* Texts as tokens, and runs of tokens as examples. */
#include "core/utf8.h"
#include "tests/unit/files.h"

static void sequences(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        uint32_t character;
    } cases[] = {{"a", 1, 'a'},
                 {"\x7f", 1, 0x7f},
                 {"\xc2\x80", 2, 0x80},
                 {"\xdf\xbf", 2, 0x7ff},
                 {"\xe0\xa0\x80", 3, 0x800},
                 {"\xed\x9f\xbf", 3, 0xd7ff},
                 {"\xee\x80\x80", 3, 0xe000},
                 {"\xf0\x90\x80\x80", 4, 0x10000},
                 {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
                 /* Of no character: too long, a surrogate, beyond the last, a tail, a cut. */
                 {"\xc1\xbf", 0, 0},
                 {"\xe0\x9f\xbf", 0, 0},
                 {"\xf0\x8f\xbf\xbf", 0, 0},
                 {"\xed\xa0\x80", 0, 0},
                 {"\xf4\x90\x80\x80", 0, 0},
                 {"\xf5\x80\x80\x80", 0, 0},
                 {"\x80", 0, 0},
                 {"\xe2\x82", 0, 0},
                 {"\xe2\x28\xa1", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t character = 0;
        size_t size = strlen(cases[i].text);
        const unsigned char *text = (const unsigned char *)cases[i].text;
        assert_int_equal(utf8_decode(text, size, &character), cases[i].length);
        assert_int_equal(character, cases[i].character);
        if (cases[i].length > 1)
            assert_int_equal(utf8_decode(text, size - 1, &character), 0);
        char back[4];
        if (cases[i].length) {
            assert_int_equal(utf8_encode(character, back), size);
            assert_memory_equal(back, text, size);
        }
    }
    static const uint32_t none[] = {0xd800, 0xdfff, 0x110000, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        char replaced[4];
        assert_int_equal(utf8_encode(none[i], replaced), 3);
        assert_memory_equal(replaced, "\xef\xbf\xbd", 3);
    }
}

static void check(struct ivon_examples *examples, const char *field, size_t row, size_t count,
                  const char *expected)
{
    int64_t tokens[16];
    ptrdiff_t index = ivon_examples_find(examples, field);
    assert_true(index >= 0 && count <= 16);
    assert_int_equal(ivon_examples_field(examples, (size_t)index)->rank, 1);
    assert_int_equal(ivon_examples_field(examples, (size_t)index)->count, count);
    assert_int_equal(ivon_examples_read_i64(examples, (size_t)index, row, 1, tokens, NULL), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(tokens[i], expected[i] - '0');
}

/* Its 21 characters, of which 7 differ: newline 0, a to d 1 to 4, ä 5, Ω 6. */
static const char text[] = "abcd\nabcdäΩabcd\nabcda";

static void examples_of_a_text(void **state)
{
    (void)state;
    write_text("t.txt", text);
    struct ivon_dataset_options options = {
        .size = sizeof options, .characters = true, .context = 4};
    struct ivon_examples *examples = open_fine("t.txt", &options);
    assert_int_equal(ivon_examples_count(examples), 5);
    check(examples, "x", 0, 4, "1234");
    check(examples, "y", 0, 4, "2340");
    check(examples, "x", 2, 4, "4561");
    check(examples, "y", 4, 4, "2341");
    ivon_examples_close(examples);
    options.stride = 3;
    options.limit = 2;
    options.targets = "next";
    examples = open_fine("t.txt", &options);
    assert_int_equal(ivon_examples_count(examples), 2);
    check(examples, "x", 1, 4, "4012");
    check(examples, "next", 1, 4, "0123");
    ivon_examples_close(examples);
    options.targets = "";
    examples = open_fine("t.txt", &options);
    assert_int_equal(ivon_examples_field_count(examples), 1);
    ivon_examples_close(examples);
}

static void check_characters(const struct ivon_examples *examples)
{
    static const char *const expected[] = {"\n", "a", "b", "c", "d", "ä", "Ω"};
    size_t count;
    const char *const *characters = ivon_examples_characters(examples, &count);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(characters[i], expected[i]);
}

static void parts_of_a_text(void **state)
{
    (void)state;
    write_text("t.txt", text);
    struct ivon_dataset_options options = {
        .size = sizeof options, .characters = true, .context = 1};
    struct ivon_examples *train = open_fine("t.txt:train", &options), *chosen;
    check_characters(train);
    assert_int_equal(ivon_examples_subsample(&chosen, train, 3, 0, NULL), 0);
    check_characters(chosen);
    ivon_examples_close(chosen);
    struct ivon_examples *test = open_fine("t.txt:test", &options);
    assert_int_equal(ivon_examples_count(train), 18); /* of 19 tokens */
    assert_int_equal(ivon_examples_count(test), 1);
    check(train, "y", 17, 1, "3");
    check(test, "x", 0, 1, "4");
    check(test, "y", 0, 1, "1");
    ivon_examples_close(train);
    ivon_examples_close(test);
    open_refused("t.txt:rest", &options, IVON_ERROR_ARGUMENT, "expected train or test");
    options.context = 2;
    open_refused("t.txt:test", &options, IVON_ERROR_DATA,
                 "t.txt:test: 2 tokens, expected more than the context of 2");
    write_text("latin.txt", "na\xefve");
    open_refused("latin.txt", &options, IVON_ERROR_DATA,
                 "latin.txt: byte 2 is not of a text in UTF-8");
    write_text("empty.txt", "");
    open_refused("empty.txt", &options, IVON_ERROR_DATA, "empty");
    const char *const inputs[] = {"a", "b"};
    options.inputs = inputs;
    options.input_count = 2;
    open_refused("t.txt", &options, IVON_ERROR_ARGUMENT, "2 inputs are asked for");
}

static void examples_of_an_array(void **state)
{
    (void)state;
    static const unsigned char tokens[] = {0, 0, 8, 1, 0, 0, 0, 6, 5, 1, 2, 3, 2, 1};
    static const unsigned char numbers[] = {0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0};
    static const unsigned char matrix[] = {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1};
    struct ivon_dataset_options options = {.size = sizeof options, .context = 2};
    write_file("tokens.idx", tokens, sizeof tokens);
    struct ivon_examples *examples = open_fine("tokens.idx", &options);
    size_t count = 1;
    assert_null(ivon_examples_characters(examples, &count));
    assert_int_equal(count, 0);
    assert_int_equal(ivon_examples_count(examples), 2);
    check(examples, "x", 0, 2, "51");
    check(examples, "y", 1, 2, "32");
    ivon_examples_close(examples);
    write_file("numbers.idx", numbers, sizeof numbers);
    open_refused("numbers.idx", &options, IVON_ERROR_DATA, "expected one integer, a token");
    write_file("matrix.idx", matrix, sizeof matrix);
    open_refused("matrix.idx", &options, IVON_ERROR_DATA,
                 "'x' has 2 elements of type u8 in a row, expected one integer, a token");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences), cmocka_unit_test(examples_of_a_text),
        cmocka_unit_test(parts_of_a_text), cmocka_unit_test(examples_of_an_array)};
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
