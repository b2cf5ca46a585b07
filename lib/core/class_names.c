#include "core/class_names.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/utf8.h"
#include "ivon/targets.h"

/* Returns what is wrong with a name, or null. */
static const char *class_name_fault(const char *name)
{
    size_t length = strlen(name);
    uint32_t character;
    if (!length)
        return "is empty";
    if (name[0] == ' ' || name[length - 1] == ' ')
        return "begins or ends with a space";
    for (size_t at = 0, size; at < length; at += size) {
        size = utf8_decode((const unsigned char *)name + at, length - at, &character);
        if (!size)
            return "is not in UTF-8";
        if (character < 0x20 || (character >= 0x7f && character < 0xa0))
            return "has a control character";
    }
    return NULL;
}

static int class_names_compare(const void *a, const void *b)
{
    const char *const *left = *(const char *const *const *)a;
    const char *const *right = *(const char *const *const *)b;
    int order = strcmp(*left, *right);
    return order ? order : (left > right) - (left < right);
}

int class_names_init(struct class_names *classes, const char *const *names, size_t count,
                     struct ivon_error *error)
{
    *classes = (struct class_names){names, calloc(count + 1, sizeof *classes->order), count};
    if (!classes->order)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const char *fault = class_name_fault(names[i]);
        if (fault)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "the name of class %zu %s", i, fault);
        classes->order[i] = names + i;
    }
    qsort(classes->order, count, sizeof *classes->order, class_names_compare);
    for (size_t i = 1; i < count; i++) {
        const char *const *first = classes->order[i - 1], *const *second = classes->order[i];
        if (strcmp(*first, *second) == 0)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "classes %zu and %zu have one name, '%s'",
                                  (size_t)(first - names), (size_t)(second - names), *first);
    }
    return 0;
}

void class_names_release(struct class_names *classes)
{
    free(classes->order);
    *classes = (struct class_names){0};
}

/* Orders bytes as strcmp does strings. */
static int class_name_order(const char *text, size_t size, const char *name)
{
    size_t length = strlen(name);
    int order = memcmp(text, name, size < length ? size : length);
    return order ? order : (size > length) - (size < length);
}

int64_t class_names_find(const struct class_names *classes, const char *text, size_t size)
{
    size_t low = 0, high = classes->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = class_name_order(text, size, *classes->order[middle]);
        if (!order)
            return classes->order[middle] - classes->names;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int ivon_class_names_check(const char *const *names, size_t count, struct ivon_error *error)
{
    struct class_names classes;
    int code = class_names_init(&classes, names, count, error);
    class_names_release(&classes);
    return code;
}
