/* What operators refuse that scatter, gather, select and interpolate: their forward answers and
   derivatives are in forward_fixture.h. */
#include "tests/unit/elements.h"

static void out_of_range(void **state)
{
    (void)state;
    static const int64_t bad[] = {3, -4, INT64_MAX, INT64_MIN};
    static const char *const names[] = {"ScatterElements", "ScatterND", "GatherND"};
    for (size_t i = 0; i < 4; i++)
        for (size_t op = 0; op < 3; op++) {
            struct trial trial;
            const int64_t indices[] = {0, bad[i]};
            trial_begin(&trial, names[op], 1);
            trial_floats(&trial, 1, (const int64_t[]){3}, NULL, -1, 1);
            trial_integers(&trial, op ? 2 : 1, (const int64_t[]){2, 1}, indices);
            if (op < 2)
                trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
            refuse(&trial, "at position 1 is out of range for an axis of extent 3");
        }
    for (size_t i = 0; i < 4; i++) {
        struct trial trial;
        trial_begin(&trial, "TensorScatter", 1);
        trial_floats(&trial, 3, (const int64_t[]){1, 4, 2}, NULL, -1, 1);
        trial_floats(&trial, 3, (const int64_t[]){1, 2, 2}, NULL, -1, 1);
        add_list(&trial, LIST(bad[i]));
        refuse(&trial, "do not fit an axis of extent 4");
        trial_begin(&trial, "ReverseSequence", 1);
        trial_floats(&trial, 2, (const int64_t[]){2, 1}, NULL, -1, 1);
        add_list(&trial, LIST(bad[i]));
        refuse(&trial, "along an axis of extent 2");
        trial_begin(&trial, "RoiAlign", 1);
        trial_floats(&trial, 4, (const int64_t[]){3, 1, 2, 2}, NULL, -1, 1);
        trial_floats(&trial, 2, (const int64_t[]){1, 4}, NULL, -1, 1);
        add_list(&trial, LIST(bad[i]));
        refuse(&trial, "of 3");
    }
}

/* Adds an input whose elements only a run knows. */
static void add_unknown(struct trial *trial, enum net_type type, int rank, const int64_t *shape)
{
    struct net_tensor *tensor = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = tensor;
    assert_int_equal(net_tensor_set(tensor, type, rank, shape, NULL), 0);
}

static void sizes_of_data(void **state)
{
    (void)state;
    static const char *const names[] = {"NonZero", "Unique"};
    struct trial trial;
    for (size_t i = 0; i < 2; i++) {
        trial_begin(&trial, names[i], 1);
        add_unknown(&trial, NET_FLOAT, 1, (const int64_t[]){3});
        refuse(&trial, "depends on the data, which is not supported");
    }
    trial_begin(&trial, "Compress", 1);
    trial_floats(&trial, 1, (const int64_t[]){3}, NULL, -1, 1);
    add_unknown(&trial, NET_BOOLEAN, 1, (const int64_t[]){3});
    refuse(&trial, "the condition depends on the data");
    trial_begin(&trial, "OneHot", 1);
    add_list(&trial, LIST(1));
    add_unknown(&trial, NET_INTEGER, 0, NULL);
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    refuse(&trial, "depth depends on the data");
    trial_begin(&trial, "Resize", 1);
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    trial_skip(&trial);
    add_unknown(&trial, NET_FLOAT, 1, (const int64_t[]){1});
    refuse(&trial, "scales depends on the data");
}

/* Shapes that do not go together. */
static void shapes_apart(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int ranks[3];
        int64_t shapes[3][4];
        const char *why;
    } cases[] = {
        {"ScatterND", {1, 2, 1}, {{3}, {1, 2}, {1}}, "indices of shape 1x2"},
        {"ScatterND", {2, 2, 2}, {{3, 2}, {2, 1}, {2, 3}}, "updates of shape 2x3"},
        {"ScatterND", {1, 0, 1}, {{3}, {0}, {1}}, "indices of shape scalar"},
        {"ScatterElements", {2, 2, 2}, {{3, 2}, {1, 3}, {1, 3}}, "indices of shape 1x3"},
        {"ScatterElements", {2, 2, 2}, {{3, 2}, {1, 2}, {2, 2}}, "updates of shape 2x2"},
        {"GatherND", {1, 2, -1}, {{3}, {1, 2}}, "indices of shape 1x2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        static const int64_t zeros[8];
        trial_begin(&trial, cases[i].name, 1);
        trial_floats(&trial, cases[i].ranks[0], cases[i].shapes[0], NULL, -1, 1);
        trial_integers(&trial, cases[i].ranks[1], cases[i].shapes[1], zeros);
        if (cases[i].ranks[2] >= 0)
            trial_floats(&trial, cases[i].ranks[2], cases[i].shapes[2], NULL, -1, 1);
        refuse(&trial, cases[i].why);
    }
}

static void bad_scales(void **state)
{
    (void)state;
    static const struct {
        float scale;
        const char *why;
    } cases[] = {{0, "cannot be scaled by 0"},           {-1, "cannot be scaled by -1"},
                 {NAN, "scales has the number"},         {INFINITY, "scales has the number inf"},
                 {1e12F, "at most 2147483648 elements"}, {1e38F, "cannot be scaled by"}};
    struct trial trial;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trial_begin(&trial, "Resize", 1);
        trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
        trial_skip(&trial);
        trial_floats(&trial, 1, (const int64_t[]){1}, &cases[i].scale, 0, 0);
        refuse(&trial, cases[i].why);
    }
    trial_begin(&trial, "Resize", 1);
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    refuse(&trial, "0 scales and 0 sizes for 1 axes");
    trial_begin(&trial, "Resize", 1);
    trial_floats(&trial, 1, (const int64_t[]){0}, NULL, -1, 1);
    trial_skip(&trial);
    trial_skip(&trial);
    add_list(&trial, LIST(3));
    refuse(&trial, "axis 0 of extent 0 cannot become 3");
}

/* Long axes, on which a position of a crop lies far outside, or all of it. */
static void far_crops(void **state)
{
    (void)state;
    static const float regions[][2] = {{-1e30F, 1e30F}, {5, 9}, {1, 0}, {-3e38F, 3e38F}};
    for (size_t i = 0; i < 4; i++)
        for (int exclude = 0; exclude < 2; exclude++) {
            struct trial trial;
            trial_begin(&trial, "Resize", 1);
            trial_text(&trial, "mode", "cubic");
            trial_text(&trial, "coordinate_transformation_mode", "tf_crop_and_resize");
            trial_int(&trial, "exclude_outside", exclude);
            trial_floats(&trial, 1, (const int64_t[]){9}, NULL, -1, 1);
            trial_floats(&trial, 1, (const int64_t[]){2}, regions[i], 0, 0);
            trial_skip(&trial);
            add_list(&trial, LIST(300));
            assert_int_equal(trial_run(&trial, NULL), 0);
            trial_check_derivatives(&trial, 1, 0.25, 0x1p-18, 0x1p-18);
            trial_end(&trial);
        }
}

/* NaN and infinite positions sample nothing, or the edge. */
static void positions_that_are_none(void **state)
{
    (void)state;
    static const char *const paddings[] = {"zeros", "border", "reflection"};
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const float grid[] = {NAN, 0, INFINITY, -INFINITY, 3e38F, -3e38F, 0, NAN};
    for (size_t i = 0; i < 9; i++) {
        struct trial trial;
        trial_begin(&trial, "GridSample", 1);
        trial_text(&trial, "padding_mode", paddings[i % 3]);
        trial_text(&trial, "mode", modes[i / 3]);
        trial_floats(&trial, 4, (const int64_t[]){1, 1, 3, 2}, NULL, -1, 1);
        trial_floats(&trial, 4, (const int64_t[]){1, 1, 4, 2}, grid, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_end(&trial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_of_range), cmocka_unit_test(sizes_of_data),
        cmocka_unit_test(shapes_apart), cmocka_unit_test(bad_scales),
        cmocka_unit_test(far_crops),    cmocka_unit_test(positions_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
