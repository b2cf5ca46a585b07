/* What a merge tells of itself: the fate of every tensor, second names, buffers that differ, bytes,
   and how far each model moved the result. All numbers are small and whole, and sums exact. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/merge.h"

enum { TENSORS_MAX = 8, ELEMENTS = 2, INPUTS_MAX = 3 };

/* One input: means and buffers of two elements each. */
struct input {
    struct ivon_tensor tensors[TENSORS_MAX];
    const void *data[TENSORS_MAX];
    size_t count;
    struct ivon_source *source;
};

static void input_add(struct input *input, const char *name, enum ivon_part part, const float *data)
{
    assert_true(input->count < TENSORS_MAX);
    input->tensors[input->count] = (struct ivon_tensor){.name = name,
                                                        .part = part,
                                                        .dtype = IVON_F32,
                                                        .rank = 1,
                                                        .shape = {ELEMENTS},
                                                        .ess = NAN,
                                                        .weight_decay = NAN};
    input->data[input->count++] = data;
}

static void input_open(struct input *input, const char *name)
{
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error = {0};
    if (ivon_source_from_memory(&input->source, name, &header, input->tensors, input->data,
                                input->count, &error))
        fail_msg("%s", error.message);
}

/* Results of one merge, by output and scale. */
struct merged {
    struct ivon_merge *merge;
    float values[2][TENSORS_MAX][ELEMENTS];
    size_t count;
};

static const float *merged_of(const struct merged *merged, const char *name, size_t scale)
{
    size_t count;
    const struct ivon_tensor *outputs = ivon_merge_outputs(merged->merge, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(outputs[i].name, name) == 0)
            return merged->values[scale][i];
    return NULL;
}

static void merged_make(struct merged *merged, struct input *base, struct input *models,
                        const double *weights, size_t count,
                        const struct ivon_merge_options *options)
{
    struct ivon_merge_model list[INPUTS_MAX];
    struct ivon_sink *sinks[2] = {NULL, NULL};
    struct ivon_error error = {0};
    *merged = (struct merged){0};
    for (size_t t = 0; t < count; t++)
        list[t] = (struct ivon_merge_model){models[t].source, weights[t]};
    if (ivon_merge_plan(&merged->merge, base->source, list, count, options, &error))
        fail_msg("%s", error.message);
    const struct ivon_tensor *outputs = ivon_merge_outputs(merged->merge, &merged->count);
    size_t scales = options->scales ? options->scale_count : 1;
    for (size_t s = 0; s < scales; s++) {
        void *data[TENSORS_MAX];
        for (size_t i = 0; i < merged->count; i++)
            data[i] = merged->values[s][i];
        assert_int_equal(ivon_sink_to_memory(&sinks[s], outputs, data, merged->count, &error), 0);
    }
    if (ivon_merge_run(merged->merge, sinks, &error))
        fail_msg("%s", error.message);
    for (size_t s = 0; s < scales; s++)
        ivon_sink_close(sinks[s]);
}

static void assert_values(const struct merged *merged, const char *name, size_t scale, float first,
                          float second)
{
    const float *found = merged_of(merged, name, scale);
    assert_non_null(found);
    if (found[0] != first || found[1] != second)
        fail_msg("%s: %g and %g, expected %g and %g", name, (double)found[0], (double)found[1],
                 (double)first, (double)second);
}

struct progress_seen {
    uint64_t done, total;
};

static int note_progress(void *context, uint64_t done, uint64_t total)
{
    struct progress_seen *seen = context;
    *seen = (struct progress_seen){done, total};
    return 0;
}

/* Models 3, 4 and 0, 12 away from the base; the second has weight ½: 5 and 6 in units of the mean,
   for a scale of 1, and the result (3, 4) + ½ (0, 12) away. */
static void movement_is_by_model_and_scale(void **state)
{
    (void)state;
    static const float m0[] = {1, 2}, m1[] = {4, 6}, m2[] = {1, 14};
    static const double weights[] = {1, 0.5}, scales[] = {1, 2};
    struct input base = {0}, models[2] = {0};
    struct merged merged;
    struct progress_seen seen = {0};
    struct ivon_merge_options options = ivon_merge_defaults();
    double total;
    input_add(&base, "w", IVON_MEAN, m0);
    input_add(&models[0], "w", IVON_MEAN, m1);
    input_add(&models[1], "w", IVON_MEAN, m2);
    input_open(&base, "base");
    input_open(&models[0], "a");
    input_open(&models[1], "b");
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    options.scales = scales;
    options.scale_count = 2;
    options.movement = true;
    options.resources.threads = 1;
    options.resources.progress = (struct ivon_progress){note_progress, &seen};
    merged_make(&merged, &base, models, weights, 2, &options);
    assert_values(&merged, "w", 0, 4, 12);
    assert_values(&merged, "w", 1, 7, 22);
    for (size_t s = 0; s < 2; s++) {
        assert_true(ivon_merge_movement(merged.merge, 0, s, &total) == 5 * scales[s]);
        assert_true(total == sqrt(109) * scales[s] || fabs(total - sqrt(109) * scales[s]) < 1e-14);
        assert_true(ivon_merge_movement(merged.merge, 1, s, NULL) == 6 * scales[s]);
    }
    /* three tensors of two elements of binary32 */
    assert_int_equal(ivon_merge_input_bytes(merged.merge), 3 * 2 * sizeof(float));
    assert_int_equal(seen.total, ivon_merge_input_bytes(merged.merge));
    ivon_merge_free(merged.merge);
    options.method = IVON_MERGE_AVERAGE;
    options.scales = NULL;
    merged_make(&merged, &base, models, weights, 2, &options);
    /* (m1 + ½ m2)/1.5 = (3, 26/3): pulled by 2/3 (1, −8/3) and 1/3 (−2, 16/3) */
    double pull = 2.0 / 3 * sqrt(1 + 64.0 / 9);
    assert_true(fabs(ivon_merge_movement(merged.merge, 0, 0, &total) - pull) < 1e-6);
    assert_true(fabs(ivon_merge_movement(merged.merge, 1, 0, NULL) - pull) < 1e-6);
    assert_true(total == 0);
    ivon_merge_free(merged.merge);
    ivon_source_close(base.source);
    ivon_source_close(models[0].source);
    ivon_source_close(models[1].source);
}

static bool is_not_frozen(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "frozen") != 0;
}

static const struct ivon_merge_tensor *fate_of(const struct ivon_merge *merge, const char *name)
{
    size_t count;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(merge, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return &tensors[i];
    fail_msg("no fate of '%s'", name);
    return NULL;
}

static void assert_fate(const struct ivon_merge *merge, const char *name, enum ivon_merge_fate fate)
{
    const struct ivon_merge_tensor *tensor = fate_of(merge, name);
    assert_int_equal(tensor->fate, fate);
    assert_int_equal(tensor->count, ELEMENTS);
    assert_true((tensor->reason == NULL) == (fate == IVON_MERGED));
}

/* `old` is not in the model, `extra` not in the base, `frozen` not selected. */
static void every_mean_has_a_fate(void **state)
{
    (void)state;
    static const float m0[] = {1, 2}, m1[] = {5, 7}, other[] = {8, 9};
    static const double weight = 1;
    struct input base = {0}, model = {0};
    struct merged merged;
    struct ivon_merge_options options = ivon_merge_defaults();
    input_add(&base, "w", IVON_MEAN, m0);
    input_add(&base, "old", IVON_MEAN, other);
    input_add(&base, "frozen", IVON_MEAN, m0);
    input_add(&model, "w", IVON_MEAN, m1);
    input_add(&model, "frozen", IVON_MEAN, m1);
    input_add(&model, "extra", IVON_MEAN, other);
    input_open(&base, "base");
    input_open(&model, "model");
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    options.on_mismatch = IVON_MISMATCH_BASE;
    options.selected = is_not_frozen;
    merged_make(&merged, &base, &model, &weight, 1, &options);
    assert_fate(merged.merge, "w", IVON_MERGED);
    assert_fate(merged.merge, "old", IVON_KEPT);
    assert_fate(merged.merge, "frozen", IVON_KEPT);
    assert_fate(merged.merge, "extra", IVON_SKIPPED);
    assert_values(&merged, "w", 0, 5, 7);
    assert_values(&merged, "old", 0, 8, 9);
    assert_values(&merged, "frozen", 0, 1, 2);
    assert_null(merged_of(&merged, "extra", 0));
    ivon_merge_free(merged.merge);
    ivon_source_close(base.source);
    ivon_source_close(model.source);
}

/* The base and one model have `head` and `emb` of the same bits, the other model `emb` alone, which
   stands for its `head`. Its buffer differs. */
static void second_names_and_buffers(void **state)
{
    (void)state;
    static const float m0[] = {1, 2}, m1[] = {2, 4}, m2[] = {4, 8}, same[] = {6, 6};
    static const float running[] = {0, 1}, other[] = {0, 2};
    static const double weights[] = {1, 1};
    struct input base = {0}, models[2] = {0};
    struct merged merged;
    struct ivon_merge_options options = ivon_merge_defaults();
    size_t count;
    input_add(&base, "emb", IVON_MEAN, m0);
    input_add(&base, "head", IVON_MEAN, m0);
    input_add(&base, "running", IVON_BUFFER, running);
    input_add(&base, "fixed", IVON_BUFFER, same);
    input_add(&models[0], "emb", IVON_MEAN, m1);
    input_add(&models[0], "head", IVON_MEAN, m1);
    input_add(&models[0], "running", IVON_BUFFER, running);
    input_add(&models[0], "fixed", IVON_BUFFER, same);
    input_add(&models[1], "emb", IVON_MEAN, m2);
    input_add(&models[1], "running", IVON_BUFFER, other);
    input_add(&models[1], "fixed", IVON_BUFFER, same);
    input_open(&base, "base");
    input_open(&models[0], "a");
    input_open(&models[1], "b");
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    merged_make(&merged, &base, models, weights, 2, &options);
    const struct ivon_merge_tie *ties = ivon_merge_ties(merged.merge, &count);
    assert_int_equal(count, 1);
    assert_string_equal(ties[0].name, "head");
    assert_string_equal(ties[0].other, "emb");
    assert_string_equal(ties[0].path, "base");
    assert_values(&merged, "head", 0, 1 + 1 + 3, 2 + 2 + 6);
    assert_values(&merged, "emb", 0, 5, 10);
    assert_string_equal(ivon_merge_buffer_conflict(merged.merge, &count), "running");
    assert_int_equal(count, 1);
    assert_values(&merged, "running", 0, 0, 1);
    ivon_merge_free(merged.merge);
    merged_make(&merged, &base, models, weights, 1, &options);
    assert_null(ivon_merge_buffer_conflict(merged.merge, &count));
    assert_int_equal(count, 0);
    ivon_merge_ties(merged.merge, &count);
    assert_int_equal(count, 0);
    ivon_merge_free(merged.merge);
    ivon_source_close(base.source);
    ivon_source_close(models[0].source);
    ivon_source_close(models[1].source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(movement_is_by_model_and_scale),
        cmocka_unit_test(every_mean_has_a_fate),
        cmocka_unit_test(second_names_and_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
