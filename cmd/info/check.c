#include "cmd/info/info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/report.h"
#include "cmd/shared/outputs/tuned.h"

static void add_finding(json_t *findings, const char *tensor, const char *found, const char *advice)
{
    json_t *finding = json_object();
    json_object_set_new(finding, "tensor", report_json_text(tensor));
    json_object_set_new(finding, "found", json_string(found));
    json_object_set_new(finding, "advice", json_string(advice));
    json_array_append_new(findings, finding);
}

/* Returns whether the Hessians were fitted: of symmetric outputs, as of two classes, those of a
   bias are equal without having a start that they never left. */
static bool is_fitted(const struct info_file *file)
{
    const char *creator = ivon_source_header(file->source)->creator;
    return file->structure.fitted || (creator && strncmp(creator, "ivon-fit ", 9) == 0);
}

static void check_tensor(const struct info_file *file, const struct ivon_summary *summary,
                         bool any_hessian, json_t *findings)
{
    char found[160];
    const struct ivon_source *source = file->source;
    const char *name = summary->name;
    bool lacks_hessian = summary->mean != SIZE_MAX && summary->hessian == SIZE_MAX;
    if (summary->mean_nonfinite) {
        snprintf(found, sizeof found, "%llu values of the mean are not finite",
                 (unsigned long long)summary->mean_nonfinite);
        add_finding(findings, name, found,
                    "the training diverged: take an earlier checkpoint, or lower the learning "
                    "rate");
    }
    if (summary->hessian_nonfinite) {
        snprintf(found, sizeof found, "%llu values of the Hessian are not finite",
                 (unsigned long long)summary->hessian_nonfinite);
        add_finding(findings, name, found,
                    "take an earlier checkpoint, or train with gradient "
                    "clipping");
    }
    if (summary->nonpositive) {
        snprintf(found, sizeof found, "h + weight_decay <= 0 for %llu values",
                 (unsigned long long)summary->nonpositive);
        add_finding(findings, name, found,
                    "no posterior has such a precision: was the weight decay saved with the "
                    "Hessian's own run?");
    }
    if (summary->shapes_differ && summary->mean != SIZE_MAX)
        add_finding(findings, name, "mean and Hessian differ in shape",
                    "save both from the same model");
    else if (lacks_hessian && any_hessian && !summary->in_block)
        add_finding(findings, name, "has no Hessian",
                    "a frozen parameter belongs under buffers; else save its Hessian");
    if (summary->mean == SIZE_MAX && !summary->shapes_differ)
        add_finding(findings, name, "a Hessian without a mean",
                    "are the names of means and Hessians the same?");
    if (summary->hessian != SIZE_MAX && summary->hessian_at_start && !is_fitted(file)) {
        snprintf(found, sizeof found, "the Hessian never left its start, %.4g",
                 report_number(summary->hessian_quantiles[2]));
        add_finding(findings, name, found,
                    "train longer, or lower beta2: the posterior's width "
                    "is a guess");
    }
    if (summary->hessian != SIZE_MAX) {
        const struct ivon_tensor *hessian = ivon_source_tensor(source, summary->hessian);
        if (!(hessian->ess > 0) || isinf(hessian->ess))
            add_finding(findings, name, "no positive ess holds for its Hessian",
                        "set the root attribute 'ess'");
        if (!(hessian->weight_decay >= 0) || isinf(hessian->weight_decay))
            add_finding(findings, name, "no weight_decay of zero or more holds for its Hessian",
                        "set the root attribute 'weight_decay'");
    }
}

/* Trained posteriors have a median |mean|/sigma of .4 to 16; where noise is ten times the weights,
   averaging over it is at chance. A median of zero is that of means that are zero, as those of a
   prior or of new adapters are, and says nothing of the width. */
static void check_width(const struct ivon_summary *total, json_t *findings)
{
    char found[160];
    double median = total->signal_to_noise[2];
    if (!(median > 0 && median < 0.1))
        return;
    snprintf(found, sizeof found,
             "the posterior is far too wide: the median of |mean|/sigma is %.3g", median);
    add_finding(findings, NULL, found,
                "samples are noise, and leave-one-out losses mean nothing: raise the ess or the "
                "weight decay, or train longer");
}

/* A correction upon the Hessian of a training that has not begun to learn it. */
static void check_base(const struct info_file *file, json_t *findings)
{
    const struct ivon_summary *total = ivon_summary_total(file->summaries);
    char found[160];
    if (!is_fitted(file) || !total->hessian_at_start)
        return;
    snprintf(found, sizeof found, "the base's Hessian never left its start, %.4g",
             report_number(total->hessian_quantiles[2]));
    add_finding(findings, NULL, found,
                "its curvature is a guess where the correction does not reach: fit the base, too, "
                "as by ivon-fit --structure=lowrank:diagonal");
}

static void check_mean(const struct info_file *file, json_t *findings)
{
    char found[160];
    double decrement = ivon_source_header(file->source)->decrement;
    double effective = ivon_summary_total(file->summaries)->effective;
    if (!ivon_mean_is_far(decrement, effective))
        return;
    snprintf(found, sizeof found,
             "the mean is far from a minimum: its Newton decrement is %.4g, where %.4g is to be "
             "expected at most",
             decrement, effective);
    add_finding(findings, NULL, found,
                tuned_is_marked(ivon_source_header(file->source))
                    ? TUNED_ADVICE
                    : "train on before fitting, or fit with the weight decay of the training");
}

/* Fewer rows than a factor has leave directions of which no example tells. Where the posterior does
   not say how many there were, a rank below N says it as well. */
static void check_examples(const struct info_file *file, const struct ivon_block *block,
                           const struct ivon_factor *factor, const char *side, json_t *findings)
{
    char found[160];
    int64_t n_train = ivon_source_header(file->source)->n_train;
    double rows = (double)factor->rows, given = block->input_rows;
    bool known = !isnan(given);
    if (!known)
        given = n_train < 0 ? INFINITY : (double)n_train;
    if (!factor->spectrum || !(given < rows) || factor->rank == factor->rows ||
        (!known && (double)factor->rank > given))
        return;
    snprintf(found, sizeof found, "its %s factor has %zu rows, and is from %.9g: %zu have no data",
             side, factor->rows, given, factor->rows - factor->rank);
    add_finding(findings, block->weight, found,
                "fit with more examples, or a diagonal structure: the prior alone holds those "
                "directions");
}

static void check_factor(const struct info_file *file, const struct ivon_block *block, bool input,
                         json_t *findings)
{
    char found[160];
    const struct ivon_factor *factor = input ? &block->input : &block->output;
    const char *side = input ? "input" : "output";
    if (factor->nonfinite || factor->negative) {
        snprintf(found, sizeof found,
                 factor->nonfinite
                     ? "its %s factor is not positive: %zu eigenvalues are not finite"
                     : "its %s factor is not positive: %zu eigenvalues are negative, down to %.4g",
                 side, factor->nonfinite ? factor->nonfinite : factor->negative, factor->least);
        add_finding(findings, block->weight, found,
                    "save the factor's own eigenvalues, of a symmetric matrix in f32 or f64");
    }
    if (factor->skewed) {
        snprintf(found, sizeof found, "its %s basis is not orthonormal: U^T U - I has %.3g", side,
                 report_number(factor->skew));
        add_finding(findings, block->weight, found,
                    "save eigenvectors as columns, each of length 1");
    }
    check_examples(file, block, factor, side, findings);
}

static void check_structure(const struct info_file *file, json_t *findings)
{
    size_t blocks, grams;
    char found[160];
    const struct ivon_block *block = ivon_inspect_blocks(file->inspection, &blocks);
    const struct ivon_low_rank *low_rank = ivon_inspect_low_rank(file->inspection);
    const char *const *gram = ivon_inspect_indefinite(file->inspection, &grams);
    for (size_t b = 0; b < blocks; b++) {
        check_factor(file, &block[b], true, findings);
        check_factor(file, &block[b], false, findings);
    }
    for (size_t g = 0; g < grams; g++)
        add_finding(findings, gram[g], "its Gram matrix is not positive",
                    "compute it again: it is the mean of products of inputs");
    if (low_rank->skewed) {
        snprintf(found, sizeof found, "low-rank vectors are not orthonormal: U U^T - I has %.3g",
                 report_number(low_rank->skew));
        add_finding(findings, NULL, found,
                    "save eigenvectors of the whitened curvature, over all Hessians of length 1");
    }
    check_base(file, findings);
    check_mean(file, findings);
}

json_t *info_check(const struct info_file *file)
{
    size_t count;
    const struct ivon_summary *each = ivon_summary_tensors(file->summaries, &count);
    const char *warning = ivon_source_header(file->source)->warning;
    json_t *findings = json_array();
    bool any_hessian = false;
    for (size_t i = 0; i < count; i++)
        any_hessian |= each[i].hessian != SIZE_MAX;
    if (warning)
        add_finding(findings, NULL, warning, "see ivon-formats(5) on how names are found");
    if (!info_count(file->source).tensors[IVON_MEAN])
        add_finding(findings, NULL, "there is no mean", "is it a posterior?");
    else if (!any_hessian)
        add_finding(findings, NULL, "there is no Hessian",
                    "it is a point, not a posterior: ivon-fit makes one of it, averaging and "
                    "predictions at the mean can use it");
    for (size_t i = 0; i < count; i++)
        check_tensor(file, &each[i], any_hessian, findings);
    check_width(ivon_summary_total(file->summaries), findings);
    check_structure(file, findings);
    return findings;
}
