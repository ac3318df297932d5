//! A memory's contents as a core module that defines nothing but this memory.

use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, Module};

use super::split::memory_type;
use super::{MEMORY_NAME, PAGE};

/// Zeros in such blocks are left out.
const BLOCK: usize = 4 << 10;

/// `memory` is all of it, in whole pages.
pub(super) fn module(memory: &[u8]) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(memory_type((memory.len() / PAGE) as u64));
    let mut exports = ExportSection::new();
    exports.export(MEMORY_NAME, ExportKind::Memory, 0);
    let mut data = DataSection::new();
    for (at, bytes) in runs(memory) {
        data.active(0, &ConstExpr::i32_const(at as i32), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&memories).section(&exports).section(&data);
    module.finish()
}

/// What is not zero, in as few pieces as blocks allow.
fn runs(memory: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs = Vec::new();
    let mut begin = None;
    for (index, block) in memory.chunks(BLOCK).enumerate() {
        let at = index * BLOCK;
        match (block.iter().all(|byte| *byte == 0), begin) {
            (false, None) => begin = Some(at),
            (true, Some(from)) => {
                runs.push((from, &memory[from..at]));
                begin = None;
            }
            _ => {}
        }
    }
    if let Some(from) = begin {
        runs.push((from, &memory[from..]));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_zeros_out() {
        let mut memory = vec![0; 4 * BLOCK];
        memory[BLOCK] = 1;
        memory[3 * BLOCK + 7] = 2;
        let places: Vec<_> = runs(&memory)
            .iter()
            .map(|(at, run)| (*at, run.len()))
            .collect();
        assert_eq!(places, [(BLOCK, BLOCK), (3 * BLOCK, BLOCK)]);
        assert!(runs(&[0; PAGE]).is_empty());
    }
}
