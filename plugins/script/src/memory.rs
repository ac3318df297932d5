//! The allocator of Rust and QuickJS, laid out so that one mail touches few pages.
//!
//! Every mail starts from a copy-on-write image, where the first touch of a page costs about a microsecond. An allocator
//! that reuses memory freed by the script's top level would scatter a mail's small objects over the whole image; this one
//! gives them a fresh run of pages, one after the other.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// The unit of the sizes of small blocks, which is also their alignment.
const GRAIN: usize = 16;
const CLASSES: usize = 64;
/// The largest small block; larger blocks belong to the system allocator.
const LARGEST: usize = GRAIN * CLASSES;
const RUN_BYTES: usize = 64 << 10;
/// The run of memory that mails start with: enough for most of them.
const FRESH_RUN_BYTES: usize = 256 << 10;

/// The guest's allocator.
pub struct Memory(UnsafeCell<State>);

struct State {
    /// Freed blocks of each size, linked through their first word.
    free: [*mut u8; CLASSES],
    next: *mut u8,
    left: usize,
}

// SAFETY: a guest has one thread.
unsafe impl Sync for Memory {}

impl Memory {
    pub const fn new() -> Self {
        Memory(UnsafeCell::new(State {
            free: [null_mut(); CLASSES],
            next: null_mut(),
            left: 0,
        }))
    }

    /// Ends the preparation: blocks allocated from here on are adjacent, on separate pages.
    pub fn settle(&self) {
        // SAFETY: there is one thread, and no other reference is alive here.
        let state = unsafe { &mut *self.0.get() };
        state.free = [null_mut(); CLASSES];
        state.begin_run(FRESH_RUN_BYTES);
    }
}

impl State {
    fn begin_run(&mut self, bytes: usize) -> bool {
        // SAFETY: the layout is valid and not empty.
        let run = unsafe { System.alloc(Layout::from_size_align_unchecked(bytes, GRAIN)) };
        if run.is_null() {
            return false;
        }
        self.next = run;
        self.left = bytes;
        true
    }

    fn small(&mut self, class: usize) -> *mut u8 {
        let freed = self.free[class];
        if !freed.is_null() {
            // SAFETY: a freed block contains the link to the next one.
            self.free[class] = unsafe { freed.cast::<*mut u8>().read() };
            return freed;
        }
        let bytes = (class + 1) * GRAIN;
        if self.left < bytes && !self.begin_run(RUN_BYTES) {
            return null_mut();
        }
        let block = self.next;
        // SAFETY: the run has `left` bytes from `next` on, which is enough.
        self.next = unsafe { block.add(bytes) };
        self.left -= bytes;
        block
    }
}

/// Returns the class of a small block; `None` for a block of the system allocator.
fn class(layout: &Layout) -> Option<usize> {
    (layout.size() <= LARGEST && layout.align() <= GRAIN)
        .then(|| layout.size().saturating_sub(1) / GRAIN)
}

// SAFETY: blocks are disjoint, large and aligned enough, and stay in place until freed; a block's class follows from its
// layout alone, so it returns to the list it came from.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(&layout) {
            // SAFETY: there is one thread, and the reference ends with the call.
            Some(class) => unsafe { (*self.0.get()).small(class) },
            // SAFETY: the caller guarantees the layout.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(&layout) {
            // SAFETY: the block belongs to the caller, and has room for a link.
            Some(class) => unsafe {
                let state = &mut *self.0.get();
                block.cast::<*mut u8>().write(state.free[class]);
                state.free[class] = block;
            },
            // SAFETY: blocks of this layout came from there.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees the new size.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(&layout), class(&new)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: both sizes belong to the system allocator.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: both blocks are valid for the smaller of the two sizes, and do not overlap.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use super::Memory;

    #[test]
    fn blocks_keep_their_bytes_through_any_order_of_calls() {
        let memory = Memory::new();
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
        for step in 0..20_000 {
            let layout = Layout::from_size_align(1 + below(2000) as usize, 8).expect("a layout");
            let mark = step as u8;
            // SAFETY: the layouts are those that the blocks were allocated with, and every size is above zero.
            unsafe {
                match below(4) {
                    0 | 1 => blocks.push((memory.alloc(layout), layout, mark)),
                    2 if !blocks.is_empty() => {
                        let block = blocks.swap_remove(below(blocks.len() as u64) as usize);
                        whole(&block, usize::MAX);
                        memory.dealloc(block.0, block.1);
                        continue;
                    }
                    3 if !blocks.is_empty() => {
                        let (block, old, old_mark) =
                            blocks.swap_remove(below(blocks.len() as u64) as usize);
                        let moved = memory.realloc(block, old, layout.size());
                        whole(&(moved, layout, old_mark), old.size());
                        blocks.push((moved, layout, mark));
                    }
                    _ => continue,
                }
                let (block, layout, mark) = blocks[blocks.len() - 1];
                assert_eq!(block as usize % 8, 0);
                block.write_bytes(mark, layout.size());
            }
            if step % 5000 == 0 {
                memory.settle();
            }
        }
        blocks.iter().for_each(|block| whole(block, usize::MAX));
    }
}
