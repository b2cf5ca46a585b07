/* Whole or absent: what is in a directory before, during and after the writing of a file. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/io/atomic.h"
#include "ivon/output.h"

/* A directory that every test starts with empty, and is in. */
static char directory[] = "/tmp/ivon-atomic-XXXXXX";

static void empty(const char *path)
{
    DIR *entries = opendir(path);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));) {
        char name[600];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name)) {
            empty(name);
            assert_int_equal(rmdir(name), 0);
        }
    }
    closedir(entries);
}

static int enter(void **state)
{
    (void)state;
    umask(022);
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    return chdir("/") || rmdir(directory);
}

static int clean(void **state)
{
    (void)state;
    empty(".");
    return 0;
}

static void put(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void assert_holds(const char *path, const char *text)
{
    char found[64] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(found, text);
}

static size_t count_entries(void)
{
    size_t count = 0;
    DIR *entries = opendir(".");
    while (readdir(entries))
        count++;
    closedir(entries);
    return count - 2;
}

static mode_t mode_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 07777;
}

static void write_all(struct atomic_file *file, const char *text)
{
    struct ivon_error error;
    assert_int_equal(atomic_write(file, 0, text, strlen(text), &error), 0);
}

static void appears_when_committed(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    assert_int_equal(atomic_open(&file, "out", false, &error), 0);
    assert_int_equal(atomic_reserve(&file, 4, &error), 0);
    assert_int_equal(atomic_write(&file, 2, "cd", 2, &error), 0);
    assert_int_equal(atomic_write(&file, 0, "ab", 2, &error), 0);
    assert_int_equal(access("out", F_OK), -1);
    assert_int_equal(access(".out.ivon-tmp", F_OK), 0);
    assert_int_equal(atomic_commit(&file, &error), 0);
    assert_holds("out", "abcd");
    assert_int_equal(mode_of("out"), 0644);
    atomic_close(&file);
    assert_holds("out", "abcd");
    assert_int_equal(count_entries(), 1);
    atomic_close(&file); /* closing twice does nothing */
}

static void leaves_nothing_when_closed(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    put("out", "old", 0644);
    assert_int_equal(atomic_open(&file, "out", true, &error), 0);
    write_all(&file, "new");
    assert_holds("out", "old");
    atomic_close(&file);
    assert_holds("out", "old");
    assert_int_equal(count_entries(), 1);
}

static void replaces_only_when_told(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    put("out", "old, and longer", 0644);
    assert_int_equal(atomic_open(&file, "out", false, &error), IVON_ERROR_CREATE);
    assert_string_equal(error.message, "out: file exists");
    assert_int_equal(count_entries(), 1);
    assert_int_equal(atomic_open(&file, "out", true, &error), 0);
    write_all(&file, "new");
    assert_int_equal(atomic_commit(&file, &error), 0);
    atomic_close(&file);
    assert_holds("out", "new");
    assert_int_equal(count_entries(), 1);
}

static void preserves_permissions(void **state)
{
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0664, 0444, 0755};
    struct atomic_file file;
    struct ivon_error error;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        put("out", "old", modes[i]);
        assert_int_equal(atomic_open(&file, "out", true, &error), 0);
        /* What is private is private from the first byte on. */
        assert_int_equal(mode_of(".out.ivon-tmp") & 077 & ~modes[i], 0);
        write_all(&file, "new");
        assert_int_equal(atomic_commit(&file, &error), 0);
        atomic_close(&file);
        assert_int_equal(mode_of("out"), modes[i]);
        assert_holds("out", "new");
        unlink("out");
    }
}

static void assert_is_file(const char *path)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
}

static void replace(const char *path)
{
    struct atomic_file file;
    struct ivon_error error;
    assert_int_equal(atomic_open(&file, path, true, &error), 0);
    write_all(&file, "new");
    assert_int_equal(atomic_commit(&file, &error), 0);
    atomic_close(&file);
    assert_is_file(path);
    assert_holds(path, "new");
}

static void replaces_a_link_and_not_what_it_leads_to(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    assert_int_equal(mkdir("sub", 0755), 0);
    put("sub/real", "old", 0640);
    assert_int_equal(symlink("sub/real", "middle"), 0);
    assert_int_equal(symlink("middle", "link"), 0);
    assert_int_equal(symlink("nowhere", "dangling"), 0);
    static const char *const links[] = {"link", "dangling"};
    for (size_t i = 0; i < 2; i++) {
        char message[100];
        snprintf(message, sizeof message, "%s: a symbolic link exists", links[i]);
        assert_int_equal(atomic_open(&file, links[i], false, &error), IVON_ERROR_CREATE);
        assert_string_equal(error.message, message);
        replace(links[i]);
    }
    assert_int_equal(mode_of("link"), 0640); /* as private as what was read through it */
    assert_holds("sub/real", "old");
    assert_holds("middle", "old");
    assert_int_equal(access("nowhere", F_OK), -1);
    assert_int_equal(count_entries(), 4);
}

static void replaces_one_of_several_hard_links(void **state)
{
    (void)state;
    put("store", "old", 0644);
    assert_int_equal(link("store", "out"), 0);
    replace("out");
    assert_holds("store", "old");
}

/* A directory may be reached through a link. */
static void writes_below_a_linked_directory(void **state)
{
    (void)state;
    struct stat status;
    assert_int_equal(mkdir("real", 0755), 0);
    assert_int_equal(symlink("real", "linked"), 0);
    replace("linked/out");
    assert_int_equal(lstat("linked", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_holds("real/out", "new");
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    assert_int_equal(mkdir("sub", 0755), 0);
    assert_int_equal(mkfifo("pipe", 0644), 0);
    assert_int_equal(atomic_open(&file, "sub", true, &error), IVON_ERROR_CREATE);
    assert_string_equal(error.message, "sub: is a directory, expected a file to write");
    assert_int_equal(atomic_open(&file, "pipe", true, &error), IVON_ERROR_CREATE);
    assert_int_equal(atomic_open(&file, "no/where", true, &error), IVON_ERROR_CREATE);
    assert_non_null(strstr(error.message, "no/where: cannot create it"));
    static const char *const links[][2] = {
        {"sub", "to-sub"}, {"pipe", "to-pipe"}, {"/dev/null", "to-null"}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(symlink(links[i][0], links[i][1]), 0);
        assert_int_equal(atomic_open(&file, links[i][1], true, &error), IVON_ERROR_CREATE);
        assert_non_null(strstr(error.message, i ? "is a device or a pipe" : "is a directory"));
    }
    assert_int_equal(count_entries(), 5);
}

/* A link to a descriptor is a device, also when the descriptor is of a file. */
static void leaves_links_to_descriptors_alone(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    struct stat status;
    char own[64];
    put("out", "old", 0644);
    int descriptor = open("out", O_RDWR);
    assert_true(descriptor >= 0);
    snprintf(own, sizeof own, "/proc/self/fd/%d", descriptor);
    assert_int_equal(atomic_open(&file, own, true, &error), IVON_ERROR_CREATE);
    assert_non_null(strstr(error.message, "is a device or a pipe"));
    assert_int_equal(dup2(descriptor, 99), 99);
    assert_int_equal(atomic_open(&file, "/dev/fd/99", true, &error), IVON_ERROR_CREATE);
    assert_non_null(strstr(error.message, "is a device or a pipe"));
    if (lstat("/dev/stdin", &status) == 0) {
        int saved = dup(0);
        assert_int_equal(dup2(descriptor, 0), 0);
        assert_int_equal(atomic_open(&file, "/dev/stdin", true, &error), IVON_ERROR_CREATE);
        assert_non_null(strstr(error.message, "is a device or a pipe"));
        dup2(saved, 0);
        close(saved);
        assert_int_equal(lstat("/dev/stdin", &status), 0);
        assert_true(S_ISLNK(status.st_mode));
    }
    close(99);
    close(descriptor);
    assert_holds("out", "old");
}

/* A file of that name that is not a writer's leftover is neither written to nor removed. */
static void stays_off_what_is_in_the_way(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    put("victim", "precious", 0644);
    assert_int_equal(symlink("victim", ".out.ivon-tmp"), 0);
    assert_int_equal(atomic_open(&file, "out", true, &error), IVON_ERROR_CREATE);
    unlink(".out.ivon-tmp");
    assert_int_equal(link("victim", ".out.ivon-tmp"), 0);
    assert_int_equal(atomic_open(&file, "out", true, &error), IVON_ERROR_CREATE);
    assert_non_null(strstr(error.message, "'.out.ivon-tmp' is in the way"));
    assert_holds("victim", "precious");
    assert_holds(".out.ivon-tmp", "precious");
    unlink(".out.ivon-tmp");
    assert_int_equal(mkfifo(".out.ivon-tmp", 0644), 0);
    assert_int_equal(atomic_open(&file, "out", true, &error), IVON_ERROR_CREATE);
    assert_int_equal(access(".out.ivon-tmp", F_OK), 0);
}

/* A process that opens a file, writes to it, tells so, and never goes on. */
static pid_t start_writer(const char *path)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t writer = fork();
    assert_true(writer >= 0); /* or end_writer would signal everyone */
    if (writer == 0) {
        struct atomic_file file;
        struct ivon_error error;
        if (atomic_open(&file, path, true, &error) ||
            atomic_write(&file, 0, "half of something long", 22, &error) ||
            write(ends[1], "!", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    return writer;
}

static void end_writer(pid_t writer)
{
    int status;
    kill(writer, SIGKILL);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_true(WIFSIGNALED(status));
}

static void takes_over_what_a_killed_writer_left(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    put("out", "old", 0644);
    end_writer(start_writer("out"));
    assert_holds("out", "old");
    assert_holds(".out.ivon-tmp", "half of something long");
    assert_int_equal(atomic_open(&file, "out", true, &error), 0);
    assert_holds(".out.ivon-tmp", "");
    write_all(&file, "new");
    assert_int_equal(atomic_commit(&file, &error), 0);
    atomic_close(&file);
    assert_holds("out", "new");
    assert_int_equal(count_entries(), 1);
}

static void refuses_a_second_writer(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    pid_t writer = start_writer("out");
    assert_int_equal(atomic_open(&file, "out", true, &error), IVON_ERROR_CREATE);
    assert_string_equal(error.message, "out: another process is writing it");
    assert_holds(".out.ivon-tmp", "half of something long"); /* the first one is undisturbed */
    assert_int_equal(atomic_open(&file, "other", true, &error), 0);
    atomic_close(&file);
    end_writer(writer);
    assert_int_equal(atomic_open(&file, "out", true, &error), 0);
    atomic_close(&file);
    assert_int_equal(count_entries(), 0);
}

static void says_that_the_disk_is_full(void **state)
{
    (void)state;
    struct atomic_file file;
    struct ivon_error error;
    assert_int_equal(atomic_open(&file, "out", false, &error), 0);
    assert_int_equal(atomic_reserve(&file, UINT64_MAX, &error), IVON_ERROR_IO);
    assert_non_null(strstr(error.message, "out: "));
    assert_int_equal(atomic_reserve(&file, INT64_MAX / 2, &error), IVON_ERROR_IO);
    assert_non_null(strstr(error.message, "out: cannot write its "));
    atomic_close(&file);
    assert_int_equal(count_entries(), 0);
}

/* As in a signal handler that ends the process: of what is not complete nothing is left. */
static void abandons_all_that_is_not_complete(void **state)
{
    (void)state;
    struct atomic_file done, one, two;
    struct ivon_error error;
    put("old", "before", 0644);
    assert_int_equal(atomic_open(&done, "done", false, &error), 0);
    write_all(&done, "done");
    assert_int_equal(atomic_commit(&done, &error), 0);
    assert_int_equal(atomic_open(&one, "one", false, &error), 0);
    assert_int_equal(atomic_open(&two, "old", true, &error), 0);
    write_all(&one, "one");
    write_all(&two, "after");
    assert_int_equal(count_entries(), 4);
    ivon_outputs_abandon();
    assert_int_equal(count_entries(), 2);
    assert_holds("done", "done");
    assert_holds("old", "before");
    atomic_close(&done);
    atomic_close(&one);
    atomic_close(&two);
    assert_int_equal(count_entries(), 2);
}

/* flock holds for an opening of a file: those of one process are as those of several. */
static void is_written_by_several(void **state)
{
    (void)state;
    struct atomic_file first, second, third, other;
    struct atomic_identity identity = {0}, wrong;
    struct ivon_error error;
    assert_int_equal(atomic_open(&first, "out", false, &error), 0);
    write_all(&first, "....");
    assert_string_equal(atomic_join(&second, "out", ".out.ivon-tmp", &identity),
                        "another process is writing it");
    assert_int_equal(atomic_share(&first, &identity, &error), 0);
    assert_null(atomic_join(&second, "out", ".out.ivon-tmp", &identity));
    wrong = identity;
    wrong.token[15] ^= 1;
    assert_string_equal(atomic_join(&third, "out", ".out.ivon-tmp", &wrong),
                        "another file has its name");
    wrong = identity;
    wrong.inode++;
    assert_string_equal(atomic_join(&third, "out", ".out.ivon-tmp", &wrong),
                        "another file has its name");
    assert_string_equal(atomic_join(&third, "out", ".none.ivon-tmp", &identity),
                        "No such file or directory");
    assert_int_equal(atomic_settle(&first, &identity, &error), 0);
    assert_holds(".out.ivon-tmp", "....");
    assert_non_null(atomic_join(&third, "out", ".out.ivon-tmp", &identity)); /* too late */
    assert_int_equal(atomic_write(&second, 2, "cd", 2, &error), 0);
    assert_int_equal(atomic_write(&first, 0, "ab", 2, &error), 0);
    assert_int_equal(atomic_sync(&second, &error), 0);
    assert_int_equal(atomic_commit(&first, &error), 0);
    atomic_close(&second);
    atomic_close(&first);
    assert_holds("out", "abcd");
    assert_int_equal(count_entries(), 1);

    /* As long as one of them is there, whichever, another run is refused. */
    assert_int_equal(atomic_open(&first, "new", false, &error), 0);
    assert_int_equal(atomic_share(&first, &identity, &error), 0);
    assert_null(atomic_join(&second, "new", ".new.ivon-tmp", &identity));
    close(first.descriptor); /* as when it is killed */
    first.descriptor = -1;
    assert_int_equal(atomic_open(&other, "new", false, &error), IVON_ERROR_CREATE);
    assert_string_equal(error.message, "new: another process is writing it");
    atomic_close(&second); /* removes nothing */
    assert_int_equal(access(".new.ivon-tmp", F_OK), 0);
    assert_int_equal(atomic_open(&other, "new", false, &error), 0);
    atomic_close(&other);
    atomic_close(&first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean)
    const struct CMUnitTest tests[] = {
        TEST(appears_when_committed),
        TEST(abandons_all_that_is_not_complete),
        TEST(leaves_nothing_when_closed),
        TEST(replaces_only_when_told),
        TEST(preserves_permissions),
        TEST(replaces_a_link_and_not_what_it_leads_to),
        TEST(replaces_one_of_several_hard_links),
        TEST(writes_below_a_linked_directory),
        TEST(refuses_what_is_no_file),
        TEST(leaves_links_to_descriptors_alone),
        TEST(stays_off_what_is_in_the_way),
        TEST(takes_over_what_a_killed_writer_left),
        TEST(refuses_a_second_writer),
        TEST(is_written_by_several),
        TEST(says_that_the_disk_is_full),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
