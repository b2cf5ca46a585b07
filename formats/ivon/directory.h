/*
 * Models as hubs have them: directories of weights, a configuration, and the files of a tokenizer.
 * See "DIRECTORIES" in ivon-formats(5).
 */
#ifndef IVON_DIRECTORY_H
#define IVON_DIRECTORY_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The file that a path names to who reads a checkpoint: of a directory the first of
 * model.safetensors, model.safetensors.index.json, pytorch_model.bin and
 * pytorch_model.bin.index.json that it has, as Hugging Face's transformers take them, and then of
 * flax_model.msgpack, model.weights.h5 and model.weights.json; of anything else the path itself. To
 * be freed. IVON_ERROR_INPUT for a directory that has none of them, or that is an adapter's.
 */
IVON_API int ivon_directory_find(char **file, const char *path, struct ivon_error *error);

/* The directory of the model that a path names: the path itself, or where a file of one of the
   above names lies. To be freed; null where it names no model's, or memory is exhausted. */
IVON_API char *ivon_directory_of(const char *path);

/*
 * Returns whether an output of that name is a directory: one whose name ends in a slash; without a
 * suffix that says a format, one that is there already; and one without any suffix, if `like`, the
 * path of an input, is a directory.
 */
IVON_API bool ivon_directory_is_output(const char *path, const char *like);

/* A directory that is written, with at most so many files beside its weights. */
enum { IVON_DIRECTORY_FILES = 256 };
struct ivon_directory;

/*
 * Begins to write a model's directory. One that is not there yet is made beside `path`, under a
 * hidden name, and takes its own when it is complete and on disk. One that is there stays, with
 * what else it holds, and its files are replaced one by one; it has to be empty unless `replace`. A
 * symbolic link is replaced itself. IVON_ERROR_CREATE where that cannot be.
 */
IVON_API int ivon_directory_create(struct ivon_directory **directory, const char *path,
                                   bool replace, struct ivon_error *error);

/* The weights of a directory are one file, shards with an index, or an adapter's factors. */
enum ivon_directory_kind { IVON_DIRECTORY_FILE, IVON_DIRECTORY_SHARDS, IVON_DIRECTORY_ADAPTER };

/* The name by which the weights' sink has to be created; borrowed. Null when memory is
   exhausted. */
IVON_API const char *ivon_directory_weights(struct ivon_directory *directory,
                                            enum ivon_directory_kind kind);

/* Adds a file of `size` bytes, or a copy of the regular file `from`. Its name has no slash. */
IVON_API int ivon_directory_write(struct ivon_directory *directory, const char *name,
                                  const void *data, size_t size, struct ivon_error *error);
IVON_API int ivon_directory_copy(struct ivon_directory *directory, const char *name,
                                 const char *from, struct ivon_error *error);

/*
 * Gives the files their names, the weights last, for which it commits the sink, and then the
 * directory its own. Where it replaces files, the old weights, or factors, go first: who is stopped
 * in between leaves a directory without weights, and never one of two models.
 */
IVON_API int ivon_directory_commit(struct ivon_directory *directory, struct ivon_sink *weights,
                                   struct ivon_error *error);

/* Says in an error's message the directory's own name where it has the hidden one. */
IVON_API void ivon_directory_explain(const struct ivon_directory *directory,
                                     struct ivon_error *error);

/* Frees everything; what was not committed is removed. Close the sink first. */
IVON_API void ivon_directory_close(struct ivon_directory *directory);

#ifdef __cplusplus
}
#endif

#endif
