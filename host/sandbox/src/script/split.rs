//! Splits the interpreter's core module into code that imports its memory, and the initial contents of this memory.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{EntityType, ImportSection, MemoryType, Module, RawSection, SectionId};
use wasmparser::{ConstExpr, DataKind, ExternalKind, FuncType, Operator, Parser, Payload, TypeRef};

use super::{MEMORY_MODULE, MEMORY_NAME, PAGE, Unfit};

/// The interpreter without its memory.
pub(super) struct Split {
    /// The code, which imports `env.memory` and is otherwise unchanged.
    pub(super) code: Vec<u8>,
    /// The initial size of the memory, in pages of 64 KiB.
    pub(super) pages: u64,
    /// The initial contents of the memory, by offset.
    pub(super) data: Vec<(usize, Vec<u8>)>,
    /// Function imports, without the memory: module, name, type.
    pub(super) imports: Vec<(String, String, FuncType)>,
    /// Exported functions.
    pub(super) exports: Vec<(String, FuncType)>,
    /// The names under which it exports the memory.
    pub(super) memory_exports: Vec<String>,
}

/// Splits `wasm`, and checks that memory is its only state.
pub(super) fn split(wasm: &[u8]) -> Result<Split, Unfit> {
    let mut module = Module::new();
    let mut types: Vec<FuncType> = Vec::new();
    let mut functions: Vec<u32> = Vec::new();
    let mut split = Split {
        code: Vec::new(),
        pages: 0,
        data: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        memory_exports: Vec::new(),
    };
    let mut memory = None;
    let mut mutable_globals = 0;

    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group?.into_types() {
                        types.push(ty.composite_type.unwrap_func().clone());
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    let TypeRef::Func(ty) = import.ty else {
                        return Err(Unfit::State("it imports more than functions"));
                    };
                    functions.push(ty);
                    split.imports.push((
                        import.module.to_owned(),
                        import.name.to_owned(),
                        function_type(&types, ty)?,
                    ));
                }
                continue;
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    functions.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for ty in section.clone() {
                    let ty = ty?;
                    if memory.is_some() || ty.memory64 || ty.shared {
                        return Err(Unfit::State("it has more than one plain memory"));
                    }
                    memory = Some(ty);
                }
                continue;
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    mutable_globals += usize::from(global?.ty.mutable);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Func => {
                            let ty = functions.get(export.index as usize);
                            let ty = function_type(&types, *ty.ok_or(Unfit::Index)?)?;
                            split.exports.push((export.name.to_owned(), ty));
                        }
                        ExternalKind::Memory => split.memory_exports.push(export.name.to_owned()),
                        _ => {}
                    }
                }
            }
            Payload::StartSection { .. } => {
                return Err(Unfit::State("it has a start function"));
            }
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    let segment = segment?;
                    let DataKind::Active { offset_expr, .. } = segment.kind else {
                        return Err(Unfit::State("it has passive data"));
                    };
                    split
                        .data
                        .push((offset(&offset_expr)?, segment.data.to_vec()));
                }
                continue;
            }
            Payload::DataCountSection { .. } => continue,
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    check(&operator?)?;
                }
            }
            Payload::CustomSection(section) if section.name() != "name" => continue,
            _ => {}
        }
        // The memory is added to the imports, which come after the types.
        if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection {
                id,
                data: &wasm[range],
            });
            if id == u8::from(SectionId::Type) {
                module.section(&imports(wasm)?);
            }
        }
    }
    // The remaining one is the stack pointer, which has its initial value whenever no function runs.
    if mutable_globals != 1 {
        return Err(Unfit::State(
            "it has other mutable globals than the stack pointer",
        ));
    }
    split.pages = memory.ok_or(Unfit::State("it has no memory"))?.initial;
    split.code = module.finish();
    let size = usize::try_from(split.pages).map_err(|_| Unfit::Index)? * PAGE;
    match split
        .data
        .iter()
        .all(|(at, bytes)| at + bytes.len() <= size)
    {
        true => Ok(split),
        false => Err(Unfit::Index),
    }
}

/// Returns the imports with the memory added at the end, where it does not change the index of a function.
fn imports(wasm: &[u8]) -> Result<ImportSection, Unfit> {
    let mut imports = ImportSection::new();
    let mut memory = None;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(section) => RoundtripReencoder
                .parse_import_section(&mut imports, section)
                .map_err(|error| Unfit::Encode(error.to_string()))?,
            Payload::MemorySection(section) => {
                for ty in section {
                    memory = Some(ty?);
                }
            }
            _ => {}
        }
    }
    let memory = memory.ok_or(Unfit::State("it has no memory"))?;
    imports.import(
        MEMORY_MODULE,
        MEMORY_NAME,
        EntityType::Memory(memory_type(memory.initial)),
    );
    Ok(imports)
}

/// Returns the memory's type in the interpreter, its image and the wrapper: at least this many pages.
pub(super) fn memory_type(pages: u64) -> MemoryType {
    MemoryType {
        minimum: pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    }
}

fn function_type(types: &[FuncType], index: u32) -> Result<FuncType, Unfit> {
    types.get(index as usize).cloned().ok_or(Unfit::Index)
}

fn offset(expression: &ConstExpr<'_>) -> Result<usize, Unfit> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(value as u32 as usize),
        _ => Err(Unfit::State("its data is not at a fixed address")),
    }
}

/// Fails on instructions that use tables or dropped segments as state, which an image of the memory does not contain.
fn check(operator: &Operator<'_>) -> Result<(), Unfit> {
    match operator {
        Operator::TableSet { .. }
        | Operator::TableGrow { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::ElemDrop { .. } => Err(Unfit::State("it changes its tables")),
        Operator::MemoryInit { .. } | Operator::DataDrop { .. } => {
            Err(Unfit::State("it copies data at run time"))
        }
        _ => Ok(()),
    }
}
