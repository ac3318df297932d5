//! The bindings that `wit-bindgen` generates for the contract; the rest of the crate gives them convenient names.
#![allow(unsafe_code)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "rule",
    pub_export_macro: true,
    export_macro_name: "export_rule",
    default_bindings_module: "postroom_sdk::bindings",
    runtime_path: "::postroom_sdk::wit_bindgen::rt",
    additional_derives: [PartialEq, Clone],
});
