/* Data sets in HDF5, npz and npy files, the latter written here byte by byte; paths; options. */
#include "tests/unit/files.h"

#include <hdf5.h>
#include <math.h>
#include <sys/resource.h>
#include <zlib.h>

enum { ROWS = 1000, WIDTH = 7 };

static const struct ivon_dataset_options defaults = {.size = sizeof defaults};

/* Element i of "x" in these files, and row i of "y". */
static float x_value(size_t i)
{
    return (float)(i * 2654435761U >> 8) / 1024 - 5;
}

static int64_t y_value(size_t i)
{
    return (int64_t)(i * 7 % 10);
}

/* That the input is x_value, in ranges that fit no chunk, and the targets, if any, y_value. */
static void check_values(struct ivon_examples *examples, uint64_t rows, bool targets)
{
    static float x[ROWS * WIDTH];
    static int64_t y[ROWS];
    struct ivon_error error = {.message = "none"};
    assert_int_equal(ivon_examples_count(examples), rows);
    assert_int_equal(ivon_examples_field_count(examples), targets ? 2 : 1);
    const struct ivon_field *field = ivon_examples_field(examples, 0);
    assert_true(field->rank == 1 && field->shape[0] == WIDTH && field->count == WIDTH);
    const uint64_t ranges[][2] = {
        {0, rows}, {1, rows - 1}, {rows - 1, 1}, {rows / 3, rows / 2}, {0, 1}};
    for (size_t r = 0; r < sizeof ranges / sizeof ranges[0]; r++) {
        uint64_t first = ranges[r][0], count = ranges[r][1];
        if (ivon_examples_read_f32(examples, 0, first, count, x, &error) ||
            (targets && ivon_examples_read_i64(examples, 1, first, count, y, &error)))
            fail_msg("%s", error.message);
        for (size_t i = 0; i < count * WIDTH; i++)
            if (x[i] != x_value(first * WIDTH + i))
                fail_msg("x[%zu] of range %zu is %g", i, r, (double)x[i]);
        for (size_t i = 0; targets && i < count; i++)
            assert_int_equal(y[i], y_value(first + i));
    }
}

/* HDF5. */

/* A data set of `rows` rows, in chunks of `chunk` rows and compressed unless that is 0. */
static void write_hdf5_array(hid_t group, const char *name, hid_t type, int rank,
                             const hsize_t *shape, hsize_t chunk, const void *data)
{
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(rank, shape, NULL);
    if (chunk) {
        const hsize_t extents[] = {chunk, 3};
        H5Pset_chunk(properties, rank, extents);
        H5Pset_shuffle(properties);
        H5Pset_deflate(properties, 6);
    }
    hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(properties);
}

static void write_hdf5(const char *path)
{
    static float x[ROWS * WIDTH];
    static int64_t y[ROWS];
    static unsigned char short_x[3] = {1, 2, 3};
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        x[i] = x_value(i);
    for (size_t i = 0; i < ROWS; i++)
        y[i] = y_value(i);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const char *const groups[] = {"/train", "/chunked", "/chunked/deep", "/odd"};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        hid_t group = H5Gcreate2(file, groups[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        const hsize_t shape[] = {ROWS, WIDTH}, three = 3, no_rows[] = {0, 4}, no_columns[] = {3, 0};
        hsize_t chunk = strstr(groups[i], "chunked") ? 64 : 0;
        if (strcmp(groups[i], "/odd") == 0) {
            write_hdf5_array(group, "x", H5T_NATIVE_UCHAR, 1, &three, 0, short_x);
            write_hdf5_array(group, "y", H5T_NATIVE_INT64, 1, shape, 0, y);
            write_hdf5_array(group, "scalar", H5T_NATIVE_INT64, 0, NULL, 0, y);
            write_hdf5_array(group, "no rows", H5T_NATIVE_INT64, 2, no_rows, 0, y);
            write_hdf5_array(group, "no columns", H5T_NATIVE_INT64, 2, no_columns, 0, y);
        } else {
            write_hdf5_array(group, "x", H5T_IEEE_F32LE, 2, shape, chunk, x);
            write_hdf5_array(group, "y", H5T_NATIVE_INT64, 1, shape, chunk, y);
            write_hdf5_array(group, "other", H5T_NATIVE_INT64, 1, shape, 0, y);
        }
        H5Gclose(group);
    }
    H5Fclose(file);
}

static void reads_hdf5(void **state)
{
    (void)state;
    write_hdf5("a.h5");
    const char *const paths[] = {"a.h5:/train", "a.h5:train", "a.h5:/train/", "a.h5:/chunked",
                                 "a.h5:/chunked/deep"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct ivon_examples *examples = open_fine(paths[i], i ? &defaults : NULL);
        check_values(examples, ROWS, true);
        assert_int_equal(ivon_examples_find(examples, "x"), 0);
        assert_int_equal(ivon_examples_find(examples, "y"), 1);
        ivon_examples_close(examples);
    }
    const char *const inputs[] = {"train/x", "chunked/y"};
    const struct ivon_dataset_options options = {.size = sizeof options,
                                                 .inputs = inputs,
                                                 .input_count = 2,
                                                 .targets = "train/y",
                                                 .limit = ROWS / 3};
    const char *const roots[] = {"a.h5", "a.h5:/", "a.h5:"};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        int64_t labels[2];
        struct ivon_error error;
        struct ivon_examples *examples = open_fine(roots[i], &options);
        assert_int_equal(ivon_examples_count(examples), ROWS / 3);
        assert_int_equal(ivon_examples_find(examples, "train/y"), 2);
        assert_int_equal(ivon_examples_read_i64(examples, 1, 331, 2, labels, &error), 0);
        assert_true(labels[0] == y_value(331) && labels[1] == y_value(332));
        assert_int_equal(ivon_examples_read_i64(examples, 1, 332, 2, labels, &error),
                         IVON_ERROR_ARGUMENT); /* the limit */
        ivon_examples_close(examples);
    }
}

static void refuses_hdf5(void **state)
{
    (void)state;
    write_hdf5("a.h5");
    open_refused("a.h5", &defaults, IVON_ERROR_DATA, "a.h5: has no array 'x', but 'chunked/");
    open_refused("a.h5:/tran", &defaults, IVON_ERROR_DATA, "no group 'tran', but 'chunked', ");
    open_refused("a.h5:/train/x", &defaults, IVON_ERROR_DATA, "no group 'train/x'");
    open_refused("a.h5:/odd", &defaults, IVON_ERROR_DATA,
                 "a.h5:/odd: 'x' has 3 rows, but 'y' 1000");
    const char *name = "nothing";
    struct ivon_dataset_options options = {
        .size = sizeof options, .inputs = &name, .input_count = 1};
    open_refused("a.h5:/train", &options, IVON_ERROR_DATA,
                 "a.h5:/train: has no array 'nothing', but 'other', 'x', 'y'");
    options = (struct ivon_dataset_options){.size = sizeof(struct ivon_dataset_options),
                                            .targets = "label"};
    open_refused("a.h5:/train", &options, IVON_ERROR_DATA, "has no array 'label', but 'other'");
    options = (struct ivon_dataset_options){.size = sizeof(struct ivon_dataset_options),
                                            .inputs = &name,
                                            .input_count = 1,
                                            .targets = ""};
    name = "scalar";
    open_refused("a.h5:/odd", &options, IVON_ERROR_DATA, "'scalar' is a single number");
    name = "no columns";
    open_refused("a.h5:/odd", &options, IVON_ERROR_DATA, "'no columns' have no elements");
    name = "no rows";
    ivon_examples_close(open_fine("a.h5:/odd", &options));
    options = (struct ivon_dataset_options){.size = sizeof(struct ivon_dataset_options),
                                            .target_column = "1"};
    open_refused("a.h5:/train", &options, IVON_ERROR_ARGUMENT, "CSV files only");
}

/* npy. */

static void put_npy_header(struct buffer *out, int version, const char *dictionary)
{
    put(out, "\x93NUMPY", 6);
    put_little(out, (uint64_t)version, 1);
    put_little(out, 0, 1);
    put_little(out, strlen(dictionary), version == 1 ? 2 : 4);
    put(out, dictionary, strlen(dictionary));
}

static struct buffer out;

static void write_npy(const char *path, int version, const char *dictionary, const void *data,
                      size_t size)
{
    out.size = 0;
    put_npy_header(&out, version, dictionary);
    put(&out, data, size);
    write_file(path, out.data, out.size);
}

static void reads_npy(void **state)
{
    (void)state;
    static float x[ROWS * WIDTH];
    static int64_t y[ROWS];
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        x[i] = x_value(i);
    for (size_t i = 0; i < ROWS; i++)
        y[i] = y_value(i);
    static const char *const headers[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 7), }          \n",
        "{\"shape\":(1000L,7L,),\"fortran_order\":False,\"descr\":\"=f4\"}",
        "{ 'shape' : ( 1000 , 7 ) , 'descr' : '<f4' , 'fortran_order' : False } "};
    for (int version = 1; version <= 3; version++) {
        write_npy("x.npy", version, headers[version - 1], x, sizeof x);
        struct ivon_examples *examples = open_fine("x.npy", NULL);
        check_values(examples, ROWS, false);
        ivon_examples_close(examples);
    }
    write_npy("y.npy", 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1000,)}", y,
              sizeof y);
    struct ivon_examples *examples = open_fine("x.npy,y.npy", NULL);
    check_values(examples, ROWS, true);
    ivon_examples_close(examples);
    const char *name = "image";
    const struct ivon_dataset_options options = {
        .size = sizeof options, .inputs = &name, .input_count = 1, .targets = "label", .limit = 12};
    examples = open_fine("x.npy,y.npy", &options);
    check_values(examples, 12, true);
    assert_int_equal(ivon_examples_find(examples, "image"), 0);
    assert_int_equal(ivon_examples_find(examples, "label"), 1);
    ivon_examples_close(examples);
    const struct ivon_dataset_options none = {.size = sizeof none, .targets = ""};
    examples = open_fine("x.npy,y.npy", &none);
    check_values(examples, ROWS, false);
    ivon_examples_close(examples);
}

static void reads_npy_types(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        unsigned char bytes[9]; /* one element */
        enum ivon_dtype dtype;
        int64_t value;
    } types[] = {{"<f2", "\x00\xc5", IVON_F16, -5},
                 {">f2", "\xc5\x00", IVON_F16, -5},
                 {"<f4", "\x00\x00\xa0\xc0", IVON_F32, -5},
                 {">f4", "\xc0\xa0\x00\x00", IVON_F32, -5},
                 {"<f8", "\0\0\0\0\0\0\x14\xc0", IVON_F64, -5},
                 {">f8", "\xc0\x14\0\0\0\0\0\0", IVON_F64, -5},
                 {"|i1", "\xfb", IVON_I8, -5},
                 {"<i2", "\xfb\xff", IVON_I16, -5},
                 {">i2", "\xff\xfb", IVON_I16, -5},
                 {"<i4", "\xfb\xff\xff\xff", IVON_I32, -5},
                 {">i4", "\xff\xff\xff\xfb", IVON_I32, -5},
                 {"<i8", "\xfb\xff\xff\xff\xff\xff\xff\xff", IVON_I64, -5},
                 {">i8", "\xff\xff\xff\xff\xff\xff\xff\xfb", IVON_I64, -5},
                 {"|u1", "\xfb", IVON_U8, 251},
                 {"<u2", "\xfb\x01", IVON_U16, 507},
                 {">u4", "\x00\x00\x01\xfb", IVON_U32, 507},
                 {"<u8", "\xfb\x01\0\0\0\0\0\0", IVON_U64, 507},
                 {"|b1", "\x01", IVON_BOOL, 1}};
    const struct ivon_dataset_options raw = {.size = sizeof raw, .no_scaling = true};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char header[100];
        int64_t whole;
        float number;
        struct ivon_error error;
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (1,)}",
                 types[i].type);
        write_npy("t.npy", 1, header, types[i].bytes, ivon_dtype_size(types[i].dtype));
        struct ivon_examples *examples = open_fine("t.npy", &raw);
        assert_int_equal(ivon_examples_field(examples, 0)->dtype, types[i].dtype);
        assert_int_equal(ivon_examples_field(examples, 0)->rank, 0);
        assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 1, &whole, &error), 0);
        assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 1, &number, &error), 0);
        assert_int_equal(whole, types[i].value);
        assert_true(number == (float)types[i].value);
        ivon_examples_close(examples);
    }
}

static void refuses_npy(void **state)
{
    (void)state;
    static const struct {
        const char *header, *message;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "more elements"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
         "more elements"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "single number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,2)", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,2)} x", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'descr': '<f4', 'shape': (2,2)}", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False}", "damaged"},
        {"{'descr': '<f4', 'shape': (2,2)}", "damaged"},
        {"{'fortran_order': False, 'shape': (2,2)}", "damaged"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,2)}", "damaged"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,2)}", "type '|O'"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", "type '<c8'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "type 'a record'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0)}", "no elements"},
        {"", "damaged"},
    };
    static const char data[16];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_npy("bad.npy", 1, cases[i].header, data, sizeof data);
        open_refused("bad.npy", NULL, IVON_ERROR_DATA, cases[i].message);
    }
    write_npy("bad.npy", 4, cases[0].header, data, sizeof data);
    open_refused("bad.npy", NULL, IVON_ERROR_DATA, "versions 1 to 3");
    write_file("bad.npy", "\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14);
    open_refused("bad.npy", NULL, IVON_ERROR_DATA, "4294967295 bytes, expected at most");
    for (size_t size = 6; size < 12; size++) {
        write_file("bad.npy", "\x93NUMPY\x01\x00\x76\x00{}", size);
        open_refused("bad.npy", NULL, IVON_ERROR_DATA, "bytes, expected");
    }
}

/* npz: one member stored, one deflated. */

static void put_member(struct buffer *zip, struct buffer *directory, const char *name,
                       const struct buffer *member, bool deflated)
{
    static unsigned char packed[1 << 20];
    uLongf size = sizeof packed;
    const unsigned char *data = member->data;
    size_t header = zip->size;
    uint32_t crc = (uint32_t)crc32(0, data, (uInt)member->size);
    if (deflated) { /* zlib's own wrapping is two bytes before and four after */
        assert_int_equal(compress(packed, &size, data, member->size), Z_OK);
        data = packed + 2;
        size -= 6;
    } else {
        size = member->size;
    }
    for (int central = 0; central < 2; central++) {
        struct buffer *to = central ? directory : zip;
        put_little(to, central ? 0x02014b50 : 0x04034b50, 4);
        put_little(to, 20, central ? 4 : 2);
        put_little(to, 0, 2);
        put_little(to, deflated ? 8 : 0, 2);
        put_little(to, 0, 4);
        put_little(to, crc, 4);
        put_little(to, size, 4);
        put_little(to, member->size, 4);
        put_little(to, strlen(name), 2);
        put_little(to, 0, central ? 12 : 2);
        if (central)
            put_little(to, header, 4);
        put(to, name, strlen(name));
    }
    put(zip, data, size);
}

static void write_npz(const char *path, bool x_deflated, bool y_deflated)
{
    static struct buffer zip, directory, member;
    zip.size = directory.size = member.size = 0;
    put_npy_header(&member, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 7), }");
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        put(&member, &(float){x_value(i)}, sizeof(float));
    put_member(&zip, &directory, "x.npy", &member, x_deflated);
    member.size = 0;
    put(&member, "not an array", 12);
    put_member(&zip, &directory, "notes.txt", &member, false);
    put_member(&zip, &directory, "damaged.npy", &member, false);
    member.size = 0;
    put_npy_header(&member, 1, "{'descr': '>i8', 'fortran_order': False, 'shape': (1000,), }");
    for (size_t i = 0; i < ROWS; i++)
        put_big(&member, (uint64_t)y_value(i), 8);
    put_member(&zip, &directory, "y.npy", &member, y_deflated);
    size_t start = zip.size;
    put(&zip, directory.data, directory.size);
    put_little(&zip, 0x06054b50, 4);
    put_little(&zip, 0, 4);
    put_little(&zip, 4, 2);
    put_little(&zip, 4, 2);
    put_little(&zip, directory.size, 4);
    put_little(&zip, start, 4);
    put_little(&zip, 0, 2);
    write_file(path, zip.data, zip.size);
}

static void reads_npz(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        write_npz("a.npz", kind & 1, kind & 2);
        struct ivon_examples *examples = open_fine("a.npz", NULL);
        check_values(examples, ROWS, true);
        ivon_examples_close(examples);
    }
    const struct ivon_dataset_options few = {.size = sizeof few, .targets = "", .limit = 5};
    struct ivon_examples *examples = open_fine("a.npz", &few);
    check_values(examples, 5, false);
    ivon_examples_close(examples);
    const char *name = "z";
    const struct ivon_dataset_options other = {
        .size = sizeof other, .inputs = &name, .input_count = 1};
    open_refused("a.npz", &other, IVON_ERROR_DATA,
                 "a.npz: has no array 'z', but 'x', 'damaged', 'y'");
    name = "damaged";
    open_refused("a.npz", &other, IVON_ERROR_DATA, "a.npz: 'damaged.npy': is not in npy format");
    open_refused("a.npz:/x", NULL, IVON_ERROR_ARGUMENT, "'/x' would be a group");
}

/* Paths and options. */

static void splits_paths(void **state)
{
    (void)state;
    static const float data[4] = {1, 2, 3, 4};
    static const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}";
    const char *const names[] = {"p.npy", "p.npy:q", "p.npy,q", "a,b.npy", "c:d.npy"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        write_npy(names[i], 1, header, data, sizeof data);
        ivon_examples_close(open_fine(names[i], NULL));
    }
    const char *const pairs[] = {"a,b.npy,p.npy", "p.npy,a,b.npy", "c:d.npy,p.npy"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct ivon_examples *examples = open_fine(pairs[i], NULL);
        assert_int_equal(ivon_examples_field_count(examples), 2);
        ivon_examples_close(examples);
    }
    open_refused("nothing.npy", NULL, IVON_ERROR_INPUT, "nothing.npy: cannot open it");
    open_refused("nothing.h5:/train", NULL, IVON_ERROR_INPUT, "nothing.h5: cannot open it");
    open_refused("nothing:x", NULL, IVON_ERROR_INPUT, "nothing:x: cannot open it");
    open_refused("p.npy,nothing.npy", NULL, IVON_ERROR_INPUT, "nothing.npy: cannot open it");
    open_refused("p.npy:x", NULL, IVON_ERROR_ARGUMENT, "'x' would be a group");
    open_refused(".", NULL, IVON_ERROR_DATA, "is a directory without images");
    write_text("empty", "");
    open_refused("empty", NULL, IVON_ERROR_DATA, "is empty");
    write_file("binary", "\x7f\x45LF\0\0\0", 7);
    open_refused("binary", NULL, IVON_ERROR_DATA, "no format that is known");
    write_text("a.csv", "1,2\n");
    open_refused("p.npy,a.csv", NULL, IVON_ERROR_DATA, "neither an npy nor an IDX");
    open_refused("a.csv,p.npy", NULL, IVON_ERROR_ARGUMENT, "two files are named");
    write_npy("three.npy", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", data, 12);
    open_refused("p.npy,three.npy", NULL, IVON_ERROR_DATA, "'x' has 4 rows, but 'y' 3");
    const char *const two[] = {"a", "b"};
    const struct ivon_dataset_options several = {
        .size = sizeof several, .inputs = two, .input_count = 2};
    open_refused("p.npy", &several, IVON_ERROR_ARGUMENT, "2 inputs are asked for");
    const struct ivon_dataset_options targets = {.size = sizeof targets, .targets = "label"};
    open_refused("p.npy", &targets, IVON_ERROR_DATA, "no targets 'label'");
}

/* By hand: of the pixels 0, 51 and 255, which are 0, 0.2 and 1, channel c is (v − m_c) / s_c. */
static void normalizes(void **state)
{
    (void)state;
    static const unsigned char pixels[12] = {0, 51, 255, 0, 51, 255, 51, 51, 255, 255, 0, 0};
    static const double mean[] = {0.5, 0.25, -1}, std[] = {0.5, 0.25, 2};
    write_npy("i.npy", 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 2)}", pixels,
              sizeof pixels);
    struct ivon_error error;
    float found[12];
    const float expected[12] = {-1, -0.6F, 3, -1, 0.6F, 1, -0.6F, -0.6F, 3, 3, 0.5F, 0.5F};
    struct ivon_dataset_options options = {
        .size = sizeof options, .mean = mean, .std = std, .channel_count = 3};
    struct ivon_examples *examples = open_fine("i.npy,i.npy", &options);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 2, found, &error), 0);
    /* 0.2 is no binary number: errors of 1e-16 may turn a rounding, which near 0.6 is by 2^-24. */
    for (size_t i = 0; i < 12; i++)
        assert_float_equal(found[i], expected[i], 0x1p-24F);
    assert_int_equal(ivon_examples_read_f32(examples, 1, 0, 2, found, &error), 0);
    assert_true(found[2] == 255); /* targets are as they are */
    ivon_examples_close(examples);

    options.no_scaling = true;
    options.channel_count = 1;
    examples = open_fine("i.npy", &options);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 1, 1, found, &error), 0);
    assert_true(found[0] == 101 && found[5] == -1);
    ivon_examples_close(examples);

    static const int64_t tokens[2] = {7, 8};
    write_npy("k.npy", 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2)}", tokens, 16);
    examples = open_fine("k.npy", &options); /* integers are not normalized */
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 1, found, &error), 0);
    assert_true(found[0] == 7 && found[1] == 8);
    ivon_examples_close(examples);

    options.channel_count = 2;
    open_refused("i.npy", &options, IVON_ERROR_ARGUMENT,
                 "'x' has 3 channels, but the normalization 2");
    const double bad[] = {0, -1, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        options = (struct ivon_dataset_options){
            .size = sizeof(struct ivon_dataset_options), .std = &bad[i], .channel_count = 1};
        open_refused("i.npy", &options, IVON_ERROR_ARGUMENT, "channel 0");
    }
}

/* 256 MB of zeros, as they are and gzipped, pass through far less memory than either. The
   largest amount so far is what the system tells: this test comes first. The address sanitizer's
   shadow of a mapped file is an eighth of it, which some kernels count. */
#ifdef __SANITIZE_ADDRESS__
enum { SHADOW_KB = 256 << 10 >> 3 };
#else
enum { SHADOW_KB = 0 };
#endif

static void holds_little_memory(void **state)
{
    (void)state;
    enum { MOST_KB = (32 << 10) + SHADOW_KB, SIDE = 16384, PIECE = 64 };
    static float piece[PIECE * SIDE];
    struct rusage before, after;
    struct ivon_error error = {.message = "none"};
    const char *const paths[] = {"large.npy", "large.gz"};
    gzFile packed = gzopen("large.gz", "wb");
    const unsigned char header[12] = {0, 0, 8, 2, 0, 0, 0x40, 0, 0, 0, 0x40, 0};
    assert_int_equal(gzwrite(packed, header, sizeof header), sizeof header);
    memset(piece, 0, sizeof piece);
    for (int i = 0; i < 64; i++)
        assert_int_equal(gzwrite(packed, piece, sizeof piece), sizeof piece);
    gzclose(packed);
    write_npy("large.npy", 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (16384, 16384)}",
              "", 0);
    assert_int_equal(truncate("large.npy", (off_t)out.size + (off_t)SIDE * SIDE), 0);
    getrusage(RUSAGE_SELF, &before);
    for (size_t p = 0; p < 2; p++) {
        struct ivon_examples *examples = open_fine(paths[p], NULL);
        for (uint64_t first = 0; first < SIDE; first += PIECE)
            if (ivon_examples_read_f32(examples, 0, first, PIECE, piece, &error))
                fail_msg("%s", error.message);
        ivon_examples_close(examples);
        unlink(paths[p]);
    }
    getrusage(RUSAGE_SELF, &after);
    if (after.ru_maxrss - before.ru_maxrss > MOST_KB)
        fail_msg("%ld kB more than before", after.ru_maxrss - before.ru_maxrss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_little_memory), cmocka_unit_test(reads_hdf5),
        cmocka_unit_test(refuses_hdf5),        cmocka_unit_test(reads_npy),
        cmocka_unit_test(reads_npy_types),     cmocka_unit_test(refuses_npy),
        cmocka_unit_test(reads_npz),           cmocka_unit_test(splits_paths),
        cmocka_unit_test(normalizes),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
