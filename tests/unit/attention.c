/* Attention against the formula in double, over sizes of several tiles; its derivatives; what it
   refuses. */
#include "operator.h"

enum { Q, K, V, MASK, PAST_K, PAST_V };

struct problem {
    int64_t examples, heads, key_heads, queries, past, keys, size, value_size;
    bool by_row, causal;
    int64_t left;
    double softcap;
    int mask; /* 0: none, 1: float per head, 2: float per key, 3: boolean per example and score */
};

/* Element (example, head, row, column) of an operand. */
static double element(const struct net_tensor *x, bool by_row, const int64_t at[4], int64_t heads,
                      int64_t rows, int64_t size)
{
    int64_t index = by_row ? ((at[0] * rows + at[2]) * heads + at[1]) * size + at[3]
                           : ((at[0] * heads + at[1]) * rows + at[2]) * size + at[3];
    return (double)((const float *)x->data)[index];
}

/* The same of keys or values, past ones first. */
static double key_element(const struct problem *p, const struct trial *trial, int input,
                          const int64_t at[4], int64_t size)
{
    if (at[2] < p->past)
        return element(&trial->inputs[input == K ? PAST_K : PAST_V], false, at, p->key_heads,
                       p->past, size);
    int64_t place[] = {at[0], at[1], at[2] - p->past, at[3]};
    return element(&trial->inputs[input], p->by_row, place, p->key_heads, p->keys - p->past, size);
}

/* The score of a key for a query; -INFINITY where it is not seen. */
static double score(const struct problem *p, const struct trial *trial, const int64_t query[3],
                    int64_t key)
{
    const void *mask = trial->inputs[MASK].data;
    int64_t position = query[2] + p->past;
    double sum = 0;
    for (int64_t i = 0; i < p->size; i++) {
        int64_t of_query[] = {query[0], query[1], query[2], i};
        int64_t of_key[] = {query[0], query[1] / (p->heads / p->key_heads), key, i};
        sum += element(&trial->inputs[Q], p->by_row, of_query, p->heads, p->queries, p->size) *
               key_element(p, trial, K, of_key, p->size);
    }
    sum /= sqrt((double)p->size);
    if (p->softcap != 0)
        sum = p->softcap * tanh(sum / p->softcap);
    if ((p->causal && key > position) || (p->left >= 0 && key < position - p->left))
        return -INFINITY;
    int64_t at = (query[0] * p->queries + query[2]) * p->keys + key;
    if (p->mask == 3)
        return ((const unsigned char *)mask)[at] ? sum : -INFINITY;
    if (p->mask == 1)
        sum += (double)((const float *)mask)[(query[1] * p->queries + query[2]) * p->keys + key];
    if (p->mask == 2)
        sum += (double)((const float *)mask)[key];
    return sum;
}

/* y of one query of one head. */
static void attend(const struct problem *p, const struct trial *trial, const int64_t query[3],
                   double *y)
{
    double *s = calloc((size_t)p->keys + 1, sizeof *s), largest = -INFINITY, total = 0;
    for (int64_t j = 0; j < p->keys; j++) {
        s[j] = score(p, trial, query, j);
        largest = fmax(largest, s[j]);
    }
    for (int64_t i = 0; i < p->value_size; i++)
        y[i] = 0;
    for (int64_t j = 0; j < p->keys && largest > -INFINITY; j++) {
        double e = exp(s[j] - largest);
        total += e;
        for (int64_t i = 0; i < p->value_size; i++) {
            int64_t at[] = {query[0], query[1] / (p->heads / p->key_heads), j, i};
            y[i] += e * key_element(p, trial, V, at, p->value_size);
        }
    }
    for (int64_t i = 0; i < p->value_size && total > 0; i++)
        y[i] /= total;
    free(s);
}

static struct net_tensor *add_mask(const struct problem *p, struct trial *trial)
{
    int64_t per_head[] = {1, p->heads, p->queries, p->keys}, per_key[] = {p->keys};
    int64_t per_example[] = {p->examples, 1, p->queries, p->keys};
    if (p->mask == 1)
        return trial_floats(trial, 4, per_head, NULL, -1, 1);
    if (p->mask == 2)
        return trial_floats(trial, 1, per_key, NULL, -1, 1);
    if (p->mask == 0) {
        trial_skip(trial);
        return NULL;
    }
    struct net_tensor *mask = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = mask;
    assert_int_equal(net_tensor_set(mask, NET_BOOLEAN, 4, per_example, NULL), 0);
    assert_int_equal(net_tensor_allocate(mask, NULL), 0);
    for (size_t i = 0; i < mask->count; i++) /* none of some queries' keys */
        ((unsigned char *)mask->data)[i] = i / (size_t)p->keys % 7 &&
                                           trial_random(trial, 0, 1) > 0.3F;
    return mask;
}

static void begin(const struct problem *p, struct trial *trial, uint64_t seed)
{
    int64_t fresh = p->keys - p->past;
    int64_t row[][3] = {{p->examples, p->queries, p->heads * p->size},
                        {p->examples, fresh, p->key_heads * p->size},
                        {p->examples, fresh, p->key_heads * p->value_size}};
    int64_t head[][4] = {{p->examples, p->heads, p->queries, p->size},
                         {p->examples, p->key_heads, fresh, p->size},
                         {p->examples, p->key_heads, fresh, p->value_size}};
    trial_begin(trial, "Attention", 1);
    trial->state += seed * 104729;
    if (p->by_row) {
        trial_int(trial, "q_num_heads", p->heads);
        trial_int(trial, "kv_num_heads", p->key_heads);
    }
    trial_int(trial, "is_causal", p->causal);
    trial_int(trial, "left_window_size", p->left);
    trial_number(trial, "softcap", p->softcap);
    for (int i = 0; i < 3; i++)
        trial_floats(trial, p->by_row ? 3 : 4, p->by_row ? row[i] : head[i], NULL, -1, 1);
    add_mask(p, trial);
    if (p->past) {
        int64_t keys[] = {p->examples, p->key_heads, p->past, p->size};
        int64_t values[] = {p->examples, p->key_heads, p->past, p->value_size};
        trial_floats(trial, 4, keys, NULL, -1, 1);
        trial_floats(trial, 4, values, NULL, -1, 1);
    }
}

/*
 * A score is a sum of `size` products below 1 over √size: within (size + 2) 2^-24 √size; a cap and
 * a mask add 8 2^-24. A probability has twice that as relative error, and 4 2^-24 from exp and the
 * quotient; y sums up to `keys` products of probabilities, whose sum is 1, and numbers below 1.
 */
static double bound(const struct problem *p)
{
    double score = (double)(p->size + 2) * sqrt((double)p->size) + 8;
    return (2 * score + 4 + (double)p->keys + 1) * 0x1p-24;
}

static void check_values(const struct problem *p, const struct trial *trial, uint64_t seed)
{
    double *y = calloc((size_t)p->value_size + 1, sizeof *y);
    for (int64_t e = 0; e < p->examples; e++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t q = 0; q < p->queries; q++) {
                attend(p, trial, (int64_t[]){e, h, q}, y);
                for (int64_t i = 0; i < p->value_size; i++) {
                    int64_t at[] = {e, h, q, i};
                    double found = element(&trial->outputs[0], p->by_row, at, p->heads, p->queries,
                                           p->value_size);
                    if (!(fabs(found - y[i]) <= bound(p)))
                        fail_msg("seed %llu: %lld %lld %lld %lld is %.9g, expected %.9g",
                                 (unsigned long long)seed, (long long)e, (long long)h, (long long)q,
                                 (long long)i, found, y[i]);
                }
            }
    free(y);
}

static int64_t pick(uint64_t *state, int64_t low, int64_t high)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return low + (int64_t)((*state >> 33) % (uint64_t)(high - low + 1));
}

/* Keys from a few to more than a tile of the fewest queries holds. */
static void agrees_with_the_formula(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t state = seed * 7919;
        struct problem p = {.key_heads = pick(&state, 1, 2), .examples = pick(&state, 1, 2)};
        bool large = seed % 10 == 0;
        p.heads = p.key_heads * pick(&state, 1, 2);
        p.queries = large ? pick(&state, 60, 80) : pick(&state, 1, 20);
        p.past = seed % 3 == 0 ? pick(&state, 1, 9) : 0;
        p.keys = p.past + (large ? pick(&state, 900, 1200) : pick(&state, 1, 40));
        p.size = pick(&state, 1, 9);
        p.value_size = pick(&state, 1, 9);
        p.by_row = seed % 2;
        p.causal = seed / 2 % 2;
        p.left = seed / 4 % 2 ? pick(&state, 0, 20) : -1;
        p.softcap = seed / 8 % 2 ? 1.5 : 0;
        p.mask = (int)(seed % 4);
        struct trial trial;
        begin(&p, &trial, seed);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_values(&p, &trial, seed);
        /* Tangents are below 8: a difference over a step of 1/32 rounds to bound / step, and is off
           by step² times a third derivative below 8. The identity sums products of that many
           terms. */
        if (!large)
            trial_check_derivatives(&trial, 63, 0x1p-5, 64 * bound(&p) + 0x1p-7, 8 * bound(&p));
        trial_end(&trial);
    }
}

/* A bias of scores that all examples share, as of relative positions: an example alone adds what it
   adds among others; sums in double, rounded once. */
static void examples_are_apart(void **unused)
{
    (void)unused;
    struct problem p = {.examples = 4,
                        .heads = 2,
                        .key_heads = 1,
                        .queries = 5,
                        .keys = 6,
                        .size = 3,
                        .value_size = 4,
                        .left = -1,
                        .mask = 1};
    struct trial trial;
    begin(&p, &trial, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial_check_examples(&trial, MASK, 1U << MASK, 4, 0x1p-20);
    trial_end(&trial);
}

#define F(rank_, ...)                                                                              \
    {                                                                                              \
        .type = NET_FLOAT, .rank = (rank_), .shape = { __VA_ARGS__ }                               \
    }

static void refuses(void **unused)
{
    (void)unused;
    const int64_t huge = (int64_t)1 << 33;
    const struct {
        const char *expected;
        int64_t heads, key_heads;
        struct net_tensor inputs[6];
    } cases[] = {
        {"3 or 4 dimensions", 1, 1, {F(2, 1, 2), F(2, 1, 2), F(2, 1, 2)}},
        {"equal examples", 1, 1, {F(3, 1, 2, 4), F(3, 2, 2, 4), F(3, 1, 2, 4)}},
        {"q_num_heads 0", 0, 1, {F(3, 1, 2, 4), F(3, 1, 2, 4), F(3, 1, 2, 4)}},
        {"q_num_heads 3", 3, 1, {F(3, 1, 2, 4), F(3, 1, 2, 4), F(3, 1, 2, 4)}},
        {"a multiple of", 0, 0, {F(4, 1, 3, 2, 4), F(4, 1, 2, 2, 4), F(4, 1, 2, 2, 4)}},
        {"a multiple of", 0, 0, {F(4, 1, 3, 2, 4), F(4, 1, 0, 2, 4), F(4, 1, 0, 2, 4)}},
        {"queries of size", 0, 0, {F(4, 1, 2, 2, 4), F(4, 1, 2, 2, 3), F(4, 1, 2, 2, 4)}},
        {"2 values", 0, 0, {F(4, 1, 2, 2, 4), F(4, 1, 2, 3, 4), F(4, 1, 2, 2, 4)}},
        {"too large", 0, 0, {F(4, 1, 1, 2, 4), F(4, 1, 1, huge, 4), F(4, 1, 1, huge, 4)}},
        {"too large", 0, 0, {F(4, 0, 1, 2, huge), F(4, 0, 1, 2, huge), F(4, 0, 1, 2, 4)}},
        {"a mask of shape",
         0,
         0,
         {F(4, 1, 1, 2, 4), F(4, 1, 1, 3, 4), F(4, 1, 1, 3, 4), F(2, 3, 2)}},
        {"a mask of shape", 0, 0, {F(4, 1, 1, 2, 4), F(4, 1, 1, 3, 4), F(4, 1, 1, 3, 4), F(1, 4)}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        struct ivon_error error = {0};
        trial_begin(&trial, "Attention", 1);
        if (cases[i].heads || cases[i].key_heads) {
            trial_int(&trial, "q_num_heads", cases[i].heads);
            trial_int(&trial, "kv_num_heads", cases[i].key_heads);
        }
        for (size_t j = 0; j < 6 && cases[i].inputs[j].rank; j++) {
            trial.inputs[j] = cases[i].inputs[j];
            trial.input_list[j] = &trial.inputs[j];
            trial.node.input_count++;
        }
        assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
        if (!strstr(error.message, cases[i].expected))
            fail_msg("'%s' does not hold '%s'", error.message, cases[i].expected);
        trial_end(&trial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_the_formula),
                                       cmocka_unit_test(examples_are_apart),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
