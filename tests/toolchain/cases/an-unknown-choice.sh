have="rustup cargo clang llvm-ar" choice=nix status=1
err=('POSTROOM_WASM_TOOLCHAIN=nix is none of auto, rustup, debian')
unasked=('.')
