/*
 * The evidence as a function: by its definition, and at the numbers that maximise it, beside which
 * it is less in every direction, though there be fewer targets than parameters, where
 * s² = ‖f − y‖²/(N K − γ) is no way to find the noise.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bayes/fit/evidence.h"

enum { FIRST = 30, SECOND = 20 };

static const double PI = 3.14159265358979323846;

struct trial {
    float h[FIRST + SECOND];
    struct evidence_part parts[2];
    struct evidence evidence;
};

/* A regression of 8 examples and one output, h over eight powers of ten. */
static void trial_begin(struct trial *trial)
{
    for (size_t i = 0; i < FIRST + SECOND; i++)
        trial->h[i] = (float)pow(10, (double)(i * 7 % (FIRST + SECOND)) / 6 - 5);
    trial->parts[0] = (struct evidence_part){trial->h, FIRST, 2.5, 0.1};
    trial->parts[1] = (struct evidence_part){trial->h + FIRST, SECOND, 0.5, 0.02};
    trial->evidence = (struct evidence){.parts = trial->parts,
                                        .count = 2,
                                        .n = 8,
                                        .loss = 3,
                                        .scale = 1,
                                        .outputs = 1,
                                        .noise = 0.7};
}

/* log p(D | δ, s)/N, from ‖f − y‖² = 2 · 3 · .7². */
static double defined(const struct trial *trial, double s)
{
    double squares = 2 * 3 * 0.7 * 0.7, sum = -squares / (2 * s * s) - 4 * log(2 * PI * s * s);
    for (size_t p = 0; p < 2; p++) {
        const struct evidence_part *part = &trial->parts[p];
        sum -= 4 * part->decay * part->squares;
        for (size_t i = 0; i < part->count; i++) {
            double h = (double)part->h[i] * 0.7 * 0.7 / (s * s);
            sum += 0.5 * (log(part->decay) - log(h + part->decay));
        }
    }
    return sum / 8;
}

static void it_is_as_defined(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial);
    for (int power = -4; power < 7; power++) {
        double scale = trial.evidence.scale = pow(3, power);
        double s = evidence_noise(&trial.evidence), found = evidence_value(&trial.evidence);
        assert_true(fabs(s - 0.7 / sqrt(scale)) <= 1e-15 * s);
        double expected = defined(&trial, s);
        assert_true(fabs(found - expected) <= 1e-12 * fabs(expected));
    }
}

/* Fails where the evidence is not less a step away: of the noise, and of weight decays together or
   each. */
static void expect_maximum(const struct trial *trial, bool decays, bool each)
{
    double s = evidence_noise(&trial->evidence), most = defined(trial, s);
    for (int sign = -1; sign < 2; sign += 2) {
        double factor = exp(0.01 * sign);
        assert_true(defined(trial, s * factor) < most);
        for (size_t p = 0; p < 2 && decays; p++) {
            struct trial moved = *trial;
            moved.parts[0].h = moved.h;
            moved.parts[1].h = moved.h + FIRST;
            moved.parts[p].decay *= factor;
            moved.parts[1 - p].decay *= each ? 1 : factor;
            assert_true(defined(&moved, s) < most);
        }
    }
}

static void the_best_noise_is_a_maximum(void **state)
{
    (void)state;
    for (int power = -9; power < 4; power++)
        for (int decays = 0; decays < 3; decays++) {
            struct trial trial;
            trial_begin(&trial);
            trial.parts[0].decay = trial.parts[1].decay = pow(10, power);
            evidence_maximize_noise(&trial.evidence, decays > 0, decays > 1);
            double s = evidence_noise(&trial.evidence);
            double residual = 2 * 3 * 0.7 * 0.7 / (s * s);
            assert_true(fabs(residual + evidence_effective(&trial.evidence, NULL) - 8) <= 1e-11);
            expect_maximum(&trial, decays > 0, decays > 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_as_defined),
        cmocka_unit_test(the_best_noise_is_a_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
