/* Weight samples: the formula in double, the same for any pieces and storage; what is refused. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "core/stream.h"
#include "ivon/sample.h"

enum { COUNT = 150001 /* several blocks, and an odd rest */ };

static const double ESS = 5000, DELTA = 1e-4;

/* A mean "w" with Hessian, and a mean "fixed" without. */
struct posterior {
    struct ivon_tensor tensors[3];
    void *data[3];
    size_t count; /* of tensors */
};

static struct ivon_tensor describe(const char *name, enum ivon_part part, enum ivon_dtype dtype,
                                   size_t count)
{
    struct ivon_tensor tensor = {.name = name,
                                 .part = part,
                                 .dtype = dtype,
                                 .rank = 1,
                                 .shape = {(int64_t)count},
                                 .count = count,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    if (part == IVON_HESSIAN) {
        tensor.ess = ESS;
        tensor.weight_decay = DELTA;
    }
    return tensor;
}

static struct posterior make(enum ivon_dtype mean, enum ivon_dtype hessian)
{
    struct posterior p = {.tensors = {describe("w", IVON_MEAN, mean, COUNT),
                                      describe("w", IVON_HESSIAN, hessian, COUNT),
                                      describe("fixed", IVON_MEAN, IVON_F64, 5)},
                          .count = 3};
    double *values = malloc(COUNT * sizeof *values);
    assert_non_null(values);
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < p.tensors[t].count; i++)
            values[i] = t == 1 ? -DELTA / 2 + exp2((double)(i % 23) - 18)
                               : ((double)(i * 7919 % 1000) - 500) / 300;
        p.data[t] = malloc(p.tensors[t].count * sizeof(double));
        assert_non_null(p.data[t]);
        ivon_dtype_from_f64(p.data[t], p.tensors[t].dtype, values, p.tensors[t].count);
    }
    free(values);
    return p;
}

static void release(struct posterior *p)
{
    for (int t = 0; t < 3; t++)
        free(p->data[t]);
}

static struct ivon_source *open_memory(const struct posterior *p)
{
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    assert_int_equal(ivon_source_from_memory(&source, "memory", &header, p->tensors,
                                             (const void *const *)p->data, p->count, NULL),
                     0);
    return source;
}

/* A source that cannot be viewed, only read. */
static int read_pieces(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)error;
    const struct posterior *p = self;
    size_t size = ivon_dtype_size(p->tensors[tensor].dtype);
    memcpy(buffer, (const char *)p->data[tensor] + first * size, count * size);
    return 0;
}

static const void *view_nothing(void *self, size_t tensor)
{
    (void)self;
    (void)tensor;
    return NULL;
}

static void close_nothing(void *self)
{
    (void)self;
}

static struct ivon_source *open_unviewable(struct posterior *p)
{
    static const struct ivon_source_class class = {
        .read = read_pieces, .view = view_nothing, .close = close_nothing};
    struct ivon_header header = ivon_header_empty();
    struct tensor_list list = {0};
    struct ivon_source *source = NULL;
    for (size_t t = 0; t < p->count; t++)
        assert_int_equal(tensor_list_append(&list, &p->tensors[t], NULL), 0);
    assert_int_equal(ivon_source_new(&source, &class, p, "pieces", &header, &list, NULL), 0);
    return source;
}

static float *draw(struct ivon_source *source, const struct ivon_sample_options *options,
                   uint64_t sample)
{
    float *out = malloc(COUNT * sizeof *out);
    assert_non_null(out);
    assert_int_equal(ivon_sample_draw(source, 0, options, sample, 0, COUNT, out, NULL), 0);
    return out;
}

/* With ε as given, the rest is in double and rounded once, but for the double's own few roundings;
   the Hessian's values come close to −δ, where binary32 would lose digits of h + δ. */
static void computes_the_formula(void **state)
{
    (void)state;
    static float normals[COUNT];
    static double mean[COUNT], hessian[COUNT];
    struct ivon_sample_options options = ivon_sample_defaults();
    options.seed = 3;
    options.temperature = 0.5;
    struct random_stream stream = random_stream_of(3, 8, "w");
    random_normal(&stream, 0, COUNT, normals);
    for (int dtype = IVON_F64; dtype <= IVON_BF16; dtype++) {
        struct posterior p = make((enum ivon_dtype)dtype, dtype == IVON_F64 ? IVON_F64 : IVON_F32);
        struct ivon_source *source = open_memory(&p);
        float *found = draw(source, &options, 8);
        ivon_dtype_to_f64(mean, p.data[0], p.tensors[0].dtype, COUNT);
        ivon_dtype_to_f64(hessian, p.data[1], p.tensors[1].dtype, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            double noise = sqrt(0.5 / ESS / (hessian[i] + DELTA)) * normals[i];
            double expected = mean[i] + noise;
            double bound = 0x1p-24 * fabs(expected) + 0x1p-49 * (fabs(mean[i]) + fabs(noise));
            if (!(fabs(found[i] - expected) <= bound))
                fail_msg("element %zu is %.9g, expected %.9g", i, (double)found[i], expected);
        }
        free(found);
        ivon_source_close(source);
        release(&p);
    }
}

static void pieces_and_storage_do_not_matter(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F16, IVON_F32);
    struct ivon_sample_options options = ivon_sample_defaults();
    struct ivon_source *memory = open_memory(&p), *pieces = open_unviewable(&p);
    float *whole = draw(memory, &options, 1), *read = draw(pieces, &options, 1);
    assert_memory_equal(whole, read, COUNT * sizeof *whole);
    static const size_t starts[] = {0, 1, 7, 511, 65535, 65537, 131071, COUNT - 1, COUNT};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++)
        for (size_t count = 0; count <= COUNT - starts[s]; count = 3 * count + 1) {
            memset(read, 0xff, COUNT * sizeof *read);
            assert_int_equal(ivon_sample_draw(s % 2 ? memory : pieces, 0, &options, 1, starts[s],
                                              count, read, NULL),
                             0);
            assert_memory_equal(read, whole + starts[s], count * sizeof *read);
        }
    free(whole);
    free(read);
    ivon_source_close(memory);
    ivon_source_close(pieces);
    release(&p);
}

static bool select_fixed(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "fixed") == 0;
}

static void some_stay_at_the_mean(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32);
    struct ivon_sample_options options = ivon_sample_defaults();
    struct ivon_source *source = open_memory(&p);
    struct ivon_error error = {0};
    size_t fixed = 0;
    float few[5];
    assert_int_equal(ivon_sample_check(source, &options, &fixed, &error), 0);
    assert_int_equal(fixed, 1);
    assert_int_equal(ivon_sample_draw(source, 2, &options, 0, 0, 5, few, &error), 0);
    for (int i = 0; i < 5; i++)
        assert_true(few[i] == (float)((double *)p.data[2])[i]);
    options.temperature = 0;
    float *mean = draw(source, &options, 0);
    assert_memory_equal(mean, p.data[0], COUNT * sizeof *mean);
    free(mean);
    options.selected = select_fixed;
    mean = draw(source, &options, 0);
    assert_memory_equal(mean, p.data[0], COUNT * sizeof *mean);
    free(mean);
    assert_int_equal(ivon_sample_check(source, &options, &fixed, &error), 0);
    options.temperature = 1;
    assert_int_equal(ivon_sample_check(source, &options, &fixed, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "memory: nothing to draw: no mean selected has a Hessian");
    ivon_source_close(source);
    release(&p);
}

/* Draws all of a posterior in which one element was changed, and expects a refusal. */
static void expect_refusal(enum ivon_part part, size_t element, double value, const char *message)
{
    struct posterior p = make(IVON_F64, IVON_F64);
    struct ivon_sample_options options = ivon_sample_defaults();
    struct ivon_error error = {0};
    ((double *)p.data[part == IVON_HESSIAN])[element] = value;
    struct ivon_source *source = open_memory(&p);
    float *out = malloc(COUNT * sizeof *out);
    assert_int_equal(ivon_sample_draw(source, 0, &options, 0, 0, COUNT, out, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, message);
    assert_int_equal(ivon_sample_draw(source, 0, &options, 0, 0, element, out, &error), 0);
    ivon_source_close(source);
    free(out);
    release(&p);
}

static void refuses_what_has_no_sample(void **state)
{
    (void)state;
    expect_refusal(IVON_HESSIAN, 70003, -1e-4,
                   "memory: Hessian of 'w' is -0.0001 at element 70003, with weight_decay 0.0001 "
                   "expected above -0.0001");
    expect_refusal(IVON_HESSIAN, COUNT - 1, -3,
                   "memory: Hessian of 'w' is -3 at element 150000, with weight_decay 0.0001 "
                   "expected above -0.0001");
    expect_refusal(IVON_HESSIAN, 5, NAN,
                   "memory: Hessian of 'w' is nan at element 5, expected a finite number");
    expect_refusal(IVON_HESSIAN, 0, INFINITY,
                   "memory: Hessian of 'w' is inf at element 0, expected a finite number");
    expect_refusal(IVON_MEAN, 600, -INFINITY,
                   "memory: mean of 'w' is -inf at element 600, expected a finite number");
    expect_refusal(IVON_MEAN, 600, NAN,
                   "memory: mean of 'w' is nan at element 600, expected a finite number");
    expect_refusal(IVON_MEAN, 601, 1e39,
                   "memory: 'w' at element 601 of sample 0, mean 1e+39, does not fit into f32");
}

static void refuses_requests_that_make_no_sense(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32);
    struct ivon_sample_options options = ivon_sample_defaults();
    struct ivon_source *source = open_memory(&p);
    float out[4];
    int code = ivon_sample_draw(source, 1, &options, 0, 0, 4, out, NULL); /* a Hessian */
    assert_int_equal(code, IVON_ERROR_ARGUMENT);
    code = ivon_sample_draw(source, 3, &options, 0, 0, 4, out, NULL);
    assert_int_equal(code, IVON_ERROR_ARGUMENT);
    code = ivon_sample_draw(source, 0, &options, 0, COUNT - 3, 4, out, NULL);
    assert_int_equal(code, IVON_ERROR_ARGUMENT);
    code = ivon_sample_draw(source, 0, &options, 0, SIZE_MAX, 4, out, NULL);
    assert_int_equal(code, IVON_ERROR_ARGUMENT);
    static const double temperatures[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        options.temperature = temperatures[i];
        code = ivon_sample_draw(source, 0, &options, 0, 0, 4, out, NULL);
        assert_int_equal(code, IVON_ERROR_ARGUMENT);
    }
    ivon_source_close(source);
    release(&p);
}

static void checks_the_header(void **state)
{
    (void)state;
    struct ivon_sample_options options = ivon_sample_defaults();
    size_t fixed;
    for (int defect = 0; defect < 4; defect++) {
        struct posterior p = make(IVON_F32, IVON_F32);
        p.count = 2;
        if (defect == 0)
            p.tensors[1].ess = 0;
        else if (defect == 1)
            p.tensors[1].weight_decay = NAN;
        else if (defect == 2)
            p.tensors[1].shape[0] = COUNT - 1;
        else
            p.tensors[1].name = "v";
        struct ivon_source *source = open_memory(&p);
        assert_int_equal(ivon_sample_check(source, &options, &fixed, NULL), IVON_ERROR_DATA);
        ivon_source_close(source);
        release(&p);
    }
}

static int cancel(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done <= total;
}

static void writes_what_is_drawn_and_stops_when_told(void **state)
{
    (void)state;
    struct posterior p = make(IVON_F32, IVON_F32);
    struct ivon_sample_options options = ivon_sample_defaults();
    struct ivon_source *source = open_memory(&p);
    struct ivon_tensor outputs[3];
    struct ivon_sink *sink = NULL;
    float *sample = malloc(COUNT * sizeof *sample), *expected = draw(source, &options, 4);
    double fixed[5];
    void *const data[] = {sample, fixed};
    size_t count = ivon_sample_outputs(source, options.dtype, outputs);
    assert_int_equal(count, 2);
    assert_int_equal(ivon_sink_to_memory(&sink, outputs, data, count, NULL), 0);
    assert_int_equal(ivon_sample_write(source, &options, 4, &sink, 1, NULL), 0);
    assert_memory_equal(sample, expected, COUNT * sizeof *sample);
    assert_memory_equal(fixed, p.data[2], sizeof fixed);
    options.resources.progress.report = cancel;
    assert_int_equal(ivon_sample_write(source, &options, 4, &sink, 1, NULL), IVON_ERROR_CANCELLED);
    ivon_sink_close(sink);
    free(sample);
    free(expected);
    ivon_source_close(source);
    release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computes_the_formula),
        cmocka_unit_test(pieces_and_storage_do_not_matter),
        cmocka_unit_test(some_stay_at_the_mean),
        cmocka_unit_test(refuses_what_has_no_sample),
        cmocka_unit_test(refuses_requests_that_make_no_sense),
        cmocka_unit_test(checks_the_header),
        cmocka_unit_test(writes_what_is_drawn_and_stops_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
