/* The files that an output that is a directory has beside its weights. */
#define _GNU_SOURCE
#include "cmd/merge/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { CONFIG_MAX = 16 << 20, FILE_MAX = 256 << 20 /* bytes: 256 MiB of vocabulary are none */ };

#define CONFIG_NAME "config.json"
#define CARD_NAME   "README.md"

struct folder_file {
    char *name, *path;
};

/* Weights, in any library's format, the state of trainings, and programs: pickles are such. What is
   written anew stands at the end. */
static const char *const left_behind[] = {
    "*.safetensors",  "*.index.json", "*.bin",       "*.pt",
    "*.pth",          "*.ckpt",       "*.h5",        "*.hdf5",
    "*.msgpack",      "*.npz",        "*.npy",       "*.ot",
    "*.onnx",         "*.onnx_data",  "*.onnx.data", "*.gguf",
    "*.tflite",       "*.pb",         "*.mlx",       "*.mlmodel",
    "*.distcp",       "*.pkl",        "*.pickle",    "*.joblib",
    "*.so",           "*.dll",        "*.dylib",     "*.exe",
    "*.pyc",          "*.sh",         ".*",          "trainer_state.json",
    "*_results.json", CARD_NAME,      CONFIG_NAME};
static const char *const of_tokenizers[] = {"tokenizer*",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "vocab.*",
                                            "merges.txt",
                                            "chat_template.*",
                                            "*.model",
                                            "*.tiktoken",
                                            "tekken.json",
                                            "normalizer.json",
                                            "*.spm"};

static bool matches_any(const char *name, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

static bool is_of_tokenizer(const char *name)
{
    return matches_any(name, of_tokenizers, sizeof of_tokenizers / sizeof *of_tokenizers);
}

/* Why an entry of a directory cannot be carried, though its name is one of a file that would be;
   null where it can. A link is followed within the directory, and as caches of model hubs have it:
   into a folder "blobs". */
static const char *entry_fault(const char *directory, const char *path, const char *name)
{
    char real[PATH_MAX], home[PATH_MAX];
    struct stat status;
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            return "has a name with control characters";
    if (stat(path, &status))
        return "leads nowhere";
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? "is a directory" : "is a device or a pipe";
    if (status.st_size > FILE_MAX)
        return "is too large";
    if (!realpath(path, real) || !realpath(directory, home))
        return "leads nowhere";
    size_t length = strlen(home);
    char *slash = strrchr(real, '/');
    *slash = '\0';
    bool inside = strncmp(real, home, length) == 0 && (!real[length] || real[length] == '/');
    slash = strrchr(real, '/');
    return inside || (slash && strcmp(slash, "/blobs") == 0) ? NULL
                                                             : "is a link out of the directory";
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Takes over the path. */
static void folder_add_file(struct merge_folder *folder, const char *name, char *path)
{
    folder->files = xreallocarray(folder->files, folder->count + 1, sizeof *folder->files);
    folder->files[folder->count++] = (struct folder_file){xstrdup(name), path};
}

/* Lists what is carried of one directory: files of tokenizers, others, or both. */
static int folder_list(struct merge_command *command, const char *directory, bool tokenizer,
                       bool others, struct ivon_error *error)
{
    struct merge_folder *folder = &command->folder;
    struct dirent **entries;
    char first[PATH_MAX + 80];
    size_t faults = 0;
    int count = scandir(directory, &entries, NULL, alphasort);
    if (count < 0)
        return error_input(error, directory, "read", strerror(errno));
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name, *fault;
        bool wanted = is_of_tokenizer(name) ? tokenizer : others;
        char *path = xasprintf("%s/%s", directory, name);
        if (wanted && !is_directory(path) &&
            !matches_any(name, left_behind, sizeof left_behind / sizeof *left_behind)) {
            fault = entry_fault(directory, path, name);
            if (!fault)
                folder_add_file(folder, name, path);
            else if (!faults++)
                snprintf(first, sizeof first, "'%s' %s", name, fault);
            path = fault ? path : NULL;
        }
        free(path);
        free(entries[i]);
    }
    free(entries);
    if (faults)
        folder->warnings[folder->warning_count++] = xasprintf(
            "%s: %zu of its files %s not carried: %s", directory, faults,
            faults == 1 ? "is" : "are", first);
    return 0;
}

static int compare_files(const void *a, const void *b)
{
    const struct folder_file *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* The text of a regular file, which is to be freed. */
static int folder_read(const char *path, char **text, size_t *size, struct ivon_error *error)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0 || fstat(descriptor, &status)) {
        if (descriptor >= 0)
            close(descriptor);
        return error_input(error, path, "open", strerror(errno));
    }
    int code = 0;
    if (!S_ISREG(status.st_mode))
        code = error_fill(error, IVON_ERROR_INPUT, "%s: is no regular file", path);
    else if (status.st_size > CONFIG_MAX)
        code = error_fill(error, IVON_ERROR_DATA,
                          "%s: a configuration of %lld bytes, expected at most %d", path,
                          (long long)status.st_size, CONFIG_MAX);
    ssize_t length = 0, got = 1;
    *text = code ? NULL : xmalloc((size_t)status.st_size + 1);
    while (!code && got && length < status.st_size) {
        got = read(descriptor, *text + length, (size_t)(status.st_size - length));
        if (got < 0)
            code = error_fill(error, IVON_ERROR_IO, "%s: cannot read it: %s", path,
                              strerror(errno));
        length += got > 0 ? got : 0;
    }
    close(descriptor);
    if (code)
        free(*text);
    else
        (*text)[ *size = (size_t)length] = '\0';
    return code;
}

/* The type that most elements of the means have; -1 of none. */
static int common_dtype(const struct ivon_tensor *tensors, const struct ivon_source *source,
                        size_t count)
{
    uint64_t elements[IVON_DTYPE_COUNT] = {0};
    int most = -1;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = source ? ivon_source_tensor(source, i) : &tensors[i];
        if (tensor->part == IVON_MEAN)
            elements[tensor->dtype] += tensor->count;
    }
    for (int i = 0; i < IVON_DTYPE_COUNT; i++)
        if (elements[i] && (most < 0 || elements[i] > elements[most]))
            most = i;
    return most;
}

static const struct ivon_source *folder_like(const struct merge_command *command)
{
    return command->base ? command->base : command->sources[0].source;
}

/* Reads config.json, and corrects its type where that of the weights is another than it was. */
static int folder_read_config(struct merge_command *command, const char *path,
                              struct ivon_error *error)
{
    json_error_t wrong;
    size_t size = 0, count;
    char *text = NULL;
    int code = folder_read(path, &text, &size, error);
    if (code)
        return code;
    json_t *parsed = json_loadb(text, size, JSON_REJECT_DUPLICATES, &wrong);
    bool object = json_is_object(parsed);
    if (!object)
        code = error_fill(error, IVON_ERROR_DATA, "%s: is no JSON object: %s", path,
                          parsed ? "begins as none" : wrong.text);
    json_decref(parsed);
    if (code) {
        free(text);
        return code;
    }
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    const struct ivon_source *like = folder_like(command);
    int now = common_dtype(tensors, NULL, count);
    int before = common_dtype(NULL, like, ivon_source_tensor_count(like));
    bool changed = now >= 0 && (command->options.dtype != IVON_DTYPE_KEEP || now != before);
    char *corrected = changed ? merge_config_dtype(text, (enum ivon_dtype)now) : NULL;
    command->folder.config = corrected ? corrected : text;
    if (corrected)
        free(text);
    return 0;
}

static int folder_take_config(struct merge_command *command, struct ivon_error *error)
{
    char *path = xasprintf("%s/%s", command->folder.from, CONFIG_NAME);
    struct stat status;
    int code = 0;
    if (lstat(path, &status) == 0) {
        const char *fault = entry_fault(command->folder.from, path, CONFIG_NAME);
        code = fault ? error_fill(error, IVON_ERROR_INPUT, "%s: %s", path, fault)
                     : folder_read_config(command, path, error);
    }
    free(path);
    return code;
}

/* The files of weights: as many as the base's. Of PyTorch's shards the largest says how large those
   of safetensors may be, unless one tensor is larger. */
static void folder_choose_shards(struct merge_command *command)
{
    struct merge_folder *folder = &command->folder;
    const char *path = ivon_source_path(folder_like(command));
    size_t length = strlen(path), count;
    static const char bin[] = "pytorch_model.bin.index.json";
    folder->several = ivon_checkpoint_has_shards(path);
    if (length < sizeof bin - 1 || strcmp(path + length - sizeof bin + 1, bin) != 0 ||
        !folder->from)
        return;
    DIR *list = opendir(folder->from);
    for (struct dirent *entry; list && (entry = readdir(list));) {
        struct stat status;
        if (fnmatch("pytorch_model-*-of-*.bin", entry->d_name, 0) == 0 &&
            fstatat(dirfd(list), entry->d_name, &status, 0) == 0 &&
            (uint64_t)status.st_size > folder->shard_size)
            folder->shard_size = (uint64_t)status.st_size;
    }
    if (list)
        closedir(list);
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    for (size_t i = 0; i < count && folder->shard_size; i++) {
        uint64_t bytes = (uint64_t)tensors[i].count * ivon_dtype_size(tensors[i].dtype);
        folder->shard_size = bytes > folder->shard_size ? bytes : folder->shard_size;
    }
}

/* The input that the files come with. */
static const char *folder_named(const struct merge_command *command)
{
    return command->base_path ? command->base_path : command->models[0].path;
}

int merge_folder_settle(struct merge_command *command, struct ivon_error *error)
{
    struct merge_folder *folder = &command->folder;
    const char *first = command->outputs[0] ? command->outputs[0] : command->output;
    folder->wanted = command->output &&
                     (command->lora_rank || ivon_directory_is_output(first, folder_named(command)));
    if (folder->wanted)
        return 0;
    return folder->tokenizer_from || folder->no_card
               ? error_fill(error, IVON_ERROR_ARGUMENT,
                            "%s is for an output that is a directory: name it by -o DIR/",
                            folder->no_card ? "--no-card" : "--tokenizer-from")
               : 0;
}

int merge_folder_plan(struct merge_command *command, const json_t *provenance,
                      struct ivon_error *error)
{
    struct merge_folder *folder = &command->folder;
    bool adapter = command->lora_rank > 0; /* whose configuration is its own */
    int code = 0;
    folder->provenance = provenance;
    folder->directories = xcalloc(command->scale_count, sizeof *folder->directories);
    folder->from = ivon_directory_of(folder_named(command));
    if (folder->from)
        code = folder_list(command, folder->from, !folder->tokenizer_from, !adapter, error);
    if (!code && folder->from && !adapter)
        code = folder_take_config(command, error);
    size_t before = folder->count;
    if (!code && folder->tokenizer_from)
        code = folder_list(command, folder->tokenizer_from, true, false, error);
    if (!code && folder->tokenizer_from && folder->count == before)
        code = error_fill(error, IVON_ERROR_INPUT,
                          "--tokenizer-from=%s: has no file of a tokenizer, expected "
                          "tokenizer.json, tokenizer_config.json, vocab.* or the like",
                          folder->tokenizer_from);
    if (!code && folder->count + 2 > IVON_DIRECTORY_FILES)
        code = error_fill(error, IVON_ERROR_INPUT,
                          "%s: has %zu files to carry beside its weights, expected at most %d",
                          folder->from ? folder->from : folder->tokenizer_from, folder->count,
                          IVON_DIRECTORY_FILES - 2);
    if (!code && folder->count)
        qsort(folder->files, folder->count, sizeof *folder->files, compare_files);
    if (!code && !adapter)
        folder_choose_shards(command);
    return code;
}

int merge_folder_create(struct merge_command *command, size_t output, struct ivon_error *error)
{
    return ivon_directory_create(&command->folder.directories[output], command->outputs[output],
                                 command->files.force, error);
}

int merge_folder_weights(struct merge_command *command, size_t output, const char **path,
                         struct ivon_create_options *options, struct ivon_error *error)
{
    struct merge_folder *folder = &command->folder;
    options->framework = "pt";
    options->shard_size = folder->shard_size;
    *path = ivon_directory_weights(folder->directories[output],
                                   command->lora_rank ? IVON_DIRECTORY_ADAPTER
                                   : folder->several  ? IVON_DIRECTORY_SHARDS
                                                      : IVON_DIRECTORY_FILE);
    return *path ? 0 : error_memory(error);
}

int merge_folder_commit(struct merge_command *command, size_t output, struct ivon_sink *weights,
                        struct ivon_error *error)
{
    struct merge_folder *folder = &command->folder;
    struct ivon_directory *directory = folder->directories[output];
    int code = 0;
    for (size_t i = 0; i < folder->count && !code; i++)
        code = ivon_directory_copy(directory, folder->files[i].name, folder->files[i].path, error);
    if (!code && folder->config)
        code = ivon_directory_write(directory, CONFIG_NAME, folder->config, strlen(folder->config),
                                    error);
    if (!code && !folder->no_card) {
        char *card = merge_card(command, output);
        code = ivon_directory_write(directory, CARD_NAME, card, strlen(card), error);
        free(card);
    }
    return code ? code : ivon_directory_commit(directory, weights, error);
}

void merge_folder_explain(const struct merge_command *command, struct ivon_error *error)
{
    for (size_t i = 0; i < command->scale_count && command->folder.directories; i++)
        if (command->folder.directories[i])
            ivon_directory_explain(command->folder.directories[i], error);
}

void merge_folder_print_warnings(const struct merge_command *command)
{
    const struct merge_folder *folder = &command->folder;
    for (size_t i = 0; i < folder->warning_count; i++)
        report_warning("%s", folder->warnings[i]);
    if (folder->wanted && !folder->config && !command->lora_rank)
        report_warning("%s: gets no config.json: %s %s", command->output,
                       folder->from ? folder->from : folder_named(command),
                       folder->from ? "has none" : "is in no model's directory");
}

void merge_folder_release(struct merge_command *command)
{
    struct merge_folder *folder = &command->folder;
    for (size_t i = 0; i < command->scale_count && folder->directories; i++)
        ivon_directory_close(folder->directories[i]);
    for (size_t i = 0; i < folder->count; i++) {
        free(folder->files[i].name);
        free(folder->files[i].path);
    }
    for (size_t i = 0; i < folder->warning_count; i++)
        free(folder->warnings[i]);
    free(folder->directories);
    free(folder->files);
    free(folder->config);
    free(folder->from);
}
