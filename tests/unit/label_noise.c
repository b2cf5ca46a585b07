/*
 * Confident learning against a computation by hand: three classes whose thresholds, joint counts
 * and suspects can be read off the probabilities, which are the logits' exponentials. Probabilities
 * are floats: right to 2^-24 of themselves.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/label_noise.h"

enum { CLASSES = 3, EXAMPLES = 8 };

static const double P[EXAMPLES][CLASSES] = {
    {.8, .1, .1}, {.6, .3, .1},   {.1, .8, .1},   /* labelled 0; the third is a 1 */
    {.2, .7, .1}, {.1, .5, .4},                   /* labelled 1; the second is of no class */
    {.1, .1, .8}, {.68, .2, .12}, {.25, .2, .55}, /* labelled 2; the second is a 0 */
};
static const int64_t LABELS[EXAMPLES] = {0, 0, 0, 1, 1, 2, 2, 2};

static void fill(float *logits)
{
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t k = 0; k < CLASSES; k++)
            logits[i * CLASSES + k] = (float)(log(P[i][k]) + 5);
}

static struct ivon_label_noise *add(const float *logits, const bool *counts)
{
    struct ivon_label_noise *noise;
    struct ivon_error error = {0};
    assert_int_equal(ivon_label_noise_new(&noise, CLASSES, &error), 0);
    /* In two parts, which are numbered on. */
    assert_int_equal(ivon_label_noise_add(noise, 3, LABELS, logits, counts, &error), 0);
    assert_int_equal(ivon_label_noise_add(noise, EXAMPLES - 3, LABELS + 3,
                                          logits + (size_t)3 * CLASSES, counts ? counts + 3 : NULL,
                                          &error),
                     0);
    return noise;
}

static void near(double found, double expected)
{
    assert_true(fabs(found - expected) <= 4 * 0x1p-23 * fmax(fabs(expected), 1));
}

/* t = .5, .6, .49. Of label 0 two count for it and one for 1; of label 1 one for 1, and the other
   for none, as .5 < .6 and .4 < .49; of label 2 two for it and one for 0. */
static void estimates_are_those_of_the_joint_counts(void **state)
{
    (void)state;
    float logits[EXAMPLES * CLASSES];
    struct ivon_class_noise *classes;
    double wrong;
    fill(logits);
    struct ivon_label_noise *noise = add(logits, NULL);
    assert_int_equal(ivon_label_noise_estimate(noise, &classes, &wrong, NULL), 0);
    const double thresholds[] = {.5, .6, 1.47 / 3}, wrongs[] = {1, 0, 1};
    const int64_t confused[] = {1, -1, 0};
    const uint64_t counts[] = {3, 2, 3};
    near(wrong, 2);
    for (size_t k = 0; k < CLASSES; k++) {
        assert_int_equal(classes[k].count, counts[k]);
        near(classes[k].threshold, thresholds[k]);
        near(classes[k].wrong, wrongs[k]);
        near(classes[k].confused_by, wrongs[k]);
        assert_int_equal(classes[k].confused, confused[k]);
    }
    free(classes);
    ivon_label_noise_free(noise);
}

static void suspects_have_the_least_probability(void **state)
{
    (void)state;
    float logits[EXAMPLES * CLASSES];
    struct ivon_suspect *suspects = NULL;
    size_t count = 0;
    fill(logits);
    struct ivon_label_noise *noise = add(logits, NULL);
    assert_int_equal(ivon_label_noise_suspects(noise, 3, &suspects, &count, NULL), 0);
    assert_int_equal(count, 3);
    const uint64_t examples[] = {2, 6, 4};
    const int64_t suggested[] = {1, 0, 2};
    const double own[] = {.1, .12, .5}, other[] = {.8, .68, .4};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(suspects[i].example, examples[i]);
        assert_int_equal(suspects[i].label, LABELS[examples[i]]);
        assert_int_equal(suspects[i].suggested, suggested[i]);
        near(suspects[i].label_probability, own[i]);
        near(suspects[i].suggested_probability, other[i]);
        near(suspects[i].loss, -log(own[i]));
    }
    free(suspects);
    assert_int_equal(ivon_label_noise_suspects(noise, SIZE_MAX, &suspects, &count, NULL), 0);
    assert_int_equal(count, EXAMPLES);
    free(suspects);
    ivon_label_noise_free(noise);
}

/* Examples that do not count keep their numbers; a class without examples has no threshold. */
static void some_do_not_count(void **state)
{
    (void)state;
    const bool counts[EXAMPLES] = {true, true, true, false, false, true, false, true};
    float logits[EXAMPLES * CLASSES];
    struct ivon_class_noise *classes;
    struct ivon_suspect *suspects;
    size_t count;
    fill(logits);
    struct ivon_label_noise *noise = add(logits, counts);
    assert_int_equal(ivon_label_noise_estimate(noise, &classes, NULL, NULL), 0);
    assert_true(isnan(classes[1].threshold));
    assert_true(classes[1].count == 0 && classes[1].wrong == 0 && classes[0].wrong == 0);
    assert_int_equal(ivon_label_noise_suspects(noise, 9, &suspects, &count, NULL), 0);
    assert_int_equal(count, 5);
    assert_true(suspects[0].example == 2 && suspects[1].example == 7);
    free(suspects);
    free(classes);
    ivon_label_noise_free(noise);
}

/* One logit is that of 1 against 0, whatever its size. */
static void one_logit_is_of_two_classes(void **state)
{
    (void)state;
    const float logits[] = {2, -1, 3e38F, -3e38F};
    const int64_t labels[] = {1, 1, 0, 0};
    struct ivon_label_noise *noise;
    struct ivon_suspect *suspects;
    struct ivon_error error = {0};
    size_t count;
    assert_int_equal(ivon_label_noise_new(&noise, 1, &error), 0);
    assert_int_equal(ivon_label_noise_add(noise, 4, labels, logits, NULL, &error), 0);
    assert_int_equal(ivon_label_noise_suspects(noise, 4, &suspects, &count, &error), 0);
    const uint64_t examples[] = {2, 1, 0, 3};
    const double losses[] = {3e38, log1p(exp(1)), log1p(exp(-2)), 0};
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(suspects[i].example, examples[i]);
        assert_int_equal(suspects[i].suggested, !labels[examples[i]]);
        near(suspects[i].loss / fmax(losses[i], 1), losses[i] / fmax(losses[i], 1));
    }
    free(suspects);
    ivon_label_noise_free(noise);
}

static void wrong_input_is_refused_with_its_row(void **state)
{
    (void)state;
    const float logits[] = {1, 2, 3, 1, 2, NAN};
    const int64_t labels[] = {2, 0}, beyond[] = {0, 3};
    struct ivon_label_noise *noise;
    struct ivon_error error = {0};
    assert_int_equal(ivon_label_noise_new(&noise, 0, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_label_noise_new(&noise, CLASSES, &error), 0);
    assert_int_equal(ivon_label_noise_add(noise, 2, labels, logits, NULL, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "row 1: the output without it is not finite");
    assert_int_equal(ivon_label_noise_add(noise, 2, beyond, logits, NULL, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "label 3, expected 0 to 2"));
    ivon_label_noise_free(noise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_those_of_the_joint_counts),
        cmocka_unit_test(suspects_have_the_least_probability),
        cmocka_unit_test(some_do_not_count),
        cmocka_unit_test(one_logit_is_of_two_classes),
        cmocka_unit_test(wrong_input_is_refused_with_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
