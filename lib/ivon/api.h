/* The mark of an exported function, which every public header needs, and the library's version. */
#ifndef IVON_API_H
#define IVON_API_H

#if defined(__GNUC__)
#define IVON_API __attribute__((visibility("default")))
#else
#define IVON_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "1.0.0". */
IVON_API const char *ivon_version(void);

#ifdef __cplusplus
}
#endif

#endif
