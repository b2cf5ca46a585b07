/* Operators that move one tensor's elements along axes: against index-by-index references for every
   element type, and their derivatives. */
#include "tests/unit/elements.h"

/* Transpose. */

static void transpose_one(enum net_type type, int rank, const int64_t *shape, const int64_t *perm)
{
    struct trial trial;
    trial_begin(&trial, "Transpose", 1);
    struct net_tensor *in = add_numbered(&trial, type, rank, shape), *out = trial.outputs;
    if (perm)
        trial_ints(&trial, "perm", perm, (size_t)rank);
    assert_int_equal(trial_run(&trial, NULL), 0);
    for (int i = 0; i < rank; i++)
        assert_int_equal(out->shape[i], shape[perm ? perm[i] : rank - 1 - i]);
    assert_int_equal(out->rank, rank);
    for (size_t n = 0; n < out->count; n++) {
        int64_t to[IVON_RANK_MAX], from[IVON_RANK_MAX] = {0};
        index_of(out, n, to);
        for (int i = 0; i < rank; i++)
            from[perm ? perm[i] : rank - 1 - i] = to[i];
        same_element(out, n, in, number(in, from), "Transpose");
    }
    trial_end(&trial);
}

static void transposes(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{2, 3, 5, 7},   {4, 8, 4, 8},   {1, 6, 1, 9},
                                        {3, 17, 2, 67}, {5, 1, 66, 18}, {2, 0, 3, 4}};
    for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (int64_t code = 0; code < 256; code++) { /* every permutation of 4 */
                int64_t perm[4] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6};
                unsigned seen = 0;
                for (int i = 0; i < 4; i++)
                    seen |= 1U << perm[i];
                if (seen == 15)
                    transpose_one(type, 4, shapes[s], perm);
            }
        transpose_one(type, 0, NULL, NULL);
        transpose_one(type, 1, (const int64_t[]){5}, NULL);
        transpose_one(type, 2, (const int64_t[]){70, 37}, NULL);
        transpose_one(type, 8, (const int64_t[]){2, 1, 3, 2, 1, 2, 3, 2},
                      (const int64_t[]){7, 2, 0, 5, 1, 3, 6, 4});
    }
}

static void transposes_back(void **state)
{
    (void)state;
    static const int64_t perms[][4] = {{0, 2, 1, 3}, {0, 2, 3, 1}, {0, 1, 3, 2}, {3, 1, 0, 2}};
    for (size_t i = 0; i < sizeof perms / sizeof perms[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "Transpose", 1);
        trial_floats(&trial, 4, (const int64_t[]){3, 6, 5, 18}, NULL, -1, 1);
        trial_ints(&trial, "perm", perms[i], 4);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_derivatives(&trial);
        trial_end(&trial);
    }
}

static void refuses_what_is_no_permutation(void **state)
{
    (void)state;
    static const int64_t perms[][3] = {{0, 1, 1}, {0, 1, 3}, {-1, 0, 1}, {INT64_MAX, 0, 1}};
    for (size_t i = 0; i < sizeof perms / sizeof perms[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "Transpose", 1);
        trial_floats(&trial, 3, (const int64_t[]){2, 3, 4}, NULL, -1, 1);
        trial_ints(&trial, "perm", perms[i], 3);
        refuse(&trial, "no permutation");
    }
    struct trial trial;
    trial_begin(&trial, "Transpose", 1);
    trial_floats(&trial, 3, (const int64_t[]){2, 3, 4}, NULL, -1, 1);
    trial_ints(&trial, "perm", (const int64_t[]){0, 1}, 2);
    refuse(&trial, "no permutation");
}

/* Slice. */

struct slice {
    int64_t size, start, end, step;
    size_t count;
    int64_t elements[8]; /* range(size)[start:end:step] in Python */
};

static const struct slice slices[] = {
    {5, 0, 5, 1, 5, {0, 1, 2, 3, 4}},
    {5, 1, INT64_MAX, 1, 4, {1, 2, 3, 4}},
    {5, -2, INT64_MAX, 1, 2, {3, 4}},
    {5, 0, -1, 1, 4, {0, 1, 2, 3}},
    {5, INT64_MIN, INT64_MAX, 2, 3, {0, 2, 4}},
    {5, 1, 4, 2, 2, {1, 3}},
    {5, 0, INT64_MAX, INT64_MAX, 1, {0}},
    {5, 3, 2, 1, 0, {0}},
    {5, 7, 9, 1, 0, {0}},
    {5, -1, INT64_MIN, -1, 5, {4, 3, 2, 1, 0}},
    {5, INT64_MAX, -6, -1, 5, {4, 3, 2, 1, 0}},
    {5, 4, 0, -2, 2, {4, 2}},
    {5, 4, -6, -2, 3, {4, 2, 0}},
    {5, 3, INT64_MIN, INT64_MIN, 1, {3}},
    {5, 0, 3, -1, 0, {0}},
    {5, 2, -1, -1, 0, {0}},
    {0, 0, INT64_MAX, 1, 0, {0}},
    {0, -1, INT64_MIN, -1, 0, {0}},
    {1, 0, 1, 1, 1, {0}},
    {1, 0, INT64_MIN, -3, 1, {0}},
};

static void slices_like_python(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof slices / sizeof slices[0]; s++)
        for (int axis = 0; axis < 3; axis++)
            for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
                const struct slice *slice = &slices[s];
                int64_t shape[3] = {2, 3, 4};
                struct trial trial;
                shape[axis] = slice->size;
                trial_begin(&trial, "Slice", 1);
                struct net_tensor *in = add_numbered(&trial, type, 3, shape);
                add_list(&trial, LIST(slice->start));
                add_list(&trial, LIST(slice->end));
                add_list(&trial, LIST(axis - 3 * (int)(s % 2)));
                add_list(&trial, LIST(slice->step));
                assert_int_equal(trial_run(&trial, NULL), 0);
                shape[axis] = (int64_t)slice->count;
                const struct net_tensor *out = trial.outputs;
                check_shape(out, 3, shape);
                for (size_t n = 0; n < out->count; n++) {
                    int64_t index[3];
                    index_of(out, n, index);
                    index[axis] = slice->elements[index[axis]];
                    same_element(out, n, in, number(in, index), "Slice");
                }
                trial_end(&trial);
            }
}

static void slices_several_axes(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Slice", 1);
    struct net_tensor *in = trial_floats(&trial, 3, (const int64_t[]){5, 4, 7}, NULL, -1, 1);
    add_list(&trial, LIST(1, 3));
    add_list(&trial, LIST(4, -10));
    add_list(&trial, LIST(2, 1));
    add_list(&trial, LIST(2, -1));
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_shape(trial.outputs, LIST(5, 4, 2));
    for (int64_t i = 0; i < 5; i++)
        for (int64_t j = 0; j < 4; j++)
            for (int64_t k = 0; k < 2; k++)
                same_element(trial.outputs, (size_t)(i * 8 + j * 2 + k), in,
                             (size_t)(i * 28 + (3 - j) * 7 + 1 + 2 * k), "Slice");
    check_derivatives(&trial);
    trial_end(&trial);
    trial_begin(&trial, "Slice", 1); /* without axes: the first ones */
    trial_floats(&trial, 3, (const int64_t[]){5, 4, 7}, NULL, -1, 1);
    add_list(&trial, LIST(2));
    add_list(&trial, LIST(4));
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_shape(trial.outputs, LIST(2, 4, 7));
    check_derivatives(&trial);
    trial_end(&trial);
}

static void begin_slice(struct trial *trial)
{
    trial_begin(trial, "Slice", 1);
    trial_floats(trial, 2, (const int64_t[]){5, 4}, NULL, -1, 1);
}

static void refuses_slices(void **state)
{
    (void)state;
    struct trial trial;
    begin_slice(&trial);
    add_list(&trial, LIST(0));
    add_list(&trial, LIST(0, 1));
    refuse(&trial, "2 ends, but 1 starts");
    begin_slice(&trial);
    add_list(&trial, LIST(0, 0, 0));
    add_list(&trial, LIST(1, 1, 1));
    refuse(&trial, "axis 2 is none");
    begin_slice(&trial);
    add_list(&trial, LIST(0, 0));
    add_list(&trial, LIST(1, 1));
    add_list(&trial, LIST(1, -1));
    refuse(&trial, "axis -1 is named twice");
    begin_slice(&trial);
    add_list(&trial, LIST(0, 0));
    add_list(&trial, LIST(1, 1));
    add_list(&trial, LIST(0, 0));
    refuse(&trial, "axis 0 is named twice");
    begin_slice(&trial);
    add_list(&trial, LIST(0));
    add_list(&trial, LIST(1));
    trial_skip(&trial);
    add_list(&trial, LIST(0));
    refuse(&trial, "step of 0");
    begin_slice(&trial);
    trial_floats(&trial, 1, (const int64_t[]){1}, NULL, 0, 1);
    add_list(&trial, LIST(1));
    refuse(&trial, "starts: float");
    begin_slice(&trial);
    add_list(&trial, LIST(1));
    add_list(&trial, LIST(1));
    free(trial.inputs[2].data);
    trial.inputs[2].data = NULL;
    refuse(&trial, "ends depends on the data, which is not supported");
}

/* Expand and Tile. */

static void expands(void **state)
{
    (void)state;
    static const struct {
        size_t rank, wanted, result;
        int64_t from[4], to[4], shape[4];
    } cases[] = {{2, 3, 3, {3, 1}, {2, 1, 6}, {2, 3, 6}},
                 {2, 2, 2, {3, 1}, {3, 4}, {3, 4}},
                 {0, 2, 2, {0}, {4, 5}, {4, 5}},
                 {3, 1, 3, {2, 3, 4}, {1}, {2, 3, 4}},
                 {4, 4, 4, {1, 5, 1, 3}, {4, 1, 2, 3}, {4, 5, 2, 3}},
                 {3, 3, 3, {1, 2, 300}, {3, 2, 300}, {3, 2, 300}},
                 {2, 2, 2, {3, 1}, {3, 0}, {3, 0}},
                 {1, 0, 1, {4}, {0}, {4}}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int type = NET_BOOLEAN; type >= NET_FLOAT; type--) {
            struct trial trial;
            trial_begin(&trial, "Expand", 1);
            struct net_tensor *in = add_numbered(&trial, (enum net_type)type, (int)cases[c].rank,
                                                 cases[c].from);
            add_list(&trial, cases[c].wanted, cases[c].to);
            assert_int_equal(trial_run(&trial, NULL), 0);
            const struct net_tensor *out = trial.outputs;
            check_shape(out, cases[c].result, cases[c].shape);
            for (size_t n = 0; n < out->count; n++) {
                int64_t index[IVON_RANK_MAX], *own = index + out->rank - in->rank;
                index_of(out, n, index);
                for (int i = 0; i < in->rank; i++)
                    own[i] = in->shape[i] == 1 ? 0 : own[i];
                same_element(out, n, in, number(in, own), "Expand");
            }
            if (type == NET_FLOAT) {
                for (size_t i = 0; i < in->count; i++)
                    ((float *)in->data)[i] = trial_random(&trial, -1, 1);
                check_derivatives(&trial);
            }
            trial_end(&trial);
        }
}

static void refuses_to_expand(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        int64_t shape[9];
        const char *why;
    } cases[] = {{2, {2, 4}, "shape 3 cannot be broadcast to 2x4"},
                 {1, {-1}, "extent of -1"},
                 {9, {1}, "9 extents"},
                 {2, {INT64_C(1) << 30, 3}, "at most 2147483648 elements"},
                 {3, {INT64_C(1) << 40, INT64_C(1) << 40, 3}, "too large"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "Expand", 1);
        trial_floats(&trial, 1, (const int64_t[]){3}, NULL, -1, 1);
        add_list(&trial, cases[i].count, cases[i].shape);
        refuse(&trial, cases[i].why);
    }
}

static void tiles(void **state)
{
    (void)state;
    for (int type = NET_BOOLEAN; type >= NET_FLOAT; type--) {
        struct trial trial;
        trial_begin(&trial, "Tile", 1);
        struct net_tensor *in = add_numbered(&trial, (enum net_type)type, 3,
                                             (const int64_t[]){2, 3, 2});
        add_list(&trial, LIST(2, 1, 3));
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_shape(trial.outputs, LIST(4, 3, 6));
        for (size_t n = 0; n < trial.outputs->count; n++) {
            int64_t index[3];
            index_of(trial.outputs, n, index);
            for (int i = 0; i < 3; i++)
                index[i] %= in->shape[i];
            same_element(trial.outputs, n, in, number(in, index), "Tile");
        }
        if (type == NET_FLOAT) {
            for (size_t i = 0; i < in->count; i++)
                ((float *)in->data)[i] = trial_random(&trial, -1, 1);
            check_derivatives(&trial);
        }
        trial_end(&trial);
    }
}

static void tiles_to_nothing(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Tile", 1);
    trial_floats(&trial, 2, (const int64_t[]){0, 3}, NULL, -1, 1);
    add_list(&trial, LIST(5, 2));
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_shape(trial.outputs, LIST(0, 6));
    trial_end(&trial);
    static const struct {
        int64_t repeats[2];
        const char *why;
    } cases[] = {{{-1, 1}, "axis 0 cannot be repeated -1 times"},
                 {{1, INT64_MAX}, "axis 1 cannot be repeated"},
                 {{INT64_C(1) << 32, 1}, "at most 2147483648 elements"}};
    for (size_t i = 0; i < 3; i++) {
        trial_begin(&trial, "Tile", 1);
        trial_floats(&trial, 2, (const int64_t[]){1, 3}, NULL, -1, 1);
        add_list(&trial, 2, cases[i].repeats);
        refuse(&trial, cases[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transposes),
        cmocka_unit_test(transposes_back),
        cmocka_unit_test(refuses_what_is_no_permutation),
        cmocka_unit_test(slices_like_python),
        cmocka_unit_test(slices_several_axes),
        cmocka_unit_test(refuses_slices),
        cmocka_unit_test(expands),
        cmocka_unit_test(refuses_to_expand),
        cmocka_unit_test(tiles),
        cmocka_unit_test(tiles_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
