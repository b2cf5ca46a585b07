/* What all sources and sinks share: names, shapes, look-up, ranges, and those in memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/stream.h"

static void accepts_names(void **state)
{
    (void)state;
    static const char *const names[] = {"a",
                                        "fc.weight",
                                        "layers/0/attention",
                                        "with space",
                                        "...",
                                        "..a",
                                        ".hidden",
                                        "a/.b/c..",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x98\x80",
                                        "\xc2\xa0",
                                        "\xed\x9f\xbf",
                                        "\xee\x80\x80",
                                        "\xf4\x8f\xbf\xbf",
                                        "\xe0\xa0\x80",
                                        "\xf0\x90\x80\x80",
                                        "'quoted'",
                                        "back\\slash"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!tensor_name_valid(names[i]))
            fail_msg("name %zu, '%s', was refused", i, names[i]);
}

static void refuses_names(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "/",
                                        "/a",
                                        "a/",
                                        "a//b",
                                        ".",
                                        "..",
                                        "a/.",
                                        "a/..",
                                        "./a",
                                        "../a",
                                        "a/./b",
                                        "a/../b",
                                        "a\nb",
                                        "a\tb",
                                        "\x01",
                                        "\x1f",
                                        "\x7f",
                                        "\x1b[2J",
                                        "\xc2\x80",
                                        "\xc2\x9b",
                                        "\xc2\x9f", /* C1 controls */
                                        "\x80",
                                        "\xbf",
                                        "\xff",
                                        "\xfe",
                                        "a\xc3", /* no start, no end */
                                        "\xc0\xaf",
                                        "\xc1\xbf",
                                        "\xe0\x9f\xbf",
                                        "\xf0\x8f\xbf\xbf", /* longer than needed */
                                        "\xed\xa0\x80",
                                        "\xed\xbf\xbf", /* surrogates */
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80", /* beyond U+10FFFF */
                                        "\xe2\x82",
                                        "\xf0\x9f\x98",
                                        "\xe2\x28\xa1",
                                        "\xc3("};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (tensor_name_valid(names[i]))
            fail_msg("name %zu was accepted", i);
}

static void messages_hold_no_control(void **state)
{
    (void)state;
    struct ivon_error error;
    assert_int_equal(ivon_error_set(&error, IVON_ERROR_DATA, "a%sb", "\x1b[2J\n\x7f\xc2\x9b!"),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "a?[2J?"
                                       "?"
                                       "?"
                                       "?!b");
    assert_int_equal(error.code, IVON_ERROR_DATA);
    ivon_error_set(&error, IVON_ERROR_IO, "'%s'", "\xc3\xa9\xe2\x82\xac");
    assert_string_equal(error.message, "'\xc3\xa9\xe2\x82\xac'");
    ivon_error_set(&error, IVON_ERROR_IO, "%s",
                   "a\xe2\x80\xae\xff\xd8\x9c\xe2\x80\xa8"
                   "b\xe2\x82");
    assert_string_equal(error.message, "a????"
                                       "??"
                                       "???b??");
    ivon_error_set(&error, IVON_ERROR_DATA, "'%s' is %g, then %g: '-nan'", "x -nanny", -NAN,
                   -INFINITY);
    assert_string_equal(error.message, "'x -nanny' is nan, then -inf: '-nan'");
    assert_int_equal(ivon_error_set(NULL, IVON_ERROR_IO, "%s", "nobody listens"), IVON_ERROR_IO);
}

static void counts_shapes(void **state)
{
    (void)state;
    size_t count = 99;
    assert_true(tensor_shape_count(0, NULL, 8, &count));
    assert_int_equal(count, 1);
    assert_true(tensor_shape_count(3, (const int64_t[]){2, 3, 5}, 4, &count));
    assert_int_equal(count, 30);
    assert_true(tensor_shape_count(3, (const int64_t[]){2, 0, 5}, 4, &count));
    assert_int_equal(count, 0);
    assert_true(tensor_shape_count(2, (const int64_t[]){0, INT64_MAX}, 1, &count));
    assert_int_equal(count, 0);
    assert_true(tensor_shape_count(1, (const int64_t[]){INT64_MAX}, 1, &count));
    assert_int_equal(count, INT64_MAX);
    assert_true(tensor_shape_count(1, (const int64_t[]){INT64_MAX / 8}, 8, &count));
    assert_true(
        tensor_shape_count(2, (const int64_t[]){INT64_C(1) << 31, INT64_C(1) << 31}, 1, &count));
    assert_int_equal(count, INT64_C(1) << 62);
}

static void refuses_shapes(void **state)
{
    (void)state;
    size_t count = 99;
    assert_false(tensor_shape_count(1, (const int64_t[]){-1}, 1, &count));
    assert_false(tensor_shape_count(2, (const int64_t[]){0, -1}, 1, &count));
    assert_false(tensor_shape_count(2, (const int64_t[]){-1, -1}, 1, &count));
    assert_false(tensor_shape_count(1, (const int64_t[]){INT64_MAX}, 2, &count));
    assert_false(tensor_shape_count(1, (const int64_t[]){INT64_MAX / 8 + 1}, 8, &count));
    assert_false(
        tensor_shape_count(2, (const int64_t[]){INT64_C(1) << 32, INT64_C(1) << 31}, 1, &count));
    assert_false(tensor_shape_count(2, (const int64_t[]){INT64_C(1) << 32, INT64_C(1) << 32}, 1,
                                    &count)); /* 2^64, which wraps to 0 */
    assert_false(tensor_shape_count(
        4, (const int64_t[]){INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}, 8, &count));
    assert_int_equal(count, 99);
}

static struct ivon_tensor vector(enum ivon_part part, const char *name, enum ivon_dtype dtype,
                                 int64_t extent)
{
    return (struct ivon_tensor){.name = name,
                                .part = part,
                                .dtype = dtype,
                                .rank = 1,
                                .shape = {extent},
                                .count = (size_t)extent,
                                .ess = NAN,
                                .weight_decay = NAN};
}

static void finds_tensors(void **state)
{
    (void)state;
    enum { NAMES = 200 };
    static char names[NAMES][16];
    static struct ivon_tensor tensors[3 * NAMES];
    static const void *data[3 * NAMES];
    static const float value = 1;
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    struct ivon_error error;
    for (size_t i = 0; i < NAMES; i++) { /* in an order that is not the alphabet's */
        snprintf(names[i], sizeof names[i], "t%zu", i * 77 % NAMES);
        tensors[3 * i] = vector(IVON_BUFFER, names[i], IVON_F32, 1);
        tensors[3 * i + 1] = vector(IVON_MEAN, names[i], IVON_F32, 1);
        tensors[3 * i + 2] = vector(IVON_HESSIAN, names[i], IVON_F32, 1);
    }
    for (size_t i = 0; i < 3 * NAMES; i++)
        data[i] = &value;
    assert_int_equal(
        ivon_source_from_memory(&source, "memory", &header, tensors, data, 3 * NAMES, &error), 0);
    assert_int_equal(ivon_source_tensor_count(source), 3 * NAMES);
    for (size_t i = 0; i < 3 * NAMES; i++) {
        assert_int_equal(ivon_source_find(source, tensors[i].part, tensors[i].name), i);
        assert_string_equal(ivon_source_tensor(source, i)->name, tensors[i].name);
        assert_ptr_not_equal(ivon_source_tensor(source, i)->name, tensors[i].name); /* a copy */
    }
    assert_int_equal(ivon_source_find(source, IVON_MOMENTUM, "t1"), -1);
    assert_int_equal(ivon_source_find(source, IVON_GRAPH, "t1"), -1);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "t200"), -1);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, ""), -1);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "zzz"), -1);
    assert_null(ivon_source_tensor(source, 3 * NAMES));
    ivon_source_close(source);
    ivon_source_close(NULL);
}

static void refuses_duplicates(void **state)
{
    (void)state;
    const float value = 1;
    const void *const data[] = {&value, &value, &value};
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    struct ivon_error error;
    struct ivon_tensor tensors[] = {vector(IVON_MEAN, "w", IVON_F32, 1),
                                    vector(IVON_HESSIAN, "w", IVON_F32, 1),
                                    vector(IVON_MEAN, "w", IVON_F32, 1)};
    assert_int_equal(ivon_source_from_memory(&source, "memory", &header, tensors, data, 3, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "memory: tensor 'w' occurs twice under 'mean'");
    assert_null(source);
    assert_int_equal(ivon_source_from_memory(&source, "memory", &header, tensors, data, 2, &error),
                     0);
    ivon_source_close(source);
}

static void refuses_impossible_tensors(void **state)
{
    (void)state;
    const float value = 1;
    const void *const data[] = {&value};
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    struct ivon_error error;
    struct ivon_tensor bad[] = {
        vector(IVON_MEAN, "w", IVON_F32, -1), vector(IVON_MEAN, "w", IVON_F32, INT64_MAX),
        vector(IVON_MEAN, "w", IVON_F32, 1),  vector(IVON_MEAN, "w", IVON_F32, 1),
        vector(IVON_MEAN, "w", IVON_I32, 1),  vector(IVON_HESSIAN, "w", IVON_U8, 1)};
    bad[2].rank = IVON_RANK_MAX + 1;
    bad[3].rank = -1;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(
            ivon_source_from_memory(&source, "memory", &header, &bad[i], data, 1, &error),
            IVON_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, "'w'"));
        assert_null(source);
    }
}

static void reads_and_views_memory(void **state)
{
    (void)state;
    double numbers[5] = {1, 2, 3, 4, 5}, buffer[5] = {0};
    _Alignas(8) unsigned char bytes[64] = {0};
    memcpy(bytes + 1, numbers, sizeof numbers);
    const void *const data[] = {numbers, bytes + 1, bytes};
    struct ivon_header header = ivon_header_empty();
    header.ess = 10;
    header.step = 3;
    header.creator = "test";
    header.mapping = "by hand";
    header.warning = "none";
    struct ivon_tensor tensors[] = {vector(IVON_MEAN, "aligned", IVON_F64, 5),
                                    vector(IVON_MEAN, "unaligned", IVON_F64, 5),
                                    vector(IVON_MEAN, "empty", IVON_F64, 0)};
    struct ivon_source *source = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_source_from_memory(&source, "memory", &header, tensors, data, 3, &error),
                     0);
    assert_string_equal(ivon_source_path(source), "memory");
    assert_true(ivon_source_header(source)->ess == 10);
    assert_true(isnan(ivon_source_header(source)->weight_decay));
    assert_int_equal(ivon_source_header(source)->step, 3);
    assert_string_equal(ivon_source_header(source)->creator, "test");
    assert_ptr_not_equal(ivon_source_header(source)->creator, header.creator);
    assert_null(ivon_source_header(source)->provenance);
    assert_string_equal(ivon_source_header(source)->mapping, "by hand");
    assert_ptr_not_equal(ivon_source_header(source)->mapping, header.mapping);
    assert_string_equal(ivon_source_header(source)->warning, "none");
    assert_ptr_not_equal(ivon_source_header(source)->warning, header.warning);
    assert_ptr_equal(ivon_source_view(source, 0, 0), numbers);
    assert_ptr_equal(ivon_source_view(source, 0, 3), numbers + 3);
    assert_null(ivon_source_view(source, 1, 0));
    assert_null(ivon_source_view(source, 0, 6));
    assert_null(ivon_source_view(source, 3, 0));
    for (size_t t = 0; t < 2; t++) {
        assert_int_equal(ivon_source_read(source, t, 1, 3, buffer, &error), 0);
        assert_memory_equal(buffer, numbers + 1, 3 * sizeof *numbers);
        assert_int_equal(ivon_source_read(source, t, 5, 0, buffer, &error), 0);
    }
    assert_int_equal(ivon_source_read(source, 2, 0, 0, buffer, &error), 0);
    const size_t beyond[][3] = {{0, 5, 1}, {0, 0, 6}, {0, 6, 0},       {0, 1, SIZE_MAX},
                                {3, 0, 0}, {2, 0, 1}, {0, SIZE_MAX, 2}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++)
        assert_int_equal(
            ivon_source_read(source, beyond[i][0], beyond[i][1], beyond[i][2], buffer, &error),
            IVON_ERROR_ARGUMENT);
    ivon_source_will_need(source, 0, 0, 5);
    ivon_source_done_with(source, 0, 0, 5);
    assert_ptr_equal(ivon_source_view(source, 0, 0), numbers);
    ivon_source_close(source);
}

static void writes_memory(void **state)
{
    (void)state;
    uint16_t halves[6] = {9, 9, 9, 9, 9, 9};
    uint8_t flags[3] = {9, 9, 9};
    void *const data[] = {halves, flags};
    const struct ivon_tensor tensors[] = {vector(IVON_MEAN, "m", IVON_F16, 5),
                                          vector(IVON_BUFFER, "mask", IVON_BOOL, 2)};
    void *const dropped[] = {NULL, flags + 2};
    const uint16_t pieces[5] = {1, 2, 3, 4, 5};
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_sink_to_memory(&sink, tensors, data, 2, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 3, 2, pieces + 3, &error), 0); /* in any order */
    assert_int_equal(ivon_sink_write(sink, 0, 0, 3, pieces, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 1, 1, 1, (const uint8_t[]){1}, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 5, 0, pieces, &error), 0);
    const size_t beyond[][3] = {{0, 5, 1}, {0, 0, 6}, {0, 1, SIZE_MAX}, {2, 0, 1}, {1, 2, 1}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++)
        assert_int_equal(
            ivon_sink_write(sink, beyond[i][0], beyond[i][1], beyond[i][2], pieces, &error),
            IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_sink_commit(sink, &error), 0);
    ivon_sink_close(sink);
    ivon_sink_close(NULL);
    assert_memory_equal(halves, pieces, sizeof pieces);
    assert_int_equal(halves[5], 9);
    assert_int_equal(flags[0], 9);
    assert_int_equal(flags[1], 1);
    assert_int_equal(flags[2], 9);
    assert_int_equal(ivon_sink_to_memory(&sink, tensors, dropped, 2, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 0, 5, pieces, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 0, 6, pieces, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_sink_write(sink, 1, 0, 1, (const uint8_t[]){5}, &error), 0);
    ivon_sink_close(sink);
    assert_memory_equal(halves, pieces, sizeof pieces);
    assert_int_equal(flags[2], 5);
}

static void names_parts(void **state)
{
    (void)state;
    static const char *const names[IVON_PART_COUNT] = {
        "mean",           "hessian",         "momentum", "basis_input",     "basis_output",
        "spectrum_input", "spectrum_output", "gram",     "lowrank_vectors", "buffers",
        "model.onnx",     "structure.json",  "opaque"};
    for (enum ivon_part part = 0; part < IVON_PART_COUNT; part++)
        assert_string_equal(ivon_part_name(part), names[part]);
    struct ivon_header header = ivon_header_empty();
    assert_true(isnan(header.ess) && isnan(header.weight_decay));
    assert_true(header.step == -1 && header.n_train == -1 && !header.creator &&
                !header.provenance && !header.mapping && !header.warning);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_names),
        cmocka_unit_test(refuses_names),
        cmocka_unit_test(messages_hold_no_control),
        cmocka_unit_test(counts_shapes),
        cmocka_unit_test(refuses_shapes),
        cmocka_unit_test(finds_tensors),
        cmocka_unit_test(refuses_duplicates),
        cmocka_unit_test(refuses_impossible_tensors),
        cmocka_unit_test(reads_and_views_memory),
        cmocka_unit_test(writes_memory),
        cmocka_unit_test(names_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
