# The target is there, and only a C compiler for it is missing.
have="rustup cargo apt-get id"
listed="wasm32-unknown-unknown"
out=("^guest_toolchain=installed$" "^export CC_wasm32_unknown_unknown=clang-19 ")
asked=("^apt-get install .*clang-19")
