//! What a program finds on its initial stack: arguments, environment, auxiliary vector.

use std::env;

fn main() {
    for (index, argument) in env::args_os().enumerate() {
        match index {
            // Where it was started from is the caller's business.
            0 => println!("argument 0 is given: {}", !argument.is_empty()),
            _ => println!("argument {index}: {argument:?}"),
        }
    }
    let mut variables: Vec<_> = env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("TEST_"))
        .collect();
    variables.sort();
    for (name, value) in variables {
        println!("{}={value:?}", name.display());
    }
    println!("page size {}", auxiliary(libc::AT_PAGESZ));
    println!("program headers of {} bytes", auxiliary(libc::AT_PHENT));
    for (name, kind) in [
        ("AT_PHDR", libc::AT_PHDR),
        ("AT_PHNUM", libc::AT_PHNUM),
        ("AT_ENTRY", libc::AT_ENTRY),
        ("AT_RANDOM", libc::AT_RANDOM),
        ("AT_EXECFN", libc::AT_EXECFN),
    ] {
        println!("{name} is there: {}", auxiliary(kind) != 0);
    }
    println!("AT_BASE is zero: {}", auxiliary(libc::AT_BASE) == 0);
    println!(
        "identities {}",
        [libc::AT_UID, libc::AT_EUID]
            .map(auxiliary)
            .iter()
            .all(|id| *id == auxiliary(libc::AT_UID))
    );
    let random = auxiliary(libc::AT_RANDOM) as *const [u8; 16];
    // SAFETY: AT_RANDOM points to 16 bytes on the initial stack, which nobody takes away.
    let random = unsafe { random.read() };
    println!("AT_RANDOM is random: {}", random != [0; 16]);
    let mut on_stack = 0_u8;
    println!(
        "the stack is above the heap: {}",
        &raw mut on_stack > Box::into_raw(Box::new(0_u8))
    );
}

fn auxiliary(kind: libc::c_ulong) -> libc::c_ulong {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(kind) }
}
