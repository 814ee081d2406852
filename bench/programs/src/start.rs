//! How a freestanding program begins: its arguments, and its end.

use core::ffi::CStr;

/// The words that a program was started with.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    words: &'static [*const core::ffi::c_char],
}

impl Arguments {
    /// Those that the kernel left on the stack.
    ///
    /// # Safety
    /// `stack` is the stack pointer as the program found it.
    pub unsafe fn at(stack: *const usize) -> Arguments {
        // SAFETY: the ABI puts the count there, and so many pointers behind it.
        let words = unsafe { core::slice::from_raw_parts(stack.add(1).cast(), *stack) };
        Arguments { words }
    }

    /// All but the program's own name; what is not UTF-8 is left out.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        self.words.iter().skip(1).filter_map(|word| {
            // SAFETY: the kernel's strings end in a zero, and stay as long as the program.
            unsafe { CStr::from_ptr(*word) }.to_str().ok()
        })
    }
}

/// Makes `fn(Arguments) -> i32` a program, whose result is the exit status.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        #[cfg(panic = "abort")]
        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {begin}",
            "ud2",
            begin = sym begin,
        );

        #[cfg(panic = "abort")]
        extern "C" fn begin(stack: *const usize) -> ! {
            // SAFETY: `_start` passes the stack pointer on as it found it.
            let arguments = unsafe { $crate::start::Arguments::at(stack) };
            $crate::sys::exit_group($run(arguments))
        }

        /// A host only compiles this program.
        #[cfg(not(panic = "abort"))]
        fn main() {
            let _: fn($crate::start::Arguments) -> i32 = $run;
        }
    };
}
