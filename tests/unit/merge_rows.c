/* Merges of tensors whose rows differ in number. All numbers are small: sums are exact. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/merge.h"

enum { COLUMNS = 2, ROWS_MAX = 4 };

/* A model of "w" and "b", of as many rows: element k of either is k + first. */
struct model {
    float values[ROWS_MAX * COLUMNS];
    struct ivon_source *source;
};

static void model_open(struct model *model, const char *name, int64_t rows, int64_t elements,
                       float first)
{
    struct ivon_error error = {0};
    struct ivon_header header = ivon_header_empty();
    const struct ivon_tensor none = {
        .part = IVON_MEAN, .dtype = IVON_F32, .ess = NAN, .weight_decay = NAN};
    struct ivon_tensor tensors[] = {none, none};
    const void *data[] = {model->values, model->values};
    tensors[0].name = "w";
    tensors[0].rank = 2;
    tensors[0].shape[0] = rows;
    tensors[0].shape[1] = COLUMNS;
    tensors[1].name = "b";
    tensors[1].rank = 1;
    tensors[1].shape[0] = elements;
    for (int i = 0; i < ROWS_MAX * COLUMNS; i++)
        model->values[i] = (float)i + first;
    if (ivon_source_from_memory(&model->source, name, &header, tensors, data, 2, &error))
        fail_msg("%s", error.message);
}

/* Plans base + model − base + other − base; the models have weight 1. */
static int plan(struct ivon_merge **merge, struct model *models,
                enum ivon_merge_vocabulary vocabulary, struct ivon_error *error)
{
    struct ivon_merge_options options = ivon_merge_defaults();
    const struct ivon_merge_model list[] = {{models[1].source, 1}, {models[2].source, 1}};
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    options.vocabulary = vocabulary;
    options.movement = true;
    return ivon_merge_plan(merge, models[0].source, list, 2, &options, error);
}

/* Element k is merged for k below `common`: (k + 1) + 9 + 99; others are k + first. */
static void assert_elements(const float *found, size_t common, size_t count, float first)
{
    for (size_t i = 0; i < count; i++)
        if (found[i] != (float)i + (i < common ? 1 + 9 + 99 : first))
            fail_msg("element %zu is %g", i, (double)found[i]);
}

static void assert_result(struct model *models, enum ivon_merge_vocabulary vocabulary, size_t rows,
                          size_t others, const char *from, float first)
{
    struct ivon_error error = {0};
    struct ivon_merge *merge = NULL;
    float w[ROWS_MAX * COLUMNS], b[ROWS_MAX];
    void *data[] = {w, b};
    struct ivon_sink *sink = NULL;
    size_t count;
    double total;
    assert_int_equal(plan(&merge, models, vocabulary, &error), 0);
    const struct ivon_merge_tensor *fates = ivon_merge_tensors(merge, &count);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(fates[i].fate, IVON_MERGED);
        assert_int_equal(fates[i].merged_rows, 2);
        assert_int_equal(fates[i].other_rows, others);
        assert_string_equal(fates[i].others_from, from);
    }
    assert_int_equal(fates[0].count, rows * COLUMNS);
    const struct ivon_tensor *outputs = ivon_merge_outputs(merge, &count);
    assert_int_equal(count, 2);
    assert_int_equal(outputs[0].shape[0], rows);
    assert_int_equal(outputs[1].shape[0], rows);
    assert_int_equal(ivon_sink_to_memory(&sink, outputs, data, 2, &error), 0);
    if (ivon_merge_run(merge, &sink, &error))
        fail_msg("%s", error.message);
    assert_elements(w, 4, rows * COLUMNS, first);
    assert_elements(b, 2, rows, first);
    /* Six merged elements, each 9 and 99 away. */
    assert_true(fabs(ivon_merge_movement(merge, 0, 0, &total) - 9 * sqrt(6)) < 1e-12);
    assert_true(fabs(total - 108 * sqrt(6)) < 1e-12);
    /* The common rows of three inputs, and others of one. */
    assert_int_equal(ivon_merge_input_bytes(merge), (3 * 6 + 3 * others) * sizeof(float));
    ivon_sink_close(sink);
    ivon_merge_free(merge);
}

static void rows_that_one_input_has_are_its_own(void **state)
{
    (void)state;
    struct model models[3];
    model_open(&models[0], "base", 3, 3, 1);
    model_open(&models[1], "short", 2, 2, 10);
    model_open(&models[2], "long", 4, 4, 100);
    assert_result(models, IVON_VOCABULARY_BASE, 3, 1, "base", 1);
    assert_result(models, IVON_VOCABULARY_LONGEST, 4, 2, "long", 100);
    for (int i = 0; i < 3; i++)
        ivon_source_close(models[i].source);
}

static void other_differences_are_refused(void **state)
{
    (void)state;
    struct model models[3];
    struct ivon_error error = {0};
    struct ivon_merge *merge = NULL;
    model_open(&models[0], "base", 3, 3, 1);
    model_open(&models[1], "short", 2, 3, 10);
    model_open(&models[2], "long", 3, 4, 100);
    assert_int_equal(plan(&merge, models, IVON_VOCABULARY_MISMATCH, &error), IVON_ERROR_DATA);
    assert_int_equal(error.hint, IVON_HINT_VOCABULARY);
    assert_int_equal(plan(&merge, models, IVON_VOCABULARY_LONGEST, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "not those of one vocabulary"));
    assert_int_equal(error.hint, IVON_HINT_EXCLUSION);
    for (int i = 0; i < 3; i++)
        ivon_source_close(models[i].source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_one_input_has_are_its_own),
        cmocka_unit_test(other_differences_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
