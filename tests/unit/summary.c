/*
 * Summaries of a posterior in memory against sums by hand. Every element is a small integer, and
 * every ratio |m| √(λ (h + δ)) too, so that all but the interpolation between two of them is exact;
 * its position, below 4, is known to 2^-51, and the neighbours differ by 9 at most.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/summary.h"

static const double tolerance = 9 * 0x1p-51;

enum { TENSORS = 7 };

static float w[] = {3, -4, 0, 0, 1}, w_hessian[] = {0, 3, 8, 15, 24}; /* h + δ = 1, 4, 9, 16, 25 */
static float b[] = {INFINITY, 2};                                     /* without a Hessian */
static float lone[] = {2, 2, 2, -1};                                  /* a Hessian without a mean */
static float c[] = {1, 1}, c_hessian[] = {5, 5, 5};                   /* that do not fit */
static float level[] = {NAN, 7};

static struct ivon_source *open_posterior(void)
{
    const struct {
        const char *name;
        enum ivon_part part;
        int64_t count;
        const float *data;
    } rows[TENSORS] = {{"w", IVON_MEAN, 5, w},           {"w", IVON_HESSIAN, 5, w_hessian},
                       {"b", IVON_MEAN, 2, b},           {"lone", IVON_HESSIAN, 4, lone},
                       {"c", IVON_MEAN, 2, c},           {"c", IVON_HESSIAN, 3, c_hessian},
                       {"level", IVON_HESSIAN, 2, level}};
    struct ivon_tensor tensors[TENSORS];
    const void *data[TENSORS];
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    for (size_t i = 0; i < TENSORS; i++) {
        bool hessian = rows[i].part == IVON_HESSIAN;
        tensors[i] = (struct ivon_tensor){.name = rows[i].name,
                                          .part = rows[i].part,
                                          .dtype = IVON_F32,
                                          .rank = 1,
                                          .shape = {rows[i].count},
                                          .ess = hessian ? 4 : NAN,
                                          .weight_decay = hessian ? 1 : NAN};
        data[i] = rows[i].data;
    }
    header.ess = 4;
    header.weight_decay = 1;
    if (ivon_source_from_memory(&source, "posterior", &header, tensors, data, TENSORS, &error))
        fail_msg("%s", error.message);
    return source;
}

static void assert_near(const double found[IVON_QUANTILE_COUNT],
                        const double expected[IVON_QUANTILE_COUNT])
{
    for (size_t q = 0; q < IVON_QUANTILE_COUNT; q++)
        if (!(fabs(found[q] - expected[q]) <= tolerance))
            fail_msg("quantile %g: %.17g, expected %.17g", ivon_quantile_levels[q], found[q],
                     expected[q]);
}

/* Positions q (n − 1) of five elements: .2, 1, 2, 3 and 3.8. */
static void check_pair(const struct ivon_summary *summary)
{
    /* {0, 3, 8, 15, 24} */
    static const double hessians[] = {0.6, 3, 8, 15, 22.2};
    /* 2 |m| √(h + δ): 6, 16, 0, 0, 10 */
    static const double ratios[] = {0, 0, 6, 10, 14.8};
    assert_string_equal(summary->name, "w");
    assert_true(summary->mean == 0 && summary->hessian == 1);
    assert_true(summary->count == 5 && summary->hessian_count == 5);
    assert_true(summary->mean_nonfinite == 0 && summary->hessian_nonfinite == 0);
    assert_int_equal(summary->nonpositive, 0);
    assert_true(summary->mean_norm == sqrt(26));
    assert_true(summary->hessian_min == 0 && summary->hessian_max == 24);
    assert_near(summary->hessian_quantiles, hessians);
    assert_near(summary->signal_to_noise, ratios);
    assert_false(summary->shapes_differ);
    assert_false(summary->hessian_at_start);
}

static void summaries_are_those_by_hand(void **state)
{
    (void)state;
    static const double levels[IVON_QUANTILE_COUNT] = {0.05, 0.25, 0.5, 0.75, 0.95};
    struct ivon_source *source = open_posterior();
    struct ivon_summaries *summaries = NULL;
    struct ivon_summary_options options = ivon_summary_defaults();
    struct ivon_error error = {0};
    size_t count;
    assert_memory_equal(ivon_quantile_levels, levels, sizeof levels);
    options.resources.threads = 2;
    assert_int_equal(ivon_summary_new(&summaries, source, &options, &error), 0);
    const struct ivon_summary *list = ivon_summary_tensors(summaries, &count);
    assert_int_equal(count, 6); /* w, b, c; lone, c's Hessian, level */
    check_pair(&list[0]);
    assert_string_equal(list[1].name, "b");
    assert_true(list[1].hessian == SIZE_MAX && list[1].hessian_count == 0);
    assert_true(list[1].mean_nonfinite == 1 && list[1].mean_norm == 2);
    assert_true(isnan(list[1].hessian_min) && isnan(list[1].signal_to_noise[2]));
    assert_true(list[2].shapes_differ && isnan(list[2].signal_to_noise[0]));
    assert_string_equal(list[3].name, "lone");
    assert_true(list[3].mean == SIZE_MAX && list[3].count == 4 && list[3].hessian_count == 4);
    assert_true(list[3].nonpositive == 1 && list[3].hessian_min == -1);
    assert_string_equal(list[4].name, "c");
    assert_true(list[4].shapes_differ && list[4].hessian == 5);
    assert_true(list[4].hessian_at_start && list[4].hessian_quantiles[0] == 5);
    assert_true(list[5].hessian_nonfinite == 1 && list[5].hessian_max == 7);
    assert_false(list[5].hessian_at_start); /* of one number nothing is known */
    ivon_summary_free(summaries);
    ivon_source_close(source);
}

/* Everything together: squares 26 + 4 + 2, elements 5 + 2 + 2 + 4 + 3 + 2. */
static void the_total_is_of_all(void **state)
{
    (void)state;
    struct ivon_source *source = open_posterior();
    struct ivon_summaries *summaries = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_summary_new(&summaries, source, NULL, &error), 0);
    const struct ivon_summary *total = ivon_summary_total(summaries);
    assert_null(total->name);
    assert_true(total->mean == SIZE_MAX && total->hessian == SIZE_MAX);
    assert_true(total->count == 18 && total->hessian_count == 14);
    assert_true(total->mean_nonfinite == 1 && total->hessian_nonfinite == 1);
    assert_int_equal(total->nonpositive, 1);
    assert_true(total->mean_norm == sqrt(32));
    assert_true(total->hessian_min == -1 && total->hessian_max == 24);
    /* −1 0 2 2 2 3 5 5 5 7 8 15 24: the seventh of 13 */
    assert_true(total->hessian_quantiles[2] == 5);
    ivon_summary_free(summaries);
    ivon_summary_free(NULL);
    ivon_source_close(source);
}

static int stop(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

static void stops_when_it_is_asked_to(void **state)
{
    (void)state;
    struct ivon_source *source = open_posterior();
    struct ivon_summaries *summaries = NULL;
    struct ivon_summary_options options = ivon_summary_defaults();
    struct ivon_error error = {0};
    options.resources.progress.report = stop;
    assert_int_equal(ivon_summary_new(&summaries, source, &options, &error), IVON_ERROR_CANCELLED);
    assert_null(summaries);
    options.size = 0;
    assert_int_equal(ivon_summary_new(&summaries, source, &options, &error), IVON_ERROR_ARGUMENT);
    ivon_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries_are_those_by_hand),
        cmocka_unit_test(the_total_is_of_all),
        cmocka_unit_test(stops_when_it_is_asked_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
