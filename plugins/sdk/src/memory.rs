//! Allocates a rule's objects from the initial memory of its instance: growing the memory would cost the host two system
//! calls a mail.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// The size of the arena, enough for most mails; further blocks belong to the system allocator.
const ARENA_BYTES: usize = 64 << 10;
/// The alignment of every block, and the unit to which sizes are rounded up.
const GRAIN: usize = 16;

/// Hands out its bytes from the first to the last. Only the newest block is taken back or grown: the instance ends with its
/// mail.
#[repr(C, align(16))]
pub struct Arena {
    bytes: UnsafeCell<[u8; ARENA_BYTES]>,
    used: Cell<usize>,
}

// SAFETY: a rule has one thread.
unsafe impl Sync for Arena {}

impl Arena {
    pub const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; ARENA_BYTES]),
            used: Cell::new(0),
        }
    }

    /// Returns the offset of a block in the arena; `None` for a block of the system allocator.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.bytes.get() as usize);
        (offset < ARENA_BYTES).then_some(offset)
    }
}

fn rounded(size: usize) -> usize {
    size.saturating_add(GRAIN - 1) & !(GRAIN - 1)
}

// SAFETY: blocks do not overlap, have the requested size and alignment, and stay in place until they are freed.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (used, size) = (self.used.get(), rounded(layout.size()));
        if layout.align() > GRAIN || size > ARENA_BYTES - used {
            // SAFETY: the caller guarantees the layout.
            return unsafe { System.alloc(layout) };
        }
        self.used.set(used + size);
        // SAFETY: the arena has `size` bytes from there on.
        unsafe { self.bytes.get().cast::<u8>().add(used) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => {
                if offset + rounded(layout.size()) == self.used.get() {
                    self.used.set(offset);
                }
            }
            // SAFETY: the block came from there.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: the block came from there.
            return unsafe { System.realloc(block, layout, size) };
        };
        let (old, new) = (rounded(layout.size()), rounded(size));
        if new <= old {
            return block;
        }
        if offset + old == self.used.get() && new <= ARENA_BYTES - offset {
            self.used.set(offset + new);
            return block;
        }
        // SAFETY: the new block is longer than the old one, and does not overlap it.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size());
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use super::{ARENA_BYTES, Arena};

    #[test]
    fn blocks_keep_their_bytes_through_any_order_of_calls() {
        let arena = Box::new(Arena::new());
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut state = 0x9e37_79b9_u64;
        let mut below = |limit: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % limit
        };
        let whole = |(block, layout, mark): &(*mut u8, Layout, u8), bytes: usize| {
            // SAFETY: the block is alive and was filled up to its size.
            let found = unsafe { std::slice::from_raw_parts(*block, bytes.min(layout.size())) };
            assert!(found.iter().all(|byte| byte == mark));
        };
        let mut outside = 0;
        for step in 0..20_000 {
            let layout = Layout::from_size_align(1 + below(900) as usize, 16).expect("a layout");
            let mark = step as u8;
            // Mostly the newest block, so that the arena is used up repeatedly.
            let chosen = |count: usize, draw: u64| match draw % 4 {
                0 => draw as usize / 4 % count,
                _ => count - 1,
            };
            // SAFETY: the layouts are those that the blocks were allocated with, and every size is above zero.
            unsafe {
                match below(4) {
                    0 | 1 => blocks.push((arena.alloc(layout), layout, mark)),
                    2 if !blocks.is_empty() => {
                        let block = blocks.remove(chosen(blocks.len(), below(1 << 20)));
                        whole(&block, usize::MAX);
                        arena.dealloc(block.0, block.1);
                        continue;
                    }
                    3 if !blocks.is_empty() => {
                        let (block, old, old_mark) =
                            blocks.remove(chosen(blocks.len(), below(1 << 20)));
                        let moved = arena.realloc(block, old, layout.size());
                        whole(&(moved, layout, old_mark), old.size());
                        blocks.push((moved, layout, mark));
                    }
                    _ => continue,
                }
                let (block, layout, mark) = blocks[blocks.len() - 1];
                assert_eq!(block as usize % 16, 0);
                outside += usize::from(arena.offset(block).is_none());
                block.write_bytes(mark, layout.size());
            }
        }
        blocks.iter().for_each(|block| whole(block, usize::MAX));
        assert!(outside > 0 && arena.used.get() <= ARENA_BYTES);
        for (block, layout, _) in blocks.drain(..).rev() {
            // SAFETY: it is alive, and its layout is its own.
            unsafe { arena.dealloc(block, layout) };
        }
    }
}
