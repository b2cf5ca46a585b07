/* Records of a run: what a resumed run gets of them, whatever happened to the file. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "files.h"
#include "ivon/records.h"

enum { CONTENT = 5, WHOLE = CONTENT + 4, HEADER = 62 };

static const char run_a[] = "options of one run", run_b[] = "options of another";

/* What was read back: records "0----", "1----", …, in their order. */
struct taken {
    int count;
    int stop_at; /* or -1 */
};

static void content_of(char content[CONTENT], int number)
{
    memset(content, '-', CONTENT);
    content[0] = (char)('0' + number % 64);
}

static int take(void *context, const void *record, struct ivon_error *error)
{
    struct taken *taken = context;
    char expected[CONTENT];
    (void)error;
    content_of(expected, taken->count);
    assert_memory_equal(record, expected, CONTENT);
    return taken->count++ == taken->stop_at ? 123 : 0;
}

static struct ivon_records_options options_of(const char *run, bool resume)
{
    return (struct ivon_records_options){
        .size = sizeof(struct ivon_records_options), run, strlen(run), CONTENT, resume, -1};
}

/* Opens run a's records, of which there should be so many. */
static struct ivon_records *open_records(bool resume, int expected)
{
    struct ivon_records *records = NULL;
    struct taken taken = {0, -1};
    struct ivon_error error = {.message = "none"};
    struct ivon_records_options options = options_of(run_a, resume);
    if (ivon_records_open(&records, "out.part", &options, take, &taken, &error))
        fail_msg("%s", error.message);
    assert_int_equal(taken.count, expected);
    assert_int_equal(ivon_records_count(records), expected);
    return records;
}

static void append(struct ivon_records *records, int count)
{
    char content[CONTENT];
    for (int i = 0; i < count; i++) {
        content_of(content, (int)ivon_records_count(records));
        assert_int_equal(ivon_records_append(records, content, NULL), 0);
    }
}

static void close_records(struct ivon_records *records)
{
    assert_int_equal(ivon_records_close(records, false, NULL), 0);
}

static void refuse(const struct ivon_records_options *options, int code, const char *message)
{
    struct ivon_records *records = NULL;
    struct taken taken = {0, -1};
    struct ivon_error error = {.message = "none"};
    assert_int_equal(ivon_records_open(&records, "out.part", options, take, &taken, &error), code);
    assert_string_equal(error.message, message);
    assert_null(records);
    assert_int_equal(taken.count, 0);
}

static size_t load(unsigned char *data, size_t room)
{
    FILE *file = fopen("out.part", "rb");
    assert_non_null(file);
    size_t size = fread(data, 1, room, file);
    fclose(file);
    return size;
}

static int clean(void **state)
{
    (void)state;
    return unlink("out.part") && errno != ENOENT;
}

/* The checksums of the first two records are from Python's zlib.crc32. */
static void comes_back_in_order(void **state)
{
    (void)state;
    struct ivon_records *records = open_records(false, 0);
    append(records, 3);
    close_records(records);
    records = open_records(true, 3);
    append(records, 2);
    close_records(records);
    unsigned char data[HEADER + 9 * WHOLE];
    assert_int_equal(load(data, sizeof data), HEADER + 5 * WHOLE);
    assert_memory_equal(data + HEADER,
                        "0----\xa8\x5a\x5d\xff"
                        "1----\x9d\xaa\xab\x1f",
                        2 * WHOLE);
    close_records(open_records(true, 5));
    close_records(open_records(false, 0)); /* a new run */
    assert_int_equal(load(data, sizeof data), HEADER);
    data[HEADER] = '\0';
    /* sha256sum of "options of one run" */
    assert_string_equal((char *)data, "ivon-records 1\nrun d6f4a5314ec378f4\n"
                                      "size 00000000000000000005\n");
}

static void goes_when_complete(void **state)
{
    (void)state;
    struct ivon_error error;
    struct ivon_records *records = open_records(true, 0); /* there need be nothing to resume */
    append(records, 1);
    assert_int_equal(ivon_records_close(records, true, NULL), 0);
    assert_int_equal(access("out.part", F_OK), -1);
    records = open_records(false, 0);
    unlink("out.part");
    assert_int_equal(ivon_records_close(records, true, &error), IVON_ERROR_IO);
    assert_string_equal(error.message, "out.part: cannot remove it: No such file or directory");
    assert_int_equal(ivon_records_close(NULL, true, NULL), 0);
}

/* Of a file that ends anywhere, the whole records come back, and more can follow. */
static void forgets_what_is_torn(void **state)
{
    (void)state;
    unsigned char data[HEADER + 3 * WHOLE];
    struct ivon_records *records = open_records(false, 0);
    append(records, 3);
    close_records(records);
    assert_int_equal(load(data, sizeof data), sizeof data);
    for (size_t size = 0; size <= sizeof data; size++) {
        write_file("out.part", data, size);
        int whole = size < HEADER ? 0 : (int)((size - HEADER) / WHOLE);
        records = open_records(true, whole);
        append(records, 3 - whole);
        close_records(records);
        unsigned char found[sizeof data + 1];
        assert_int_equal(load(found, sizeof found), sizeof data);
        assert_memory_equal(found, data, sizeof data);
    }
}

/* Of a file with a changed byte, the records before it come back; a changed header, none. */
static void forgets_what_is_damaged(void **state)
{
    (void)state;
    unsigned char data[HEADER + 3 * WHOLE];
    struct ivon_records_options options = options_of(run_a, true);
    struct ivon_records *records = open_records(false, 0);
    append(records, 3);
    close_records(records);
    assert_int_equal(load(data, sizeof data), sizeof data);
    for (size_t at = 0; at < sizeof data; at++) {
        data[at] ^= 1;
        write_file("out.part", data, sizeof data);
        if (at >= HEADER) {
            close_records(open_records(true, (int)((at - HEADER) / WHOLE)));
        } else {
            struct ivon_error error;
            assert_int_equal(ivon_records_open(&records, "out.part", &options, take,
                                               &(struct taken){0, -1}, &error),
                             IVON_ERROR_DATA);
            unsigned char found[sizeof data];
            assert_int_equal(load(found, sizeof found), sizeof data);
            assert_memory_equal(found, data, sizeof data); /* it is left as it was */
        }
        data[at] ^= 1;
    }
}

/* A whole record in another's place, as of an earlier run in the same blocks of a disk. */
static void knows_a_records_place(void **state)
{
    (void)state;
    unsigned char data[HEADER + 3 * WHOLE];
    struct ivon_records *records = open_records(false, 0);
    append(records, 3);
    close_records(records);
    assert_int_equal(load(data, sizeof data), sizeof data);
    memmove(data + HEADER + WHOLE, data + HEADER + 2 * WHOLE, WHOLE);
    write_file("out.part", data, sizeof data);
    close_records(open_records(true, 1));
}

static void refuses_other_runs(void **state)
{
    (void)state;
    struct ivon_records_options options = options_of(run_b, true);
    struct ivon_records *records = open_records(false, 0);
    append(records, 2);
    close_records(records);
    refuse(&options, IVON_ERROR_DATA, "out.part: was made with other options or inputs");
    options = options_of(run_a, true);
    options.record_size = CONTENT + 1;
    refuse(&options, IVON_ERROR_DATA, "out.part: its records have another size, expected 6 bytes");
    write_text("out.part", "ivon-records 2\nwhatever");
    refuse(&options, IVON_ERROR_DATA, "out.part: records of another version, or a damaged header");
    close_records(open_records(false, 0)); /* but a new run replaces them */
}

static void stays_off_foreign_files(void **state)
{
    (void)state;
    static const char *const foreign[] = {"index,waic\n0,1\n", "i", "x", "ivon-record"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        for (int resume = 0; resume < 2; resume++) {
            struct ivon_records_options options = options_of(run_a, resume);
            unsigned char found[64];
            write_text("out.part", foreign[i]);
            if (strncmp(foreign[i], "ivon-records", strlen(foreign[i])) == 0) {
                close_records(open_records(resume, 0)); /* could be a torn header */
                continue;
            }
            refuse(
                &options, IVON_ERROR_DATA,
                "out.part: is in the way, and not the records of an interrupted run: remove it, or "
                "name another output");
            assert_int_equal(load(found, sizeof found), strlen(foreign[i]));
            assert_memory_equal(found, foreign[i], strlen(foreign[i]));
        }
    struct ivon_records_options options = options_of(run_a, false);
    unlink("out.part");
    assert_int_equal(mkfifo("out.part", 0600), 0);
    refuse(&options, IVON_ERROR_CREATE, "out.part: not a regular file");
    unlink("out.part");
    assert_int_equal(symlink("elsewhere", "out.part"), 0);
    refuse(&options, IVON_ERROR_CREATE,
           "out.part: cannot create it: Too many levels of symbolic links");
    assert_int_equal(access("elsewhere", F_OK), -1);
    options.record_size = 0;
    refuse(&options, IVON_ERROR_ARGUMENT, "out.part: records of 0 bytes, expected 1 to 1073741824");
}

static void belongs_to_one_run_at_a_time(void **state)
{
    (void)state;
    struct ivon_records_options options = options_of(run_a, true);
    struct ivon_records *records = open_records(false, 0);
    append(records, 2);
    refuse(&options, IVON_ERROR_CREATE, "out.part: another process is writing it");
    options.resume = false;
    refuse(&options, IVON_ERROR_CREATE, "out.part: another process is writing it");
    close_records(records);
    close_records(open_records(true, 2)); /* the first one was undisturbed */
}

static void stops_when_told(void **state)
{
    (void)state;
    struct ivon_records_options options = options_of(run_a, true);
    struct taken taken = {0, 1};
    struct ivon_records *records = open_records(false, 0), *none = NULL;
    append(records, 3);
    close_records(records);
    assert_int_equal(ivon_records_open(&none, "out.part", &options, take, &taken, NULL), 123);
    assert_null(none);
    assert_int_equal(taken.count, 2);
    close_records(open_records(true, 3));
}

/* A record that the disk has no room for can be appended when there is. */
static void appends_again(void **state)
{
    (void)state;
    struct rlimit old, tight;
    struct ivon_error error;
    char content[CONTENT];
    struct ivon_records *records = open_records(false, 0);
    append(records, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = HEADER + 2 * WHOLE + 3;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    content_of(content, 2);
    assert_int_equal(ivon_records_append(records, content, &error), IVON_ERROR_IO);
    assert_string_equal(error.message, "out.part: cannot write it: File too large");
    assert_int_equal(ivon_records_count(records), 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    append(records, 2);
    close_records(records);
    close_records(open_records(true, 4));
}

/* A process that is killed while it appends: what it said that it appended is there. */
static void survives_a_kill(void **state)
{
    (void)state;
    enum { ENOUGH = 100 };
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t writer = fork();
    assert_true(writer >= 0); /* or everyone would be killed */
    if (writer == 0) {
        struct ivon_records *records = NULL;
        struct ivon_records_options options = options_of(run_a, false);
        char content[CONTENT];
        if (ivon_records_open(&records, "out.part", &options, NULL, NULL, NULL))
            _exit(1);
        for (int i = 0;; i++) {
            content_of(content, i);
            if (ivon_records_append(records, content, NULL) || write(ends[1], "!", 1) != 1)
                _exit(1);
        }
    }
    close(ends[1]);
    int said = 0;
    while (said < ENOUGH && read(ends[0], &byte, 1) == 1)
        said++;
    kill(writer, SIGKILL);
    assert_int_equal(waitpid(writer, &(int){0}, 0), writer);
    while (read(ends[0], &byte, 1) == 1)
        said++;
    close(ends[0]);
    struct ivon_records *records = NULL;
    struct ivon_records_options options = options_of(run_a, true);
    struct taken taken = {0, -1};
    assert_int_equal(ivon_records_open(&records, "out.part", &options, take, &taken, NULL), 0);
    assert_true(said >= ENOUGH && (taken.count == said || taken.count == said + 1));
    append(records, 1);
    close_records(records);
    close_records(open_records(true, taken.count + 1));
}

static void syncs(void **state)
{
    (void)state;
    struct ivon_records *records = NULL;
    struct ivon_records_options options = options_of(run_a, false);
    options.sync_seconds = 0;
    assert_int_equal(ivon_records_open(&records, "out.part", &options, NULL, NULL, NULL), 0);
    append(records, 2);
    close_records(records);
    close_records(open_records(true, 2));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean)
    const struct CMUnitTest tests[] = {
        TEST(comes_back_in_order),     TEST(goes_when_complete),
        TEST(forgets_what_is_torn),    TEST(forgets_what_is_damaged),
        TEST(knows_a_records_place),   TEST(refuses_other_runs),
        TEST(stays_off_foreign_files), TEST(belongs_to_one_run_at_a_time),
        TEST(stops_when_told),         TEST(appends_again),
        TEST(survives_a_kill),         TEST(syncs),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
