/* The weights that globs, filters and layers give to tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/merge/weights.h"

/* The layers of tensors of these names. */
static struct weight_layers layers_of(const char *const *names, size_t count,
                                      struct ivon_source **source)
{
    static const float zero = 0;
    struct ivon_tensor tensors[16];
    const void *data[16];
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error = {0};
    struct weight_layers layers = {0};
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (struct ivon_tensor){.name = names[i],
                                          .part = IVON_MEAN,
                                          .dtype = IVON_F32,
                                          .ess = NAN,
                                          .weight_decay = NAN};
        data[i] = &zero;
    }
    if (ivon_source_from_memory(source, "names", &header, tensors, data, count, &error))
        fail_msg("%s", error.message);
    weight_layers_add(&layers, *source);
    weight_layers_add(&layers, *source);
    weight_layers_count(&layers);
    return layers;
}

/* An encoder of three layers, a decoder of five, one layer of its own, and what has none. */
static void values_run_over_the_layers_of_a_group(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double weight;
    } expected[] = {
        {"embed.w", 0},
        {"shared.wte", 0},
        {"encoder.0.w", 0},
        {"encoder.1.w", 1},
        {"encoder.2.a.7.w", 4},
        {"decoder.layers.0.w", 0},
        {"decoder.layers.1.w", 0.5},
        {"decoder.layers.4.w", 4},
        {"decoder.layers.3.w", 2.5},
        {"head/0/w", 4},
        {"norm.w", 4},
        {"v1.01.w", 4},
    };
    enum { COUNT = sizeof expected / sizeof *expected };
    const char *names[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        names[i] = expected[i].name;
    struct ivon_source *source;
    struct weight_layers layers = layers_of(names, COUNT, &source);
    struct weight_rules rules = {0};
    struct weight_rule *rule = weight_rules_add(&rules, 0);
    assert_int_equal(layers.count, 3);
    assert_int_equal(layers.most, 5);
    rule->values = realloc(rule->values, 3 * sizeof(double));
    memcpy(rule->values, ((const double[]){0, 1, 4}), 3 * sizeof(double));
    rule->value_count = 3;
    for (size_t i = 0; i < COUNT; i++) {
        double weight = weight_rules_find(&rules, &layers, names[i], 9);
        if (weight != expected[i].weight)
            fail_msg("%s: %g, expected %g", names[i], weight, expected[i].weight);
    }
    weight_rules_release(&rules);
    weight_layers_release(&layers);
    ivon_source_close(source);
}

static void assert_weight(struct weight_rules *rules, const char *name, double expected)
{
    const struct weight_layers none = {0};
    double weight = weight_rules_find(rules, &none, name, 9);
    if (weight != expected)
        fail_msg("%s: %g, expected %g", name, weight, expected);
}

static void the_first_rule_that_matches_holds(void **state)
{
    (void)state;
    struct weight_rules rules = {0};
    struct ivon_error error = {0};
    char text[] = "a,b=c.h5,x.{9..11}.{0..1}=1,x.*=-2.5,{1..a}{3..2}{01..2}*=3,never=4";
    assert_int_equal(weight_rules_cut(&rules, text, &error), 0);
    assert_string_equal(text, "a,b=c.h5");
    assert_int_equal(rules.count, 4);
    assert_int_equal(rules.items[0].pattern_count, 6);
    assert_weight(&rules, "x.9.0", 1);
    assert_weight(&rules, "x.11.1", 1);
    assert_weight(&rules, "x.12.1", -2.5);
    assert_weight(&rules, "x.10.2", -2.5);
    assert_weight(&rules, "{1..a}{3..2}{01..2}w", 3);
    assert_weight(&rules, "y", 9);
    assert_string_equal(weight_rules_unused(&rules), "never");
    assert_weight(&rules, "never", 4);
    assert_null(weight_rules_unused(&rules));
    weight_rules_release(&rules);
}

static void a_filter_is_a_part_of_the_name(void **state)
{
    (void)state;
    struct weight_rules rules = {0};
    weight_rule_set_filter(weight_rules_add(&rules, 1), "a*[b]?\\");
    weight_rule_set_filter(weight_rules_add(&rules, 2), "mlp");
    assert_weight(&rules, "xa*[b]?\\y", 1);
    assert_weight(&rules, "xaab0\\y", 9);
    assert_weight(&rules, "x.mlp.w", 2);
    weight_rule_set_filter(weight_rules_add(&rules, 3), "*");
    assert_weight(&rules, "x", 3);
    weight_rules_release(&rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_run_over_the_layers_of_a_group),
        cmocka_unit_test(the_first_rule_that_matches_holds),
        cmocka_unit_test(a_filter_is_a_part_of_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
