//! What `wit-bindgen` makes of the contract; the rest of the crate gives it its everyday names.
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
