// What postroom.c needs of a C library; memory.c has it.
#pragma once

#include <stddef.h>

// Never NULL: without memory the rule ends.
void *malloc(size_t size);
// Copies `size` bytes, also where the block was smaller.
void *realloc(void *block, size_t size);
void free(void *block);
_Noreturn void abort(void);
