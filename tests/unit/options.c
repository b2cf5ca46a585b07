/* Options of programs that were compiled with other versions of the headers. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>

#include "core/options.h"
#include "ivon/ivon.h"

/* A struct of options that has grown: the first version ended before `second`. */
struct sample {
    size_t size;
    double first;
    uint64_t reserved[2];
    int64_t second;
};

static const struct options_kind kind = {.defaults = "sample_defaults",
                                         .reserved = {OPTIONS_RESERVED(struct sample, reserved)}};

static struct sample sample_defaults(void)
{
    return (struct sample){.size = sizeof(struct sample), .first = 1, .second = 2};
}

static void a_shorter_struct_keeps_the_other_defaults(void **state)
{
    (void)state;
    struct sample own = sample_defaults();
    struct {
        size_t size;
        double first;
        uint64_t reserved[2];
        unsigned char behind[sizeof(struct sample)]; /* whatever is there in memory */
    } old = {.size = offsetof(struct sample, second), .first = 7};
    memset(old.behind, 0xa5, sizeof old.behind);
    assert_int_equal(options_read(&kind, &own, &old, NULL), 0);
    assert_true(own.first == 7);
    assert_int_equal(own.second, 2);
    assert_int_equal(own.size, sizeof own);
}

static void a_longer_struct_may_ask_for_nothing_new(void **state)
{
    (void)state;
    struct sample own = sample_defaults();
    struct {
        struct sample known;
        uint64_t added[3];
    } longer = {.known = {.size = sizeof longer, .first = 7, .second = 8}};
    struct ivon_error error = {0};
    assert_int_equal(options_read(&kind, &own, &longer, &error), 0);
    assert_true(own.first == 7);
    assert_int_equal(own.second, 8);
    assert_int_equal(own.size, sizeof own);
    unsigned char *last = (unsigned char *)&longer + sizeof longer - 1;
    *last = 1;
    assert_int_equal(options_read(&kind, &own, &longer, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message,
                        "byte 63 of the options is set, which this version of libivon does not "
                        "know: expected what sample_defaults() makes");
}

static void reserved_words_are_zero(void **state)
{
    (void)state;
    struct sample own = sample_defaults(), given = sample_defaults();
    given.reserved[1] = 1;
    assert_int_equal(options_read(&kind, &own, &given, NULL), IVON_ERROR_ARGUMENT);
}

static void a_size_that_was_never_set_is_refused(void **state)
{
    (void)state;
    const size_t wrong[] = {0, 1, sizeof(size_t), sizeof(struct sample) - 1, 1 << 20, SIZE_MAX};
    struct sample own = sample_defaults(), given = sample_defaults();
    struct ivon_error error = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        given.size = wrong[i];
        assert_int_equal(options_read(&kind, &own, &given, &error), IVON_ERROR_ARGUMENT);
        assert_int_equal(options_check_embedded(&kind, &given, sizeof given, NULL),
                         IVON_ERROR_ARGUMENT);
    }
    given.size = 0;
    options_read(&kind, &own, &given, &error);
    assert_string_equal(error.message,
                        "options of 0 bytes, expected those that sample_defaults() begins with");
    assert_int_equal(options_read(&kind, &own, NULL, &error), 0);
    assert_int_equal(own.second, 2);
}

/* Every function that fills the caller's struct, with one type. */
#define FILLER(name)                                                                               \
    static void fill_##name(void *options, size_t size)                                            \
    {                                                                                              \
        ivon_##name##_options_init(options, size);                                                 \
    }
FILLER(merge)
FILLER(predict)
FILLER(sensitivity)
FILLER(sample)
FILLER(convert)
FILLER(summary)
FILLER(metrics)
FILLER(open)
FILLER(create)
FILLER(table_reader)
FILLER(dataset)
FILLER(records)
FILLER(arviz)
FILLER(table)

static void fill_train(void *options, size_t size)
{
    ivon_train_options_init(options, size, IVON_METHOD_ADAMW);
}

#define ROW(name)                                                                                  \
    {                                                                                              \
        fill_##name, sizeof(struct ivon_##name##_options)                                          \
    }

/* A program of another version gives memory of its own size: nothing behind it is written, and what
   is longer than the library's struct ends with zeros. */
static void defaults_fill_the_size_that_the_program_has(void **state)
{
    (void)state;
    static const struct {
        void (*fill)(void *options, size_t size);
        size_t size;
    } rows[] = {ROW(merge),   ROW(predict), ROW(sensitivity), ROW(sample), ROW(convert),
                ROW(summary), ROW(metrics), ROW(open),        ROW(create), ROW(table_reader),
                ROW(dataset), ROW(records), ROW(arviz),       ROW(table),  ROW(train)};
    enum { MORE = 24, POISON = 0xa5, ROOM = 1024 };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (size_t size = sizeof(size_t); size <= rows[r].size + MORE; size += sizeof(size_t)) {
            _Alignas(max_align_t) unsigned char whole[ROOM], found[ROOM];
            size_t stored, common = size < rows[r].size ? size : rows[r].size;
            rows[r].fill(whole, rows[r].size);
            memset(found, POISON, sizeof found);
            rows[r].fill(found, size);
            memcpy(&stored, found, sizeof stored);
            assert_int_equal(stored, size);
            assert_memory_equal(found + sizeof size, whole + sizeof size, common - sizeof size);
            for (size_t i = common; i < size; i++)
                assert_int_equal(found[i], 0);
            for (size_t i = size; i < sizeof found; i++)
                assert_int_equal(found[i], POISON);
        }
}

/* The struct as a first version may have had it: without what follows `ess`. */
static void an_old_program_merges_as_before(void **state)
{
    (void)state;
    float one = 1, three = 3, merged = 0;
    const struct ivon_tensor tensor = {
        .name = "w", .dtype = IVON_F32, .rank = 1, .shape = {1}, .ess = NAN, .weight_decay = NAN};
    const struct ivon_header header = ivon_header_empty();
    const void *data[2] = {&one, &three};
    void *out = &merged;
    struct ivon_merge_model models[2] = {{.weight = 1}, {.weight = 1}};
    struct ivon_merge_options options;
    struct ivon_merge *merge = NULL;
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    size_t count;
    memset(&options, 0xa5, sizeof options);
    ivon_merge_options_init(&options, offsetof(struct ivon_merge_options, dtype));
    options.method = IVON_MERGE_AVERAGE;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(
            ivon_source_from_memory(&models[i].source, "m", &header, &tensor, &data[i], 1, &error),
            0);
    assert_int_equal(ivon_merge_plan(&merge, NULL, models, 2, &options, &error), 0);
    const struct ivon_tensor *tensors = ivon_merge_outputs(merge, &count);
    assert_int_equal(count, 1);
    assert_int_equal(ivon_sink_to_memory(&sink, tensors, &out, count, &error), 0);
    assert_int_equal(ivon_merge_run(merge, &sink, &error), 0);
    assert_true(merged == 2);
    ivon_sink_close(sink);
    ivon_merge_free(merge);
    merge = NULL;
    options = ivon_merge_defaults();
    options.resources.reserved[2] = 1;
    assert_int_equal(ivon_merge_plan(&merge, NULL, models, 2, &options, &error),
                     IVON_ERROR_ARGUMENT);
    options.size = 0;
    assert_int_equal(ivon_merge_plan(&merge, NULL, models, 2, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "options of 0 bytes, expected those that "
                                       "ivon_merge_defaults() begins with");
    assert_null(merge);
    for (size_t i = 0; i < 2; i++)
        ivon_source_close(models[i].source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shorter_struct_keeps_the_other_defaults),
        cmocka_unit_test(a_longer_struct_may_ask_for_nothing_new),
        cmocka_unit_test(reserved_words_are_zero),
        cmocka_unit_test(a_size_that_was_never_set_is_refused),
        cmocka_unit_test(defaults_fill_the_size_that_the_program_has),
        cmocka_unit_test(an_old_program_merges_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
