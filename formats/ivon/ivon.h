/*
 * libivon: what a variational posterior makes possible after training. This header includes all
 * others; see libivon(3).
 */
#ifndef IVON_IVON_H
#define IVON_IVON_H

#include "ivon/acquire.h"
#include "ivon/adapter.h"
#include "ivon/api.h"
#include "ivon/arviz.h"
#include "ivon/calibrate.h"
#include "ivon/checkpoint.h"
#include "ivon/table_reader.h"
#include "ivon/convert.h"
#include "ivon/corrupt.h"
#include "ivon/datamodel.h"
#include "ivon/dataset.h"
#include "ivon/directory.h"
#include "ivon/dtype.h"
#include "ivon/error.h"
#include "ivon/examples.h"
#include "ivon/fit.h"
#include "ivon/influence.h"
#include "ivon/information.h"
#include "ivon/label_noise.h"
#include "ivon/inspect.h"
#include "ivon/merge.h"
#include "ivon/metrics.h"
#include "ivon/network.h"
#include "ivon/onnx.h"
#include "ivon/options.h"
#include "ivon/output.h"
#include "ivon/predict.h"
#include "ivon/prune.h"
#include "ivon/ranks.h"
#include "ivon/records.h"
#include "ivon/sample.h"
#include "ivon/selective.h"
#include "ivon/sensitivity.h"
#include "ivon/stream.h"
#include "ivon/summary.h"
#include "ivon/swag.h"
#include "ivon/table.h"
#include "ivon/targets.h"
#include "ivon/task.h"
#include "ivon/train.h"

#endif
