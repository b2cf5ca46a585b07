/*
 * Adapters upon a base, from memory. Numbers are small and whole, and the models exact; singular
 * values are right to a few 2^-53 of the largest, and factors are rounded to f32.
 */
#include <math.h>

#include "ivon/adapter.h"
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

enum { MOST = 8, ELEMENTS = 12 };

/* Means of f32, and Hessians of them. */
struct input {
    struct ivon_tensor tensors[MOST];
    const void *data[MOST];
    size_t count;
};

static void add(struct input *input, enum ivon_part part, const char *name, int64_t rows,
                int64_t columns, const float *data)
{
    assert_true(input->count < MOST);
    input->tensors[input->count] = (struct ivon_tensor){.name = name,
                                                        .part = part,
                                                        .dtype = IVON_F32,
                                                        .rank = columns ? 2 : 1,
                                                        .shape = {rows, columns},
                                                        .ess = part == IVON_HESSIAN ? 2 : NAN,
                                                        .weight_decay = part == IVON_HESSIAN ? 1
                                                                                             : NAN};
    input->data[input->count++] = data;
}

static struct ivon_source *opened(const struct input *input, const char *name)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    struct ivon_header header = ivon_header_empty();
    if (ivon_source_from_memory(&source, name, &header, input->tensors, input->data, input->count,
                                &error))
        fail_msg("%s", error.message);
    return source;
}

static const float w[] = {1, 2, 3, 4, 5, 6}, bias[] = {1, 1};        /* 2 × 3 */
static const float a[] = {1, 0, 2}, b[] = {3, -1}, shift[] = {4, 8}; /* rank 1 */
static const float a2[] = {0, 1, 1}, b2[] = {1, 2}, h1[] = {0, 1, 3}, h2[] = {1, 0};
static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 2}";

static struct ivon_source *base_of(void)
{
    struct input input = {0};
    add(&input, IVON_MEAN, "m.l.weight", 2, 3, w);
    add(&input, IVON_MEAN, "m.l.bias", 2, 0, bias);
    return opened(&input, "base");
}

static struct ivon_source *factors_of(const float *first, const float *second, bool with_hessian)
{
    struct input input = {0};
    add(&input, IVON_MEAN, "base_model.model.m.l.lora_A.weight", 1, 3, first);
    add(&input, IVON_MEAN, "base_model.model.m.l.lora_B.weight", 2, 1, second);
    if (with_hessian) {
        add(&input, IVON_MEAN, "base_model.model.m.l.lora_B.bias", 2, 0, shift);
        add(&input, IVON_HESSIAN, "base_model.model.m.l.lora_A.weight", 1, 3, h1);
        add(&input, IVON_HESSIAN, "base_model.model.m.l.lora_B.weight", 2, 1, h2);
        add(&input, IVON_HESSIAN, "base_model.model.m.l.lora_B.bias", 2, 0, h2);
    }
    return opened(&input, "adapter");
}

static struct ivon_source *applied(struct ivon_source *base, struct ivon_source *factors)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    assert_true(ivon_adapter_recognise(factors) && !ivon_adapter_recognise(base));
    if (ivon_adapter_apply(&source, base, factors, config, sizeof config - 1, &error))
        fail_msg("%s", error.message);
    return source;
}

/* Compares all elements of a tensor, read in two pieces, to 4 2^-53 of each. */
static void assert_elements(struct ivon_source *source, enum ivon_part part, const char *name,
                            const double *expected, size_t count)
{
    double found[ELEMENTS];
    ptrdiff_t tensor = ivon_source_find(source, part, name);
    assert_true(tensor >= 0 && ivon_source_tensor(source, (size_t)tensor)->count == count);
    assert_int_equal(ivon_source_tensor(source, (size_t)tensor)->dtype, IVON_F64);
    assert_int_equal(ivon_source_read(source, (size_t)tensor, 0, 1, found, NULL), 0);
    assert_int_equal(ivon_source_read(source, (size_t)tensor, 1, count - 1, found + 1, NULL), 0);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= 0x1p-51 * fabs(expected[i])))
            fail_msg("%s: element %zu is %.17g, expected %.17g", name, i, found[i], expected[i]);
}

/* W + 2 B A, and of Var x = 1/(2 (h + 1)): 4 (B² Var A + A² Var B). */
static void an_adapter_is_the_model_it_makes(void **state)
{
    (void)state;
    static const double variance_a[] = {0.5, 0.25, 0.125}, variance_b[] = {0.25, 0.5};
    double mean[6], hessian[6];
    static const double shifted[] = {9, 17}, shift_hessian[] = {0.25, 0};
    struct ivon_source *base = base_of(), *source = applied(base, factors_of(a, b, true));
    for (size_t i = 0; i < 6; i++) {
        size_t o = i / 3, k = i % 3;
        mean[i] = w[i] + 2 * b[o] * a[k];
        hessian[i] = 1 / (2 * 4 * (b[o] * b[o] * variance_a[k] + a[k] * a[k] * variance_b[o]));
    }
    assert_elements(source, IVON_MEAN, "m.l.weight", mean, 6);
    assert_elements(source, IVON_MEAN, "m.l.bias", shifted, 2);
    assert_elements(source, IVON_HESSIAN, "m.l.weight", hessian, 6);
    assert_elements(source, IVON_HESSIAN, "m.l.bias", shift_hessian, 2);
    const struct ivon_tensor *tensor = ivon_source_tensor(
        source, (size_t)ivon_source_find(source, IVON_HESSIAN, "m.l.bias"));
    assert_true(tensor->ess == 2 && tensor->weight_decay == 0.25);
    assert_string_equal(ivon_source_path(source), "adapter");
    ivon_source_close(source);
    ivon_source_close(base);
}

static void a_configuration_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "{", "[]", "{\"peft_type\": \"LORA\"}",
                                        "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1}"};
    struct ivon_source *base = base_of();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct ivon_source *source = NULL;
        struct ivon_error error = {0};
        int code = ivon_adapter_apply(&source, base, factors_of(a, b, false), wrong[i],
                                      strlen(wrong[i]), &error);
        assert_int_equal(code, IVON_ERROR_DATA);
        assert_true(!source && *error.message);
    }
    ivon_source_close(base);
}

/* Merges models with weights 1 and 2 and extracts the change with a rank. */
static struct ivon_extraction *extracted(struct ivon_source *base, struct ivon_merge_model *models,
                                         struct ivon_merge **merge, int64_t rank,
                                         struct ivon_error *error)
{
    struct ivon_extraction *extraction = NULL;
    struct ivon_sink *sink = NULL;
    struct ivon_merge_options options = ivon_merge_defaults();
    struct ivon_extraction_options extraction_options = ivon_extraction_defaults();
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    options.dtype = IVON_F64;
    extraction_options.rank = rank;
    if (ivon_merge_plan(merge, base, models, 2, &options, error))
        fail_msg("%s", error->message);
    assert_true(ivon_merge_coefficient(*merge, 0, 0, 0) == 1);
    assert_true(ivon_merge_coefficient(*merge, 0, 1, 0) == 2);
    assert_true(ivon_merge_coefficient(*merge, 9, 1, 0) == 0);
    if (ivon_extraction_new(&extraction, base, models, 2, *merge, 0, &extraction_options, error))
        return NULL;
    assert_int_equal(ivon_extraction_sink(extraction, &sink, error), 0);
    if (ivon_merge_run(*merge, &sink, error) || ivon_sink_commit(sink, error))
        fail_msg("%s", error->message);
    ivon_sink_close(sink);
    return extraction;
}

/* Of 2 × 3 matrices with ΔW = 2 b aᵀ + 4 b2 a2ᵀ rank 2 is all. */
static void an_extraction_gives_the_change_back(void **state)
{
    (void)state;
    struct ivon_source *base = base_of(), *source = NULL;
    struct ivon_merge_model models[] = {{applied(base, factors_of(a, b, false)), 1},
                                        {applied(base, factors_of(a2, b2, false)), 2}};
    struct ivon_merge *merge = NULL;
    struct ivon_error error = {0};
    char *text = NULL;
    size_t count;
    struct ivon_extraction *extraction = extracted(base, models, &merge, 5, &error);
    assert_int_equal(ivon_extraction_finish(extraction, &source, &text, &error), 0);
    const struct ivon_extracted *tensors = ivon_extraction_tensors(extraction, &count);
    assert_true(count == 1 && tensors->rank == 2 && tensors->error < 1e-15);
    assert_string_equal(tensors->name, "m.l.weight");
    const float *right = ivon_source_view(source, 0, 0), *left = ivon_source_view(source, 1, 0);
    double squares = 0;
    for (size_t i = 0; i < 6; i++) {
        size_t o = i / 3, k = i % 3;
        double change = 2 * b[o] * a[k] + 4 * b2[o] * a2[k];
        double found = (double)left[2 * o] * right[k] + (double)left[2 * o + 1] * right[3 + k];
        assert_true(fabs(found - change) <= 1e-5);
        squares += change * change;
    }
    assert_true(fabs(tensors->norm - sqrt(squares)) <= 1e-14 * tensors->norm);
    assert_non_null(strstr(text, "\"m.l\": 2"));
    ivon_source_close(source);
    free(text);
    ivon_extraction_free(extraction);
    ivon_merge_free(merge);
    merge = NULL;
    assert_null(extracted(base, models, &merge, 0, &error));
    assert_int_equal(error.code, IVON_ERROR_ARGUMENT);
    ivon_merge_free(merge);
    ivon_source_close(models[0].source);
    ivon_source_close(models[1].source);
    ivon_source_close(base);
}

/* The change is cut in the same way where only the whole models are known. */
static void a_whole_change_is_cut_as_a_sum_is(void **state)
{
    (void)state;
    float first[6], second[6];
    double errors[2], norms[2];
    struct input inputs[2] = {{.count = 0}, {.count = 0}};
    for (size_t i = 0; i < 6; i++) {
        first[i] = w[i] + 2 * b[i / 3] * a[i % 3];
        second[i] = w[i] + 2 * b2[i / 3] * a2[i % 3];
    }
    struct ivon_source *base = base_of();
    for (size_t t = 0; t < 2; t++) {
        add(&inputs[t], IVON_MEAN, "m.l.weight", 2, 3, t ? second : first);
        add(&inputs[t], IVON_MEAN, "m.l.bias", 2, 0, bias);
    }
    for (int whole = 0; whole < 2; whole++) {
        struct ivon_merge_model models[] = {
            {whole ? opened(&inputs[0], "a") : applied(base, factors_of(a, b, false)), 1},
            {whole ? opened(&inputs[1], "b") : applied(base, factors_of(a2, b2, false)), 2}};
        struct ivon_merge *merge = NULL;
        struct ivon_error error = {0};
        struct ivon_source *source = NULL;
        char *text = NULL;
        size_t count;
        struct ivon_extraction *extraction = extracted(base, models, &merge, 1, &error);
        assert_int_equal(ivon_extraction_finish(extraction, &source, &text, &error), 0);
        errors[whole] = ivon_extraction_tensors(extraction, &count)->error;
        norms[whole] = ivon_extraction_tensors(extraction, &count)->norm;
        ivon_source_close(source);
        free(text);
        ivon_extraction_free(extraction);
        ivon_merge_free(merge);
        ivon_source_close(models[0].source);
        ivon_source_close(models[1].source);
    }
    assert_true(errors[0] > 0.1 && fabs(errors[0] - errors[1]) <= 1e-14);
    assert_true(fabs(norms[0] - norms[1]) <= 1e-14 * norms[0]);
    ivon_source_close(base);
}

static void a_directory_is_its_factors(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 1};
    assert_int_equal(mkdir("adapter", 0700), 0);
    char *path = ivon_checkpoint_adapter_file("adapter");
    assert_string_equal(path, "adapter");
    free(path);
    assert_null(ivon_checkpoint_adapter_config("adapter/adapter_model.safetensors"));
    write_text("adapter/adapter_config.json", config);
    add_tensor(&checkpoint, IVON_MEAN, "m.l.lora_A.weight", IVON_F32, 2, (const int64_t[]){1, 3});
    add_tensor(&checkpoint, IVON_MEAN, "m.l.lora_B.weight", IVON_F32, 2, (const int64_t[]){2, 1});
    write_checkpoint(&checkpoint, "adapter/adapter_model.safetensors", 10);
    path = ivon_checkpoint_adapter_file("adapter//");
    assert_string_equal(path, "adapter/adapter_model.safetensors");
    char *beside = ivon_checkpoint_adapter_config(path);
    assert_string_equal(beside, "adapter/adapter_config.json");
    struct ivon_source *base = base_of(), *source = NULL, *factors = open_checkpoint(path);
    struct ivon_error error = {0};
    if (ivon_checkpoint_apply_adapter(&source, base, factors, &error))
        fail_msg("%s", error.message);
    assert_int_equal(ivon_source_tensor_count(source), 2);
    ivon_source_close(source);
    assert_int_equal(unlink(beside), 0);
    source = NULL;
    assert_int_equal(ivon_checkpoint_apply_adapter(&source, base, open_checkpoint(path), &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "no adapter_config.json beside it"));
    ivon_source_close(base);
    release_checkpoint(&checkpoint);
    free(beside);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_is_the_model_it_makes),
        cmocka_unit_test(a_configuration_that_does_not_fit_is_refused),
        cmocka_unit_test(an_extraction_gives_the_change_back),
        cmocka_unit_test(a_whole_change_is_cut_as_a_sum_is),
        cmocka_unit_test(a_directory_is_its_factors),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
