/* Derivatives of networks that put elements elsewhere: an example of a tile must get what it gets
   alone; where it does not, as with an index that names one of the examples, tiles are of one. */
#include "derivative_checks.h"

/* h = tanh(x w), of rows of four. */
static void begin_rows(struct model *m)
{
    model_begin(m);
    model_input(m, "x", NET_FLOAT, SHAPE(-1, 4));
    model_parameter(m, "w", SHAPE(4, 4), -1, 1);
    model_node(m, "MatMul", "xw", "x", "w");
    model_node(m, "Tanh", "h", "xw");
}

/* y[:, 2] = p as PyTorch exports it: the indices are made for so many examples as there are. */
static void one_column_of_each(void **state)
{
    (void)state;
    struct model m;
    begin_rows(&m);
    model_parameter(&m, "p", SHAPE(1), -1, 1);
    model_integers(&m, "first", 1, (const int64_t[]){0});
    model_integers(&m, "end", 1, (const int64_t[]){1});
    model_constant(&m, "zero", NET_INTEGER, 0, NULL, (const int64_t[]){0});
    model_constant(&m, "one", NET_INTEGER, 0, NULL, (const int64_t[]){1});
    model_integers(&m, "column", 1, (const int64_t[]){2});
    model_node(&m, "Shape", "shape", "h");
    model_node(&m, "Slice", "count", "shape", "first", "end");
    model_node(&m, "Squeeze", "number", "count");
    model_node(&m, "Range", "rows", "zero", "number", "one");
    model_node(&m, "Expand", "columns", "column", "count");
    model_node(&m, "Unsqueeze", "rows2", "rows", "end");
    model_node(&m, "Unsqueeze", "columns2", "columns", "end");
    model_int(&m, "axis", 1);
    model_node(&m, "Concat", "indices", "rows2", "columns2");
    model_node(&m, "Expand", "updates", "p", "count");
    model_node(&m, "ScatterND", "y", "h", "indices", "updates");
    check(&m, "y", TILE);
}

/* The index names the first example of a tile. */
static void one_example_of_all(void **state)
{
    (void)state;
    static const int64_t index[] = {0};
    static const int64_t indices[] = {0, 0, 0, 0};
    for (int elements = 0; elements < 2; elements++) {
        struct model m;
        begin_rows(&m);
        model_parameter(&m, "p", SHAPE(1, 4), -1, 1);
        model_constant(&m, "index", NET_INTEGER, SHAPE(1, 1), index);
        model_constant(&m, "indices", NET_INTEGER, SHAPE(1, 4), indices);
        if (elements)
            model_node(&m, "ScatterElements", "s", "h", "indices", "p");
        else
            model_node(&m, "ScatterND", "s", "h", "index", "p");
        model_node(&m, "Add", "y", "s", "h");
        check(&m, "y", 1);
    }
}

/* A column of each example, by indices for the first one only. */
static void elements_of_the_first(void **state)
{
    (void)state;
    static const int64_t index[] = {2};
    struct model m;
    begin_rows(&m);
    model_parameter(&m, "p", SHAPE(1, 1), -1, 1);
    model_constant(&m, "index", NET_INTEGER, SHAPE(1, 1), index);
    model_int(&m, "axis", 1);
    model_node(&m, "ScatterElements", "y", "h", "index", "p");
    check(&m, "y", 1);
}

/* Examples in another order, or moved by one, or as rows of a triangle. */
static void among_examples(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct model m;
        begin_rows(&m);
        model_integers(&m, "zero", 1, (const int64_t[]){0});
        model_integers(&m, "last", 1, (const int64_t[]){-1});
        model_integers(&m, "far", 1, (const int64_t[]){INT64_MIN});
        model_integers(&m, "pads", 4, (const int64_t[]){1, 0, -1, 0});
        if (way == 0)
            model_node(&m, "Slice", "y", "h", "last", "far", "zero", "last");
        if (way == 1)
            model_node(&m, "Trilu", "y", "h");
        if (way == 2)
            model_node(&m, "Pad", "y", "h", "pads");
        struct trial trial;
        size_t tile = TILE;
        model_output(&m, "y");
        model_bind(&m);
        trial_begin(&trial, &m);
        net_derivative_free(make(&trial, &tile));
        assert_int_equal(tile, 1);
        trial_end(&trial);
        model_end(&m);
    }
}

/* Images that grow, and one of their channels that is replaced in every example. */
static void images(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4, 3, 3));
    model_parameter(&m, "w", SHAPE(2, 1, 2, 2), -1, 1);
    model_constant(&m, "scales", NET_FLOAT, SHAPE(4), (const float[]){1, 1, 1.5F, 0.75F});
    model_int(&m, "blocksize", 2);
    model_node(&m, "DepthToSpace", "deep", "x");
    model_node(&m, "Conv", "c", "deep", "w");
    model_attribute(&m, "mode", NET_TEXT)->text = strdup("linear");
    model_add(&m, "Resize", (const char *const[]){"y"}, 1, (const char *const[]){"c", "", "scales"},
              3);
    check(&m, "y", TILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_column_of_each),
        cmocka_unit_test(one_example_of_all),
        cmocka_unit_test(elements_of_the_first),
        cmocka_unit_test(among_examples),
        cmocka_unit_test(images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
