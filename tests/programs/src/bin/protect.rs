//! Every kind of bad access, each in a child of its own, and the signal it earns.

use std::arch::asm;
use std::hint::black_box;

use libc::{MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};
use programs::{Mapping, PAGE, in_child};

fn main() {
    let peek = |address: u64| {
        in_child(|| {
            let pointer = std::ptr::with_exposed_provenance::<u8>(black_box(address as usize));
            // SAFETY: none; the child is meant to die of it.
            i32::from(unsafe { pointer.read_volatile() })
        })
    };
    let poke = |address: u64| {
        in_child(|| {
            let pointer = std::ptr::with_exposed_provenance_mut::<u8>(black_box(address as usize));
            // SAFETY: none; the child is meant to die of it.
            unsafe { pointer.write_volatile(1) };
            0
        })
    };
    println!("read of nothing: {}", peek(8));
    println!("write to nothing: {}", poke(8));
    println!("read of a wild address: {}", peek(0x1234_5678_9000));
    println!("read of the kernel: {}", peek(0xffff_ffff_8000_0000));
    println!("write to the kernel: {}", poke(0xffff_ffff_8010_0000));
    println!("read past all user addresses: {}", peek(0x7fff_ffff_f000));
    println!(
        "read of an address that cannot be: {}",
        peek(0x8000_0000_0000_0000)
    );
    println!(
        "write to the program's text: {}",
        poke(main as fn() as usize as u64)
    );
    println!(
        "write to a constant: {}",
        poke(CONSTANT.as_ptr().addr() as u64)
    );

    let with = |prot| Mapping::anonymous(PAGE, prot, MAP_PRIVATE);
    println!(
        "read of PROT_NONE: {}",
        in_child(|| with(PROT_NONE).read(0).into())
    );
    println!("write to PROT_READ: {}", poke(with_kept(PROT_READ)));
    println!(
        "run of PROT_WRITE: {}",
        in_child(|| run(&with(PROT_READ | PROT_WRITE)))
    );
    println!(
        "run of PROT_EXEC: {}",
        in_child(|| run(&with(PROT_READ | PROT_WRITE | PROT_EXEC)))
    );

    /// Runs instructions that must not come back.
    macro_rules! die_of {
        ($($instruction:literal),+) => {
            in_child(|| {
                // SAFETY: none; the child is meant to die of it, at the last instruction at the latest.
                unsafe { asm!($($instruction,)+ "ud2", options(noreturn)) }
            })
        };
    }
    println!("undefined instruction: {}", die_of!("ud2"));
    println!("privileged instruction: {}", die_of!("hlt"));
    println!("interrupts off: {}", die_of!("cli"));
    println!("port: {}", die_of!("in al, 0x60"));
    println!("breakpoint: {}", die_of!("int3"));
    println!("interrupt of the kernel's: {}", die_of!("int 0x20"));
    println!("division by zero: {}", in_child(divide_by_zero));
    println!("a jump to nothing: {}", die_of!("xor eax, eax", "jmp rax"));
    println!("the parent lives");
}

static CONSTANT: [u8; 64] = [1; 64];

/// The address of a page that stays.
fn with_kept(prot: i32) -> u64 {
    let mapping = Mapping::anonymous(PAGE, prot, MAP_PRIVATE);
    let address = mapping.base().expose_provenance() as u64;
    std::mem::forget(mapping);
    address
}

/// Writes a function that returns 42 and calls it.
fn run(code: &Mapping) -> i32 {
    // mov eax, 42; ret
    for (at, byte) in [0xb8, 42, 0, 0, 0, 0xc3].into_iter().enumerate() {
        code.write(at, byte);
    }
    // SAFETY: these bytes are a function with the C calling convention.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(code.base()) };
    function()
}

fn divide_by_zero() -> i32 {
    let quotient: i32;
    // SAFETY: faults, or leaves the quotient in eax and the remainder in edx.
    unsafe {
        asm!("cdq", "idiv {:e}", in(reg) black_box(0), inout("eax") 1 => quotient, out("edx") _)
    };
    quotient
}
