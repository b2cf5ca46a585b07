/* The zip archive around a pickle and its storages. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/torch.h"
#include "formats/torch/private.h"

static const char pickle_name[] = "/data.pkl";
static const unsigned char legacy[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46};

enum { LOCAL_SIZE = 30 }; /* of what precedes an entry's name */

/* The length of PREFIX/ in PREFIX/data.pkl; 0 for other names. */
static size_t prefix_length(const char *name, size_t length)
{
    size_t suffix = sizeof pickle_name - 1;
    if (length <= suffix || memcmp(name + length - suffix, pickle_name, suffix) != 0 ||
        memchr(name, '/', length - suffix))
        return 0;
    return length - suffix + 1;
}

/* Also where the archive's end is missing: torch.save writes the pickle first. */
static bool begins_with_pickle(const struct mapped_file *file)
{
    if (file->size < LOCAL_SIZE)
        return false;
    size_t length = (size_t)file->data[26] | (size_t)file->data[27] << 8;
    return length <= file->size - LOCAL_SIZE &&
           prefix_length((const char *)file->data + LOCAL_SIZE, length) > 0;
}

static bool is_bare_pickle(const struct mapped_file *file)
{
    return file->size >= 2 && file->data[0] == 0x80 && file->data[1] >= 2 && file->data[1] <= 5;
}

/* The entry of the pickle, or -1; *several when there is more than one. */
static ptrdiff_t find_pickle(const struct zip_archive *zip, bool *several)
{
    size_t count;
    ptrdiff_t found = -1;
    const struct zip_entry *entries = zip_entries(zip, &count);
    *several = false;
    for (size_t i = 0; i < count; i++) {
        if (!prefix_length(entries[i].name, strlen(entries[i].name)))
            continue;
        *several = found >= 0;
        found = (ptrdiff_t)i;
    }
    return found;
}

bool torch_recognise(const struct mapped_file *file)
{
    struct zip_archive *zip = NULL;
    bool several;
    if (is_bare_pickle(file))
        return true;
    if (!zip_recognise(file))
        return false;
    if (begins_with_pickle(file))
        return true;
    bool found = zip_open(&zip, file, NULL) == 0 && find_pickle(zip, &several) >= 0;
    zip_close(zip);
    return found;
}

static int refuse_bare_pickle(const struct mapped_file *file, struct ivon_error *error)
{
    bool old = file->size >= sizeof legacy && memcmp(file->data, legacy, sizeof legacy) == 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          old ? "%s: was saved by PyTorch's format before 1.6: load it there, and "
                                "save it again with torch.save of PyTorch 1.6 or later"
                              : "%s: is a bare pickle: load it in Python, and save its state dict "
                                "with torch.save of PyTorch 1.6 or later",
                          file->path);
}

/* The entry PREFIX/name, or -1. */
static ptrdiff_t torch_archive_find_entry(const struct torch_archive *archive, const char *name)
{
    size_t prefix = strlen(archive->prefix), length = strlen(name);
    char *whole = malloc(prefix + length + 1);
    if (!whole)
        return -1;
    memcpy(whole, archive->prefix, prefix);
    memcpy(whole + prefix, name, length + 1);
    ptrdiff_t found = zip_find(archive->zip, whole);
    free(whole);
    return found;
}

/* Returns whether there is a folder PREFIX/code/. */
static bool has_code(const struct torch_archive *archive)
{
    size_t prefix = strlen(archive->prefix), count;
    const struct zip_entry *entries = zip_entries(archive->zip, &count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(entries[i].name, archive->prefix, prefix) == 0 &&
            strncmp(entries[i].name + prefix, "code/", 5) == 0)
            return true;
    return false;
}

static int check_byte_order(const struct torch_archive *archive, struct ivon_error *error)
{
    char order[7] = "";
    struct bytes *bytes = NULL;
    ptrdiff_t entry = torch_archive_find_entry(archive, "byteorder");
    int code = entry < 0 ? 0 : zip_entry_open(&bytes, archive->zip, (size_t)entry, error);
    if (!code && bytes && bytes_size(bytes) < sizeof order)
        code = bytes_read(bytes, 0, (size_t)bytes_size(bytes), order, error);
    if (!code && bytes && strcmp(order, "little") != 0)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: was saved on a machine of %s byte order, expected little",
                              archive->file.path, strcmp(order, "big") == 0 ? "big" : "unknown");
    bytes_close(bytes);
    return code;
}

/* The archive's kind: what torch.jit saves has a pickle too, of objects with code. */
static int check_kind(struct torch_archive *archive, struct ivon_error *error)
{
    bool several;
    ptrdiff_t pickle = find_pickle(archive->zip, &several);
    if (pickle < 0 || several)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has %s data.pkl, expected one",
                              archive->file.path, several ? "more than one" : "no");
    const char *name = zip_entries(archive->zip, &archive->entry_count)[pickle].name;
    archive->prefix = strndup(name, prefix_length(name, strlen(name)));
    archive->storages = calloc(archive->entry_count, sizeof(struct bytes *));
    if (!archive->prefix || !archive->storages)
        return ivon_error_memory(error);
    if (torch_archive_find_entry(archive, "constants.pkl") >= 0 || has_code(archive))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is a TorchScript archive: load it with torch.jit.load, and save "
                              "its state_dict() with torch.save",
                              archive->file.path);
    return check_byte_order(archive, error);
}

int torch_archive_open(struct torch_archive *archive, struct mapped_file *mapped,
                       struct ivon_error *error)
{
    *archive = (struct torch_archive){.file = *mapped};
    *mapped = (struct mapped_file){0};
    pthread_mutex_init(&archive->lock, NULL);
    int code = is_bare_pickle(&archive->file) ? refuse_bare_pickle(&archive->file, error) : 0;
    if (!code)
        code = zip_open(&archive->zip, &archive->file, error);
    if (!code)
        code = check_kind(archive, error);
    if (code)
        torch_archive_close(archive);
    return code;
}

void torch_archive_close(struct torch_archive *archive)
{
    for (size_t i = 0; archive->storages && i < archive->entry_count; i++)
        bytes_close(archive->storages[i]);
    free(archive->storages);
    free(archive->prefix);
    zip_close(archive->zip);
    mapped_close(&archive->file);
    pthread_mutex_destroy(&archive->lock);
}

int torch_archive_pickle(struct torch_archive *archive, size_t memory, const unsigned char **data,
                         size_t *size, unsigned char **copy, struct ivon_error *error)
{
    ptrdiff_t entry = torch_archive_find_entry(archive, "data.pkl");
    if (entry < 0)
        return ivon_error_memory(error);
    struct bytes **bytes = &archive->storages[entry];
    int code = zip_entry_open(bytes, archive->zip, (size_t)entry, error);
    if (code)
        return code;
    *size = (size_t)bytes_size(*bytes);
    *data = bytes_view(*bytes);
    if (*data)
        return 0;
    if (*size > memory)
        return ivon_error_set(error, IVON_ERROR_MEMORY,
                              "%s: %zu bytes, when inflated, exceed the memory of %zu",
                              bytes_name(*bytes), *size, memory);
    *data = *copy = malloc(*size + 1);
    return *copy ? bytes_read(*bytes, 0, *size, *copy, error) : ivon_error_memory(error);
}
