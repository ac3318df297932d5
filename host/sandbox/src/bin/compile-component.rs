//! The compiling child process for the sandbox's own tests, which are not part of the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut limits = std::env::args().skip(1).map(|it| it.parse());
    match (limits.next(), limits.next()) {
        (Some(Ok(memory_bytes)), Some(Ok(cpu_secs))) => {
            postroom_sandbox::compile_for_parent(memory_bytes, cpu_secs)
        }
        _ => ExitCode::FAILURE,
    }
}
