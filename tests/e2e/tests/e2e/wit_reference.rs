//! `docs/wit.md`, the reference of the contract with rules, is generated from `wit/plugin.wit`. UPDATE=1 writes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use postroom_e2e::root;
use wit_parser::{
    Docs, Function, FunctionKind, Handle, InterfaceId, Resolve, Type, TypeDef, TypeDefKind, TypeId,
    World, WorldItem,
};

const SOURCE: &str = "wit/plugin.wit";
const PAGE: &str = "docs/wit.md";

#[test]
fn the_reference_is_what_the_contract_says() {
    let mut resolve = Resolve::default();
    let package = resolve.push_file(root().join(SOURCE)).unwrap();
    let mut page = Page {
        resolve: &resolve,
        out: String::new(),
    };
    page.all(package);

    let path = root().join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page.out).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == page.out,
        "{PAGE} is not what {SOURCE} says: UPDATE=1 writes it"
    );
}

struct Page<'a> {
    resolve: &'a Resolve,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    fn paragraph(&mut self, text: impl AsRef<str>) {
        if !text.as_ref().is_empty() {
            self.line(text);
            self.line("");
        }
    }

    fn all(&mut self, package: wit_parser::PackageId) {
        let package = &self.resolve.packages[package];
        self.paragraph("# WIT reference");
        self.paragraph(format!(
            "`{}`, made from [{SOURCE}](../{SOURCE}): edit that, then `UPDATE=1 cargo test --release --workspace wit_reference`. How to use it: \
             [plugins.md](plugins.md).",
            package.name
        ));
        self.paragraph(docs(&package.docs));
        for world in package.worlds.values() {
            self.world(&self.resolve.worlds[*world]);
        }
        for (name, interface) in &package.interfaces {
            self.interface(name, *interface);
        }
        self.out.truncate(self.out.trim_end().len());
        self.out.push('\n');
    }

    fn world(&mut self, world: &World) {
        self.paragraph(format!("## World `{}`", world.name));
        self.paragraph(docs(&world.docs));
        let imports: BTreeSet<String> = world
            .imports
            .values()
            .filter_map(|item| match item {
                WorldItem::Interface { id, .. } => self.resolve.interfaces[*id].name.clone(),
                _ => None,
            })
            .map(|name| format!("[`{name}`](#interface-{name})"))
            .collect();
        let imports: Vec<String> = imports.into_iter().collect();
        self.paragraph(format!("Imports: {}. Exports:", imports.join(", ")));
        for item in world.exports.values() {
            if let WorldItem::Function(function) = item {
                self.code(&self.signature(function));
            }
        }
    }

    fn code(&mut self, code: &str) {
        self.paragraph(format!("```wit\n{code}\n```"));
    }

    fn interface(&mut self, name: &str, id: InterfaceId) {
        let interface = &self.resolve.interfaces[id];
        self.paragraph(format!("## Interface `{name}`"));
        self.paragraph(docs(&interface.docs));
        for (name, id) in &interface.types {
            // Described where it is defined.
            if matches!(self.resolve.types[*id].kind, TypeDefKind::Type(_)) {
                continue;
            }
            self.type_(name, *id, interface.functions.values());
        }
        let free: Vec<&Function> = interface
            .functions
            .values()
            .filter(|function| matches!(function.kind, FunctionKind::Freestanding))
            .collect();
        self.functions(&free);
    }

    fn type_<'f>(&mut self, name: &str, id: TypeId, functions: impl Iterator<Item = &'f Function>) {
        let type_: &TypeDef = &self.resolve.types[id];
        self.paragraph(format!("### {} `{name}`", type_.kind.as_str()));
        self.paragraph(docs(&type_.docs));
        match &type_.kind {
            TypeDefKind::Record(record) => {
                let rows = record
                    .fields
                    .iter()
                    .map(|it| (it.name.as_str(), self.named(&it.ty), docs(&it.docs)));
                self.table("field", rows.collect());
            }
            TypeDefKind::Variant(variant) => {
                let rows = variant.cases.iter().map(|it| {
                    let holds = it.ty.as_ref().map(|ty| self.named(ty)).unwrap_or_default();
                    (it.name.as_str(), holds, docs(&it.docs))
                });
                self.table("case", rows.collect());
            }
            TypeDefKind::Enum(all) if all.cases.iter().all(|it| docs(&it.docs).is_empty()) => {
                let cases = all.cases.iter().map(|it| format!("`{}`", it.name));
                self.paragraph(cases.collect::<Vec<_>>().join(", "));
            }
            TypeDefKind::Enum(all) => {
                let rows = all
                    .cases
                    .iter()
                    .map(|it| (it.name.as_str(), String::new(), docs(&it.docs)));
                self.table("case", rows.collect());
            }
            TypeDefKind::Resource => {
                let methods: Vec<&Function> = functions
                    .filter(
                        |function| matches!(function.kind, FunctionKind::Method(of) if of == id),
                    )
                    .collect();
                self.functions(&methods);
            }
            kind => panic!("{PAGE} cannot show a {} yet: {name}", kind.as_str()),
        }
    }

    fn table(&mut self, what: &str, rows: Vec<(&str, String, String)>) {
        self.line(format!("| {what} | type | |"));
        self.line("|---|---|---|");
        for (name, type_, docs) in rows {
            let type_ = if type_.is_empty() {
                type_
            } else {
                format!("`{type_}`")
            };
            self.line(format!("| `{name}` | {type_} | {docs} |"));
        }
        self.line("");
    }

    fn functions(&mut self, functions: &[&Function]) {
        if functions.is_empty() {
            return;
        }
        self.line("| function | |");
        self.line("|---|---|");
        for function in functions {
            let signature = self.signature(function);
            self.line(format!("| `{signature}` | {} |", docs(&function.docs)));
        }
        self.line("");
    }

    /// Returns the signature as in WIT, without a method's `self` parameter.
    fn signature(&self, function: &Function) -> String {
        let own = usize::from(matches!(function.kind, FunctionKind::Method(_)));
        let params: Vec<String> = function.params[own..]
            .iter()
            .map(|it| format!("{}: {}", it.name, self.named(&it.ty)))
            .collect();
        let mut out = format!("{}: func({})", function.item_name(), params.join(", "));
        if let Some(result) = &function.result {
            let _ = write!(out, " -> {}", self.named(result));
        }
        out
    }

    /// Returns a type as it is written.
    fn named(&self, type_: &Type) -> String {
        let Type::Id(id) = type_ else {
            return match type_ {
                Type::Bool => "bool",
                Type::U8 => "u8",
                Type::U32 => "u32",
                Type::U64 => "u64",
                Type::S32 => "s32",
                Type::F64 => "f64",
                Type::String => "string",
                other => panic!("{PAGE} cannot show {other:?} yet"),
            }
            .to_owned();
        };
        let definition = &self.resolve.types[*id];
        if let Some(name) = &definition.name {
            return name.clone();
        }
        let or_blank = |type_: &Option<Type>| {
            type_
                .as_ref()
                .map_or_else(|| "_".to_owned(), |type_| self.named(type_))
        };
        match &definition.kind {
            TypeDefKind::Option(of) => format!("option<{}>", self.named(of)),
            TypeDefKind::List(of) => format!("list<{}>", self.named(of)),
            TypeDefKind::Tuple(of) => {
                let of: Vec<String> = of.types.iter().map(|it| self.named(it)).collect();
                format!("tuple<{}>", of.join(", "))
            }
            TypeDefKind::Result(of) if of.ok.is_some() && of.err.is_none() => {
                format!("result<{}>", or_blank(&of.ok))
            }
            TypeDefKind::Result(of) => {
                format!("result<{}, {}>", or_blank(&of.ok), or_blank(&of.err))
            }
            TypeDefKind::Handle(Handle::Borrow(of)) => {
                format!("borrow<{}>", self.named(&Type::Id(*of)))
            }
            TypeDefKind::Handle(Handle::Own(of)) => self.named(&Type::Id(*of)),
            kind => panic!("{PAGE} cannot show a {} yet", kind.as_str()),
        }
    }
}

/// Returns a comment on one line; a table's cells hold no line end.
fn docs(docs: &Docs) -> String {
    let text = docs.contents.as_deref().unwrap_or_default();
    let paragraphs = text.split("\n\n").map(|it| it.replace('\n', " "));
    paragraphs
        .collect::<Vec<_>>()
        .join("\n\n")
        .trim()
        .to_owned()
}
