# The user's clang does not know wasm32; Debian's does.
have="rustup cargo clang clang-19 llvm-ar llvm-ar-19" listed=wasm32-unknown-unknown deaf=clang
out=('CC_wasm32_unknown_unknown=clang-19 AR_wasm32_unknown_unknown=llvm-ar-19$')
