# As root on a Debian machine nothing need be there: apt-get brings it, and rustup is not asked.
have="rustup apt-get id"
choice=debian
out=("^guest_toolchain=debian$" "^export CC_wasm32_unknown_unknown=clang-19 ")
err=("apt-get install rustc-web ")
asked=("^apt-get install ")
unasked=("^rustup target add")
