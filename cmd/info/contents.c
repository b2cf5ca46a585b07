#include "cmd/info/info.h"

struct info_contents info_count(const struct ivon_source *source)
{
    struct info_contents contents = {0};
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        contents.tensors[tensor->part]++;
        contents.elements[tensor->part] += tensor->count;
        contents.bytes[tensor->part] += tensor->count * ivon_dtype_size(tensor->dtype);
    }
    return contents;
}

const struct ivon_tensor *info_described(const struct ivon_source *source,
                                         const struct ivon_summary *summary)
{
    return ivon_source_tensor(source, summary->mean != SIZE_MAX ? summary->mean : summary->hessian);
}

double info_effective(const struct info_file *file)
{
    return ivon_summary_total(file->summaries)->effective +
           ivon_inspect_low_rank(file->inspection)->effective;
}
