#include "formats/dataset/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/error.h"
#include "formats/io/strings.h"

/* The names in one directory. */
struct names {
    char **names;
    size_t count;
};

/* The entries of a directory that count. */
struct listing {
    struct names directories, images;
    char *foreign; /* an image in a format that is not read, or null */
};

static void names_release(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
    *names = (struct names){0};
}

static void listing_release(struct listing *listing)
{
    names_release(&listing->directories);
    names_release(&listing->images);
    free(listing->foreign);
}

/* Takes over a name, which may be null where memory is exhausted; the capacity is the next power of
   two. */
static bool names_add(struct names *names, char *name)
{
    size_t count = names->count;
    char **grown = names->names;
    if (name && (count & (count - 1)) == 0)
        grown = realloc(names->names, (count ? 2 * count : 1) * sizeof *grown);
    if (!name || !grown) {
        free(name);
        return false;
    }
    names->names = grown;
    names->names[names->count++] = name;
    return true;
}

char *image_folder_join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s", folder, name);
    return path;
}

static bool ends_as(const char *name, const char *const *suffixes)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *suffixes; suffixes++)
        if (strcasecmp(dot, *suffixes) == 0)
            return true;
    return false;
}

static bool entry_is_directory(DIR *directory, const struct dirent *entry)
{
    struct stat status;
    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(dirfd(directory), entry->d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
}

/* Puts an entry where it belongs; false where memory is exhausted. A link by the name of an image
   is not followed before it is read. */
static bool listing_add(struct listing *listing, DIR *directory, const struct dirent *entry)
{
    static const char *const read[] = {".png", ".jpg", ".jpeg", NULL};
    static const char *const foreign[] = {".bmp",  ".gif", ".pgm",  ".ppm",
                                          ".tiff", ".tif", ".webp", NULL};
    const char *name = entry->d_name;
    if (*name == '.')
        return true;
    if (ends_as(name, read) && entry->d_type != DT_DIR)
        return names_add(&listing->images, strdup(name));
    if (entry_is_directory(directory, entry))
        return names_add(&listing->directories, strdup(name));
    if (!listing->foreign && ends_as(name, foreign))
        return (listing->foreign = strdup(name));
    return true;
}

static int listing_read(struct listing *listing, const char *path, struct ivon_error *error)
{
    DIR *directory = opendir(path);
    struct dirent *entry = NULL;
    bool fine = true;
    if (!directory)
        return ivon_error_set(error, IVON_ERROR_INPUT, "%s: cannot open it: %s", path,
                              strerror(errno));
    do {
        errno = 0;
        entry = readdir(directory);
        fine = !entry || listing_add(listing, directory, entry);
    } while (entry && fine);
    int code = !fine   ? ivon_error_memory(error)
               : errno ? ivon_error_set(error, IVON_ERROR_INPUT, "%s: cannot list it: %s", path,
                                        strerror(errno))
                       : 0;
    closedir(directory);
    if (!code && listing->foreign)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s/%s: is in a format that is not read, expected PNG or JPEG", path,
                              listing->foreign);
    struct names *sorted[] = {&listing->directories, &listing->images};
    for (size_t i = 0; i < 2; i++)
        if (sorted[i]->count)
            qsort(sorted[i]->names, sorted[i]->count, sizeof(char *), strings_compare);
    return code;
}

/* Appends images as those of a class, or of none. */
static int image_folder_append(struct image_folder *folder, struct names *images, const char *class,
                               size_t number, struct ivon_error *error)
{
    size_t count = folder->count + images->count;
    char **names = realloc(folder->names, (count + 1) * sizeof *names);
    if (names)
        folder->names = names;
    size_t *classes = realloc(folder->classes, (count + 1) * sizeof *classes);
    if (classes)
        folder->classes = classes;
    if (!names || !classes)
        return ivon_error_memory(error);
    for (size_t i = 0; i < images->count; i++) {
        char *name = class ? image_folder_join(class, images->names[i]) : strdup(images->names[i]);
        if (!name)
            return ivon_error_memory(error);
        folder->classes[folder->count] = number;
        folder->names[folder->count++] = name;
    }
    return 0;
}

static int image_folder_append_class(struct image_folder *folder, const char *class,
                                     const struct class_names *known, struct ivon_error *error)
{
    struct listing listing = {0};
    int64_t number = known->count ? class_names_find(known, class, strlen(class))
                                  : (int64_t)folder->class_count;
    char *path = image_folder_join(folder->path, class);
    int code = path ? listing_read(&listing, path, error) : ivon_error_memory(error);
    if (!code && number < 0)
        code = ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: is the directory of a class, expected the name of one of the %zu "
            "classes",
            path, known->count);
    else if (!code && listing.directories.count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s/%s: is a directory in that of a class, expected images", path,
                              listing.directories.names[0]);
    else if (!code && !listing.images.count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is the directory of a class and holds no image, expected some "
                              "by names in .png, .jpg or .jpeg",
                              path);
    if (!code)
        code = image_folder_append(folder, &listing.images, class, (size_t)number, error);
    folder->class_count++;
    listing_release(&listing);
    free(path);
    return code;
}

int image_folder_list(struct image_folder *folder, const char *path,
                      const struct class_names *known, struct ivon_error *error)
{
    struct listing top = {0};
    *folder = (struct image_folder){.path = strdup(path)};
    int code = folder->path ? listing_read(&top, path, error) : ivon_error_memory(error);
    if (!code && !top.directories.count && !top.images.count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is a directory without images, expected a directory of images "
                              "for each class",
                              path);
    else if (!code && top.directories.count && top.images.count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s/%s: is an image beside the directories of the classes, expected "
                              "in one of them",
                              path, top.images.names[0]);
    if (!code && !top.directories.count)
        code = image_folder_append(folder, &top.images, NULL, 0, error);
    for (size_t i = 0; i < top.directories.count && !code; i++)
        code = image_folder_append_class(folder, top.directories.names[i], known, error);
    listing_release(&top);
    return code;
}

void image_folder_release(struct image_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        free(folder->names[i]);
    free(folder->names);
    free(folder->classes);
    free(folder->path);
    *folder = (struct image_folder){0};
}
