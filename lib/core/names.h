/* Names of tensors: components that end in dots or slashes, "layers.0.attn.weight". */
#ifndef CORE_NAMES_H
#define CORE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* The index at which the last component of a name's first `length` bytes begins. */
size_t name_last(const char *name, size_t length);

/* Returns whether `matches` returns true for any component. Its arguments are a component and its
   length. */
bool name_any_component(const char *name, bool (*matches)(const char *component, size_t length));

/* Returns whether `length` bytes of text are this word. */
bool name_is_word(const char *text, size_t length, const char *word);

#endif
