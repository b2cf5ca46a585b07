/* Posteriors with a structure in every format that is written: version 2, and version 1 where there
   is none. */
#define _GNU_SOURCE
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

static const char *const outputs[] = {"a.h5", "a.npz", "a.safetensors", "a.safetensors.index.json"};
enum { OUTPUTS = sizeof outputs / sizeof outputs[0] };

static const int64_t shape_32[] = {3, 2}, shape_33[] = {3, 3}, shape_3[] = {3}, shape_29[] = {2, 9};

/* Means whose names are those of parts in version 2. */
static void add_means(struct checkpoint *checkpoint)
{
    static const char *const names[] = {"fc/w", "fc/b", "gram/fc/w", "structure.json",
                                        "basis_input"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        add_tensor(checkpoint, IVON_MEAN, names[i], IVON_F32, i ? 1 : 2, i ? shape_3 : shape_32);
    add_tensor(checkpoint, IVON_BUFFER, "spectrum_input/fc/w", IVON_F32, 1, shape_3);
    add_tensor(checkpoint, IVON_BUFFER, "lowrank_vectors/n", IVON_I64, 1, shape_3);
    add_tensor(checkpoint, IVON_HESSIAN, "fc/w", IVON_F32, 2, shape_33);
}

static void add_structure(struct checkpoint *checkpoint)
{
    add_tensor(checkpoint, IVON_BASIS_INPUT, "fc/w", IVON_F32, 2, shape_33);
    add_tensor(checkpoint, IVON_BASIS_OUTPUT, "fc/w", IVON_F16, 2, shape_33);
    add_tensor(checkpoint, IVON_SPECTRUM_INPUT, "fc/w", IVON_F64, 1, shape_3);
    add_tensor(checkpoint, IVON_SPECTRUM_OUTPUT, "fc/w", IVON_F32, 1, shape_3);
    add_tensor(checkpoint, IVON_GRAM, "fc/w", IVON_F32, 2, shape_33);
    add_tensor(checkpoint, IVON_LOW_RANK, "fc/w", IVON_F32, 2, shape_29);
    add_tensor(checkpoint, IVON_STRUCTURE, "structure.json", IVON_U8, 1, (const int64_t[]){77});
    add_tensor(checkpoint, IVON_GRAPH, "model.onnx", IVON_U8, 1, (const int64_t[]){9});
}

static void structures_are_read_as_written(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 1};
    add_means(&checkpoint);
    add_structure(&checkpoint);
    for (size_t i = 0; i < OUTPUTS; i++) {
        write_checkpoint(&checkpoint, outputs[i], 5);
        check_checkpoint(&checkpoint, outputs[i]);
    }
    release_checkpoint(&checkpoint);
}

/* Each new part by itself makes a file one of version 2. */
static void every_part_is_enough(void **state)
{
    (void)state;
    for (enum ivon_part part = IVON_BASIS_INPUT; part <= IVON_STRUCTURE; part++) {
        bool bytes = part == IVON_STRUCTURE;
        if (part == IVON_BUFFER || part == IVON_GRAPH)
            continue;
        struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = part};
        add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 2, shape_32);
        add_tensor(&checkpoint, part, bytes ? ivon_part_name(part) : "w",
                   bytes ? IVON_U8 : IVON_F32, 1, shape_3);
        for (size_t i = 0; i < OUTPUTS; i++) {
            write_checkpoint(&checkpoint, outputs[i], 5);
            check_checkpoint(&checkpoint, outputs[i]);
        }
        assert_int_equal(clean_directory(state), 0);
        release_checkpoint(&checkpoint);
    }
}

static bool contains(const char *path, const char *text)
{
    size_t size;
    unsigned char *bytes = load_file(path, &size);
    bool found = memmem(bytes, size, text, strlen(text)) != NULL;
    free(bytes);
    return found;
}

/* Without a structure, names that are parts in version 2 are names. */
static void version_1_is_as_before(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 2};
    add_means(&checkpoint);
    for (size_t i = 0; i < OUTPUTS; i++) {
        write_checkpoint(&checkpoint, outputs[i], 5);
        check_checkpoint(&checkpoint, outputs[i]);
    }
    assert_true(contains("a.safetensors", "\"ivon-posterior\":\"1\""));
    assert_true(contains("a.safetensors", "\"gram/fc/w\""));
    assert_true(contains("a.npz", "structure.json.npy"));
    assert_false(contains("a.npz", "mean/structure.json.npy"));
    release_checkpoint(&checkpoint);
}

static void other_formats_refuse_them(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 3};
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    const struct ivon_create_options options = ivon_create_defaults();
    add_tensor(&checkpoint, IVON_BASIS_INPUT, "w", IVON_F32, 2, shape_33);
    assert_int_equal(ivon_checkpoint_create(&sink, "a.onnx", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "a.onnx: an ONNX file holds no basis_input, as 'w' has: "
                                       "write another format, and convert that");
    assert_false(ivon_checkpoint_carries("a.onnx", &options, &checkpoint.tensors[0]));
    for (size_t i = 0; i < OUTPUTS; i++)
        assert_true(ivon_checkpoint_carries(outputs[i], &options, &checkpoint.tensors[0]));
    release_checkpoint(&checkpoint);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(structures_are_read_as_written),
        TEST(every_part_is_enough),
        TEST(version_1_is_as_before),
        TEST(other_formats_refuse_them),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
