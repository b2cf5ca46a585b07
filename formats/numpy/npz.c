/* NumPy's npz as a source: the archive's members whose names end in ".npy", without that. */
#include "formats/numpy/npz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/numpy/array.h"
#include "formats/io/inflated.h"
#include "formats/posterior/parts.h"
#include "formats/io/strided.h"
#include "formats/io/zip.h"

enum { DEFAULT_MEMORY = 64 << 20, TEXT_MAX = 1 << 20 /* bytes of a header's string */ };

static const char suffix[] = ".npy";

/* An entry of the archive; not an array where the name is null. */
struct member {
    char *name;
    const unsigned char *data; /* of the elements; null when they are deflated */
    uint64_t offset;           /* of the elements in the entry */
    bool swapped, fortran;
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
    char opaque[ARRAY_OPAQUE_SIZE]; /* as in struct array */
};

struct npz {
    struct mapped_file mapped;
    struct zip_archive *archive;
    struct inflated *inflated;
    struct slabs *slabs;    /* of what is both inflated and in Fortran order */
    struct member *members; /* as the archive's entries */
    size_t count;
    const struct member **by_name; /* the arrays among them, sorted */
    size_t named;
    bool posterior;
    size_t *tensors; /* the members that the source's tensors are */
};

static int npz_read_member(struct npz *npz, size_t index, size_t first, size_t count, void *buffer,
                           struct ivon_error *error)
{
    const struct member *member = &npz->members[index];
    size_t size = ivon_dtype_size(member->dtype);
    int code = 0;
    if (member->data && member->fortran) {
        int64_t strides[IVON_RANK_MAX];
        strided_fortran(strides, member->rank, member->shape);
        strided_copy(buffer, member->data, size, member->rank, member->shape, strides, first,
                     count);
    } else if (member->fortran) {
        code = slabs_read(npz->slabs, index, size, member->rank, member->shape, first, count,
                          buffer, error);
    } else if (member->data) {
        memcpy(buffer, member->data + first * size, count * size);
    } else {
        code = inflated_read(npz->inflated, index, member->offset + first * size, count * size,
                             buffer, error);
    }
    if (!code && member->swapped)
        array_swap(buffer, size, count);
    return code;
}

static int npz_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                    struct ivon_error *error)
{
    struct npz *npz = self;
    return npz_read_member(npz, npz->tensors[tensor], first, count, buffer, error);
}

static const void *npz_view(void *self, size_t tensor)
{
    struct npz *npz = self;
    const struct member *member = &npz->members[npz->tensors[tensor]];
    bool swapped = member->swapped && ivon_dtype_size(member->dtype) > 1;
    return swapped || member->fortran ? NULL : member->data;
}

static size_t element_count(const struct member *member)
{
    size_t count = 1;
    for (int i = 0; i < member->rank; i++)
        count *= (size_t)member->shape[i];
    return count;
}

static void npz_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct npz *npz = self;
    const struct member *member = &npz->members[npz->tensors[tensor]];
    size_t size = ivon_dtype_size(member->dtype);
    bool scattered = member->fortran; /* what a range uses lies all over the array */
    if (!member->data || (scattered && advice == MADV_WILLNEED))
        return;
    first = scattered ? 0 : first;
    count = scattered ? element_count(member) : count;
    mapped_advise(&npz->mapped, (uint64_t)(member->data - npz->mapped.data) + first * size,
                  count * size, advice);
}

static void npz_close(void *self)
{
    struct npz *npz = self;
    for (size_t i = 0; i < npz->count; i++)
        free(npz->members[i].name);
    free(npz->members);
    free(npz->by_name);
    free(npz->tensors);
    slabs_free(npz->slabs);
    inflated_free(npz->inflated);
    zip_close(npz->archive);
    mapped_close(&npz->mapped);
    free(npz);
}

static int npz_open_member(struct npz *npz, size_t index, const char *name, size_t length,
                           struct ivon_error *error)
{
    struct member *member = &npz->members[index];
    struct array array = {0};
    size_t count;
    const struct zip_entry *entry = &zip_entries(npz->archive, &count)[index];
    if (entry->refused) {
        *member = (struct member){.name = strndup(name, length), .dtype = IVON_U8, .rank = -1};
        snprintf(member->opaque, sizeof member->opaque, "a zip entry that %s", entry->refused);
        return member->name ? 0 : ivon_error_memory(error);
    }
    int code = zip_entry_open(&array.bytes, npz->archive, index, error);
    if (!code)
        code = npy_parse(&array, error);
    if (!code) {
        const unsigned char *view = bytes_view(array.bytes);
        *member = (struct member){.name = strndup(name, length),
                                  .data = view ? view + array.offset : NULL,
                                  .offset = array.offset,
                                  .swapped = array.swapped,
                                  .fortran = array.fortran,
                                  .dtype = array.dtype,
                                  .rank = array.rank};
        memcpy(member->shape, array.shape, sizeof member->shape);
        memcpy(member->opaque, array.opaque, sizeof member->opaque);
        code = member->name ? 0 : ivon_error_memory(error);
    }
    array_close(&array);
    return code;
}

static int compare_headers(const void *a, const void *b)
{
    const struct zip_entry *const *left = a, *const *right = b;
    return ((*left)->header > (*right)->header) - ((*left)->header < (*right)->header);
}

/* No two entries share bytes: so what all inflate to is bounded by the file's size. */
static int check_overlaps(const struct npz *npz, struct ivon_error *error)
{
    size_t count;
    const struct zip_entry *entries = zip_entries(npz->archive, &count);
    const struct zip_entry **sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &entries[i];
    qsort(sorted, count, sizeof *sorted, compare_headers);
    int code = 0;
    for (size_t i = 1; i < count && !code; i++)
        if (sorted[i]->header - sorted[i - 1]->header < sorted[i - 1]->stored_size)
            code = ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: damaged zip archive: '%s' and '%s' overlap",
                                  npz->mapped.path, sorted[i - 1]->name, sorted[i]->name);
    free(sorted);
    return code;
}

static int npz_open_members(struct npz *npz, struct ivon_error *error)
{
    size_t count, end = sizeof suffix - 1, arrays = 0;
    const struct zip_entry *entries = zip_entries(npz->archive, &count);
    npz->members = calloc(count + 1, sizeof *npz->members);
    if (!npz->members)
        return ivon_error_memory(error);
    npz->count = count;
    int code = check_overlaps(npz, error);
    for (size_t i = 0; i < count && !code; i++) {
        size_t length = strlen(entries[i].name);
        if (length <= end || strcmp(entries[i].name + length - end, suffix) != 0)
            continue;
        arrays++;
        code = npz_open_member(npz, i, entries[i].name, length - end, error);
    }
    if (!code && !arrays)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is a zip archive, but no npz: none of its %zu members is called "
                              "NAME.npy",
                              npz->mapped.path, count);
    return code;
}

static int npz_compare_names(const void *a, const void *b)
{
    const struct member *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static int sort_members(struct npz *npz, struct ivon_error *error)
{
    npz->by_name = calloc(npz->count + 1, sizeof *npz->by_name);
    if (!npz->by_name)
        return ivon_error_memory(error);
    for (size_t i = 0; i < npz->count; i++)
        if (npz->members[i].name)
            npz->by_name[npz->named++] = &npz->members[i];
    qsort(npz->by_name, npz->named, sizeof *npz->by_name, npz_compare_names);
    return 0;
}

/* The order of a member's name and of "PREFIX/NAME", or of NAME when the prefix is null. */
static int compare_to(const char *found, const char *prefix, const char *name)
{
    if (!prefix)
        return strcmp(found, name);
    size_t length = strlen(prefix);
    int order = strncmp(found, prefix, length);
    if (!order)
        order = (unsigned char)found[length] - '/';
    return order ? order : strcmp(found + length + 1, name);
}

static const struct member *find_member(const struct npz *npz, const char *prefix, const char *name)
{
    size_t low = 0, high = npz->named;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_to(npz->by_name[middle]->name, prefix, name);
        if (order == 0)
            return npz->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* In a posterior, what has a number's name and no dimensions is that number. */
static int npz_find_number(void *context, const char *key, struct parts_number *number,
                           struct ivon_error *error)
{
    struct npz *npz = context;
    int64_t integer = 0;
    uint64_t value = 0; /* space for an element */
    const struct member *member = npz->posterior ? find_member(npz, NULL, key) : NULL;
    if (!member || member->rank || *member->opaque)
        return 0;
    int code = npz_read_member(npz, (size_t)(member - npz->members), 0, 1, &value, error);
    if (code)
        return code;
    ivon_dtype_to_f64(&number->number, &value, member->dtype, 1);
    if (ivon_dtype_size(member->dtype) == sizeof integer)
        memcpy(&integer, &value, sizeof integer);
    else if (!ivon_dtype_is_float(member->dtype))
        integer = (int64_t)number->number;
    number->is_integer = !ivon_dtype_is_float(member->dtype) &&
                         (member->dtype != IVON_U64 || integer >= 0);
    number->integer = integer;
    return 1;
}

static bool npz_is_text(const struct member *member)
{
    return !*member->opaque && member->dtype == IVON_U8 && member->rank == 1 &&
           member->shape[0] <= TEXT_MAX &&
           (strcmp(member->name, "creator") == 0 || strcmp(member->name, "provenance") == 0);
}

/* A string of a posterior's header, as UTF-8 in a list of bytes; to be freed. */
static int find_text(struct npz *npz, const char *key, char **text, struct ivon_error *error)
{
    const struct member *member = npz->posterior ? find_member(npz, NULL, key) : NULL;
    *text = NULL;
    if (!member || !npz_is_text(member))
        return 0;
    size_t size = (size_t)member->shape[0];
    *text = calloc(1, size + 1);
    if (!*text)
        return ivon_error_memory(error);
    size_t index = (size_t)(member - npz->members);
    return size ? npz_read_member(npz, index, 0, size, *text, error) : 0;
}

/* True if a member of a posterior is part of its header, or a number of one Hessian alone. */
static bool is_header(const struct npz *npz, const struct member *member)
{
    const char *slash = strchr(member->name, '/');
    if (!npz->posterior || !parts_own_key(member->name))
        return false;
    if (npz_is_text(member))
        return true;
    return !member->rank && !*member->opaque &&
           (!slash || find_member(npz, ivon_part_name(IVON_HESSIAN), slash + 1));
}

static bool npz_is_posterior(const struct npz *npz)
{
    const struct member *mark = find_member(npz, NULL, PARTS_MARK);
    bool found = mark && !mark->rank;
    for (size_t i = 0; i < npz->count && !found; i++)
        found = npz->members[i].name && parts_posterior_name(npz->members[i].name);
    return found;
}

static int npz_list_tensors(struct npz *npz, const struct parts_file *parts,
                            struct tensor_list *tensors, struct ivon_error *error)
{
    int code = 0;
    npz->tensors = calloc(npz->count + 1, sizeof *npz->tensors);
    if (!npz->tensors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < npz->count && !code; i++) {
        const struct member *member = &npz->members[i];
        if (!member->name || is_header(npz, member))
            continue;
        struct ivon_tensor described = {.dtype = member->dtype,
                                        .rank = member->rank,
                                        .stored_as = *member->opaque ? member->opaque : NULL};
        memcpy(described.shape, member->shape, sizeof described.shape);
        npz->tensors[tensors->count] = i;
        code = parts_append(parts, tensors, member->name, &described, error);
    }
    return code;
}

static int npz_make_source(struct ivon_source **source, struct npz *npz,
                           const struct ivon_open_options *options, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = npz_read, .view = npz_view, .advise = npz_advise, .close = npz_close};
    struct tensor_list tensors = {0};
    struct ivon_header header = ivon_header_empty();
    char *creator = NULL, *provenance = NULL;
    npz->posterior = npz_is_posterior(npz);
    struct parts_file parts = {.path = npz->mapped.path,
                               .posterior = npz->posterior,
                               .options = options,
                               .number = npz_find_number,
                               .context = npz};
    int code = parts_header(&parts, &header, error);
    if (!code)
        code = find_text(npz, "creator", &creator, error);
    if (!code)
        code = find_text(npz, "provenance", &provenance, error);
    header.creator = creator;
    header.provenance = provenance;
    if (!code)
        code = npz_list_tensors(npz, &parts, &tensors, error);
    if (!code)
        code = parts_finish(&parts, &tensors, &header, error);
    if (!code)
        code = ivon_source_new(source, &class, npz, npz->mapped.path, &header, &tensors, error);
    free(creator);
    free(provenance);
    tensor_list_release(&tensors);
    return code;
}

/* Bytes of a deflated member's elements, as they are stored. */
static int fetch_member(void *context, size_t index, uint64_t offset, size_t size, void *out,
                        struct ivon_error *error)
{
    struct npz *npz = context;
    return inflated_read(npz->inflated, index, npz->members[index].offset + offset, size, out,
                         error);
}

int npz_open(struct ivon_source **source, struct mapped_file *mapped,
             const struct ivon_open_options *options, struct ivon_error *error)
{
    struct npz *npz = calloc(1, sizeof *npz);
    if (!npz) {
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    npz->mapped = *mapped;
    *mapped = (struct mapped_file){0};
    int code = zip_open(&npz->archive, &npz->mapped, error);
    if (!code)
        code = npz_open_members(npz, error);
    if (!code)
        code = sort_members(npz, error);
    if (!code)
        code = inflated_new(&npz->inflated, npz->archive,
                            options->resources.memory ? options->resources.memory : DEFAULT_MEMORY,
                            error);
    if (!code)
        code = slabs_new(&npz->slabs,
                         options->resources.memory ? options->resources.memory : DEFAULT_MEMORY,
                         fetch_member, npz, error);
    if (!code)
        code = npz_make_source(source, npz, options, error);
    if (code)
        npz_close(npz);
    return code;
}
