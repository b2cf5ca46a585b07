/* Settings of two tensors, which differ in all that a group has. */
#ifndef TESTS_UNIT_OPTIMIZER_GROUPS_H
#define TESTS_UNIT_OPTIMIZER_GROUPS_H

#include <math.h>

#include "train/optimizer/optimizer.h"

static const struct optimizer_group ivon_groups[] = {{.rate = 0.1,
                                                      .weight_decay = 1e-3,
                                                      .beta1 = 0.9,
                                                      .beta2 = 0.999,
                                                      .debias = true,
                                                      .ess = 1e3,
                                                      .hessian_init = 1,
                                                      .rescale = true,
                                                      .clip = INFINITY},
                                                     {.rate = 0.05,
                                                      .weight_decay = 1e-2,
                                                      .beta1 = 0.8,
                                                      .beta2 = 0.995,
                                                      .ess = 200,
                                                      .hessian_init = 0.5,
                                                      .clip = 0.8}};

static const struct optimizer_group adamw_groups[] = {{.rate = 0.01,
                                                       .weight_decay = 0.01,
                                                       .beta1 = 0.9,
                                                       .beta2 = 0.999,
                                                       .debias = true,
                                                       .epsilon = 1e-8},
                                                      {.rate = 0.003,
                                                       .weight_decay = 0.1,
                                                       .beta1 = 0.8,
                                                       .beta2 = 0.99,
                                                       .debias = true,
                                                       .epsilon = 1e-3}};

#endif
