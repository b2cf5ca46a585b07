/* One process alone, and what the environment tells of launchers; several are in tests/mpi. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/ranks.h"
#include "core/ranks/launcher.h"

/* NAME=VALUE, as a launcher sets them. */
static const char *const *environment;

static char *variable(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; environment[i]; i++)
        if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=')
            return (char *)(uintptr_t)environment[i] + length + 1;
    return NULL;
}

struct started {
    const char *environment[8];
    const char *engine;
    long rank, count;
    int code;
};

static void launchers_are_known(void **state)
{
    (void)state;
    static const struct started all[] = {
        {{NULL}, NULL, 0, 1, 0},
        {{"OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=8", "PMIX_RANK=3"}, "openmpi", 3, 8, 0},
        {{"PMI_RANK=0", "PMI_SIZE=2"}, "mpich", 0, 2, 0},
        {{"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4", "PMIX_RANK=1"}, "openmpi", 1, 4, 0},
        {{"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4", "PMI_RANK=1", "PMI_SIZE=4"},
         "mpich",
         1,
         4,
         0},
        {{"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4"}, NULL, 1, 4, IVON_ERROR_ARGUMENT},
        {{"SLURM_PROCID=0", "SLURM_NTASKS=4"}, NULL, 0, 1, 0}, /* the script of a batch itself */
        {{"SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=1"}, NULL, 0, 1, 0},
        {{"PMI_RANK=0", "PMI_SIZE=2", "IVON_MPI=off"}, NULL, 0, 1, 0},
        {{"PMI_RANK=1", "PMI_SIZE=2", "IVON_MPI=openmpi"}, "openmpi", 1, 2, 0},
        {{"IVON_MPI=mpich"}, NULL, 0, 1, 0},
        {{"IVON_MPI=lam", "PMI_RANK=1", "PMI_SIZE=2"}, NULL, 1, 2, IVON_ERROR_ARGUMENT},
        {{"PMI_RANK=x", "PMI_SIZE=2"}, NULL, 0, 1, 0},
        {{"PMI_RANK=2", "PMI_SIZE=2"}, NULL, 0, 1, 0},
        {{"PMI_RANK=", "PMI_SIZE=99999999999999999999"}, NULL, 0, 1, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct launcher launcher;
        struct ivon_error error = {0};
        environment = all[i].environment;
        assert_int_equal(launcher_find(&launcher, variable, &error), all[i].code);
        assert_int_equal(launcher.rank, all[i].rank);
        assert_int_equal(launcher.count, all[i].count);
        if (all[i].engine)
            assert_string_equal(launcher.engine, all[i].engine);
        else if (!all[i].code && all[i].count > 1)
            assert_null(launcher.engine);
    }
}

static void patience_is_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *environment[2];
        long patience;
    } all[] = {{{NULL}, 60}, /* else −1: refused */
               {{"IVON_MPI_TIMEOUT=0"}, 0},
               {{"IVON_MPI_TIMEOUT=86400"}, 86400},
               {{"IVON_MPI_TIMEOUT=86401"}, -1},
               {{"IVON_MPI_TIMEOUT=-1"}, -1},
               {{"IVON_MPI_TIMEOUT="}, -1},
               {{"IVON_MPI_TIMEOUT=1m"}, -1}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct launcher launcher;
        struct ivon_error error = {0};
        environment = all[i].environment;
        assert_int_equal(launcher_find(&launcher, variable, &error),
                         all[i].patience < 0 ? IVON_ERROR_ARGUMENT : 0);
        if (all[i].patience >= 0)
            assert_int_equal(launcher.patience, all[i].patience);
    }
}

static int take(void *context, int rank, struct ivon_error *error)
{
    ++*(int *)context;
    return ivon_error_set(error, IVON_ERROR_IO, "block of rank %d", rank);
}

static void one_process_is_all_ranks(void **state)
{
    (void)state;
    const double a[] = {1, 2}, b[] = {1e17, 3}, *const lanes[] = {a, b, a};
    const float c[] = {1}, *const narrow[] = {c, c};
    double sum[] = {1, 1};
    float small[] = {1};
    int data = 5, copy = 0, taken = 0;
    struct ivon_error error = {.code = 17};
    assert_int_equal(ivon_ranks_rank(NULL), 0);
    assert_int_equal(ivon_ranks_count(NULL), 1);
    assert_false(ivon_ranks_failed(NULL));
    assert_true(ivon_ranks_recover(NULL));
    assert_int_equal(ivon_ranks_agree(NULL, 0, &error), 0);
    assert_int_equal(ivon_ranks_agree(NULL, -3, &error), -3);
    assert_int_equal(ivon_ranks_share(NULL, &data, sizeof data, &error), 0);
    assert_int_equal(ranks_barrier(NULL, &error), 0);
    assert_int_equal(ranks_broadcast(NULL, 0, &data, sizeof data, &error), 0);
    assert_int_equal(ranks_exchange(NULL, &data, sizeof data, &copy, &error), 0);
    assert_int_equal(copy, 5);
    assert_int_equal(ranks_sum_doubles(NULL, sum, lanes, 3, 2, &error), 0);
    assert_true(sum[0] == ((1.0 + 1) + 1e17) + 1 && sum[1] == 8);
    assert_int_equal(ranks_sum_floats(NULL, small, narrow, 2, 1, &error), 0);
    assert_true(small[0] == 3);
    for (int everywhere = 0; everywhere < 2; everywhere++) {
        struct ranks_bytes all;
        assert_int_equal(
            (everywhere ? ranks_gather_all : ranks_gather)(NULL, "abc", 3, &all, &error), 0);
        assert_true(all.size == 3 && all.sizes[0] == 3);
        assert_memory_equal(all.data, "abc", 3);
        ranks_bytes_release(&all);
    }
    assert_int_equal(error.code, 17); /* untouched */
    const struct ranks_round round = {.present = 1, .take = take, .context = &taken};
    assert_int_equal(ranks_round_take(NULL, &round, -2, &error), -2);
    assert_int_equal(taken, 0);
    assert_int_equal(ranks_round_take(NULL, &round, 0, &error), IVON_ERROR_IO);
    assert_int_equal(taken, 1);
    ranks_send(NULL, 0, &data, 0);
    ranks_receive(NULL, 0, &data, 0);
    ivon_ranks_abort(NULL, 3);
    ivon_ranks_close(NULL);
}

static void without_a_launcher_there_are_none(void **state)
{
    (void)state;
    struct ivon_ranks *ranks;
    struct ivon_error error = {0};
    bool first = false;
    setenv("IVON_MPI", "off", 1);
    assert_int_equal(ivon_ranks_open(&ranks, &first, &error), 0);
    assert_null(ranks);
    assert_true(first);
    setenv("IVON_MPI", "none", 1);
    assert_int_equal(ivon_ranks_open(&ranks, &first, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "IVON_MPI is 'none', expected openmpi, mpich or off");
}

/* This test lies in a folder that has no plug-ins. */
static void a_missing_plugin_is_refused(void **state)
{
    (void)state;
    struct ivon_ranks *ranks;
    struct ivon_error error = {0};
    bool first = true;
    setenv("IVON_MPI", "mpich", 1);
    setenv("PMI_RANK", "1", 1);
    setenv("PMI_SIZE", "2", 1);
    assert_int_equal(ivon_ranks_open(&ranks, &first, &error), IVON_ERROR_INPUT);
    assert_false(first);
    assert_non_null(strstr(error.message, "mpirun of MPICH started 2 processes"));
    assert_non_null(strstr(error.message, "/ivon/ranks-mpich.so"));
}

static void ranges_cover_all(void **state)
{
    (void)state;
    const struct ranks_range range = ranks_range(NULL, 7);
    assert_true(range.first == 0 && range.end == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(launchers_are_known),
                                       cmocka_unit_test(patience_is_bounded),
                                       cmocka_unit_test(one_process_is_all_ranks),
                                       cmocka_unit_test(without_a_launcher_there_are_none),
                                       cmocka_unit_test(a_missing_plugin_is_refused),
                                       cmocka_unit_test(ranges_cover_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
