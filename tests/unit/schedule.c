/* Learning-rate schedules against their closed formulas. Equal arithmetic: exact, but for a cosine,
   whose error is below a unit in the last place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/schedule.h"

static void warmup_rises_in_equal_steps(void **state)
{
    (void)state;
    for (int shape = SCHEDULE_CONSTANT; shape <= SCHEDULE_LINEAR; shape++) {
        struct schedule schedule = {(enum schedule_shape)shape, 8, 100};
        for (uint64_t step = 0; step < 8; step++)
            assert_true(schedule_factor(&schedule, step) == (double)(step + 1) / 8);
        assert_true(schedule_factor(&schedule, 8) == 1);
    }
}

static void shapes_follow_their_formulas(void **state)
{
    (void)state;
    struct schedule linear = {SCHEDULE_LINEAR, 4, 20}, cosine = {SCHEDULE_COSINE, 4, 20};
    struct schedule constant = {.shape = SCHEDULE_CONSTANT};
    for (uint64_t step = 4; step < 20; step++) {
        assert_true(schedule_factor(&linear, step) == 1 - (double)(step - 4) / 16);
        double angle = acos(-1) * (double)(step - 4) / 16;
        assert_true(fabs(schedule_factor(&cosine, step) - (1 + cos(angle)) / 2) < 0x1p-51);
    }
    assert_true(fabs(schedule_factor(&cosine, 12) - 0.5) < 0x1p-52);
    assert_true(schedule_factor(&linear, 19) == 1.0 / 16);
    assert_true(schedule_factor(&linear, 20) == 0 && schedule_factor(&cosine, 20) == 0);
    assert_true(schedule_factor(&linear, UINT64_MAX) == 0);
    assert_true(schedule_factor(&constant, 0) == 1 && schedule_factor(&constant, 1 << 30) == 1);
}

static void settings_are_checked(void **state)
{
    (void)state;
    struct ivon_error error;
    enum schedule_shape shape;
    struct schedule schedule = {SCHEDULE_COSINE, 10, 10};
    assert_int_equal(schedule_check(&schedule, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "warmup of 10 steps in a training of 10, expected fewer");
    schedule.steps = 11;
    assert_int_equal(schedule_check(&schedule, &error), 0);
    assert_int_equal(schedule_shape_parse(&shape, "cosine", &error), 0);
    assert_int_equal(shape, SCHEDULE_COSINE);
    assert_int_equal(schedule_shape_parse(&shape, "step", &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "schedule 'step', expected constant, cosine or linear");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warmup_rises_in_equal_steps),
        cmocka_unit_test(shapes_follow_their_formulas),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
