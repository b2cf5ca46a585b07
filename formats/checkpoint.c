#include "ivon/checkpoint.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/error.h"
#include "formats/hdf5_safe.h"
#include "formats/mapped.h"
#include "formats/posterior.h"
#include "formats/torch.h"

int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                         const struct ivon_open_options *options, struct ivon_error *error)
{
    static const struct ivon_open_options defaults = {0};
    struct mapped_file file;
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    if (hdf5_recognise(&file))
        return posterior_open(source, &file, options ? options : &defaults, error);
    if (torch_recognise(&file))
        return torch_open(source, &file, options ? options : &defaults, error);
    code = ivon_error_set(error, IVON_ERROR_DATA, "%s: %s, expected an HDF5 file", path,
                          file.size ? "is in no format that is known here" : "is empty");
    mapped_close(&file);
    return code;
}

int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error)
{
    enum { PIECE = 8 << 20 };
    struct mapped_file file;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    for (uint64_t at = 0; fine && at < file.size; at += PIECE) {
        uint64_t size = file.size - at < PIECE ? file.size - at : PIECE;
        fine = EVP_DigestUpdate(context, file.data + at, size);
        mapped_advise(&file, at, size, MADV_DONTNEED);
    }
    fine = fine && EVP_DigestFinal_ex(context, bytes, NULL);
    EVP_MD_CTX_free(context);
    mapped_close(&file);
    if (!fine)
        return ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: cannot be hashed", path);
    for (int i = 0; i < 32; i++)
        sprintf(digest + 2 * i, "%02x", bytes[i]);
    return 0;
}
