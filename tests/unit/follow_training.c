/*
 * Following a training in another process, which writes files of 3 kinds in random order, at random
 * times. A whole file is "begin FILE end"; a half one lacks the end, and is completed only when the
 * follower has tried it, which it says through a pipe. Until it says that it watches, files are
 * renamed into place: one that is completed while it is opened for the first time would come again.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "cmd/shared/inputs/follow.h"
#include "files.h"

enum { FILES = 60, WATCHING = -1 };

static uint64_t random_state;

static unsigned below(unsigned bound)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(random_state >> 33) % bound;
}

static void pause_a_little(void)
{
    if (below(3) == 0)
        nanosleep(&(struct timespec){.tv_nsec = below(300000)}, NULL);
}

static bool put_pieces(const char *path, const char *first, const char *second)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    bool fine = file >= 0 && write(file, first, strlen(first)) == (ssize_t)strlen(first);
    pause_a_little();
    return fine && write(file, second, strlen(second)) == (ssize_t)strlen(second) &&
           close(file) == 0;
}

/* Waits until the follower said this. */
static bool wait_for(int expected, int said)
{
    int answer;
    do
        if (read(said, &answer, sizeof answer) != sizeof answer)
            return false;
    while (answer != expected);
    return true;
}

static bool put_file(int number, unsigned kind, int said)
{
    char path[32], hidden[32], begin[32];
    snprintf(path, sizeof path, "d/step-%d", number);
    snprintf(hidden, sizeof hidden, "d/.step-%d", number);
    snprintf(begin, sizeof begin, "begin %d ", number);
    switch (kind) {
    case 0:
        return put_pieces(path, begin, "end");
    case 1:
        return put_pieces(hidden, begin, "end") && rename(hidden, path) == 0;
    default:
        if (!put_pieces(path, begin, "e") || !wait_for(number, said))
            return false;
        return below(2) ? put_pieces(path, begin, "end")
                        : put_pieces(hidden, begin, "end") && rename(hidden, path) == 0;
    }
}

static int train(int said)
{
    int order[FILES];
    for (int i = 0; i < FILES; i++) {
        int j = (int)below((unsigned)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < FILES; i++) {
        pause_a_little();
        if ((i == FILES / 3 && !wait_for(WATCHING, said)) ||
            !put_file(order[i], i < FILES / 3 ? 1 : below(3), said))
            return 1;
    }
    return put_pieces("d/done", "", "") ? 0 : 1;
}

/* Reads a checkpoint; -1 when it is not whole. */
static int read_checkpoint(const char *path, int *named)
{
    char text[64] = "", end[8] = "";
    int number;
    assert_int_equal(sscanf(path, "d/step-%d", named), 1);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return sscanf(text, "begin %d %7s", &number, end) == 2 && strcmp(end, "end") == 0 ? number : -1;
}

static void follow_training(uint64_t seed)
{
    int ends[2], counts[FILES] = {0}, status, named = WATCHING;
    const char *path;
    struct ivon_error error = {.message = "none"};
    random_state = seed;
    assert_int_equal(pipe(ends), 0);
    pid_t trainer = fork();
    assert_true(trainer >= 0);
    if (trainer == 0) {
        close(ends[1]);
        _exit(train(ends[0]));
    }
    close(ends[0]);
    random_state = ~seed;
    pause_a_little();
    struct follow *follow = NULL;
    if (follow_open(&follow, "d", NULL, &error))
        fail_msg("%s", error.message);
    assert_int_equal(write(ends[1], &named, sizeof named), sizeof named);
    for (;;) {
        pause_a_little(); /* busy */
        if (follow_next(follow, &path, &error))
            fail_msg("%s", error.message);
        if (!path)
            break;
        int number = read_checkpoint(path, &named);
        if (number < 0) {
            follow_again(follow);
            assert_int_equal(write(ends[1], &named, sizeof named), sizeof named);
        } else {
            assert_int_equal(number, named);
            counts[number]++;
        }
    }
    follow_close(follow);
    close(ends[1]);
    assert_int_equal(waitpid(trainer, &status, 0), trainer);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < FILES; i++)
        if (counts[i] != 1)
            fail_msg("seed %d: step-%d came %d times", (int)seed, i, counts[i]);
}

static void follows_a_training(void **unused)
{
    (void)unused;
    signal(SIGPIPE, SIG_IGN);
    alarm(300); /* against waiting for ever */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        assert_int_equal(mkdir("d", 0777), 0);
        follow_training(seed);
        assert_int_equal(system("rm -r d"), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(follows_a_training)};
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
