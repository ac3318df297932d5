//! The component around the interpreter, rewritten to import the interpreter's code and the memory image instead of
//! containing them.
//!
//! It is compiled once. For each script only another image is linked.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, RoundtripReencoder};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentTypeRef, CoreTypeSection, EntityType,
    InstanceSection, ModuleArg, ModuleType, RawSection,
};
use wasmparser::{FuncType, Instance, InstantiationArgKind, Parser, Payload};

use super::split::{Split, memory_type};
use super::{IMAGE_IMPORT, INTERPRETER_IMPORT, MEMORY_MODULE, MEMORY_NAME, Unfit};

/// Rewrites `component`, which `wit-component` made from the interpreter: its core module 0 is the interpreter itself.
pub(super) fn wrap(component: &[u8], split: &Split) -> Result<Vec<u8>, Unfit> {
    let mut wrapper = Wrapper {
        split,
        modules: 0,
        image_made: false,
        interpreter_made: false,
    };
    let mut output = Component::new();
    wrapper
        .parse_component(&mut output, Parser::new(0), component)
        .map_err(|error| Unfit::Encode(error.to_string()))?;
    match wrapper.interpreter_made {
        true => Ok(output.finish()),
        false => Err(Unfit::Encode("the interpreter is not instantiated".into())),
    }
}

struct Wrapper<'a> {
    split: &'a Split,
    /// The number of core modules so far.
    modules: u32,
    image_made: bool,
    interpreter_made: bool,
}

impl Reencode for Wrapper<'_> {
    type Error = Infallible;
}

impl ReencodeComponent for Wrapper<'_> {
    // Imported module 0 is the interpreter, 1 the image; the modules added by `wit-component` follow.
    fn module_index(&mut self, index: u32) -> u32 {
        match index {
            0 => 0,
            other => other + 1,
        }
    }

    // Core instance 0 is the image.
    fn instance_index(&mut self, index: u32) -> u32 {
        index + 1
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), Error<Infallible>> {
        match payload {
            Payload::ModuleSection {
                unchecked_range, ..
            } => {
                match self.modules {
                    0 => self.import(component)?,
                    _ => {
                        component.section(&RawSection {
                            id: wasm_encoder::ComponentSectionId::CoreModule.into(),
                            data: &whole[unchecked_range],
                        });
                    }
                }
                self.modules += 1;
                Ok(())
            }
            Payload::CustomSection(_) => Ok(()),
            other => wasm_encoder::reencode::component_utils::parse_component_payload(
                self, component, other, whole,
            ),
        }
    }

    fn parse_instance_section(
        &mut self,
        instances: &mut InstanceSection,
        section: wasmparser::InstanceSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        if !self.image_made {
            self.image_made = true;
            instances.instantiate::<_, &str>(1, []);
        }
        for instance in section {
            self.parse_instance(instances, instance?)?;
        }
        Ok(())
    }

    fn parse_instance(
        &mut self,
        instances: &mut InstanceSection,
        instance: Instance<'_>,
    ) -> Result<(), Error<Infallible>> {
        match instance {
            Instance::Instantiate {
                module_index: 0,
                args,
            } => {
                self.interpreter_made = true;
                let mut linked: Vec<_> = args
                    .iter()
                    .map(|arg| match arg.kind {
                        InstantiationArgKind::Instance => (
                            arg.name,
                            ModuleArg::Instance(self.instance_index(arg.index)),
                        ),
                    })
                    .collect();
                linked.push((MEMORY_MODULE, ModuleArg::Instance(0)));
                instances.instantiate(0, linked);
                Ok(())
            }
            other => {
                wasm_encoder::reencode::component_utils::parse_instance(self, instances, other)
            }
        }
    }
}

impl Wrapper<'_> {
    fn import(&self, component: &mut Component) -> Result<(), Error<Infallible>> {
        let memory = EntityType::Memory(memory_type(self.split.pages));
        let mut interpreter = ModuleType::new();
        for (module, name, ty) in &self.split.imports {
            let ty = function(&mut interpreter, ty)?;
            interpreter.import(module, name, ty);
        }
        interpreter.import(MEMORY_MODULE, MEMORY_NAME, memory);
        for (name, ty) in &self.split.exports {
            let ty = function(&mut interpreter, ty)?;
            interpreter.export(name, ty);
        }
        for name in &self.split.memory_exports {
            interpreter.export(name, memory);
        }
        let mut image = ModuleType::new();
        image.export(MEMORY_NAME, memory);

        let mut types = CoreTypeSection::new();
        types.ty().module(&interpreter);
        types.ty().module(&image);
        component.section(&types);
        let mut imports = ComponentImportSection::new();
        imports.import(INTERPRETER_IMPORT, ComponentTypeRef::Module(0));
        imports.import(IMAGE_IMPORT, ComponentTypeRef::Module(1));
        component.section(&imports);
        Ok(())
    }
}

fn function(module: &mut ModuleType, ty: &FuncType) -> Result<EntityType, Error<Infallible>> {
    let index = module.type_count();
    let ty = RoundtripReencoder.func_type(ty.clone())?;
    module
        .ty()
        .function(ty.params().iter().copied(), ty.results().iter().copied());
    Ok(EntityType::Function(index))
}
