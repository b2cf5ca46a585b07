"""Compares what ivon-sensitivity writes with a reference posterior's refs.h5.

Usage: sensitivity_reference.py DIRECTORY FULL.h5 DIAGONAL.h5

FULL.h5 is of --covariance=full with --vectors=covariance (where the reference has a variance) and
--score=deviation,mpe,self-influence,loo-loss, DIAGONAL.h5 the same with --covariance=diag, both at
rho 1. The reference was computed by PyTorch in binary32, whose gradients carry relative rounding of
about sqrt(terms) 2^-24; 1e-4 of the largest entry is what its README states.
"""

import sys

import h5py
import numpy as np

TOLERANCE = 1e-4


def compare(name, ours, theirs):
    """Largest difference, relative to the largest entry."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        sys.exit(f"{name}: shape {ours.shape}, reference {theirs.shape}")
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{name:18} {error:.1e} of {np.abs(theirs).max():.3g}")
    if not error <= TOLERANCE:
        sys.exit(f"{name}: differs by {error:.2e} of the largest entry, expected {TOLERANCE}")


def main():
    directory, full_path, diagonal_path = sys.argv[1:]
    refs = h5py.File(f"{directory}/refs.h5", "r")
    full, diagonal = h5py.File(full_path, "r"), h5py.File(diagonal_path, "r")
    outputs = refs["logits" if "logits" in refs else "prediction"]
    compare("outputs", full["logits"], outputs)
    if "residual" in refs:
        compare("residual", full["residual_vector"], refs["residual"])
    if "variance" in refs:
        compare("covariance", full["covariance"], refs["variance"])
        compare("variance", diagonal["variance"], np.einsum("ikk->ik", refs["variance"][:]))
    compare("deviation_full", full["deviation_vector"], refs["deviation_full"])
    if "grad_quad" in refs:
        compare("grad_quad", full["self_influence"], refs["grad_quad"])
        compare("grad_quad, direct", diagonal["self_influence"], refs["grad_quad"])
    if "sensitivity" in refs:
        compare("sensitivity", diagonal["mpe"], refs["sensitivity"])
    if "loo_nll" in refs:
        compare("loo_nll", diagonal["loo_loss"], refs["loo_nll"])
    if "loo_loss" in refs:
        compare("loo_loss", diagonal["loo_loss"], refs["loo_loss"])


main()
