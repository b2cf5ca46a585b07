/* What names and neighbours make a buffer, alike in every format, and that it comes back as one. */
#define _GNU_SOURCE
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

static const char *const paths[] = {"a.safetensors", "b.safetensors.index.json", "c.npz", "d.h5"};
enum { PATHS = sizeof paths / sizeof *paths };

static const struct {
    const char *name;
    bool buffer;
    int rank;
    int64_t shape[4];
} cases[] = {
    /* Running statistics, as frameworks and their wrappers call them. */
    {"bn1.weight", false, 1, {3}},
    {"bn1.bias", false, 1, {3}},
    {"bn1.running_mean", true, 1, {3}},
    {"bn1.running_var", true, 1, {3}},
    {"bn1.num_batches_tracked", true, 0, {0}},
    {"module.norm.running_var", true, 1, {3}},
    {"running_mean", true, 1, {3}},
    {"layer/bn/running_var", true, 1, {3}},
    {"layer1_0_bn1_running_mean", true, 1, {3}},
    {"bn/moving_mean:0", true, 1, {3}},
    {"bn/moving_variance", true, 1, {3}},
    {"batch_stats/bn/mean", true, 1, {3}},
    {"batch_stats.bn.var", true, 1, {3}},
    {"params/bn/mean", false, 1, {3}},
    {"running_means", false, 1, {3}},
    {"long_running_mean_head.weight", false, 1, {3}},
    {"overrunning_mean", false, 1, {3}},
    {"running_var.weight", false, 1, {3}},
    {"batch_stats_net.weight", false, 1, {3}},
    /* Tables that a module computes once. */
    {"rotary_emb.inv_freq", true, 1, {3}},
    {"inv_freq_head.weight", false, 1, {3}},
    {"h.0.attn.bias", true, 4, {1, 1, 2, 2}},
    {"h.0.attn.c_attn.weight", false, 2, {2, 2}},
    {"h.1.attn.bias", false, 4, {1, 1, 2, 2}}, /* nothing beside it */
    {"h.2.attn.bias", false, 1, {2}},
    {"h.2.attn.c_attn.weight", false, 2, {2, 2}},
    {"h.3.attn.bias", false, 4, {1, 1, 2, 3}},
    {"h.3.attn.c_attn.weight", false, 2, {2, 2}},
    {"g.attention.bias", true, 4, {1, 1, 2, 2}},
    {"g.attention.masked_bias", true, 0, {0}},
    {"g.dense.bias", false, 4, {1, 1, 2, 2}},
    {"g.dense.c_attn.weight", false, 2, {2, 2}},
    /* Spectral norm's vectors, beside what they belong to, and not without it. */
    {"s.weight_orig", false, 2, {2, 2}},
    {"s.weight_u", true, 1, {2}},
    {"s.weight_v", true, 1, {2}},
    {"t.weight_u", false, 1, {2}},
    {"p.parametrizations.weight.original", false, 2, {2, 2}},
    {"p.parametrizations.weight.0._u", true, 1, {2}},
    {"p.parametrizations.weight.0._v", true, 1, {2}},
    {"q.0._v", false, 1, {2}},
};
enum { CASES = sizeof cases / sizeof *cases };

/* All cases as means, or as what they are. */
static void list_cases(struct checkpoint *checkpoint, bool as_means)
{
    for (size_t i = 0; i < CASES; i++)
        add_tensor(checkpoint, cases[i].buffer && !as_means ? IVON_BUFFER : IVON_MEAN,
                   cases[i].name, i % 2 ? IVON_F32 : IVON_F64, cases[i].rank, cases[i].shape);
}

static void names_tell_alike_in_every_format(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 1};
    list_cases(&checkpoint, true);
    for (size_t p = 0; p < PATHS; p++) {
        write_checkpoint(&checkpoint, paths[p], 2);
        struct ivon_source *source = open_checkpoint(paths[p]);
        assert_int_equal(ivon_source_tensor_count(source), CASES);
        for (size_t i = 0; i < CASES; i++) {
            enum ivon_part part = cases[i].buffer ? IVON_BUFFER : IVON_MEAN;
            if (ivon_source_find(source, part, cases[i].name) < 0)
                fail_msg("%s: '%s'", paths[p], cases[i].name);
        }
        ivon_source_close(source);
    }
    release_checkpoint(&checkpoint);
}

/* A file that needs no prefix has none: other programs look for the bare names. */
static void buffers_keep_their_names(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 2};
    list_cases(&checkpoint, false);
    add_tensor(&checkpoint, IVON_BUFFER, "steps", IVON_I64, 0, NULL);
    for (size_t p = 0; p < PATHS; p++) {
        size_t size;
        write_checkpoint(&checkpoint, paths[p], 2);
        check_checkpoint(&checkpoint, paths[p]);
        unsigned char *bytes = load_file(paths[p], &size);
        assert_int_equal(memmem(bytes, size, "buffers", 7) != NULL, strcmp(paths[p], "d.h5") == 0);
        free(bytes);
    }
    release_checkpoint(&checkpoint);
}

/* A buffer that its name does not tell needs a prefix, as all do beside a Hessian. */
static void others_are_prefixed(void **state)
{
    for (int hessian = 0; hessian < 2; hessian++) {
        struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 3};
        add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
        add_tensor(&checkpoint, IVON_BUFFER, "bn.running_mean", IVON_F32, 1, (const int64_t[]){3});
        if (hessian)
            add_tensor(&checkpoint, IVON_HESSIAN, "w", IVON_F32, 1, (const int64_t[]){3});
        else
            add_tensor(&checkpoint, IVON_BUFFER, "scale", IVON_F32, 1, (const int64_t[]){3});
        for (size_t p = 0; p < PATHS; p++) {
            size_t size;
            write_checkpoint(&checkpoint, paths[p], 2);
            check_checkpoint(&checkpoint, paths[p]);
            unsigned char *bytes = load_file(paths[p], &size);
            assert_non_null(memmem(bytes, size, "buffers", 7));
            free(bytes);
        }
        release_checkpoint(&checkpoint);
        assert_int_equal(clean_directory(state), 0);
    }
}

/* What was trained is a parameter, whatever it is called. */
static void a_hessian_makes_a_parameter(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 4};
    add_tensor(&checkpoint, IVON_MEAN, "a.running_mean", IVON_F32, 1, (const int64_t[]){3});
    add_tensor(&checkpoint, IVON_HESSIAN, "a.running_mean", IVON_F32, 1, (const int64_t[]){3});
    add_tensor(&checkpoint, IVON_MEAN, "b.inv_freq", IVON_F32, 1, (const int64_t[]){3});
    add_tensor(&checkpoint, IVON_MOMENTUM, "b.inv_freq", IVON_F32, 1, (const int64_t[]){3});
    for (size_t p = 0; p < PATHS; p++) {
        write_checkpoint(&checkpoint, paths[p], 2);
        check_checkpoint(&checkpoint, paths[p]);
    }
    release_checkpoint(&checkpoint);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(names_tell_alike_in_every_format),
        TEST(buffers_keep_their_names),
        TEST(others_are_prefixed),
        TEST(a_hessian_makes_a_parameter),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
