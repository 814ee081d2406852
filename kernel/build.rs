//! Tells the linker how the kernel is laid out. Only the kernel's own target is linked this way: on a
//! hosted target the binary is a stub (see `main.rs`).

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    let target_os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target_os != "none" {
        return;
    }
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    for argument in [
        &*format!("-T{here}/kernel.ld"),
        // ET_EXEC: the boot code runs at the addresses it was linked for.
        "--no-pie",
        // File offsets need only be congruent modulo 4 KiB, not modulo the default 64 KiB.
        "-zmax-page-size=0x1000",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
