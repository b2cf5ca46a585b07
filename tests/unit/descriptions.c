/* What the library says of things: its version, text that is safe to show, the traits of
   likelihoods and scores, names and shapes of tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/stream.h"
#include "ivon/ivon.h"

static void the_version_is_the_projects(void **state)
{
    (void)state;
    assert_string_equal(ivon_version(), IVON_VERSION);
}

static void characters_are_safe_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        uint32_t character;
        bool safe;
    } cases[] = {{"a", 1, 'a', true},
                 {"~b", 1, '~', true},
                 {" ", 1, ' ', true},
                 {"\x1f", 1, 0x1f, false},
                 {"\x7f", 1, 0x7f, false},
                 {"\xc2\x80", 2, 0x80, false},
                 {"\xc2\x9f", 2, 0x9f, false},
                 {"\xc2\xa0", 2, 0xa0, true},
                 {"\xd8\x9c", 2, 0x61c, false},
                 {"\xe2\x80\x8d", 3, 0x200d, true},
                 {"\xe2\x80\x8e", 3, 0x200e, false},
                 {"\xe2\x80\x8f", 3, 0x200f, false},
                 {"\xe2\x80\xa8", 3, 0x2028, false},
                 {"\xe2\x80\xae", 3, 0x202e, false},
                 {"\xe2\x80\xaf", 3, 0x202f, true},
                 {"\xe2\x81\xa5", 3, 0x2065, true},
                 {"\xe2\x81\xa6", 3, 0x2066, false},
                 {"\xe2\x81\xa9", 3, 0x2069, false},
                 {"\xe2\x81\xaa", 3, 0x206a, true},
                 {"\xf0\x9f\x98\x80", 4, 0x1f600, true},
                 {"\x80", 1, 0, false},
                 {"\xff", 1, 0, false},
                 {"\xe2\x82", 1, 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t character = 1;
        bool safe = !cases[i].safe;
        size_t size = ivon_text_character(cases[i].text, &character, &safe);
        if (size != cases[i].size || character != cases[i].character || safe != cases[i].safe)
            fail_msg("case %zu: %zu bytes, U+%04X, safe %d", i, size, character, safe);
    }
}

static void text_is_cleaned_byte_by_byte(void **state)
{
    (void)state;
    char text[] = "a\x1b[2Jb\n\xc2\x9b"
                  "c \xe2\x80\xaeg\xc3\xa9\xff";
    ivon_text_clean(text);
    assert_string_equal(text, "a?[2Jb???c ???g\xc3\xa9?");
    char empty[] = "";
    ivon_text_clean(empty);
    assert_string_equal(empty, "");
}

static void likelihoods_have_traits(void **state)
{
    (void)state;
    static const struct ivon_likelihood_traits expected[] = {
        {"categorical", true, false, false, false},
        {"bernoulli", false, false, false, false},
        {"gaussian", false, true, true, false},
        {"poisson", false, true, false, false},
        {"heteroscedastic", false, true, false, true}};
    for (int i = IVON_CATEGORICAL; i <= IVON_HETEROSCEDASTIC; i++) {
        const struct ivon_likelihood_traits *found = ivon_likelihood_traits(
            (enum ivon_likelihood)i);
        assert_string_equal(found->name, expected[i].name);
        assert_true(found->classes == expected[i].classes &&
                    found->regression == expected[i].regression &&
                    found->noise == expected[i].noise && found->variances == expected[i].variances);
        assert_int_equal(ivon_likelihood_targets((enum ivon_likelihood)i, 6), found->classes ? 1
                                                                              : found->variances
                                                                                  ? 3
                                                                                  : 6);
    }
    assert_null(ivon_likelihood_traits((enum ivon_likelihood)5));
    assert_null(ivon_likelihood_traits((enum ivon_likelihood) - 1));
    /* −log of 1 in 10 classes, and of ½ for each of 3 events: one rounding of the logarithm each */
    assert_true(fabs(ivon_guessing_loss(IVON_CATEGORICAL, 10) - log(10)) < 0x1p-51);
    assert_true(fabs(ivon_guessing_loss(IVON_BERNOULLI, 3) - 3 * log(2)) < 0x1p-50);
    assert_true(isnan(ivon_guessing_loss(IVON_GAUSSIAN, 3)));
}

static void scores_have_traits(void **state)
{
    (void)state;
    static const struct ivon_score_traits expected[] = {
        [IVON_SCORE_DEVIATION] = {"deviation", true, false, false},
        [IVON_SCORE_MPE] = {"mpe", true, false, false},
        [IVON_SCORE_SELF_INFLUENCE] = {"self_influence", false, true, false},
        [IVON_SCORE_LOO_LOSS] = {"loo_loss", true, true, false},
        [IVON_SCORE_INFLUENCE] = {"influence", false, true, true}};
    int count = (int)(sizeof expected / sizeof expected[0]);
    for (int i = 0; i < count; i++) {
        const struct ivon_score_traits *found = ivon_score_traits((enum ivon_score)i);
        assert_string_equal(found->name, expected[i].name);
        if (found->rows != expected[i].rows || found->nats != expected[i].nats ||
            found->test_data != expected[i].test_data)
            fail_msg("%s: rows %d, nats %d, test data %d", found->name, found->rows, found->nats,
                     found->test_data);
    }
    assert_null(ivon_score_traits((enum ivon_score)count));
}

static void tensors_have_names_and_shapes(void **state)
{
    (void)state;
    char text[256];
    struct ivon_tensor tensor = {
        .name = "hessian/fc.weight", .rank = 2, .shape = {30, 40}, .part = IVON_MEAN};
    assert_ptr_equal(ivon_tensor_shape_text(&tensor, text), text);
    assert_string_equal(text, "30x40");
    assert_string_equal(ivon_tensor_bare_name(&tensor), "hessian/fc.weight");
    tensor.rank = 0;
    assert_string_equal(ivon_tensor_shape_text(&tensor, text), "scalar");
    tensor.part = IVON_OPAQUE;
    tensor.rank = -1;
    assert_string_equal(ivon_tensor_shape_text(&tensor, text), "?");
    assert_string_equal(ivon_tensor_bare_name(&tensor), "fc.weight");
    tensor.name = "hessians/fc.weight";
    assert_string_equal(ivon_tensor_bare_name(&tensor), "hessians/fc.weight");
    tensor.name = "buffers/mask";
    assert_string_equal(ivon_tensor_bare_name(&tensor), "mask");
}

static int read_nothing(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    (void)self;
    (void)tensor;
    (void)first;
    (void)count;
    (void)buffer;
    (void)error;
    return 0;
}

static void close_nothing(void *self)
{
    (void)self;
}

/* A file that stores `emb` a second time as `head`, and a Hessian of `emb` as fp8. */
static void sources_know_aliases_and_opaque_tensors(void **state)
{
    (void)state;
    static const struct ivon_source_class class = {.read = read_nothing, .close = close_nothing};
    const struct ivon_tensor emb = {.name = "emb", .rank = 1, .shape = {3}, .ess = NAN};
    const struct ivon_tensor hessian = {.name = "hessian/emb",
                                        .part = IVON_OPAQUE,
                                        .dtype = IVON_U8,
                                        .rank = 1,
                                        .shape = {3},
                                        .stored_as = "F8_E4M3"};
    const struct ivon_header header = ivon_header_empty();
    struct tensor_list list = {0};
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    int self = 0;
    assert_int_equal(tensor_list_append(&list, &emb, &error), 0);
    assert_int_equal(tensor_list_append(&list, &hessian, &error), 0);
    assert_int_equal(tensor_list_alias(&list, "head", "emb", &error), 0);
    assert_int_equal(ivon_source_new(&source, &class, &self, "file", &header, &list, &error), 0);
    assert_string_equal(ivon_source_alias(source, "head"), "emb");
    assert_null(ivon_source_alias(source, "emb"));
    assert_null(ivon_source_alias(source, "heads"));
    assert_int_equal(ivon_source_refuse_opaque(source, IVON_MEAN, "emb", &error), 0);
    assert_int_equal(ivon_source_refuse_opaque(source, IVON_HESSIAN, "emb", &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "file: tensor 'hessian/emb' is stored as F8_E4M3"));
    assert_int_equal(ivon_source_refuse_opaque(source, IVON_HESSIAN, "head", &error), 0);
    ivon_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_the_projects),
        cmocka_unit_test(characters_are_safe_or_not),
        cmocka_unit_test(text_is_cleaned_byte_by_byte),
        cmocka_unit_test(likelihoods_have_traits),
        cmocka_unit_test(scores_have_traits),
        cmocka_unit_test(tensors_have_names_and_shapes),
        cmocka_unit_test(sources_know_aliases_and_opaque_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
