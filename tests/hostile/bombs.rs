//! Components that cost far more than their size, as a tenant's file may contain. They are generated, so that the
//! repository contains none.

/// Returns a bomb for memory: many locals that live through many blocks.
pub fn blocks(locals: u32, blocks: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..blocks {
        // block; br_if 0 on the first local; change another; end
        body.extend([0x02, 0x40, 0x20, 0x00, 0x0d, 0x00]);
        change(&mut body, number % locals);
        body.push(0x0b);
    }
    of_function(locals, body)
}

/// Returns another bomb for memory: many loops in sequence, each of which writes one local under a condition.
pub fn loops(locals: u32, loops: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..loops {
        body.extend([0x03, 0x40]);
        change(&mut body, number % locals);
        body.push(0x20);
        body.extend(leb((number + 3) % locals));
        // br_if 0; end
        body.extend([0x0d, 0x00, 0x0b]);
    }
    of_function(locals, body)
}

/// Returns a bomb for time: nested loops, each of which changes a local. With more locals it is one for memory.
pub fn deep_loops(locals: u32, loops: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..loops {
        body.extend([0x03, 0x40]);
        change(&mut body, number % locals);
    }
    for _ in 0..loops {
        body.extend([0x20, 0x00, 0x0d, 0x00, 0x0b]);
    }
    of_function(locals, body)
}

/// Returns a bomb for the size of compiled code: many modules, each with a memory of `pages` of which two bytes are set,
/// far apart.
pub fn sparse_data(modules: usize, pages: u32) -> Vec<u8> {
    let mut data = vec![0x02];
    for at in [0, (pages << 16) - 1] {
        data.extend([0x00, 0x41]);
        data.extend(signed_leb(at.cast_signed()));
        data.extend([0x0b, 0x01, 0x01]);
    }
    let memory = [&[0x01, 0x00][..], &leb(pages)].concat();
    let module = [MODULE, &section(5, &memory), &section(11, &data)].concat();
    component(&vec![module; modules])
}

/// Returns a bomb for the size of compiled code once unpacked: `width` to the power of `levels` instances of an empty
/// module.
pub fn fan_out(levels: u32, width: u32) -> Vec<u8> {
    let mut inner = [
        COMPONENT,
        &section(1, MODULE),
        &section(2, &[0x01, 0x00, 0x00, 0x00]),
    ]
    .concat();
    for _ in 0..levels {
        let mut instances = leb(width);
        instances.extend([0x00, 0x00, 0x00].repeat(width as usize));
        inner = [COMPONENT, &section(4, &inner), &section(5, &instances)].concat();
    }
    inner.extend(&component(&[MODULE.to_vec()])[COMPONENT.len()..]);
    inner
}

/// Returns a bomb for reading, which has no limit: a core module that imports from as many modules.
pub fn many_imports(count: u32) -> Vec<u8> {
    let mut imports = leb(count);
    for number in 0..count {
        let module = number.to_string();
        imports.extend(leb(module.len() as u32));
        imports.extend(module.as_bytes());
        imports.extend(b"\x01f\x00\x00");
    }
    [
        MODULE,
        &section(1, b"\x01\x60\x00\x00"),
        &section(2, &imports),
    ]
    .concat()
}

/// Returns a component that no other run of the tests has used: earlier compiled code and notes do not apply to it.
pub fn component(modules: &[Vec<u8>]) -> Vec<u8> {
    let mut component = [
        COMPONENT,
        &section(0, format!("\x03run{}", std::process::id()).as_bytes()),
    ]
    .concat();
    for module in modules {
        component.extend(section(1, module));
    }
    // The first module itself is exported as `decide`: a component without an export of that name is refused before it is
    // compiled.
    component.extend(section(11, b"\x01\x00\x06decide\x00\x11\x00\x00"));
    component
}

pub const MODULE: &[u8] = b"\0asm\x01\0\0\0";
pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns a section of a module or a component; a custom one begins with its name.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len() as u32), content].concat()
}

pub fn leb(mut number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

fn signed_leb(mut number: i32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        let sign = byte & 0x40 != 0;
        if (number == 0 && !sign) || (number == -1 && sign) {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// Appends `local = local + first local`.
fn change(body: &mut Vec<u8>, local: u32) {
    body.push(0x20);
    body.extend(leb(local));
    body.extend([0x20, 0x00, 0x6a, 0x21]);
    body.extend(leb(local));
}

/// Returns a component of one function `(param) -> i32` that returns the sum of its locals, so that all of them live to its
/// end.
fn of_function(locals: u32, body: Vec<u8>) -> Vec<u8> {
    // One group of i32 locals.
    let mut code = [&[0x01][..], &leb(locals), &[0x7f], &body].concat();
    code.extend([0x41, 0x00]);
    for local in 0..locals {
        code.push(0x20);
        code.extend(leb(local));
        code.push(0x6a);
    }
    code.push(0x0b);
    let codes = [&[0x01][..], &leb(code.len() as u32), &code].concat();
    let module = [
        MODULE,
        &section(1, b"\x01\x60\x00\x01\x7f"),
        &section(3, &[0x01, 0x00]),
        &section(10, &codes),
    ]
    .concat();
    component(&[module])
}
