/* A second file as the Hessian of a first. */
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

static const int64_t three[] = {3}, four[] = {4};

static struct checkpoint model(void)
{
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 1};
    checkpoint.header.step = 12;
    checkpoint.header.creator = "model";
    add_tensor(&checkpoint, IVON_MEAN, "b", IVON_F16, 1, three);
    add_tensor(&checkpoint, IVON_BUFFER, "mask", IVON_BOOL, 1, three);
    add_tensor(&checkpoint, IVON_MEAN, "a", IVON_F64, 1, four);
    return checkpoint;
}

static void the_second_files_tensors_are_hessians(void **state)
{
    (void)state;
    static const char *const models[] = {"m.h5", "m.npz", "m.safetensors"};
    static const char *const hessians[] = {"h.safetensors", "h.h5", "h.npz"};
    for (int i = 0; i < 6; i++) {
        enum ivon_part part = i < 3 ? IVON_MEAN : IVON_HESSIAN;
        struct checkpoint first = model(), second = {.header = full_header(), .seed = 2};
        struct checkpoint both = {.header = first.header};
        both.header.ess = second.header.ess;
        both.header.weight_decay = second.header.weight_decay;
        add_tensor(&second, part, "a", IVON_F32, 1, four)->ess = i < 3 ? NAN : 5;
        add_tensor(&second, IVON_BUFFER, "not taken", IVON_F32, 1, four);
        add_tensor(&second, part, "b", IVON_F32, 1, three);
        for (size_t k = 0; k < 5; k++) {
            const struct checkpoint *from = k < 3 ? &first : &second;
            size_t index = k < 3 ? k : k == 3 ? 2 : 0; /* the Hessians in the means' order */
            both.tensors[k] = from->tensors[index];
            both.data[k] = from->data[index];
            both.count++;
            if (k < 3)
                continue;
            both.tensors[k].part = IVON_HESSIAN;
            both.tensors[k].weight_decay = second.header.weight_decay;
            both.tensors[k].ess = i >= 3 && k == 4 ? 5 : second.header.ess;
        }
        write_checkpoint(&first, models[i % 3], 2);
        write_checkpoint(&second, hessians[i % 3], 2);
        const struct ivon_open_options options = {.size = sizeof options,
                                                  .hessian = hessians[i % 3]};
        struct ivon_source *source = NULL;
        struct ivon_error error = {0};
        if (ivon_checkpoint_open(&source, models[i % 3], &options, &error))
            fail_msg("%s", error.message);
        assert_string_equal(ivon_source_path(source), models[i % 3]);
        assert_true(ivon_source_header(source)->ess == both.header.ess);
        assert_int_equal(ivon_source_header(source)->step, 12);
        assert_string_equal(ivon_source_header(source)->creator, "model");
        assert_int_equal(ivon_source_tensor_count(source), 5);
        for (size_t k = 0; k < 5; k++) {
            ptrdiff_t at = ivon_source_find(source, both.tensors[k].part, both.tensors[k].name);
            assert_true(at >= 0);
            check_tensor(source, (size_t)at, &both.tensors[k], both.data[k], 0);
        }
        ivon_source_close(source);
        release_checkpoint(&first);
        release_checkpoint(&second);
        assert_int_equal(clean_directory(state), 0);
    }
}

static void refuses_files_that_do_not_match(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *c;
        bool longer, with_hessian;
        const char *message;
    } cases[] = {
        {"a", "b", "c", false, false,
         "h.safetensors: has 1 tensors that are no means of 'm.safetensors': 'c'"},
        {"mask", "c", "b", false, false,
         "h.safetensors: has 2 tensors that are no means of 'm.safetensors': 'c', 'mask'"},
        {"a", NULL, NULL, false, false,
         "h.safetensors: lacks 1 means of 'm.safetensors' (are they buffers?): 'b'"},
        {"a", "b", NULL, true, false,
         "h.safetensors: tensor 'a': has another shape than in 'm.safetensors'"},
        {"a", "b", NULL, false, true,
         "m.safetensors: has Hessians of its own, and 'h.safetensors' is to have them"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const names[] = {cases[i].a, cases[i].b, cases[i].c};
        struct checkpoint first = model();
        struct checkpoint second = {.header = ivon_header_empty(), .seed = 3};
        struct ivon_source *source = NULL;
        struct ivon_error error = {.message = "none"};
        const struct ivon_open_options options = {.size = sizeof options,
                                                  .hessian = "h.safetensors"};
        if (cases[i].with_hessian)
            add_tensor(&first, IVON_HESSIAN, "b", IVON_F32, 1, three);
        for (int k = 0; k < 3; k++)
            if (names[k])
                add_tensor(&second, IVON_MEAN, names[k], IVON_F32, 1,
                           k || cases[i].longer ? three : four);
        write_checkpoint(&first, "m.safetensors", 2);
        write_checkpoint(&second, "h.safetensors", 2);
        assert_int_equal(ivon_checkpoint_open(&source, "m.safetensors", &options, &error),
                         IVON_ERROR_DATA);
        assert_string_equal(error.message, cases[i].message);
        assert_null(source);
        release_checkpoint(&first);
        release_checkpoint(&second);
        assert_int_equal(clean_directory(state), 0);
    }
}

static void both_files_have_to_be_there(void **state)
{
    (void)state;
    struct checkpoint first = model();
    struct ivon_source *source = NULL;
    struct ivon_error error = {.message = "none"};
    const struct ivon_open_options options = {.size = sizeof options, .hessian = "h.npz"};
    write_checkpoint(&first, "m.safetensors", 2);
    assert_int_equal(ivon_checkpoint_open(&source, "m.safetensors", &options, &error),
                     IVON_ERROR_INPUT);
    assert_string_equal(error.message, "h.npz: cannot open it: No such file or directory");
    assert_null(source);
    release_checkpoint(&first);
}

/* An output like a joined source is like its first. */
static void a_joined_source_lends_its_order(void **state)
{
    (void)state;
    struct checkpoint first = model(), second = {.header = ivon_header_empty(), .seed = 4};
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    first.header.step = -1;
    add_tensor(&second, IVON_MEAN, "a", IVON_F32, 1, four);
    add_tensor(&second, IVON_MEAN, "b", IVON_F32, 1, three);
    write_checkpoint(&first, "m.safetensors.index.json", 2);
    write_checkpoint(&second, "h.npz", 2);
    const struct ivon_open_options options = {.size = sizeof options, .hessian = "h.npz"};
    assert_int_equal(ivon_checkpoint_open(&source, "m.safetensors.index.json", &options, &error),
                     0);
    const struct ivon_create_options create = {.size = sizeof create, .like = source};
    add_tensor(&first, IVON_HESSIAN, "b", IVON_F32, 1, three);
    first.options = &create;
    write_checkpoint(&first, "n.safetensors.index.json", 2);
    check_checkpoint(&first, "n.safetensors.index.json");
    assert_int_equal(access("n-00001-of-00001.safetensors", F_OK), 0);
    ivon_source_close(source);
    release_checkpoint(&first);
    release_checkpoint(&second);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(the_second_files_tensors_are_hessians),
        TEST(refuses_files_that_do_not_match),
        TEST(both_files_have_to_be_there),
        TEST(a_joined_source_lends_its_order),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
