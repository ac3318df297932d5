have="rustup cargo clang llvm-ar" choice=nix status=1
err=('POSTROOM_WASM_TOOLCHAIN=nix is not one of auto, rustup, debian')
unasked=('.')
