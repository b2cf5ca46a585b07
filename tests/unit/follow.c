/* Following a directory: each checkpoint once, in whatever way and order it gets there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "cmd/shared/inputs/follow.h"
#include "files.h"

static struct follow *open_follow(const char *directory)
{
    struct follow *follow = NULL;
    struct ivon_error error = {.message = "none"};
    if (follow_open(&follow, directory, NULL, &error))
        fail_msg("%s", error.message);
    return follow;
}

/* The next file should be this one; null: the end. */
static void expect(struct follow *follow, const char *expected)
{
    const char *path;
    struct ivon_error error = {.message = "none"};
    if (follow_next(follow, &path, &error))
        fail_msg("%s, expected '%s'", error.message, expected ? expected : "the end");
    if (!path || !expected) {
        if (path != expected)
            fail_msg("found '%s', expected '%s'", path ? path : "the end",
                     expected ? expected : "the end");
        return;
    }
    assert_string_equal(path, expected);
}

static void expect_error(struct follow *follow, const char *message)
{
    const char *path = "";
    struct ivon_error error = {.message = "none"};
    assert_int_equal(follow_next(follow, &path, &error), IVON_ERROR_INPUT);
    assert_string_equal(error.message, message);
    assert_null(path);
}

static void touch(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(file >= 0 && close(file) == 0);
}

static int make(void **state)
{
    (void)state;
    alarm(300); /* against waiting for ever */
    return mkdir("d", 0777);
}

static int clean(void **state)
{
    (void)state;
    return system("rm -rf d e");
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The wait begins with each call: what is there comes however late it is asked for. */
static void ends_when_nothing_comes(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    follow_end_when_idle(follow, 0.05);
    touch("d/a");
    usleep(60000);
    expect(follow, "d/a");
    assert_false(follow_was_idle(follow));
    double start = seconds();
    expect(follow, NULL);
    assert_true(follow_was_idle(follow) && seconds() - start >= 0.05);
    touch("d/b"); /* a caller may go on */
    expect(follow, "d/b");
    touch("d/done");
    expect(follow, NULL);
    assert_false(follow_was_idle(follow));
    follow_close(follow);
}

static void starts_with_what_is_there(void **state)
{
    (void)state;
    static const char *const names[] = {
        "d/step-10.h5", "d/step-9.h5", "d/a",       "d/.hidden",    "d/.step-1.h5.ivon-tmp",
        "d/x.part",     "d/x.tmp",     "d/x.h5~",   "d/out.csv",    "d/config.json",
        "d/log.jsonl",  "d/p.ndjson",  "d/run.log", "d/readme.txt", "d/c.yaml",
        "d/c.yml",      "d/csv",       "d/done.h5", "d/out.csv.pt"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        write_text(names[i], "x");
    assert_int_equal(mkdir("d/step-1", 0777), 0);
    assert_int_equal(symlink("step-9.h5", "d/latest.h5"), 0);
    assert_int_equal(mkfifo("d/pipe", 0666), 0);
    touch("d/done");
    struct follow *follow = open_follow("d//");
    expect(follow, "d/a");
    expect(follow, "d/csv");
    expect(follow, "d/done.h5");
    expect(follow, "d/out.csv.pt");
    expect(follow, "d/step-9.h5");
    expect(follow, "d/step-10.h5");
    expect(follow, NULL);
    expect(follow, NULL);
    follow_close(follow);
    follow_close(NULL);
}

static void takes_files_when_they_are_closed_or_renamed(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    int slow = open("d/slow", O_WRONLY | O_CREAT, 0666);
    write_text("d/.b", "whole");
    assert_int_equal(rename("d/.b", "d/b"), 0);
    write_text("outside", "whole");
    assert_int_equal(rename("outside", "d/c"), 0);
    write_text("d/out.csv", "no checkpoint");
    assert_int_equal(write(slow, "half", 4), 4);
    expect(follow, "d/b");
    expect(follow, "d/c");
    write_text("d/a", "whole");
    assert_true(write(slow, "half", 4) == 4 && close(slow) == 0);
    expect(follow, "d/a");
    expect(follow, "d/slow");
    write_text("d/gone", "whole");
    unlink("d/gone");
    touch("d/done");
    expect(follow, NULL);
    follow_close(follow);
}

/* Before the end comes all that was there when `done` appeared, whatever it is. */
static void ends_by_done(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    write_text("d/b", "x");
    assert_int_equal(link("d/b", "d/a"), 0); /* of which no event tells */
    assert_int_equal(mkdir("d/done", 0777), 0);
    expect(follow, "d/b");
    write_text("d/after", "x"); /* too late: the directory was read */
    expect(follow, "d/a");
    expect(follow, NULL);
    follow_close(follow);
}

static void repeats_what_could_not_be_read(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    follow_again(follow); /* of nothing */
    write_text("d/a", "half");
    expect(follow, "d/a");
    follow_again(follow);
    write_text("d/b", "x");
    expect(follow, "d/b"); /* and not "d/a", which is as it was */
    write_text("d/a", "half, whole");
    expect(follow, "d/a");
    follow_again(follow);
    touch("d/a"); /* opened and closed, unchanged */
    expect(follow, "d/a");
    touch("d/a"); /* now it was read */
    write_text("d/c", "half");
    expect(follow, "d/c");
    follow_again(follow);
    touch("d/done");
    expect(follow, NULL);
    follow_close(follow);
}

/* A file that is being written when the following begins. */
static void repeats_what_was_open_at_the_start(void **state)
{
    (void)state;
    int file = open("d/a", O_WRONLY | O_CREAT, 0666);
    assert_int_equal(write(file, "half", 4), 4);
    struct follow *follow = open_follow("d");
    expect(follow, "d/a");
    follow_again(follow);
    assert_true(write(file, "half", 4) == 4 && close(file) == 0);
    expect(follow, "d/a");
    touch("d/done");
    expect(follow, NULL);
    follow_close(follow);
}

static void set_time(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Written anew: by size, by time, by inode alone. */
static void takes_files_that_are_written_anew(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    write_text("d/a", "one");
    set_time("d/a", 1000);
    expect(follow, "d/a");
    write_text("d/a", "three");
    set_time("d/a", 1000);
    expect(follow, "d/a");
    write_text("d/a", "seven");
    expect(follow, "d/a");
    set_time("d/a", 1000);
    touch("d/a");
    expect(follow, "d/a");
    write_text("d/.a", "eight");
    set_time("d/.a", 1000);
    assert_int_equal(rename("d/.a", "d/a"), 0);
    expect(follow, "d/a");
    touch("d/a");
    touch("d/done");
    expect(follow, NULL);
    follow_close(follow);
}

/* What happens while the caller is busy comes once, in the order of its first event. */
static void keeps_what_came_meanwhile(void **state)
{
    (void)state;
    enum { FILES = 500 };
    char name[32];
    struct follow *follow = open_follow("d");
    write_text("d/first", "x");
    expect(follow, "d/first");
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < FILES; i++) {
            snprintf(name, sizeof name, "d/%d", i * 7 % FILES);
            write_text(name, "content" + round);
        }
    touch("d/done");
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "d/%d", i * 7 % FILES);
        expect(follow, name);
    }
    expect(follow, NULL);
    follow_close(follow);
}

/* More events than the kernel keeps: those that are lost, and a file that was to come again. */
static void survives_lost_events(void **state)
{
    (void)state;
    long limit = 0;
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (!file || fscanf(file, "%ld", &limit) != 1 || limit > 1000000)
        limit = 0;
    if (file)
        fclose(file);
    if (!limit)
        skip();
    struct follow *follow = open_follow("d");
    write_text("d/again", "x");
    expect(follow, "d/again");
    follow_again(follow);
    write_text("d/a", "x");
    write_text("d/b", "x");
    expect(follow, "d/a");
    for (long i = 0; i <= limit / 2; i++) { /* taking turns, as equal events become one */
        touch("d/a");
        touch("d/b");
    }
    write_text("d/lost-10", "x");
    write_text("d/lost-9", "x");
    expect(follow, "d/b");
    expect(follow, "d/again");
    expect(follow, "d/lost-9");
    expect(follow, "d/lost-10");
    write_text("d/c", "x");
    expect(follow, "d/c");
    touch("d/done");
    expect(follow, NULL);
    follow_close(follow);
}

static void needs_a_directory(void **state)
{
    (void)state;
    struct follow *follow = NULL;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(follow_open(&follow, "d/none", NULL, &error), IVON_ERROR_INPUT);
    assert_string_equal(error.message, "d/none: cannot follow it: No such file or directory");
    write_text("d/file", "x");
    assert_int_equal(follow_open(&follow, "d/file", NULL, &error), IVON_ERROR_INPUT);
    assert_string_equal(error.message, "d/file: cannot follow it: Not a directory");
    assert_null(follow);
}

static void ends_with_the_directory(void **state)
{
    (void)state;
    struct follow *follow = open_follow("d");
    write_text("d/a", "x");
    assert_true(unlink("d/a") == 0 && rmdir("d") == 0);
    expect_error(follow, "d: was removed or renamed while it was followed");
    follow_close(follow);
    assert_int_equal(mkdir("d", 0777), 0);
    follow = open_follow("d");
    assert_int_equal(rename("d", "e"), 0);
    expect_error(follow, "d: was removed or renamed while it was followed");
    follow_close(follow);
    assert_int_equal(mkdir("e/inner", 0777), 0);
    follow = open_follow("e/inner");
    assert_int_equal(rename("e", "d"), 0); /* of which no event tells */
    expect_error(follow, "e/inner: was removed or renamed while it was followed");
    follow_close(follow);
    follow = open_follow("d/inner");
    touch("d/inner/done");
    assert_true(unlink("d/inner/done") == 0 && rmdir("d/inner") == 0);
    expect(follow, NULL); /* it ended before it went */
    follow_close(follow);
}

static volatile sig_atomic_t stop; /* a handler has nowhere else to put it */

static void on_signal(int number)
{
    stop = number;
}

/* However the signal falls between the looks at the flag and the wait. */
static void stops_by_a_signal(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_signal}, old;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    for (long round = 0; round < 40; round++) {
        struct follow *follow = NULL;
        stop = 0;
        pid_t sender = fork();
        assert_true(sender >= 0);
        if (sender == 0) {
            nanosleep(&(struct timespec){.tv_nsec = round * 5000}, NULL);
            _exit(kill(getppid(), SIGUSR1) != 0);
        }
        assert_int_equal(follow_open(&follow, "d", &stop, &error), 0);
        expect(follow, NULL);
        assert_int_equal(stop, SIGUSR1);
        write_text("d/a", "x");
        expect(follow, NULL); /* at once, though a file is there */
        follow_close(follow);
        unlink("d/a");
        int status;
        assert_int_equal(waitpid(sender, &status, 0), sender);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clean)
    const struct CMUnitTest tests[] = {
        TEST(starts_with_what_is_there),
        TEST(takes_files_when_they_are_closed_or_renamed),
        TEST(ends_by_done),
        TEST(repeats_what_could_not_be_read),
        TEST(repeats_what_was_open_at_the_start),
        TEST(takes_files_that_are_written_anew),
        TEST(keeps_what_came_meanwhile),
        TEST(survives_lost_events),
        TEST(needs_a_directory),
        TEST(ends_with_the_directory),
        TEST(stops_by_a_signal),
        TEST(ends_when_nothing_comes),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
