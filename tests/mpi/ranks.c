/* ranks NAME...: under a launcher, what ranks do together (core/ranks.h), checked by every rank, or
   a failure of some kind. Exits with 0 when all holds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/ranks.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "rank %d: line %d: %s\n", rank, __LINE__, #condition);                 \
            ivon_ranks_abort(ranks, 1);                                                            \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static struct ivon_ranks *ranks;
static struct ivon_error error;
static int rank, count;

static int copies(void)
{
    enum { BIG = 3 << 20 }; /* more than any library sends without waiting for the other side */
    struct ranks_bytes all;
    int64_t own[2] = {rank, -rank}, every[2 * 64];
    char *big = malloc(BIG);
    CHECK(big && count <= 64);
    for (int root = 0; root < count; root++) {
        memset(big, rank == root ? 'a' + root : 0, BIG);
        CHECK(!ranks_broadcast(ranks, root, big, BIG, &error));
        CHECK(big[0] == 'a' + root && big[BIG - 1] == 'a' + root);
    }
    memset(big, rank ? 0 : 7, BIG);
    CHECK(!ivon_ranks_share(ranks, big, BIG, &error) && big[BIG / 2] == 7);
    CHECK(!ranks_exchange(ranks, own, sizeof own, every, &error));
    for (int r = 0; r < count; r++)
        CHECK(every[2 * r] == r && every[2 * r + 1] == -r);
    for (int everywhere = 0; everywhere < 2; everywhere++) {
        size_t size = rank == 1 ? 0 : (size_t)rank * 400000 + 3, at = 0; /* rank 1 has nothing */
        memset(big, 'A' + rank, BIG);
        CHECK(!(everywhere ? ranks_gather_all : ranks_gather)(ranks, big, size, &all, &error));
        for (int r = 0; r < count && (everywhere || !rank); at += all.sizes[r++]) {
            CHECK(all.sizes[r] == (r == 1 ? 0 : (size_t)r * 400000 + 3));
            CHECK(!all.sizes[r] || all.data[at] == 'A' + r);
            CHECK(!all.sizes[r] || all.data[at + all.sizes[r] - 1] == 'A' + r);
        }
        CHECK(at == (everywhere || !rank ? all.size : 0));
        ranks_bytes_release(&all);
    }
    size_t part = BIG / (size_t)count, at = (size_t)rank * part;
    memset(big + at, 'a' + rank, part);
    CHECK(!ranks_complete(ranks, big, part, &error));
    for (int r = 0; r < count; r++)
        CHECK(big[(size_t)r * part] == 'a' + r && big[(size_t)(r + 1) * part - 1] == 'a' + r);
    free(big);
    return 0;
}

/* Numbers of many sizes, whose sum depends on the order. */
static double lane_number(size_t lane, size_t i)
{
    uint64_t bits = (lane * 1000003 + i + 1) * 0x9E3779B97F4A7C15u;
    return ((double)(bits >> 40) - 8e6) * (double)(1u << (bits & 31));
}

static int sums(void)
{
    enum { LANES = 11, NUMBERS = 100000 };
    const struct ranks_range range = ranks_range(ranks, LANES);
    for (size_t lanes = 1; lanes <= LANES; lanes++)
        for (size_t lane = 0; lane < lanes; lane++) {
            const struct ranks_range own = ranks_range(ranks, lanes);
            CHECK((ranks_owner(ranks, lanes, lane) == rank) ==
                  (own.first <= lane && lane < own.end));
        }
    double *doubles[LANES + 1] = {0}, *sum = calloc(NUMBERS, sizeof *sum);
    double *mixed = calloc(NUMBERS, sizeof *mixed);
    float *floats[LANES + 1] = {0}, *narrow = calloc(NUMBERS, sizeof *narrow);
    for (size_t lane = range.first; lane < range.end; lane++) {
        doubles[lane] = calloc(NUMBERS, sizeof(double));
        floats[lane] = calloc(NUMBERS, sizeof(float));
        for (size_t i = 0; i < NUMBERS; i++)
            floats[lane][i] = (float)(doubles[lane][i] = lane_number(lane, i));
    }
    for (size_t i = 0; i < NUMBERS; i++)
        sum[i] = mixed[i] = narrow[i] = rank ? -1 : 5; /* that of rank 0 counts */
    CHECK(!ranks_sum_doubles(ranks, sum, (const double *const *)doubles + range.first,
                             range.end - range.first, NUMBERS, &error));
    CHECK(!ranks_sum_floats(ranks, narrow, (const float *const *)floats + range.first,
                            range.end - range.first, NUMBERS, &error));
    CHECK(!ranks_sum_wide(ranks, mixed, (const float *const *)floats + range.first,
                          range.end - range.first, NUMBERS, &error));
    for (size_t i = 0; i < NUMBERS; i++) {
        double wide = 5, of_floats = 5;
        float small = 5;
        for (size_t lane = 0; lane < LANES; lane++) {
            wide += lane_number(lane, i);
            small += (float)lane_number(lane, i);
            of_floats += (double)(float)lane_number(lane, i);
        }
        CHECK(sum[i] == wide && narrow[i] == small && mixed[i] == of_floats);
    }
    for (size_t lane = range.first; lane < range.end; lane++) {
        free(doubles[lane]);
        free(floats[lane]);
    }
    free(sum);
    free(mixed);
    free(narrow);
    return 0;
}

/* A map of blocks, of which block b has b + 1 numbers. */
struct map {
    uint64_t numbers[16], next;
    uint64_t first; /* block of rank 0 in this round */
};

static size_t map_describe(void *context, int of, struct ranks_piece *pieces, size_t limit)
{
    struct map *map = context;
    pieces[0] = (struct ranks_piece){map->numbers, 8};
    pieces[1] = (struct ranks_piece){map->numbers + 1, 8 * (size_t)(map->first + (uint64_t)of)};
    return limit > 2 ? 2 : 0;
}

static int map_take(void *context, int of, struct ivon_error *e)
{
    struct map *map = context;
    uint64_t block = map->first + (uint64_t)of;
    for (uint64_t i = 0; i <= block; i++)
        if (block != map->next || map->numbers[i] != 100 * block + i)
            return ivon_error_set(e, IVON_ERROR_INTERNAL, "block %d is wrong", (int)block);
    map->next++;
    return 0;
}

static int maps(void)
{
    enum { BLOCKS = 14 };
    struct map map = {.first = 0};
    for (; map.first < BLOCKS; map.first += (uint64_t)count) {
        uint64_t left = BLOCKS - map.first, own = map.first + (uint64_t)rank;
        struct ranks_round round = {left < (uint64_t)count ? (int)left : count, map_describe,
                                    map_take, &map};
        for (uint64_t i = 0; i <= own && i < 16; i++)
            map.numbers[i] = 100 * own + i;
        CHECK(!ranks_round_take(ranks, &round, 0, &error));
    }
    CHECK(map.next == (rank ? 0 : BLOCKS));
    return 0;
}

/* The last two ranks fail: all get the error of the first of them, in whatever they do. */
static int fails(void)
{
    int code = 0;
    if (rank >= count - 2) {
        sleep(1);
        code = ivon_error_set(&error, IVON_ERROR_DATA, "rank %d has bad data", rank);
        code = ivon_ranks_agree(ranks, code, &error);
    } else if (rank % 2) {
        code = ranks_barrier(ranks, &error);
    } else {
        double sum = 0;
        code = ranks_sum_doubles(ranks, &sum, NULL, 0, 1, &error);
    }
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d has bad data", count > 1 ? count - 2 : 0);
    CHECK(code == IVON_ERROR_DATA && error.code == code && strcmp(error.message, expected) == 0);
    CHECK(ivon_ranks_failed(ranks) == (count > 1));
    memset(&error, 0, sizeof error);
    if (ranks) /* it stays so, at once */
        CHECK(ranks_barrier(ranks, &error) == IVON_ERROR_DATA && !strcmp(error.message, expected));
    CHECK(ivon_ranks_recover(ranks) && !ivon_ranks_failed(ranks)); /* until they go on together */
    CHECK(!ivon_ranks_agree(ranks, 0, &error) && !copies());
    return 0;
}

/* Rank 1 fails, and rank 0 does not come to know it. */
static int waits(void)
{
    int code = rank == 1 ? ivon_error_set(&error, IVON_ERROR_DATA, "mine") : 0;
    if (rank == 0)
        sleep(60);
    code = ivon_ranks_agree(ranks, code, &error);
    CHECK(rank == 1 && code == IVON_ERROR_DATA && !ivon_ranks_failed(ranks));
    printf("rank 1 is alone\n");
    fflush(stdout);
    ivon_ranks_abort(ranks, 65);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } all[] = {
        {"copies", copies}, {"sums", sums}, {"maps", maps}, {"fails", fails}, {"waits", waits}};
    bool first;
    int code = ivon_ranks_open(&ranks, &first, &error);
    rank = ivon_ranks_rank(ranks);
    count = ivon_ranks_count(ranks);
    if (code && first)
        fprintf(stderr, "%s\n", error.message);
    for (size_t i = 0; i < sizeof all / sizeof all[0] && !code; i++)
        for (int a = 1; a < argc; a++)
            if (strcmp(argv[a], all[i].name) == 0 && (code = all[i].run()))
                return code;
    if (!code && first)
        printf("%d ranks: fine\n", count);
    fflush(stdout);
    ivon_ranks_close(ranks);
    return code ? 1 : 0;
}
