/* ranks: under a launcher of MPI, what ranks do together (core/ranks.h) costs. Prints bytes per
   second of a sum of 2^24 numbers over all ranks, and seconds of an agreement, the least of
   five. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/ranks.h"

static double ranks_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(void)
{
    enum { NUMBERS = 1 << 24, AGREEMENTS = 1000, RUNS = 5 };
    struct ivon_ranks *ranks;
    struct ivon_error error;
    bool first;
    double sum_time = 1e9, agreement_time = 1e9;
    float *sum = calloc(NUMBERS, sizeof *sum), *lane = calloc(NUMBERS, sizeof *lane);
    int code = ivon_ranks_open(&ranks, &first, &error);
    const float *const lanes[] = {lane};
    for (int run = 0; run < RUNS && sum && lane && !code; run++) {
        double begin = ranks_now();
        code = ranks_sum_floats(ranks, sum, lanes, 1, NUMBERS, &error);
        double middle = ranks_now();
        for (int i = 0; i < AGREEMENTS && !code; i++)
            code = ranks_barrier(ranks, &error);
        double end = ranks_now();
        sum_time = middle - begin < sum_time ? middle - begin : sum_time;
        agreement_time = end - middle < agreement_time ? end - middle : agreement_time;
    }
    if (code)
        fprintf(stderr, "%s\n", error.message);
    else if (first)
        printf("%.6g %.6g\n", NUMBERS * sizeof(float) / sum_time, agreement_time / AGREEMENTS);
    free(sum);
    free(lane);
    fflush(stdout);
    ivon_ranks_close(ranks);
    return code ? 1 : 0;
}
