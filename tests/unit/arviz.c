/* InferenceData: the structure that netCDF-4 demands, the values, equal bytes, what is refused. */
#include <malloc.h>

#include "ivon/arviz.h"
#include "tests/unit/files.h"

enum { SAMPLES = 3, EXAMPLES = 2500, PIECE = 999, OUTPUTS_MAX = 3 };

static int clean(void **state)
{
    (void)state;
    unlink("a.nc");
    unlink("b.nc");
    unlink("reader.py");
    return 0;
}

/* Sample s says -1 - (s + i/4096) of example i, whose target k is i + k/4, its replicate 10000 s
   more: floats hold them exactly; as integers k is 0. */
static double log_likelihood(uint64_t sample, uint64_t example)
{
    return -1 - ((double)sample + (double)example / 4096);
}

struct piece {
    double log_likelihoods[PIECE];
    float singles[PIECE * OUTPUTS_MAX];
    int64_t integers[PIECE];
};

static const void *fill(struct piece *piece, const struct ivon_arviz_options *options,
                        uint64_t sample, uint64_t base, uint64_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        piece->log_likelihoods[i] = log_likelihood(sample, first + i);
        piece->integers[i] = (int64_t)(base + first + i);
        for (size_t k = 0; k < options->outputs; k++)
            piece->singles[i * options->outputs + k] = (float)(base + first + i) + (float)k / 4;
    }
    return options->target_dtype == IVON_I64 ? (const void *)piece->integers : piece->singles;
}

/* Writes a file in pieces, the last ones first, or else the first ones. */
static void write_draws(const char *path, const struct ivon_arviz_options *options, bool backwards)
{
    static struct piece piece;
    static int64_t numbers[PIECE];
    struct ivon_arviz *arviz = NULL;
    struct ivon_error error = {0};
    int code = ivon_arviz_create(&arviz, path, options, &error);
    uint64_t pieces = (options->examples + PIECE - 1) / PIECE, total = options->samples * pieces;
    for (uint64_t i = 0; i < total && !code; i++) {
        uint64_t at = backwards ? total - 1 - i : i;
        uint64_t sample = at / pieces, first = at % pieces * PIECE;
        uint64_t left = options->examples - first;
        size_t count = left < PIECE ? (size_t)left : PIECE;
        const void *values = fill(&piece, options, sample, 10000 * sample, first, count);
        code = ivon_arviz_write(arviz, sample, first, count, piece.log_likelihoods, values, &error);
        for (size_t j = 0; j < count; j++)
            numbers[j] = 2 * (int64_t)(first + j) + 1;
        if (!code && sample == 0)
            code = ivon_arviz_observe(arviz, first, count, numbers,
                                      fill(&piece, options, 0, 0, first, count), &error);
    }
    assert_int_equal(access(path, F_OK), -1);
    if (!code)
        code = ivon_arviz_commit(arviz, &error);
    if (code)
        fail_msg("%s", error.message);
    ivon_arviz_close(arviz);
}

static struct ivon_arviz_options one_label(void)
{
    return (struct ivon_arviz_options){.size = sizeof(struct ivon_arviz_options),
                                       .samples = SAMPLES,
                                       .examples = EXAMPLES,
                                       .outputs = 1,
                                       .target_dtype = IVON_I64,
                                       .creator = "test \xc3\xa9"};
}

/* As many of everything, so that nothing can be told apart by its length. */
static struct ivon_arviz_options cube(void)
{
    return (struct ivon_arviz_options){.size = sizeof(struct ivon_arviz_options),
                                       .samples = 3,
                                       .examples = 3,
                                       .outputs = 3,
                                       .target_dtype = IVON_F32};
}

/* Runs Python on reader.py, with what a.nc must hold as `expected`: {group: (dimensions, y)}. */
static int python(const struct ivon_arviz_options *options, const char *script)
{
    FILE *file = fopen("reader.py", "w");
    assert_non_null(file);
    fprintf(file,
            "import numpy as np\n"
            "S, N, K, integer = %d, %d, %d, %d\n"
            "s, i, k = np.arange(S)[:, None, None], np.arange(N)[:, None], np.arange(K)\n"
            "ll = (-1 - (s + i / 4096))[None, :, :, 0]\n"
            "pp, y = (10000 * s + i + k / 4)[None], i + k / 4\n"
            "pp, y = ((a[..., 0] if K == 1 else a).astype('i8' if integer else 'f4')\n"
            "         for a in (pp, y))\n"
            "dims = ['chain', 'draw', 'y_dim_0'] + ['y_dim_1'] * (K > 1)\n"
            "expected = {'log_likelihood': (dims[:3], ll), 'posterior_predictive': (dims, pp),\n"
            "            'observed_data': (dims[2:], y)}\n%s",
            (int)options->samples, (int)options->examples, (int)options->outputs,
            options->target_dtype == IVON_I64, script);
    fclose(file);
    return system("/usr/bin/python3 reader.py");
}

static const char structure[] =
    "import h5py\n"
    "f = h5py.File('a.nc', 'r')\n"
    "assert f.attrs['_NCProperties'].startswith(b'version=2,ivon='), dict(f.attrs)\n"
    "assert set(f.attrs) <= {'_NCProperties', 'creator'}, dict(f.attrs)\n"
    "assert f.attrs.get('creator', 'test \\u00e9'.encode()) == 'test \\u00e9'.encode()\n"
    "for g in (h5py.h5g.open(f.id, b'/'), f['observed_data'].id):\n"
    "    assert g.get_create_plist().get_link_creation_order() == 3\n"
    "assert set(f) == set(expected)\n"
    "for group, (dims, values) in expected.items():\n"
    "    g, y = f[group], f[group]['y']\n"
    "    assert set(g) == {'y', *dims}, list(g)\n"
    "    assert y.dtype == values.dtype and y.shape == values.shape, (y.dtype, y.shape)\n"
    "    assert np.array_equal(y, values), group\n"
    "    assert y.chunks is None and y.id.get_offset() % 64 == 0\n"
    "    for axis, name in enumerate(dims):\n"
    "        scale = g[name]\n"
    "        assert h5py.h5ds.is_scale(scale.id) and not h5py.h5ds.is_scale(y.id)\n"
    "        assert h5py.h5ds.get_num_scales(y.id, axis) == 1\n"
    "        assert h5py.h5ds.is_attached(y.id, scale.id, axis)\n"
    "        assert h5py.h5ds.get_scale_name(scale.id) == name.encode()\n"
    "        assert scale.attrs['CLASS'] == b'DIMENSION_SCALE'\n"
    "        assert y.dims[axis][0] == scale\n"
    "        count = np.arange(y.shape[axis])\n"
    "        expected = 2 * count + 1 if name == 'y_dim_0' else count\n"
    "        assert scale.dtype == 'i8' and np.array_equal(scale, expected)\n";

static void has_the_structure(void **state)
{
    (void)state;
    struct ivon_arviz_options options = one_label();
    write_draws("a.nc", &options, true);
    assert_int_equal(python(&options, structure), 0);
    unlink("a.nc");
    options.outputs = 3;
    options.target_dtype = IVON_F32;
    write_draws("a.nc", &options, true);
    assert_int_equal(python(&options, structure), 0);
    unlink("a.nc");
    options = cube();
    write_draws("a.nc", &options, false);
    assert_int_equal(python(&options, structure), 0);
}

static const char with_netcdf[] =
    "import netCDF4\n"
    "with netCDF4.Dataset('a.nc') as f:\n"
    "    assert set(f.groups) == set(expected) and not f.variables\n"
    "    for group, (dims, values) in expected.items():\n"
    "        y = f[group]['y']\n"
    "        assert list(y.dimensions) == dims and y.dtype == values.dtype, y\n"
    "        assert np.array_equal(y[...].data, values), group\n"
    "        assert list(f[group].dimensions) == dims\n";

static const char with_xarray[] =
    "import xarray\n"
    "for group, (dims, values) in expected.items():\n"
    "    d = xarray.open_dataset('a.nc', group=group, engine=ENGINE)\n"
    "    assert list(d.y.dims) == dims and d.y.dtype == values.dtype\n"
    "    assert np.array_equal(d.y, values), group\n"
    "    for name in dims:\n"
    "        assert np.array_equal(d[name], np.arange(d.sizes[name]))\n";

static void is_read_by_other_libraries(void **state)
{
    (void)state;
    static const char *const modules[] = {"netCDF4", "xarray, netCDF4", "xarray, h5netcdf"};
    struct ivon_arviz_options kinds[] = {one_label(), cube()};
    size_t found = 0;
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        char command[128], script[2048];
        snprintf(command, sizeof command, "/usr/bin/python3 -c 'import %s' 2> /dev/null",
                 modules[i]);
        if (system(command) != 0) {
            printf("%s: missing\n", modules[i]);
            continue;
        }
        found++;
        snprintf(script, sizeof script, "ENGINE = '%s'\n%s", i == 1 ? "netcdf4" : "h5netcdf",
                 i == 0 ? with_netcdf : with_xarray);
        for (size_t kind = 0; kind < 2; kind++) {
            write_draws("a.nc", &kinds[kind], false);
            assert_int_equal(python(&kinds[kind], script), 0);
            unlink("a.nc");
        }
    }
    if (!found)
        skip();
}

static char *load(const char *path, size_t *size)
{
    enum { LIMIT = 1 << 20 };
    char *bytes = malloc(LIMIT);
    FILE *file = fopen(path, "rb");
    assert_true(bytes && file);
    *size = fread(bytes, 1, LIMIT, file);
    assert_true(*size < LIMIT);
    fclose(file);
    return bytes;
}

/* Whatever the order, and whatever memory held before. */
static void has_the_same_bytes_again(void **state)
{
    (void)state;
    struct ivon_arviz_options options = one_label();
    size_t size, again;
    write_draws("a.nc", &options, false);
    mallopt(M_PERTURB, 0x55);
    write_draws("b.nc", &options, true);
    mallopt(M_PERTURB, 0);
    char *a = load("a.nc", &size), *b = load("b.nc", &again);
    assert_int_equal(size, again);
    assert_memory_equal(a, b, size);
    free(a);
    free(b);
}

static void assert_refused(struct ivon_arviz_options options, int expected, const char *message)
{
    struct ivon_arviz *arviz = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_arviz_create(&arviz, "a.nc", &options, &error), expected);
    assert_non_null(strstr(error.message, message));
    assert_null(arviz);
    assert_int_equal(access(".a.nc.ivon-tmp", F_OK), -1);
}

static void refuses_options(void **state)
{
    (void)state;
    struct ivon_arviz_options options = one_label();
    options.target_dtype = IVON_F64;
    assert_refused(options, IVON_ERROR_ARGUMENT, "a.nc: targets of type f64, expected i64 or f32");
    options = one_label();
    options.samples = 0;
    assert_refused(options, IVON_ERROR_ARGUMENT, "a.nc: 0 samples of 2500 examples of 1 outputs");
    options = one_label();
    options.outputs = 0;
    assert_refused(options, IVON_ERROR_ARGUMENT, "of 0 outputs are not what a file can hold");
    options = one_label();
    options.examples = UINT64_MAX;
    assert_refused(options, IVON_ERROR_ARGUMENT, "are not what a file can hold");
    options.examples = INT64_MAX / 8;
    assert_refused(options, IVON_ERROR_ARGUMENT, "are not what a file can hold");
    options = one_label();
    FILE *file = fopen("a.nc", "w");
    fclose(file);
    assert_refused(options, IVON_ERROR_CREATE, "a.nc: file exists");
}

static void refuses_what_is_incomplete(void **state)
{
    (void)state;
    struct ivon_arviz_options options = cube();
    struct ivon_arviz *arviz = NULL;
    struct ivon_error error;
    double values[3] = {0};
    float targets[9] = {0};
    const int64_t numbers[3] = {0, 1, 2};
    assert_int_equal(ivon_arviz_create(&arviz, "a.nc", &options, &error), 0);
    for (uint64_t sample = 0; sample < 3; sample++) {
        assert_int_equal(ivon_arviz_commit(arviz, &error), IVON_ERROR_ARGUMENT);
        assert_int_equal(ivon_arviz_write(arviz, sample, 0, 3, values, targets, &error), 0);
    }
    assert_int_equal(ivon_arviz_write(arviz, 3, 0, 1, values, targets, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_arviz_write(arviz, 0, 2, 2, values, targets, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_arviz_write(arviz, 0, UINT64_MAX, 2, values, targets, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_arviz_observe(arviz, 1, 2, numbers, targets, &error), 0);
    assert_int_equal(ivon_arviz_commit(arviz, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "a.nc: 9 log-likelihoods and 2 targets, expected 9 and 3");
    assert_int_equal(ivon_arviz_observe(arviz, 4, 0, numbers, targets, &error),
                     IVON_ERROR_ARGUMENT);
    ivon_arviz_close(arviz);
    assert_int_equal(access("a.nc", F_OK), -1);
    assert_int_equal(access(".a.nc.ivon-tmp", F_OK), -1);
    ivon_arviz_close(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean)
    const struct CMUnitTest tests[] = {
        TEST(has_the_structure), TEST(is_read_by_other_libraries), TEST(has_the_same_bytes_again),
        TEST(refuses_options),   TEST(refuses_what_is_incomplete),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_empty_directory);
}
