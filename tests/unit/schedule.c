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
    for (int shape = IVON_SCHEDULE_CONSTANT; shape <= IVON_SCHEDULE_LINEAR; shape++) {
        struct schedule schedule = {(enum ivon_schedule)shape, 8, 100, 0, 0};
        for (uint64_t step = 0; step < 8; step++)
            assert_true(schedule_factor(&schedule, step) == (double)(step + 1) / 8);
        assert_true(schedule_factor(&schedule, 8) == 1);
    }
}

static void shapes_follow_their_formulas(void **state)
{
    (void)state;
    struct schedule linear = {IVON_SCHEDULE_LINEAR, 4, 20, 0, 0},
                    cosine = {IVON_SCHEDULE_COSINE, 4, 20, 0, 0};
    struct schedule constant = {.shape = IVON_SCHEDULE_CONSTANT};
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

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The factors of PyTorch 1.13's CosineAnnealingWarmRestarts(SGD(lr=1), T_0, T_mult), which takes
   the cosine of another rounding of the same angle. */
static void restarts_are_those_of_pytorch(void **state)
{
    (void)state;
    /* Of T_0 = 3 and T_mult = 2, of 4 and 1, and of 2 and 3. */
    static const double doubled[] = {1,
                                     0.75,
                                     0.25,
                                     1,
                                     0.93301270189221941,
                                     0.75,
                                     0.5,
                                     0.25,
                                     0.066987298107780646,
                                     1,
                                     0.9829629131445341,
                                     0.93301270189221941,
                                     0.85355339059327373,
                                     0.75,
                                     0.62940952255126037,
                                     0.5,
                                     0.37059047744873969,
                                     0.25,
                                     0.14644660940672627,
                                     0.066987298107780646,
                                     0.017037086855465899,
                                     1};
    static const double equal[] = {1, 0.85355339059327373, 0.5, 0.14644660940672627,
                                   1, 0.85355339059327373, 0.5, 0.14644660940672627,
                                   1, 0.85355339059327373};
    static const double tripled[] = {1,
                                     0.5,
                                     1,
                                     0.93301270189221941,
                                     0.75,
                                     0.5,
                                     0.25,
                                     0.066987298107780646,
                                     1,
                                     0.99240387650610407,
                                     0.96984631039295421,
                                     0.93301270189221941};
    static const struct {
        uint64_t cycle, growth;
        const double *factors;
        size_t count;
    } cases[] = {{3, 2, doubled, COUNT(doubled)},
                 {4, 1, equal, COUNT(equal)},
                 {2, 3, tripled, COUNT(tripled)}};
    for (size_t c = 0; c < COUNT(cases); c++)
        for (uint64_t warmup = 0; warmup <= 4; warmup += 4) {
            struct schedule schedule = {IVON_SCHEDULE_COSINE, warmup, 100, cases[c].cycle,
                                        cases[c].growth};
            struct schedule linear = schedule;
            linear.shape = IVON_SCHEDULE_LINEAR;
            for (uint64_t step = 0; step < cases[c].count; step++) {
                double found = schedule_factor(&schedule, warmup + step);
                assert_true(fabs(found - cases[c].factors[step]) < 0x1p-51);
                /* Both are of the same r; acos loses half the digits near 1. */
                double done = acos(2 * cases[c].factors[step] - 1) / acos(-1);
                assert_true(fabs(schedule_factor(&linear, warmup + step) - (1 - done)) < 1e-7);
            }
        }
    struct schedule longest = {IVON_SCHEDULE_LINEAR, 0, UINT64_MAX, UINT64_MAX / 2, 3};
    assert_true(schedule_factor(&longest, UINT64_MAX / 2) == 1);
}

static void settings_are_checked(void **state)
{
    (void)state;
    struct ivon_error error;
    struct schedule schedule = {IVON_SCHEDULE_COSINE, 10, 10, 0, 0};
    assert_int_equal(schedule_check(&schedule, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "warmup of 10 steps in a training of 10, expected fewer");
    schedule.steps = 11;
    assert_int_equal(schedule_check(&schedule, &error), 0);
    schedule.shape = (enum ivon_schedule)3;
    assert_int_equal(schedule_check(&schedule, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "no such schedule: 3");
    schedule = (struct schedule){IVON_SCHEDULE_CONSTANT, 0, 10, 3, 1};
    assert_int_equal(schedule_check(&schedule, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "restarts of a constant rate, expected one that falls");
    schedule = (struct schedule){IVON_SCHEDULE_LINEAR, 0, 10, 3, 0};
    assert_int_equal(schedule_check(&schedule, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "cycles grow by a factor of 0, expected at least 1");
    schedule.growth = 1;
    assert_int_equal(schedule_check(&schedule, &error), 0);
}

static void schedules_have_names(void **state)
{
    (void)state;
    assert_string_equal(ivon_schedule_name(IVON_SCHEDULE_CONSTANT), "constant");
    assert_string_equal(ivon_schedule_name(IVON_SCHEDULE_COSINE), "cosine");
    assert_string_equal(ivon_schedule_name(IVON_SCHEDULE_LINEAR), "linear");
    assert_null(ivon_schedule_name((enum ivon_schedule)3));
    assert_null(ivon_schedule_name((enum ivon_schedule) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warmup_rises_in_equal_steps),
        cmocka_unit_test(shapes_follow_their_formulas),
        cmocka_unit_test(restarts_are_those_of_pytorch),
        cmocka_unit_test(schedules_have_names),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
