/* Choosing and renaming a source's tensors; copying them bit by bit, or in another type. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/stream.h"
#include "ivon/convert.h"

enum { COUNT = (2 << 20) + 5 /* several jobs of several blocks, and an odd rest */ };

/* A mean, its Hessian (of its own weight decay), a buffer, all of which can be read, or viewed. */
struct posterior {
    struct ivon_tensor tensors[3];
    void *data[3];
    bool viewable;
};

static struct ivon_tensor describe(const char *name, enum ivon_part part, enum ivon_dtype dtype,
                                   size_t count)
{
    return (struct ivon_tensor){.name = name,
                                .part = part,
                                .dtype = dtype,
                                .rank = 1,
                                .shape = {(int64_t)count},
                                .count = count,
                                .ess = NAN,
                                .weight_decay = NAN};
}

static int read_piece(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                      struct ivon_error *error)
{
    (void)error;
    const struct posterior *p = self;
    size_t size = ivon_dtype_size(p->tensors[tensor].dtype);
    memcpy(buffer, (const char *)p->data[tensor] + first * size, count * size);
    return 0;
}

static const void *view(void *self, size_t tensor)
{
    const struct posterior *p = self;
    return p->viewable ? p->data[tensor] : NULL;
}

static void close_nothing(void *self)
{
    (void)self;
}

static struct ivon_source *open_posterior(struct posterior *p)
{
    static const struct ivon_source_class class = {
        .read = read_piece, .view = view, .close = close_nothing};
    struct ivon_header header = ivon_header_empty();
    struct tensor_list list = {0};
    struct ivon_source *source = NULL;
    header.ess = 7;
    header.weight_decay = 0.5;
    header.mapping = "by hand";
    header.warning = "none";
    for (size_t t = 0; t < 3; t++)
        assert_int_equal(tensor_list_append(&list, &p->tensors[t], NULL), 0);
    assert_int_equal(ivon_source_new(&source, &class, p, "in.h5", &header, &list, NULL), 0);
    return source;
}

static struct posterior make(enum ivon_dtype mean, enum ivon_dtype hessian, bool viewable)
{
    struct posterior p = {.tensors = {describe("w", IVON_MEAN, mean, COUNT),
                                      describe("w", IVON_HESSIAN, hessian, COUNT),
                                      describe("count", IVON_BUFFER, IVON_I64, 3)},
                          .viewable = viewable};
    p.tensors[1].ess = 7;
    p.tensors[1].weight_decay = 0.25;
    for (int t = 0; t < 3; t++) {
        size_t size = p.tensors[t].count * ivon_dtype_size(p.tensors[t].dtype);
        p.data[t] = malloc(size);
        assert_non_null(p.data[t]);
        /* Any bits, so NaNs with a payload, denormals and infinities too. */
        for (size_t i = 0; i < size; i++)
            ((unsigned char *)p.data[t])[i] = (unsigned char)(i * 7919 % 251 + i % 5);
    }
    return p;
}

static void release(struct posterior *p)
{
    for (int t = 0; t < 3; t++)
        free(p->data[t]);
}

/* Gives a floating-point tensor numbers between -2 and 2 that few types can hold. */
static void set_numbers(struct posterior *p, int t)
{
    double *values = malloc(COUNT * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = ((double)(i * 7919 % 100003) - 50000) / 25000;
    ivon_dtype_from_f64(p->data[t], p->tensors[t].dtype, values, COUNT);
    free(values);
}

/* Where copies go; its memory is filled with what no input holds. */
struct target {
    struct ivon_tensor tensors[4];
    void *data[4];
    struct ivon_sink *sink;
};

static struct target make_target(struct ivon_source *source, int dtype)
{
    struct target target = {.tensors = {[3] = describe("model.onnx", IVON_GRAPH, IVON_U8, 2)}};
    ivon_convert_outputs(source, dtype, target.tensors);
    for (int t = 0; t < 4; t++) {
        size_t size = target.tensors[t].count * ivon_dtype_size(target.tensors[t].dtype);
        target.data[t] = malloc(size);
        assert_non_null(target.data[t]);
        memset(target.data[t], 0xff, size);
    }
    assert_int_equal(ivon_sink_to_memory(&target.sink, target.tensors, target.data, 4, NULL), 0);
    return target;
}

static void release_target(struct target *target)
{
    ivon_sink_close(target->sink);
    for (int t = 0; t < 4; t++)
        free(target->data[t]);
}

static void chooses_and_renames(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32, true);
    struct ivon_source *source = open_posterior(&p), *chosen = NULL;
    struct ivon_header header = *ivon_source_header(source);
    const struct ivon_subset_item choices[] = {{2, "n"}, {1, "fc/w"}};
    header.ess = 100;
    header.weight_decay = 2;
    header.step = 3;
    assert_int_equal(ivon_tensor_subset(&chosen, source, &header, choices, 2, NULL), 0);
    assert_int_equal(ivon_source_tensor_count(chosen), 2);
    assert_string_equal(ivon_source_path(chosen), "in.h5");
    assert_int_equal(ivon_source_header(chosen)->step, 3);
    assert_string_equal(ivon_source_header(chosen)->mapping, "by hand");
    assert_string_equal(ivon_source_header(chosen)->warning, "none");
    assert_int_equal(ivon_source_find(chosen, IVON_BUFFER, "n"), 0);
    assert_int_equal(ivon_source_find(chosen, IVON_HESSIAN, "fc/w"), 1);
    assert_int_equal(ivon_source_find(chosen, IVON_HESSIAN, "w"), -1);
    const struct ivon_tensor *hessian = ivon_source_tensor(chosen, 1);
    assert_int_equal(hessian->count, COUNT);
    assert_true(hessian->ess == 100);           /* was the header's */
    assert_true(hessian->weight_decay == 0.25); /* is its own */
    assert_true(isnan(ivon_source_tensor(chosen, 0)->ess));
    assert_ptr_equal(ivon_source_view(chosen, 1, 5), (const float *)p.data[1] + 5);
    float piece[3];
    assert_int_equal(ivon_source_read(chosen, 1, COUNT - 3, 3, piece, NULL), 0);
    assert_memory_equal(piece, (const float *)p.data[1] + COUNT - 3, sizeof piece);
    assert_int_equal(ivon_source_read(chosen, 1, COUNT - 2, 3, piece, NULL), IVON_ERROR_ARGUMENT);
    ivon_source_close(chosen);
    ivon_source_close(source);
    release(&p);
}

static void supplies_what_is_absent(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32, true);
    p.tensors[1].ess = NAN;
    struct ivon_source *source = open_posterior(&p), *chosen = NULL;
    struct ivon_header header = ivon_header_empty();
    const struct ivon_subset_item choices[] = {{1, "w"}};
    header.ess = 11;
    assert_int_equal(ivon_tensor_subset(&chosen, source, &header, choices, 1, NULL), 0);
    assert_true(ivon_source_tensor(chosen, 0)->ess == 11);
    ivon_source_close(chosen);
    ivon_source_close(source);
    release(&p);
}

static void refuses_choices(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32, true);
    struct ivon_source *source = open_posterior(&p), *chosen = NULL;
    struct ivon_error error;
    const struct ivon_header *header = ivon_source_header(source);
    const struct ivon_subset_item twice[] = {{0, "a"}, {0, "a"}}, apart[] = {{0, "a"}, {1, "a"}};
    const struct ivon_subset_item none[] = {{3, "a"}}, wrong[] = {{0, "a//b"}};
    assert_int_equal(ivon_tensor_subset(&chosen, source, header, twice, 2, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "in.h5: tensor 'a' occurs twice under 'mean'");
    assert_int_equal(ivon_tensor_subset(&chosen, source, header, none, 1, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "in.h5: there is no tensor 3");
    assert_int_equal(ivon_tensor_subset(&chosen, source, header, wrong, 1, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "in.h5: 'a//b', for 'w', is not a usable name for a tensor");
    assert_null(chosen);
    assert_int_equal(ivon_tensor_subset(&chosen, source, header, apart, 2, &error), 0);
    ivon_source_close(chosen);
    ivon_source_close(source);
    release(&p);
}

static void keeps_every_bit(void **state)
{
    (void)state;
    for (int dtype = IVON_F64; dtype <= IVON_BF16; dtype++)
        for (int viewable = 0; viewable < 2; viewable++) {
            struct posterior p = make((enum ivon_dtype)dtype, IVON_F32, viewable);
            struct ivon_source *source = open_posterior(&p);
            struct ivon_convert_options options = ivon_convert_defaults();
            struct target target = make_target(source, IVON_DTYPE_KEEP);
            options.resources.threads = 3;
            assert_int_equal(ivon_convert_write(source, &options, target.sink, NULL), 0);
            for (int t = 0; t < 3; t++) {
                assert_int_equal(target.tensors[t].dtype, p.tensors[t].dtype);
                assert_memory_equal(target.data[t], p.data[t],
                                    p.tensors[t].count * ivon_dtype_size(p.tensors[t].dtype));
            }
            assert_memory_equal(target.data[3], "\xff\xff", 2); /* is left to the caller */
            release_target(&target);
            ivon_source_close(source);
            release(&p);
        }
}

/* The values are those that rounding each from double gives. */
static void rounds_once(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F64, false);
    struct ivon_source *source = open_posterior(&p);
    struct ivon_convert_options options = ivon_convert_defaults();
    double *values = malloc(COUNT * sizeof *values);
    float *expected = malloc(COUNT * sizeof *expected);
    assert_true(values && expected);
    set_numbers(&p, 0);
    set_numbers(&p, 1);
    options.dtype = IVON_F16;
    struct target target = make_target(source, options.dtype);
    assert_int_equal(target.tensors[0].dtype, IVON_F16);
    assert_int_equal(target.tensors[1].dtype, IVON_F32);
    assert_int_equal(ivon_convert_write(source, &options, target.sink, NULL), 0);
    ivon_dtype_to_f64(values, p.data[0], IVON_F32, COUNT);
    ivon_dtype_from_f64(expected, IVON_F16, values, COUNT);
    assert_memory_equal(target.data[0], expected, COUNT * 2);
    ivon_dtype_from_f64(expected, IVON_F32, p.data[1], COUNT);
    assert_memory_equal(target.data[1], expected, COUNT * sizeof *expected);
    assert_memory_equal(target.data[2], p.data[2], 3 * sizeof(int64_t));
    free(values);
    free(expected);
    release_target(&target);
    ivon_source_close(source);
    release(&p);
}

static void names_what_does_not_fit(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F64, true);
    struct ivon_source *source = open_posterior(&p);
    struct ivon_convert_options options = ivon_convert_defaults();
    struct ivon_error error;
    set_numbers(&p, 0);
    set_numbers(&p, 1);
    float *mean = p.data[0];
    mean[1] = NAN; /* is no overflow, nor is the next */
    mean[2] = -INFINITY;
    mean[COUNT - 2] = 65520; /* the least that rounds to infinity */
    mean[COUNT - 1] = 1e30f;
    options.dtype = IVON_F16;
    struct target target = make_target(source, options.dtype);
    assert_int_equal(ivon_convert_write(source, &options, target.sink, &error), IVON_ERROR_DATA);
    assert_string_equal(
        error.message, "in.h5: 'w' would be 65520 at element 2097155, which does not fit into f16");
    mean[COUNT - 2] = 65519;
    mean[COUNT - 1] = 0;
    ((double *)p.data[1])[8] = -1e39;
    assert_int_equal(ivon_convert_write(source, &options, target.sink, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "in.h5: 'w' would be -1e+39 at element 8, which does not fit into f32");
    ((double *)p.data[1])[8] = -1e38;
    assert_int_equal(ivon_convert_write(source, &options, target.sink, &error), 0);
    release_target(&target);
    ivon_source_close(source);
    release(&p);
}

struct reports {
    uint64_t done, total;
};

static int stop(void *context, uint64_t done, uint64_t total)
{
    *(struct reports *)context = (struct reports){done, total};
    return 1;
}

static void stops_when_told(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32, true);
    struct ivon_source *source = open_posterior(&p);
    struct target target = make_target(source, IVON_DTYPE_KEEP);
    struct ivon_convert_options options = ivon_convert_defaults();
    struct reports reports = {0};
    options.resources.progress = (struct ivon_progress){.report = stop, .context = &reports};
    options.resources.threads = 1;
    assert_int_equal(ivon_convert_write(source, &options, target.sink, NULL), IVON_ERROR_CANCELLED);
    assert_int_equal(reports.total, 2 * COUNT * sizeof(float) + 3 * sizeof(int64_t));
    assert_true(reports.done > 0 && reports.done < reports.total);
    release_target(&target);
    ivon_source_close(source);
    release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_and_renames), cmocka_unit_test(supplies_what_is_absent),
        cmocka_unit_test(refuses_choices),     cmocka_unit_test(keeps_every_bit),
        cmocka_unit_test(rounds_once),         cmocka_unit_test(names_what_does_not_fit),
        cmocka_unit_test(stops_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
