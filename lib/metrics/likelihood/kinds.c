/* The table of likelihoods. */
#include <math.h>

#include "metrics/likelihood/likelihood.h"

static const struct likelihood_kind *const kinds[] = {
    [IVON_CATEGORICAL] = &likelihood_categorical,
    [IVON_BERNOULLI] = &likelihood_bernoulli,
    [IVON_GAUSSIAN] = &likelihood_gaussian,
    [IVON_POISSON] = &likelihood_poisson,
    [IVON_HETEROSCEDASTIC] = &likelihood_heteroscedastic,
};

enum { KINDS = sizeof kinds / sizeof *kinds };

const struct ivon_likelihood_traits *ivon_likelihood_traits(enum ivon_likelihood likelihood)
{
    return (unsigned)likelihood < KINDS ? &kinds[likelihood]->traits : NULL;
}

size_t ivon_likelihood_targets(enum ivon_likelihood likelihood, size_t outputs)
{
    const struct ivon_likelihood_traits *traits = &kinds[likelihood]->traits;
    return traits->classes ? 1 : traits->variances ? outputs / 2 : outputs;
}

double ivon_guessing_loss(enum ivon_likelihood likelihood, size_t outputs)
{
    return kinds[likelihood]->uniform_loss ? kinds[likelihood]->uniform_loss(outputs) : NAN;
}

const struct likelihood_kind *likelihood_kind_of(enum ivon_likelihood likelihood)
{
    return kinds[likelihood];
}
