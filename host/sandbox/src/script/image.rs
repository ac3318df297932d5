//! Turns a memory's contents into a core module that defines only this memory, stored once: in a file that wasmtime maps.

use std::fs::File;
use std::io::{self, Write};

use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection};
use wasmtime::{Engine, Module};

use super::split::memory_type;
use super::{MEMORY_NAME, PAGE};

/// Blocks of this size that contain only zeros are left out.
const BLOCK: usize = 4 << 10;

/// Returns the compiled module of a whole memory, in full pages.
pub(super) fn code(engine: &Engine, memory: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_module(&wasm(memory))
}

/// Returns the module of what [`code`] returned.
///
/// For a module from bytes, wasmtime keeps the data and also creates a file with it, which instances map copy-on-write. For
/// a module from a file it maps that file.
pub(super) fn module(engine: &Engine, code: Vec<u8>) -> wasmtime::Result<Module> {
    let file = file(&code)?;
    drop(code);
    // SAFETY: this engine has just made the contents, and nobody changes them: the file has no name, its one descriptor
    // goes to wasmtime, and the file is sealed if the system supports that.
    #[allow(unsafe_code)]
    unsafe {
        Module::deserialize_open_file(engine, file)
    }
}

/// Returns a file in memory that accepts no more writes.
#[cfg(target_os = "linux")]
fn file(contents: &[u8]) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("postroom-script", flags)?);
    file.write_all(contents)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn file(contents: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(contents)?;
    Ok(file)
}

fn wasm(memory: &[u8]) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(memory_type((memory.len() / PAGE) as u64));
    let mut exports = ExportSection::new();
    exports.export(MEMORY_NAME, ExportKind::Memory, 0);
    let mut data = DataSection::new();
    for (at, bytes) in runs(memory) {
        data.active(0, &ConstExpr::i32_const(at as i32), bytes.iter().copied());
    }
    let mut module = wasm_encoder::Module::new();
    module.section(&memories).section(&exports).section(&data);
    module.finish()
}

/// Returns the non-zero parts, in as few pieces as whole blocks allow.
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

    /// Returns the file that an address is mapped from.
    #[cfg(target_os = "linux")]
    fn mapped_from(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let line = maps.lines().find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            (hex(from)..hex(to)).contains(&address)
        });
        line.unwrap_or_default().to_owned()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_instance_maps_the_file_that_the_module_is_read_from() {
        let mut contents = vec![0; 2 * PAGE];
        contents[PAGE + 5] = 7;
        let engine = Engine::default();
        let module = module(&engine, code(&engine, &contents).unwrap()).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, MEMORY_NAME).unwrap();
        assert!(memory.data(&store) == contents);
        let places = [
            memory.data_ptr(&store) as usize + PAGE,
            module.image_range().start as usize,
        ];
        for place in places {
            let line = mapped_from(place);
            assert!(line.contains("/memfd:postroom-script"), "{line}");
        }
    }
}
