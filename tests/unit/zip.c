/* Zip archives and inflated bytes: what is there is read, what is claimed is checked. */
#include "tests/unit/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <zlib.h>

#include "core/error.h"
#include "formats/io/zip.h"

/* An entry, and the lies about it that a test may tell. */
struct entry {
    const char *name;
    const void *data;
    size_t size;
    bool deflated;
    uint64_t claimed_size; /* 0: the true one */
    uint32_t claimed_crc;  /* 0: the true one */
    uint16_t flags, method_added;
    uint64_t moved; /* added to the header's place */
};

static size_t deflate_raw(const void *data, size_t size, unsigned char *out, size_t capacity,
                          int window)
{
    z_stream stream = {.next_in = (Bytef *)data,
                       .avail_in = (uInt)size,
                       .next_out = out,
                       .avail_out = (uInt)capacity};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return capacity - stream.avail_out;
}

/* Writes an archive as PyTorch does: no sizes in front of the entries. With `wide`, all sizes and
   places are in Zip64 fields. */
static void write_zip(struct buffer *zip, const struct entry *entries, size_t count, bool wide)
{
    static unsigned char packed[1 << 20];
    uint64_t headers[8], sizes[8], directory;
    assert_true(count <= 8);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        const void *data = entry->data;
        sizes[i] = entry->size;
        if (entry->deflated) {
            sizes[i] = deflate_raw(entry->data, entry->size, packed, sizeof packed, -MAX_WBITS);
            data = packed;
        }
        headers[i] = zip->size;
        put_little(zip, 0x04034b50, 4);
        put_little(zip, 0, 22);
        put_little(zip, strlen(entry->name), 2);
        put_little(zip, 3, 2);
        put(zip, entry->name, strlen(entry->name));
        put(zip, "pad", 3);
        put(zip, data, sizes[i]);
    }
    directory = zip->size;
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        uint64_t size = entry->claimed_size ? entry->claimed_size : entry->size;
        uint32_t crc = (uint32_t)crc32(0, entry->data, (uInt)entry->size);
        put_little(zip, 0x02014b50, 4);
        put_little(zip, 45 | 45 << 16, 4);
        put_little(zip, entry->flags, 2);
        put_little(zip, (entry->deflated ? 8U : 0U) + entry->method_added, 2);
        put_little(zip, 0, 4);
        put_little(zip, entry->claimed_crc ? entry->claimed_crc : crc, 4);
        put_little(zip, wide ? UINT32_MAX : sizes[i], 4);
        put_little(zip, wide ? UINT32_MAX : size, 4);
        put_little(zip, strlen(entry->name), 2);
        put_little(zip, wide ? 6 + 4 + 24 : 6, 2);
        put_little(zip, 0, 8);
        put_little(zip, 0, 2);
        put_little(zip, wide ? UINT32_MAX : headers[i] + entry->moved, 4);
        put(zip, entry->name, strlen(entry->name));
        put_little(zip, 0xcafe, 2); /* an extra field to pass over */
        put_little(zip, 2, 2);
        put_little(zip, 0, 2);
        if (wide) {
            put_little(zip, 1, 2);
            put_little(zip, 24, 2);
            put_little(zip, size, 8);
            put_little(zip, sizes[i], 8);
            put_little(zip, headers[i] + entry->moved, 8);
        }
    }
    uint64_t end = zip->size;
    if (wide) {
        put_little(zip, 0x06064b50, 4);
        put_little(zip, 44, 8);
        put_little(zip, 0, 8);
        put_little(zip, 0, 4);
        put_little(zip, count, 8);
        put_little(zip, count, 8);
        put_little(zip, end - directory, 8);
        put_little(zip, directory, 8);
        put_little(zip, 0x07064b50, 4);
        put_little(zip, 0, 4);
        put_little(zip, end, 8);
        put_little(zip, 1, 4);
    }
    put_little(zip, 0x06054b50, 4);
    put_little(zip, 0, 4);
    put_little(zip, wide ? UINT16_MAX : count, 2);
    put_little(zip, wide ? UINT16_MAX : count, 2);
    put_little(zip, wide ? UINT32_MAX : end - directory, 4);
    put_little(zip, wide ? UINT32_MAX : directory, 4);
    put_little(zip, 7, 2);
    put(zip, "comment", 7);
}

static struct buffer zip;

static struct zip_archive *open_zip(struct mapped_file *file, const struct entry *entries,
                                    size_t count, bool wide)
{
    struct zip_archive *archive = NULL;
    struct ivon_error error = {.message = "none"};
    zip.size = 0;
    write_zip(&zip, entries, count, wide);
    write_file("a.zip", zip.data, zip.size);
    assert_int_equal(mapped_open(file, "a.zip", &error), 0);
    assert_true(zip_recognise(file));
    if (zip_open(&archive, file, &error))
        fail_msg("%s", error.message);
    return archive;
}

static void close_zip(struct mapped_file *file, struct zip_archive *archive)
{
    zip_close(archive);
    mapped_close(file);
}

/* Numbers that compress a little. */
static const unsigned char *sample(size_t size)
{
    static unsigned char data[200000];
    assert_true(size <= sizeof data);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * i >> 7);
    return data;
}

static void reads_entries(void **state)
{
    (void)state;
    enum { SIZE = 200000 };
    const unsigned char *data = sample(SIZE);
    const struct entry entries[] = {
        {.name = "archive/data.pkl", .data = data, .size = 10},
        {.name = "x.npy", .data = data, .size = SIZE, .deflated = true},
        {.name = "empty", .data = data, .size = 0},
        {.name = "b", .data = data + 1, .size = SIZE - 1},
    };
    static unsigned char out[SIZE];
    for (int wide = 0; wide < 2; wide++) {
        struct mapped_file file;
        struct ivon_error error;
        size_t count;
        struct zip_archive *archive = open_zip(&file, entries, 4, wide);
        const struct zip_entry *listed = zip_entries(archive, &count);
        assert_int_equal(count, 4);
        assert_int_equal(zip_find(archive, "nothing"), -1);
        for (size_t i = 0; i < count; i++) {
            struct bytes *bytes = NULL;
            assert_string_equal(listed[i].name, entries[i].name);
            assert_int_equal(zip_find(archive, entries[i].name), i);
            assert_int_equal(zip_entry_open(&bytes, archive, i, &error), 0);
            assert_int_equal(bytes_size(bytes), entries[i].size);
            assert_int_equal(bytes_read(bytes, 0, entries[i].size, out, &error), 0);
            assert_memory_equal(out, entries[i].data, entries[i].size);
            assert_true(!bytes_view(bytes) == entries[i].deflated);
            if (!entries[i].deflated)
                assert_memory_equal(bytes_view(bytes), entries[i].data, entries[i].size);
            bytes_close(bytes);
        }
        close_zip(&file, archive);
    }
}

/* Forwards in pieces, backwards, and the same again. */
static void inflates_any_range(void **state)
{
    (void)state;
    enum { SIZE = 150001 };
    const unsigned char *data = sample(SIZE);
    const struct entry entries[] = {{.name = "x", .data = data, .size = SIZE, .deflated = true}};
    static unsigned char out[SIZE];
    struct mapped_file file;
    struct ivon_error error;
    struct bytes *bytes = NULL;
    struct zip_archive *archive = open_zip(&file, entries, 1, false);
    assert_int_equal(zip_entry_open(&bytes, archive, 0, &error), 0);
    const size_t ranges[][2] = {{0, 10},   {10, 7},   {90000, 50000}, {50000, 40001}, {150000, 1},
                                {0, SIZE}, {SIZE, 0}, {149999, 2},    {3, 1}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        assert_int_equal(bytes_read(bytes, ranges[i][0], ranges[i][1], out, &error), 0);
        assert_memory_equal(out, data + ranges[i][0], ranges[i][1]);
    }
    const uint64_t beyond[][2] = {
        {SIZE, 1}, {SIZE + 1, 0}, {0, SIZE + 1}, {UINT64_MAX, 2}, {2, SIZE_MAX}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++)
        assert_int_equal(bytes_read(bytes, beyond[i][0], beyond[i][1], out, &error),
                         IVON_ERROR_DATA);
    bytes_close(bytes);
    close_zip(&file, archive);
}

/* Opening or reading entry 0 fails, and says so. */
static void refused_entry(const struct entry *entry, const char *message)
{
    static unsigned char out[200000];
    struct mapped_file file;
    struct ivon_error error = {.message = "none"};
    struct bytes *bytes = NULL;
    struct zip_archive *archive = open_zip(&file, entry, 1, true);
    int code = zip_entry_open(&bytes, archive, 0, &error);
    for (int times = 0; times < 2 && bytes; times++) { /* and stays as it was */
        assert_true(bytes_size(bytes) <= sizeof out);
        code = bytes_read(bytes, 0, bytes_size(bytes), out, &error);
        assert_int_equal(code, IVON_ERROR_DATA);
    }
    assert_int_equal(code, IVON_ERROR_DATA);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
    assert_non_null(strstr(error.message, "a.zip"));
    bytes_close(bytes);
    close_zip(&file, archive);
}

static void refuses_entries_that_lie(void **state)
{
    (void)state;
    static unsigned char zeros[100000];
    const unsigned char *data = sample(1000);
    struct entry entry = {.name = "x", .data = data, .size = 1000, .deflated = true};
    struct entry lie = entry;
    lie.claimed_size = 999;
    refused_entry(&lie, "more than they should be");
    lie.claimed_size = 1001;
    refused_entry(&lie, "fewer than they should be");
    lie.claimed_size = UINT64_C(1) << 40;
    refused_entry(&lie, "can expand to");
    lie = entry;
    lie.claimed_crc = 1;
    refused_entry(&lie, "checksum");
    lie = entry;
    lie.flags = 1;
    refused_entry(&lie, "'x' is encrypted");
    lie = entry;
    lie.method_added = 4;
    refused_entry(&lie, "another method");
    lie = entry;
    lie.moved = 1;
    refused_entry(&lie, "not where");
    lie.moved = UINT64_MAX - 3;
    refused_entry(&lie, "not where");
    lie = (struct entry){.name = "x", .data = data, .size = 1000, .claimed_size = 1001};
    refused_entry(&lie, "not where");
    lie = (struct entry){.name = "x", .data = zeros, .size = sizeof zeros, .method_added = 8};
    refused_entry(&lie, "damaged compressed data"); /* stored, said to be deflated */
}

/* Every truncation, and every changed byte, of a small archive is survived. */
static void survives_damage(void **state)
{
    (void)state;
    const unsigned char *data = sample(300);
    const struct entry entries[] = {{.name = "x", .data = data, .size = 300, .deflated = true},
                                    {.name = "y", .data = data, .size = 20}};
    static unsigned char out[1 << 20];
    size_t opened = 0;
    write_file("a.zip", out, 4096);
    int descriptor = open("a.zip", O_RDWR);
    unsigned char *copy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    assert_true(copy != MAP_FAILED && close(descriptor) == 0);
    for (int wide = 0; wide < 2; wide++) {
        zip.size = 0;
        write_zip(&zip, entries, 2, wide);
        for (size_t i = 0; i < 9 * zip.size; i++) {
            struct ivon_error error;
            struct zip_archive *archive = NULL;
            size_t at = i % zip.size, count;
            bool cut = i < zip.size;
            memcpy(copy, zip.data, zip.size);
            copy[at] ^= (unsigned char)(cut ? 0 : 1U << (i / zip.size - 1));
            char path[] = "a.zip";
            struct mapped_file file = {.path = path, .data = copy, .size = cut ? at : zip.size};
            if (!file.size || zip_open(&archive, &file, &error))
                continue;
            zip_entries(archive, &count);
            for (size_t e = 0; e < count; e++) {
                struct bytes *bytes = NULL;
                if (zip_entry_open(&bytes, archive, e, &error) == 0 &&
                    bytes_size(bytes) <= sizeof out)
                    bytes_read(bytes, 0, bytes_size(bytes), out, &error);
                bytes_close(bytes);
            }
            opened++;
            zip_close(archive);
        }
    }
    munmap(copy, 4096);
    assert_true(opened > 1000); /* damage to what no one reads is no damage */
}

static void refuses_archives(void **state)
{
    (void)state;
    const struct entry twice[] = {{.name = "x", .data = "1", .size = 1},
                                  {.name = "x", .data = "2", .size = 1}};
    struct mapped_file file;
    struct zip_archive *archive = NULL;
    struct ivon_error error;
    zip.size = 0;
    write_zip(&zip, twice, 2, false);
    write_file("a.zip", zip.data, zip.size);
    assert_int_equal(mapped_open(&file, "a.zip", &error), 0);
    assert_int_equal(zip_open(&archive, &file, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "a.zip: damaged zip archive: 'x' occurs twice");
    mapped_close(&file);
    write_file("a.zip", zip.data, zip.size - 30);
    assert_int_equal(mapped_open(&file, "a.zip", &error), 0);
    assert_int_equal(zip_open(&archive, &file, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "cut off"));
    mapped_close(&file);
    assert_null(archive);
}

static void inflates_gzip_members(void **state)
{
    (void)state;
    enum { SIZE = 5000 };
    const unsigned char *data = sample(SIZE);
    static unsigned char packed[2 * SIZE], out[SIZE];
    struct ivon_error error;
    size_t first = deflate_raw(data, 2000, packed, sizeof packed, 16 + MAX_WBITS);
    size_t size = first + deflate_raw(data + 2000, SIZE - 2000, packed + first,
                                      sizeof packed - first, 16 + MAX_WBITS);
    for (size_t cut = 0; cut < size; cut++) { /* every truncation is noticed, the last at the end */
        struct bytes *bytes = NULL;
        struct mapped_file file;
        write_file("a.gz", packed, size - cut);
        assert_int_equal(mapped_open(&file, "a.gz", &error), 0);
        const struct bytes_origin origin = {.name = "a.gz",
                                            .file = &file,
                                            .data = file.data,
                                            .data_size = file.size,
                                            .coding = BYTES_GZIPPED};
        assert_int_equal(bytes_open(&bytes, &origin, &error), 0);
        int code = bytes_expect(bytes, SIZE, &error);
        if (!code)
            code = bytes_read(bytes, 0, SIZE, out, &error);
        assert_int_equal(code, cut ? IVON_ERROR_DATA : 0);
        if (!cut)
            assert_memory_equal(out, data, SIZE);
        bytes_close(bytes);
        mapped_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_entries),
        cmocka_unit_test(inflates_any_range),
        cmocka_unit_test(refuses_entries_that_lie),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(refuses_archives),
        cmocka_unit_test(inflates_gzip_members),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
