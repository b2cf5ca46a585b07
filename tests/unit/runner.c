/* Tiles of a network over examples: each example once, nothing out of date, within the bounds. */
#include "net/runner.h"

#include "sensitivity_problem.h"

enum { TILE = 4 };

static int any_output(void *context, const char *network, const struct net_tensor *output,
                      size_t tile, struct ivon_error *error)
{
    (void)network;
    (void)error;
    assert_int_equal(output->shape[0], (int64_t)tile);
    ++*(int *)context;
    return 0;
}

struct fixture {
    struct problem problem;
    struct feed feed;
    struct runner runner;
    const float *parameters[2];
    int checks;
};

/* A linear network, W x + b. */
static void begin(struct fixture *fixture, enum runner_mode mode)
{
    struct ivon_error error = {0};
    *fixture = (struct fixture){.checks = 0};
    problem_begin(&fixture->problem, IVON_CATEGORICAL, false, 0);
    struct ivon_network *network = fixture->problem.model.network;
    assert_int_equal(network->parameter_count, 2);
    for (size_t p = 0; p < 2; p++)
        fixture->parameters[p] = fixture->problem.model.data[network->parameters[p]];
    assert_int_equal(feed_open(&fixture->feed, network, fixture->problem.examples, NULL, 0, &error),
                     0);
    static const bool wanted[2] = {true, true};
    fixture->runner = (struct runner){.network = network,
                                      .mode = mode,
                                      .wanted = wanted,
                                      .check = any_output,
                                      .check_context = &fixture->checks};
}

static void end(struct fixture *fixture)
{
    runner_stop(&fixture->runner);
    feed_close(&fixture->feed);
    problem_end(&fixture->problem);
}

/* Sums of five products in binary32 and one addition: 6 ε of their absolute values, here below
   5 + 1. */
static void check_row(const struct problem *problem, size_t example, const float *f)
{
    for (size_t c = 0; c < CLASSES; c++) {
        double sum = (double)problem->b2[c];
        for (size_t i = 0; i < INPUTS; i++)
            sum += (double)problem->x[example * INPUTS + i] * (double)problem->w2[i * CLASSES + c];
        assert_true(fabs((double)f[c] - sum) <= 6 * 6.0 / (1 << 24));
    }
}

struct visits {
    const struct fixture *fixture;
    size_t first;
    int seen[EXAMPLES];
};

static int visit(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    (void)error;
    struct visits *visits = context;
    for (size_t i = 0; i < tile->count; i++) {
        size_t example = visits->first + tile->at + i;
        check_row(&visits->fixture->problem, example, tile->f + i * CLASSES);
        visits->seen[example]++;
    }
    return 0;
}

static void every_example_is_visited_once(void **state)
{
    (void)state;
    for (int mode = RUNNER_FORWARD; mode <= RUNNER_SUMS; mode++)
        for (int threads = 1; threads <= 3; threads++) {
            struct fixture fixture;
            struct ivon_error error = {0};
            begin(&fixture, (enum runner_mode)mode);
            assert_int_equal(runner_measure(&fixture.runner, &fixture.feed, TILE, &error), 0);
            assert_int_equal(runner_start(&fixture.runner, &fixture.feed, threads, &error), 0);
            assert_int_equal(runner_set(&fixture.runner, fixture.parameters, &error), 0);
            struct visits visits = {.fixture = &fixture};
            for (size_t first = 0; first < EXAMPLES; first += 10) {
                size_t count = EXAMPLES - first < 10 ? EXAMPLES - first : 10;
                visits.first = first;
                assert_int_equal(runner_load(&fixture.runner, &fixture.feed, first, count, &error),
                                 0);
                assert_int_equal(runner_tile_count(&fixture.runner, &fixture.feed),
                                 (count + TILE - 1) / TILE);
                assert_int_equal(
                    runner_run_block(&fixture.runner, &fixture.feed, visit, &visits, NULL, &error),
                    0);
            }
            for (size_t i = 0; i < EXAMPLES; i++)
                assert_int_equal(visits.seen[i], 1);
            assert_int_equal(fixture.checks, 1);
            end(&fixture);
        }
}

/* What a worker did last is not done again, until the data or the parameters are others. */
static void a_tile_is_run_again_when_it_is_out_of_date(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ivon_error error = {0};
    struct runner_tile tile;
    begin(&fixture, RUNNER_FORWARD);
    struct runner *runner = &fixture.runner;
    assert_int_equal(runner_measure(runner, &fixture.feed, TILE, &error), 0);
    assert_int_equal(runner_start(runner, &fixture.feed, 1, &error), 0);
    assert_int_equal(runner_set(runner, fixture.parameters, &error), 0);
    assert_int_equal(runner_load(runner, &fixture.feed, 0, EXAMPLES, &error), 0);
    assert_int_equal(runner_run_tile(runner, 0, &fixture.feed, 1, &tile, &error), 0);
    float before = tile.f[0];
    float *x = fixture.feed.inputs[0].data;
    x[TILE * INPUTS] += 1;
    assert_int_equal(runner_run_tile(runner, 0, &fixture.feed, 1, &tile, &error), 0);
    assert_true(tile.f[0] == before); /* the worker has that tile */
    assert_int_equal(runner_set(runner, fixture.parameters, &error), 0);
    assert_int_equal(runner_run_tile(runner, 0, &fixture.feed, 1, &tile, &error), 0);
    assert_true(tile.f[0] != before);
    assert_int_equal(runner_load(runner, &fixture.feed, 0, EXAMPLES, &error), 0);
    assert_int_equal(runner_run_tile(runner, 0, &fixture.feed, 1, &tile, &error), 0);
    assert_true(tile.f[0] == before);
    end(&fixture);
}

/* The bytes that a second example takes. */
static size_t bounds_each(struct runner *runner, const struct feed *feed, size_t one)
{
    struct ivon_error error = {0};
    assert_int_equal(runner_measure(runner, feed, 2, &error), 0);
    return runner->bytes - one;
}

static void a_tile_keeps_its_bounds(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ivon_error error = {0};
    struct runner_bounds bounds = {.examples = 8, .cache = SIZE_MAX / 256};
    begin(&fixture, RUNNER_EXAMPLES);
    struct runner *runner = &fixture.runner;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 8);
    bounds.examples = 1024; /* the first power of two that holds all 23 */
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 32);
    bounds.tiles = 8;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 2);
    bounds.tiles = 24; /* there are fewer examples */
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 1);
    bounds.tiles = 0;
    assert_int_equal(runner_measure(runner, &fixture.feed, 1, &error), 0);
    size_t one = runner->bytes;
    bounds.cache = 16 * bounds_each(runner, &fixture.feed, one);
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 16);
    bounds.cache--;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 8);
    bounds.cache = SIZE_MAX / 256;
    runner->memory = one + 7 * (bounds_each(runner, &fixture.feed, one));
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 8);
    assert_true(runner->bytes <= runner->memory);
    runner->memory--;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 4);
    runner->memory = one;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 1);
    bounds.batch = 64; /* more than memory holds */
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), IVON_ERROR_MEMORY);
    runner->memory = 0;
    bounds.batch = 3;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), 0);
    assert_int_equal(runner->tile, 3);
    runner->memory = one - 1;
    assert_int_equal(runner_choose_tile(runner, &fixture.feed, &bounds, &error), IVON_ERROR_MEMORY);
    end(&fixture);
}

struct sums {
    const float *x, *y;
    int seen[EXAMPLES];
};

static int visit_sums(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    (void)error;
    struct sums *sums = context;
    for (size_t i = 0; i < tile->count; i++) {
        size_t example = tile->at + i;
        float x = sums->x[example * 3] + sums->x[example * 3 + 1] + sums->x[example * 3 + 2];
        assert_true(tile->f[i] == x + sums->y[example]);
        sums->seen[example]++;
    }
    return 0;
}

/* A tile of several inputs that has to be filled up has each where vectors can load it, and all
   within the scratch. Small integers are summed exactly. */
static void inputs_lie_apart(void **state)
{
    (void)state;
    struct model model;
    struct table table;
    struct feed feed;
    struct ivon_error error = {0};
    float x[EXAMPLES * 3], y[EXAMPLES];
    int checks = 0;
    for (size_t i = 0; i < EXAMPLES; i++) {
        for (size_t c = 0; c < 3; c++)
            x[i * 3 + c] = (float)(i * 3 + c);
        y[i] = (float)(100 * i);
    }
    model_begin(&model);
    model_input(&model, "x", NET_FLOAT, SHAPE(-1, 3));
    model_input(&model, "y", NET_FLOAT, SHAPE(-1, 1));
    float *ones = model_parameter(&model, "ones", SHAPE(3, 1), 1, 1);
    for (size_t c = 0; c < 3; c++)
        ones[c] = 1;
    model_node(&model, "MatMul", "sum", "x", "ones");
    model_node(&model, "Add", "f", "sum", "y");
    model_output(&model, "f");
    model_bind(&model);
    struct ivon_examples *examples = open_table(&table, EXAMPLES, 1, (int64_t[]){3}, x, IVON_F32, 1,
                                                (int64_t[]){1}, y);
    assert_int_equal(feed_open(&feed, model.network, examples, NULL, 0, &error), 0);
    struct runner runner = {.network = model.network,
                            .mode = RUNNER_FORWARD,
                            .check = any_output,
                            .check_context = &checks};
    const float *parameters[] = {ones};
    struct sums sums = {.x = x, .y = y};
    assert_int_equal(runner_measure(&runner, &feed, TILE, &error), 0);
    assert_int_equal(runner_start(&runner, &feed, 1, &error), 0);
    assert_int_equal(runner_set(&runner, parameters, &error), 0);
    assert_int_equal(runner_load(&runner, &feed, 0, EXAMPLES, &error), 0);
    assert_int_equal(runner_run_block(&runner, &feed, visit_sums, &sums, NULL, &error), 0);
    for (size_t i = 0; i < EXAMPLES; i++)
        assert_int_equal(sums.seen[i], 1);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal((uintptr_t)runner.workers[0].inputs[i] % MODEL_ALIGNMENT, 0);
    runner_stop(&runner);
    feed_close(&feed);
    ivon_examples_close(examples);
    model_end(&model);
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    assert_int_equal(done, *(int *)context);
    return 1;
}

/* The meter is told of examples, and where it has no total only asks whether to stop. */
static void a_meter_stops_the_block(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ivon_error error = {0};
    begin(&fixture, RUNNER_FORWARD);
    assert_int_equal(runner_measure(&fixture.runner, &fixture.feed, TILE, &error), 0);
    assert_int_equal(runner_start(&fixture.runner, &fixture.feed, 1, &error), 0);
    assert_int_equal(runner_set(&fixture.runner, fixture.parameters, &error), 0);
    assert_int_equal(runner_load(&fixture.runner, &fixture.feed, 0, EXAMPLES, &error), 0);
    for (int total = 0; total <= EXAMPLES; total += EXAMPLES) {
        int expected = total ? TILE : 0;
        struct ivon_progress progress = {stop_at_once, &expected};
        struct meter meter;
        struct visits visits = {.fixture = &fixture};
        meter_init(&meter, &progress, (uint64_t)total);
        assert_int_equal(
            runner_run_block(&fixture.runner, &fixture.feed, visit, &visits, &meter, &error),
            IVON_ERROR_CANCELLED);
        meter_release(&meter);
        assert_int_equal(visits.seen[0], 1);
        assert_int_equal(visits.seen[TILE], 0);
    }
    end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_example_is_visited_once),
        cmocka_unit_test(a_tile_is_run_again_when_it_is_out_of_date),
        cmocka_unit_test(a_tile_keeps_its_bounds),
        cmocka_unit_test(inputs_lie_apart),
        cmocka_unit_test(a_meter_stops_the_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
