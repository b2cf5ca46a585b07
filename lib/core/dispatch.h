/*
 * One function, several instruction sets: the loader takes the widest that the machine has. All
 * clones compute the same bits, since kernels are compiled without contraction and without
 * reassociation; only the vector width differs.
 */
#ifndef CORE_DISPATCH_H
#define CORE_DISPATCH_H

/* Sanitizers instrument the loader's resolver, which runs before their own start. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__) &&                  \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define IVON_DISPATCH __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define IVON_DISPATCH
#endif

#endif
