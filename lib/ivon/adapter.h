/*
 * Low-rank adapters (LoRA; Hu et al. 2021, arXiv:2106.09685) as Hugging Face's PEFT stores them.
 *
 * An adapter has for a weight W, outputs × inputs, factors A, rank × inputs, and B, outputs × rank.
 * The weight that they make of W is
 *   W + s B A,                                      s = lora_alpha/r, of rsLoRA lora_alpha/√r
 *   m ⊙ (W + s B A) / ‖W + s B A‖, by output        of DoRA (Liu et al. 2024, arXiv:2402.09353)
 * Weights that lie inputs × outputs, as those of GPT-2 and of embeddings do, get the transpose.
 *
 * Of factors with Hessians, Var x = 1/(λ (h + δ)), independent, the weight has to first order
 *   Var W_oi = s² Σ_r (B_or² Var A_ri + A_ri² Var B_or)
 */
#ifndef IVON_ADAPTER_H
#define IVON_ADAPTER_H

#include "ivon/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Returns whether a source holds an adapter of any kind, by the names of its means. */
IVON_API bool ivon_adapter_recognise(const struct ivon_source *source);

/*
 * The model that an adapter makes of its base, as a source: everything of the base but Hessians,
 * momenta and structure, with the means that the adapter changes computed as they are read, and
 * the tensors that it has whole in place of the base's. `config` is the text of the adapter's
 * adapter_config.json. Adapted means are f64, so that nothing of a small change is rounded away.
 *
 * If any factor has a Hessian, every mean has one: of an adapted weight h = 1/(λ Var W), with a
 * weight decay of zero, since that of its factors pulls at them and not at W; of a tensor that the
 * adapter leaves alone, of which its data say nothing, zeros. DoRA's weights have none.
 *
 * Takes over `factors`, whether or not this succeeds; the base has to outlive the source.
 * IVON_ERROR_DATA, by name: other kinds of adapters and variants of LoRA, factors without a weight
 * in the base, shapes or ranks that do not fit.
 */
IVON_API int ivon_adapter_apply(struct ivon_source **source, struct ivon_source *base,
                                struct ivon_source *factors, const char *config, size_t config_size,
                                struct ivon_error *error);

/*
 * The change of a merged model from its base as an adapter again. ΔW = U S Vᵀ of each matrix is cut
 * after its `rank` largest singular values, B = U √S and A = √S Vᵀ, with lora_alpha = r: no factors
 * of this rank are nearer to ΔW in Frobenius' norm. What is no matrix and changed stands whole.
 *
 * Where ΔW is a sum of adapters' products, as by task arithmetic and averages, its singular values
 * are those of a matrix as small as their ranks together; else those of the whole, layer by layer.
 */
struct ivon_extraction_options {
    size_t size; /* sizeof this struct: set by ivon_extraction_defaults() */
    int64_t rank;
    int dtype; /* of factors; IVON_DTYPE_KEEP: f32, and of what stands whole as in the base */
    /* threads: as those of the merge; memory: for the matrices that are decomposed at a time, of
       which one always is; 0: 256 MiB */
    struct ivon_resources resources;
    const char *base_name; /* of the base in adapter_config.json; null: its file */
};

/* A rank of 16; types are kept. */
IVON_API void ivon_extraction_options_init(struct ivon_extraction_options *options, size_t size);
static inline struct ivon_extraction_options ivon_extraction_defaults(void)
{
    struct ivon_extraction_options options;
    ivon_extraction_options_init(&options, sizeof options);
    return options;
}

struct ivon_extracted {
    const char *name; /* of the base's tensor */
    size_t rank;      /* of its factors; 0: it stands whole */
    double norm;      /* ‖ΔW‖, Frobenius; NaN of what stands whole */
    double error; /* ‖ΔW − B A‖/‖ΔW‖, before the factors are rounded; 0 of what stands whole */
};

struct ivon_extraction;

/*
 * Prepares the extraction of one result of a merge, of f64 means for a small change. `base` and
 * `models` are those that the merge was planned with; all have to outlive the extraction.
 */
IVON_API int ivon_extraction_new(struct ivon_extraction **extraction, struct ivon_source *base,
                                 const struct ivon_merge_model *models, size_t model_count,
                                 const struct ivon_merge *merge, size_t result,
                                 const struct ivon_extraction_options *options,
                                 struct ivon_error *error);
IVON_API void ivon_extraction_free(struct ivon_extraction *extraction);

/* A sink for the merge's result, to be closed before the extraction is freed. Holds, of matrices
   that change, those that are being written; of all the factors. */
IVON_API int ivon_extraction_sink(struct ivon_extraction *extraction, struct ivon_sink **sink,
                                  struct ivon_error *error);

/* After the merge: the adapter's tensors, a source to be closed before the extraction is freed, and
   the text of its adapter_config.json, to be freed. IVON_ERROR_DATA where nothing changed. */
IVON_API int ivon_extraction_finish(struct ivon_extraction *extraction, struct ivon_source **source,
                                    char **config, struct ivon_error *error);

/* After that: what became of each tensor that changed; borrowed. */
IVON_API const struct ivon_extracted *ivon_extraction_tensors(
    const struct ivon_extraction *extraction, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
