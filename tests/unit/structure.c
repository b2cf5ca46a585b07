/* The structure of a posterior, read from sources in memory, and refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bayes/structure.h"
#include "ivon/summary.h"

#define TEST(name) cmocka_unit_test(name)
#define SHAPE(...)                                                                                 \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])             \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

enum { MOST = 32, ELEMENTS = 4096 };

static const float zeros[ELEMENTS];

struct posterior {
    struct ivon_tensor tensors[MOST];
    const void *data[MOST];
    size_t count;
};

static struct ivon_tensor *add(struct posterior *posterior, enum ivon_part part, const char *name,
                               int rank, const int64_t *shape)
{
    assert_true(posterior->count < MOST);
    struct ivon_tensor *tensor = &posterior->tensors[posterior->count];
    *tensor = (struct ivon_tensor){.name = name,
                                   .part = part,
                                   .dtype = IVON_F32,
                                   .rank = rank,
                                   .count = 1,
                                   .ess = part == IVON_HESSIAN ? 10 : NAN,
                                   .weight_decay = part == IVON_HESSIAN ? 1 : NAN};
    for (int i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= (size_t)shape[i];
    }
    assert_true(tensor->count <= ELEMENTS);
    posterior->data[posterior->count++] = zeros;
    return tensor;
}

static void add_text(struct posterior *posterior, const char *text)
{
    struct ivon_tensor *tensor = add(posterior, IVON_STRUCTURE, "structure.json",
                                     SHAPE((int64_t)strlen(text)));
    tensor->dtype = IVON_U8;
    posterior->data[posterior->count - 1] = text;
}

static struct ivon_source *open_source(const struct posterior *posterior)
{
    struct ivon_source *source = NULL;
    const struct ivon_header header = ivon_header_empty();
    assert_int_equal(ivon_source_from_memory(&source, "p", &header, posterior->tensors,
                                             posterior->data, posterior->count, NULL),
                     0);
    return source;
}

/* A convolution with a bias, a transposed weight with one basis, and a diagonal parameter. */
static struct posterior whole(void)
{
    struct posterior p = {0};
    add(&p, IVON_MEAN, "conv.bias", SHAPE(4));
    add(&p, IVON_MEAN, "conv.weight", SHAPE(4, 2, 3, 3));
    add(&p, IVON_MEAN, "embedding", SHAPE(7, 5));
    add(&p, IVON_MEAN, "scale", SHAPE(6));
    add(&p, IVON_HESSIAN, "conv.weight", SHAPE(4, 19));
    add(&p, IVON_HESSIAN, "embedding", SHAPE(5, 7));
    add(&p, IVON_HESSIAN, "scale", SHAPE(6));
    add(&p, IVON_BASIS_INPUT, "conv.weight", SHAPE(19, 19));
    add(&p, IVON_BASIS_OUTPUT, "conv.weight", SHAPE(4, 4));
    add(&p, IVON_BASIS_OUTPUT, "embedding", SHAPE(5, 5));
    add(&p, IVON_SPECTRUM_INPUT, "conv.weight", SHAPE(19));
    add(&p, IVON_SPECTRUM_OUTPUT, "conv.weight", SHAPE(4));
    add(&p, IVON_GRAM, "conv.weight", SHAPE(19, 19));
    add(&p, IVON_LOW_RANK, "conv.weight", SHAPE(2, 76));
    add(&p, IVON_LOW_RANK, "scale", SHAPE(2, 6));
    return p;
}

static const char text_of_whole[] =
    "{\"fit\": {\"examples\": 3}, \"low_rank\": {\"values\": [1.5, -0.25]}, \"more\": [[]],"
    " \"blocks\": {\"conv.weight\": {\"bias\": \"conv.bias\", \"x\": 1},"
    " \"embedding\": {\"transposed\": true}}}";

static void blocks_and_vectors_are_found(void **state)
{
    (void)state;
    struct posterior p = whole();
    struct structure *structure = NULL;
    add_text(&p, text_of_whole);
    struct ivon_source *source = open_source(&p);
    assert_int_equal(structure_read(&structure, source, NULL), 0);
    assert_int_equal(structure->block_count, 2);
    const struct structure_block *conv = &structure->blocks[0], *embedding = &structure->blocks[1];
    assert_int_equal(conv->weight, 1);
    assert_int_equal(conv->bias, 0);
    assert_int_equal(conv->hessian, 4);
    assert_int_equal(conv->input_basis, 7);
    assert_int_equal(conv->output_basis, 8);
    assert_int_equal(conv->input_spectrum, 10);
    assert_int_equal(conv->output_spectrum, 11);
    assert_int_equal(conv->gram, 12);
    assert_int_equal(conv->rows, 4);
    assert_int_equal(conv->columns, 19);
    assert_false(conv->transposed);
    assert_int_equal(embedding->weight, 2);
    assert_int_equal(embedding->bias, -1);
    assert_int_equal(embedding->input_basis, -1);
    assert_int_equal(embedding->output_basis, 9);
    assert_int_equal(embedding->rows, 5);
    assert_int_equal(embedding->columns, 7);
    assert_true(embedding->transposed);
    static const ptrdiff_t blocks[] = {0, 0, 1, -1, 0, 1, -1};
    for (size_t i = 0; i < p.count; i++) {
        assert_int_equal(structure->block_of[i], i < 7 ? blocks[i] : -1);
        assert_int_equal(structure->vectors[i], i == 4 ? 13 : i == 6 ? 14 : -1);
    }
    assert_true(structure->low_rank);
    assert_int_equal(structure->rank, 2);
    assert_true(structure->values[0] == 1.5 && structure->values[1] == -0.25);
    assert_false(structure_is_diagonal(structure));
    struct ivon_structure described;
    assert_int_equal(ivon_structure_describe(&described, source, NULL), 0);
    assert_int_equal(described.blocks, 2);
    assert_int_equal(described.rank, 2);
    structure_free(structure);
    ivon_source_close(source);
}

static void a_diagonal_posterior_has_none(void **state)
{
    (void)state;
    struct posterior p = {0};
    struct structure *structure = NULL;
    add(&p, IVON_MEAN, "w", SHAPE(3, 2));
    add(&p, IVON_HESSIAN, "w", SHAPE(2, 2)); /* that is not asked here */
    struct ivon_source *source = open_source(&p);
    assert_int_equal(structure_read(&structure, source, NULL), 0);
    assert_int_equal(structure->block_count + structure->rank, 0);
    assert_int_equal(structure->block_of[1], -1);
    assert_int_equal(structure->vectors[1], -1);
    assert_true(structure_is_diagonal(structure));
    assert_int_equal(structure_refuse(source, "merged", NULL), 0);
    structure_free(structure);
    ivon_source_close(source);
    structure_free(NULL);
}

static void gram_matrices_may_stand_alone(void **state)
{
    (void)state;
    static const struct {
        int64_t n;
        bool fine;
    } cases[] = {{2, true}, {3, true}, {4, true}, {1, false}, {5, false}, {6, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct posterior p = {0};
        struct structure *structure = NULL;
        struct ivon_error error = {0};
        add(&p, IVON_MEAN, "w", SHAPE(3, 2));
        add(&p, IVON_HESSIAN, "w", SHAPE(3, 2));
        add(&p, IVON_GRAM, "w", SHAPE(cases[i].n, cases[i].n));
        struct ivon_source *source = open_source(&p);
        assert_int_equal(structure_read(&structure, source, &error),
                         cases[i].fine ? 0 : IVON_ERROR_DATA);
        if (!cases[i].fine)
            assert_non_null(strstr(error.message, "p: gram of 'w' has shape "));
        structure_free(structure);
        ivon_source_close(source);
    }
}

static void refuse(struct posterior *p, const char *expected)
{
    struct ivon_error error = {0};
    struct structure *structure = NULL;
    struct ivon_source *source = open_source(p);
    assert_int_equal(structure_read(&structure, source, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, expected);
    assert_null(structure);
    ivon_source_close(source);
}

static void texts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "p: structure.json: damaged JSON at byte 0: expected '{'"},
        {"{} x", "p: structure.json: damaged JSON at byte 3: something follows the object"},
        {"{\"blocks\": []}", "p: structure.json: damaged JSON at byte 11: expected '{'"},
        {"{\"blocks\": {}, \"blocks\": {}}", "p: structure.json: 'blocks' occurs twice"},
        {"{\"low_rank\": {\"values\": []}, \"low_rank\": {\"values\": []}}",
         "p: structure.json: 'low_rank' occurs twice"},
        {"{\"low_rank\": [1]}", "p: structure.json: 'low_rank' is no object with a list 'values'"},
        {"{\"low_rank\": {}}", "p: structure.json: 'low_rank' is no object with a list 'values'"},
        {"{\"low_rank\": {\"values\": [1, \"2\"]}}",
         "p: structure.json: value 1 of 'low_rank' is no number, expected a number above -1"},
        {"{\"low_rank\": {\"values\": [-1]}}",
         "p: structure.json: value 0 of 'low_rank' is -1, expected a number above -1"},
        {"{\"low_rank\": {\"values\": [1]}}",
         "p: structure.json: 'low_rank' has 1 values, and there are no vectors"},
        {"{\"blocks\": {\"w\": 1}}", "p: structure.json: block 'w': is no object"},
        {"{\"blocks\": {\"w\": {\"bias\": 1}}}",
         "p: structure.json: block 'w': 'bias' is no string"},
        {"{\"blocks\": {\"w\": {\"transposed\": 1}}}",
         "p: structure.json: block 'w': 'transposed' is no boolean"},
        {"{\"blocks\": {\"x\": {}}}",
         "p: structure.json: block 'x': there is no mean of this name"},
        {"{\"blocks\": {\"w\": {}, \"w\": {}}}",
         "p: structure.json: block 'w': its mean is in a block already"},
        {"{\"blocks\": {\"b\": {}}}",
         "p: structure.json: block 'b': its mean has shape 3, expected two dimensions or more, and "
         "elements"},
        {"{\"blocks\": {\"c\": {\"transposed\": true}}}",
         "p: structure.json: block 'c': its mean has shape 3x1x2, expected two dimensions, as it "
         "is transposed, and elements"},
        {"{\"blocks\": {\"none\": {}}}",
         "p: structure.json: block 'none': its mean has shape 0x4, expected two dimensions or "
         "more, and elements"},
        {"{\"blocks\": {\"w\": {\"bias\": \"x\"}}}",
         "p: structure.json: block 'w': its bias 'x' has no mean"},
        {"{\"blocks\": {\"w\": {\"bias\": \"b\", \"transposed\": true}}}",
         "p: structure.json: block 'w': its bias 'b' has shape 3, expected 2 elements"},
        {"{\"blocks\": {\"c\": {\"bias\": \"b\"}, \"w\": {\"bias\": \"b\"}}}",
         "p: structure.json: block 'w': its bias 'b' is in a block already"},
        {"{\"blocks\": {\"thin\": {\"bias\": \"thin\"}}}",
         "p: structure.json: block 'thin': its bias 'thin' is in a block already"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct posterior p = {0};
        add(&p, IVON_MEAN, "w", SHAPE(3, 2));
        add(&p, IVON_MEAN, "c", SHAPE(3, 1, 2));
        add(&p, IVON_MEAN, "b", SHAPE(3));
        add(&p, IVON_MEAN, "thin", SHAPE(3, 1));
        add(&p, IVON_MEAN, "none", SHAPE(0, 4));
        add_text(&p, cases[i].text);
        refuse(&p, cases[i].expected);
    }
}

static void tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
        enum ivon_part part;
        const char *name;
        int rank;
        int64_t shape[2];
    } cases[] = {
        {"{\"blocks\": {\"w\": {}}}",
         "p: Hessian of 'w' has shape 3x3, expected 3x2",
         IVON_HESSIAN,
         "w",
         2,
         {3, 3}},
        {"{\"blocks\": {\"w\": {\"bias\": \"b\"}}}",
         "p: Hessian of 'w' has shape 3x2, expected 3x3",
         IVON_HESSIAN,
         "w",
         2,
         {3, 2}},
        {"{\"blocks\": {\"w\": {\"transposed\": true}}}",
         "p: Hessian of 'w' has shape 3x2, expected 2x3",
         IVON_HESSIAN,
         "w",
         2,
         {3, 2}},
        {"{\"blocks\": {\"w\": {\"bias\": \"b\"}}}",
         "p: 'b' has a Hessian of its own, and is the bias of block 'w'",
         IVON_HESSIAN,
         "b",
         1,
         {3}},
        {"{\"blocks\": {\"w\": {}}}",
         "p: structure.json: block 'w': has a basis, and no Hessian in it",
         IVON_BASIS_INPUT,
         "w",
         2,
         {2, 2}},
        {"{\"blocks\": {\"w\": {}}}",
         "p: basis_output of 'w' has shape 2x2, expected 3x3",
         IVON_BASIS_OUTPUT,
         "w",
         2,
         {2, 2}},
        {"{\"blocks\": {\"w\": {}}}",
         "p: spectrum_input of 'w' has shape 3, expected 2",
         IVON_SPECTRUM_INPUT,
         "w",
         1,
         {3}},
        {"{\"blocks\": {\"w\": {\"bias\": \"b\"}}}",
         "p: gram of 'w' has shape 2x2, expected 3x3",
         IVON_GRAM,
         "w",
         2,
         {2, 2}},
        {"{}",
         "p: basis_input of 'w' belongs to no block of structure.json",
         IVON_BASIS_INPUT,
         "w",
         2,
         {2, 2}},
        {"{\"blocks\": {\"w\": {\"bias\": \"b\"}}}",
         "p: spectrum_output of 'b' belongs to no block of structure.json",
         IVON_SPECTRUM_OUTPUT,
         "b",
         1,
         {3}},
        {NULL,
         "p: has basis_output of 'w', and no structure.json",
         IVON_BASIS_OUTPUT,
         "w",
         2,
         {3, 3}},
        {"{}",
         "p: Hessian of 'w' has shape 2x3, its mean, which is in no block, has 3x2",
         IVON_HESSIAN,
         "w",
         2,
         {2, 3}},
        {"{}",
         "p: lowrank_vectors of 'd' have no values: structure.json has no 'low_rank'",
         IVON_LOW_RANK,
         "d",
         2,
         {1, 4}},
        {"{\"low_rank\": {\"values\": [1]}}",
         "p: lowrank_vectors of 'w' stand beside no Hessian",
         IVON_LOW_RANK,
         "w",
         2,
         {1, 6}},
        {"{\"low_rank\": {\"values\": [1]}}",
         "p: lowrank_vectors of 'd' has shape 2x4, expected 1x4",
         IVON_LOW_RANK,
         "d",
         2,
         {2, 4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct posterior p = {0};
        add(&p, IVON_MEAN, "w", SHAPE(3, 2));
        add(&p, IVON_MEAN, "b", SHAPE(3));
        add(&p, IVON_MEAN, "d", SHAPE(4));
        add(&p, IVON_HESSIAN, "d", SHAPE(4));
        add(&p, cases[i].part, cases[i].name, cases[i].rank, cases[i].shape);
        if (cases[i].text)
            add_text(&p, cases[i].text);
        refuse(&p, cases[i].expected);
    }
}

static void long_texts_are_refused(void **state)
{
    (void)state;
    enum { TOO_LONG = (64 << 20) + 1, DEEP = 100000 };
    struct posterior p = {0};
    char *text = malloc(TOO_LONG + 1);
    assert_non_null(text);
    memset(text, ' ', TOO_LONG);
    text[TOO_LONG] = 0;
    add(&p, IVON_MEAN, "w", SHAPE(3, 2));
    p.tensors[1] = (struct ivon_tensor){.name = "structure.json",
                                        .part = IVON_STRUCTURE,
                                        .dtype = IVON_U8,
                                        .rank = 1,
                                        .shape = {TOO_LONG},
                                        .count = TOO_LONG};
    p.data[1] = text;
    p.count = 2;
    refuse(&p, "p: structure.json: has 67108865 elements of type u8, expected a text of at most "
               "67108864 bytes");
    memset(text, '[', DEEP);
    memcpy(text, "{\"x\":", 5);
    p.tensors[1].shape[0] = DEEP;
    struct ivon_source *source = open_source(&p);
    struct structure *structure = NULL;
    assert_int_equal(structure_read(&structure, source, NULL), IVON_ERROR_DATA);
    ivon_source_close(source);
    free(text);
}

static void texts_are_written(void **state)
{
    (void)state;
    const struct structure_block_names blocks[] = {{"z", "z.b", false, 0}, {"a", NULL, true, 60}};
    const double values[] = {0.1, 3};
    const struct {
        struct structure_description description;
        const char *expected;
    } cases[] = {
        {{0}, "{}"},
        {{.blocks = blocks, .block_count = 2},
         "{\"blocks\":{\"a\":{\"input_rows\":60,\"transposed\":true},\"z\":{\"bias\":\"z.b\"}}}"},
        {{.values = values}, "{\"low_rank\":{\"values\":[]}}"},
        {{.values = values, .rank = 2, .fit = "{\"n\": 1, \"a\": []}"},
         "{\"fit\":{\"a\":[],\"n\":1},\"low_rank\":{\"values\":[0.10000000000000001,3.0]}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = structure_text(&cases[i].description);
        assert_string_equal(text, cases[i].expected);
        free(text);
    }
    const struct structure_description wrong = {.fit = "{"};
    assert_null(structure_text(&wrong));
    const struct structure_block_names bytes = {"\xff", NULL, false, 0};
    const struct structure_description no_utf8 = {.blocks = &bytes, .block_count = 1};
    assert_null(structure_text(&no_utf8));
}

static void structures_are_named_in_refusals(void **state)
{
    (void)state;
    struct posterior diagonal = {0};
    add(&diagonal, IVON_MEAN, "w", SHAPE(3, 2));
    add(&diagonal, IVON_HESSIAN, "v", SHAPE(3, 2));
    add(&diagonal, IVON_GRAM, "w", SHAPE(2, 2));
    add_text(&diagonal, "{\"fit\": {}, \"blocks\": {\"w\": {}}, \"low_rank\": {\"values\": []}}");
    struct ivon_source *other = open_source(&diagonal);
    assert_int_equal(structure_refuse(other, "merged", NULL), 0);
    ivon_source_close(other);
    struct posterior p = whole();
    struct ivon_error error = {0};
    add_text(&p, text_of_whole);
    struct ivon_source *source = open_source(&p);
    assert_int_equal(structure_refuse(source, "merged", &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "p: is a structured posterior, with blocks or a low-rank "
                                       "correction: these are not merged");
    ivon_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blocks_and_vectors_are_found),
        TEST(a_diagonal_posterior_has_none),
        TEST(gram_matrices_may_stand_alone),
        TEST(texts_are_refused),
        TEST(tensors_are_refused),
        TEST(long_texts_are_refused),
        TEST(texts_are_written),
        TEST(structures_are_named_in_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
