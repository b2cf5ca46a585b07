/* Tables: their exact text, what other programs read from them, what a failure leaves behind. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "ivon/table.h"
#include "tests/unit/files.h"

/* Removes every file, and tells how many there were. */
static int empty(void)
{
    int count = 0;
    DIR *entries = opendir(".");
    for (struct dirent *entry; (entry = readdir(entries));)
        count += unlink(entry->d_name) == 0;
    closedir(entries);
    return count;
}

static int clean(void **state)
{
    (void)state;
    empty();
    return 0;
}

static char *load(const char *path, size_t *size)
{
    char *bytes = malloc(1 << 22);
    FILE *file = fopen(path, "rb");
    assert_true(bytes && file);
    *size = fread(bytes, 1, (1 << 22) - 1, file);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}

static void python(const char *script)
{
    FILE *interpreter = popen("/usr/bin/python3 -", "w");
    assert_non_null(interpreter);
    fputs(script, interpreter);
    assert_int_equal(pclose(interpreter), 0);
}

/* Columns, and their data from the first row on. */
struct content {
    struct ivon_column columns[8];
    const void *data[8];
    size_t count;
};

static void add(struct content *content, struct ivon_column column, const void *data)
{
    content->columns[content->count] = column;
    content->data[content->count++] = data;
}

static size_t row_size(const struct ivon_column *column)
{
    size_t size = ivon_dtype_size(column->dtype);
    for (int i = 0; i < column->rank; i++)
        size *= (size_t)column->shape[i];
    return size;
}

/* Appends all rows in pieces of `piece` and commits. */
static int fill(struct ivon_table *table, const struct content *content, size_t rows, size_t piece,
                struct ivon_error *error)
{
    for (size_t first = 0; first < rows; first += piece) {
        const void *at[8];
        for (size_t c = 0; c < content->count; c++)
            at[c] = (const char *)content->data[c] + first * row_size(&content->columns[c]);
        size_t count = rows - first < piece ? rows - first : piece;
        int code = ivon_table_append(table, count, at, error);
        if (code)
            return code;
    }
    return ivon_table_commit(table, error);
}

static void write_table(const char *path, const struct content *content,
                        struct ivon_table_options options, size_t piece)
{
    struct ivon_table *table = NULL;
    struct ivon_error error;
    options.format = (enum ivon_table_format)ivon_table_format_of(path);
    if (ivon_table_create(&table, path, content->columns, content->count, &options, &error) ||
        fill(table, content, options.rows, piece, &error))
        fail_msg("%s", error.message);
    ivon_table_close(table);
}

static void assert_text(const struct content *content, struct ivon_table_options options,
                        const char *expected)
{
    struct ivon_table *table = NULL;
    struct ivon_error error;
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (ivon_table_to_stream(&table, stream, "memory", content->columns, content->count, &options,
                             &error) ||
        fill(table, content, options.rows, 2, &error))
        fail_msg("%s", error.message);
    ivon_table_close(table);
    fclose(stream);
    assert_string_equal(text, expected);
    free(text);
}

static void writes_text(void **state)
{
    (void)state;
    const double loss[] = {0.1, -0.0, -NAN}; /* arithmetic on this machine makes such */
    static const float probabilities[] = {0.25f,    1e-10f,    0.1f,     INFINITY, -INFINITY,
                                          1.0f / 3, 0x1p-149f, 16777216, 1e20f};
    static const int64_t labels[] = {-1, INT64_MAX, 0};
    static const double matrix[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct content content = {0};
    add(&content, (struct ivon_column){.name = "loss", .dtype = IVON_F64}, loss);
    add(&content,
        (struct ivon_column){
            .name = "probabilities", .prefix = "p", .dtype = IVON_F32, .rank = 1, .shape = {3}},
        probabilities);
    add(&content, (struct ivon_column){.name = "y", .dtype = IVON_I64}, labels);
    add(&content, (struct ivon_column){.name = "m", .dtype = IVON_F64, .rank = 2, .shape = {2, 2}},
        matrix);
    add(&content,
        (struct ivon_column){.name = "none", .dtype = IVON_F64, .rank = 2, .shape = {2, 0}},
        matrix);
    assert_text(&content,
                (struct ivon_table_options){
                    .size = sizeof(struct ivon_table_options), .format = IVON_CSV, .rows = 3},
                "index,loss,p0,p1,p2,y,m_0,m_1,m_2,m_3\n"
                "0,0.1,0.25,1e-10,0.1,-1,1,2,3,4\n"
                "1,-0.0,inf,-inf,0.33333334,9223372036854775807,5,6,7,8\n"
                "2,nan,1.4013e-45,16777216,1e+20,0,9,10,11,12\n");
    assert_text(&content,
                (struct ivon_table_options){
                    .size = sizeof(struct ivon_table_options), .format = IVON_JSONL, .rows = 3},
                "{\"index\":0,\"loss\":0.1,\"probabilities\":[0.25,1e-10,0.1],\"y\":-1,"
                "\"m\":[[1,2],[3,4]],\"none\":[[],[]]}\n"
                "{\"index\":1,\"loss\":-0.0,"
                "\"probabilities\":[\"Infinity\",\"-Infinity\",0.33333334],"
                "\"y\":9223372036854775807,\"m\":[[5,6],[7,8]],\"none\":[[],[]]}\n"
                "{\"index\":2,\"loss\":null,\"probabilities\":[1.4013e-45,16777216,1e+20],"
                "\"y\":0,\"m\":[[9,10],[11,12]],\"none\":[[],[]]}\n");
    assert_text(
        &content,
        (struct ivon_table_options){.size = sizeof(struct ivon_table_options), .format = IVON_CSV},
        "index,loss,p0,p1,p2,y,m_0,m_1,m_2,m_3\n");
    assert_text(&content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options),
                                            .format = IVON_JSONL},
                "");
}

static void writes_a_row_for_each_token(void **state)
{
    (void)state;
    static const double loss[] = {0.5, 1, 1.5, 2};
    static const float p[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct content content = {0};
    add(&content,
        (struct ivon_column){
            .name = "loss", .prefix = "l", .dtype = IVON_F64, .rank = 1, .shape = {2}},
        loss);
    add(&content,
        (struct ivon_column){
            .name = "p", .prefix = "p", .dtype = IVON_F32, .rank = 2, .shape = {2, 2}},
        p);
    assert_text(
        &content,
        (struct ivon_table_options){
            .size = sizeof(struct ivon_table_options), .format = IVON_CSV, .rows = 2, .tokens = 2},
        "index,token,loss,p0,p1\n0,0,0.5,1,2\n0,1,1,3,4\n1,0,1.5,5,6\n1,1,2,7,8\n");
    assert_text(&content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options),
                                            .format = IVON_JSONL,
                                            .rows = 2,
                                            .tokens = 2},
                "{\"index\":0,\"loss\":[0.5,1],\"p\":[[1,2],[3,4]]}\n"
                "{\"index\":1,\"loss\":[1.5,2],\"p\":[[5,6],[7,8]]}\n");
}

static void quotes_names(void **state)
{
    (void)state;
    static const int64_t one = 1;
    struct content content = {0};
    add(&content, (struct ivon_column){.name = "a,b", .dtype = IVON_I64, .rank = 1, .shape = {1}},
        &one);
    add(&content, (struct ivon_column){.name = "say \"no\"", .dtype = IVON_I64}, &one);
    add(&content, (struct ivon_column){.name = "back\\slash", .dtype = IVON_I64}, &one);
    add(&content, (struct ivon_column){.name = "\xce\xb8 1", .dtype = IVON_I64}, &one);
    assert_text(&content,
                (struct ivon_table_options){
                    .size = sizeof(struct ivon_table_options), .format = IVON_CSV, .rows = 1},
                "index,\"a,b_0\",\"say \"\"no\"\"\",back\\slash,\xce\xb8 1\n0,1,1,1,1\n");
    assert_text(&content,
                (struct ivon_table_options){
                    .size = sizeof(struct ivon_table_options), .format = IVON_JSONL, .rows = 1},
                "{\"index\":0,\"a,b\":[1],\"say \\\"no\\\"\":1,\"back\\\\slash\":1,"
                "\"\xce\xb8 1\":1}\n");
}

static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

enum { ROWS = 3001, WIDTH = 5 };

/* Random bits as numbers of all kinds, some not numbers. */
struct sample {
    double wide[ROWS];
    float single[ROWS][WIDTH];
    int64_t integers[ROWS];
    struct content content;
};

static struct sample *make_sample(void)
{
    struct sample *sample = calloc(1, sizeof *sample);
    uint64_t seed = 7;
    assert_non_null(sample);
    for (size_t i = 0; i < ROWS; i++) {
        uint64_t bits = random_bits(&seed);
        memcpy(&sample->wide[i], &bits, sizeof bits);
        bits = random_bits(&seed);
        memcpy(&sample->integers[i], &bits, sizeof bits);
        for (size_t k = 0; k < WIDTH; k++) {
            bits = random_bits(&seed);
            memcpy(&sample->single[i][k], &bits, sizeof(float));
        }
    }
    add(&sample->content, (struct ivon_column){.name = "wide", .dtype = IVON_F64}, sample->wide);
    add(&sample->content,
        (struct ivon_column){
            .name = "down/single", .prefix = "s", .dtype = IVON_F32, .rank = 1, .shape = {WIDTH}},
        sample->single);
    add(&sample->content, (struct ivon_column){.name = "integers", .dtype = IVON_I64},
        sample->integers);
    return sample;
}

static void put_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

/* What Python reads from every format is what was given, bit by bit but for the NaNs. */
static void is_read_by_others(void **state)
{
    (void)state;
    struct sample *sample = make_sample();
    struct ivon_table_options options = {
        .size = sizeof options, .rows = ROWS, .creator = "test \xc3\xa9", .provenance = "{}"};
    struct content one = {
        .columns = {sample->content.columns[1]}, .data = {sample->content.data[1]}, .count = 1};
    put_bytes("wide", sample->wide, sizeof sample->wide);
    put_bytes("single", sample->single, sizeof sample->single);
    put_bytes("integers", sample->integers, sizeof sample->integers);
    write_table("t.csv", &sample->content, options, 17);
    write_table("t.jsonl", &sample->content, options, 1000);
    write_table("t.h5", &sample->content, options, 17);
    write_table("t.npy", &one, options, 17);
    python("import csv, json, h5py, numpy as np\n"
           "wide, integers = np.fromfile('wide', 'f8'), np.fromfile('integers', 'i8')\n"
           "single = np.fromfile('single', 'f4').reshape(len(wide), -1)\n"
           "def same(a, b):\n"
           "    nan = np.isnan(b)\n"
           "    assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, a.shape)\n"
           "    assert (np.isnan(a) == nan).all() and a[~nan].tobytes() == b[~nan].tobytes()\n"
           "rows = list(csv.reader(open('t.csv', newline='')))\n"
           "assert rows[0] == 'index wide s0 s1 s2 s3 s4 integers'.split(), rows[0]\n"
           "assert [r[0] for r in rows[1:]] == [str(i) for i in range(len(wide))]\n"
           "same(np.array([float(r[1]) for r in rows[1:]]), wide)\n"
           "same(np.array([[np.float32(v) for v in r[2:7]] for r in rows[1:]]), single)\n"
           "same(np.array([int(r[7]) for r in rows[1:]]), integers)\n"
           "rows = [json.loads(line) for line in open('t.jsonl')]\n"
           "value = lambda v: np.nan if v is None else v\n"
           "finite = lambda a: np.where(np.isfinite(a), a, a.dtype.type(np.nan))\n"
           "same(np.array([float(value(r['wide'])) for r in rows]), finite(wide))\n"
           "same(np.array([[np.float32(value(v)) for v in r['down/single']] for r in rows]),\n"
           "     finite(single))\n"
           "same(np.array([r['integers'] for r in rows]), integers)\n"
           "f = h5py.File('t.h5')\n"
           "assert dict(f.attrs) == {'format': b'ivon-table', 'format_version': 1,\n"
           "                         'creator': 'test \u00e9'.encode(), 'provenance': b'{}'}\n"
           "for d, a in (('wide', wide), ('down/single', single), ('integers', integers)):\n"
           "    d = f[d]\n"
           "    assert d[()].tobytes() == a.tobytes()\n"
           "    assert d.dtype == a.dtype and d.shape == a.shape\n"
           "    assert d.id.get_offset() % 64 == 0 and d.chunks is None\n"
           "a = np.load('t.npy')\n"
           "assert a.dtype == single.dtype and a.shape == single.shape\n"
           "assert a.tobytes() == single.tobytes()\n");
    free(sample);
}

static void depends_on_no_pieces(void **state)
{
    (void)state;
    static const char *const names[] = {"t.csv", "t.jsonl", "t.h5", "t.npy"};
    struct sample *sample = make_sample();
    struct ivon_table_options options = {.size = sizeof options, .rows = ROWS, .replace = true};
    struct content one = {
        .columns = {sample->content.columns[1]}, .data = {sample->content.data[1]}, .count = 1};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t sizes[2];
        char *bytes[2];
        for (size_t run = 0; run < 2; run++) {
            write_table(names[i], i == 3 ? &one : &sample->content, options, run ? 7 : ROWS);
            bytes[run] = load(names[i], &sizes[run]);
        }
        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(bytes[0], bytes[1], sizes[0]);
        free(bytes[0]);
        free(bytes[1]);
    }
    free(sample);
}

/* A table of `rows` rows of one number and of 2 × 3 of them; null: it is refused. */
static struct ivon_table *open_filled(const char *path, enum ivon_table_format format,
                                      uint64_t rows, size_t columns)
{
    static const struct ivon_column both[] = {
        {.name = "m", .dtype = IVON_F32, .rank = 2, .shape = {2, 3}},
        {.name = "n", .dtype = IVON_I64}};
    struct ivon_table_options options = {
        .size = sizeof options, .format = format, .rows = rows, .replace = true};
    struct ivon_table *table = NULL;
    assert_int_equal(ivon_table_create(&table, path, both, columns, &options, NULL), 0);
    return table;
}

/* Elements in any order make the bytes of rows that are appended. */
static void fills_elements(void **state)
{
    (void)state;
    enum { COUNT = 4, WIDE = 6 };
    static const char *const names[] = {"t.npy", "t.h5"};
    float m[COUNT * WIDE], part[COUNT * WIDE];
    int64_t n[COUNT];
    for (size_t i = 0; i < COUNT * WIDE; i++)
        m[i] = (float)i / 8;
    for (size_t i = 0; i < COUNT; i++)
        n[i] = 100 - (int64_t)i;
    for (size_t format = 0; format < 2; format++) {
        enum ivon_table_format kind = format ? IVON_HDF5 : IVON_NPY;
        size_t sizes[2];
        char *bytes[2];
        struct ivon_table *table = open_filled(names[format], kind, COUNT, 1 + format);
        assert_int_equal(ivon_table_append(table, COUNT, (const void *const[]){m, n}, NULL), 0);
        assert_int_equal(ivon_table_fill(table, 0, 0, 1, 0, 1, m, NULL), IVON_ERROR_ARGUMENT);
        assert_int_equal(ivon_table_commit(table, NULL), 0);
        ivon_table_close(table);
        bytes[0] = load(names[format], &sizes[0]);
        table = open_filled(names[format], kind, COUNT, 1 + format);
        for (size_t at = WIDE; at > 0; at -= 2) { /* pairs of columns, the last first */
            for (size_t i = 0; i < COUNT; i++)
                memcpy(part + 2 * i, m + i * WIDE + at - 2, 2 * sizeof *part);
            for (size_t first = 0; first < COUNT; first += 2)
                assert_int_equal(
                    ivon_table_fill(table, 0, first, 2, at - 2, 2, part + 2 * first, NULL), 0);
        }
        if (format)
            assert_int_equal(ivon_table_commit(table, NULL), IVON_ERROR_ARGUMENT);
        for (size_t i = 0; i < COUNT && format; i += 2)
            assert_int_equal(ivon_table_fill(table, 1, i, 2, 0, 1, n + i, NULL), 0);
        assert_int_equal(ivon_table_commit(table, NULL), 0);
        ivon_table_close(table);
        bytes[1] = load(names[format], &sizes[1]);
        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(bytes[0], bytes[1], sizes[0]);
        free(bytes[0]);
        free(bytes[1]);
    }
}

static void refuses_elements_without_a_place(void **state)
{
    (void)state;
    static const float m[12];
    static const struct {
        size_t column;
        uint64_t first;
        size_t count, at, width;
    } places[] = {{2, 0, 1, 0, 1},          {0, 2, 1, 0, 1},        {0, 1, 2, 0, 1},
                  {0, UINT64_MAX, 2, 0, 1}, {0, 0, SIZE_MAX, 0, 1}, {0, 0, 1, 7, 0},
                  {0, 0, 1, 6, 1},          {0, 0, 1, 5, SIZE_MAX}, {1, 0, 1, 0, 2}};
    struct ivon_table *table = open_filled("t.h5", IVON_HDF5, 2, 2);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        assert_int_equal(ivon_table_fill(table, places[i].column, places[i].first, places[i].count,
                                         places[i].at, places[i].width, m, NULL),
                         IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_table_fill(table, 0, 0, 2, 0, 6, m, NULL), 0);
    assert_int_equal(ivon_table_append(table, 2, (const void *const[]){m, m}, NULL), 0);
    assert_int_equal(ivon_table_commit(table, NULL), IVON_ERROR_ARGUMENT); /* both ways */
    ivon_table_close(table);
    table = open_filled("t.csv", IVON_CSV, 2, 2);
    assert_int_equal(ivon_table_fill(table, 0, 0, 2, 0, 6, m, NULL), IVON_ERROR_ARGUMENT);
    ivon_table_close(table);
}

static void writes_npy(void **state)
{
    (void)state;
    static const double values[] = {1, 2, 3, 4, 5, 6};
    struct content content = {0};
    size_t size;
    add(&content, (struct ivon_column){.name = "x", .dtype = IVON_F64}, values);
    write_table("a.npy", &content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options), .rows = 2},
                1);
    char *bytes = load("a.npy", &size);
    assert_int_equal(size, 128 + 16);
    assert_memory_equal(bytes,
                        "\x93NUMPY\x01\x00\x76\x00"
                        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
                        "                                                            \n",
                        128);
    assert_memory_equal(bytes + 128, values, 16);
    free(bytes);
    content.columns[0].rank = 2;
    content.columns[0].shape[0] = 1;
    content.columns[0].shape[1] = 3;
    write_table("b.npy", &content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options), .rows = 2},
                1);
    content.columns[0].shape[1] = 0;
    write_table("c.npy", &content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options), .rows = 2},
                1);
    content.columns[0].dtype = IVON_I64;
    content.columns[0].rank = 7;
    for (int i = 0; i < 7; i++)
        content.columns[0].shape[i] = i ? 1 : INT64_C(1) << 59;
    write_table("d.npy", &content,
                (struct ivon_table_options){.size = sizeof(struct ivon_table_options)}, 1);
    python("import numpy as np\n"
           "assert (np.load('b.npy') == [[[1, 2, 3]], [[4, 5, 6]]]).all()\n"
           "assert np.load('c.npy').shape == (2, 1, 0)\n"
           "d = np.load('d.npy')\n"
           "assert d.shape == (0, 2**59) + (1,) * 6 and d.dtype == 'i8', d.shape\n");
}

static void knows_suffixes(void **state)
{
    (void)state;
    assert_int_equal(ivon_table_format_of("a.csv"), IVON_CSV);
    assert_int_equal(ivon_table_format_of("/d.npy/a.b.jsonl"), IVON_JSONL);
    assert_int_equal(ivon_table_format_of("a.json"), IVON_JSONL);
    assert_int_equal(ivon_table_format_of("a.ndjson"), IVON_JSONL);
    assert_int_equal(ivon_table_format_of("a.npy"), IVON_NPY);
    assert_int_equal(ivon_table_format_of("a.h5"), IVON_HDF5);
    assert_int_equal(ivon_table_format_of("a.hdf5"), IVON_HDF5);
    assert_int_equal(ivon_table_format_of("a.csv/b"), -1);
    assert_int_equal(ivon_table_format_of("csv"), -1);
    assert_int_equal(ivon_table_format_of("a.csv.gz"), -1);
    assert_int_equal(ivon_table_format_of(""), -1);
}

static void assert_refused(struct ivon_column column, size_t twice, enum ivon_table_format format,
                           int64_t tokens, const char *message)
{
    struct ivon_column columns[2] = {column, column};
    struct ivon_table_options options = {
        .size = sizeof options, .format = format, .rows = 4, .tokens = tokens};
    struct ivon_table *table = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_table_create(&table, "a", columns, twice, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
    assert_null(table);
    assert_int_equal(empty(), 0);
}

static void refuses_columns(void **state)
{
    (void)state;
    static const char *const shape =
        "a: column 'x': its shape is not one of less than 8 dimensions that a file can hold";
    struct ivon_column x = {.name = "x", .dtype = IVON_F64};
    assert_refused(x, 0, IVON_CSV, 0, "a: a table without columns");
    assert_refused(x, 2, IVON_NPY, 0, "a: an npy file holds one column, not 2");
    assert_refused(x, 2, IVON_HDF5, 0, "a: column 'x' occurs twice");
    assert_refused(x, 1, IVON_CSV, 3, "a: column 'x' does not have 3 tokens");
    x.name = "index";
    assert_refused(x, 1, IVON_JSONL, 0, "a: column 'index' occurs twice");
    x.name = "a\nb";
    assert_refused(x, 1, IVON_CSV, 0, "a: 'a?b' is not a usable name for a column");
    x = (struct ivon_column){.name = "token", .dtype = IVON_F64, .rank = 1, .shape = {3}};
    assert_refused(x, 1, IVON_CSV, 3, "a: column 'token' occurs twice");
    x.name = "x";
    assert_refused(x, 1, IVON_CSV, 2, "a: column 'x' does not have 2 tokens");
    x.prefix = "";
    assert_refused(x, 1, IVON_CSV, 0, "a: 'x' is not a usable name for a column");
    x.prefix = NULL;
    x.dtype = IVON_U8;
    assert_refused(x, 1, IVON_CSV, 0,
                   "a: column 'x' has elements of type u8, expected f32, f64 or i64");
    x.dtype = IVON_F64;
    x.shape[0] = -1;
    assert_refused(x, 1, IVON_NPY, 0, shape);
    x.shape[0] = INT64_MAX / 8; /* four such rows are too many */
    assert_refused(x, 1, IVON_HDF5, 0, shape);
    x.rank = IVON_RANK_MAX;
    assert_refused(x, 1, IVON_NPY, 0, shape);
}

static void counts_rows(void **state)
{
    (void)state;
    static const char *const names[] = {"t.csv", "t.jsonl", "t.h5", "t.npy"};
    static const double values[] = {1, 2, 3, 4};
    const void *data = values;
    struct ivon_column column = {.name = "x", .dtype = IVON_F64};
    struct ivon_error error;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct ivon_table *table = NULL;
        struct ivon_table_options options = {
            .size = sizeof options,
            .format = (enum ivon_table_format)ivon_table_format_of(names[i]),
            .rows = 3};
        assert_int_equal(ivon_table_create(&table, names[i], &column, 1, &options, &error), 0);
        assert_int_equal(ivon_table_append(table, 2, &data, &error), 0);
        assert_int_equal(ivon_table_append(table, 2, &data, &error), IVON_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, ": more than the announced 3 rows"));
        assert_int_equal(ivon_table_commit(table, &error), IVON_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, ": 2 rows, expected 3"));
        ivon_table_close(table);
        assert_int_equal(empty(), 0);
    }
    ivon_table_close(NULL);
}

/* A copy of the file after each piece that was saved is the table of the rows so far. */
static void saves_what_is_there(void **state)
{
    (void)state;
    static const char *const names[] = {"t.csv", "t.jsonl", "t.h5"};
    static const double values[] = {1, 2, 3, 4, 5}, pairs[10] = {0.5, 1.5};
    struct ivon_error error;
    struct content content = {0};
    add(&content, (struct ivon_column){.name = "x", .dtype = IVON_F64}, values);
    add(&content, (struct ivon_column){.name = "y", .dtype = IVON_F64, .rank = 1, .shape = {2}},
        pairs);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct ivon_table *table = NULL;
        char whole_name[20];
        snprintf(whole_name, sizeof whole_name, "whole-%s", names[i]);
        struct ivon_table_options options = {
            .size = sizeof options,
            .format = (enum ivon_table_format)ivon_table_format_of(names[i]),
            .rows = IVON_ROWS_OPEN};
        assert_int_equal(ivon_table_create(&table, names[i], content.columns, 2, &options, &error),
                         0);
        for (size_t rows = 0; rows < 5; rows++) {
            size_t count = rows == 1 ? 2 : 1, size, whole_size;
            const void *const at[] = {values + rows, pairs + 2 * rows};
            assert_int_equal(ivon_table_append(table, count, at, &error), 0);
            rows += count - 1;
            assert_int_equal(ivon_table_save(table, &error), 0);
            assert_int_equal(ivon_table_save(table, &error), 0); /* nothing is new */
            struct ivon_table_options known = options;
            known.rows = rows + 1;
            write_table(whole_name, &content, known, rows + 1);
            char *saved = load(names[i], &size), *whole = load(whole_name, &whole_size);
            assert_int_equal(size, whole_size);
            assert_memory_equal(saved, whole, size);
            free(saved);
            free(whole);
            assert_int_equal(remove(whole_name), 0);
        }
        if (i < 2) /* to the end of the table the rows are lost that were not saved */
            assert_int_equal(ivon_table_append(table, 1, content.data, &error), 0);
        ivon_table_close(table);
        assert_int_equal(empty(), 1);
    }
}

static void saves_only_what_grows(void **state)
{
    (void)state;
    static const double value = 1;
    const void *data = &value;
    struct ivon_column column = {.name = "x", .dtype = IVON_F64};
    struct ivon_table_options options = {
        .size = sizeof options, .format = IVON_HDF5, .rows = IVON_ROWS_OPEN};
    struct ivon_table *table = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_table_create(&table, "t.h5", &column, 1, &options, &error), 0);
    assert_int_equal(ivon_table_append(table, 1, &data, &error), 0);
    assert_int_equal(ivon_table_append(table, 1, &data, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message,
                        "t.h5: HDF5 takes rows once between two times that it is saved");
    assert_int_equal(ivon_table_save(table, &error), IVON_ERROR_ARGUMENT); /* after a failure */
    ivon_table_close(table);
    options.rows = 1;
    assert_int_equal(ivon_table_create(&table, "t.h5", &column, 1, &options, &error), 0);
    assert_int_equal(ivon_table_append(table, 1, &data, &error), 0);
    assert_int_equal(ivon_table_save(table, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "t.h5: what cannot take more rows is committed, not saved");
    ivon_table_close(table);
    options.format = IVON_NPY;
    options.rows = IVON_ROWS_OPEN;
    table = NULL;
    assert_int_equal(ivon_table_create(&table, "t.npy", &column, 1, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_null(table);
    assert_int_equal(empty(), 0);
}

static void replaces_only_when_told(void **state)
{
    (void)state;
    static const double value = 3;
    struct content content = {0};
    struct ivon_table *table = NULL;
    struct ivon_table_options options = {.size = sizeof options, .format = IVON_CSV, .rows = 1};
    struct ivon_error error;
    size_t size;
    add(&content, (struct ivon_column){.name = "x", .dtype = IVON_F64}, &value);
    put_bytes("a.csv", "old", 3);
    assert_int_equal(ivon_table_create(&table, "a.csv", content.columns, 1, &options, &error),
                     IVON_ERROR_CREATE);
    assert_string_equal(error.message, "a.csv: file exists");
    assert_null(table);
    options.replace = true;
    write_table("a.csv", &content, options, 1);
    char *text = load("a.csv", &size);
    assert_string_equal(text, "index,x\n0,3\n");
    free(text);
    assert_int_equal(empty(), 1);
}

/* A stream that is full says so, whether at once or when it is flushed. */
static void says_that_a_stream_is_full(void **state)
{
    (void)state;
    static const double values[100000] = {0};
    const void *data = values;
    struct ivon_column column = {.name = "x", .dtype = IVON_F64};
    struct ivon_error error;
    for (uint64_t rows = 1; rows <= 100000; rows += 99999) {
        struct ivon_table *table = NULL;
        struct ivon_table_options options = {
            .size = sizeof options, .format = IVON_CSV, .rows = rows};
        FILE *full = fopen("/dev/full", "w");
        assert_non_null(full);
        assert_int_equal(
            ivon_table_to_stream(&table, full, "standard output", &column, 1, &options, &error), 0);
        int code = ivon_table_append(table, (size_t)rows, &data, &error);
        assert_int_equal(code, rows == 1 ? 0 : IVON_ERROR_IO);
        if (!code)
            assert_int_equal(ivon_table_commit(table, &error), IVON_ERROR_IO);
        assert_string_equal(error.message,
                            "standard output: cannot write it: No space left on device");
        assert_true(ivon_table_commit(table, &error) < 0); /* it stays so */
        ivon_table_close(table);
        fclose(full);
    }
}

static void refuses_arrays_on_a_stream(void **state)
{
    (void)state;
    struct ivon_column column = {.name = "x", .dtype = IVON_F64};
    struct ivon_table_options options = {.size = sizeof options, .format = IVON_NPY};
    struct ivon_table *table = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_table_to_stream(&table, stdout, "out", &column, 1, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "out: a stream takes CSV and JSON Lines only");
    assert_null(table);
}

/* A file that may not grow further fails, before the work where its size is known. */
static void leaves_nothing_of_a_full_disk(void **state)
{
    (void)state;
    static const char *const names[] = {"t.csv", "t.h5", "t.npy"};
    static const double values[100000] = {0};
    const void *data = values;
    struct ivon_column column = {.name = "x", .dtype = IVON_F64};
    struct ivon_error error;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t unlimited = limit.rlim_cur;
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct ivon_table *table = NULL;
        struct ivon_table_options options = {
            .size = sizeof options,
            .format = (enum ivon_table_format)ivon_table_format_of(names[i]),
            .rows = 100000};
        limit.rlim_cur = 100000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int code = ivon_table_create(&table, names[i], &column, 1, &options, &error);
        assert_int_equal(code, i ? IVON_ERROR_IO : 0);
        if (!code)
            code = ivon_table_append(table, 100000, &data, &error);
        limit.rlim_cur = unlimited;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(code, IVON_ERROR_IO);
        if (table)
            assert_true(ivon_table_commit(table, &error) < 0);
        ivon_table_close(table);
        assert_int_equal(empty(), 0);
    }
    signal(SIGXFSZ, SIG_DFL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean)
    const struct CMUnitTest tests[] = {
        TEST(writes_text),
        TEST(writes_a_row_for_each_token),
        TEST(quotes_names),
        TEST(is_read_by_others),
        TEST(depends_on_no_pieces),
        TEST(fills_elements),
        TEST(refuses_elements_without_a_place),
        TEST(writes_npy),
        TEST(knows_suffixes),
        TEST(refuses_columns),
        TEST(counts_rows),
        TEST(saves_what_is_there),
        TEST(saves_only_what_grows),
        TEST(replaces_only_when_told),
        TEST(says_that_a_stream_is_full),
        TEST(refuses_arrays_on_a_stream),
        TEST(leaves_nothing_of_a_full_disk),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_empty_directory);
}
