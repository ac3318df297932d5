// The little C library of a rule. Memory is handed out from the first byte to the last and nothing is taken back: the instance ends
// with its mail.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GRAIN ((uintptr_t)16)
#define PAGE ((uintptr_t)65536)

// The linker's: where the memory after all data and the stack begins.
extern unsigned char __heap_base;
static uintptr_t next;

void *malloc(size_t size) {
  if (next == 0) next = ((uintptr_t)&__heap_base + GRAIN - 1) & ~(GRAIN - 1);
  uintptr_t end = __builtin_wasm_memory_size(0) * PAGE;
  // The last bytes below 4 GiB stay unused, so that no sum overflows.
  if (size > UINTPTR_MAX - next - PAGE - GRAIN) abort();
  uintptr_t after = (next + size + GRAIN - 1) & ~(GRAIN - 1);
  if (after > end && __builtin_wasm_memory_grow(0, (after - end + PAGE - 1) / PAGE) == (size_t)-1) abort();
  void *block = (void *)next;
  next = after;
  return block;
}

void *realloc(void *block, size_t size) {
  void *moved = malloc(size);
  // More than the block had may be copied; what lies behind it is memory too, and the new block comes after all of it.
  if (block != NULL) memmove(moved, block, size);
  return moved;
}

void free(void *block) { (void)block; }

_Noreturn void abort(void) { __builtin_trap(); }

void *memcpy(void *to, const void *from, size_t size) {
  unsigned char *target = to;
  const unsigned char *source = from;
  for (size_t i = 0; i < size; i++) target[i] = source[i];
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  unsigned char *target = to;
  const unsigned char *source = from;
  if (target < source) {
    for (size_t i = 0; i < size; i++) target[i] = source[i];
  } else {
    for (size_t i = size; i > 0; i--) target[i - 1] = source[i - 1];
  }
  return to;
}

void *memset(void *to, int byte, size_t size) {
  unsigned char *target = to;
  for (size_t i = 0; i < size; i++) target[i] = (unsigned char)byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t size) {
  const unsigned char *left = a, *right = b;
  for (size_t i = 0; i < size; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

// The bindings want the contract linked in; `postroom plugin build` adds it instead.
void __component_type_object_force_link_postroom(void) {}
