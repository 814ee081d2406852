#!/usr/bin/env bash
# Mutation testing: a sample, drawn from a seed, of what cargo-mutants would change in amap, anon, fault, map and pmap. Each mutant
# meets the unit tests and the simulation's seeds, which take less than 20 s. Prints those that live and leaves the details
# in OUT/mutants.out.
#
#     uvm/tests/mutants.sh SEED [COUNT [JOBS [OUT]]]        200 mutants, 2 at a time, in a new folder for temporary files
#
# Needs `cargo install cargo-mutants --locked`. The tree itself is not touched: it works on a copy with executor and uvm alone.
set -euo pipefail

seed=${1:?usage: mutants.sh SEED [COUNT [JOBS [OUT]]]}
count=${2:-200}
jobs=${3:-2}
out=${4:-$(mktemp -d "${TMPDIR:-/tmp}/auvm-mutants.XXXXXX")}
# Seconds: one that hangs is caught. Several times what all tests take on two idle cores.
patience=${AUVM_MUTANT_TIMEOUT:-60}

workspace=$(cd "$(dirname "$0")/../.." && pwd)
copy=$out/copy
mkdir -p "$copy"
for part in Cargo.lock executor uvm .cargo rust-toolchain.toml; do
    if [ -e "$workspace/$part" ]; then
        rm -rf "${copy:?}/$part"
        cp -r "$workspace/$part" "$copy/"
    fi
done
awk '/^(default-)?members = \[$/ { print $0 " \"executor\", \"uvm\" ]"; within = 1 }
     within { if ($0 == "]") within = 0; next }
     { print }' "$workspace/Cargo.toml" > "$copy/Cargo.toml"
# Unit tests do without the host machine that the crate lends to its examples and integration tests: without these a mutant is built
# once, not three times.
sed -i '/^uvm = { path = "\."/d' "$copy/uvm/Cargo.toml"
rm -r "$copy/uvm/examples" "$copy/uvm/tests"

# Each job has the target folder of its own copy, warm from the start, and no debug information.
unset CARGO_TARGET_DIR
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_NET_OFFLINE=true RUST_BACKTRACE=0
tests=(--lib)
cd "$copy"
cargo test --quiet --package uvm --no-run "${tests[@]}"

files=(--package uvm --file 'uvm/src/amap/**' --file uvm/src/anon.rs --file 'uvm/src/fault/**' --file uvm/src/fault.rs
    --file 'uvm/src/map/**' --file 'uvm/src/pmap/**')
# Messages for people are not behaviour. Deleted fields are no part of the draw: cargo-mutants (27.1) filters none of them by name, so
# that the ten or so in these files are tried every time.
rm -f .cargo/mutants.toml
cargo mutants --list "${files[@]}" --exclude-re 'fmt::Debug|fmt::Display' | grep -v ': delete field ' > "$out/all"
# In the order of a hash of seed and name: the same sample of the same tree everywhere.
while IFS= read -r mutant; do
    printf '%s %s\n' "$(printf '%s %s' "$seed" "$mutant" | sha256sum | cut -c1-16)" "$mutant"
done < "$out/all" | sort | sed -n "1,${count}p" | cut -d' ' -f2- > "$out/sample"
printf '%s of %s mutants, seed %s, in %s\n' "$(wc -l < "$out/sample")" "$(wc -l < "$out/all")" "$seed" "$out"

# The sample's names as one expression for each.
mkdir -p .cargo
{
    printf 'examine_re = [\n'
    sed -e 's/[][\\.*+?(){}|^$]/\\&/g' -e "s/.*/    '''^&\$''',/" "$out/sample"
    printf ']\n'
} > .cargo/mutants.toml

status=0
cargo mutants "${files[@]}" --baseline skip --jobs "$jobs" --timeout "$patience" --build-timeout 600 --copy-target true \
    --no-shuffle --caught --unviable --output "$out" "${tests[@]/#/--cargo-arg=}" || status=$?
printf '\nalive:\n'
cat "$out/mutants.out/missed.txt"
exit "$status"
