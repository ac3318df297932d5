//! A valid component of another world.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package example:other@1.0.0;
            world other {
                export answer: func() -> u32;
            }
        ",
    });
}

struct Other;

impl bindings::Guest for Other {
    fn answer() -> u32 {
        42
    }
}

bindings::export!(Other with_types_in bindings);
